"""One scheduled run: what is due is asked, what is new is told, all of it is kept.

The order makes it safe to stop anywhere: first everything learnt and everything to
deliver is written in one transaction, then it is delivered. Before that a crash
leaves no trace and the next run asks again; after it, nothing is forgotten.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from qakhunt.answers.ledger import Ledger, LedgerLine, Status
from qakhunt.hunts.render import render
from qakhunt.schedule.coverage import MOST_MADE_UP, CoverageKey, Due, Outcome, due, settle
from qakhunt.schedule.deliveries import deliver
from qakhunt.schedule.findings import News, finding_document, findings_of, judge
from qakhunt.schedule.heartbeat import heartbeat
from qakhunt.schedule.lookback import LATE_DATA, LateData, lookback_of
from qakhunt.schedule.sinks.base import Documents, Report
from qakhunt.schedule.store import RunRecord
from qakhunt.triage.suppressions import Suppressions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from qakhunt.hunts.model import Hunt
    from qakhunt.kql.values import Instant, Timespan, Window
    from qakhunt.runner import PlanLine
    from qakhunt.schedule.coverage import Coverage
    from qakhunt.schedule.findings import Finding, Known
    from qakhunt.schedule.sinks.base import Sink
    from qakhunt.schedule.store import Message, Store
    from qakhunt.triage.run_result import RunResult

    Ask = Callable[[Sequence[PlanLine]], RunResult]


MOST_TOLD = 2000
"""Findings that one run reports where there is a state; the next run reports the rest."""


@dataclass(frozen=True)
class JobOptions:
    """How a job behaves. ``every`` is when the next run is expected after this one.

    ``repeat_after`` is when a finding that is still there is reported again;
    ``most_made_up`` bounds the owed windows asked per hunt and workspace.
    """

    run_id: str
    now: Instant
    clock: Callable[[], Instant]
    sleep: Callable[[float], None]
    repeat_after: Timespan
    every: Timespan
    heartbeat: bool = False
    most_made_up: int = MOST_MADE_UP
    out_of_time: Callable[[], bool] = lambda: False
    most_told: int = MOST_TOLD
    suppressions: Suppressions = field(default_factory=Suppressions)


@dataclass
class _Asked:
    """One plan line of the job: its key, what is due, and how it went."""

    line: PlanLine
    key: CoverageKey
    lookback: Timespan
    rule: LateData
    due: Due
    outcomes: list[Outcome] = field(default_factory=list)
    refused: LedgerLine | None = None


def run_scheduled(
    plan: Sequence[PlanLine], store: Store, sinks: Sequence[Sink], ask: Ask, options: JobOptions
) -> RunResult:
    """Run the plan against the state: every window that is due, whatever the plan's own.

    The result has the hits of all windows; ``known`` names those that earlier runs
    reported. Raises StateError where the state cannot be read or written.
    """
    unfinished = store.begin(options.run_id, options.now)
    asked = [_asked(line, store, options) for line in plan]
    result, made_up = _ask_all(asked, ask, options.now, options.out_of_time)
    result.warnings += store.warnings
    result.warnings += [f"the run of {run.started} came to no end" for run in unfinished]
    coverages = _settled(asked, options)
    return _tell(result, store, sinks, options, coverages, made_up)


def run_once(
    plan: Sequence[PlanLine], store: Store, sinks: Sequence[Sink], ask: Ask, options: JobOptions
) -> RunResult:
    """Run the plan as it is and tell everything it finds; ``store`` is one in memory."""
    store.begin(options.run_id, options.now)
    result = ask(plan)
    return _tell(result, store, sinks, options, [])


# What is due


def _asked(line: PlanLine, store: Store, options: JobOptions) -> _Asked:
    rendered, target = line.rendered, line.target
    key = CoverageKey(
        rendered.hunt_hash, rendered.product, target.tenant or target.profile,
        target.workspace or "",
    )  # fmt: skip
    lookback = lookback_of(rendered.hunt)
    coverage = replace(store.coverage(key), hunt=rendered.hunt.name)
    rule = _rule(line, options.now)
    found = due(coverage, now=options.now, lookback=lookback, rule=rule, most=options.most_made_up)
    return _Asked(line, key, lookback, rule, found)


def _rule(line: PlanLine, now: Instant) -> LateData:
    """The product's rules, with the workspace's own retention where the backend knows it."""
    rule = LATE_DATA[line.rendered.product]
    oldest: Instant | None = getattr(line.backend, "oldest", None)
    return rule if oldest is None else replace(rule, retention=now.since(oldest))


def _ask_all(
    asked: Sequence[_Asked], ask: Ask, now: Instant, out_of_time: Callable[[], bool]
) -> tuple[RunResult, frozenset[int]]:
    """Own windows first, then the owed ones, oldest first, round by round.

    Also the ``id`` of each hit that an owed window gave.
    """
    result = _round([(entry, entry.due.own) for entry in asked], ask)
    made_up: set[int] = set()
    for number in range(max(len(entry.due.made_up) for entry in asked)):
        due_now = [
            (entry, entry.due.made_up[number]) for entry in asked if number < len(entry.due.made_up)
        ]
        answerable = [(entry, window) for entry, window in due_now if entry.refused is None]
        if out_of_time():
            result.ledger.lines += [_too_late(entry, window) for entry, window in due_now]
            continue
        if answerable:
            more = _round(answerable, ask)
            made_up |= set(map(id, more.hits))
            result = _joined(result, more)
        result.ledger.lines += [
            _not_asked(entry.refused, window) for entry, window in due_now if entry.refused
        ]
    for entry in asked:
        result.warnings += entry.due.warnings
        result.ledger.lines += [_lost(entry, window) for window in entry.due.lost]
    result.now = now
    return result, frozenset(made_up)


def _round(entries: Sequence[tuple[_Asked, Window]], ask: Ask) -> RunResult:
    """One window per line; each line's outcome follows from its ledger lines."""
    result = ask([_for_window(entry.line, window) for entry, window in entries])
    for entry, window in entries:
        lines = [line for line in result.ledger.lines if _belongs(line, entry.line)]
        bad = next((line for line in lines if line.status is not Status.COMPLETE), None)
        complete = bool(lines) and bad is None
        reason = f"{bad.status.value}: {bad.detail}" if bad else ""
        entry.outcomes.append(Outcome(window, complete, reason))
        if bad and bad.status in (Status.FAILED, Status.NOT_RUN):
            entry.refused = bad
    return result


