"""Windows: resolved once, half-open, and the rule's own arithmetic."""

from __future__ import annotations

from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qakhunt.core.errors import UsageError
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
            "2026-11-05T09:00:00Z",
        ),
        (
            "TimeGenerated between (startofweek(now()) .. endofweek(now()))",
            "2026-11-01",
            "2026-11-05T09:00:00Z",
        ),
        (
            "Timestamp between (datetime(2026-10-01) .. datetime(2026-10-02))",
            "2026-10-01",
            "2026-11-05T09:00:00Z",
        ),
        (
            "TimeGenerated > datetime_add('month', -1, now()) - 2 * 1h",
            "2026-10-05T07:00:00Z",
            "2026-11-05T09:00:00Z",
        ),
        (
            "TimeGenerated between (datetime(2026-10-01) .. 2d)",
            "2026-10-01",
            "2026-11-05T09:00:00Z",
        ),
        ("TimeGenerated > bin(now(), 7d)", "2026-11-02", "2026-11-05T09:00:00Z"),
        (
            "(ago(7d) < TimeGenerated and TimeGenerated > ago(9d))",
            "2026-10-27T09:00:00Z",
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
def test_without_a_window_the_furthest_start_that_the_query_names_begins_it(
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
        ("let d = 9d;\nlet s = ago(d);\nT | where TimeGenerated >= s", "2026-10-27T09:00:00Z"),
        ("T | where LastSeen > ago(9d)", "2026-10-27T09:00:00Z"),
        ("T | make-series n = count() on TimeGenerated from ago(9d) to now() step 1d",
         "2026-10-27T09:00:00Z"),
        # What bounds from above is no start: the window would hold nothing that it lets through.
        ("T | where TimeGenerated < ago(1d)", "2026-10-06T09:00:00Z"),
        ("T | where ago(1d) >= TimeGenerated", "2026-10-06T09:00:00Z"),
        ("let e = ago(1d);\nT | where TimeGenerated <= e", "2026-10-06T09:00:00Z"),
        ("T | where x < startofday(ago(1d))", "2026-10-06T09:00:00Z"),
        # What cannot be read, and nothing at all: thirty days.
        ("let f = (d: timespan) { T | where TimeGenerated > ago(d) };\nf(1d)",
         "2026-10-06T09:00:00Z"),
        ("DeviceProcessEvents\n| count", "2026-10-06T09:00:00Z"),
        ("print 1", "2026-10-06T09:00:00Z"),
    ],
)  # fmt: skip
def test_the_choice_of_a_window_holds_all_that_can_be_read(
    tmp_path: Path, query: str, start: str
) -> None:
    rendered = render(_kql(tmp_path, query), now=NOW)
    assert (rendered.window.start, rendered.window.end) == (Instant.parse(start), NOW)
    assert rendered.notes[0].startswith(f"window {rendered.window}: the query ")


@pytest.mark.parametrize(
    ("period", "start"),
    [
        ("P14D", "2026-10-22T09:00:00Z"), ("14d", "2026-10-22T09:00:00Z"),
        ("PT1H", "2026-11-05T08:00:00Z"), ("P1DT12H", "2026-11-03T21:00:00Z"),
        ("2w", "2026-10-29T09:00:00Z"), ("P", "2026-10-29T09:00:00Z"),
    ],
)  # fmt: skip
def test_a_rules_query_period_is_its_window(tmp_path: Path, period: str, start: str) -> None:
    """One that cannot be read leaves the choice to the query."""
    path = tmp_path / "rule.yaml"
    path.write_text(
        f"name: Rule\nqueryFrequency: PT5M\nqueryPeriod: {period}\n"
        "query: SecurityEvent | where TimeGenerated > ago(7d)\n"
    )
    assert render(load_hunt(path), now=NOW).window.start == Instant.parse(start)


def _notes(folder: Path, query: str, window: str) -> list[str]:
    rendered = render(_kql(folder, query), now=NOW, window=window)
    assert rendered.partial == ""
    return [note for note in rendered.notes if "are rendered" not in note]


