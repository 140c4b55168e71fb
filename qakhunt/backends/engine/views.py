"""The SQL of one table as a product shows it.

Every column of the product's schema is there (absent strings are ``''``, other
absent columns null); the other product's own columns are not; unknown ones are kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qakhunt.backends.engine.sql_types import SQL_TYPES, identifier, json_value, kql_type, literal
from qakhunt.kql.schema import PRODUCTS, TIME_COLUMN, Columns, columns, without_case_twins
from qakhunt.kql.values import Instant

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from qakhunt.kql.values import Window

_LAST_MICROSECOND = Instant.parse("9999-12-31T23:59:59.999999Z")
_TIMES = tuple(TIME_COLUMN.values())
_WORKSPACE = "TenantId"


@dataclass(frozen=True)
class Source:
    """What a table's records are read from: SQL after FROM and column types in DuckDB."""

    relation: str
    types: Mapping[str, str]
    path: Path | None = None


@dataclass(frozen=True)
class TableView:
    """SQL of a SELECT and the KQL types of its columns."""

    sql: str
    columns: Columns


def table_view(
    table: str,
    product: str,
    sources: Sequence[Source],
    window: Window,
    workspace: str | None = None,
    shape: Columns | None = None,
) -> TableView:
    """The table over its relations (SQL after FROM, column types), cut to the window.

    With ``workspace`` every record's ``TenantId`` is that. ``shape`` are the exact
    columns, instead of those of the product's schema.
    """
    time_column = TIME_COLUMN[product]
    shown = shape or _shown(table, product, sources, time_column)
    fixed = {_WORKSPACE: literal(workspace)} if workspace and _WORKSPACE in shown else {}
    selects = [_select(source, shown, window, time_column, fixed) for source in sources]
    return TableView(" UNION ALL ".join(selects), shown)


def _shown(table: str, product: str, sources: Sequence[Source], time_column: str) -> Columns:
    own = without_case_twins(columns(product, table))
    foreign = {name for one in PRODUCTS for name in columns(one, table)} - set(own)
    timed = any(name in own or any(name in source.types for source in sources) for name in _TIMES)
    shown: Columns = {time_column: "datetime", **own} if timed else dict(own)
    taken = {name.casefold() for name in shown}
    for source in sources:
        for name, sql_type in source.types.items():
            if name.casefold() not in taken and name not in foreign and name not in _TIMES:
                taken.add(name.casefold())
                shown[name] = kql_type(sql_type)
    return shown


def _select(
    source: Source,
    shown: Columns,
    window: Window,
    time_column: str,
    fixed: Mapping[str, str],
) -> str:
    cells = []
    for name, kind in shown.items():
        cell = fixed.get(name) or _cell(name, kind, source.types)
        cells.append(f"{cell} AS {identifier(name)}")
    sql = f"SELECT {', '.join(cells)} FROM {source.relation}"
    column = _moment(time_column, source.types)
    if column:
        start, end = _bound(window.start), _bound(window.end)
        sql += f" WHERE {column} >= TIMESTAMP {start} AND {column} < TIMESTAMP {end}"
    return sql


def _bound(bound: Instant) -> str:
    """A bound at microseconds, rounded up: records are floored, so none changes side."""
    ceiling = min(-(-bound.ticks // 10) * 10, _LAST_MICROSECOND.ticks)
    return literal(Instant(ceiling).isoformat()[:26])


def _moment(name: str, types: Mapping[str, str]) -> str | None:
    """SQL of a record's time: the product's column, else the other product's."""
    present = [time for time in (name, *_TIMES) if time in types]
    cells = [_time_sql(time, types[time]) for time in dict.fromkeys(present)]
    return f"coalesce({', '.join(cells)})" if len(cells) > 1 else next(iter(cells), None)


def _time_sql(name: str, sql_type: str) -> str:
    column = identifier(name)
    if sql_type == "TIMESTAMP":
        return column
    if sql_type == "TIMESTAMP WITH TIME ZONE":
        return f"({column} AT TIME ZONE 'UTC')"
    if sql_type == "VARCHAR":
        return f"(TRY_CAST({column} AS TIMESTAMPTZ) AT TIME ZONE 'UTC')"
    if sql_type == "TIMESTAMP_NS":
        return f"make_timestamp(epoch_ns({column}) // 1000)"  # a cast would round up
    return f"CAST({column} AS TIMESTAMP)"


def _cell(name: str, kind: str, types: Mapping[str, str]) -> str:
    column = name if name in types else None
    if name in _TIMES:
        moment = _moment(name, types)
        if moment:
            return moment
    if column is None:
        column = next((other for other in types if other.casefold() == name.casefold()), None)
    if column is None:
        return "''" if kind == "string" else f"CAST(NULL AS {SQL_TYPES[kind]})"
    have, sql = types[column], identifier(column)
    if kind == "string":
        return f"coalesce(CAST({sql} AS VARCHAR), '')"
    if kind == "datetime":
        return _time_sql(column, have)
    if kind == "dynamic":
        return json_value(sql) if have in ("VARCHAR", "JSON") else f"to_json({sql})"
    return sql if have == SQL_TYPES[kind] else f"TRY_CAST({sql} AS {SQL_TYPES[kind]})"
