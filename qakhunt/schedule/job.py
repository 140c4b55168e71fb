"""One unattended run: every window that is due is asked, and what is new is reported."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from qakhunt.answers.ledger import Ledger, LedgerLine, Status
from qakhunt.hunts.render import render
from qakhunt.kql.schema import PRODUCTS
from qakhunt.kql.values import Window
from qakhunt.schedule.coverage import (
    CoverageKey,
    Due,
    Outcome,
    due,
    lookback_of,
    settle,
)
from qakhunt.schedule.delivery import NotKept, deliver_once, heartbeat, report
from qakhunt.schedule.sinks import open_sinks, sink_context
from qakhunt.schedule.state import open_state
from qakhunt.schedule.store import RunRecord
from qakhunt.schedule.store_file import in_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from qakhunt.answers.run_result import RunResult
    from qakhunt.core.errors import QakhuntError
    from qakhunt.kql.schema import Product
    from qakhunt.kql.values import Instant, Timespan
    from qakhunt.run.config import Config
    from qakhunt.run.plan import PlanLine
    from qakhunt.schedule.coverage import Coverage
    from qakhunt.schedule.delivery import JobOptions
    from qakhunt.schedule.sinks.base import Sink
    from qakhunt.schedule.store import Store

    Ask = Callable[[Sequence[PlanLine]], RunResult]


class Job:
    """One unattended run: its state, its sinks, and the one way in which it runs its plan.

    ``state`` is a file or the URL of a blob, None for a run that keeps none; ``sinks``
    are named as ``--sink`` takes them. Raises UsageError or ConfigError for a sink that
    cannot be made; close it.
    """

    def __init__(
        self, options: JobOptions, *, state: str | None, sinks: Sequence[str],
        config: Config | None = None,
    ) -> None:  # fmt: skip
        self.state = state
        self._options = options
        self._context = sink_context(config, os.environ)
        self._sinks = open_sinks(sinks, config, self._context)
        self._reported = False
        self._not_kept: NotKept | None = None

    def run(self, plan: Sequence[PlanLine], ask: Ask) -> RunResult:
        """Run the plan, keep and report what it finds."""
        job = run_once if self.state is None else run_scheduled
        with contextlib.closing(self._store()) as store:
            try:
                return job(plan, store, self._sinks, ask, self._options)
            except NotKept as problem:
                self._not_kept = problem
                return problem.result
            finally:
                self._reported = True

    def check_kept(self) -> None:
        """Raise, once the result is shown, what kept the state from taking it."""
        if self._not_kept is not None:
            raise self._not_kept

    def report_failure(self, problem: QakhuntError) -> None:
        """Send the heartbeat of a run that could not look, where one is wanted."""
        if self._reported or not self._options.heartbeat:
            return
        beat = heartbeat(self._options, problem=problem.message)
        messages = [message for sink in self._sinks for message in sink.heartbeat(beat)]
        now = self._options.now
        record = RunRecord(self._options.run_id, now, now, beat["verdict"], {})
        deliver_once(record, messages, self._sinks, self._options)

    def close(self) -> None:
        """Close the sinks' connections."""
        for sink in self._sinks:
            sink.close()

    def _store(self) -> Store:
        if self.state is None:
            return in_memory()
        return open_state(self.state, self._options.now, self._context)


@dataclass
class _Asked:
    """One plan line of the job: its key, what is due, and how it went."""

    line: PlanLine
    key: CoverageKey
    lookback: Timespan
    rule: Product
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
    result, backfill = _ask_all(asked, ask, options.now, options.out_of_time)
    result.warnings += store.warnings
    if store.backlog_unknown:
        result.ledger.lines += [_unknown(entry, store, options.now) for entry in asked]
    result.warnings += [f"the run of {run.started} came to no end" for run in unfinished]
    coverages = _settled(asked, options)
    return report(result, store, sinks, options, coverages, backfill)


def run_once(
    plan: Sequence[PlanLine], store: Store, sinks: Sequence[Sink], ask: Ask, options: JobOptions
) -> RunResult:
    """Run the plan as it is and report everything it finds; ``store`` is one in memory."""
    store.begin(options.run_id, options.now)
    result = ask(plan)
    return report(result, store, sinks, options, [])


