"""The source query of a table: the records that a query can need of it, as a query of its own.

It is the table cut to a time range and to the filters that directly follow its
name (or a ``project`` of plain columns that does), as far as they use only the
table's own columns, literals, ``let`` constants and deterministic functions. The
unchanged query over the records of all its tables gives what it gives over the tables
themselves.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import msgspec

from qakhunt.kql.functions import DETERMINISTIC, OUTSIDE, UNREPEATABLE
from qakhunt.kql.literal import encode
from qakhunt.kql.parser import parse
from qakhunt.kql.schema import TIME_COLUMN, columns, tables
from qakhunt.kql.syntax import (
    Call,
    Chain,
    Comparison,
    Declaration,
    Group,
    Index,
    Interval,
    Let,
    Literal,
    Name,
    Named,
    Operator,
    Path,
    Pipeline,
    Unary,
    Unparsed,
    Wildcard,
    conjuncts,
    find,
)
from qakhunt.kql.visitors import tables_of

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from qakhunt.kql.syntax import Node, Script
    from qakhunt.kql.values import Window

    Operators = Sequence[Operator]

_FILTERS = frozenset(["where", "filter"])
_ROW_BY_ROW = _FILTERS | {"extend"}
_CHOOSES = frozenset(["project", "summarize", "distinct"])
_UNBOUNDED = frozenset(["find", "search", "evaluate", "invoke"])
_ARBITRARY = frozenset(["take", "limit", "sample", "sample-distinct"])
_SORTS = frozenset(["sort", "order", "top"])
# What reads columns without naming them, or names them in a text.
_UNNAMED = frozenset(["pack_all", "column_ifexists", "columnifexists"])


class NoSourceQuery(ValueError):
    """What the query reads cannot be known from the tables it names; the text says why."""


class SourceQuery(msgspec.Struct, frozen=True):
    """The records of one table that a query can need.

    ``condition`` is KQL, None where every record is needed; ``lets`` are the
    statements that it refers to, each with its ``;``. ``columns`` are those that the
    query reads, None where it may read all. ``time_column`` is None for a table
    without one, which no time range can cut.
    """

    table: str
    time_column: str | None
    condition: str | None = None
    lets: tuple[str, ...] = ()
    columns: tuple[str, ...] | None = None

    def query(self, window: Window) -> str:
        """KQL that fetches the records of one time range."""
        lines = [*self.lets, self.table]
        if self.time_column:
            start, end = encode(window.start, "datetime"), encode(window.end, "datetime")
            lines.append(f"| where {self.time_column} >= {start} and {self.time_column} < {end}")
        if self.condition:
            lines.append(f"| where {self.condition}")
        if self.columns:
            lines.append(f"| project {', '.join(self.columns)}")
        return "\n".join(lines) + "\n"


def source_queries(text: str, product: str) -> tuple[SourceQuery, ...]:
    """The source query of each table that the query names, in order. Raises NoSourceQuery."""
    names = tables_of(text, product)
    if not names:
        raise NoSourceQuery("the query names no table that is known")
    reader = _FilterReader(text, product)
    return tuple(reader.source_query(name) for name in names)


def conditions(text: str, product: str) -> dict[str, list[tuple[str, ...]]]:
    """For each place that reads a table: what every record it can need fulfils.

    Each condition is KQL by itself, the constants it names put in their place; those
    on the record's own time are left out. Raises NoSourceQuery.
    """
    reader = _FilterReader(text, product)
    return {name: reader.conditions(name) for name in tables_of(text, product)}


def _refuse_other_sources(script: Script, known: Collection[str]) -> None:
    if any(find(script, Unparsed)):
        raise NoSourceQuery("part of the query is not understood")
    for node in script.walk():
        if isinstance(node, Name) and node.name in known and len(node.parts) > 1:
            raise NoSourceQuery(f"[{node.name!r}] names a table in brackets")
        name = getattr(node, "name", "")
        if isinstance(node, (Call, Operator)) and name in UNREPEATABLE | OUTSIDE:
            raise NoSourceQuery(f"{name}() gives something else each time, or reads from elsewhere")
        if isinstance(node, Operator) and name in _UNBOUNDED:
            raise NoSourceQuery(
                f"the operator {name!r} reads more than the tables that the query names"
            )
        if name == "union" and any(isinstance(one, Wildcard) for one in node.children):
            raise NoSourceQuery("a union with a wildcard reads tables that the query does not name")
    for pipeline in find(script, Pipeline):
        before = ""
        for operator in pipeline.operators:
            if operator.name in _ARBITRARY and before not in _SORTS:
                raise NoSourceQuery(
                    f"{operator.name!r} without a sort before it picks records at will"
                )
            before = operator.name


class _FilterReader:
    """Reads the filters behind each table's name."""

    def __init__(self, text: str, product: str) -> None:
        self.text, self.product = text, product
        self.script = parse(text)
        _refuse_other_sources(self.script, tables(product))
        defined = Counter(let.name for let in find(self.script, Let))
        self.hidden = {one.name for one in find(self.script, Declaration)}
        self.hidden |= {name for name, count in defined.items() if count > 1}
        self.members = {id(step) for path in find(self.script, Path) for step in path.steps} | {
            id(named.target) for named in find(self.script, Named)
        }
        self.behind: dict[int, Operators] = {}
        for one in find(self.script, Pipeline):
            for number, node in enumerate((one.source, *one.operators)):
                # What comes out of a union has come out of each of its operands.
                is_union = isinstance(node, Operator) and node.name == "union"
                for source in node.children if is_union else ():
                    self.behind[id(source)] = one.operators[number:]
            self.behind[id(one.source)] = one.operators
        self.lets: dict[str, Node] = {}
        for let in self.script.lets:
            if let.value.parts and self._is_repeatable(let.value, ()):
                self.lets[let.name] = let.value

    def source_query(self, table: str) -> SourceQuery:
        own = columns(self.product, table)
        time_column = TIME_COLUMN[self.product] if TIME_COLUMN[self.product] in own else None
        places = self._places(table)
        read = self._columns_read(places, own, time_column)
        alternatives = [self._kept_filters(operators, own) for operators in places]
        if not alternatives or not all(alternatives):
            return SourceQuery(table, time_column, columns=read)
        used = [part for kept in alternatives for part in kept]
        texts = [[self._span(part) for part in kept] for kept in alternatives]
        joined = dict.fromkeys(" and ".join(f"({part})" for part in kept) for kept in texts)
        condition = "\n    or ".join(joined)
        return SourceQuery(table, time_column, condition, self._lets_for(used), read)

    def conditions(self, table: str) -> list[tuple[str, ...]]:
        """One tuple for each place that reads the table."""
        own = columns(self.product, table)
        time_column = TIME_COLUMN[self.product]
        return [
            tuple(
                self._by_itself(part)
                for part in self._kept_filters(operators, own)
                if all(one.name != time_column for one in find(part, Name))
            )
            for operators in self._places(table)
        ]

    def _places(self, table: str) -> list[Operators]:
        """For each mention of the table the operators that its records pass first."""
        return [
            self.behind.get(id(node), ())
            for node in self.script.walk()
            if isinstance(node, (Name, Call)) and node.name == table
            and id(node) not in self.members
        ]  # fmt: skip

    def _by_itself(self, node: Node) -> str:
        """The text on one line, constants instead of their names."""
        constants = {
            one.start: self.lets[one.name]
            for one in find(node, Name)
            if one.name in self.lets and id(one) not in self.members
        }
        parts: list[str] = []
        end = None
        for token in node.tokens:
            text = token.text
            value = constants.get(token.start)
            if value is not None:
                whole = self._by_itself(value)
                text = whole if len(value.tokens) == 1 else f"({whole})"
            parts.append(text if end in (None, token.start) else f" {text}")
            end = token.end
        return "".join(parts)

    def _columns_read(
        self, places: Sequence[Operators], own: Collection[str], time_column: str | None
    ) -> tuple[str, ...] | None:
        """In the table's order; its time is among them, whatever the query reads."""
        found = {time_column} if time_column else set()
        for operators in places:
            read = _columns_named(operators, own)
            if read is None:
                return None
            found |= read
        return tuple(name for name in own if name in found) or None

    def _kept_filters(self, operators: Operators, own: Collection[str]) -> list[Node]:
        """Conditions that each record must fulfil to get past the filters behind a name."""
        kept: list[Node] = []
        for operator in operators:
            listed = [one.name for one in operator.arguments if isinstance(one, Name)]
            is_choice = operator.name == "project" and len(listed) == len(operator.arguments)
            if is_choice and set(listed) <= set(own):
                own = listed
                continue
            if operator.name == "union" and not operator.option("withsource"):
                continue
            if operator.name not in _FILTERS or len(operator.arguments) != 1:
                break
            parts = conjuncts(operator.arguments[0])
            kept += [part for part in parts if self._is_repeatable(part, own)]
        return kept

    def _is_repeatable(self, node: Node, own: Collection[str]) -> bool:
        """Whether an expression is the same each time, of the record and of constants alone."""
        if isinstance(node, Literal):
            return True
        if isinstance(node, Name):
            known = (node.name in own) != (node.name in self.lets)
            return known and node.name not in self.hidden
        if isinstance(node, Path):
            keys = [step for step in node.steps if not isinstance(step, Name)]
            return self._is_repeatable(node.base, own) and all(
                isinstance(key, Index) and self._is_repeatable(key.value, own) for key in keys
            )
        if isinstance(node, Call) and node.name not in DETERMINISTIC - self.hidden:
            return False
        known = isinstance(node, (Call, Chain, Comparison, Unary, Group, Interval))
        return known and all(self._is_repeatable(child, own) for child in node.children)

    def _span(self, node: Node) -> str:
        return self.text[node.start : node.end]

    def _lets_for(self, used: Sequence[Node]) -> tuple[str, ...]:
        """The statements that the conditions need, and those that these need."""
        wanted: set[str] = set()
        waiting = list(used)
        while waiting:
            for one in find(waiting.pop(), Name):
                if one.name in self.lets and one.name not in wanted:
                    wanted.add(one.name)
                    waiting.append(self.lets[one.name])
        return tuple(
            f"let {name} = {self._span(value)};"
            for name, value in self.lets.items()
            if name in wanted
        )


def _columns_named(operators: Operators, own: Collection[str]) -> set[str] | None:
    """Own columns that the operators read up to one that names all it lets through.

    None where they may read all.
    """
    found: set[str] = set()
    for operator in operators:
        if operator.name not in _ROW_BY_ROW | _CHOOSES:
            return None
        for node in operator.walk():
            if isinstance(node, Wildcard) or (isinstance(node, Call) and node.name in _UNNAMED):
                return None
            if isinstance(node, Name) and node.name in own:
                found.add(node.name)
        if operator.name in _CHOOSES:
            return found
    return None
