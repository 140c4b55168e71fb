"""Do the cases notice? Each mutant of a hunt is run until a case kills it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qakhunt.core.safe_text import for_terminal
from qakhunt.testing.contracts import HuntMutants, MutantOutcome, MutateDocument
from qakhunt.testing.killers import killers
from qakhunt.testing.mutants import Mutant, mutants

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from qakhunt.testing.cases import Explained, Suite


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


def mutate(suite: Suite, say: Callable[[str], None] | None = None) -> Mutation:
    """Run every mutant of the suite's hunt; the suite's cases must pass as they are.

    ``say`` hears how far it is.
    """
    fates = []
    used: set[str] = set()
    every = mutants(suite.hunt)
    pairs = zip(every, killers(suite, every), strict=True)
    for number, (mutant, killer) in enumerate(pairs, 1):
        if say:
            say(f"{suite.hunt.name}: change {number} of {len(every)}")
        entry = _explanation(suite, mutant) if killer is None else None
        if entry is not None:
            used.add(entry.mutant)
        fates.append(Fate(mutant, killer, entry.reason if entry else None))
    idle = tuple(entry.mutant for entry in suite.survivors if entry.mutant not in used)
    return Mutation(suite, tuple(fates), idle)


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
    for fate in found.fates:
        where = f"{fate.mutant.location.from_here()}: {fate.mutant.description}"
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
    hunts = [
        HuntMutants.of(
            one, hunt=one.suite.hunt.name, mutants=[_outcome(fate) for fate in one.fates]
        )
        for one in found
    ]
    return MutateDocument("qakhunt.mutate/1", hunts).plain()


def _outcome(fate: Fate) -> MutantOutcome:
    mutant = fate.mutant
    return MutantOutcome(
        mutant.description, mutant.location.path, mutant.location.line, fate.killer, fate.explained
    )
