"""What a run found: judged, kept and delivered; and the heartbeat, a word from every run.

Everything learnt and everything to deliver is written in one transaction, then it is
delivered: before that a crash leaves no trace and the next run asks again; after it,
nothing is forgotten. Each message is sent at least once, until its receiver confirms it.
A message is confirmed in the state as soon as its receiver has taken it, one by one, so a
crash repeats at most one message per sink, with the same key.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from qakhunt.answers.ledger import DeliveryLine, Verdict
from qakhunt.core.errors import StateError
from qakhunt.schedule.coverage import MAX_BACKFILL
from qakhunt.schedule.findings import FindingState, finding_document, judge, reported_findings
from qakhunt.schedule.sinks.base import NotTaken, Report
from qakhunt.schedule.store import RunRecord
from qakhunt.schedule.store_file import in_memory
from qakhunt.triage.suppressions import Suppressions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from qakhunt.answers.run_result import RunResult
    from qakhunt.hunts.model import Hunt
    from qakhunt.kql.values import Instant, Timespan
    from qakhunt.schedule.coverage import Coverage
    from qakhunt.schedule.findings import Known, ReportedFinding
    from qakhunt.schedule.sinks.base import Sink
    from qakhunt.schedule.store import Message, Store

MAX_REPORTED = 2000
"""Findings that one run reports where there is a state; the next run reports the rest."""
TRIES = 4
_PAUSES = (1.0, 4.0, 15.0)
LONGEST_PAUSE = 60.0
HEARTBEAT_SCHEMA = "qakhunt.heartbeat/1"
_STATUS = {
    Verdict.CLEAN: "looked, complete, nothing found",
    Verdict.HITS: "looked, complete, findings",
    Verdict.INCOMPLETE: "could not look everywhere",
    Verdict.FAILED: "could not look",
}


@dataclass(frozen=True)
class JobOptions:
    """How a job behaves. ``every`` is when the next run is expected after this one.

    ``repeat_after`` is when a finding that is still there is reported again;
    ``max_backfill`` bounds the windows of the backlog queried per hunt and workspace.
    ``out_of_time`` ends the asking, ``too_late`` the delivering.
    """

    run_id: str
    now: Instant
    clock: Callable[[], Instant]
    sleep: Callable[[float], None]
    repeat_after: Timespan
    every: Timespan
    heartbeat: bool = False
    max_backfill: int = MAX_BACKFILL
    out_of_time: Callable[[], bool] = lambda: False
    too_late: Callable[[], bool] = lambda: False
    max_reported: int = MAX_REPORTED
    suppressions: Suppressions = field(default_factory=Suppressions)


def report(
    result: RunResult, store: Store, sinks: Sequence[Sink], options: JobOptions,
    coverages: Sequence[Coverage], backfill: frozenset[int] = frozenset(),
) -> RunResult:  # fmt: skip
    """Judge the hits, keep everything in one transaction, then deliver."""
    hunts = {rendered.hunt.name: rendered.hunt for rendered in result.rendered}
    options.suppressions.apply(result, options.now)
    findings, remembered = _judged(result, hunts, store, options, backfill)
    reported = [finding for finding in findings if finding.reported]
    if coverages and len(reported) > options.max_reported:
        result.warnings.append(
            f"{options.max_reported} of {len(reported)} findings are reported now, the rest by the "
            "next runs"
        )
        waiting = {finding.fingerprint for finding in reported[options.max_reported :]}
        reported = reported[: options.max_reported]
        remembered = [known for known in remembered if known.reported_as not in waiting]
    result.hits = [hit for finding in findings for hit in finding.hits]
    known = {id(hit) for finding in findings if not finding.reported for hit in finding.hits}
    result.known = frozenset(n for n, hit in enumerate(result.hits) if id(hit) in known)
    result.state = _numbers(findings, result, coverages, options)
    record = RunRecord(
        options.run_id, options.now, max(options.clock(), options.now), result.verdict.value,
        dict(result.state),
    )  # fmt: skip

    try:
        store.commit(record, coverages, remembered, _messages(result, reported, sinks, options))
        result.deliveries = deliver(store, sinks, options)
    except StateError as problem:
        if not result.deliveries:
            # A finding is not kept from those who wait for it because a disk is full.
            messages = _messages(result, reported, sinks, options)
            result.deliveries = deliver_once(record, messages, sinks, options)
        raise NotKept(result, problem) from None
    return result


class NotKept(StateError):
    """The run did its work, and the state did not take it: the next run does it again."""

    def __init__(self, result: RunResult, problem: StateError) -> None:
        super().__init__(
            problem.message,
            hint="what was found is shown and was sent; the next run looks and reports again",
        )
        self.result = result


def deliver_once(
    record: RunRecord, messages: Iterable[Message], sinks: Sequence[Sink], options: JobOptions
) -> list[DeliveryLine]:
    """Send the messages of a run that no state takes."""
    with contextlib.closing(in_memory()) as store:
        store.begin(record.id, record.started)
        store.commit(record, [], [], messages)
        return deliver(store, sinks, options)


def _judged(
    result: RunResult, hunts: Mapping[str, Hunt], store: Store, options: JobOptions,
    backfill: frozenset[int],
) -> tuple[list[ReportedFinding], list[Known]]:  # fmt: skip
    found = reported_findings(result.hits, hunts)
    known = store.known([mark for finding in found for mark in finding.members])
    judged = list(judge(found, known, now=options.now, repeat_after=options.repeat_after))
    remembered = [entry for _, entries in judged for entry in entries]
    return [_shown(finding, backfill) for finding, _ in judged], remembered


def _shown(finding: ReportedFinding, backfill: frozenset[int]) -> ReportedFinding:
    """Without what a window of the backlog repeats of a hit that the current window shows."""
    members = {
        mark: tuple(hit for hit in hits if id(hit) not in backfill) or hits
        for mark, hits in finding.members.items()
    }
    return replace(finding, members=members)


def _numbers(
    findings: Sequence[ReportedFinding], result: RunResult, coverages: Sequence[Coverage],
    options: JobOptions,
) -> dict[str, Any]:  # fmt: skip
    counts = {news.value: 0 for news in FindingState}
    for finding in findings:
        counts[finding.state.value] += 1
    return {
        "run": options.run_id,
        "findings": counts,
        "suppressed": result.suppressed,
        "owed": sum(len(coverage.backlog) for coverage in coverages),
        "lost": sum(1 for line in result.ledger.lines if line.slice == "lost"),
    }


def _messages(
    result: RunResult,
    reported: Sequence[ReportedFinding],
    sinks: Sequence[Sink],
    options: JobOptions,
) -> Iterator[Message]:
    """Made as they are written, since they can be many and long."""
    run_id, now = options.run_id, options.now
    hits = [hit for finding in reported for hit in finding.hits]
    shown = replace(result, hits=hits, known=frozenset())
    for sink in sinks:
        documents = (finding_document(finding, run_id=run_id, now=now) for finding in reported)
        yield from sink.messages(Report(run_id, now, documents, shown))
    if options.heartbeat:
        beat = heartbeat(options, result)
        for sink in sinks:
            yield from sink.heartbeat(beat)


def deliver(store: Store, sinks: Sequence[Sink], options: JobOptions) -> list[DeliveryLine]:
    """Send everything due to each sink; one line for each.

    A receiver that is down ends its own line only; the rest waits for the next run.
    """
    return [_serve(store, sink, options) for sink in sinks]


def _serve(store: Store, sink: Sink, options: JobOptions) -> DeliveryLine:
    due = store.pending(sink.name)
    started = options.clock()
    line = DeliveryLine(sink.name, messages=len(due))
    for pending in due:
        if options.too_late():
            line = replace(line, detail=line.detail or "out of time")
            break
        message = store.message(pending)
        attempts, waits, problem = _send(sink, message, options)
        line = replace(line, attempts=line.attempts + attempts, waits=line.waits + waits)
        if problem is None:
            store.delivered(pending, options.clock(), attempts)
            count = line.findings + len(message.findings)
            line = replace(line, delivered=line.delivered + 1, findings=count)
            continue
        store.not_delivered(pending, problem.message, attempts)
        hint = f" ({problem.hint})" if problem.hint else ""
        line = replace(line, detail=problem.message + hint)
        if problem.again:
            break
    return replace(line, elapsed=options.clock().since(started).seconds)


def _send(
    sink: Sink, message: Message, options: JobOptions
) -> tuple[int, tuple[float, ...], NotTaken | None]:
    waits: list[float] = []
    for attempt in range(1, TRIES + 1):
        try:
            sink.send(message)
        except NotTaken as problem:
            pause = problem.after if problem.after is not None else _PAUSES[min(attempt, 3) - 1]
            last = attempt == TRIES or pause > LONGEST_PAUSE or options.too_late()
            if not problem.again or last:
                return attempt, tuple(waits), problem
            waits.append(pause)
            options.sleep(pause)
        else:
            return attempt, tuple(waits), None
    raise AssertionError("unreachable")


def heartbeat(
    options: JobOptions, result: RunResult | None = None, problem: str | None = None
) -> dict[str, Any]:
    """``qakhunt.heartbeat/1`` of a run: counts, no names.

    Without a result, that of a run which could not even begin to look, with its problem.
    """
    lines = result.ledger.lines if result else []
    verdict = result.verdict if result else Verdict.FAILED
    bad = next((line.detail for line in lines if line.status.value != "complete"), None)
    return {
        "schema": HEARTBEAT_SCHEMA,
        "run": options.run_id,
        "sent_at": options.now.isoformat(),
        "next_expected": (options.now + options.every).isoformat(),
        "status": _STATUS[verdict],
        "verdict": verdict.value,
        "ledger": dict(Counter(line.status.value for line in lines)),
        "state": dict(result.state or {}) if result else {},
        "problem": problem or bad or None,
    }
