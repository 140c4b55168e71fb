"""A scheduled run: what is new is told once, and nothing is lost on the way."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qakhunt.answers.findings import findings_of, fingerprint
from qakhunt.answers.ledger import Status, Target, Verdict
from qakhunt.answers.run_result import RunResult
from qakhunt.backends.base import Answer, Backend, Question
from qakhunt.backends.local import LocalBackend
from qakhunt.hunts.catalog import Catalog
from qakhunt.hunts.render import render
from qakhunt.kql.values import Instant, Timespan
from qakhunt.run.execution import execute
from qakhunt.run.plan import PlanLine
from qakhunt.schedule.delivery import JobOptions
from qakhunt.schedule.job import run_scheduled
from qakhunt.schedule.sinks import make_sink
from qakhunt.schedule.sinks.base import NotTaken, SinkContext
from qakhunt.schedule.store import Message, Store, connect
from qakhunt.triage.suppressions import Suppressions, parse_suppressions
from tests.support.findings import hunt, make_hit

pytest.importorskip("duckdb", reason="the embedded engine needs Python 3.11")

DAY = Timespan.parse("1d")
START = Instant.parse("2026-11-05T09:00:00Z")
TENANT = "11111111-1111-4111-8111-111111111111"
COMMANDS = ["net view", "arp -a", "ipconfig /all", "route print", "whoami /all", "net share"]


class Laboratory:
    """One tenant's events, a state in memory, a file to report to, and a clock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.events: list[dict[str, Any]] = []
        self.store = Store(connect(None, "memory"), "memory")
        self.sink = make_sink(f"file:{folder}/out.ndjson", {}, SinkContext(secret=str))
        self.fault: Callable[[Question], Answer | None] = lambda question: None
        self.asked: list[Question] = []
        self.slept: list[float] = []
        self.runs = 0

    def burst(self, device: str, at: Instant, commands: Sequence[str] = COMMANDS[:4]) -> None:
        for number, command in enumerate(commands):
            moment = at + Timespan(number * 10_000_000)
            self.events.append({
                "TimeGenerated": moment.isoformat(), "DeviceName": device, "AccountName": "user",
                "ProcessCommandLine": command, "FileName": command.split()[0] + ".exe",
            })  # fmt: skip

    def run(
        self, now: Instant, *, heartbeat: bool = False, sinks: Sequence[Any] | None = None,
        suppressions: Suppressions | None = None, threshold: int = 3,
    ) -> RunResult:  # fmt: skip
        self.runs += 1
        path = self.folder / "DeviceProcessEvents.ndjson"
        seen = [event for event in self.events if event["TimeGenerated"] < now.isoformat()]
        background = [{"TimeGenerated": (now - Timespan(n * DAY.ticks // 2 + 1)).isoformat(),
                       "DeviceName": "quiet", "AccountName": "user",
                       "ProcessCommandLine": "x", "FileName": "x.exe"} for n in range(80)]  # fmt: skip
        path.write_text("".join(json.dumps(event) + "\n" for event in [*seen, *background]))
        engine = LocalBackend([str(path)], now=now)
        backend = _Scripted(engine, self)
        rendered = render(hunt(), now=now, window="30d", parameters={"Threshold": threshold})
        plan = [PlanLine(rendered, backend, Target("contoso", TENANT, "workspace"))]
        options = JobOptions(
            run_id=f"run-{self.runs}", now=now, clock=lambda: now, sleep=self.slept.append,
            repeat_after=Timespan.parse("14d"), every=DAY, heartbeat=heartbeat,
            suppressions=suppressions or Suppressions(),
        )  # fmt: skip
        chosen = [self.sink] if sinks is None else sinks
        with contextlib.closing(engine):
            return run_scheduled(plan, self.store, chosen, execute, options)

    @property
    def told(self) -> list[dict[str, Any]]:
        path = self.folder / "out.ndjson"
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line) for line in lines]


