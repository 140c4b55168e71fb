"""DuckDB's Python values as cells of a result table."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from qakhunt.answers.cells import to_json_value
from qakhunt.kql.values import Instant, Timespan

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from qakhunt.answers.table import Column, Row


def decode_rows(columns: Sequence[Column], rows: Sequence[Sequence[Any]]) -> list[Row]:
    """Rows of a result; a null string is the empty string, as in Kusto."""
    readers = [_READERS.get(column.kql_type, _same) for column in columns]
    return [tuple(reader(cell) for reader, cell in zip(readers, row, strict=True)) for row in rows]


def _same(cell: Any) -> Any:
    return cell


def _string(cell: Any) -> str:
    return "" if cell is None else str(cell)


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
    "string": _string,
    "guid": lambda cell: None if cell is None else str(cell),
    "datetime": _datetime,
    "timespan": _timespan,
    "decimal": _decimal,
    "dynamic": _dynamic,
}
