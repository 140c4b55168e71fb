"""Runs a plan under bounded concurrency and accounts for all of it.

Lines run on their backend's threads, whole or in slices; what is too much for one
answer is halved. One line's failure never stops another's.
"""

from __future__ import annotations

import contextlib
import itertools
import queue
import threading
import time
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from qakhunt.answers.findings import without_duplicates
from qakhunt.answers.hits import Hit, hits_of
from qakhunt.answers.ledger import ANSWERED, Ledger, LedgerLine, Status, with_account
from qakhunt.answers.run_result import RunResult
from qakhunt.answers.table import ResultTable
from qakhunt.backends.base import LONGER, OUT_OF_TIME, Answer
from qakhunt.core.errors import QakhuntError
from qakhunt.kql.schema import PRODUCTS
from qakhunt.run import coverage_check
from qakhunt.run.slicing.strategies import (
    CannotJoinError,
    Slice,
    Sliceability,
    Unsliced,
    sliceability_for,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from qakhunt.answers.table import Column
    from qakhunt.hunts.model import Hunt
    from qakhunt.hunts.render import RenderedQuery
    from qakhunt.run.plan import PlanLine
    from qakhunt.run.slicing.strategies import SliceStrategy

    Done = tuple[Any, Any, "BaseException | None"]
    """The ticket, what the work gave, what it raised."""

Result = TypeVar("Result")
Path = tuple[int, ...]
"""Which slice: the number of a first one, then 0 or 1 for each time it was divided."""


@dataclass(frozen=True)
class RunOptions:
    """How to run a plan.

    ``progress`` gets each line of the ledger as it is answered, ``on_slices`` how many
    more slices a line of the plan will be queried in. After ``deadline`` seconds of
    ``clock`` no query starts.
    """

    progress: Callable[[PlanLine, LedgerLine], None] | None = None
    on_slices: Callable[[PlanLine, int], None] | None = None
    deadline: float | None = None
    clock: Callable[[], float] = time.monotonic


def execute(plan: Sequence[PlanLine], options: RunOptions | None = None) -> RunResult:
    """Query every line of the plan and account for each.

    KeyboardInterrupt and the deadline end the run in order: what answered is kept, the
    rest is ``not_run``.
    """
    options = options or RunOptions()
    clock, running = options.clock, _Run(plan, options)
    until = None if options.deadline is None else clock() + options.deadline
    stopped = ""
    try:
        running.start()
        while running.busy and not stopped:
            left = LISTEN if until is None else min(LISTEN, max(until - clock(), 0))
            running.step(left)
            if until is not None and running.busy and clock() >= until:
                stopped = OUT_OF_TIME
    except KeyboardInterrupt:
        stopped = "interrupted"
    finally:
        running.stop()
    try:
        return running.result(stopped)
    finally:
        running.close()


# Lines that can be finished go first, then what came of dividing, then new slices.
_FINISH, _DIVIDED, _NEW = 0, 1, 2


class _Run:
    """The state of one run; only the thread that called ``execute`` touches it."""

    def __init__(self, plan: Sequence[PlanLine], options: RunOptions) -> None:
        self.plan, self.progress, self.on_slices = plan, options.progress, options.on_slices
        self.results: queue.SimpleQueue[Done] = queue.SimpleQueue()
        self.workers = {
            id(line.backend): Workers(line.backend.concurrency, self.results) for line in plan
        }
        self.warnings: dict[str, None] = {}
        self._known: dict[tuple[str, str, str], Sliceability] = {}
        checks = coverage_check.SharedChecks()
        self.lines = [_LineRun(line, self._strategy(line), checks) for line in plan]
        self.line_results: dict[int, LineResult] = {}

    @property
    def busy(self) -> bool:
        """Whether some line is not settled."""
        return len(self.line_results) < len(self.lines)

    def _strategy(self, line: PlanLine) -> SliceStrategy:
        request, rendered = line.slices, line.rendered
        if line.strategy is not None:
            return line.strategy
        if request is None:
            return Unsliced(rendered)
        key = (rendered.text, rendered.product, request.kind)
        if key not in self._known:
            self._known[key] = sliceability_for(rendered, request)
        strategy, why_not = self._known[key].strategy(rendered, request)
        if why_not:
            self.warnings[f"{rendered.hunt.name} cannot be sliced as asked: {why_not}"] = None
        return strategy

    def start(self) -> None:
        """Hand over the first slices of every line."""
        for number, line in enumerate(self.lines):
            self._submit(number, line.begin(), _NEW)

    def _submit(self, number: int, paths: Sequence[Path], urgency: int) -> None:
        workers = self.workers[id(self.plan[number].backend)]
        if self.on_slices:
            # What was divided is not answered itself: one slice less.
            self.on_slices(self.plan[number], len(paths) - (urgency == _DIVIDED))
        for path in paths:
            work = partial(self.lines[number].ask, path)
            workers.submit(urgency, (number, path), work)

    def step(self, seconds: float) -> None:
        """Record the next result, waiting up to ``seconds`` for it."""
        with contextlib.suppress(queue.Empty):
            self._record(self.results.get(timeout=seconds))

    def _record(self, done: Done) -> None:
        (number, path), value, problem = done
        line, plan_line = self.lines[number], self.plan[number]
        if path is None:
            settled = value if problem is None else line.broken(problem)
            self.line_results[number] = settled
            if line.is_single and self.progress:
                self.progress(plan_line, settled.lines[0])
            return
        further = line.record(path, value if problem is None else SliceAnswer(_failure(problem)))
        if further:
            self._submit(number, further, _DIVIDED)
        elif not line.is_single and self.progress:
            self.progress(plan_line, line.entries[path])
        if not line.waiting:
            self.workers[id(plan_line.backend)].submit(_FINISH, (number, None), line.finish)

    def stop(self) -> None:
        """Start nothing more, and record what has answered by now."""
        for workers in self.workers.values():
            workers.stop()
        self.progress = None
        with contextlib.suppress(queue.Empty):
            while True:
                self._record(self.results.get_nowait())

    def close(self) -> None:
        """Remove temporary files."""
        for line in self.lines:
            line.close()

    def result(self, stopped: str) -> RunResult:
        """The account of the run; ``stopped`` says why some lines are not settled."""
        ledger = Ledger()
        hits: list[Hit] = []
        columns: dict[str, tuple[Column, ...]] = {}
        rendered: dict[str, RenderedQuery] = {}
        warnings = dict.fromkeys(text for line in self.plan for text in line.rendered.warnings)
        warnings.update(self.warnings)
        for line in self.plan:
            warnings.update(dict.fromkeys(line.backend.warnings))
        accounted: set[int] = set()
        for number, line in enumerate(self.plan):
            name = line.rendered.hunt.name
            rendered.setdefault(f"{name}/{line.rendered.product}", line.rendered)
            found = self.line_results.get(number) or self.lines[number].abandoned(
                stopped, columns_known=name in columns
            )
            # What several lines share stands with the first of the plan.
            checks = [answer for answer in found.checks if id(answer) not in accounted]
            accounted.update(map(id, checks))
            head, *rest = found.lines
            ledger.lines += [with_account(head, head, *checks), *rest]
            hits += found.hits
            warnings.update(dict.fromkeys(found.warnings))
            if found.columns is not None:
                columns.setdefault(name, found.columns)
        first = self.plan[0].rendered
        return RunResult(
            now=first.now, window=first.window, rendered=tuple(rendered.values()),
            ledger=ledger, hits=without_duplicates(hits), columns=columns, warnings=list(warnings),
            interrupted=stopped == "interrupted",
        )  # fmt: skip


@dataclass(frozen=True)
class LineResult:
    """The result of one line of the plan; ``checks`` are the answers to its coverage checks."""

    lines: list[LedgerLine]
    hits: list[Hit] = field(default_factory=list)
    columns: tuple[Column, ...] | None = None
    warnings: tuple[str, ...] = ()
    checks: tuple[Answer, ...] = ()


@dataclass(frozen=True)
class SliceAnswer:
    """A slice's answer without its rows, which the strategy keeps, and what it is divided into."""

    answer: Answer
    rows: int = 0
    halves: tuple[Slice, ...] = ()


def _failure(problem: BaseException) -> Answer:
    if isinstance(problem, QakhuntError):
        return Answer(Status.FAILED, detail=problem.message, hint=problem.hint or "")
    words = f"an error of qakhunt's own: {type(problem).__name__}: {problem}"
    return Answer(Status.FAILED, detail=words, hint="please report it")


class _LineRun:
    """Queries the slices of one line and joins their answers.

    ``ask`` and ``finish`` run on worker threads, all else on the run's own.
    """

    def __init__(
        self, line: PlanLine, strategy: SliceStrategy, checks: coverage_check.SharedChecks
    ) -> None:
        self._line, self._strategy, self._checks = line, strategy, checks
        self.slices: dict[Path, Slice] = {}
        self.waiting: set[Path] = set()
        self.entries: dict[Path, LedgerLine] = {}
        self._divided: dict[Path, list[tuple[Slice, Answer]]] = {}

    @property
    def is_single(self) -> bool:
        """Whether the line is one slice, whose progress is reported once it is judged."""
        return len(self.slices) == 1

    def begin(self) -> list[Path]:
        """The first slices, by their paths."""
        return [self._add((number,), one) for number, one in enumerate(self._strategy.slices())]

    def _add(self, path: Path, one: Slice) -> Path:
        self.slices[path] = one
        self.waiting.add(path)
        return path

    def ask(self, path: Path) -> SliceAnswer:
        """Query one slice; where it was too much, say what it is divided into."""
        one = self.slices[path]
        answer = self._line.backend.ask(one.question(self._line.target))
        if answer.status is Status.TRUNCATED or answer.divisible:
            halves = tuple(self._strategy.halves(one))
            if halves:
                return SliceAnswer(replace(answer, table=None), halves=halves)
        if answer.table is None:
            return SliceAnswer(answer)
        self._strategy.keep(one, answer.table)
        return SliceAnswer(replace(answer, table=None), rows=len(answer.table))

    def record(self, path: Path, answered: SliceAnswer) -> list[Path]:
        """Enter an answer in the account; what it was divided into is still to be queried."""
        self.waiting.discard(path)
        one, answer = self.slices[path], answered.answer
        divided = self._divided.pop(path, [])
        if answered.halves:
            del self.slices[path]
            added = [self._add((*path, n), half) for n, half in enumerate(answered.halves)]
            self._divided[added[0]] = [*divided, (one, answer)]
            return added
        entry = replace(self._entry(one, answer), rows=answered.rows)
        self.entries[path] = _with_divided(entry, divided)
        return []

    def _entry(self, one: Slice, answer: Answer) -> LedgerLine:
        rendered, target = self._line.rendered, self._line.target
        status, detail, hint = answer.status, answer.detail, answer.hint
        if status is Status.COMPLETE and rendered.partial:
            status, detail = Status.PARTIAL, "; ".join(filter(None, [rendered.partial, detail]))
            hint = hint or "a --window that holds all that the query looks at"
        place = one.locate(rendered, answer.place) if answer.place else None
        if place is not None:
            detail = f"{place}: {detail}"
        if answer.status is Status.TRUNCATED and self._line.slices is None and not hint:
            hint = "--slice auto asks for it in slices, where that is exact"
        return LedgerLine(
            hunt=rendered.hunt.name,
            profile=target.profile,
            tenant=target.tenant,
            workspace=target.workspace,
            slice=one.label,
            window=one.window,
            backend=self._line.backend.name,
            query_hash=one.query_hash,
            status=status,
            detail=detail,
            hint=hint,
            rejected=answer.rejected,
            bytes=answer.bytes,
            attempts=answer.attempts,
            waits=answer.waits,
            request_ids=answer.request_ids,
            elapsed=answer.elapsed,
            gaps=answer.gaps,
            notes=rendered.notes,
        )

    def finish(self) -> LineResult:
        """The line's whole result, and whether all of its window was covered."""
        found = self._joined()
        is_complete = all(line.status is Status.COMPLETE for line in found.lines)
        if self._line.strategy is not None or not is_complete:
            return found
        if found.hits and self._line.longest_gap is None:
            return found  # there was something to look at, and gaps do not count
        coverage = coverage_check.check(self._line, self._checks)
        notes = tuple(
            f"{self._line.rendered.hunt.name} on {self._line.target.label}: {note}; "
            "what happened then is not in what was looked at"
            for note in coverage.notes
        )
        lines = coverage_check.apply(coverage, found.lines)
        return replace(found, lines=lines, warnings=found.warnings + notes, checks=coverage.answers)

    def _joined(self) -> LineResult:
        lines = [self.entries[path] for path in sorted(self.entries)]
        try:
            table = self._strategy.joined()
        except CannotJoinError as problem:
            detail = f"the slices cannot be brought together: {problem}"
            return LineResult([
                replace(entry, status=Status.TRUNCATED, detail=detail) for entry in lines
            ])  # fmt: skip
        if table is None:
            return LineResult(lines)
        missing = _columns_missing(self._line.rendered.hunt, table)
        if missing:
            detail = f"the answer lacks {missing}, which the hunt's result has"
            lines = [_unless_worse(entry, detail) for entry in lines]
        hits = hits_of(self._line.rendered.hunt, self._line.target, self._filled(table))
        warnings = self._incomplete_slices(lines) if hits else ()
        return LineResult(lines, hits, table.columns, warnings)

    def _incomplete_slices(self, lines: list[LedgerLine]) -> tuple[str, ...]:
        missing = sum(line.status is not Status.COMPLETE for line in lines)
        if not missing or len(lines) == 1:
            return ()
        return (
            f"{self._line.rendered.hunt.name} on {self._line.target.label}: {missing} of "
            f"{len(lines)} slices did not answer completely; its hits are those of the "
            "rest, and their numbers may be too low",
        )

    def _filled(self, table: ResultTable) -> ResultTable:
        """Where records name no workspace, the empty TenantId that hunts carry is filled here."""
        is_known = PRODUCTS[self._line.rendered.product].workspace_column is not None
        position = table.index("TenantId")
        value = self._line.target.workspace or self._line.target.tenant
        if is_known or position is None or not value:
            return table
        rows = [
            row if row[position] else (*row[:position], value, *row[position + 1 :])
            for row in table.rows
        ]
        return ResultTable(table.columns, rows)

    def abandoned(self, why: str, *, columns_known: bool) -> LineResult:
        """The line as it stands when the run ends before it did.

        Slices without a row are brought together for their columns alone: with many
        tenants, Ctrl-C would take minutes.
        """
        answered = any(entry.status in ANSWERED for entry in self.entries.values())
        for path in self.waiting | (set() if self.slices else set(self.begin())):
            hint = LONGER if why == OUT_OF_TIME else ""
            missing = Answer(Status.NOT_RUN, detail=why, hint=hint, attempts=0)
            entry = self._entry(self.slices[path], missing)
            self.entries[path] = _with_divided(entry, self._divided.get(path, []))
        found = LineResult([self.entries[path] for path in sorted(self.entries)])
        if answered and not (columns_known and not any(line.rows for line in found.lines)):
            found = self._joined()
        if self._line.strategy is None and all(e.status is Status.COMPLETE for e in found.lines):
            words = f"{why} before it was known whether there was anything to look at"
            unknown = [replace(e, status=Status.UNCOVERED, detail=words) for e in found.lines]
            return replace(found, lines=unknown)
        return found

    def broken(self, problem: BaseException) -> LineResult:
        """The line when putting it together failed."""
        answer = _failure(problem)
        entries = [self.entries[path] for path in sorted(self.entries)]
        return LineResult([
            replace(entry, status=Status.FAILED, detail=answer.detail, hint=answer.hint)
            for entry in entries
        ])  # fmt: skip

    def close(self) -> None:
        """Remove temporary files."""
        self._strategy.close()


def _columns_missing(hunt: Hunt, table: ResultTable) -> str:
    """The columns of the hunt's result mapping that an answer does not have, in words."""
    names = {*table.names}
    if "Timestamp" in names:
        names.add("TimeGenerated")
    wanted = msgspec.structs.asdict(hunt.notes.result).values()
    return ", ".join(dict.fromkeys(name for name in wanted if name and name not in names))


def _unless_worse(entry: LedgerLine, detail: str) -> LedgerLine:
    """The entry as partial, unless it is not complete anyway."""
    if entry.status is not Status.COMPLETE:
        return entry
    hint = "is this the answer to the hunt's own query?"
    return replace(entry, status=Status.PARTIAL, detail=detail, hint=hint)


def _with_divided(entry: LedgerLine, divided: list[tuple[Slice, Answer]]) -> LedgerLine:
    """The account of slices that were divided stands with their first part."""
    for one, answer in reversed(divided):
        why = answer.detail or "too much for one answer"
        detail = "; ".join(filter(None, [entry.detail, f"divided from {one.label}: {why}"]))
        entry = with_account(entry, answer, entry)
        entry = replace(entry, detail=detail, bytes=answer.bytes + entry.bytes)
    return entry


# Threads

LISTEN = 0.5
"""Seconds of a bounded wait, so that Ctrl-C is heard on every platform."""


class Workers:
    """At most ``count`` threads; what each work gives is put on ``results`` with its ticket.

    The threads are daemons: a call that hangs in a service's time-out does not keep
    an interrupted program alive.
    """

    def __init__(self, count: int, results: queue.SimpleQueue[Done]) -> None:
        self._count, self._results = count, results
        self._waiting: queue.PriorityQueue[tuple[int, int, Any, Callable[[], Any]]] = (
            queue.PriorityQueue()
        )
        self._numbers = itertools.count()
        self._threads: list[threading.Thread] = []
        self._stopped = threading.Event()

    def submit(self, urgency: int, ticket: Any, work: Callable[[], Any]) -> None:
        """Do ``work`` before all that waits with a higher number, else in order."""
        self._waiting.put((urgency, next(self._numbers), ticket, work))
        if len(self._threads) < self._count:
            thread = threading.Thread(target=self._work, name="qakhunt-worker", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """Begin nothing more; what runs is left to end by itself."""
        self._stopped.set()
        for _ in self._threads:
            self._waiting.put((-1, next(self._numbers), None, lambda: None))

    def _work(self) -> None:
        while True:
            _, _, ticket, work = self._waiting.get()
            if self._stopped.is_set():
                return
            try:
                result: Done = (ticket, work(), None)
            except BaseException as problem:
                result = (ticket, None, problem)
            self._results.put(result)


def in_order(count: int, works: Sequence[Callable[[], Result]]) -> Iterator[Result]:
    """What each work gives, in their order, from ``count`` threads; raises what one raised.

    Ctrl-C is heard in between and leaves what is under way to end by itself.
    """
    results: queue.SimpleQueue[Done] = queue.SimpleQueue()
    workers = Workers(count, results)
    for number, work in enumerate(works):
        workers.submit(0, number, work)
    ended: dict[int, tuple[Any, BaseException | None]] = {}
    try:
        for number in range(len(works)):
            while number not in ended:
                with contextlib.suppress(queue.Empty):
                    which, result, problem = results.get(timeout=LISTEN)
                    ended[which] = result, problem
            result, problem = ended.pop(number)
            if problem is not None:
                raise problem
            yield result
    finally:
        workers.stop()