class _Scripted(Backend):
    """The real engine behind faults that a test scripts."""

    name, product, concurrency = "local", "log-analytics", 1

    def __init__(self, engine: LocalBackend, laboratory: Laboratory) -> None:
        self._engine, self._laboratory = engine, laboratory

    def ask(self, question: Question) -> Answer:
        self._laboratory.asked.append(question)
        return self._laboratory.fault(question) or self._engine.ask(question)

    def close(self) -> None:
        self._engine.close()


@pytest.fixture
def laboratory(tmp_path: Path) -> Iterator[Laboratory]:
    made = Laboratory(tmp_path)
    yield made
    made.store.close()


def down(_question: Question) -> Answer:
    return Answer(Status.FAILED, detail="503 Service Unavailable")


def test_a_finding_is_told_once_and_again_when_it_grows(laboratory: Laboratory) -> None:
    laboratory.burst("ws-01", START - DAY)
    first = laboratory.run(START)
    assert first.verdict is Verdict.HITS
    assert len(first.news) == 1
    second = laboratory.run(START + DAY)
    assert second.verdict is Verdict.HITS
    assert len(second.hits) == 1
    assert second.news == []
    laboratory.burst("ws-01", START + DAY, ["whoami /all"])
    third = laboratory.run(START + DAY + DAY)
    assert len(third.news) == 1
    assert [(f["news"], f["revision"]) for f in laboratory.told] == [("new", 1), ("grown", 2)]
    assert laboratory.told[1]["new_commands"] == ["whoami /all"]
    assert laboratory.told[0]["fingerprint"] == laboratory.told[1]["fingerprint"]
    assert laboratory.told[0]["id"] != laboratory.told[1]["id"]


def test_a_finding_that_stays_is_told_again_after_the_stated_time(laboratory: Laboratory) -> None:
    laboratory.burst("ws-01", START - DAY)
    for day in range(0, 20, 5):
        laboratory.run(START + Timespan(day * DAY.ticks))
    assert [f["news"] for f in laboratory.told] == ["new", "again"]