@pytest.mark.parametrize(
    ("query", "window", "notes"),
    [
        ("SecurityEvent | where TimeGenerated > ago(7d)", "30d",
         ["the query itself looks at 7d, less than the window"]),
        ("SecurityEvent | where TimeGenerated > ago(7d)", "7d", []),
        # With one source a narrower window is exact.
        ("SecurityEvent | where TimeGenerated > ago(7d)", "1d",
         ["the query itself looks at 7d, more than the window"]),
        ("let e = SecurityEvent | where TimeGenerated > ago(7d);\ne | count", "1d",
         ["the query itself looks at 7d, more than the window"]),
        ("SecurityEvent | where TimeGenerated between (ago(40d) .. ago(2d))", "30d",
         ["the query itself looks at 40d, more than the window",
          "the query itself looks to 2026-11-03T09:00:00Z only"]),
        ("SecurityEvent | where TimeGenerated > todatetime('2026-11-01')", "30d",
         ["how far a filter on time of the query reaches cannot be read"]),
        ("let f = (d: timespan) { SecurityEvent | where TimeGenerated > ago(d) };\nf(1d)", "30d",
         ["how far a filter on time of the query reaches cannot be read"]),
        ("let w = _GetWatchlist('v') | project SearchKey;\n"
         "SecurityEvent | where TimeGenerated > ago(7d) and Account in (w)", "1d",
         ["the query itself looks at 7d, more than the window",
          "the window does not bound _GetWatchlist"]),
        ("externaldata(a: string) ['https://x/y'] | where a != ''", "30d",
         ["the window does not bound externaldata"]),
        ("cluster('a').database('b').T | join workspace('c').SecurityEvent on X", "30d",
         ["the window does not bound cluster, workspace"]),
        ("DeviceTvmInfoGathering | count", "30d",
         ["the window does not bound DeviceTvmInfoGathering"]),
        ("SecurityEvent | where TimeGenerated > ago(1d) | join DeviceInfo on X", "1d",
         ["of sources without a filter on time of their own the query sees the window"]),
        # A time that is counted, or one of several conditions, keeps no record out.
        ("SecurityEvent | summarize countif(TimeGenerated > ago(1d)) by Account", "30d", []),
        ("SecurityEvent | where TimeGenerated > ago(1d) or A", "30d", []),
        ("SecurityEvent | where not(TimeGenerated > ago(1d)) and LastSeen > ago(1d)", "30d", []),
        ("SecurityEvent | where A and (B or C) and (TimeGenerated > ago(1d) and D)", "30d",
         ["the query itself looks at 1d, less than the window"]),
        ("datatable(t: datetime) [datetime(2020-01-01)] | where t > ago(1d)", "30d", []),
        ("SecurityEvent | count", "30d", []),
    ],
)  # fmt: skip
def test_what_a_window_means_for_a_query_is_noted(
    tmp_path: Path, query: str, window: str, notes: list[str]
) -> None:
    assert _notes(tmp_path, query, window) == notes


COMPARING = [
    "SecurityEvent | where TimeGenerated > ago(14d) | join kind=inner (DeviceInfo | where A) on X",
    "SecurityEvent | where TimeGenerated > ago(14d) | join kind=leftanti DeviceInfo on X",
    "SecurityEvent | union (DeviceInfo | where TimeGenerated > ago(14d))",
    "union SecurityEvent, DeviceInfo | where TimeGenerated > ago(14d)",
    "union Device* | where TimeGenerated > ago(14d)",
    "SecurityEvent | where X in ((DeviceInfo | where TimeGenerated > ago(14d) | project X))",
    "SecurityEvent | where X !in~ (DeviceInfo) and TimeGenerated > ago(14d)",
    "SecurityEvent | where N > toscalar(DeviceInfo | where TimeGenerated > ago(14d) | count)",
    "let base = SecurityEvent | where TimeGenerated > ago(14d) | distinct X;\n"
    "SecurityEvent | where TimeGenerated > ago(1d) | where X !in (base)",
    "let base = materialize(SecurityEvent | where TimeGenerated > ago(14d));\n"
    "base | join kind=inner base on X",
    "let f = (a: string) { SecurityEvent | where TimeGenerated > ago(14d) and X == a };\n"
    "union f('a'), f('b')",
    "search 'x' | where TimeGenerated > ago(14d)",
    "SecurityEvent | where TimeGenerated > ago(14d) | as A | join (A | count) on X",
]


@pytest.mark.parametrize("query", COMPARING)
def test_a_window_that_cuts_what_a_query_compares_with_tells_not_all(
    tmp_path: Path, query: str
) -> None:
    hunt = _kql(tmp_path, query)
    cut = render(hunt, now=NOW, window="7d")
    assert cut.partial == "the window cuts the 14d that the query compares with"
    assert not render(hunt, now=NOW, window="14d").partial
    assert not render(hunt, now=NOW).partial


