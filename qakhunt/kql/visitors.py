"""What a query reads, and where: the tables in table position, names taken into account.

A ``let``, a function's parameter or an ``as`` hides a table of the same name from there
on. ``print``, ``range`` and ``datatable`` read nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from qakhunt.kql.parser import parse
from qakhunt.kql.schema import PRODUCTS, columns, tables
from qakhunt.kql.syntax import (
    Call,
    Comparison,
    Declaration,
    Directive,
    Function,
    Group,
    Let,
    Name,
    Named,
    Node,
    Operator,
    Path,
    Pipeline,
    Script,
    Unparsed,
    Wildcard,
    bare,
    find,
)
from qakhunt.kql.tokens import Kind as TokenKind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Kind = Literal[
    "table", "member", "wildcard", "function", "elsewhere", "external", "everything", "unread"
]
Place = Literal["query", "let", "subquery"]

_MOST_USES = 100
"""Sources that one name stands for, beyond which no more are counted."""
_ELSEWHERE = frozenset(["workspace", "cluster", "database", "app", "resource", "adx", "arg"])
_TABULAR_CALLS = frozenset(["materialize", "toscalar"])
_NAMED_IN_TEXT = frozenset(["table", "external_table", "materialized_view"])


@dataclass(frozen=True)
class Source:
    """One place that reads records: ``node`` spans the reference, as ``T`` or ``f('x')``.

    ``kind``: a table by its name; a member, which ``in (name)`` names and which may be a
    column as well; a wildcard of a union; a function that the query does
    not define (``_GetWatchlist``); a table ``elsewhere`` (``workspace('w').T``); external
    data; everything (``search`` without ``in``); what could not be read. ``place``: the
    query's own pipeline, the value of a let, or a subquery of an operator or expression.
    """

    node: Node
    name: str
    kind: Kind
    place: Place

    @property
    def word(self) -> str:
        """The name, or the function that reads elsewhere: ``workspace``."""
        return self.node.tokens[0].text if self.kind == "elsewhere" else self.name


def sources(script: Script) -> list[Source]:
    """Every place that reads records, in the order of the text."""
    found = _script(script, _Scope({}), "query")
    return sorted(found, key=lambda source: source.node.start)


def uses(script: Script) -> list[Source]:
    """The sources of the result, as often as it reads them: a let counts where it is used."""
    return list(_script(script, _Scope({}, {}), "query"))


@dataclass(frozen=True)
class _Scope:
    """What the query itself has named; with ``reads``, the sources of each name, too."""

    names: dict[str, Node]
    reads: dict[str, tuple[Source, ...]] | None = None

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def bind(self, name: str, node: Node, found: tuple[Source, ...] = ()) -> _Scope:
        """The scope behind a declaration of the name."""
        reads = None if self.reads is None else {**self.reads, name: found[:_MOST_USES]}
        return _Scope({**self.names, name: node}, reads)

    def used(self, name: str, *, as_value: bool = False) -> tuple[Source, ...]:
        """What using the name reads; the function that gives a mere value reads nothing."""
        found = self.reads.get(name, ()) if self.reads else ()
        if not as_value or not found:
            return found
        value = _value(self.names[name])
        return tuple(one for one in found if one.kind != "function" or one.node is not value)


def _value(node: Node) -> Node:
    """What a let's value comes to: for a function the query of its body."""
    inner = bare(node)
    return bare(inner.body.query) if isinstance(inner, Function) and inner.body.query else inner


def _script(script: Script, scope: _Scope, place: Place) -> Iterator[Source]:
    for statement in script.statements:
        if isinstance(statement, Let):
            found = tuple(_tabular(statement.value, scope, "let"))
            if scope.reads is None:
                yield from found
            scope = _marked(statement.value, scope, found)
            scope = scope.bind(statement.name, statement.value, found)
        elif not isinstance(statement, Directive):
            found = tuple(_tabular(statement, scope, place))
            yield from found
            scope = _marked(statement, scope, found)


def _marked(node: Node, scope: _Scope, found: tuple[Source, ...]) -> _Scope:
    """With the names that an ``as`` gives to what stands before it."""
    for one in node.walk():
        if isinstance(one, Operator) and one.name == "as":
            for argument in one.arguments:
                if isinstance(argument, Name):
                    scope = scope.bind(argument.name, argument, found)
    return scope


