"""One scheduled run: every window that is due is asked, and what is new is told."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from qakhunt.answers.ledger import Ledger, LedgerLine, Status
from qakhunt.hunts.render import render
from qakhunt.kql.values import Window
from qakhunt.schedule.coverage import CoverageKey, Due, Outcome, due, settle
from qakhunt.schedule.lookback import LATE_DATA, LateData, lookback_of
from qakhunt.schedule.telling import tell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from qakhunt.kql.values import Instant, Timespan
    from qakhunt.runner import PlanLine
    from qakhunt.schedule.coverage import Coverage
    from qakhunt.schedule.options import JobOptions
    from qakhunt.schedule.sinks.base import Sink
    from qakhunt.schedule.store import Store
    from qakhunt.triage.run_result import RunResult

    Ask = Callable[[Sequence[PlanLine]], RunResult]


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
    reported. Raises StateError where the state cannot be read, NotKept where the
    work is done and the state did not take it.
    """
    unfinished = store.begin(options.run_id, options.now)
    asked = [_asked(line, store, options) for line in plan]
    result, made_up = _ask_all(asked, ask, options.now, options.out_of_time)
    result.warnings += store.warnings
    if store.backlog_unknown:
        result.ledger.lines += [_unknown(entry, store, options.now) for entry in asked]
    result.warnings += [f"the run of {run.started} came to no end" for run in unfinished]
    coverages = _settled(asked, options)
    return tell(result, store, sinks, options, coverages, made_up)


def run_once(
    plan: Sequence[PlanLine], store: Store, sinks: Sequence[Sink], ask: Ask, options: JobOptions
) -> RunResult:
    """Run the plan as it is and tell everything it finds; ``store`` is one in memory."""
    store.begin(options.run_id, options.now)
    result = ask(plan)
    return tell(result, store, sinks, options, [])


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


def _unknown(entry: _Asked, store: Store, now: Instant) -> LedgerLine:
    """The line of all that earlier runs may not have answered."""
    own = entry.due.own
    oldest = now - entry.rule.retention
    window = Window(oldest, own.start) if oldest < own.start else own
    line = _of(
        entry, window, "backlog", Status.UNCOVERED,
        f"{store.backlog_unknown}: what earlier runs did not answer is unknown",
    )  # fmt: skip
    hint = "'qakhunt run --window 30d' looks once at all of it"
    return replace(line, hint=hint, gaps=(window,))


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
