"""The mutation runner: each mutant of a hunt is run until a case kills it."""

from __future__ import annotations

import multiprocessing
import os
import signal
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.util import Finalize
from typing import TYPE_CHECKING, Any

from qakhunt.core.errors import EngineError, QakhuntError
from qakhunt.core.safe_text import for_terminal
from qakhunt.hunts.model import PRODUCTS
from qakhunt.testing.case_runner import CaseRunner
from qakhunt.testing.contracts import HuntMutants, MutantOutcome, MutateDocument
from qakhunt.testing.mutants import Mutant, mutants
from qakhunt.testing.records import ALL_TIME

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from qakhunt.kql.values import Window
    from qakhunt.testing.cases import Case, Explained, Suite

MOST_PROCESSES = 8
WORTH_A_PROCESS = 20
"""Mutants that take longer than a process takes to start."""


@dataclass(frozen=True)
class MutantResult:
    """A mutant and the case that killed it, or why it may live; both None: a gap."""

    mutant: Mutant
    killer: str | None
    explained: str | None = None

    @property
    def is_gap(self) -> bool:
        """Whether no case notices and nobody says why."""
        return self.killer is None and self.explained is None


@dataclass(frozen=True)
class Mutation:
    """The results of one hunt; ``idle`` are explanations of mutants that do not survive."""

    suite: Suite
    results: tuple[MutantResult, ...]
    idle: tuple[str, ...]

    @property
    def failed(self) -> bool:
        """Whether a survivor is unexplained or an explanation explains nothing."""
        return bool(self.idle) or any(one.is_gap for one in self.results)


def mutate(suite: Suite, say: Callable[[str], None] | None = None) -> Mutation:
    """Run every mutant of the suite's hunt; the suite's cases must pass as they are.

    ``say`` hears how far it is.
    """
    results = []
    used: set[str] = set()
    every = mutants(suite.hunt)
    pairs = zip(every, killers(suite, every), strict=True)
    for number, (mutant, killer) in enumerate(pairs, 1):
        if say:
            say(f"{suite.hunt.name}: change {number} of {len(every)}")
        entry = _explanation(suite, mutant) if killer is None else None
        if entry is not None:
            used.add(entry.mutant)
        results.append(MutantResult(mutant, killer, entry.reason if entry else None))
    idle = tuple(entry.mutant for entry in suite.survivors if entry.mutant not in used)
    return Mutation(suite, tuple(results), idle)


def killers(suite: Suite, every: Sequence[Mutant]) -> Generator[str | None, None, None]:
    """The name of a case that fails with each mutant, in order; None where all pass."""
    processes = min(os.cpu_count() or 1, MOST_PROCESSES, len(every) // WORTH_A_PROCESS)
    if processes < 2:
        with CaseRunner() as runner:
            yield from map(_Judge(suite, runner).killer, every)
        return
    # Spawned, since the engine's threads do not survive a fork.
    pool = ProcessPoolExecutor(
        processes, multiprocessing.get_context("spawn"), _start_worker, (suite,)
    )
    try:
        yield from pool.map(_killer, every)
    except BrokenProcessPool:
        raise EngineError("a process that ran the changed queries ended") from None
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker(suite: Suite) -> None:
    """Begin a worker process; its engine and temporary folders go when it ends."""
    global _judge
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it and ends the workers
    runner = CaseRunner()
    Finalize(None, runner.close, exitpriority=1)
    _judge = _Judge(suite, runner)


def _killer(mutant: Mutant) -> str | None:
    assert _judge is not None  # noqa: S101 - the pool starts its workers
    return _judge.killer(mutant)


class _Judge:
    """Tries the cases in the order of how many mutants they have killed."""

    def __init__(self, suite: Suite, runner: CaseRunner) -> None:
        self._runner = runner
        self._cases = suite.cases
        # A case that fails by itself, or cannot run, says nothing of a mutant.
        self._kills = {n: 0 for n, case in enumerate(suite.cases) if self._passes(case, None)}
        # Only the query's own filters may hold records back, or a filter on time that
        # is dropped or widened would go unnoticed.
        self._windows: dict[int, Window | None] = {
            number: ALL_TIME if self._passes(suite.cases[number], ALL_TIME) else None
            for number in self._kills
        }

    def _passes(self, case: Case, window: Window | None) -> bool:
        try:
            return self._runner.survives(case, case.hunt, _product(case), window)
        except QakhuntError as problem:
            return _is_expected(case, problem)

    def killer(self, mutant: Mutant) -> str | None:
        """Name of the first case that fails with the mutant."""
        try:
            for number in sorted(self._kills, key=lambda n: -self._kills[n]):
                case = self._cases[number]
                if not self._survives(case, mutant, self._windows[number]):
                    self._kills[number] += 1
                    return case.name
            return None
        finally:
            self._runner.forget()

    def _survives(self, case: Case, mutant: Mutant, window: Window | None) -> bool:
        if (mutant.earlier or mutant.later) and window is None:
            return True
        try:
            return self._runner.survives(
                case, mutant.hunt, _product(case), window, mutant.earlier, mutant.later
            )
        except QakhuntError as problem:
            return _is_expected(case, problem)


def _is_expected(case: Case, problem: QakhuntError) -> bool:
    expected = case.expect.error
    return expected is not None and expected.casefold() in str(problem).casefold()


def _product(case: Case) -> str:
    return next(name for name in PRODUCTS if name in case.products)


_judge: _Judge | None = None


def _explanation(suite: Suite, mutant: Mutant) -> Explained | None:
    """The entry that names the mutant; one that ends in ``*`` names all that begin so."""
    for entry in suite.survivors:
        begins = entry.mutant.endswith("*") and mutant.description.startswith(entry.mutant[:-1])
        if begins or entry.mutant == mutant.description:
            return entry
    return None


def mutation_lines(found: Mutation) -> list[str]:
    """Survivors with their line, then the numbers."""
    lines = []
    for one in found.results:
        where = f"{one.mutant.location.from_here()}: {one.mutant.description}"
        if one.is_gap:
            lines.append(f"SURVIVED {where}")
        elif one.explained is not None:
            lines += [f"explained {where}", f"    {one.explained}"]
    lines += [f"IDLE {found.suite.path}: no survivor is called {name!r}" for name in found.idle]
    killed = sum(one.killer is not None for one in found.results)
    explained = sum(one.explained is not None for one in found.results)
    gaps = len(found.results) - killed - explained
    lines.append(
        f"{found.suite.hunt.name}: {len(found.results)} mutants, {killed} killed, "
        f"{explained} explained, {gaps} survived"
    )
    return [for_terminal(line) for line in lines]


def mutation_document(found: Sequence[Mutation]) -> dict[str, Any]:
    """All results as ``qakhunt.mutate/1``."""
    hunts = [
        HuntMutants.of(
            one, hunt=one.suite.hunt.name, mutants=[_outcome(result) for result in one.results]
        )
        for one in found
    ]
    return MutateDocument("qakhunt.mutate/1", hunts).plain()


def _outcome(result: MutantResult) -> MutantOutcome:
    mutant, place = result.mutant, result.mutant.location
    return MutantOutcome(
        mutant.description, place.path, place.line, result.killer, result.explained
    )
