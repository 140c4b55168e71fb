"""Cases run on the embedded engine, their results judged cell by cell, failures explained."""

from __future__ import annotations

import math
import time
from contextlib import ExitStack
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Any

from qakhunt.answers.cells import to_text
from qakhunt.backends.engine.session import EngineRefused, Session
from qakhunt.core.errors import HuntError, NotAvailableError, QakhuntError
from qakhunt.hunts.render import RenderedQuery, render
from qakhunt.kql.parser import parse
from qakhunt.kql.schema import TIME_COLUMN
from qakhunt.kql.syntax import Call, Name, Named, Operator, find
from qakhunt.kql.values import Timespan, Window
from qakhunt.testing.cases import CaseError, Clock, build_tables
from qakhunt.testing.contracts import CaseEvent, Cell
from qakhunt.testing.events import EventFinder, plan_events

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from qakhunt.answers.table import Column, ResultTable
    from qakhunt.hunts.model import Hunt
    from qakhunt.testing.cases import Case, Expectation, Rows, Suite
    from qakhunt.testing.contracts import Reach


_TIMES = tuple(TIME_COLUMN.values())
_SETS = frozenset({"make_set", "make_set_if", "set_union", "set_intersect", "set_difference"})


@dataclass(frozen=True)
class Difference:
    """One thing that is not as expected; ``row`` counts expected rows from 1.

    ``expected`` holds the cells that the expected row names, ``found`` the row of
    the result that it was compared with; both may be empty.
    """

    message: str
    row: int | None = None
    cells: tuple[Cell, ...] = ()
    expected: dict[str, Any] | None = None
    found: dict[str, Any] | None = None


def sets_in(text: str) -> frozenset[str]:
    """Names of columns that an aggregation fills with a set, whose order means nothing."""
    names: set[str] = set()
    for operator in find(parse(text), Operator):
        if operator.name not in ("summarize", "extend", "project"):
            continue
        for item in operator.arguments:
            value = item.value if isinstance(item, Named) else item
            if isinstance(value, Call) and value.name in _SETS:
                argument = value.arguments[0] if value.arguments else None
                own = f"set_{argument.name}" if isinstance(argument, Name) else "set_"
                names.update(item.names if isinstance(item, Named) else [own])
    return frozenset(names)


