"""Records given as values: a table in memory that is emptied and filled again.

It keeps its shape while the same columns are put, so that translations made
against it stay good.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from qakhunt.backends.engine.loading import known_columns
from qakhunt.backends.engine.sql_types import SQL_TYPES, identifier
from qakhunt.kql.values import Instant, Timespan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_CHUNK = 200


class MemoryTable:
    """One table's records, as the relation ``name`` of a connection."""

    def __init__(self, name: str) -> None:
        self.relation = identifier(name)
        self.types: dict[str, str] = {}

    def fill(self, connection: Any, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Replace the contents by ``rows``."""
        wanted = _types_of(table, rows)
        known = known_columns(table)
        kept = {name: sql_type for name, sql_type in self.types.items() if name in known}
        shape = {**kept, **wanted} or {"no_columns": "BOOLEAN"}
        if shape != self.types:
            self.types = shape
            listing = ", ".join(f"{identifier(n)} {t}" for n, t in shape.items())
            connection.execute(f"CREATE OR REPLACE TABLE {self.relation} ({listing})")
        else:
            connection.execute(f"DELETE FROM {self.relation}")
        for at in range(0, len(rows), _CHUNK):
            self._insert(connection, list(wanted), rows[at : at + _CHUNK])

    def _insert(self, connection: Any, names: list[str], rows: Sequence[Mapping[str, Any]]) -> None:
        if not names:
            return
        holes = ", ".join(f"CAST(? AS {self.types[name]})" for name in names)
        values = ", ".join([f"({holes})"] * len(rows))
        cells = [_cell(row.get(name), self.types[name]) for row in rows for name in names]
        listing = ", ".join(map(identifier, names))
        connection.execute(f"INSERT INTO {self.relation} ({listing}) VALUES {values}", cells)


def _types_of(table: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    known = known_columns(table)
    found: dict[str, str] = {}
    for row in rows:
        for name, value in row.items():
            if name in known:
                found[name] = SQL_TYPES[known[name]]
            elif name not in found or (found[name] == "VARCHAR" and value is not None):
                found[name] = _type_of(value)
    return found


def _type_of(value: Any) -> str:
    for kinds, sql_type in (
        (bool, "BOOLEAN"), (int, "BIGINT"), (float, "DOUBLE"), (Decimal, "DECIMAL(38,17)"),
        (Instant, "TIMESTAMP"), (Timespan, "INTERVAL"), ((list, dict), "JSON"),
    ):  # fmt: skip
        if isinstance(value, kinds):
            return sql_type
    return "VARCHAR"


def _cell(value: Any, sql_type: str) -> Any:
    if value is None:
        return None
    if isinstance(value, Instant):
        return value.to_datetime().replace(tzinfo=None)
    if isinstance(value, Timespan):
        return f"{value.ticks // 10} microseconds"
    if sql_type == "JSON":
        return json.dumps(value)
    return value