def _asked(line: PlanLine, store: Store, options: JobOptions) -> _Asked:
    rendered, target = line.rendered, line.target
    key = CoverageKey(
        rendered.hunt_hash, rendered.product, target.tenant or target.profile,
        target.workspace or "",
    )  # fmt: skip
    lookback = lookback_of(rendered.hunt)
    coverage = replace(store.coverage(key), hunt=rendered.hunt.name)
    rule = _rule(line, options.now)
    found = due(coverage, now=options.now, lookback=lookback, rule=rule, most=options.max_backfill)
    return _Asked(line, key, lookback, rule, found)


def _rule(line: PlanLine, now: Instant) -> Product:
    """The product's rules, with the workspace's own retention where the backend knows it."""
    rule = PRODUCTS[line.rendered.product]
    oldest: Instant | None = line.backend.oldest
    return rule if oldest is None else replace(rule, retention=now.since(oldest))


def _ask_all(
    asked: Sequence[_Asked], ask: Ask, now: Instant, out_of_time: Callable[[], bool]
) -> tuple[RunResult, frozenset[int]]:
    """Own windows first, then those of the backlog, oldest first, round by round.

    Also the ``id`` of each hit that a window of the backlog gave.
    """
    result = _round([(entry, entry.due.own) for entry in asked], ask)
    backfill: set[int] = set()
    for number in range(max(len(entry.due.backfill) for entry in asked)):
        due_now = [
            (entry, entry.due.backfill[number])
            for entry in asked
            if number < len(entry.due.backfill)
        ]
        answerable = [(entry, window) for entry, window in due_now if entry.refused is None]
        if out_of_time():
            result.ledger.lines += [_too_late(entry, window) for entry, window in due_now]
            continue
        if answerable:
            more = _round(answerable, ask)
            backfill |= set(map(id, more.hits))
            result = _joined(result, more)
        result.ledger.lines += [
            _not_run(entry.refused, window) for entry, window in due_now if entry.refused
        ]
    for entry in asked:
        result.warnings += entry.due.warnings
        result.ledger.lines += [_lost(entry, window) for window in entry.due.lost]
    result.now = now
    return result, frozenset(backfill)


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


def _not_run(refused: LedgerLine, window: Window) -> LedgerLine:
    """The line of a window of the backlog that was not queried: the current one was refused."""
    return replace(
        refused, window=window, status=Status.NOT_RUN, hint="", rejected=False, rows=0,
        detail="still in the backlog: the current window was not answered either",
        bytes=0, attempts=0, waits=(), request_ids=(), elapsed=0.0, source=None,
    )  # fmt: skip


def _unknown(entry: _Asked, store: Store, now: Instant) -> LedgerLine:
    """The line of all that earlier runs may not have answered."""
    own = entry.due.own
    oldest = now - entry.rule.retention
    window = Window(oldest, own.start) if oldest < own.start else own
    line = _line(
        entry, window, "backlog", Status.UNCOVERED,
        f"{store.backlog_unknown}: what earlier runs did not answer is unknown",
    )  # fmt: skip
    hint = "'qakhunt run --window 30d' looks once at all of it"
    return replace(line, hint=hint, gaps=(window,))


def _too_late(entry: _Asked, window: Window) -> LedgerLine:
    return _line(
        entry, window, "owed", Status.NOT_RUN, "still in the backlog: the run's time was up"
    )


def _lost(entry: _Asked, window: Window) -> LedgerLine:
    days = entry.rule.retention.seconds / 86400
    return _line(
        entry, window, "lost", Status.UNCOVERED,
        f"lost: no run looked at {window} before it aged out of the {days:.0f} "
        f"days that {entry.line.rendered.product} keeps",
    )  # fmt: skip


def _line(entry: _Asked, window: Window, slice_: str, status: Status, detail: str) -> LedgerLine:
    rendered, target = entry.line.rendered, entry.line.target
    return LedgerLine(
        hunt=rendered.hunt.name, profile=target.profile, tenant=target.tenant,
        workspace=target.workspace, slice=slice_, window=window,
        backend=entry.line.backend.name, query_hash=rendered.query_hash, status=status,
        detail=detail,
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
