"""Cases on the embedded engine: one session a product, one rendering for many cases."""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from qakhunt.backends.engine.session import EngineRefused, Session
from qakhunt.core.errors import HuntError, NotAvailableError, QakhuntError
from qakhunt.hunts.render import RenderedQuery, render
from qakhunt.kql.values import Timespan, Window
from qakhunt.testing.case_rows import Clock, build_tables
from qakhunt.testing.cases import CaseError
from qakhunt.testing.differences import Comparison, Difference, sets_in
from qakhunt.testing.explanation import EventNote, explain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from qakhunt.answers.table import ResultTable
    from qakhunt.hunts.model import Hunt
    from qakhunt.testing.case_rows import Rows
    from qakhunt.testing.cases import Case

TIMEOUT = 60.0
"""Seconds that one case may take."""


class Outcome(str, Enum):
    """How a case ended; ``skipped`` is a product that the hunt cannot serve."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class CaseResult:
    """One case in one product; ``seconds`` is how long it took."""

    case: Case
    product: str
    outcome: Outcome
    differences: tuple[Difference, ...] = ()
    events: tuple[EventNote, ...] = ()
    seconds: float = 0.0


class CaseRunner:
    """Runs cases; ``close`` gives the engine's sessions back."""

    def __init__(self) -> None:
        self._sessions: dict[str, Session] = {}
        self._rendered: dict[tuple[Any, ...], RenderedQuery] = {}
        self._filled: dict[str, set[str]] = {}

    def __enter__(self) -> CaseRunner:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every session."""
        for session in self._sessions.values():
            session.close()
        self._sessions.clear()

    def run(self, case: Case, product: str) -> CaseResult:
        """Run one case in one product. Never raises for what the case or hunt does."""
        started = time.perf_counter()
        try:
            differences, events = self._judge(case, product)
        except NotAvailableError as problem:
            return CaseResult(
                case, product, Outcome.SKIPPED, (Difference(str(problem)),),
                seconds=time.perf_counter() - started,
            )  # fmt: skip
        outcome = Outcome.FAILED if differences else Outcome.PASSED
        return CaseResult(
            case, product, outcome, tuple(differences), tuple(events), time.perf_counter() - started
        )

    def _judge(self, case: Case, product: str) -> tuple[list[Difference], list[EventNote]]:
        expect = case.expect
        try:
            rendered = self.render(case, case.hunt, product)
            clock = Clock(case.now, rendered.window)
            tables = build_tables(case, product, clock)
            result = self.ask(rendered, tables, rendered.window)
        except CaseError as problem:
            return [Difference(problem.message)], []
        except QakhuntError as problem:
            return _judge_error(expect.error, problem), []
        if expect.error is not None:
            return [Difference(f"expected the error {expect.error!r}, but the query ran")], []
        differences = _judge_warnings(expect.warnings, (*rendered.warnings, *rendered.notes))
        sets = sets_in(rendered.text)
        differences += Comparison(result, clock, sets).differences(expect)
        if not differences:
            return [], []
        return differences, explain(self._session(product), rendered, tables, result, differences)

    def survives(
        self,
        case: Case,
        mutant: Hunt,
        product: str,
        window: Window | None,
        earlier: int = 0,
        later: int = 0,
    ) -> bool:
        """Whether the case passes with another hunt in the place of its own.

        ``window`` is what the tables show, None the rendered window only; ``earlier``
        and ``later`` widen the rendered one by seconds. Raises QakhuntError where the
        mutant cannot be rendered or run.
        """
        own = self.render(case, case.hunt, product)
        shown: str | Window = case.window
        if earlier or later:
            start = own.window.start - Timespan.parse(f"{earlier}s")
            shown = Window(start, own.window.end + Timespan.parse(f"{later}s"))
        rendered = render(
            mutant, now=case.now, product=product, parameters=case.parameters, window=shown
        )
        clock = Clock(case.now, own.window)
        result = self.ask(rendered, build_tables(case, product, clock), window or rendered.window)
        if case.expect.error is not None:
            return False
        found = Comparison(result, clock, sets_in(own.text)).differences(case.expect)
        return not found and not _judge_warnings(
            case.expect.warnings, (*rendered.warnings, *rendered.notes)
        )

    def forget(self) -> None:
        """Let go of the translations of queries that will not be asked again."""
        for session in self._sessions.values():
            session.forget()

    def render(self, case: Case, hunt: Hunt, product: str) -> RenderedQuery:
        """The hunt with the case's parameters and window; equal asks share one rendering."""
        key = (hunt.path, hunt.query, product, repr(case.parameters), case.now, case.window)
        if key not in self._rendered:
            self._rendered[key] = render(
                hunt, now=case.now, product=product, parameters=case.parameters, window=case.window
            )
        return self._rendered[key]

    def ask(self, rendered: RenderedQuery, tables: dict[str, Rows], window: Window) -> ResultTable:
        """The query's result over these tables and no other records."""
        session = self._session(rendered.product)
        filled = self._filled.setdefault(rendered.product, set())
        for table in filled - tables.keys():
            session.put(table, [])
        for table, rows in tables.items():
            session.put(table, rows)
        filled.update(tables)
        try:
            return session.ask(rendered.text, now=rendered.now, window=window, timeout=TIMEOUT)
        except EngineRefused as problem:
            place = rendered.locate(problem.line, problem.column) if problem.line else None
            raise HuntError(problem.message, location=place, hint=problem.hint) from None

    def _session(self, product: str) -> Session:
        if product not in self._sessions:
            self._sessions[product] = Session([], product)
        return self._sessions[product]


def run_cases(
    cases: Iterable[Case], runner: CaseRunner, done: Callable[[CaseResult], None] | None = None
) -> Iterator[CaseResult]:
    """Every case in every product that it names, in order."""
    for case in cases:
        for product in case.products:
            result = runner.run(case, product)
            if done:
                done(result)
            yield result


def _judge_error(expected: str | None, problem: QakhuntError) -> list[Difference]:
    if expected is not None and expected.casefold() in str(problem).casefold():
        return []
    if expected is not None:
        return [Difference(f"expected the error {expected!r}, found: {problem}")]
    if isinstance(problem, NotAvailableError):
        raise problem
    return [Difference(f"the query does not run: {problem}")]


def _judge_warnings(expected: Iterable[str], warnings: Iterable[str]) -> list[Difference]:
    said = list(warnings)
    return [
        Difference(f"expected the warning {text!r}; warnings: {'; '.join(said) or 'none'}")
        for text in expected
        if not any(text.casefold() in warning.casefold() for warning in said)
    ]
