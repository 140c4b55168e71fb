"""Rules about time: QH302 and QH303. That there is a window at all is found on rendering."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qakhunt.errors import QakhuntError
from qakhunt.hunts.parameters import leading_lets, parameters_of
from qakhunt.hunts.time_filters import TIME_COLUMNS
from qakhunt.hunts.window import published
from qakhunt.kql.literal import decode
from qakhunt.kql.pipeline import by_split, items
from qakhunt.kql.tokens import Kind, Token
from qakhunt.kql.values import TICKS_PER_DAY, Instant, Timespan, Window

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from qakhunt.kql.pipeline import Stage
    from qakhunt.proving.lint.model import Finding, Subject

_DAYS = 62
_CALENDAR = ("startof", "endof")


def check(subject: Subject) -> Iterator[Finding]:
    """All findings about time."""
    yield from _day_dependent(subject)
    for statement in subject.statements:
        for number, stage in enumerate(statement.stages):
            yield from _tumbling(subject, stage, statement.stages[number + 1 :])


def _day_dependent(subject: Subject) -> Iterator[Finding]:
    calendar = next((t for t in subject.tokens if t.text.startswith(_CALENDAR)), None)
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


def _window_span(subject: Subject, calendar: Token) -> tuple[int, int]:
    notes = subject.hunt.notes.window
    if notes is not None:
        for let in leading_lets(subject.tokens):
            if let.name == notes.start:
                return let.value_start, let.value_end
    return calendar.start, calendar.end


def _tumbling(subject: Subject, stage: Stage, later: Sequence[Stage]) -> Iterator[Finding]:
    if stage.operator != "summarize" or not any(_is_threshold(one) for one in later):
        return
    for item in items(by_split(stage.tokens)[1]):
        tokens = item.tokens
        is_bin = len(tokens) > 4 and tokens[0].text == "bin" and tokens[1].text == "("
        if not is_bin or tokens[2].text not in TIME_COLUMNS:
            continue
        size = _size(subject, tokens[4])
        if size is None or not 0 < size.ticks < TICKS_PER_DAY:
            continue
        lost = min(100, round(100 * 60 / size.seconds))
        yield subject.at(
            "QH303", item.start, item.end,
            f"bins of {subject.hunt.query[tokens[4].start : tokens[4].end]} stand edge to edge: of "
            f"bursts that last a minute {lost}% are cut in two, and neither half may pass",
            "let bins overlap by half (two bins per event), or look back from each event",
        )  # fmt: skip


def _is_threshold(stage: Stage) -> bool:
    return stage.operator == "where" and any(t.text in (">", ">=") for t in stage.tokens)


def _size(subject: Subject, token: Token) -> Timespan | None:
    if token.kind is Kind.IDENTIFIER:
        lets = {let.name: let.tokens for let in leading_lets(subject.tokens)}
        value = lets.get(token.text, ())
        if len(value) != 1:
            return None
        token = value[0]
    try:
        kind, value = decode(token.text)
    except ValueError:
        return None
    return value if kind == "timespan" else None
