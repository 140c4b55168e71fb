"""The plan, its execution under bounded concurrency, and the account of it.

A plan is one line per rendered hunt and target, asked whole or in slices. Lines run
on their backend's threads; one line's failure never stops another's.
"""

from __future__ import annotations

import queue
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from qakhunt.answers.findings import without_duplicates
from qakhunt.answers.ledger import Ledger, LedgerLine
from qakhunt.answers.run_result import RunResult
from qakhunt.backends.base import OUT_OF_TIME
from qakhunt.run.coverage_check import Probes, accounted
from qakhunt.run.line import Answered, LineRun, Outcome
from qakhunt.run.plan import PlanLine
from qakhunt.run.slicing.ways import Ways, ways_for
from qakhunt.run.workers import LISTEN, Workers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from qakhunt.answers.hits import Hit
    from qakhunt.answers.table import Column
    from qakhunt.hunts.render import RenderedQuery
    from qakhunt.run.workers import Done

    Progress = Callable[[PlanLine, LedgerLine], None]
    OnPieces = Callable[[PlanLine, int], None]

# Lines that can be finished go first, then what came of dividing, then new pieces.
_FINISH, _DIVIDED, _NEW = 0, 1, 2


def run(
    plan: Sequence[PlanLine],
    progress: Progress | None = None,
    *,
    on_pieces: OnPieces | None = None,
    deadline: float | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> RunResult:
    """Ask every line of the plan and account for each.

    ``progress`` is told of each line of the ledger as it is answered, ``on_pieces`` of
    how many more pieces a line of the plan will be asked in. KeyboardInterrupt, and
    ``deadline`` in seconds of ``clock``, end the run in order: what answered is kept,
    the rest is ``not_run``.
    """
    running = _Run(plan, progress, on_pieces)
    until = None if deadline is None else clock() + deadline
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


class _Run:
    """The state of one run; only the thread that called ``run`` touches it."""

    def __init__(
        self, plan: Sequence[PlanLine], progress: Progress | None, on_pieces: OnPieces | None
    ) -> None:
        self.plan, self.progress, self.on_pieces = plan, progress, on_pieces
        self.results: queue.SimpleQueue[Done] = queue.SimpleQueue()
        self.workers = {
            id(line.backend): Workers(line.backend.concurrency, self.results) for line in plan
        }
        ways: dict[tuple[str, str, str], Ways] = {}
        self.warnings: dict[str, None] = {}
        probes = Probes()
        self.lines = [LineRun(line, self._cut(line, ways), probes) for line in plan]
        self.outcomes: dict[int, Outcome] = {}

    @property
    def busy(self) -> bool:
        """Whether some line is not settled."""
        return len(self.outcomes) < len(self.lines)

    def _cut(self, line: PlanLine, known: dict[tuple[str, str, str], Ways]) -> Any:
        request, rendered = line.slices, line.rendered
        if request is None:
            return Ways(None, None).cut(rendered, None)[0]
        key = (rendered.text, rendered.product, request.way)
        if key not in known:
            known[key] = ways_for(rendered, request)
        cut, why_not = known[key].cut(rendered, request)
        if why_not:
            self.warnings[f"{rendered.hunt.name} cannot be sliced as asked: {why_not}"] = None
        return cut

    def start(self) -> None:
        """Hand over the first pieces of every line."""
        for number, line in enumerate(self.lines):
            self._submit(number, line.begin(), _NEW)

    def _submit(self, number: int, paths: Sequence[tuple[int, ...]], urgency: int) -> None:
        workers = self.workers[id(self.plan[number].backend)]
        if self.on_pieces:
            # What was divided is not answered itself: one piece less.
            self.on_pieces(self.plan[number], len(paths) - (urgency == _DIVIDED))
        for path in paths:
            work = partial(self.lines[number].ask, path)
            workers.submit(urgency, (number, path), work)

    def step(self, seconds: float) -> None:
        """Take the next result, waiting up to ``seconds`` for it."""
        try:
            done = self.results.get(timeout=seconds)
        except queue.Empty:
            return
        self._take(done)

    def _take(self, done: Done) -> None:
        (number, path), value, problem = done
        line = self.lines[number]
        if path is None:
            self._settle(number, value if problem is None else line.broken(problem))
            return
        answered = Answered.broken(problem) if problem is not None else value
        further = line.take(path, answered)
        if further:
            self._submit(number, further, _DIVIDED)
        elif not line.is_single and self.progress:
            self.progress(self.plan[number], line.entries[path])
        if not line.waiting:
            self.workers[id(self.plan[number].backend)].submit(_FINISH, (number, None), line.finish)

    def _settle(self, number: int, outcome: Outcome) -> None:
        self.outcomes[number] = outcome
        if self.lines[number].is_single and self.progress:
            self.progress(self.plan[number], outcome.lines[0])

    def stop(self) -> None:
        """Begin nothing more, and take what has answered by now."""
        for workers in self.workers.values():
            workers.stop()
        self.progress = None
        while True:
            try:
                self._take(self.results.get_nowait())
            except queue.Empty:
                return

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
            warnings.update(dict.fromkeys(getattr(line.backend, "warnings", ())))
        charged: set[int] = set()
        for number, line in enumerate(self.plan):
            name = line.rendered.hunt.name
            rendered.setdefault(f"{name}/{line.rendered.product}", line.rendered)
            outcome = self.outcomes.get(number) or self.lines[number].abandoned(stopped)
            # What several lines share stands with the first of the plan.
            checks = [answer for answer in outcome.checks if id(answer) not in charged]
            charged.update(map(id, checks))
            ledger.lines += [accounted(outcome.lines[0], checks), *outcome.lines[1:]]
            hits += outcome.hits
            warnings.update(dict.fromkeys(outcome.warnings))
            if outcome.columns is not None:
                columns.setdefault(name, outcome.columns)
        first = self.plan[0].rendered
        return RunResult(
            now=first.now, window=first.window, rendered=tuple(rendered.values()),
            ledger=ledger, hits=without_duplicates(hits), columns=columns, warnings=list(warnings),
            interrupted=stopped == "interrupted",
        )  # fmt: skip


__all__ = ["PlanLine", "RunResult", "run"]
