"""The order that a query gives its rows, and rows put into it again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qakhunt.answers.table import ResultTable
from qakhunt.kql.pipeline import by_split, query_statement, split, statements
from qakhunt.kql.tokens import Kind, Token

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from qakhunt.answers.table import Row

# What may follow a sort without moving a row or changing a value.
_KEEPS_ORDER = frozenset(
    ["where", "filter", "render", "project-reorder", "project-away", "project-keep"]
)


@dataclass(frozen=True)
class SortKey:
    """One column of a ``sort by``."""

    column: str
    descending: bool
    nulls_first: bool


def final_order(text: str) -> tuple[SortKey, ...]:
    """How the query's result is sorted; empty where it is not, or not by plain columns."""
    query = query_statement(statements(text))
    for stage in reversed(query.stages[1:] if query else ()):
        if stage.operator in ("sort", "order"):
            return _keys(by_split(stage.tokens)[1])
        if stage.operator not in _KEEPS_ORDER:
            break
    return ()


def _keys(tokens: Sequence[Token]) -> tuple[SortKey, ...]:
    keys = []
    for item in split(tokens, ","):
        words = [token.text for token in item]
        if not item or item[0].kind is not Kind.IDENTIFIER:
            return ()
        rest = words[1:]
        descending = "asc" not in rest
        if set(rest) - {"asc", "desc", "nulls", "first", "last"}:
            return ()
        nulls_first = "first" in rest if "nulls" in rest else not descending
        keys.append(SortKey(words[0], descending, nulls_first))
    return tuple(keys)


def in_order(table: ResultTable, order: Sequence[SortKey]) -> ResultTable:
    """The same rows, sorted; ties, and rows that nothing sorts, by all of their cells."""
    readers = [_READERS.get(column.kql_type, _same) for column in table.columns]

    def whole(row: Row) -> tuple[tuple[bool, Any], ...]:
        return tuple(
            (cell is None, "" if cell is None else read(cell))
            for read, cell in zip(readers, row, strict=True)
        )

    rows = sorted(table.rows, key=whole)
    positions = [(key, table.index(key.column)) for key in order]
    known = [(key, at) for key, at in positions if at is not None]
    for key, at in reversed(known if len(known) == len(positions) else []):
        rows = _by_column(rows, at, readers[at], key)
    return ResultTable(table.columns, rows)


def _by_column(rows: list[Row], at: int, read: Callable[[Any], Any], key: SortKey) -> list[Row]:
    nulls = [row for row in rows if row[at] is None]
    present = [row for row in rows if row[at] is not None]
    present.sort(key=lambda row: read(row[at]), reverse=key.descending)
    return nulls + present if key.nulls_first else present + nulls


def _same(cell: Any) -> Any:
    return cell


def _number(cell: Any) -> Any:
    """NaN, which is neither more nor less than anything, goes last."""
    return (cell != cell, 0.0 if cell != cell else cell)


def _json(cell: Any) -> str:
    return json.dumps(cell, ensure_ascii=False, separators=(",", ":"))


_READERS: dict[str, Callable[[Any], Any]] = {"dynamic": _json, "real": _number}
