"""Time values: exact to 100 ns, in order, and back from their own text."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qakhunt.kql.values import Instant, Timespan, Window

ticks = st.integers(0, Instant.parse("9999-12-31T23:59:59.9999999Z").ticks)


@given(ticks)
def test_an_instant_comes_back_from_its_text(value: int) -> None:
    instant = Instant(value)
    assert Instant.parse(instant.isoformat()) == instant
    assert Instant.parse(instant.short()) == instant


@given(ticks, ticks)
def test_text_sorts_as_time_does(one: int, other: int) -> None:
    assert (one < other) == (Instant(one).isoformat() < Instant(other).isoformat())


@given(st.datetimes(timezones=st.just(dt.timezone.utc)))
def test_python_datetimes_come_back(moment: dt.datetime) -> None:
    assert Instant.from_datetime(moment).to_datetime() == moment


@given(st.integers(-(10**18), 10**18))
def test_a_timespan_comes_back_from_its_text(value: int) -> None:
    assert Timespan.parse(str(Timespan(value))) == Timespan(value)


def test_seven_digits_and_offsets_are_kept() -> None:
    instant = Instant.parse("2026-10-01T02:00:00.1234567+02:00")
    assert instant.isoformat() == "2026-10-01T00:00:00.1234567Z"


@pytest.mark.parametrize(
    "text", ["", "2026", "2026-13-01", "2026-10-01T25:00:00", "yesterday", "2026-10-01T10"]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="."):
        Instant.parse(text)


@pytest.mark.parametrize("text", ["", "5x", "1:2:3:4", "--1d", "d"])
def test_what_is_no_timespan_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a timespan"):
        Timespan.parse(text)


def test_a_window_is_half_open() -> None:
    window = Window(Instant.parse("2026-10-01"), Instant.parse("2026-11-01"))
    assert window.contains(window.start)
    assert not window.contains(window.end)
    assert window.contains(window.last_tick)
    assert window.last_tick.isoformat() == "2026-10-31T23:59:59.9999999Z"


def test_a_window_that_ends_before_it_starts_is_refused() -> None:
    with pytest.raises(ValueError, match="before it starts"):
        Window(Instant.parse("2026-11-01"), Instant.parse("2026-10-01"))