def _for_window(line: PlanLine, window: Window) -> PlanLine:
    rendered = line.rendered
    again = render(
        rendered.hunt, now=max(rendered.now, window.end), product=rendered.product,
        parameters=rendered.parameters, window=window,
    )  # fmt: skip
    return replace(line, rendered=again)


def _belongs(line: LedgerLine, asked: PlanLine) -> bool:
    return (line.hunt, line.profile, line.tenant, line.workspace, line.backend) == (
        asked.rendered.hunt.name, asked.target.profile, asked.target.tenant,
        asked.target.workspace, asked.backend.name,
    )  # fmt: skip


def _joined(first: RunResult, more: RunResult) -> RunResult:
    return replace(
        first,
        ledger=Ledger([*first.ledger.lines, *more.ledger.lines]),
        hits=[*first.hits, *more.hits],
        columns={**more.columns, **first.columns},
        warnings=list(dict.fromkeys([*first.warnings, *more.warnings])),
        interrupted=first.interrupted or more.interrupted,
    )


def _not_asked(refused: LedgerLine, window: Window) -> LedgerLine:
    """The line of an owed window after the current one was refused: why try again now."""
    return _bare(
        refused, window, Status.NOT_RUN, "still owed: the current window was not answered either"
    )


def _too_late(entry: _Asked, window: Window) -> LedgerLine:
    return _of(entry, window, "owed", Status.NOT_RUN, "still owed: the run's time was up")


def _lost(entry: _Asked, window: Window) -> LedgerLine:
    rendered, kept = entry.line.rendered, entry.rule.retention
    return _of(
        entry, window, "lost", Status.UNCOVERED,
        f"lost: no run looked at {window} before it aged out of the {kept.seconds / 86400:.0f} "
        f"days that {rendered.product} keeps",
    )  # fmt: skip


def _of(entry: _Asked, window: Window, slice_: str, status: Status, detail: str) -> LedgerLine:
    rendered, target = entry.line.rendered, entry.line.target
    return LedgerLine(
        hunt=rendered.hunt.name, profile=target.profile, tenant=target.tenant,
        workspace=target.workspace, slice=slice_, window=window,
        backend=entry.line.backend.name, query_hash=rendered.query_hash, status=status,
        detail=detail,
    )  # fmt: skip


def _bare(line: LedgerLine, window: Window, status: Status, detail: str) -> LedgerLine:
    return replace(
        line, window=window, status=status, detail=detail, hint="", rejected=False, rows=0,
        bytes=0, attempts=0, waits=(), request_ids=(), elapsed=0.0, source=None,
    )  # fmt: skip


def _settled(asked: Iterable[_Asked], options: JobOptions) -> list[Coverage]:
    """One account per key; two profiles that reach one workspace must both be complete."""
    by_key: dict[CoverageKey, _Asked] = {}
    for entry in asked:
        first = by_key.setdefault(entry.key, entry)
        if first is not entry:
            first.outcomes = [
                one if not one.complete else other
                for one, other in zip(first.outcomes, entry.outcomes, strict=False)
            ]
    return [
        settle(
            entry.due, entry.outcomes, now=options.now, lookback=entry.lookback,
            rule=entry.rule,
        )
        for entry in by_key.values()
    ]  # fmt: skip


# What is told


def _tell(
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
    messages = _messages(result, reported, sinks, options)
    record = RunRecord(
        options.run_id, options.now, max(options.clock(), options.now), result.verdict.value,
        dict(result.state),
    )  # fmt: skip
    store.commit(record, coverages, remembered, messages)
    result.deliveries = deliver(
        store, sinks, clock=options.clock, sleep=options.sleep, out_of_time=options.out_of_time
    )
    return result


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
