"""The account of a run: faults in every slice, interruption, deadlines, isolation, copies."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from qakhunt.answers.ledger import Status, Target, Verdict
from qakhunt.backends.base import Answer
from qakhunt.backends.local import LocalBackend
from qakhunt.backends.recordings.store import new_recording
from qakhunt.core.errors import UnansweredError
from qakhunt.hunts.catalog import Catalog
from qakhunt.hunts.render import render
from qakhunt.kql.values import Timespan
from qakhunt.run.execution import RunOptions, execute
from qakhunt.run.plan import PlanLine
from qakhunt.run.recorder import Recorder, fetch_source_rows
from qakhunt.run.slicing.strategies import read_slices
from tests.support.bursts import NOW, WINDOW, burst_events, write_events
from tests.support.rigged import Rigged, rigged

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from qakhunt.answers.ledger import LedgerLine
    from qakhunt.backends.base import Question
    from qakhunt.backends.recordings.manifest import Manifest
    from qakhunt.hunts.render import RenderedQuery

pytestmark = pytest.mark.engine

HUNT = Catalog().find("qakbot-post-compromise-commands")[0]
WHOM = Target("profile", "tenant", "workspace")


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_events(tmp_path_factory.mktemp("events"), burst_events(noise=60))


@pytest.fixture(scope="module")
def engine(events: str) -> Iterator[LocalBackend]:
    made = LocalBackend([events], now=NOW)
    yield made
    made.close()


@pytest.fixture
def backend(engine: LocalBackend) -> Rigged:
    return Rigged(engine)


def rendered() -> RenderedQuery:
    return render(HUNT, now=NOW, window=WINDOW)


def line(backend: Rigged, target: Target = WHOM, slices: str | None = None) -> PlanLine:
    return PlanLine(rendered(), backend, target, read_slices(slices) if slices else None)


@pytest.mark.parametrize("cut", ["devices:4", "3d"])
def test_a_time_out_in_any_slice_is_divided_and_nothing_is_counted_twice(
    cut: str, backend: Rigged
) -> None:
    whole = execute([line(backend)])
    backend.asked.clear()
    execute([line(backend, slices=cut)])
    first_round = [question.text for question in backend.asked]
    for unlucky in first_round:
        backend.asked.clear()
        backend.answered.clear()

        def slow(question: Question, before: int, unlucky: str = unlucky) -> Answer | None:
            if question.text == unlucky:
                return Answer(Status.FAILED, detail="504 gateway time-out", divisible=True)
            return None

        backend.rule = slow
        result = execute([line(backend, slices=cut)])
        assert [hit.cells for hit in result.hits] == [hit.cells for hit in whole.hits]
        assert result.verdict is whole.verdict
        texts = [question.text for question in backend.asked]
        # Only the unlucky slice was asked in halves; the rest was asked once.
        assert sorted(set(first_round) - set(texts)) == []
        assert len(texts) == len(set(texts)) == len(first_round) + 2
        assert "504 gateway time-out" in "".join(entry.detail for entry in result.ledger.lines)


@pytest.mark.parametrize("cut", ["devices:4", "3d"])
def test_a_failure_in_any_slice_leaves_the_run_incomplete_and_the_rest_whole(
    cut: str, backend: Rigged
) -> None:
    execute([line(backend, slices=cut)])
    slices = [question.text for question in backend.asked]
    for number, unlucky in enumerate(slices):
        backend.asked.clear()
        backend.rule = lambda question, _, unlucky=unlucky: (
            Answer(Status.FAILED, detail="HTTP 500") if question.text == unlucky else None
        )
        result = execute([line(backend, slices=cut)])
        statuses = [entry.status for entry in result.ledger.lines]
        assert result.verdict is Verdict.INCOMPLETE
        assert statuses.count(Status.FAILED) == 1, number
        assert statuses.count(Status.COMPLETE) == len(statuses) - 1
        assert len(backend.asked) == len(slices)
        if result.hits:
            assert any("1 of" in text and "too low" in text for text in result.warnings)


def test_one_tenant_that_raises_never_stops_another(events: str) -> None:
    plan = []
    made = [rigged([events], NOW) for _ in range(3)]
    made[0].rule = lambda *_: UnansweredError("no sign-in possible", hint="run login")
    made[1].rule = lambda *_: RuntimeError("unforeseen")
    for number, backend in enumerate(made):
        plan.append(line(backend, Target(f"p{number}", f"t{number}", f"w{number}")))
    result = execute(plan)
    assert [entry.status for entry in result.ledger.lines] == [
        Status.FAILED, Status.FAILED, Status.COMPLETE,
    ]  # fmt: skip
    assert result.ledger.lines[0].hint == "run login"
    assert "RuntimeError: unforeseen" in result.ledger.lines[1].detail
    assert result.verdict is Verdict.INCOMPLETE
    assert {hit.profile for hit in result.hits} == {"p2"}
    for backend in made:
        backend.close()


@pytest.mark.parametrize("cut", ["devices:6", "1d"])
def test_ctrl_c_keeps_what_answered_and_marks_the_rest(cut: str, backend: Rigged) -> None:
    backend.concurrency = 1

    def stop(_: PlanLine, entry: LedgerLine) -> None:
        raise KeyboardInterrupt

    result = execute([line(backend, slices=cut)], RunOptions(stop))
    statuses = [entry.status for entry in result.ledger.lines]
    assert result.interrupted
    assert len(statuses) == (6 if cut == "devices:6" else 8)
    assert statuses.count(Status.COMPLETE) >= 1
    assert statuses.count(Status.NOT_RUN) >= 1
    assert {e.detail for e in result.ledger.lines if e.status is Status.NOT_RUN} == {"interrupted"}
    assert result.verdict is Verdict.INCOMPLETE
    if cut == "devices:6":
        assert result.hits


def test_an_interrupted_empty_answer_is_never_clean(events: str, tmp_path: Path) -> None:
    quiet = write_events(tmp_path, [e for e in burst_events(noise=5) if e["FileName"] == "arp.exe"])
    made = rigged([quiet], NOW)
    plan = [line(made, slices="devices:2"), line(rigged([events], NOW))]
    seen = 0

    def stop(_: PlanLine, entry: LedgerLine) -> None:
        nonlocal seen
        seen += 1
        raise KeyboardInterrupt

    result = execute(plan, RunOptions(stop))
    assert seen == 1
    assert result.verdict in (Verdict.INCOMPLETE, Verdict.FAILED)


def test_when_the_time_is_up_the_rest_is_not_run(backend: Rigged) -> None:
    backend.concurrency = 1
    moment = 0.0

    def tick(question: Question, before: int) -> None:
        nonlocal moment
        moment += 10

    backend.rule = tick
    result = execute(
        [line(backend, slices="devices:8")], RunOptions(deadline=35, clock=lambda: moment)
    )
    statuses = [entry.status for entry in result.ledger.lines]
    assert not result.interrupted
    assert len(statuses) == 8
    assert 3 <= statuses.count(Status.COMPLETE) <= 5
    assert statuses.count(Status.NOT_RUN) == 8 - statuses.count(Status.COMPLETE)
    assert "the run's time was up" in {entry.detail for entry in result.ledger.lines}


def test_no_more_questions_at_once_than_the_backend_takes(backend: Rigged) -> None:
    import threading

    running = most = 0
    lock = threading.Lock()
    together = threading.Barrier(3)

    def count(question: Question, before: int) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
            first = len(backend.asked) <= 3
        if first:
            together.wait(30)
        with lock:
            running -= 1

    backend.rule, backend.concurrency = count, 3
    execute([line(backend, slices="devices:12")])
    assert most == 3


def test_an_empty_sliced_answer_is_probed_once_for_the_whole_window(
    events: str, tmp_path: Path
) -> None:
    quiet = write_events(tmp_path, [e for e in burst_events(noise=5) if e["FileName"] == "arp.exe"])
    made = rigged([quiet], NOW)
    for cut in ("devices:4", "1d"):
        made.asked.clear()
        result = execute([line(made, slices=cut)])
        probes = [q for q in made.asked if "SourceRows" in q.text]
        assert result.verdict is Verdict.CLEAN
        assert len(probes) == 1
        assert probes[0].window == WINDOW
        assert result.ledger.devices == probes_devices(result.ledger.lines)
    later = render(HUNT, now=NOW, window="2026-10-15/2026-10-17")
    nothing = execute([PlanLine(later, made, WHOM, read_slices("1d"))])
    assert {entry.status for entry in nothing.ledger.lines} == {Status.UNCOVERED}
    made.close()


def probes_devices(lines: list[LedgerLine]) -> int:
    told = [entry.source.devices for entry in lines if entry.source]
    assert len(told) == 1
    assert told[0] > 0
    return told[0]


def test_copies_in_several_workspaces_of_a_tenant_are_one_finding(
    events: str, tmp_path: Path
) -> None:
    all_events = burst_events(noise=60)
    for event in all_events:
        event["TenantId"] = "99999999-0000-0000-0000-000000000000"
    copied = write_events(tmp_path, all_events)
    first, second = rigged([events], NOW), rigged([copied], NOW)
    one = [line(first, Target("a", "tenant", "w1"))]
    same_tenant = [*one, line(second, Target("b", "tenant", "w2"))]
    other_tenant = [*one, line(second, Target("b", "elsewhere", "w2"))]

    alone, together, apart = map(execute, (one, same_tenant, other_tenant))
    assert len(together.hits) == len(alone.hits) > 5
    assert all(hit.also_in == ("w2",) for hit in together.hits)
    assert [replace(hit, also_in=()) for hit in together.hits] == alone.hits
    assert len(apart.hits) == 2 * len(alone.hits)
    assert together.verdict is Verdict.HITS
    first.close()
    second.close()


def test_a_workspace_that_holds_a_part_of_a_finding_holds_its_copy(
    events: str, tmp_path: Path
) -> None:
    some = burst_events(noise=60)
    whole = rigged([events], NOW)
    found = execute([line(whole, Target("a", "tenant", "w1"))]).hits
    richest = max(found, key=lambda hit: hit.total or 0)
    dropped = next(
        number
        for number, event in enumerate(some)
        if event["DeviceName"] == richest.device and event["AccountName"] == richest.account
    )
    partly = rigged([write_events(tmp_path, [*some[:dropped], *some[dropped + 1 :]])], NOW)
    both = execute(
        [line(partly, Target("b", "tenant", "w2")), line(whole, Target("a", "tenant", "w1"))]
    )
    same = [h for h in both.hits if (h.device, h.account) == (richest.device, richest.account)]
    assert [hit.total for hit in same] == [richest.total]
    assert len(both.hits) == len(found)
    whole.close()
    partly.close()


def recorded(backend: Rigged, folder: Path) -> tuple[Manifest, list[LedgerLine]]:
    """A recording with source rows, and what of these did not come whole."""
    with new_recording(folder, private=True, force=False) as writer:
        recorder = Recorder(writer, None)
        plan = recorder.plan([line(backend)])
        result = execute(plan)
        missing = fetch_source_rows(recorder, plan, span=Timespan.parse("36500d"))
        manifest = recorder.manifest(plan, result)
        writer.finish(manifest)
    return manifest, missing


def test_source_queries_are_halved_and_one_that_raises_is_no_more_than_missing(
    backend: Rigged, tmp_path: Path
) -> None:
    whole, _ = recorded(backend, tmp_path / "whole")
    (everything,) = whole.source

    def broken(question: Question, _: int) -> BaseException | None:
        short = question.window.end.since(question.window.start) < Timespan.parse("2d")
        is_first = short and question.window.start == WINDOW.start
        return UnansweredError("no sign-in possible") if is_first else None

    backend.most_rows, backend.rule = 20, broken
    found, missing = recorded(backend, tmp_path / "halved")
    spans = sorted((file.window.start, file.window.end) for file in found.source)
    assert len(spans) > 8
    assert [start for start, _ in spans[1:]] == [end for _, end in spans[:-1]]
    assert (spans[0][0], spans[-1][1]) == (everything.window.start, everything.window.end)
    assert [entry.status for entry in missing] == [Status.FAILED]
    assert "no sign-in possible" in missing[0].detail
    (lost,) = (file for file in found.source if file.status != "complete")
    assert (lost.status, lost.file, lost.rows) == ("failed", None, 0)
    assert 0 < sum(file.rows for file in found.source) < everything.rows