def test_a_window_of_which_the_query_sees_nothing_is_never_clean(tmp_path: Path) -> None:
    hunt = _kql(tmp_path, "SecurityEvent | where TimeGenerated > ago(7d)")
    before = render(hunt, now=NOW, window="2026-09-01/2026-10-01")
    assert before.partial == "the query itself looks at 7d, at nothing of the window"
    hunt = _kql(tmp_path, "SecurityEvent | where TimeGenerated < datetime(2026-01-01)")
    after = render(hunt, now=NOW, window="7d")
    assert after.partial.endswith("looks to 2026-01-01T00:00:00Z only, at nothing of the window")


def test_names_that_the_schema_does_not_know_are_warned_of(tmp_path: Path) -> None:
    query = "let a = My_CL | as B;\nunion a, imDns, SecurityEvent, (B | count), Device*"
    warnings = render(_kql(tmp_path, query), now=NOW).warnings
    assert [warning.split(" is no table")[0] for warning in warnings] == [
        "hunt: My_CL", "hunt: imDns",
    ]  # fmt: skip


def test_its_clock_is_rendered_and_that_is_said(tmp_path: Path) -> None:
    hunt = _kql(
        tmp_path, "let d = 2d;\nT | where TimeGenerated > ago(d) // ago(9d)\n| extend x = 'now()'"
    )
    rendered = render(hunt, now=NOW)
    assert rendered.text == (
        "let d = 2d;\nT | where TimeGenerated > (datetime(2026-11-05T09:00:00Z) - (d)) // ago(9d)\n"
        "| extend x = 'now()'"
    )
    assert any("rendered as of" in note for note in rendered.notes)


def test_an_ago_of_a_column_keeps_its_meaning(tmp_path: Path) -> None:
    hunt = _kql(
        tmp_path, "T | where TimeGenerated > ago(1d) and t < ago(Age * 1d) and u < now(Shift)"
    )
    text = render(hunt, now=NOW).text
    moment = "datetime(2026-11-05T09:00:00Z)"
    assert f"t < ({moment} - (Age * 1d)) and u < ({moment} + (Shift))" in text


def test_named_bounds_that_only_the_service_can_work_out_become_thirty_days(
    tmp_path: Path,
) -> None:
    path = tmp_path / "h.yaml"
    path.write_text(
        "query: |\n  let S = todatetime('2026-01-01');\n  let E = now();\n  T | where x between (S .. E)"
        "\nqakhunt:\n  window: {start: S, end: E}\n"
    )
    rendered = render(load_hunt(path), now=NOW)
    assert rendered.text.startswith("let S = datetime(2026-10-06T09:00:00Z);")
    assert "let S cannot be worked out here" in rendered.notes[0]


def test_a_functions_body_ends_its_filter(tmp_path: Path) -> None:
    query = "let f = () { SecurityEvent | where TimeGenerated > ago(2d) };\nf()"
    rendered = render(_kql(tmp_path, query), now=NOW)
    assert rendered.window.start == Instant.parse("2026-11-03T09:00:00Z")
    assert not any("cannot be read" in note for note in rendered.notes)


def test_a_clock_beside_named_bounds_is_rendered_too(tmp_path: Path) -> None:
    path = tmp_path / "h.yaml"
    path.write_text(
        "query: |\n  let S = ago(2d);\n  let E = now();\n  T | where TimeGenerated between (S .. E)"
        "\n  | extend age = now() - TimeGenerated\nqakhunt:\n  window: {start: S, end: E}\n"
    )
    text = render(load_hunt(path), now=NOW, window="1d").text
    assert "let S = datetime(2026-11-04T09:00:00Z);" in text
    assert "age = datetime(2026-11-05T09:00:00Z) - TimeGenerated" in text


def test_brackets_without_end_are_no_traceback(tmp_path: Path) -> None:
    deep = "(" * 1200 + "ago(1d)" + ")" * 1200
    rendered = render(_kql(tmp_path, f"SecurityEvent | where TimeGenerated > {deep}"), now=NOW)
    assert "datetime(2026-11-04T09:00:00Z)" in rendered.text


@pytest.mark.parametrize("end", ["(ago(2d))", "1h + ago(2d)", "datetime_add('day', -1, ago(2d))"])
def test_a_bound_from_above_is_no_start(tmp_path: Path, end: str) -> None:
    query = f"SecurityEvent | extend f = TimeGenerated < {end} | where TimeGenerated > ago(1d)"
    rendered = render(_kql(tmp_path, query), now=NOW)
    assert rendered.window.start == Instant.parse("2026-11-04T09:00:00Z")
