"""A run's verdict, its probe of empty answers, and its hits."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qakhunt.answers.ledger import LedgerLine, Status, Target, Verdict, verdict
from qakhunt.answers.table import Column, ResultTable
from qakhunt.backends.base import Answer, Backend, Question
from qakhunt.hunts.catalog import Catalog
from qakhunt.hunts.loading import load_hunt
from qakhunt.hunts.render import render
from qakhunt.kql.values import TICKS_PER_DAY, Instant, Timespan, Window
from qakhunt.run.execution import execute
from qakhunt.run.plan import PlanLine
from tests.support.events import FOUR, MISSION, NOW, event, run_on, write_ndjson

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qakhunt.hunts.model import Hunt

EMPTY = ResultTable(
    (
        Column("DeviceName", "string"), Column("AccountName", "string"),
        Column("CommandLineList", "dynamic"), Column("TotalUniqueCommandsFound", "long"),
        Column("TotalCommandsFound", "long"), Column("TimeGenerated", "datetime"),
        Column("FirstSeen", "datetime"), Column("LastSeen", "datetime"),
    ),
    [],
)  # fmt: skip
HIT = ResultTable(EMPTY.columns, [("d", "a", *[None] * 6)])
OCTOBER = Window(Instant.parse("2026-10-01"), Instant.parse("2026-11-01"))
HOUR = TICKS_PER_DAY // 24


TABLELESS = """let DeviceProcessEvents = datatable(DeviceName: string)["a"];
DeviceProcessEvents | where DeviceName == "b"
"""


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


PROBE = (
    Column("SourceRows", "long"), Column("Devices", "long"), Column("First", "datetime"),
    Column("Last", "datetime"), Column("Hours", "dynamic"), Column("TenantId", "string"),
)  # fmt: skip


def probe(rows: int, hours: Sequence[int] = range(31 * 24)) -> ResultTable:
    """What the coverage check of October is answered: at least a record at each hour's start."""
    if not rows:
        return ResultTable(PROBE, [(0, 0, None, None, [], None)])
    first, last = (OCTOBER.start + Timespan(n * HOUR) for n in (hours[0], hours[-1]))
    rows = max(rows, len(hours))
    return ResultTable(PROBE, [(rows, min(rows, 3), first, last, list(hours), "w")])


@dataclass
class Scripted(Backend):
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
    result = execute([PlanLine(rendered, backend, Target("p", "t", "w"))])
    return result.verdict, result.ledger.lines[0], backend


def test_an_empty_answer_is_probed_once_and_is_clean_where_there_was_something() -> None:
    said, line, backend = run_scripted(
        Answer(Status.COMPLETE, EMPTY, request_ids=("r1",)),
        Answer(Status.COMPLETE, probe(7), request_ids=("r2",)),
    )
    assert said is Verdict.CLEAN
    assert line.source is not None
    assert (line.source.rows, line.source.devices) == (744, 3)
    assert line.request_ids == ("r1", "r2")
    assert line.attempts == 2
    assert "| summarize SourceRows = count()" in backend.questions[1].text
    assert line.gaps == ()


def test_an_answer_with_hits_is_probed_too() -> None:
    said, line, backend = run_scripted(
        Answer(Status.COMPLETE, HIT), Answer(Status.COMPLETE, probe(7))
    )
    assert said is Verdict.HITS
    assert line.source is not None
    assert len(backend.questions) == 2
    said, line, _ = run_scripted(Answer(Status.COMPLETE, HIT), Answer(Status.COMPLETE, probe(0)))
    assert said is Verdict.INCOMPLETE
    assert (line.status, line.rows, line.gaps) == (Status.UNCOVERED, 1, (OCTOBER,))


