"""The ``timespan`` of a request: ISO 8601 durations and intervals, both ends included."""

from __future__ import annotations

import datetime as dt

from qakhunt.kql.values import TICK, Instant, Window

ALL_TIME = Window(Instant.parse("0001-01-01"), Instant.parse("9999-12-31T23:59:59.9999999Z"))
NO_TIME = Window(Instant(0), Instant(1))
"""A window that no record lies in."""


def parse_timespan(text: str | None, now: Instant) -> Window:
    """``P1D``, ``start/end``, ``start/P1D`` or ``P1D/end``; None is all time. Raises ValueError."""
    if not text:
        return ALL_TIME
    first, slash, second = text.partition("/")
    if not slash:
        return _window(_moved(now, first, -1), now)
    if _is_duration(first):
        end = Instant.parse(second)
        return _window(_moved(end, first, -1), end)
    start = Instant.parse(first)
    if _is_duration(second):
        return _window(start, _moved(start, second, 1))
    return _window(start, Instant.parse(second))


def intersect(one: Window, other: Window) -> Window:
    """What lies in both; ``NO_TIME`` where nothing does."""
    start, end = max(one.start, other.start), min(one.end, other.end)
    return Window(start, end) if start < end else NO_TIME


def since(start: Instant) -> Window:
    """All time from ``start`` on."""
    return Window(start, ALL_TIME.end)


def _window(start: Instant, end: Instant) -> Window:
    return Window(start, min(end, ALL_TIME.last_tick) + TICK) if start <= end else NO_TIME


def _is_duration(text: str) -> bool:
    return text[:1] in ("P", "p")


def _moved(moment: Instant, duration: str, sign: int) -> Instant:
    import isodate

    try:
        length = isodate.parse_duration(duration.upper())
    except isodate.ISO8601Error:
        raise ValueError(f"not an ISO 8601 duration: {duration!r}") from None
    base = moment.to_datetime()
    try:
        return Instant.from_datetime(base + length if sign > 0 else base - length)
    except (OverflowError, ValueError):  # beyond the years 1 to 9999
        return ALL_TIME.end if sign > 0 else ALL_TIME.start


def days_before(now: Instant, days: float) -> Instant:
    """``now`` less a number of days, never before the first instant."""
    ticks = int(dt.timedelta(days=days).total_seconds() * 10_000_000)
    return Instant(max(now.ticks - ticks, 0))
