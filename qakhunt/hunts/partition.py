"""Whether a query can be asked device by device, and the query of one part.

Where every aggregation, join and window of a query includes the device column, no
row of its result depends on records of two devices. The same query with its sources
cut to a part of the devices then gives exactly that part of the result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qakhunt.hunts.flow import FlowReader
from qakhunt.hunts.flow_scalars import Dependent
from qakhunt.hunts.product import tables_of
from qakhunt.hunts.row_order import SortKey, final_order
from qakhunt.hunts.source_rows import DEVICE_COLUMNS
from qakhunt.kql.edits import Edit, apply
from qakhunt.kql.pipeline import statements
from qakhunt.kql.schema import columns
from qakhunt.kql.tokens import Token, tokenize

if TYPE_CHECKING:
    from collections.abc import Sequence


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
    sources: tuple[Token, ...]
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
    names = tables_of(tokens, product)
    if not names:
        raise NotPartitionable("the query names no table that is known")
    shared = [c for c in _preferred() if all(c in columns(product, name) for name in names)]
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


def _preferred() -> Sequence[str]:
    return sorted(DEVICE_COLUMNS, key="DeviceName".__ne__)


def _cut(text: str, tokens: Sequence[Token], product: str, column: str) -> Partition:
    reader = FlowReader(product, column)
    reader.read(statements(text))
    named = [t for t in tokens if t.text in tables_of(tokens, product)]
    for token in named:
        if token.start not in reader.sources:
            raise Dependent(f"how {token.text} is used there is not understood")
    at = {token.start: number for number, token in enumerate(tokens)}
    bare = frozenset(t.start for t in named if not _takes_a_filter(tokens, at[t.start]))
    return Partition(text, column, tuple(named), bare, final_order(text))


def _takes_a_filter(tokens: Sequence[Token], at: int) -> bool:
    """Whether a filter may stand directly behind the name, without brackets around both."""
    after = tokens[at + 1].text if at + 1 < len(tokens) else ""
    before = tokens[at - 1].text if at else ""
    return after in ("|", ")", ";", "") and before in ("", "(", "=", ";")
