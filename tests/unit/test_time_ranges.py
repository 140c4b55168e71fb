"""Which time ranges are looked at for a hit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from qakhunt.kql.values import TICKS_PER_SECOND, Instant, Timespan
from qakhunt.triage.time_ranges import time_ranges
from tests.support.triage import T0, at, result_with

if TYPE_CHECKING:
    from qakhunt.answers.hits import Hit

NOW = Instant.parse("2026-11-05T09:00:00Z")
HALF_HOUR = Timespan.parse("30m")


def hit_of(first: Instant, last: Instant, commands: tuple[str, ...] = ("arp -a",)) -> Hit:
    return result_with(None, first=first, last=last, commands=commands).hits[0]


def test_a_burst_is_looked_at_whole() -> None:
    found = time_ranges(hit_of(T0, at(55)), HALF_HOUR, NOW)
    assert [(s.window.start, s.window.end, s.only) for s in found] == [(at(-1800), at(1855), ())]
    assert found[0].near == T0


def test_weeks_are_looked_at_around_the_ends_and_between_for_the_commands_alone() -> None:
    week = 7 * 86_400
    begin, between, end = time_ranges(hit_of(T0, at(week), ("arp -a", "x" * 900)), HALF_HOUR, NOW)
    assert (begin.window.start, begin.window.end, begin.only) == (at(-1800), at(1800), ())
    assert (end.window.start, end.window.end, end.only) == (at(week - 1800), at(week + 1800), ())
    assert (between.window.start, between.window.end) == (at(1800), at(week - 1800))
    assert between.only == ("arp -a",)


def test_what_has_not_happened_yet_is_not_asked_for() -> None:
    (only,) = time_ranges(hit_of(T0, at(55)), HALF_HOUR, at(600))
    assert only.window.end == at(600)


def test_a_hit_without_time_has_no_stretch() -> None:
    assert time_ranges(hit_of(None, None), HALF_HOUR, NOW) == ()  # type: ignore[arg-type]


@given(st.integers(0, 40 * 86_400), st.integers(1, 86_400), st.integers(-86_400, 60 * 86_400))
def test_stretches_hold_the_commands_and_never_overlap(length: int, around: int, now: int) -> None:
    first, last = T0, at(length)
    found = time_ranges(hit_of(first, last), Timespan(around * TICKS_PER_SECOND), at(now))
    windows = [time_range.window for time_range in found]
    assert any(window.contains(first) for window in windows)
    assert any(window.contains(last) for window in windows)
    for one, other in zip(windows, windows[1:], strict=False):
        assert one.end <= other.start