def _tabular(node: Node, scope: _Scope, place: Place) -> Iterator[Source]:
    """Sources of a node in table position."""
    if isinstance(node, Pipeline):
        found = tuple(_tabular(node.source, scope, place))
        yield from found
        scope = _marked(node, scope, found)
        for operator in node.operators:
            yield from _operator(operator, scope)
    elif isinstance(node, Operator):
        if node.name == "union":
            yield from _operands(node, scope, place)
        else:
            yield from _operator(node, scope)
    elif isinstance(node, Function):
        for one in node.parameters:
            if isinstance(one, Declaration):
                scope = scope.bind(one.name, one)
        yield from _script(node.body, scope, "let")
    elif isinstance(node, (Group, Named)):
        for inner in node.items if isinstance(node, Group) else (node.value,):
            yield from _tabular(inner, scope, place)
    elif isinstance(node, Script):
        yield from _script(node, scope, place)
    elif isinstance(node, Name):
        if node.name in scope:
            yield from scope.used(node.name)
        else:
            yield Source(node, node.name, "table", place)
    elif isinstance(node, Wildcard):
        yield Source(node, node.pattern, "wildcard", place)
    elif isinstance(node, Unparsed) and node.tokens:
        yield Source(node, node.tokens[0].text, "unread", place)
    else:
        yield from _call_or_value(node, scope, place)


def _call_or_value(node: Node, scope: _Scope, place: Place) -> Iterator[Source]:
    base = node.base if isinstance(node, Path) else node
    if isinstance(base, Call) and base.name in _ELSEWHERE:
        last = node.steps[-1] if isinstance(node, Path) else base
        name = last.pattern if isinstance(last, Wildcard) else getattr(last, "name", base.name)
        yield Source(node, str(name), "elsewhere", place)
        return
    if not isinstance(node, Call):
        yield from _inside(node, scope)
        return
    if node.name in _TABULAR_CALLS:
        for argument in node.arguments:
            yield from _tabular(argument, scope, place)
        return
    if node.name in _NAMED_IN_TEXT:
        yield Source(node, node.name, "elsewhere", place)
    elif node.name in scope:
        yield from scope.used(node.name)
    else:
        yield Source(node, node.name, "function", place)
    yield from _arguments(node, scope)


def _arguments(call: Call, scope: _Scope) -> Iterator[Source]:
    """A table where the function's parameter is one, else values."""
    function = scope.names.get(call.name)
    tabular = [
        isinstance(one, Declaration) and isinstance(one.type, Group)
        for one in (function.parameters if isinstance(function, Function) else ())
    ]
    for number, argument in enumerate(call.arguments):
        is_table = tabular[number : number + 1] == [True]
        yield from (_tabular(argument, scope, "subquery") if is_table else _inside(argument, scope))


def _operands(operator: Operator, scope: _Scope, place: Place) -> Iterator[Source]:
    for argument in operator.arguments:
        yield from _tabular(argument, scope, place)


def _operator(operator: Operator, scope: _Scope) -> Iterator[Source]:
    name = operator.name
    if name in ("externaldata", "external_data"):
        yield Source(operator, name, "external", "subquery")
    elif name in ("union", "join", "lookup"):
        yield from _operands(operator, scope, "subquery")
    elif name in ("find", "search"):
        listed = operator.clause("in")
        if listed is None and not operator.has_bar:
            yield Source(operator, name, "everything", "subquery")
        for table in listed or ():
            yield from _tabular(table, scope, "subquery")
    else:
        for argument in operator.arguments:
            yield from _inside(argument, scope)
    for clause in operator.clauses:
        is_table = name == "make-graph" and clause.keyword == "with"
        for argument in clause.arguments:
            read = _tabular(argument, scope, "subquery") if is_table else _inside(argument, scope)
            yield from read


def _inside(node: Node, scope: _Scope) -> Iterator[Source]:
    """Sources of the queries within an expression."""
    waiting = [node]
    while waiting:
        one = waiting.pop()
        base = one.base if isinstance(one, Path) else one
        reads = isinstance(base, Call) and base.name in _TABULAR_CALLS | _ELSEWHERE
        if reads or isinstance(one, (Pipeline, Operator, Script)):
            yield from _tabular(one, scope, "subquery")
        elif isinstance(one, Comparison) and one.operator.lstrip("!") in ("in", "in~"):
            waiting.append(one.left)
            yield from _members(one.right, scope)
        elif isinstance(one, Named):
            waiting.append(one.value)
        elif isinstance(one, Path):
            waiting += (step for step in reversed(one.steps) if not isinstance(step, Name))
            waiting.append(one.base)
        else:
            if isinstance(one, (Name, Call)):
                yield from scope.used(one.name, as_value=True)
            waiting += reversed(one.children)


