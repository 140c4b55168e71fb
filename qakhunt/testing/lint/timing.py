"""Rules about time: QH302 and QH303. That there is a window at all is found on rendering."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qakhunt.core.errors import QakhuntError
from qakhunt.hunts.parameters import parameters_of
from qakhunt.hunts.window import published
from qakhunt.kql.schema import TIME_COLUMN
from qakhunt.kql.syntax import Call, Comparison, Literal, Name, Named, Pipeline, find
from qakhunt.kql.values import TICKS_PER_DAY, Instant, Timespan, Window

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from qakhunt.kql.syntax import Node, Operator
    from qakhunt.testing.lint.model import Finding, Subject

_DAYS = 62
_CALENDAR = ("startof", "endof")


def check(subject: Subject) -> Iterator[Finding]:
    """All findings about time."""
    yield from _day_dependent(subject)
    for pipeline in find(subject.script, Pipeline):
        for number, operator in enumerate(pipeline.operators):
            yield from _tumbling(subject, operator, pipeline.operators[number + 1 :])


def _day_dependent(subject: Subject) -> Iterator[Finding]:
    calls = find(subject.script, Call)
    calendar = next((call for call in calls if call.name.startswith(_CALENDAR)), None)
    if calendar is None:
        return
    windows = _windows(subject)
    if not windows:
        return
    unfinished = [now for now, window in windows if window.end > now]
    lengths = [(window.end.ticks - window.start.ticks) for _, window in windows]
    if unfinished and len(unfinished) < len(windows):
        first = min(now.to_datetime().day for now in unfinished)
        last = max(now.to_datetime().day for now, w in windows if w.end <= now)
        message = (
            f"up to day {last} of a month the window is the month before, from day {first} "
            "on it is one that is not over yet: days are seen by no run, or by two"
        )
    elif min(lengths) * 2 < max(lengths):
        days = [length // TICKS_PER_DAY for length in (min(lengths), max(lengths))]
        message = f"the window is between {days[0]} and {days[1]} days long, by the day of the run"
    else:
        return
    start, end = _window_span(subject, calendar)
    yield subject.at(
        "QH302", start, end, message,
        "name the bounds under 'qakhunt: window:' and run with --window previous-month",
    )  # fmt: skip


def _windows(subject: Subject) -> list[tuple[Instant, Window]]:
    """The hunt's own window on each day of two months, at noon."""
    values = {name: p.default for name, p in parameters_of(subject.hunt).items()}
    found = []
    noon = subject.now.ticks - subject.now.ticks % TICKS_PER_DAY + TICKS_PER_DAY // 2
    for day in range(_DAYS):
        now = Instant(noon + day * TICKS_PER_DAY)
        try:
            found.append((now, published(subject.hunt, now, values)[0]))
        except QakhuntError:
            return []
    return found


def _window_span(subject: Subject, calendar: Call) -> tuple[int, int]:
    notes = subject.hunt.notes.window
    for let in subject.script.leading_lets if notes is not None else ():
        if notes is not None and let.name == notes.start:
            return let.value.start, let.value.end
    return calendar.start, calendar.start + len(calendar.name)


def _tumbling(subject: Subject, operator: Operator, later: Sequence[Operator]) -> Iterator[Finding]:
    if operator.name != "summarize" or not any(_is_threshold(one) for one in later):
        return
    for item in operator.clause("by") or ():
        call = item.value if isinstance(item, Named) else item
        if not isinstance(call, Call) or call.name != "bin" or len(call.arguments) != 2:
            continue
        column, width = call.arguments
        if not isinstance(column, Name) or column.name not in TIME_COLUMN.values():
            continue
        size = _size(subject, width)
        if size is None or not 0 < size.ticks < TICKS_PER_DAY:
            continue
        lost = min(100, round(100 * 60 / size.seconds))
        yield subject.at(
            "QH303", item.start, item.end,
            f"bins of {subject.hunt.query[width.start : width.end]} stand edge to edge: of "
            f"bursts that last a minute {lost}% are cut in two, and neither half may pass",
            "let bins overlap by half (two bins per event), or look back from each event",
        )  # fmt: skip


def _is_threshold(operator: Operator) -> bool:
    comparisons = find(operator, Comparison)
    return operator.name == "where" and any(one.operator in (">", ">=") for one in comparisons)


def _size(subject: Subject, width: Node) -> Timespan | None:
    if isinstance(width, Name):
        lets = {let.name: let.value for let in subject.script.leading_lets}
        width = lets.get(width.name, width)
    value = width.value if isinstance(width, Literal) else None
    return value if isinstance(value, Timespan) else None
