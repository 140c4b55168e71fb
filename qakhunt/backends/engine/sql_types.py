"""KQL's types in DuckDB: the SQL spellings that need care, and its Python values as cells."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from qakhunt.answers.cells import to_json_value
from qakhunt.kql.values import Instant, Timespan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from qakhunt.answers.table import Column, Row

SQL_TYPES = {
    "bool": "BOOLEAN", "int": "INTEGER", "long": "BIGINT", "real": "DOUBLE",
    "decimal": "DECIMAL(38,17)", "string": "VARCHAR", "datetime": "TIMESTAMP",
    "timespan": "INTERVAL", "guid": "UUID", "dynamic": "JSON",
}  # fmt: skip
"""KQL type -> DuckDB type. Datetimes are naive UTC at microseconds."""

_KQL_TYPES = {
    "BOOLEAN": "bool",
    "TINYINT": "int", "SMALLINT": "int", "INTEGER": "int", "UTINYINT": "int", "USMALLINT": "int",
    "BIGINT": "long", "HUGEINT": "long", "UINTEGER": "long", "UBIGINT": "long", "UHUGEINT": "long",
    "FLOAT": "real", "DOUBLE": "real",
    "VARCHAR": "string", "UUID": "guid", "INTERVAL": "timespan", "JSON": "dynamic",
    "TIME": "timespan", "DATE": "datetime", '"NULL"': "string",
}  # fmt: skip


def kql_type(sql_type: str) -> str:
    """The KQL type of a DuckDB result column."""
    name = sql_type.upper()
    if name.startswith("TIMESTAMP"):
        return "datetime"
    if name.startswith("DECIMAL"):
        return "decimal"
    return _KQL_TYPES.get(name, "dynamic")


def identifier(name: str) -> str:
    """A quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A quoted SQL string."""
    return "'" + text.replace("'", "''") + "'"


def literal_list(texts: Iterable[str]) -> str:
    """A list of quoted SQL strings."""
    return f"[{', '.join(map(literal, texts))}]"


def first_line(problem: Exception) -> str:
    """The first line of an error of DuckDB's, which says what is wrong."""
    return str(problem).strip().splitlines()[0][:300]


def typed(name: str, sql_type: str) -> str:
    """SQL that reads a text or JSON column as ``sql_type``; NULL where it cannot."""
    column = identifier(name)
    if sql_type == "TIMESTAMP":
        return f"TRY_CAST({column} AS TIMESTAMPTZ) AT TIME ZONE 'UTC'"
    if sql_type == "JSON":
        return json_value(column)
    if sql_type == "VARCHAR":
        return column
    return f"TRY_CAST({column} AS {sql_type})"


def json_value(column: str) -> str:
    """A dynamic cell: an object or array that arrived as text becomes a value."""
    text = f"CAST({column} AS VARCHAR)"
    inner = f"(TRY_CAST({column} AS JSON) ->> '$')"
    return (
        f"CASE WHEN {column} IS NULL OR {text} = '' THEN NULL "
        f"WHEN TRY_CAST({column} AS JSON) IS NULL THEN to_json({text}) "
        f"WHEN json_type(TRY_CAST({column} AS JSON)) = 'VARCHAR' "
        f"AND regexp_matches({inner}, '^\\s*[\\[{{]') "
        f"THEN coalesce(TRY_CAST({inner} AS JSON), TRY_CAST({column} AS JSON)) "
        f"ELSE TRY_CAST({column} AS JSON) END"
    )


def decode_rows(columns: Sequence[Column], rows: Sequence[Sequence[Any]]) -> list[Row]:
    """Rows of a result; a null string is the empty string, as in Kusto."""
    readers = [_READERS.get(column.kql_type, _same) for column in columns]
    return [tuple(reader(cell) for reader, cell in zip(readers, row, strict=True)) for row in rows]


def _same(cell: Any) -> Any:
    return cell


def _datetime(cell: Any) -> Instant | None:
    if cell is None:
        return None
    if isinstance(cell, dt.datetime):
        return Instant.from_datetime(cell)
    return Instant.parse(str(cell))


def _timespan(cell: Any) -> Timespan | None:
    if cell is None:
        return None
    if isinstance(cell, dt.time):
        cell = dt.datetime.combine(dt.date.min, cell) - dt.datetime.min
    return Timespan.from_timedelta(cell)


def _decimal(cell: Decimal | None) -> Decimal | None:
    """Without the zeros that DuckDB's scale adds."""
    if cell is None:
        return None
    whole = cell == cell.to_integral_value()
    return cell.quantize(Decimal(1)) if whole else cell.normalize()


def _dynamic(cell: Any) -> Any:
    if isinstance(cell, str):
        return json.loads(cell)
    return _nested(cell)


def _nested(cell: Any) -> Any:
    if isinstance(cell, dict):
        return {str(key): _nested(value) for key, value in cell.items()}
    if isinstance(cell, (list, tuple)):
        return [_nested(value) for value in cell]
    if isinstance(cell, dt.datetime):
        return Instant.from_datetime(cell).isoformat()
    if isinstance(cell, dt.timedelta):
        return str(Timespan.from_timedelta(cell))
    return to_json_value(cell)


_READERS: dict[str, Callable[[Any], Any]] = {
    "string": lambda cell: "" if cell is None else str(cell),
    "guid": lambda cell: None if cell is None else str(cell),
    "datetime": _datetime,
    "timespan": _timespan,
    "decimal": _decimal,
    "dynamic": _dynamic,
}