def test_a_failed_window_is_asked_by_the_next_run_and_its_finding_told(
    laboratory: Laboratory,
) -> None:
    laboratory.run(START)
    laboratory.burst("ws-01", START + Timespan(DAY.ticks // 2))
    laboratory.fault = down
    failed = laboratory.run(START + DAY, heartbeat=True)
    assert failed.verdict is Verdict.FAILED
    assert failed.state is not None
    assert failed.state["owed"] == 1
    assert laboratory.told[-1]["status"] == "could not look"
    assert laboratory.told[-1]["next_expected"] == (START + DAY + DAY).isoformat()
    laboratory.fault = lambda question: None
    laboratory.asked.clear()
    result = laboratory.run(START + DAY + DAY)
    assert result.verdict is Verdict.HITS
    assert laboratory.asked[0].window.start <= START - Timespan(29 * DAY.ticks)
    assert result.state is not None
    assert result.state["owed"] == 0
    assert [f["news"] for f in laboratory.told if "news" in f] == ["new"]


def test_a_partial_answer_tells_what_it_has_and_stays_owed(laboratory: Laboratory) -> None:
    laboratory.burst("ws-01", START - DAY)

    def partial(question: Question) -> Answer | None:
        if "summarize" not in question.text:
            return None
        return replace(engine_answer(question), status=Status.PARTIAL, detail="cut")

    def engine_answer(question: Question) -> Answer:
        engine = LocalBackend([str(laboratory.folder / "DeviceProcessEvents.ndjson")], now=START)
        with contextlib.closing(engine):
            return engine.ask(question)

    laboratory.fault = partial
    result = laboratory.run(START)
    assert result.verdict is Verdict.INCOMPLETE
    assert len(laboratory.told) == 1
    assert result.state is not None
    assert result.state["owed"] == 1


def test_a_tenant_without_records_is_never_clean_and_stays_owed(laboratory: Laboratory) -> None:
    laboratory.run(START)
    laboratory.fault = lambda question: Answer(
        Status.UNCOVERED, detail="204: no data in the workspace"
    )
    result = laboratory.run(START + DAY)
    assert result.verdict is Verdict.INCOMPLETE
    assert len(laboratory.store.coverages()[0].backlog) == 1


def test_suppressed_findings_are_counted_and_told_when_the_suppression_expires(
    laboratory: Laboratory,
) -> None:
    laboratory.burst("ws-01", START - DAY)
    text = "suppressions:\n  - {owner: jd, reason: r, expires: 2026-11-06, device: ws-01}\n"
    vouched = parse_suppressions(text, "s.yaml")
    first = laboratory.run(START, suppressions=vouched)
    assert first.verdict is Verdict.HITS
    assert (first.suppressed, first.hits, laboratory.told) == (1, [], [])
    second = laboratory.run(START + DAY, suppressions=vouched)
    assert "expired" in second.warnings[0]
    assert [f["news"] for f in laboratory.told] == ["new"]


def test_what_cannot_be_delivered_is_kept_and_sent_by_the_next_run(laboratory: Laboratory) -> None:
    laboratory.burst("ws-01", START - DAY)
    broken = _BrokenSink(laboratory.sink)
    result = laboratory.run(START, sinks=[broken, laboratory.sink])
    assert result.verdict is Verdict.HITS
    (first, second) = result.deliveries
    assert (first.delivered, first.messages, first.attempts) == (0, 1, 4)
    assert first.failed
    assert "503" in first.detail
    assert (second.delivered, second.messages) == (1, 1)
    assert laboratory.slept == [1.0, 4.0, 15.0]
    broken.works = True
    result = laboratory.run(START + DAY, sinks=[broken, laboratory.sink])
    assert [line.delivered for line in result.deliveries] == [1, 0]
    assert [m.key for m in broken.sent] == [laboratory.told[0]["id"]]


class _BrokenSink:
    """A sink of another name that is down until it works."""

    name = "broken"

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.works = False
        self.sent: list[Message] = []

    def messages(self, report: Any) -> list[Message]:
        return [replace(message, sink=self.name) for message in self._inner.messages(report)]

    def heartbeat(self, document: dict[str, Any]) -> list[Message]:
        return []

    def send(self, message: Message) -> None:
        if not self.works:
            raise NotTaken("receiver answered 503")
        self.sent.append(message)


def test_a_hunt_without_a_window_of_its_own_is_refused(tmp_path: Path) -> None:
    from qakhunt.core.errors import HuntError
    from qakhunt.schedule.coverage import lookback_of

    path = tmp_path / "plain.kql"
    path.write_text("DeviceProcessEvents | where TimeGenerated > ago(1d)\n")
    with pytest.raises(HuntError, match="no window of its own"):
        lookback_of(Catalog((tmp_path,)).find("plain")[0])
    # One that says nothing of time looks where the schedule sends it.
    path.write_text("DeviceProcessEvents | count\n")
    assert lookback_of(Catalog((tmp_path,)).find("plain")[0]) == Timespan.parse("30d")


def test_fingerprints_tell_customers_apart_and_join_copies_in_several_workspaces() -> None:
    base = make_hit("WS-01", "A.Moreau")
    mark = fingerprint(hunt(), base)
    assert fingerprint(hunt(), make_hit("ws-01", "a.moreau", workspace="other")) == mark
    assert fingerprint(hunt(), make_hit("ws-01", "a.moreau", ("x",))) == mark
    others = [
        make_hit("ws-02"), make_hit("WS-01", "other"), make_hit("WS-01", "A.Moreau", tenant="2"),
    ]  # fmt: skip
    assert len({mark, *(fingerprint(hunt(), hit) for hit in others)}) == 4


def test_a_missing_fingerprint_column_never_joins_two_findings() -> None:
    notes = replace_notes(fingerprint=("NoSuchColumn",))
    hits = [make_hit("ws-01"), make_hit("ws-02")]
    assert len(findings_of(hits, {hunt().name: notes})) == 2


def replace_notes(**changes: Any) -> Any:
    import msgspec

    return replace(hunt(), notes=msgspec.structs.replace(hunt().notes, **changes))
