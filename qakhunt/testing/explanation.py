"""Why a case failed: its events, and how far each came in the query."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from qakhunt.core.errors import QakhuntError
from qakhunt.kql.schema import TIME_COLUMN
from qakhunt.testing.events import EventFinder, plan_events

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qakhunt.answers.table import ResultTable
    from qakhunt.backends.engine.session import Session
    from qakhunt.hunts.render import RenderedQuery
    from qakhunt.testing.case_rows import Rows
    from qakhunt.testing.differences import Difference

_MARKER = "qakhunt_row"
_TABLE_SHIFT = 1_000_000


class Reach(str, Enum):
    """How far an event came."""

    COUNTED = "counted"  # it is part of the row in question
    PASSED = "passed"  # it reached the aggregation, in another row
    FILTERED = "filtered"  # a filter dropped it
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class EventNote:
    """One event of a case and how far it came."""

    reach: Reach
    table: str
    cells: dict[str, Any]


def explain(
    session: Session,
    rendered: RenderedQuery,
    tables: Mapping[str, Rows],
    result: ResultTable,
    differences: Sequence[Difference],
) -> list[EventNote]:
    """Every event of the case, seen from the first difference that has a row."""
    rows = [(table, row) for table, own in sorted(tables.items()) for row in own]
    for number, table in enumerate(sorted(tables)):
        base = number * _TABLE_SHIFT
        marked = [{**row, _MARKER: base + i} for i, row in enumerate(tables[table])]
        session.put(table, marked)
    numbers = [
        number * _TABLE_SHIFT + i
        for number, table in enumerate(sorted(tables))
        for i in range(len(tables[table]))
    ]
    passed, counted = _reached(session, rendered, result, differences)
    notes = []
    for number, (table, row) in zip(numbers, rows, strict=True):
        notes.append(EventNote(_reach(number, passed, counted), table, _shown(row)))
    return notes


def _reach(number: int, passed: set[int] | None, counted: set[int] | None) -> Reach:
    if passed is None:
        return Reach.UNKNOWN
    if counted is not None and number in counted:
        return Reach.COUNTED
    return Reach.PASSED if number in passed else Reach.FILTERED


def _reached(
    session: Session,
    rendered: RenderedQuery,
    result: ResultTable,
    differences: Sequence[Difference],
) -> tuple[set[int] | None, set[int] | None]:
    """Markers that reached the aggregation, and those of the row in question."""

    def ask(text: str) -> ResultTable:
        return session.ask(text, now=rendered.now, window=rendered.window)

    try:
        plan = plan_events(rendered.text, rendered.hunt, result.names)
        prefix = plan.prefix if plan else rendered.text.rstrip().rstrip(";")
        passed = _markers(ask(f"{prefix}\n| project {_MARKER}"))
        record = next((d.found for d in differences if d.found), None)
        if record is None or plan is None or not plan.keys:
            return passed, None
        condition = EventFinder(plan, rendered.product, result, ask).condition(record)
        return passed, _markers(ask(f"{prefix}\n| where {condition}\n| project {_MARKER}"))
    except QakhuntError:
        return None, None  # the query hides the marker; the events are shown without marks


def _markers(table: ResultTable) -> set[int]:
    return {int(row[0]) for row in table.rows if row[0] is not None}


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    time = next((name for name in TIME_COLUMN.values() if name in row), None)
    cells = {time: row[time]} if time else {}
    cells.update({name: cell for name, cell in row.items() if name != _MARKER and name != time})
    return cells
