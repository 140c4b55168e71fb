"""A result table as a Parquet file, written by DuckDB."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qakhunt.answers.plain import to_json_value, to_text
from qakhunt.engine.session import require_engine
from qakhunt.engine.sql_types import SQL_TYPES, identifier, literal
from qakhunt.kql.values import Instant

if TYPE_CHECKING:
    from qakhunt.answers.table import ResultTable

_EPOCH_TICKS = Instant.parse("1970-01-01").ticks
_NANOSECONDS = range(-(2**63) + 1, 2**63)
_AS_TEXT = ("decimal", "timespan", "guid", "dynamic")


def parquet_bytes(table: ResultTable) -> bytes:
    """The file's bytes: datetimes as TIMESTAMP_NS; decimal, timespan and dynamic as text."""
    duckdb = require_engine()
    kinds = [column.kql_type for column in table.columns]
    keys = [f"c{position}" for position in range(len(kinds))]
    with tempfile.TemporaryDirectory(prefix="qakhunt-") as folder, duckdb.connect() as connection:
        rows, target = Path(folder) / "rows.ndjson", Path(folder) / "result.parquet"
        with rows.open("w", encoding="utf-8") as out:
            for row in table.rows:
                cells = map(_value, row, kinds)
                out.write(json.dumps(dict(zip(keys, cells, strict=True))) + "\n")
        connection.execute("SET TimeZone='UTC'")
        listing = ", ".join(
            f"{k}: {literal(_raw_type(t))}" for k, t in zip(keys, kinds, strict=True)
        )
        chosen = ", ".join(
            f"{_typed(key, column.kql_type)} AS {identifier(column.name)}"
            for key, column in zip(keys, table.columns, strict=True)
        )
        connection.execute(
            f"COPY (SELECT {chosen} FROM read_json({literal(str(rows))}, columns={{{listing}}}, "
            f"format='newline_delimited', maximum_object_size=67108864)) "
            f"TO {literal(str(target))} (FORMAT parquet)"
        )
        return target.read_bytes()


def _raw_type(kind: str) -> str:
    if kind == "datetime":
        return "BIGINT"
    return "VARCHAR" if kind in _AS_TEXT else SQL_TYPES[kind]


def _typed(key: str, kind: str) -> str:
    return f"make_timestamp_ns({key})" if kind == "datetime" else key


def _value(cell: Any, kind: str) -> Any:
    if cell is None:
        return None
    if kind == "datetime":
        nanoseconds = (cell.ticks - _EPOCH_TICKS) * 100
        return nanoseconds if nanoseconds in _NANOSECONDS else None
    return to_text(cell) if kind in _AS_TEXT else to_json_value(cell)