class Comparison:
    """Compares one result with what a case expects."""

    def __init__(self, result: ResultTable, clock: Clock, sets: frozenset[str]) -> None:
        self.result, self.clock, self.sets = result, clock, sets
        self.positions = {name: i for i, name in reversed(list(enumerate(result.names)))}
        for one, other in (_TIMES, _TIMES[::-1]):
            if one in self.positions:
                self.positions.setdefault(other, self.positions[one])

    def differences(self, expect: Expectation) -> list[Difference]:
        """All differences; none where the result is as expected."""
        found: list[Difference] = []
        rows = len(self.result)
        if expect.none and rows:
            found.append(Difference(f"expected no rows, found {rows}", found=self._record(0)))
        if expect.count is not None and rows != expect.count:
            shown = self._record(0) if rows else None
            found.append(Difference(f"expected {_rows(expect.count)}, found {rows}", found=shown))
        if expect.rows is not None:
            found += self._rows(expect)
        return found

    def _rows(self, expect: Expectation) -> list[Difference]:
        wanted = expect.rows or ()
        problems = [*self._unknown_columns(wanted, exact=expect.exact)]
        if problems:
            return problems
        if expect.ordered:
            pairs = self._in_order(wanted, subset=expect.subset)
        else:
            pairs = _matching(
                [[not self._cells(row, at) for at in range(len(self.result))] for row in wanted]
            )
        return self._report(wanted, pairs, subset=expect.subset)

    def _unknown_columns(
        self, wanted: Sequence[dict[str, Any]], *, exact: bool
    ) -> list[Difference]:
        found = []
        for number, row in enumerate(wanted, 1):
            for name in row:
                if name not in self.positions:
                    known = ", ".join(self.result.names)
                    found.append(
                        Difference(f"the result has no column {name!r}; it has {known}", number)
                    )
            if exact:
                named = {self.positions[name] for name in row if name in self.positions}
                missing = [n for i, n in enumerate(self.result.names) if i not in named]
                if missing:
                    words = f"'exact' needs every column: row {number} lacks {', '.join(missing)}"
                    found.append(Difference(words, number))
        return found

    def _in_order(self, wanted: Sequence[dict[str, Any]], *, subset: bool) -> list[int | None]:
        if not subset:
            return [
                at if at < len(self.result) and not self._cells(row, at) else None
                for at, row in enumerate(wanted)
            ]
        pairs: list[int | None] = []
        at = 0
        for row in wanted:
            hit = next((i for i in range(at, len(self.result)) if not self._cells(row, i)), None)
            pairs.append(hit)
            at = at if hit is None else hit + 1
        return pairs

    def _report(
        self, wanted: Sequence[dict[str, Any]], pairs: Sequence[int | None], *, subset: bool
    ) -> list[Difference]:
        taken = {at for at in pairs if at is not None}
        free = [at for at in range(len(self.result)) if at not in taken]
        found = []
        for number, (row, at) in enumerate(zip(wanted, pairs, strict=True), 1):
            if at is not None:
                continue
            nearest = min(free, key=lambda i: len(self._cells(row, i)), default=None)
            if nearest is None:
                found.append(Difference(f"row {number} is missing", number, expected=row))
                continue
            if not subset:
                free.remove(nearest)
            cells = tuple(self._cells(row, nearest))
            words = f"row {number} differs in {len(cells)} {'cell' if len(cells) == 1 else 'cells'}"
            if not cells:
                words = f"row {number} stands in another place of the order"
            found.append(Difference(words, number, cells, row, self._record(nearest)))
        if not subset:
            found += [Difference("a row too many", found=self._record(at)) for at in free]
        return found

    def _cells(self, wanted: dict[str, Any], at: int) -> list[Cell]:
        row = self.result.rows[at]
        found = []
        for name, value in wanted.items():
            position = self.positions[name]
            column = self.result.columns[position]
            try:
                is_equal = self._equal(value, row[position], column)
            except (ValueError, TypeError):
                is_equal = False
            if not is_equal:
                found.append(Cell(name, _plain(value), _plain(row[position])))
        return found

    def _equal(self, wanted: Any, cell: Any, column: Column) -> bool:
        if wanted is None or wanted == "":
            return cell is None or cell == ""
        if cell is None:
            return False
        kind = column.kql_type
        if kind == "datetime":
            moment = self.clock.moment(str(wanted))
            return bool(moment.floor_microsecond() == cell.floor_microsecond())
        if kind == "timespan":
            return bool(Timespan.parse(str(wanted)) == cell)
        if kind == "real":
            return math.isclose(float(wanted), cell, rel_tol=1e-9, abs_tol=1e-12)
        if kind == "decimal":
            return bool(Decimal(str(wanted)) == cell)
        if kind == "dynamic" and column.name in self.sets and isinstance(wanted, list):
            return isinstance(cell, list) and _same_members(wanted, cell)
        if isinstance(wanted, bool) is not isinstance(cell, bool):
            return False
        return bool(wanted == cell)

    def _record(self, at: int) -> dict[str, Any]:
        return dict(zip(self.result.names, self.result.rows[at], strict=True))


def _same_members(wanted: list[Any], cell: list[Any]) -> bool:
    rest = list(cell)
    for value in wanted:
        if value not in rest:
            return False
        rest.remove(value)
    return not rest


def _matching(fits: Sequence[Sequence[bool]]) -> list[int | None]:
    """Each expected row's result row, as many pairs as can be (augmenting paths)."""
    owner: dict[int, int] = {}

    def place(row: int, seen: set[int]) -> bool:
        for at, fit in enumerate(fits[row]):
            if fit and at not in seen:
                seen.add(at)
                if at not in owner or place(owner[at], seen):
                    owner[at] = row
                    return True
        return False

    for row in range(len(fits)):
        place(row, set())
    pairs: list[int | None] = [None] * len(fits)
    for at, row in owner.items():
        pairs[row] = at
    return pairs


