"""Windows: resolved once, half-open, and the rule's own arithmetic."""

from __future__ import annotations

from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qakhunt.errors import HuntError, UsageError
from qakhunt.hunts.catalog import Catalog
from qakhunt.hunts.loading import load_hunt
from qakhunt.hunts.model import Hunt
from qakhunt.hunts.render import render
from qakhunt.hunts.window import parse, parse_instant, resolve
from qakhunt.kql.values import TICK, Instant

NOW = Instant.parse("2026-11-05T09:00:00Z")


def mission() -> Hunt:
    return Catalog().find("qakbot-post-compromise-commands")[0]


@pytest.mark.parametrize(
    ("now", "start", "end"),
    [
        ("2026-11-05T09:00:00Z", "2026-10-01", "2026-11-01"),
        ("2026-11-15T23:59:59Z", "2026-10-01", "2026-11-01"),
        ("2026-11-16T00:00:00Z", "2026-11-01", "2026-12-01"),
        ("2026-01-10T00:00:00Z", "2025-12-01", "2026-01-01"),
        ("2024-03-15T00:00:00Z", "2024-02-01", "2024-03-01"),
    ],
)
def test_the_published_window_is_the_month_of_fifteen_days_ago(
    now: str, start: str, end: str
) -> None:
    window = resolve("published", mission(), Instant.parse(now), {})
    assert (window.start, window.end) == (Instant.parse(start), Instant.parse(end))


def test_an_unfinished_month_is_warned_of() -> None:
    unfinished = render(mission(), now=Instant.parse("2026-11-20T00:00:00Z"))
    assert any("not over yet" in warning for warning in unfinished.warnings)
    assert not render(mission(), now=NOW).warnings


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("previous-month", "2026-10-01", "2026-11-01"),
        ("30d", "2026-10-06T09:00:00Z", "2026-11-05T09:00:00Z"),
        ("12h", "2026-11-04T21:00:00Z", "2026-11-05T09:00:00Z"),
        ("2026-10-01/2026-11-01", "2026-10-01", "2026-11-01"),
        ("2026-10-01T08:00:00+08:00/2026-10-02", "2026-10-01", "2026-10-02"),
        ("2026-10-01T00:00:00.0000001Z/2026-10-02", "2026-10-01T00:00:00.0000001Z", "2026-10-02"),
    ],
)
def test_windows_that_can_be_asked_for(text: str, start: str, end: str) -> None:
    window = parse(text, NOW)
    assert (window.start, window.end) == (Instant.parse(start), Instant.parse(end))


def test_calendar_days_begin_where_the_time_zone_says() -> None:
    perth = ZoneInfo("Australia/Perth")
    window = parse("2026-10-01/2026-10-02", NOW, perth)
    assert str(window) == "2026-09-30T16:00:00Z/2026-10-01T16:00:00Z"
    assert str(parse("previous-month", NOW, perth)) == "2026-09-30T16:00:00Z/2026-10-31T16:00:00Z"
    assert parse_instant("2026-10-01T00:00:00Z", perth) == Instant.parse("2026-10-01")


@pytest.mark.parametrize(
    "text",
    ["", "30", "foo", "0d", "-3d", "1:00", "2026-11-01/2026-10-01", "2026-10-01/2026-10-01", "a/b"],
)
def test_what_is_no_window_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as problem:
        resolve(text, mission(), NOW, {})
    assert problem.value.hint


months = st.integers(1, 12).map(lambda month: f"2026-{month:02d}-01")


@given(months, st.integers(-5, 5))
def test_no_tick_is_lost_or_doubled_at_a_seam(seam: str, offset: int) -> None:
    """A record at a seam is in exactly one of two adjoining windows, also under between."""
    edge = Instant.parse(seam)
    record = Instant(edge.ticks + offset)
    before = render(mission(), now=NOW, window=f"2025-12-01/{seam}")
    after = render(mission(), now=NOW, window=f"{seam}/2027-01-01")
    assert before.window.contains(record) != after.window.contains(record)
    assert f"let EndTime = datetime({edge - TICK});" in before.text
    assert f"let StartTime = datetime({edge});" in after.text


def _kql(folder: Path, query: str) -> Hunt:
    path = folder / "hunt.kql"
    path.write_text(query, encoding="utf-8")
    return load_hunt(path)


