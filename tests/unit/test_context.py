"""Collecting what surrounds hits: hunts like any other, batched, bounded, accounted for."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from qakhunt.answers.ledger import Status, Target, Verdict
from qakhunt.answers.run_result import TABLE_HUNTS
from qakhunt.backends.base import Answer, Backend, Question
from qakhunt.backends.local import LocalBackend
from qakhunt.hunts.catalog import Catalog
from qakhunt.hunts.command_catalogue import families
from qakhunt.hunts.parameters import parameters_of
from qakhunt.hunts.render import render
from qakhunt.kql.values import Instant, Timespan
from qakhunt.run.collector import collect
from qakhunt.run.execution import execute
from qakhunt.run.plan import PlanLine
from qakhunt.run.sample import sample_events, sample_now
from tests.support.events import FOUR, MISSION, NOW, OCTOBER, event, write_ndjson
from tests.support.triage import run_with_context, sample_result

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.engine


def test_the_sample_has_its_surroundings() -> None:
    result = sample_result()
    assert result.context is not None
    held = result.context.hits[0]
    assert {answer.table: answer.found for answer in held.tables} == {
        "DeviceProcessEvents": 16, "DeviceNetworkEvents": 10, "DeviceFileEvents": 4,
        "DeviceRegistryEvents": 1, "DeviceEvents": 2, "DeviceLogonEvents": 1,
        "AlertEvidence": 2,
    }  # fmt: skip
    assert [record["FileName"] for record in held.ancestors] == ["explorer.exe"]
    assert {rarity.kind for rarity in held.rarity} == {"issuer", "families", "hash"}
    for records in held.records.values():
        for record in records:
            assert "Hit" not in record
            assert "Found" not in record


def test_each_table_is_asked_once_for_all_hits_and_has_its_line() -> None:
    result = sample_result()
    assert result.context is not None
    asked = Counter(line.hunt for line in result.context.ledger.lines)
    assert set(asked) == {
        "context-device-timeline", "context-process-ancestors", "context-rarity",
        *TABLE_HUNTS.values(),
    }  # fmt: skip
    assert set(asked.values()) == {1}
    hashes = [line.query_hash for line in result.context.ledger.lines]
    assert [query.rendered.query_hash for query in result.context.queries] == hashes


def test_the_same_hits_ask_the_same_text() -> None:
    """A recording answers by the text's hash."""
    again = run_with_context(sample_events(), now=sample_now(), profile="sample")
    first = sample_result()
    assert again.context is not None
    assert first.context is not None
    texts = [[q.rendered.text for q in r.context.queries] for r in (again, first) if r.context]
    assert texts[0] == texts[1]


def test_the_verdict_is_that_of_the_hunts(tmp_path: Path) -> None:
    """Tables that are not there are said, and fail nothing."""
    path = write_ndjson(tmp_path / "DeviceProcessEvents.ndjson", [event(line) for line in FOUR])
    result = run_with_context([str(path)], window=OCTOBER)
    assert result.context is not None
    statuses = {line.hunt: line.status for line in result.context.ledger.lines}
    assert statuses["context-device-network"] is Status.UNCOVERED
    assert result.verdict is Verdict.HITS
    answers = {answer.table: answer for answer in result.context.hits[0].tables}
    assert "no records" in answers["AlertEvidence"].detail


class _Recording(Backend):
    """A backend in front of another that keeps what was asked, and may refuse tables."""

    concurrency = 1

    def __init__(
        self, inner: LocalBackend, refused: tuple[str, ...] = (), silent: bool = False
    ) -> None:
        self.inner, self.refused, self.silent = inner, refused, silent
        self.name, self.product = inner.name, inner.product
        self.longest_gap = inner.longest_gap
        self.questions: list[Question] = []

    def ask(self, question: Question) -> Answer:
        self.questions.append(question)
        if any(name in self.refused for name in question.tables):
            return Answer(Status.FAILED, detail="Failed to resolve table", rejected=True)
        if self.silent and len(self.questions) > 1:
            return Answer(Status.FAILED, detail="nobody answers")
        return self.inner.ask(question)

    def close(self) -> None:
        self.inner.close()


