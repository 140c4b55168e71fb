"""The hits as an Arrow table and as data frames; their libraries are extras."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from qakhunt.answers.cells import to_text
from qakhunt.core.errors import UsageError
from qakhunt.kql.values import Instant
from qakhunt.reports.formats import flat_table

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

    from qakhunt.answers.run_result import RunResult

_EPOCH = Instant.parse("1970-01-01").ticks
_NANOSECONDS = range(-(2**63) + 1, 2**63)
_TYPES = {"bool": "bool_", "int": "int32", "long": "int64", "real": "float64"}


def arrow_table(result: RunResult) -> pyarrow.Table:
    """The flat table of the hits, typed; a name that occurs twice has a number behind it."""
    arrow = _library("pyarrow", "arrow")
    table = flat_table(result)
    columns = [
        _column(arrow, column.kql_type, [row[at] for row in table.rows])
        for at, column in enumerate(table.columns)
    ]
    return arrow.table(columns, names=table.names)


def _column(arrow: Any, kind: str, cells: list[Any]) -> Any:
    if kind == "datetime":
        ticks = [None if cell is None else cell.ticks - _EPOCH for cell in cells]
        fine = all(tick is None or tick * 100 in _NANOSECONDS for tick in ticks)
        values = [tick and (tick * 100 if fine else tick // 10) for tick in ticks]
        return arrow.array(values, arrow.timestamp("ns" if fine else "us", "UTC"))
    if kind in _TYPES:
        return arrow.array(cells, getattr(arrow, _TYPES[kind])())
    # A lone surrogate of a hostile name is no UTF-8.
    texts = [None if cell is None else _encodable(to_text(cell)) for cell in cells]
    return arrow.array(texts, arrow.string())


def _encodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def pandas_frame(result: RunResult) -> pandas.DataFrame:
    """The Arrow table in pandas' own types."""
    _library("pandas", "pandas")
    return arrow_table(result).to_pandas()  # Arrow imports pandas itself


def polars_frame(result: RunResult) -> polars.DataFrame:
    """The Arrow table in Polars' own types."""
    library = _library("polars", "polars")
    frame: polars.DataFrame = library.from_arrow(arrow_table(result))
    return frame


def _library(name: str, extra: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        raise UsageError(
            f"{name} is not installed", hint=f"pip install 'qakhunt[{extra}]'"
        ) from None
