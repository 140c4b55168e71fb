"""Do the cases notice? Small changes to a query, each run until a case fails with it."""

from __future__ import annotations

import multiprocessing
import os
import signal
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing.util import Finalize
from typing import TYPE_CHECKING, Any

from qakhunt.core.errors import EngineError, QakhuntError
from qakhunt.core.safe_text import for_terminal
from qakhunt.hunts.model import PRODUCTS
from qakhunt.hunts.parameters import place_of, query_tokens, script_of
from qakhunt.kql.edits import Edit, apply
from qakhunt.kql.parser import parse
from qakhunt.kql.syntax import Comparison, Let, Literal, stages
from qakhunt.kql.tokens import Kind, Token, tokenize
from qakhunt.testing.case_runner import CaseRunner
from qakhunt.testing.contracts import HuntMutants, MutantOutcome, MutateDocument
from qakhunt.testing.records import ALL_TIME

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from qakhunt.core.errors import SourceLocation
    from qakhunt.hunts.model import Hunt
    from qakhunt.kql.syntax import Operator, Script
    from qakhunt.kql.values import Window
    from qakhunt.testing.cases import Case, Explained, Suite


_COMPARISONS = {
    ">": ">=", ">=": ">", "<": "<=", "<=": "<", "==": "!=", "!=": "==", "=~": "==", "!~": "!=",
    "and": "or", "or": "and",
}  # fmt: skip
_TAKE_LISTS = frozenset(["in", "in~", "has_any", "has_all"])
_LONGEST = 60


@dataclass(frozen=True)
class Mutant:
    """One change: the changed hunt, what was changed, and where.

    ``earlier`` and ``later`` are seconds by which the run's window is widened instead.
    """

    description: str
    location: SourceLocation
    hunt: Hunt
    earlier: int = 0
    later: int = 0


def mutants(hunt: Hunt) -> list[Mutant]:
    """All mutants of a hunt, in the order of its text; the window's come last."""
    found: dict[str, Mutant] = {}
    for words, edit in sorted(_edits(hunt), key=lambda pair: (pair[1].start, pair[1].end, pair[0])):
        text = apply(hunt.query, [edit])
        mutant = Mutant(words, place_of(hunt, edit.start), replace(hunt, query=text))
        found.setdefault(text, mutant)
    return [*found.values(), *_window_mutants(hunt)]


def _window_mutants(hunt: Hunt) -> list[Mutant]:
    notes = hunt.notes.window
    if notes is None:
        return []
    lets = {let.name: let for let in script_of(hunt).leading_lets}
    return [
        Mutant(words, place_of(hunt, lets[name].target.start), hunt, earlier, later)
        for name, words, earlier, later in (
            (notes.start, "the window begins a second earlier", 1, 0),
            (notes.end, "the window ends a second later", 0, 1),
        )
        if name in lets
    ]


def _edits(hunt: Hunt) -> Iterator[tuple[str, Edit]]:
    tokens = query_tokens(hunt)
    skipped = _window_spans(hunt)
    for at, token in enumerate(tokens):
        if not any(start <= token.start < end for start, end in skipped):
            yield from _token_edits(hunt.query, tokens, at)
    yield from _list_edits(parse(hunt.query))
    for statement in parse(hunt.query).statements:
        query = statement.value if isinstance(statement, Let) else statement
        for operator in stages(query)[1]:
            yield from _operator_edits(hunt.query, operator)


def _window_spans(hunt: Hunt) -> list[tuple[int, int]]:
    """Spans of the window's lets: rendering replaces them, so no case could see a change."""
    notes = hunt.notes.window
    if notes is None:
        return []
    return [
        (let.value.start, let.value.end)
        for let in script_of(hunt).leading_lets
        if let.name in (notes.start, notes.end)
    ]


def _token_edits(query: str, tokens: Sequence[Token], at: int) -> Iterator[tuple[str, Edit]]:
    token = tokens[at]
    around = _around(query, tokens, at)

    def change(new: str, end: int | None = None) -> tuple[str, Edit]:
        last = end or token.end
        return f"{query[token.start : last]} -> {new} in {around}", Edit(token.start, last, new)

    if token.text in _COMPARISONS and not _is_assignment(tokens, at):
        yield change(_COMPARISONS[token.text])
        after = tokens[at + 1] if at + 1 < len(tokens) else None
        has_case = after is not None and any(char.isalpha() for char in after.text[1:])
        if token.text in ("==", "!=") and has_case and after and after.kind is Kind.STRING:
            yield change({"==": "=~", "!=": "!~"}[token.text])
    elif token.text == "in" and token.kind is Kind.IDENTIFIER:
        folded = at + 1 < len(tokens) and tokens[at + 1].text == "~"
        yield change("in", tokens[at + 1].end) if folded else change("in~")
    elif token.kind is Kind.NUMBER and token.text.isdigit() and _is_limit(tokens, at):
        yield change(str(int(token.text) + 1))
        yield change(str(int(token.text) - 1))
    elif token.kind is Kind.TIMESPAN:
        digits = "".join(char for char in token.text if char.isdigit())
        if token.text.startswith(digits):
            yield change(f"{int(digits) + 1}{token.text[len(digits) :]}")
    elif token.kind is Kind.STRING and "(?i)" in token.text:
        new = token.text.replace("(?i)", "", 1)
        words = f"(?i) dropped in {_short(token.text)}"
        yield words, Edit(token.start, token.end, new)


