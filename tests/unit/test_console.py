"""The screen: readable narrow and wide, silent to hostile text."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from qakhunt.answers.table import Column
from qakhunt.kql.values import Instant, Timespan
from qakhunt.reports.console import show
from tests.support.events import FOUR, event, run_on, write_ndjson
from tests.support.hostile import HOSTILE, result_of
from tests.support.triage import own_result, result_with

if TYPE_CHECKING:
    from qakhunt.answers.run_result import RunResult

pytestmark = pytest.mark.engine


def screen(result: object, width: int, color: bool = False) -> str:
    out = io.StringIO()
    console = Console(
        file=out, width=width, highlight=False, force_terminal=color, no_color=not color,
        color_system="truecolor" if color else None,
    )  # fmt: skip
    show(result, console)  # type: ignore[arg-type]
    return out.getvalue()


@pytest.mark.parametrize("width", [40, 80, 120, 200])
def test_every_width_shows_what_an_analyst_acts_on(tmp_path: Path, width: int) -> None:
    records = [event(c, DeviceName="ws-1", TenantId="w-1") for c in FOUR]
    text = screen(run_on(write_ndjson(tmp_path / "e.ndjson", records)), width)
    flat = "".join(text.split())
    for wanted in ("ws-1", "ann", "w-1", "2026-10-05", "10:00:00", "netview", "T1018", "HITS:1hit"):
        assert wanted in flat
    assert all(len(line) <= width for line in text.splitlines())


@pytest.mark.parametrize("width", [60, 140])
@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_is_shown_escaped_and_whole(text: str, width: int) -> None:
    from qakhunt.core.safe_text import for_terminal

    row = (text, text, 1, 1.0, None, True, None, None, None, [text], 1, "")
    shown = screen(result_of([row]), width)
    assert "\x1b" not in shown
    assert not any(ord(c) < 32 and c != "\n" for c in shown)
    if len(text) < 100:
        assert "".join(for_terminal(text).split()) in "".join(shown.split())


def test_markup_of_theirs_gives_no_style() -> None:
    row = (
        "[bold red]x[/]",
        "[link=http://e]y[/link]",
        1,
        1.0,
        None,
        True,
        None,
        None,
        None,
        ["[u]z"],
        1,
        "",
    )
    shown = screen(result_of([row]), 140, color=True)
    assert "[bold red]x[/]" in shown
    assert "\x1b]8" not in shown


def test_the_verdict_and_what_to_do_stand_last(tmp_path: Path) -> None:
    path = write_ndjson(tmp_path / "e.ndjson", [event(c) for c in FOUR])
    lines = screen(run_on(path), 100).splitlines()
    verdict = lines.index("HITS: 1 hit on 1 device")
    assert lines[verdict + 1].startswith("  next: ")
    assert all(line.startswith("  ") for line in lines[verdict + 1 :])
    assert lines[1].split() == ["Device", "Account", "Distinct", "When", "(UTC)", "Assessment"]
    assert "arp -a" in lines[4] + lines[5]
    assert not any(line.endswith(" ") for line in lines)


MIXED = (
    Column("FileName", "string"), Column("Seen", "datetime"), Column("Age", "timespan"),
    Column("Bag", "dynamic"), Column("Nothing", "string"),
)  # fmt: skip
ROW = ("a.exe", Instant.parse("2026-10-01T00:00:00.1234567Z"), Timespan.parse("-1.02:03:04"), {"k": [1, None]}, None)  # fmt: skip


@pytest.mark.parametrize("width", [40, 80, 140, 200])
def test_a_hunt_without_a_mapping_shows_its_own_columns(width: int) -> None:
    text = screen(own_result(MIXED, [ROW]), width)
    flat = "".join(text.split())
    for wanted in ("FileName", "a.exe", "2026-10-0100:00:00.1234567", "-1.02:03:04", '{"k":[1,null]}'):  # fmt: skip
        assert wanted in flat
    assert "distinct" not in text
    assert all(len(line) <= width for line in text.splitlines())


def test_forty_columns_are_a_list_for_each_row() -> None:
    columns = tuple(Column(f"Column{n}", "string") for n in range(40))
    row = tuple(f"value {n}" if n % 2 else "" for n in range(40))
    lines = [line.split() for line in screen(own_result(columns, [row]), 100).splitlines()]
    assert ["Column39", "value", "39"] in lines
    assert ["1.", "20", "empty", "columns"] in lines


def test_mapped_and_other_hunts_stand_in_one_screen() -> None:
    own, mapped = own_result(MIXED, [ROW]), result_with(None)
    mapped.rendered += own.rendered
    mapped.hits += own.hits
    text = screen(mapped, 120)
    assert text.index("pc1.example") < text.index("FileName") < text.index("HITS: 2 hits")
    assert "Review 1 row of own." in text


@pytest.mark.parametrize("width", [60, 140])
@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_cells_of_any_column_are_escaped(text: str, width: int) -> None:
    shown = screen(own_result((Column(text, "string"), Column("B", "dynamic")), [(text, [text])]), width)  # fmt: skip
    assert not any(ord(c) < 32 and c != "\n" for c in shown)
    assert len(shown) < 90_000
    if len(text) > 1000:
        assert "(40,000 characters in all)" in " ".join(shown.split())


def test_hits_on_one_device_are_one_finding_where_they_overlap(tmp_path: Path) -> None:
    from qakhunt.reports.view import report_view

    path = write_ndjson(tmp_path / "e.ndjson", [event(c) for c in FOUR])
    one, other = run_on(path), run_on(path, hunt="qakbot-post-compromise-commands-any")
    both: RunResult = run_on(path)
    both.rendered = (*one.rendered, *other.rendered)
    both.hits = [*one.hits, *other.hits]
    (finding,) = report_view(both).findings
    assert len(finding.hits) == 2
    assert "2 hunts agree" in screen(both, 120)


def many_tenants(tenants: int, slices: int) -> RunResult:
    """A run interrupted early: one tenant denies access, one is throttled, most were not asked."""
    from dataclasses import replace

    from qakhunt.answers.ledger import Status

    result = result_of([])
    first = result.ledger.lines[0]
    result.interrupted = True
    result.ledger.lines = [
        replace(
            first, profile=f"customer{t:02}", tenant=f"aaaaaaaa-0000-4000-8000-{t:012}",
            workspace=f"bbbbbbbb-0000-4000-8000-{t:012}", slice=f"slice {n}", status=status,
            detail=detail,
        )
        for t in range(tenants)
        for n in range(slices)
        for status, detail in [
            (Status.FAILED, "no permission") if t == 3
            else (Status.FAILED, f"throttled {n} times, HTTP 429") if t == 4
            else (Status.COMPLETE, "") if t < 3 else (Status.NOT_RUN, "interrupted")
        ]
    ]  # fmt: skip
    label = f"{first.hunt} on {result.ledger.lines[0].label}"
    result.warnings = [f"{label}: {n} of 30 slices" for n in range(9)] + ["the clock is wrong"]
    return result


@pytest.mark.parametrize("width", [80, 100, 140])
def test_fifty_tenants_are_a_line_each_and_a_row_for_each_reason(width: int) -> None:
    text = screen(many_tenants(50, 30), width)
    lines = text.splitlines()
    assert len(lines) < 90
    assert all(len(line) <= width and line == line.rstrip() for line in lines)
    for t, said in ((0, "30 of 30"), (3, "0 of 30"), (49, "0 of 30")):
        assert f"customer{t:02} (bbbbbbbb-0000-4000-8000-{t:012})  {said}" in text
    flat = " ".join(text.split())
    assert "1,350 queries" in flat
    assert flat.count("interrupted") == flat.count("no permission") == 1
    assert flat.count("HTTP 429") == 1
    assert flat.count("alike") == 2
    assert "9 queries of" in flat
    assert any(line.startswith("  next: ") for line in lines[-3:])


def test_the_reasons_of_a_status_code_stay_apart() -> None:
    result = many_tenants(2, 4)
    from dataclasses import replace

    from qakhunt.answers.ledger import Status
    from qakhunt.reports.summary import problems

    lines = [
        replace(line, status=Status.FAILED, detail=f"HTTP {500 + n}, {n} times")
        for n, line in enumerate(result.ledger.lines)
    ]
    assert len(problems(lines)) == 8
