"""A run's verdict, its probe of empty answers, and its hits."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qakhunt.answers.ledger import LedgerLine, Status, Verdict, verdict
from qakhunt.answers.table import Column, ResultTable
from qakhunt.backends.base import Answer, Question, Target
from qakhunt.hunts.catalog import Catalog
from qakhunt.hunts.render import render
from qakhunt.kql.values import Instant, Window
from qakhunt.runner import PlanLine, run
from tests.support.cli import qakhunt
from tests.support.events import FOUR, MISSION, NOW, event, run_on, write_ndjson

EMPTY = ResultTable((Column("DeviceName", "string"), Column("AccountName", "string")), [])
HIT = ResultTable(EMPTY.columns, [("d", "a")])


def _line(status: Status) -> LedgerLine:
    window = Window(Instant.parse("2026-10-01"), Instant.parse("2026-11-01"))
    return LedgerLine("h", "p", None, None, "whole", window, "b", "q", status)


@given(st.lists(st.sampled_from(Status), min_size=1, max_size=6), st.integers(0, 3))
def test_clean_is_said_only_when_every_line_is_complete(statuses: list[Status], hits: int) -> None:
    said = verdict([_line(status) for status in statuses], hits)
    everything = set(statuses) == {Status.COMPLETE}
    assert (said is Verdict.CLEAN) == (everything and hits == 0)
    assert (said is Verdict.HITS) == (everything and hits > 0)
    if not everything:
        assert said in (Verdict.INCOMPLETE, Verdict.FAILED)
    assert (said is Verdict.FAILED) == (set(statuses) <= {Status.FAILED, Status.NOT_RUN})


def test_nothing_asked_is_not_clean() -> None:
    assert verdict([], 0) is Verdict.FAILED


def probe(rows: int) -> ResultTable:
    columns = (Column("SourceRows", "long"), Column("Devices", "long"))
    return ResultTable(columns, [(rows, min(rows, 3))])


@dataclass
class Scripted:
    """A backend that gives its answers in turn and keeps the questions."""

    answers: list[Answer]
    questions: list[Question] = field(default_factory=list)
    name: str = "scripted"
    product: str = "log-analytics"
    concurrency: int = 1

    def ask(self, question: Question) -> Answer:
        self.questions.append(question)
        return self.answers[len(self.questions) - 1]

    def close(self) -> None:
        """Nothing to give back."""


def run_scripted(*answers: Answer) -> tuple[Verdict, LedgerLine, Scripted]:
    backend = Scripted(list(answers))
    rendered = render(Catalog().find(MISSION)[0], now=NOW)
    result = run([PlanLine(rendered, backend, Target("p", "t", "w"))])
    return result.verdict, result.ledger.lines[0], backend


def test_an_empty_answer_is_probed_once_and_is_clean_where_there_was_something() -> None:
    said, line, backend = run_scripted(
        Answer(Status.COMPLETE, EMPTY, request_ids=("r1",)),
        Answer(Status.COMPLETE, probe(7), request_ids=("r2",)),
    )
    assert said is Verdict.CLEAN
    assert line.source is not None
    assert (line.source.rows, line.source.devices) == (7, 3)
    assert line.request_ids == ("r1", "r2")
    assert line.attempts == 2
    assert "| summarize SourceRows = count()" in backend.questions[1].text


def test_an_answer_with_hits_is_not_probed() -> None:
    said, _, backend = run_scripted(Answer(Status.COMPLETE, HIT))
    assert said is Verdict.HITS
    assert len(backend.questions) == 1


@pytest.mark.parametrize(
    "second",
    [
        Answer(Status.COMPLETE, probe(0)),
        Answer(Status.FAILED, detail="forbidden"),
        Answer(Status.PARTIAL, probe(9), detail="cut"),
    ],
)
def test_an_empty_answer_that_proves_nothing_is_uncovered(second: Answer) -> None:
    said, line, _ = run_scripted(Answer(Status.COMPLETE, EMPTY), second)
    assert said is Verdict.INCOMPLETE
    assert line.status is Status.UNCOVERED
    assert "DeviceProcessEvents" in line.detail


@pytest.mark.parametrize("status", [Status.PARTIAL, Status.TRUNCATED])
def test_a_cut_answer_keeps_its_hits_and_is_incomplete(status: Status) -> None:
    said, line, _ = run_scripted(Answer(status, HIT, detail="limit"))
    assert said is Verdict.INCOMPLETE
    assert (line.status, line.rows) == (status, 1)


def test_a_rejection_names_the_line_of_the_hunts_file() -> None:
    _, line, _ = run_scripted(
        Answer(Status.FAILED, detail="no such column", rejected=True, place=(7, 3))
    )
    path = Path(Catalog().find(MISSION)[0].path)
    where, _, words = line.detail.partition(": ")
    assert words == "no such column"
    number = int(where.split(":")[-2])
    assert "ProcessCommandLine in" in path.read_text(encoding="utf-8").splitlines()[number - 1]


@pytest.mark.engine
def test_the_threshold_is_exceeded_not_reached(tmp_path: Path) -> None:
    three = [event(command) for command in FOUR[:3]]
    path = write_ndjson(tmp_path / "e.ndjson", [*three, *three])
    assert run_on(path).verdict is Verdict.CLEAN
    assert run_on(path, Threshold=2).verdict is Verdict.HITS


@pytest.mark.engine
def test_accounts_devices_and_workspaces_are_counted_apart(tmp_path: Path) -> None:
    spread = [
        event(command, DeviceName=f"d{i % 2}", AccountName=f"a{i % 3}", TenantId=f"t{i % 2}")
        for i, command in enumerate(FOUR)
    ]
    path = write_ndjson(tmp_path / "e.ndjson", spread)
    assert run_on(path).verdict is Verdict.CLEAN


@pytest.mark.engine
def test_hits_come_as_the_rule_sorts_and_say_what_a_triage_needs(tmp_path: Path) -> None:
    more = [
        event(c, DeviceName="big", AccountName="bob", TenantId="w1") for c in [*FOUR, "net share"]
    ]
    less = [event(c, DeviceName="small", TenantId="w2", TimeGenerated=f"2026-10-0{i + 1}T00:00:00Z")
            for i, c in enumerate(FOUR)]  # fmt: skip
    result = run_on(write_ndjson(tmp_path / "e.ndjson", [*less, *more]))
    assert [hit.device for hit in result.hits] == ["big", "small"]
    big, small = result.hits
    assert (big.account, big.workspace, big.distinct, big.total) == ("bob", "w1", 5, 5)
    assert big.techniques == ("T1016", "T1135", "T1018", "T1033")
    assert small.first_seen == Instant.parse("2026-10-01")
    assert small.last_seen == Instant.parse("2026-10-04")
    assert small.tenant is None
    assert small.row["TotalUniqueCommandsFound"] == 4


@pytest.mark.engine
def test_an_empty_result_keeps_its_columns(tmp_path: Path) -> None:
    result = run_on(write_ndjson(tmp_path / "e.ndjson", [event("x")]))
    names = [column.name for column in result.columns[MISSION]]
    assert names[:3] == ["DeviceName", "AccountName", "TenantId"]
    assert "TotalUniqueCommandsFound" in names


@pytest.mark.engine
def test_a_seam_of_two_months_splits_a_burst_as_published(tmp_path: Path) -> None:
    times = ["2026-10-31T23:59:59.999999Z", "2026-11-01T00:00:00Z"]
    records = [event(c, TimeGenerated=times[i // 2]) for i, c in enumerate(FOUR)]
    path = write_ndjson(tmp_path / "e.ndjson", records)
    for window in ("2026-10-01/2026-11-01", "2026-11-01/2026-12-01"):
        assert run_on(path, window=window).verdict is Verdict.CLEAN
    assert run_on(path, window="2026-10-15/2026-11-15").verdict is Verdict.HITS


@pytest.mark.engine
@pytest.mark.parametrize("rendering", ["direct", "cmdc", "posh"])
def test_the_mission_rule_finds_direct_launches_only(shared_data: Path, rendering: str) -> None:
    """Eleven reconstructed bursts in each rendering: 11, 0, 0."""
    path = shared_data / "device-process-events" / f"reconstructed_qakbot_{rendering}.ndjson"
    result = run_on(path, window="2022-01-01/2023-06-01")
    assert len(result.hits) == (11 if rendering == "direct" else 0)


@pytest.mark.engine
@pytest.mark.parametrize(("rendering", "expected"), [("direct", 11), ("cmdc", 11), ("posh", 0)])
def test_the_older_rule_also_finds_wrapped_ones(
    shared_data: Path, rendering: str, expected: int
) -> None:
    path = shared_data / "device-process-events" / f"reconstructed_qakbot_{rendering}.ndjson"
    result = run_on(path, hunt=f"{MISSION}-any", window="2022-01-01/2023-06-01")
    assert len(result.hits) == expected


@pytest.mark.engine
def test_the_published_page_runs_as_it_is(mission_page: Path, tmp_path: Path) -> None:
    path = write_ndjson(tmp_path / "e.ndjson", [event(command) for command in FOUR])
    result = run_on(path, hunt=str(mission_page), window="published")
    assert result.verdict is Verdict.HITS
    assert str(result.window) == "2026-10-01T00:00:00Z/2026-11-01T00:00:00Z"
    assert any("rendered as of" in warning for warning in result.warnings)


BASELINE = """\
let known = DeviceProcessEvents
| where TimeGenerated between (ago(14d) .. ago(1d)) | distinct FileName;
DeviceProcessEvents | where TimeGenerated > ago(1d) | where FileName !in (known)
"""


@pytest.mark.engine
@pytest.mark.parametrize(
    ("query", "window", "code", "status", "said"),
    [
        (BASELINE, "7d", 4, "partial", "the window cuts the 14d that the query compares with"),
        (BASELINE, "published", 0, "complete", "window 2026-10-22T09:00:00Z/2026-11-05T09:00:00Z: "
         "the query itself looks at 14d"),
        ("DeviceProcessEvents | where TimeGenerated > ago(7d)", "30d", 0, "complete",
         "the query itself looks at 7d, less than the window"),
        ("DeviceProcessEvents", "7d", 0, "complete", ""),
        ("DeviceProcessEvents | where TimeGenerated > ago(7d)", "2026-09-01/2026-10-01", 4,
         "partial", "the query itself looks at 7d, at nothing of the window"),
    ],
)  # fmt: skip
def test_what_the_window_means_stands_in_the_ledger_and_on_the_screen(
    tmp_path: Path, query: str, window: str, code: int, status: str, said: str
) -> None:
    hunt = tmp_path / "mine.kql"
    hunt.write_text(query)
    events = write_ndjson(
        tmp_path / "DeviceProcessEvents.ndjson",
        [event("whoami /all", FileName="whoami.exe", TimeGenerated="2026-11-04T10:00:00Z")],
    )
    done = qakhunt(
        "run", str(hunt), "--events", str(events), "--window", window, "--now", str(NOW), "--json"
    )
    assert done.code == code
    (line,) = json.loads(done.out)["ledger"]
    assert line["status"] == status
    assert said in (line["detail"] if status == "partial" else "\n".join(line["notes"]))
    assert said in " ".join(done.err.split())