def _is_limit(tokens: Sequence[Token], at: int) -> bool:
    """Whether a number is compared, counted to or a let's value, not an argument of a call."""
    before = tokens[at - 1].text if at else ""
    after = tokens[at + 1].text if at + 1 < len(tokens) else ""
    compared = {before, after} & {*_COMPARISONS, ".."} - {"and", "or"}
    is_let = before == "=" and after == ";" and at > 2 and tokens[at - 3].text == "let"
    return bool(compared) or is_let or before in ("take", "top", "limit")


def _is_assignment(tokens: Sequence[Token], at: int) -> bool:
    """``>`` after ``=`` and the like belong to other constructs."""
    return at > 0 and tokens[at - 1].text == "=" and tokens[at - 1].end == tokens[at].start


def _around(query: str, tokens: Sequence[Token], at: int) -> str:
    first, last = max(0, at - 2), min(len(tokens) - 1, at + 2)
    while first < at and tokens[first].text in ("|", ";", ","):
        first += 1
    while last > at and tokens[last].text in ("|", ";", ","):
        last -= 1
    return _short(query[tokens[first].start : tokens[last].end])


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 3] + "..."


def _list_edits(script: Script) -> Iterator[tuple[str, Edit]]:
    for node in script.walk():
        if isinstance(node, Literal) and node.type == "dynamic":
            text = node.tokens[0].text
            offset = text.index("(") + 1
            yield from _entries(tokenize(text[offset:-1]), node.start + offset)
        elif isinstance(node, Comparison) and node.positive in _TAKE_LISTS:
            yield from _entries(node.right.tokens, 0)


def _entries(tokens: Sequence[Token], base: int) -> Iterator[tuple[str, Edit]]:
    """One edit per literal of a list, with the comma that parts it from its neighbour."""
    inside = [token for token in tokens if token.text not in ("[", "]", "(", ")", ",")]
    if len(inside) < 2 or any(t.kind not in (Kind.STRING, Kind.NUMBER) for t in inside):
        return
    for at, token in enumerate(inside):
        start = inside[at - 1].end if at else token.start
        end = token.end if at else inside[at + 1].start
        yield f"entry {_short(token.text)} dropped", Edit(base + start, base + end, "")


def _operator_edits(query: str, operator: Operator) -> Iterator[tuple[str, Edit]]:
    if operator.name == "where":
        words = f"filter dropped: {_short(query[operator.start : operator.end])}"
        yield words, Edit(operator.start, operator.end, "")
    by = operator.clause("by") or () if operator.name == "summarize" else ()
    for at, item in enumerate(by if len(by) > 1 else ()):
        start = by[at - 1].end if at else item.start
        end = item.end if at else by[at + 1].start
        words = f"grouping by {_short(query[item.start : item.end])} dropped"
        yield words, Edit(start, end, "")


MOST_PROCESSES = 8
WORTH_A_PROCESS = 20
"""Mutants that take longer than a process takes to start."""


@dataclass(frozen=True)
class MutantResult:
    """A mutant and the case that killed it, or why it may live; both None: a gap."""

    mutant: Mutant
    killed_by: str | None
    explained: str | None = None

    @property
    def is_gap(self) -> bool:
        """Whether no case notices and nobody says why."""
        return self.killed_by is None and self.explained is None


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
    pairs = zip(every, killing_cases(suite, every), strict=True)
    for number, (mutant, killed_by) in enumerate(pairs, 1):
        if say:
            say(f"{suite.hunt.name}: change {number} of {len(every)}")
        entry = _explanation(suite, mutant) if killed_by is None else None
        if entry is not None:
            used.add(entry.mutant)
        results.append(MutantResult(mutant, killed_by, entry.reason if entry else None))
    idle = tuple(entry.mutant for entry in suite.survivors if entry.mutant not in used)
    return Mutation(suite, tuple(results), idle)


def killing_cases(suite: Suite, every: Sequence[Mutant]) -> Generator[str | None, None, None]:
    """The name of a case that fails with each mutant, in order; None where all pass."""
    processes = min(os.cpu_count() or 1, MOST_PROCESSES, len(every) // WORTH_A_PROCESS)
    if processes < 2:
        with CaseRunner() as runner:
            yield from map(_Judge(suite, runner).killed_by, every)
        return
    # Spawned, since the engine's threads do not survive a fork.
    pool = ProcessPoolExecutor(
        processes, multiprocessing.get_context("spawn"), _start_worker, (suite,)
    )
    try:
        yield from pool.map(_killed_by, every)
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


def _killed_by(mutant: Mutant) -> str | None:
    assert _judge is not None  # noqa: S101 - the pool starts its workers
    return _judge.killed_by(mutant)


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

    def killed_by(self, mutant: Mutant) -> str | None:
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
    killed = sum(one.killed_by is not None for one in found.results)
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
        mutant.description, place.path, place.line, result.killed_by, result.explained
    )
