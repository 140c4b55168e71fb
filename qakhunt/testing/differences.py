"""What a result should be against what it is, cell by cell."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from qakhunt.answers.cells import to_text
from qakhunt.kql.parser import parse
from qakhunt.kql.schema import TIME_COLUMN
from qakhunt.kql.syntax import Call, Name, Named, Operator, find
from qakhunt.kql.values import Timespan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qakhunt.answers.table import Column, ResultTable
    from qakhunt.testing.case_rows import Clock
    from qakhunt.testing.cases import Expectation

_TIMES = tuple(TIME_COLUMN.values())
_SETS = frozenset({"make_set", "make_set_if", "set_union", "set_intersect", "set_difference"})


@dataclass(frozen=True)
class CellDifference:
    """One cell as text: what was expected and what came."""

    column: str
    expected: str
    found: str


@dataclass(frozen=True)
class Difference:
    """One thing that is not as expected; ``row`` counts expected rows from 1.

    ``expected`` holds the cells that the expected row names, ``found`` the row of
    the result that it was compared with; both may be empty.
    """

    message: str
    row: int | None = None
    cells: tuple[CellDifference, ...] = ()
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

    def _cells(self, wanted: dict[str, Any], at: int) -> list[CellDifference]:
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
                found.append(CellDifference(name, _plain(value), _plain(row[position])))
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