@pytest.mark.parametrize(
    ("filter_", "start", "end"),
    [
        ("TimeGenerated > ago(7d)", "2026-10-29T09:00:00Z", "2026-11-05T09:00:00Z"),
        (
            "TimeGenerated >= startofday(ago(1d)) and TimeGenerated < startofday(now())",
            "2026-11-04",
            "2026-11-05",
        ),
        (
            "TimeGenerated between (startofweek(now()) .. endofweek(now()))",
            "2026-11-01",
            "2026-11-08",
        ),
        (
            "Timestamp between (datetime(2026-10-01) .. datetime(2026-10-02))",
            "2026-10-01",
            "2026-10-02T00:00:00.0000001Z",
        ),
        (
            "TimeGenerated > datetime_add('month', -1, now()) - 2 * 1h",
            "2026-10-05T07:00:00Z",
            "2026-11-05T09:00:00Z",
        ),
        (
            "TimeGenerated between (datetime(2026-10-01) .. 2d)",
            "2026-10-01",
            "2026-10-03T00:00:00.0000001Z",
        ),
        ("TimeGenerated > bin(now(), 7d)", "2026-11-02", "2026-11-05T09:00:00Z"),
        (
            "(ago(7d) < TimeGenerated and TimeGenerated > ago(9d))",
            "2026-10-29T09:00:00Z",
            "2026-11-05T09:00:00Z",
        ),
        # What counts or joins may look at less; what is looked at is the widest of all.
        (
            "TimeGenerated > ago(7d) | summarize countif(TimeGenerated < ago(1d))",
            "2026-10-29T09:00:00Z",
            "2026-11-05T09:00:00Z",
        ),
        (
            "TimeGenerated > ago(7d) and (X or TimeGenerated < ago(1d))",
            "2026-10-29T09:00:00Z",
            "2026-11-05T09:00:00Z",
        ),
        (
            "TimeGenerated > ago(1d) | join (T | where TimeGenerated between (ago(9d) .. ago(1d))) on X",
            "2026-10-27T09:00:00Z",
            "2026-11-05T09:00:00Z",
        ),
    ],
)
def test_a_query_without_window_lets_runs_over_what_its_filters_say(
    tmp_path: Path, filter_: str, start: str, end: str
) -> None:
    hunt = _kql(tmp_path, f"DeviceProcessEvents | where {filter_} | take 1")
    window = resolve("published", hunt, NOW, {})
    assert (window.start, window.end) == (Instant.parse(start), Instant.parse(end))


@pytest.mark.parametrize(
    ("query", "start"),
    [
        ("let base = T | where TimeGenerated between (ago(9d) .. ago(1d)) | distinct X;\n"
         "T | where TimeGenerated > ago(1d) and X !in (base)", "2026-10-27T09:00:00Z"),
        ("let recent = materialize(T | where TimeGenerated > ago(9d) and A);\n"
         "recent | where TimeGenerated < ago(1d)", "2026-10-27T09:00:00Z"),
        # A time that was counted or moved is no record's.
        ("T | where TimeGenerated > ago(9d) | summarize TimeGenerated = max(TimeGenerated) by X\n"
         "| where TimeGenerated > ago(1d)", "2026-10-27T09:00:00Z"),
        ("T | where TimeGenerated > ago(9d) | extend TimeGenerated = TimeGenerated + 1d\n"
         "| where TimeGenerated > ago(1d)", "2026-10-27T09:00:00Z"),
        ("union DeviceInfo, (T | where TimeGenerated > ago(2d)) | where TimeGenerated > ago(9d)",
         "2026-10-27T09:00:00Z"),
        ("T | union isfuzzy=true DeviceInfo | sort by X | where TimeGenerated > ago(2d)",
         "2026-11-03T09:00:00Z"),
        ("T | join kind=inner (U | where TimeGenerated > ago(9d)) on X\n"
         "| where TimeGenerated > ago(2d)", "2026-10-27T09:00:00Z"),
        # Only what is used is looked at.
        ("let wide = T | where TimeGenerated > ago(9d);\nlet unused = T;\n"
         "wide | where TimeGenerated > ago(2d)", "2026-11-03T09:00:00Z"),
        ("let d = 9d;\nlet f = () { let d = 2d; T | where TimeGenerated > ago(d) };\nf()",
         "2026-11-03T09:00:00Z"),
        ("let f = (d: timespan) { T | where TimeGenerated > ago(2d) };\nf(1d)",
         "2026-11-03T09:00:00Z"),
    ],
)  # fmt: skip
def test_a_window_holds_all_that_the_querys_parts_look_at(
    tmp_path: Path, query: str, start: str
) -> None:
    window = resolve("published", _kql(tmp_path, query), NOW, {})
    assert window.start == Instant.parse(start)


@pytest.mark.parametrize(
    "filter_",
    [
        'TimeGenerated > todatetime("2026-09-01")',
        'TimeGenerated > ago(1d) and TimeGenerated > todatetime("2026-09-01")',
        "TimeGenerated > ago(1d) | union (T | where TimeGenerated > max_of(ago(1d), ago(90d)))",
        "TimeGenerated > ago(1d) | union (T | where TimeGenerated < ago(9d))",
        "TimeGenerated > ago(9d) or A",
        "TimeGenerated > ago(1d) | join kind=leftanti (DeviceInfo | distinct X) on X",
        "TimeGenerated > ago(1d) | join DeviceInfo on X",
        "TimeGenerated > ago(1d) | where X in ((DeviceInfo | project X))",
        "TimeGenerated > ago(1d) | where N > toscalar(DeviceInfo | count)",
        "TimeGenerated > ago(1d) | union DeviceInfo",
    ],
)
def test_a_window_that_cannot_be_worked_out_is_asked_for(tmp_path: Path, filter_: str) -> None:
    hunt = _kql(tmp_path, f"T | where {filter_}")
    with pytest.raises(HuntError, match="cannot be worked out") as caught:
        resolve("published", hunt, NOW, {})
    assert "with --window" in (caught.value.hint or "")


