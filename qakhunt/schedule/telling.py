"""What a run found, judged, kept and told.

Everything learnt and everything to deliver is written in one transaction, then it is
delivered: before that a crash leaves no trace and the next run asks again; after it,
nothing is forgotten.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from qakhunt.errors import StateError
from qakhunt.schedule.deliveries import deliver
from qakhunt.schedule.findings import News, finding_document, findings_of, judge
from qakhunt.schedule.heartbeat import heartbeat
from qakhunt.schedule.sinks.base import Documents, Report
from qakhunt.schedule.store import RunRecord
from qakhunt.schedule.store_file import in_memory

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from qakhunt.answers.ledger import DeliveryLine
    from qakhunt.hunts.model import Hunt
    from qakhunt.schedule.coverage import Coverage
    from qakhunt.schedule.findings import Finding, Known
    from qakhunt.schedule.options import JobOptions
    from qakhunt.schedule.sinks.base import Sink
    from qakhunt.schedule.store import Message, Store
    from qakhunt.triage.run_result import RunResult


def tell(
    result: RunResult, store: Store, sinks: Sequence[Sink], options: JobOptions,
    coverages: Sequence[Coverage], made_up: frozenset[int] = frozenset(),
) -> RunResult:  # fmt: skip
    """Judge the hits, keep everything in one transaction, then deliver."""
    hunts = {rendered.hunt.name: rendered.hunt for rendered in result.rendered}
    result.warnings += options.suppressions.expired(options.now)
    result.hits, result.suppressed_hits = options.suppressions.split(result.hits, options.now)
    findings, remembered = _judged(result, hunts, store, options, made_up)
    reported = [finding for finding in findings if finding.reported]
    if coverages and len(reported) > options.most_told:
        result.warnings.append(
            f"{options.most_told} of {len(reported)} findings are reported now, the rest by the "
            "next runs"
        )
        waiting = {finding.fingerprint for finding in reported[options.most_told :]}
        reported = reported[: options.most_told]
        remembered = [known for known in remembered if known.fingerprint not in waiting]
    result.hits = [hit for finding in findings for hit in finding.hits]
    result.suppressed = len(result.suppressed_hits)
    known = {id(hit) for finding in findings if not finding.reported for hit in finding.hits}
    result.known = frozenset(n for n, hit in enumerate(result.hits) if id(hit) in known)
    result.state = _numbers(findings, result, coverages, options)
    record = RunRecord(
        options.run_id, options.now, max(options.clock(), options.now), result.verdict.value,
        dict(result.state),
    )  # fmt: skip

    def told() -> Iterator[Message]:
        return _messages(result, reported, sinks, options)

    try:
        store.commit(record, coverages, remembered, told())
        result.deliveries = _delivered(store, sinks, options)
    except StateError as problem:
        if not result.deliveries:
            result.deliveries = _delivered_without_state(told(), record, sinks, options)
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


def _delivered(store: Store, sinks: Sequence[Sink], options: JobOptions) -> list[DeliveryLine]:
    return deliver(
        store, sinks, clock=options.clock, sleep=options.sleep, out_of_time=options.too_late
    )


def _delivered_without_state(
    messages: Iterable[Message], record: RunRecord, sinks: Sequence[Sink], options: JobOptions
) -> list[DeliveryLine]:
    """A finding is not kept from those who wait for it because a disk is full."""
    with contextlib.closing(in_memory()) as store:
        store.begin(record.id, record.started)
        store.commit(record, [], [], messages)
        return _delivered(store, sinks, options)


def _judged(
    result: RunResult, hunts: Mapping[str, Hunt], store: Store, options: JobOptions,
    made_up: frozenset[int],
) -> tuple[list[Finding], list[Known]]:  # fmt: skip
    found = findings_of(result.hits, hunts)
    known = store.known([finding.fingerprint for finding in found])
    judged = [
        judge(
            finding, known.get(finding.fingerprint), now=options.now,
            repeat_after=options.repeat_after,
        )
        for finding in found
    ]  # fmt: skip
    return [_shown(finding, made_up) for finding, _ in judged], [entry for _, entry in judged]


def _shown(finding: Finding, made_up: frozenset[int]) -> Finding:
    """Without what an owed window repeats of a finding that the current window shows."""
    current = tuple(hit for hit in finding.hits if id(hit) not in made_up)
    return replace(finding, hits=current or finding.hits)


def _numbers(
    findings: Sequence[Finding], result: RunResult, coverages: Sequence[Coverage],
    options: JobOptions,
) -> dict[str, Any]:  # fmt: skip
    counts = {news.value: 0 for news in News}
    for finding in findings:
        counts[finding.news.value] += 1
    return {
        "run": options.run_id,
        "findings": counts,
        "suppressed": result.suppressed,
        "owed": sum(len(coverage.owed) for coverage in coverages),
        "lost": sum(1 for line in result.ledger.lines if line.slice == "lost"),
    }


def _messages(
    result: RunResult, reported: Sequence[Finding], sinks: Sequence[Sink], options: JobOptions
) -> Iterator[Message]:
    """Made as they are written, since they can be many and long."""
    documents = Documents(
        reported, partial(finding_document, run_id=options.run_id, now=options.now)
    )
    hits = [hit for finding in reported for hit in finding.hits]
    report = Report(
        options.run_id, options.now, documents, replace(result, hits=hits, known=frozenset())
    )
    for sink in sinks:
        yield from sink.messages(report)
    if options.heartbeat:
        beat = heartbeat(
            result, run_id=options.run_id, sent_at=options.now, every=options.every,
            state=result.state or {},
        )  # fmt: skip
        for sink in sinks:
            yield from sink.heartbeat(beat)
