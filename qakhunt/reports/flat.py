"""All hits as one flat table, for formats that have rows and columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qakhunt.answers.table import Column, ResultTable, unique_names

if TYPE_CHECKING:
    from qakhunt.answers.run_result import RunResult

LEADING = ("hunt", "profile", "tenant", "workspace")


def flat_table(result: RunResult) -> ResultTable:
    """``hunt profile tenant workspace``, then every result column of every hunt.

    A column of several hunts stands once where its type is the same; a hunt that
    lacks it has null there. Without hits the columns are still there.
    """
    positions: dict[tuple[str, str, int], int] = {}
    own: list[Column] = []
    for columns in [*result.columns.values(), *(hit.columns for hit in result.hits)]:
        for key in _keys(columns):
            if key not in positions:
                positions[key] = len(own)
                own.append(Column(key[0], key[1]))
    names = unique_names([*LEADING, *(column.name for column in own)])
    lead = [Column(name, "string") for name in LEADING]
    shown = [
        Column(name, column.kql_type) for name, column in zip(names, [*lead, *own], strict=True)
    ]
    rows = []
    for hit in result.hits:
        cells: list[object] = [None] * len(own)
        for key, cell in zip(_keys(hit.columns), hit.cells, strict=True):
            cells[positions[key]] = cell
        rows.append((hit.hunt, hit.profile, hit.tenant, hit.workspace, *cells))
    return ResultTable(tuple(shown), rows)


def _keys(columns: tuple[Column, ...]) -> list[tuple[str, str, int]]:
    """Name, type and how many columns of that name came before, per column."""
    seen: dict[str, int] = {}
    keys = []
    for column in columns:
        count = seen.get(column.name, 0)
        seen[column.name] = count + 1
        keys.append((column.name, column.kql_type, count))
    return keys
