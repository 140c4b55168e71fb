"""Nothing goes unlooked: windows, watermark and backlog over arbitrary failures."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from qakhunt.kql.schema import PRODUCTS, Product
from qakhunt.kql.values import Instant, Timespan, Window
from qakhunt.schedule.coverage import (
    MAX_BACKLOG,
    Coverage,
    CoverageKey,
    Due,
    Outcome,
    due,
    settle,
    subtract,
    union,
    within,
)

KEY = CoverageKey("hash", "log-analytics", "customer", "workspace")
START = Instant.parse("2026-11-01")
HOUR = Timespan.parse("1h")
DAY = Timespan.parse("1d")
LOG_ANALYTICS, DEFENDER = PRODUCTS["log-analytics"], PRODUCTS["defender"]


def days(number: float) -> Timespan:
    return Timespan(int(number * DAY.ticks))


def run_once(
    coverage: Coverage, now: Instant, ok: bool, lookback: Timespan, rule: Product
) -> tuple[Due, Coverage]:
    asked = due(coverage, now=now, lookback=lookback, rule=rule)
    outcomes = [Outcome(window, ok, "" if ok else "503") for window in (asked.own, *asked.backfill)]
    return asked, settle(asked, outcomes, now=now, lookback=lookback, rule=rule)


def test_first_run_asks_the_lookback() -> None:
    asked, after = run_once(Coverage(KEY), START, True, days(30), LOG_ANALYTICS)
    assert asked.own == Window(START - days(30), START)
    assert asked.backfill == ()
    assert after.watermark == START
    assert after.backlog == ()


def test_a_failed_window_is_asked_again_by_the_next_run() -> None:
    _, first = run_once(Coverage(KEY), START, True, days(1), LOG_ANALYTICS)
    failed, second = run_once(first, START + days(1), False, days(1), LOG_ANALYTICS)
    assert [entry.window for entry in second.backlog] == [failed.own]
    assert second.backlog[0].reason == "503"
    assert second.watermark == START
    again, third = run_once(second, START + days(2), True, days(1), LOG_ANALYTICS)
    assert any(within(failed.own, window) for window in (again.own, *again.backfill))
    assert third.backlog == ()
    assert third.watermark == START + days(2)


def test_records_up_to_48_hours_late_are_looked_at_again_in_log_analytics() -> None:
    coverage, now = Coverage(KEY), START
    for _ in range(100):
        asked, coverage = run_once(coverage, now, True, HOUR, LOG_ANALYTICS)
        now = now + HOUR
    assert asked.own.start <= asked.own.end - HOUR - days(2)


def test_defender_is_read_whole_once_a_day() -> None:
    _, coverage = run_once(Coverage(KEY), START, True, HOUR, DEFENDER)
    lengths = []
    for hour in range(1, 49):
        asked, coverage = run_once(
            coverage, START + Timespan(hour * HOUR.ticks), True, HOUR, DEFENDER
        )
        lengths.append(asked.own.end.since(asked.own.start).ticks)
    whole = [length for length in lengths if length == days(30).ticks]
    assert len(whole) == 2
    assert max(length for length in lengths if length != days(30).ticks) <= days(0.2).ticks


def test_a_whole_read_that_failed_is_tried_by_the_next_run() -> None:
    _, coverage = run_once(Coverage(KEY), START, True, HOUR, DEFENDER)
    _, coverage = run_once(coverage, START + days(1), False, HOUR, DEFENDER)
    asked, _ = run_once(coverage, START + days(1) + HOUR, True, HOUR, DEFENDER)
    assert asked.own == Window(START + days(1) + HOUR - days(30), START + days(1) + HOUR)


def test_a_long_outage_is_made_up_oldest_first_within_the_bound() -> None:
    _, coverage = run_once(Coverage(KEY), START, True, HOUR, LOG_ANALYTICS)
    now = START + days(40)
    asked = due(coverage, now=now, lookback=HOUR, rule=LOG_ANALYTICS, most=3)
    assert len(asked.backfill) == 3
    assert list(asked.backfill) == sorted(asked.backfill, key=lambda w: w.start)
    assert asked.backfill[0].start <= START
    assert len(asked.coverage.backlog) > 3
    looked = {asked.own, *asked.backfill}
    for step in range(1, 12):
        outcomes = [Outcome(window, True) for window in (asked.own, *asked.backfill)]
        coverage = settle(asked, outcomes, now=now, lookback=HOUR, rule=LOG_ANALYTICS)
        now = START + days(40 + step)
        asked = due(coverage, now=now, lookback=HOUR, rule=LOG_ANALYTICS, most=3)
        looked |= {asked.own, *asked.backfill}
    assert asked.backfill == ()
    assert subtract([Window(START, now)], looked) == ()


def test_what_aged_out_while_no_job_ran_is_lost() -> None:
    _, coverage = run_once(Coverage(KEY), START, True, days(30), DEFENDER)
    asked, coverage = run_once(coverage, START + days(35), True, days(30), DEFENDER)
    assert asked.own.start == START + days(5)
    assert asked.lost == (Window(START, START + days(5)),)
    assert [lost.window for lost in coverage.lost] == list(asked.lost)
    asked, _ = run_once(coverage, START + days(36), True, days(30), DEFENDER)
    assert asked.lost == ()


def test_a_failed_window_that_aged_out_is_lost_only_where_nobody_looked() -> None:
    _, coverage = run_once(Coverage(KEY), START, False, days(30), DEFENDER)
    asked, coverage = run_once(coverage, START + days(2), True, days(30), DEFENDER)
    assert asked.lost == (Window(START - days(30), START - days(28)),)
    assert coverage.backlog == ()
    asked, coverage = run_once(coverage, START + days(3), True, days(30), DEFENDER)
    assert asked.lost == ()
    assert len(coverage.lost) == 1


def test_a_watermark_in_the_future_is_not_believed() -> None:
    _, coverage = run_once(Coverage(KEY), START + days(9), True, days(1), LOG_ANALYTICS)
    asked = due(coverage, now=START, lookback=days(1), rule=LOG_ANALYTICS)
    assert asked.own.end == START
    assert asked.own.start <= START - days(1)
    assert "after now" in asked.warnings[0]
    small = due(
        coverage, now=START + days(9) - Timespan.parse("2m"), lookback=days(1), rule=LOG_ANALYTICS
    )
    assert small.warnings == ()


RUNS = st.lists(st.tuples(st.integers(1, 24 * 20), st.booleans()), min_size=1, max_size=30)


@settings(max_examples=150, deadline=None)
@given(
    RUNS,
    st.sampled_from([1, 6, 24, 24 * 7, 24 * 30]),
    st.sampled_from(["log-analytics", "defender"]),
)
def test_every_instant_is_looked_at_or_reported_lost(
    runs: list[tuple[int, bool]], lookback_hours: int, product: str
) -> None:
    lookback, rule = Timespan(lookback_hours * HOUR.ticks), PRODUCTS[product]
    coverage, now = Coverage(KEY), START
    looked: list[Window] = []
    lost: list[Window] = []
    first: Instant | None = None
    for hours, ok in [*runs, *[(1, True)] * 20]:
        now = now + Timespan(hours * HOUR.ticks)
        asked, coverage = run_once(coverage, now, ok, lookback, rule)
        assert len(coverage.backlog) <= MAX_BACKLOG + 1
        first = first or asked.own.start
        lost += asked.lost
        if ok:
            looked += [asked.own, *asked.backfill]
    assert first is not None
    assert coverage.backlog == ()
    assert subtract([Window(first, now)], [*looked, *lost]) == ()
    assert coverage.watermark == now
    for window in lost:
        assert window.end <= now - rule.retention
        assert subtract([window], looked) == (window,)


@settings(max_examples=100, deadline=None)
@given(RUNS, st.sampled_from([1, 24, 24 * 7]), st.floats(0, 1), st.data())
def test_every_stretch_of_the_lookback_is_seen_whole(
    runs: list[tuple[int, bool]], lookback_hours: int, share: float, data: st.DataObject
) -> None:
    """A burst that fits in the lookback never falls between two windows."""
    lookback = Timespan(lookback_hours * HOUR.ticks)
    rule = replace(LOG_ANALYTICS, retention=Timespan.parse("3650d"))
    coverage, now, looked, first = Coverage(KEY), START, [], None
    for hours, ok in [*runs, *[(1, True)] * 40]:
        now = now + Timespan(hours * HOUR.ticks)
        asked, coverage = run_once(coverage, now, ok, lookback, rule)
        first = first or asked.own.start
        if ok:
            looked += [asked.own, *asked.backfill]
    assert first is not None
    total = now.since(first).ticks - lookback.ticks
    start = first + Timespan(data.draw(st.integers(0, total)))
    stretch = Window(start, start + Timespan(max(1, int(lookback.ticks * share))))
    assert any(within(stretch, window) for window in looked)


WINDOWS = st.lists(
    st.tuples(st.integers(0, 60), st.integers(1, 20)).map(
        lambda pair: Window(Instant(pair[0]), Instant(pair[0] + pair[1]))
    ),
    max_size=8,
)


@given(WINDOWS, WINDOWS)
def test_sets_of_time(some: list[Window], others: list[Window]) -> None:
    def instants(windows: list[Window] | tuple[Window, ...]) -> set[int]:
        return {t for w in windows for t in range(w.start.ticks, w.end.ticks)}

    assert instants(union(some)) == instants(some)
    assert instants(subtract(some, others)) == instants(some) - instants(others)
    merged = union(some)
    assert all(a.end < b.start for a, b in zip(merged, merged[1:], strict=False))
