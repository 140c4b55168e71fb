"""Which case kills a mutant; many mutants are shared among processes."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
from multiprocessing.connection import wait
from typing import TYPE_CHECKING

from qakhunt.core.errors import EngineError, QakhuntError
from qakhunt.hunts.model import PRODUCTS
from qakhunt.testing.case_runner import CaseRunner
from qakhunt.testing.records import ALL_TIME

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from multiprocessing.connection import Connection

    from qakhunt.kql.values import Window
    from qakhunt.testing.cases import Case, Suite
    from qakhunt.testing.mutants import Mutant

MOST_PROCESSES = 8
WORTH_A_PROCESS = 20
"""Mutants that take longer than a process takes to start."""


def killers(suite: Suite, mutants: Sequence[Mutant]) -> Generator[str | None, None, None]:
    """The name of a case that fails with each mutant, in order; None where all pass."""
    processes = min(os.cpu_count() or 1, MOST_PROCESSES, len(mutants) // WORTH_A_PROCESS)
    if processes < 2:
        with CaseRunner() as runner:
            yield from map(_Judge(suite, runner).killer, mutants)
        return
    # Spawned, since the engine's threads do not survive a fork; over pipes, since a Pool
    # waits for ever for a worker that died and leaves semaphores when interrupted.
    context = multiprocessing.get_context("spawn")
    pipes: list[Connection] = []
    workers = []
    try:
        for _ in range(processes):
            mine, theirs = context.Pipe()
            worker = context.Process(target=_work, args=(suite, theirs), daemon=True)
            worker.start()
            theirs.close()
            pipes.append(mine)
            workers.append(worker)
        yield from _shared(mutants, pipes)
    except BaseException:
        for worker in workers:
            worker.terminate()
        raise
    finally:
        for pipe in pipes:
            pipe.close()
        for worker in workers:
            worker.join()


def _shared(mutants: Sequence[Mutant], pipes: Sequence[Connection]) -> Iterator[str | None]:
    """Hand each worker the next mutant when it is done with one."""
    waiting = iter(enumerate(mutants))
    found: dict[int, str | None] = {}
    for pipe, one in zip(pipes, waiting, strict=False):
        pipe.send(one)
    for number in range(len(mutants)):
        while number not in found:
            ready = wait(pipes)
            for pipe in (one for one in pipes if one in ready):
                try:
                    done, killer = pipe.recv()
                    following = next(waiting, None)
                    if following is not None:
                        pipe.send(following)
                except (EOFError, OSError):
                    raise EngineError("a process that ran the changed queries ended") from None
                found[done] = killer
        yield found.pop(number)


def _work(suite: Suite, pipe: Connection) -> None:
    """Body of a worker process: a killer for each mutant, until nobody asks."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it and ends the workers
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # so that temporary folders go
    with contextlib.suppress(EOFError, OSError), CaseRunner() as runner:
        judge = _Judge(suite, runner)
        while True:
            number, mutant = pipe.recv()
            pipe.send((number, judge.killer(mutant)))


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