def collected(path: Path | str, **options: Any) -> tuple[Any, _Recording]:
    rendered = render(Catalog().find(MISSION)[0], now=NOW, window=OCTOBER)
    limit = options.pop("limit", 50)
    targets = options.pop("targets", [Target("p")])
    only = options.pop("only", None)
    backend = _Recording(LocalBackend([str(path)], now=NOW), **options)
    plan = [PlanLine(rendered, backend, target) for target in targets]
    try:
        result = execute(plan)
        collect(result, plan, around=Timespan.parse("30m"), limit=limit, only=only)
    finally:
        backend.close()
    return result, backend


def many(tmp_path: Path, hits: int) -> Path:
    records = [
        event(line, DeviceName=f"ws-{number}", DeviceId=f"id-{number}")
        for number in range(hits)
        for line in FOUR
    ]
    return write_ndjson(tmp_path / "DeviceProcessEvents.ndjson", records)


def test_a_table_that_does_not_exist_is_said_not_failed(tmp_path: Path) -> None:
    result, _ = collected(many(tmp_path, 1), refused=("DeviceRegistryEvents",))
    answers = {answer.table: answer for answer in result.context.hits[0].tables}
    assert answers["DeviceRegistryEvents"].status is Status.FAILED
    assert "Failed to resolve table" in answers["DeviceRegistryEvents"].detail
    assert answers["DeviceProcessEvents"].found == 4
    assert result.verdict is Verdict.HITS


def test_a_backend_that_falls_silent_leaves_the_hits(tmp_path: Path) -> None:
    result, _ = collected(many(tmp_path, 1), silent=True)
    assert len(result.hits) == 1
    assert {line.status for line in result.context.ledger.lines} == {Status.FAILED}
    assert result.context.hits[0].rarity_detail == "nobody answers"


def test_hits_beyond_the_limit_are_not_run_and_said_so(tmp_path: Path) -> None:
    result, backend = collected(many(tmp_path, 5), limit=2)
    missing = [held.missing for _, held in sorted(result.context.hits.items())]
    assert missing[:2] == ["", ""]
    assert missing[2:] == ["it was not asked for, only the first 2 hits"] * 3
    (line,) = [x for x in result.context.ledger.lines if x.status is Status.NOT_RUN]
    assert line.detail == "what surrounded 3 hits was not asked for, only the first 2 hits"
    # One question a table, the timeline first, and the probes of empty answers.
    hunts = [q for q in backend.questions if "let Devices" in q.text]
    assert len(hunts) == 1 + len(TABLE_HUNTS)


def test_one_hit_alone_can_be_asked_about(tmp_path: Path) -> None:
    result, backend = collected(many(tmp_path, 5), only=4)
    missing = {number: held.missing for number, held in result.context.hits.items()}
    assert missing[3] == ""
    assert set(missing) == set(range(5))
    assert [n for n, why in missing.items() if why] == [0, 1, 2, 4]
    asked = [q.text for q in backend.questions if "let Devices" in q.text]
    for text in asked:
        assert re.search(r"let Devices = dynamic\((.*?)\);", text)[1] == '["ws-3"]'  # type: ignore[index]


def test_each_customer_is_asked_about_its_own_hits(tmp_path: Path) -> None:
    """Two profiles see the same events; each one's query names its own hits."""
    result, _ = collected(many(tmp_path, 1), targets=[Target("a", "t-a"), Target("b", "t-b")])
    assert [hit.profile for hit in result.hits] == ["a", "b"]
    by_profile = {
        query.target.profile: json.loads(
            re.search(r"let Around = dynamic\((.*?)\);\n", query.rendered.text)[1]  # type: ignore[index]
        )
        for query in result.context.queries
        if query.rendered.hunt.name == "context-device-timeline"
    }
    assert {p: [s["Hit"] for s in spans] for p, spans in by_profile.items()} == {"a": [1], "b": [2]}
    assert all(held.tables[0].found == 4 for held in result.context.hits.values())


class _PerWorkspace(Backend):
    """Each workspace holds events of its own."""

    name, product, concurrency = "local", "log-analytics", 1
    longest_gap = None

    def __init__(self, paths: dict[str, Path]) -> None:
        self.held = {name: LocalBackend([str(path)], now=NOW) for name, path in paths.items()}

    def ask(self, question: Question) -> Answer:
        assert question.target.workspace is not None
        return self.held[question.target.workspace].ask(question)

    def close(self) -> None:
        for backend in self.held.values():
            backend.close()