def _rows(count: int) -> str:
    return f"{count} row" if count == 1 else f"{count} rows"


def _plain(value: Any) -> str:
    if value is None:
        return "null"
    return value if isinstance(value, str) and value else to_text(value) or "''"


_MARKER = "qakhunt_row"


def explain(
    session: Session,
    rendered: RenderedQuery,
    tables: Mapping[str, Rows],
    result: ResultTable,
    differences: Sequence[Difference],
) -> list[CaseEvent]:
    """Every event of the case, seen from the first difference that has a row."""
    rows: list[tuple[str, dict[str, Any]]] = []
    for table, own in sorted(tables.items()):
        session.put(table, [{**row, _MARKER: n} for n, row in enumerate(own, len(rows))])
        rows += [(table, row) for row in own]
    passed, counted = _reached(session, rendered, result, differences)
    return [
        CaseEvent(_reach(number, passed, counted), table, _time_first(row))
        for number, (table, row) in enumerate(rows)
    ]


def _reach(number: int, passed: set[int] | None, counted: set[int] | None) -> Reach:
    if passed is None:
        return "unknown"
    if counted is not None and number in counted:
        return "counted"
    return "passed" if number in passed else "filtered"


def _reached(
    session: Session,
    rendered: RenderedQuery,
    result: ResultTable,
    differences: Sequence[Difference],
) -> tuple[set[int] | None, set[int] | None]:
    """Markers that reached the aggregation, and those of the row in question."""

    def ask(text: str) -> ResultTable:
        return session.ask(text, now=rendered.now, window=rendered.window)

    try:
        plan = plan_events(rendered.text, rendered.hunt, result.names)
        prefix = plan.prefix if plan else rendered.text.rstrip().rstrip(";")
        passed = _markers(ask(f"{prefix}\n| project {_MARKER}"))
        record = next((d.found for d in differences if d.found), None)
        if record is None or plan is None or not plan.keys:
            return passed, None
        condition = EventFinder(plan, rendered.product, result, ask).condition(record)
        return passed, _markers(ask(f"{prefix}\n| where {condition}\n| project {_MARKER}"))
    except QakhuntError:
        return None, None  # the query hides the marker; the events are shown without marks


def _markers(table: ResultTable) -> set[int]:
    return {int(row[0]) for row in table.rows if row[0] is not None}


def _time_first(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**{name: row[name] for name in _TIMES if name in row}, **row}


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
    events: tuple[CaseEvent, ...] = ()
    seconds: float = 0.0


class CaseRunner(ExitStack):
    """Runs cases; ``close`` gives the engine's sessions back."""

    def __init__(self) -> None:
        super().__init__()
        self._sessions: dict[str, Session] = {}
        self._rendered: dict[tuple[Any, ...], RenderedQuery] = {}
        self._filled: dict[str, set[str]] = {}

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

    def _judge(self, case: Case, product: str) -> tuple[list[Difference], list[CaseEvent]]:
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
            self._sessions[product] = self.enter_context(Session([], product))
        return self._sessions[product]


def run_cases(cases: Iterable[Case], runner: CaseRunner) -> Iterator[CaseResult]:
    """Every case in every product that it names, in order."""
    for case in cases:
        for product in case.products:
            yield runner.run(case, product)


def run_suites(
    suites: Iterable[Suite], say: Callable[[str], None] = lambda _: None
) -> list[CaseResult]:
    """All cases of the suites; ``say`` gets what is tested now."""
    results: list[CaseResult] = []
    with CaseRunner() as runner:
        for suite in suites:
            say(f"testing {suite.hunt.name}")
            results += run_cases(suite.cases, runner)
    return results


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
