"""A case's rows as cells of its tables: typed, filled, with times made absolute."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qakhunt.backends.engine.loading import known_columns
from qakhunt.core.errors import EventsError, nearest
from qakhunt.kql.schema import TIME_COLUMN
from qakhunt.kql.values import TICKS_PER_DAY, TICKS_PER_SECOND, Instant, Timespan
from qakhunt.testing.cases import CaseError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qakhunt.kql.values import Window
    from qakhunt.testing.cases import Case

_TIMES = tuple(TIME_COLUMN.values())
_RESERVED = ("each", "every", "file")
_RELATIVE = re.compile(r"\s*(now|start|end)\s*((?:[+-]\s*[0-9][0-9a-z.:]*\s*)*)")
_STEP = re.compile(r"([+-])\s*([0-9][0-9a-z.:]*)")
_HOUR = TICKS_PER_DAY // 24

Rows = list[dict[str, Any]]


class Clock:
    """What ``now``, ``start`` and ``end`` stand for in a case.

    Rows without a time get one inside the window: its middle, each a second later.
    """

    def __init__(self, now: Instant, window: Window) -> None:
        self.names = {"now": now, "start": window.start, "end": window.end}
        middle = window.start.ticks + (window.end.ticks - window.start.ticks) // 2
        on_the_hour = middle - middle % _HOUR
        self._next = Instant(on_the_hour if on_the_hour > window.start.ticks else middle)

    def moment(self, text: str) -> Instant:
        """``now-1h``, ``start``, ``end-1s`` or an ISO 8601 instant. Raises ValueError."""
        match = _RELATIVE.fullmatch(text)
        if match is None:
            return Instant.parse(text)
        moment = self.names[match[1]]
        for sign, span in _STEP.findall(match[2]):
            length = Timespan.parse(span)
            moment = moment + length if sign == "+" else moment - length
        return moment

    def tick(self) -> Instant:
        """A time for a row that has none."""
        moment = self._next
        self._next = Instant(moment.ticks + TICKS_PER_SECOND)
        return moment


def build_tables(case: Case, product: str, clock: Clock) -> dict[str, Rows]:
    """Rows per table, ready to be put into a session of ``product``.

    Raises CaseError for a column or value that the table cannot hold.
    """
    tables = {}
    for table, entries in case.tables.items():
        rows: Rows = []
        for entry in entries:
            try:
                rows += _entry_rows(case, table, entry, product, clock)
            except (ValueError, TypeError, EventsError) as problem:
                raise CaseError(
                    f"{case.name}: {table}: {problem}", location=case.location
                ) from None
        tables[table] = rows
    return tables


def _entry_rows(
    case: Case, table: str, entry: Mapping[str, Any], product: str, clock: Clock
) -> Rows:
    special = {key: entry[key] for key in _RESERVED if key in entry}
    written = {key: value for key, value in entry.items() if key not in _RESERVED}
    bare = [written]
    if "each" in special:
        bare = [{**written, **one} for one in _each(special["each"])]
    step = Timespan.parse(str(special["every"])) if "every" in special else None
    known = known_columns(table)
    from_file = _file_rows(case, table, special["file"], product) if "file" in special else [{}]
    fill = typed_cells(case.fill.get(table, {}), known, clock)
    rows: Rows = []
    for stored in from_file:
        for cells in bare:
            row = {**fill, **stored, **typed_cells(cells, known, clock)}
            rows.append(_timed(row, product, table, clock, step, len(rows)))
    return rows


def _each(value: Any) -> Rows:
    if (
        not isinstance(value, dict)
        or not value
        or not all(isinstance(v, list) for v in value.values())
    ):
        raise ValueError("'each' maps columns to lists")
    if len({len(entries) for entries in value.values()}) != 1:
        raise ValueError("the lists of 'each' must be of one length")
    if not all(value.values()):
        raise ValueError("the lists of 'each' are empty, so there is no row")
    return [dict(zip(value, cells, strict=True)) for cells in zip(*value.values(), strict=True)]


def _timed(
    row: dict[str, Any], product: str, table: str, clock: Clock, step: Timespan | None, number: int
) -> dict[str, Any]:
    """The row with its time under the product's own name, where the table has one."""
    written = next((row.pop(name) for name in _TIMES if name in row), None)
    for name in _TIMES:
        row.pop(name, None)
    known = known_columns(table)
    if written is None and known and not any(name in known for name in _TIMES):
        return row
    moment = clock.tick() if written is None else written
    if step is not None and written is not None:
        moment = Instant(moment.ticks + number * step.ticks)
    return {TIME_COLUMN[product]: moment, **row}


def typed_cells(cells: Mapping[str, Any], known: Mapping[str, str], clock: Clock) -> dict[str, Any]:
    """Cells by the column's KQL type. Raises ValueError naming the column."""
    row = {}
    for name, value in cells.items():
        if known and name not in known and name not in _TIMES:
            hint = nearest(name, known)
            raise ValueError(f"no column named {name!r}" + (f"; {hint}" if hint else ""))
        kind = "datetime" if name in _TIMES else known.get(name)
        try:
            row[name] = typed_cell(value, kind, clock)
        except (ValueError, TypeError) as problem:
            raise ValueError(f"{name} is a {kind}: {problem}") from None
    return row


def typed_cell(value: Any, kind: str | None, clock: Clock) -> Any:
    """A value of YAML as a cell of that KQL type. Raises ValueError."""
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError(f"{value} is beyond 64 bits")
    if value is None or kind in (None, "dynamic"):
        return value
    if kind == "datetime":
        return clock.moment(str(value))
    if kind == "timespan":
        return Timespan.parse(str(value))
    wanted: Any = _PYTHON_TYPES[kind or "string"]
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    if kind == "real" and is_whole:
        return float(value)
    if not isinstance(value, wanted) or (isinstance(value, bool) and kind != "bool"):
        raise ValueError(
            f"expected {kind}, not {value!r}" + ("; quote it" if kind == "string" else "")
        )
    return value


_PYTHON_TYPES = {
    "string": str, "guid": str, "bool": bool, "int": int, "long": int,
    "real": float, "decimal": (int, float, str),
}  # fmt: skip


def _file_rows(case: Case, table: str, name: Any, product: str) -> Rows:
    """Records of an event file beside the case, read as the embedded engine reads it."""
    from qakhunt.backends.engine.session import Session
    from qakhunt.testing.records import ALL_TIME

    path = case.folder / str(name)
    if not Path(path).is_file():
        raise ValueError(f"no such file: {path}")
    with Session([f"{table}={path}"], product) as session:
        result = session.ask(table, now=case.now, window=ALL_TIME)
    rows = []
    for record in result.records():
        rows.append({name: cell for name, cell in record.items() if cell not in (None, "")})
    return rows
