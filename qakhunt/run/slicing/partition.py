"""Whether a query can be asked device by device, and the query of one part.

Where every aggregation, join and window of a query includes the device column, no
row of its result depends on records of two devices. The same query with its sources
cut to a part of the devices then gives exactly that part of the result.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qakhunt.answers.table import ResultTable
from qakhunt.hunts.flow import Dependent, FlowReader
from qakhunt.kql.edits import Edit, apply
from qakhunt.kql.parser import parse
from qakhunt.kql.schema import PRODUCTS, columns
from qakhunt.kql.syntax import Name, Operator, Ordered, find, stages
from qakhunt.kql.tokens import Token, tokenize
from qakhunt.kql.visitors import tables_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from qakhunt.answers.table import Row
    from qakhunt.kql.syntax import Node, Script

# What may follow a sort without moving a row or changing a value.
_KEEPS_ORDER = frozenset(
    ["where", "filter", "render", "project-reorder", "project-away", "project-keep"]
)


class NotPartitionable(ValueError):
    """Some row of the result may depend on several devices; the text says where."""


@dataclass(frozen=True)
class Part:
    """A part of all devices: those whose hash modulo ``modulus`` is ``remainder``.

    ``within`` narrows a part that came of dividing another.
    """

    modulus: int
    remainder: int
    within: str = ""

    def halves(self, column: str) -> tuple[Part, Part]:
        """Two parts that hold each device of this one exactly once.

        The second is all that is not in the first, so this stays true however the
        service's hash modulo 2n relates to its hash modulo n.
        """
        twice = self.modulus * 2
        first = Part(twice, self.remainder, self.condition(column))
        other = f"{self.condition(column)} and not({_belongs(column, twice, self.remainder)})"
        return first, _Rest(twice, self.remainder + self.modulus, other)

    def condition(self, column: str) -> str:
        """KQL that is true for records of the part."""
        own = _belongs(column, self.modulus, self.remainder)
        return f"{self.within} and {own}" if self.within else own

    def __str__(self) -> str:
        return f"devices {self.remainder + 1}/{self.modulus}"


class _Rest(Part):
    """What a first half leaves: its ``within`` says all."""

    def condition(self, column: str) -> str:
        return self.within


def _belongs(column: str, modulus: int, remainder: int) -> str:
    """Records without a device are in the first part, whatever the hash of nothing is."""
    if remainder == 0:
        return f"(hash({column}, {modulus}) == 0 or isempty({column}))"
    return f"(hash({column}, {modulus}) == {remainder} and isnotempty({column}))"


@dataclass(frozen=True)
class Partition:
    """A query that can be cut by the device in ``column``.

    ``sources`` are the places in ``text`` where a table is read, ``bare`` the starts
    of those that need brackets to take a filter; ``order`` is how the result is
    sorted, empty where it is not.
    """

    text: str
    column: str
    sources: tuple[Name, ...]
    bare: frozenset[int]
    order: tuple[SortKey, ...]

    def edits(self, part: Part) -> list[Edit]:
        """Edits of ``text`` that cut every source to the part."""
        condition = f"| where {part.condition(self.column)}"
        edits = []
        for source in self.sources:
            if source.start in self.bare:
                edits.append(Edit(source.start, source.start, "("))
                edits.append(Edit(source.end, source.end, f" {condition})"))
            else:
                edits.append(Edit(source.end, source.end, f" {condition}"))
        return edits

    def query(self, part: Part) -> str:
        """The query whose sources are cut to the part."""
        return apply(self.text, self.edits(part))


def partition_of(text: str, product: str) -> Partition:
    """How to cut the query by device. Raises NotPartitionable."""
    tokens = tokenize(text)
    names = tables_of(text, product)
    if not names:
        raise NotPartitionable("the query names no table that is known")
    shared = [c for c in _preferred(product) if all(c in columns(product, name) for name in names)]
    if not shared:
        raise NotPartitionable(f"{' and '.join(names)} share no device column")
    problem: Dependent | None = None
    for column in shared:
        try:
            return _cut(text, tokens, product, column)
        except Dependent as found:
            problem = problem or found
        except RecursionError:
            raise NotPartitionable("the query is nested too deeply") from None
    raise NotPartitionable(str(problem))


def _preferred(product: str) -> Sequence[str]:
    return sorted(PRODUCTS[product].device_columns, key="DeviceName".__ne__)


def _cut(text: str, tokens: Sequence[Token], product: str, column: str) -> Partition:
    script = parse(text)
    reader = FlowReader(product, column)
    reader.read(script)
    names = tables_of(text, product)
    for token in tokens:
        if token.text in names and not any(
            one.start <= token.start < one.end for one in reader.sources.values()
        ):
            raise Dependent(f"how {token.text} is used there is not understood")
    operands = (n for one in find(script, Operator) for n in one.arguments if isinstance(n, Name))
    bare = frozenset(node.start for node in operands) & reader.sources.keys()
    sources = tuple(reader.sources[start] for start in sorted(reader.sources))
    return Partition(text, column, sources, bare, _final_order(script))


# The order that a query gives its rows


@dataclass(frozen=True)
class SortKey:
    """One column of a ``sort by``."""

    column: str
    descending: bool
    nulls_first: bool


def _final_order(script: Script) -> tuple[SortKey, ...]:
    """How the query's result is sorted; empty where it is not, or not by plain columns."""
    operators = stages(script.query)[1] if script.query else ()
    for operator in reversed(operators):
        if operator.name in ("sort", "order"):
            return _keys(operator.clause("by") or ())
        if operator.name not in _KEEPS_ORDER:
            break
    return ()


def _keys(items: Sequence[Node]) -> tuple[SortKey, ...]:
    keys = []
    for item in items:
        words = item.words if isinstance(item, Ordered) else ()
        value = item.value if isinstance(item, Ordered) else item
        if not isinstance(value, Name):
            return ()
        descending = "asc" not in words
        nulls_first = "first" in words if "nulls" in words else not descending
        keys.append(SortKey(value.name, descending, nulls_first))
    return tuple(keys)


def in_order(table: ResultTable, order: Sequence[SortKey]) -> ResultTable:
    """The same rows, sorted; ties, and rows that nothing sorts, by all of their cells."""
    readers = [_READERS.get(column.kql_type, _same) for column in table.columns]

    def whole(row: Row) -> tuple[tuple[bool, Any], ...]:
        return tuple(
            (cell is None, "" if cell is None else read(cell))
            for read, cell in zip(readers, row, strict=True)
        )

    rows = sorted(table.rows, key=whole)
    positions = [(key, table.index(key.column)) for key in order]
    known = [(key, at) for key, at in positions if at is not None]
    for key, at in reversed(known if len(known) == len(positions) else []):
        rows = _by_column(rows, at, readers[at], key)
    return ResultTable(table.columns, rows)


def _by_column(rows: list[Row], at: int, read: Callable[[Any], Any], key: SortKey) -> list[Row]:
    nulls = [row for row in rows if row[at] is None]
    present = [row for row in rows if row[at] is not None]
    present.sort(key=lambda row: read(row[at]), reverse=key.descending)
    return nulls + present if key.nulls_first else present + nulls


def _same(cell: Any) -> Any:
    return cell


def _number(cell: Any) -> Any:
    """NaN, which is neither more nor less than anything, goes last."""
    return (cell != cell, 0.0 if cell != cell else cell)


def _json(cell: Any) -> str:
    return json.dumps(cell, ensure_ascii=False, separators=(",", ":"))


_READERS: dict[str, Callable[[Any], Any]] = {"dynamic": _json, "real": _number}