@pytest.mark.parametrize("window", ["30d", "2026-09-01/2026-10-01", "2026-11-01/2026-11-05"])
def test_a_window_that_the_query_does_not_look_at_is_refused(tmp_path: Path, window: str) -> None:
    hunt = _kql(tmp_path, "T | where TimeGenerated > ago(7d) and TimeGenerated < ago(1d)")
    with pytest.raises(HuntError, match="itself looks from 2026-10-29T09:00:00Z to"):
        render(hunt, now=NOW, window=window)
    assert not render(hunt, now=NOW, window="2026-11-01/2026-11-02").warnings[1:]


def test_each_part_must_look_at_all_of_a_window_that_was_asked_for(tmp_path: Path) -> None:
    hunt = _kql(
        tmp_path,
        "let base = T | where TimeGenerated between (ago(9d) .. ago(1d)) | distinct X;\n"
        "T | where TimeGenerated > ago(1d) and X !in (base)",
    )
    assert render(hunt, now=NOW).window.start == Instant.parse("2026-10-27T09:00:00Z")
    for window in ("7d", "12h"):
        with pytest.raises(HuntError, match="itself looks from"):
            render(hunt, now=NOW, window=window)


def test_a_parameter_of_a_function_is_not_the_let_of_its_name(tmp_path: Path) -> None:
    query = "let d = 9d;\nlet f = (d: timespan) { T | where TimeGenerated > ago(d) };\nf(1d)"
    hunt = _kql(tmp_path, query)
    with pytest.raises(HuntError, match="cannot be worked out"):
        render(hunt, now=NOW)
    assert "> (datetime(2026-11-05T09:00:00Z) - (d)) }" in render(hunt, now=NOW, window="1d").text


@pytest.mark.parametrize(
    ("filter_", "warned"),
    [
        ("TimeGenerated > todatetime('2026-11-01')", True),
        ("TimeGenerated > ago(40d) and (A or TimeGenerated > ago(1d))", True),
        ("TimeGenerated > ago(40d) and not(TimeGenerated < ago(1d))", True),
        ("TimeGenerated > ago(40d) and TimeGenerated + 1h > ago(1d)", True),
        ("TimeGenerated > ago(40d) and iff(TimeGenerated > ago(1d), true, false)", True),
        ("TimeGenerated > ago(40d) | extend r = TimeGenerated > ago(1d) | where r", True),
        ("TimeGenerated > ago(40d) and hourofday(TimeGenerated) < 6", False),
    ],
)
def test_a_filter_that_cannot_be_worked_out_is_warned_of(
    tmp_path: Path, filter_: str, warned: bool
) -> None:
    hunt = _kql(tmp_path, f"T\n| where {filter_}")
    warnings = [w for w in render(hunt, now=NOW, window="30d").warnings if "rendered as" not in w]
    if not warned:
        assert not warnings
        return
    (warning,) = warnings
    assert "whether its filter on time in line 2 covers the window is unknown" in warning


def test_its_clock_is_rendered_and_that_is_said(tmp_path: Path) -> None:
    hunt = _kql(
        tmp_path, "let d = 2d;\nT | where TimeGenerated > ago(d) // ago(9d)\n| extend x = 'now()'"
    )
    rendered = render(hunt, now=NOW)
    assert rendered.text == (
        "let d = 2d;\nT | where TimeGenerated > (datetime(2026-11-05T09:00:00Z) - (d)) // ago(9d)\n"
        "| extend x = 'now()'"
    )
    assert any("rendered as of" in warning for warning in rendered.warnings)


def test_an_ago_of_a_column_keeps_its_meaning(tmp_path: Path) -> None:
    hunt = _kql(
        tmp_path, "T | where TimeGenerated > ago(1d) and t < ago(Age * 1d) and u < now(Shift)"
    )
    text = render(hunt, now=NOW).text
    moment = "datetime(2026-11-05T09:00:00Z)"
    assert f"t < ({moment} - (Age * 1d)) and u < ({moment} + (Shift))" in text


def test_a_query_without_any_time_is_refused(tmp_path: Path) -> None:
    hunt = _kql(tmp_path, "DeviceProcessEvents\n| count")
    for window in ("published", "30d"):
        with pytest.raises(HuntError, match="neither a filter on time nor a window"):
            render(hunt, now=NOW, window=window)