def test_equal_counts_of_two_workspaces_reach_both(tmp_path: Path) -> None:
    """Rows that say the same are told once; here each stands for its own workspace."""
    paths = {}
    for workspace in ("w-1", "w-2"):
        folder = tmp_path / workspace
        folder.mkdir()
        records = [
            event(
                line, DeviceName=f"pc-{workspace}", FileName=f"{line.split()[0]}.exe",
                InitiatingProcessFileName="x.exe",
            )
            for line in FOUR
        ]  # fmt: skip
        paths[workspace] = write_ndjson(folder / "DeviceProcessEvents.ndjson", records)
    backend = _PerWorkspace(paths)
    rendered = render(Catalog().find(MISSION)[0], now=NOW, window=OCTOBER)
    plan = [PlanLine(rendered, backend, Target("p", "t", name)) for name in paths]
    result = execute(plan)
    collect(result, plan, around=Timespan.parse("30m"), limit=50)
    backend.close()
    assert [hit.workspace for hit in result.hits] == ["w-1", "w-2"]
    assert result.context is not None
    for held in result.context.hits.values():
        assert [(r.kind, r.devices) for r in held.rarity] == [("families", 1), ("issuer", 1)]


def test_a_hit_without_a_device_says_so(tmp_path: Path) -> None:
    records = [event(line, DeviceName="", DeviceId="") for line in FOUR]
    path = write_ndjson(tmp_path / "DeviceProcessEvents.ndjson", records)
    result, _ = collected(path)
    assert [held.missing for held in result.context.hits.values()] == ["the hit names no device"]


def test_defender_gives_the_same_context() -> None:
    defender = run_with_context(
        sample_events(), now=sample_now(), product="defender", profile="sample"
    )
    other = sample_result()
    assert defender.context is not None
    assert other.context is not None
    one, two = defender.context.hits[0], other.context.hits[0]
    assert [(a.table, a.found) for a in one.tables] == [(a.table, a.found) for a in two.tables]
    assert one.rarity == two.rarity
    assert "Timestamp" in one.records["DeviceProcessEvents"][0]


def test_a_device_name_cannot_leave_its_literal(tmp_path: Path) -> None:
    name = "x\"]); DeviceProcessEvents | where 1 == 1 // '"
    records = [event(line, DeviceName=name) for line in FOUR]
    path = write_ndjson(tmp_path / "DeviceProcessEvents.ndjson", records)
    result, _ = collected(path)
    assert result.context.hits[0].tables[0].found == 4


def test_the_families_in_the_query_are_those_of_the_data_file() -> None:
    hunt = Catalog().find("context-rarity")[0]
    data = families()
    given = {name: parameter.default for name, parameter in parameters_of(hunt).items()}
    for name in ("Issuers", "Hashes", "FamilySets"):
        assert given.pop(name) == []
    assert given == {
        **{
            "".join(part.capitalize() for part in name.split("_")): family.pattern
            for name, family in data.families.items()
        },
        "Programs": list(data.programs),
        "Wrappers": [f"{name}.exe" for name in data.spelling.wrappers],
        "Wrapper": data.spelling.wrapper,
        "OneCommand": data.spelling.one_command,
        "FirstWord": data.spelling.first_word,
    }
    for name in data.families:
        camel = "".join(part.capitalize() for part in name.split("_"))
        assert f'Command matches regex {camel}, "{name}",' in hunt.query


def test_an_hour_of_a_busy_device_is_bounded(tmp_path: Path) -> None:
    noise = [
        event("x", TimeGenerated=Instant.parse("2026-10-05T09:59:00Z").isoformat(), ProcessId=n)
        for n in range(900)
    ]
    path = write_ndjson(
        tmp_path / "DeviceProcessEvents.ndjson", [*noise, *(event(line) for line in FOUR)]
    )
    result, _ = collected(path)
    answer = result.context.hits[0].tables[0]
    assert answer.found == 904
    lines = [r["ProcessCommandLine"] for r in result.context.hits[0].records["DeviceProcessEvents"]]
    assert set(FOUR) <= set(lines)
