"""The plan, its execution under bounded concurrency, and the account of it.

A plan is one line per rendered hunt and target. Lines run on their backend's
threads; one line's failure never stops another's.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from qakhunt.answers.ledger import Ledger, LedgerLine, SourceRows, Status
from qakhunt.backends.base import Answer, Backend, Question, Target
from qakhunt.hunts.source_rows import probe_query, read_probe, tables_named
from qakhunt.triage.hits import Hit, hits_of
from qakhunt.triage.run_result import RunResult

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from qakhunt.answers.table import Column
    from qakhunt.hunts.render import RenderedQuery

    Progress = Callable[["PlanLine", "LedgerLine"], None]

WHOLE = "whole window"


@dataclass(frozen=True)
class PlanLine:
    """One question of the plan: a rendered hunt for one target, on one backend."""

    rendered: RenderedQuery
    backend: Backend
    target: Target


def run(plan: Sequence[PlanLine], progress: Progress | None = None) -> RunResult:
    """Ask every line of the plan and account for each.

    KeyboardInterrupt ends the run in order: what answered is kept, the rest is
    ``not_run``.
    """
    outcomes: dict[int, _Outcome] = {}
    interrupted = False
    pools = {
        id(line.backend): ThreadPoolExecutor(line.backend.concurrency, thread_name_prefix="hunt")
        for line in plan
    }
    futures: dict[Future[_Outcome], int] = {}
    try:
        for number, line in enumerate(plan):
            futures[pools[id(line.backend)].submit(_ask, line)] = number
        _gather(plan, futures, outcomes, progress)
    except KeyboardInterrupt:
        interrupted = True
        for future in futures:
            future.cancel()
        for pool in pools.values():
            pool.shutdown(wait=False, cancel_futures=True)
    finally:
        for pool in pools.values():
            pool.shutdown(wait=not interrupted, cancel_futures=interrupted)
    return _result(plan, outcomes, interrupted)


@dataclass(frozen=True)
class _Outcome:
    line: LedgerLine
    hits: list[Hit]
    columns: tuple[Column, ...] | None


def _gather(
    plan: Sequence[PlanLine],
    futures: dict[Future[_Outcome], int],
    outcomes: dict[int, _Outcome],
    progress: Progress | None,
) -> None:
    pending = set(futures)
    while pending:
        # A bounded wait, so that Ctrl-C is heard on every platform.
        done, pending = wait(pending, timeout=0.5, return_when="FIRST_COMPLETED")
        for future in done:
            number = futures[future]
            outcomes[number] = future.result()
            if progress:
                progress(plan[number], outcomes[number].line)


def _ask(line: PlanLine) -> _Outcome:
    rendered, target = line.rendered, line.target
    tables = tables_named(rendered)
    question = Question(rendered.text, rendered.window, target, tables)
    answer = line.backend.ask(question)
    entry = _ledger_line(line, answer)
    if answer.table is None:
        return _Outcome(entry, [], None)
    hits = hits_of(rendered.hunt, target, answer.table)
    if not hits and answer.status is Status.COMPLETE:
        entry = _probed(line, entry, tables)
    return _Outcome(replace(entry, rows=len(answer.table)), hits, answer.table.columns)


def _ledger_line(line: PlanLine, answer: Answer) -> LedgerLine:
    rendered = line.rendered
    detail = answer.detail
    if answer.place:
        detail = f"{rendered.locate(*answer.place)}: {detail}"
    return LedgerLine(
        hunt=rendered.hunt.name,
        profile=line.target.profile,
        tenant=line.target.tenant,
        workspace=line.target.workspace,
        slice=WHOLE,
        window=rendered.window,
        backend=line.backend.name,
        query_hash=rendered.query_hash,
        status=answer.status,
        detail=detail,
        hint=answer.hint,
        rejected=answer.rejected,
        bytes=answer.bytes,
        attempts=answer.attempts,
        waits=answer.waits,
        request_ids=answer.request_ids,
        elapsed=answer.elapsed,
    )


def _probed(line: PlanLine, entry: LedgerLine, tables: tuple[str, ...]) -> LedgerLine:
    """An empty answer is complete only where there was something to look at."""
    seen: list[SourceRows] = []
    for table in tables:
        text = probe_query(table, line.rendered.product, line.rendered.window)
        answer = line.backend.ask(Question(text, line.rendered.window, line.target, (table,)))
        entry = replace(
            entry,
            attempts=entry.attempts + answer.attempts,
            waits=entry.waits + answer.waits,
            request_ids=entry.request_ids + answer.request_ids,
            elapsed=entry.elapsed + answer.elapsed,
        )
        if answer.table is None or answer.status is not Status.COMPLETE:
            return replace(
                entry, status=Status.UNCOVERED,
                detail=f"no hits, but whether {table} has records is unknown: {answer.detail}",
            )  # fmt: skip
        found = read_probe(answer.table)
        if not found.rows:
            return replace(
                entry, status=Status.UNCOVERED, source=found,
                detail=f"{table} holds no records in the window",
                hint="check the window, the data connector and the permissions",
            )  # fmt: skip
        seen.append(found)
    if not seen:
        return replace(
            entry, status=Status.UNCOVERED, detail="the query names no table that is known",
            hint="without a source table an empty answer proves nothing",
        )  # fmt: skip
    return replace(entry, source=_least(seen))


def _least(seen: Sequence[SourceRows]) -> SourceRows:
    """The source that had the least to show."""
    return min(seen, key=lambda source: source.rows)


def _result(
    plan: Sequence[PlanLine], outcomes: dict[int, _Outcome], interrupted: bool
) -> RunResult:
    ledger, hits = Ledger(), []
    columns: dict[str, tuple[Column, ...]] = {}
    rendered: dict[str, RenderedQuery] = {}
    for number, line in enumerate(plan):
        name = line.rendered.hunt.name
        rendered.setdefault(f"{name}/{line.rendered.product}", line.rendered)
        outcome = outcomes.get(number)
        if outcome is None:
            missing = Answer(Status.NOT_RUN, detail="interrupted", attempts=0)
            ledger.lines.append(_ledger_line(line, missing))
            continue
        ledger.lines.append(outcome.line)
        hits += outcome.hits
        if outcome.columns is not None:
            columns.setdefault(name, outcome.columns)
    first = plan[0].rendered
    warnings = dict.fromkeys(text for line in plan for text in line.rendered.warnings)
    return RunResult(
        now=first.now, window=first.window, rendered=tuple(rendered.values()), ledger=ledger,
        hits=hits, columns=columns, warnings=list(warnings), interrupted=interrupted,
    )  # fmt: skip