@pytest.mark.parametrize(
    ("hours", "gaps"),
    [
        (range(31 * 24), []),
        (range(10 * 24), ["10-10T23/11-01T00"]),  # a connector that broke on the tenth
        (range(240, 31 * 24), ["10-01T00/10-11T00"]),
        ([*range(100), *range(173, 31 * 24)], ["10-05T04/10-08T05"]),
        ([*range(100), *range(171, 31 * 24)], []),  # 71 whole hours: a long weekend
        ([*range(100), *range(172, 31 * 24)], ["10-05T04/10-08T04"]),
        ([0, 300, 600], ["10-01T01/10-13T12", "10-13T13/10-26T00", "10-26T00/11-01T00"]),
        (range(72, 673), []),
    ],
)
def test_a_long_silence_of_the_source_is_told_hits_or_not(
    hours: Sequence[int], gaps: list[str]
) -> None:
    for table in (EMPTY, HIT):
        said, line, _ = run_scripted(
            Answer(Status.COMPLETE, table), Answer(Status.COMPLETE, probe(7, hours))
        )
        assert [f"{g.start.isoformat()[5:13]}/{g.end.isoformat()[5:13]}" for g in line.gaps] == gaps
        assert (line.status is Status.UNCOVERED) == bool(gaps)
        assert (said is Verdict.INCOMPLETE) == bool(gaps)
        assert ("holds no records from" in line.detail) == bool(gaps)
        assert line.source is not None


def test_time_that_is_not_over_is_no_gap() -> None:
    def said(now: str) -> Verdict:
        answers = [Answer(Status.COMPLETE, EMPTY), Answer(Status.COMPLETE, probe(7, range(240)))]
        backend = Scripted(answers)
        rendered = render(
            Catalog().find(MISSION)[0], now=Instant.parse(now), window="2026-10-01/2026-11-01"
        )
        return execute([PlanLine(rendered, backend, Target("p", "t", "w"))]).verdict

    assert said("2026-10-13T23:59:00Z") is Verdict.CLEAN  # three days, less the usual delay
    assert said("2026-10-14T00:01:00Z") is Verdict.INCOMPLETE
    assert said("2026-10-10T12:00:00Z") is Verdict.CLEAN


def test_the_backend_says_which_silence_is_normal() -> None:
    def status(longest: Timespan | None) -> Status:
        answers = [Answer(Status.COMPLETE, EMPTY), Answer(Status.COMPLETE, probe(7, range(500)))]
        backend = Scripted(answers)
        backend.longest_gap = longest
        rendered = render(Catalog().find(MISSION)[0], now=NOW)
        result = execute([PlanLine(rendered, backend, Target("p", "t", "w"))])
        assert bool(result.warnings) == (longest is None)
        return result.ledger.lines[0].status

    assert status(Timespan.parse("240h")) is Status.UNCOVERED
    assert status(Timespan.parse("300h")) is Status.COMPLETE
    assert status(None) is Status.COMPLETE


def _without(name: str) -> ResultTable:
    kept = [at for at, column in enumerate(PROBE) if column.name != name]
    (row,) = probe(7).rows
    return ResultTable(tuple(PROBE[at] for at in kept), [tuple(row[at] for at in kept)])


def _with(name: str, value: Any) -> ResultTable:
    (row,) = probe(7).rows
    changed = [value if c.name == name else v for c, v in zip(PROBE, row, strict=True)]
    return ResultTable(PROBE, [tuple(changed)])


@pytest.mark.parametrize(
    "answered",
    [
        *map(_without, ["SourceRows", "Devices", "First", "Last", "Hours"]),
        _with("SourceRows", "abc"), _with("SourceRows", -1), _with("SourceRows", None),
        _with("SourceRows", True), _with("SourceRows", 0), _with("Devices", -3),
        _with("Devices", "many"), _with("First", "soon"), _with("Last", None),
        _with("Last", Instant.parse("2027-01-01")), _with("Hours", "all"), _with("Hours", []),
        _with("Hours", [3]), _with("Hours", list(range(300))),
        _with("Hours", [0, 10**9]), _with("Hours", [-1]), _with("Hours", {"0": 1}),
        ResultTable(PROBE, []), ResultTable(PROBE, [*probe(7).rows, *probe(7).rows]), ResultTable((), []), EMPTY,
    ],
)  # fmt: skip
def test_an_unsound_answer_to_the_check_is_the_services_fault(answered: ResultTable) -> None:
    said, line, _ = run_scripted(Answer(Status.COMPLETE, EMPTY), Answer(Status.COMPLETE, answered))
    assert said is Verdict.INCOMPLETE
    assert line.status is Status.UNCOVERED
    assert "the service answered the coverage check with" in line.detail
    assert "own" not in line.detail.split()


