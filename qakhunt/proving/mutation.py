"""Do the cases notice? Each mutant of a hunt is run until a case kills it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qakhunt.errors import QakhuntError
from qakhunt.hunts.model import LOG_ANALYTICS
from qakhunt.proving.mutants import Mutant, mutants
from qakhunt.proving.records import ALL_TIME
from qakhunt.proving.shown import shown
from qakhunt.reports.safe import for_terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from qakhunt.kql.values import Window
    from qakhunt.proving.case_runner import CaseRunner
    from qakhunt.proving.cases import Case, Suite

SCHEMA = "qakhunt.mutate/1"


@dataclass(frozen=True)
class Fate:
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
    """All fates of one hunt; ``idle`` are explanations of mutants that do not survive."""

    suite: Suite
    fates: tuple[Fate, ...]
    idle: tuple[str, ...]

    @property
    def failed(self) -> bool:
        """Whether a survivor is unexplained or an explanation explains nothing."""
        return bool(self.idle) or any(fate.is_gap for fate in self.fates)


def mutate(suite: Suite, runner: CaseRunner, say: Callable[[str], None] | None = None) -> Mutation:
    """Run every mutant of the suite's hunt; the suite's cases must pass as they are.

    ``say`` hears how far it is.
    """
    pool = _Pool(suite, runner)
    reasons = {entry.mutant: entry.reason for entry in suite.survivors}
    fates = []
    every = mutants(suite.hunt)
    for number, mutant in enumerate(every, 1):
        if say:
            say(f"{suite.hunt.name}: change {number} of {len(every)}")
        killer = pool.killer(mutant)
        runner.forget()
        explained = reasons.get(mutant.description) if killer is None else None
        fates.append(Fate(mutant, killer, explained))
    used = {fate.mutant.description for fate in fates if fate.explained is not None}
    return Mutation(suite, tuple(fates), tuple(name for name in reasons if name not in used))


class _Pool:
    """Cases in the order of how many mutants they have killed."""

    def __init__(self, suite: Suite, runner: CaseRunner) -> None:
        self.runner = runner
        self.kills = dict.fromkeys(range(len(suite.cases)), 0)
        self.cases = suite.cases
        # Only the query's own filters may hold records back, or a filter on time that
        # is dropped or widened would go unnoticed.
        self.windows: dict[int, Window | None] = {
            number: ALL_TIME if self._passes_wide(case) else None
            for number, case in enumerate(suite.cases)
        }

    def _passes_wide(self, case: Case) -> bool:
        try:
            return self.runner.survives(case, case.hunt, _product(case), ALL_TIME)
        except QakhuntError:
            return False

    def killer(self, mutant: Mutant) -> str | None:
        """Name of the first case that fails with the mutant."""
        for number in sorted(self.kills, key=lambda n: -self.kills[n]):
            case = self.cases[number]
            if not self._survives(case, mutant, self.windows[number]):
                self.kills[number] += 1
                return case.name
        return None

    def _survives(self, case: Case, mutant: Mutant, window: Window | None) -> bool:
        if (mutant.earlier or mutant.later) and window is None:
            return True
        try:
            return self.runner.survives(
                case, mutant.hunt, _product(case), window, mutant.earlier, mutant.later
            )
        except QakhuntError as problem:
            expected = case.expect.error
            return expected is not None and expected.casefold() in str(problem).casefold()


def _product(case: Case) -> str:
    return LOG_ANALYTICS if LOG_ANALYTICS in case.products else case.products[0]


def mutation_lines(found: Mutation) -> list[str]:
    """Survivors with their line, then the numbers."""
    lines = []
    for fate in found.fates:
        where = f"{shown(fate.mutant.location)}: {fate.mutant.description}"
        if fate.is_gap:
            lines.append(f"SURVIVED {where}")
        elif fate.explained is not None:
            lines += [f"explained {where}", f"    {fate.explained}"]
    lines += [f"IDLE {found.suite.path}: no survivor is called {name!r}" for name in found.idle]
    killed = sum(fate.killer is not None for fate in found.fates)
    explained = sum(fate.explained is not None for fate in found.fates)
    gaps = len(found.fates) - killed - explained
    lines.append(
        f"{found.suite.hunt.name}: {len(found.fates)} mutants, {killed} killed, "
        f"{explained} explained, {gaps} survived"
    )
    return [for_terminal(line) for line in lines]


def mutation_document(found: Sequence[Mutation]) -> dict[str, Any]:
    """All fates as ``qakhunt.mutate/1``."""
    return {
        "schema": SCHEMA,
        "hunts": [
            {
                "hunt": one.suite.hunt.name,
                "mutants": [
                    {
                        "mutant": fate.mutant.description,
                        "file": fate.mutant.location.path,
                        "line": fate.mutant.location.line,
                        "killed_by": fate.killer,
                        "explained": fate.explained,
                    }
                    for fate in one.fates
                ],
                "idle": list(one.idle),
            }
            for one in found
        ],
    }