def _members(right: Node, scope: _Scope) -> Iterator[Source]:
    """``in (...)``: one query or table, or a list of values."""
    inner = bare(right)
    if isinstance(inner, Name):
        if inner.name in scope:
            yield from scope.used(inner.name, as_value=True)
        else:
            yield Source(inner, inner.name, "member", "subquery")
    elif isinstance(inner, (Pipeline, Operator)) or (
        isinstance(inner, Call) and (inner.name.startswith("_Get") or inner.name in _TABULAR_CALLS)
    ):
        yield from _tabular(inner, scope, "subquery")
    else:
        yield from _inside(right, scope)


# What is known about the sources


_WATCHLISTS = frozenset(["_GetWatchlist", "_GetWatchlistAlias"])
_TIMED = frozenset(["table", "materialized_view"])


class Read(NamedTuple):
    """``tables`` are names, or expressions, to read records from, each once.

    ``unnamed`` are sources whose tables the query does not name, such as ``search``.
    """

    tables: tuple[str, ...]
    unnamed: tuple[str, ...]


def read_by(text: str, product: str) -> Read:
    """All that a query reads records from, those of every ``let`` included."""
    script = parse(text)
    own = {one.name for one in find(script, Let)} | {one.name for one in find(script, Declaration)}
    named = [name for name in tables_of(text, product) if name not in own]
    found = dict.fromkeys(named)
    unnamed: dict[str, None] = {}
    for source in query_sources(script, unused=True):
        if source.kind == "external" or source.word in _WATCHLISTS:
            continue
        node = source.node
        is_plain = source.kind in ("table", "member", "function", "elsewhere") and all(
            token.kind in (TokenKind.IDENTIFIER, TokenKind.STRING) or token.text in ".()[]"
            for token in node.tokens
        )
        is_own = any(token.text in own for token in node.tokens)
        kept = found if is_plain and not is_own else unnamed
        kept[text[node.start : node.end]] = None
    return Read(tuple(found), tuple(unnamed))


def query_sources(script: Script, *, unused: bool = False) -> list[Source]:
    """The sources as often as the query reads them, each once where ``unused`` lets count too.

    A column or list is no source, nor is a function that gives a mere value.
    """
    used = uses(script)
    values = {id(_value(let.value)) for let in find(script, Let)} - {id(one.node) for one in used}
    return [
        source
        for source in (sources(script) if unused else used)
        if not (source.kind == "member" and not _is_table(source.name))
        and not (source.kind == "function" and id(source.node) in values)
    ]


def tables_of(text: str, product: str) -> list[str]:
    """Known tables that the query names anywhere, in order, each once: on the safe side."""
    known, script = tables(product), parse(text)
    steps = {id(step) for path in find(script, Path) for step in path.steps}
    found: dict[str, None] = {}
    for node in script.walk():
        if isinstance(node, Name) and id(node) not in steps and node.name in known:
            found[node.name] = None
        elif isinstance(node, Unparsed):
            found.update(dict.fromkeys(t.text for t in node.tokens if t.text in known))
    return list(found)


def are_several(read: Sequence[Source]) -> bool:
    """Whether these are, or may be, more sources than one."""
    return len(read) > 1 or any(one.kind in ("wildcard", "everything", "unread") for one in read)


def is_unbounded(source: Source, product: str) -> bool:
    """Whether no window bounds it: a known table without a time, or no table at all."""
    if source.kind in ("table", "member"):
        own = columns(product, source.name)
        return bool(own) and PRODUCTS[product].time_column not in own
    elsewhere = source.kind == "elsewhere" and source.word not in _TIMED
    return elsewhere or source.kind == "external" or source.name in _WATCHLISTS


def is_unknown(source: Source, product: str) -> bool:
    """Whether the shipped schema has no such table: a custom one, a function, or none."""
    named = source.kind in ("table", "member", "function") and source.name not in _WATCHLISTS
    return named and not columns(product, source.name)


def _is_table(name: str) -> bool:
    return name.endswith("_CL") or any(columns(product, name) for product in PRODUCTS)
