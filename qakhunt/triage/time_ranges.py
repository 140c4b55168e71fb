"""Which time ranges to look at for a hit, as parameters of the context hunts.

A burst is looked at whole, with something before and after. A hit that spans days is
looked at around its first and its last command, and between them for its own commands
only, so that an inventory of three weeks does not fetch three weeks of a device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qakhunt.kql.values import TICK, TICKS_PER_SECOND, Instant, Timespan, Window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qakhunt.answers.hits import Hit

_LAST = Instant.parse("9999-12-31T23:59:59.9999999Z")
# A hit no longer than this is looked at whole.
WHOLE = Timespan(6 * 3600 * TICKS_PER_SECOND)
_LONGEST_COMMAND = 500
_MOST_COMMANDS = 40


@dataclass(frozen=True)
class TimeRange:
    """One time range of one hit; ``only`` are the command lines to keep, none for all."""

    window: Window
    near: Instant
    only: tuple[str, ...] = ()


def time_ranges(hit: Hit, around: Timespan, now: Instant) -> tuple[TimeRange, ...]:
    """The time ranges to look at; none where the hit has no time before ``now``."""
    first = hit.first_seen
    if first is None:
        return ()
    last = max(hit.last_seen or first, first)
    if last.since(first) <= WHOLE:
        return _known(_time_range(first, last, around, first, now))
    begin, end = (
        _time_range(first, first, around, first, now),
        _time_range(last, last, around, last, now),
    )
    between = None
    if begin and end and begin.window.end < end.window.start:
        commands = [c.line for c in hit.commands if 0 < len(c.line) <= _LONGEST_COMMAND]
        if commands:
            window = Window(begin.window.end, end.window.start)
            between = TimeRange(window, first, tuple(commands[:_MOST_COMMANDS]))
    elif begin and end:
        return _known(_time_range(first, last, around, first, now))
    return _known(begin, between, end)


def parameter(number: int, device: str, time_range: TimeRange) -> dict[str, Any]:
    """The time range as an entry of the context hunts' parameter ``Around``."""
    return {
        "Hit": number,
        "Device": device,
        "From": time_range.window.start.isoformat(),
        "To": time_range.window.end.isoformat(),
        "At": time_range.near.isoformat(),
        "Only": list(time_range.only),
    }


def hull(windows: Sequence[Window]) -> Window:
    """The shortest window that holds all of them."""
    return Window(min(w.start for w in windows), max(w.end for w in windows))


def earlier(moment: Instant, by: Timespan) -> Instant:
    """``moment - by``, no earlier than time itself."""
    return Instant(max(0, moment.ticks - by.ticks))


def later(moment: Instant, by: Timespan) -> Instant:
    """``moment + by``, no later than time itself."""
    return Instant(min(_LAST.ticks, moment.ticks + by.ticks))


def _time_range(
    first: Instant, last: Instant, around: Timespan, near: Instant, now: Instant
) -> TimeRange | None:
    start = earlier(first, around)
    # What was seen lies inside even where it lies, by its clock, after now.
    end = max(min(later(last, around), now), later(last, TICK))
    return TimeRange(Window(start, end), near) if start < end else None


def _known(*found: TimeRange | None) -> tuple[TimeRange, ...]:
    return tuple(time_range for time_range in found if time_range)