def test_an_answer_without_the_columns_of_the_hunts_result_is_partial() -> None:
    other = ResultTable((Column("DeviceName", "string"), Column("Timestamp", "datetime")), [])
    said, line, backend = run_scripted(Answer(Status.COMPLETE, other))
    assert said is Verdict.INCOMPLETE
    assert line.status is Status.PARTIAL
    assert "lacks CommandLineList" in line.detail
    assert "TimeGenerated" not in line.detail  # Defender's Timestamp stands for it
    assert len(backend.questions) == 1


@dataclass
class Routed(Scripted):
    """Answers the coverage check with the first answer, all else with the second."""

    def ask(self, question: Question) -> Answer:
        self.questions.append(question)
        return replace(self.answers["SourceRows" not in question.text])


@pytest.mark.parametrize("whole", [True, False])
def test_hunts_of_one_run_share_a_check_and_account_for_it_once(whole: bool) -> None:
    names = (MISSION, f"{MISSION}-any")
    checked = Answer(Status.COMPLETE if whole else Status.FAILED, probe(7), detail="no")
    backend = Routed([checked, Answer(Status.COMPLETE, EMPTY)])
    hunts = [Catalog().find(name)[0] for name in names]
    rendered = [render(hunt, now=NOW, window="2026-10-01/2026-11-01") for hunt in hunts]
    result = execute([PlanLine(one, backend, Target("p", "t", "w")) for one in rendered])
    probes = [q for q in backend.questions if "SourceRows" in q.text]
    assert result.verdict is (Verdict.CLEAN if whole else Verdict.INCOMPLETE)
    # One that failed says nothing of the next.
    assert len(probes) == (1 if whole else 2)
    assert sorted(line.attempts for line in result.ledger.lines) == ([1, 2] if whole else [2, 2])
    assert all(bool(line.source) == whole for line in result.ledger.lines)


def hunt_of(query: str, folder: Path) -> Hunt:
    path = folder / "own.yaml"
    text = "let Start = ago(30d);\nlet End = now();\n" + query
    notes = {"window": {"start": "Start", "end": "End"}}
    path.write_text(json.dumps({"name": "own", "query": text, "qakhunt": notes}))
    return load_hunt(path)


@pytest.mark.parametrize("query", ["print a = 1", "range a from 1 to 3 step 1", TABLELESS])
def test_a_query_without_a_source_is_complete_and_not_checked(query: str, tmp_path: Path) -> None:
    backend = Routed([Answer(Status.FAILED), Answer(Status.COMPLETE, EMPTY)])
    rendered = render(hunt_of(query, tmp_path), now=NOW, window="30d")
    result = execute([PlanLine(rendered, backend, Target("p", "t", "w"))])
    assert (result.verdict, len(backend.questions)) == (Verdict.CLEAN, 1)


@pytest.mark.parametrize(
    ("query", "checked", "words"),
    [
        ("Foo_CL | where a == 1", ["Foo_CL"], "whether Foo_CL holds records"),
        ("let T = Foo_CL | where a == 1; T | count", ["Foo_CL"], "no such col"),
        ("search 'x'", [], "search 'x' looks at is not known"),
    ],
)
def test_custom_tables_are_checked_and_sources_without_a_name_are_told(
    query: str, checked: list[str], words: str, tmp_path: Path
) -> None:
    answers = [Answer(Status.FAILED, detail="no such column: TimeGenerated", rejected=True)]
    backend = Routed([*answers, Answer(Status.COMPLETE, EMPTY)])
    rendered = render(hunt_of(query, tmp_path), now=NOW, window="30d")
    result = execute([PlanLine(rendered, backend, Target("p", "t", "w"))])
    (line,) = result.ledger.lines
    assert result.verdict is Verdict.INCOMPLETE
    assert line.status is Status.UNCOVERED
    assert words in line.detail
    assert [q.text.splitlines()[0] for q in backend.questions[1:]] == checked
    assert [q.tables for q in backend.questions[1:]] == [(table,) for table in checked]


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
    # Its own filter ends the month; without named bounds the window ends now.
    assert str(result.window) == "2026-10-01T00:00:00Z/2026-11-05T09:00:00Z"
    assert any("rendered as of" in note for note in result.ledger.lines[0].notes)
