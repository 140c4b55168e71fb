"""What a query reads, and where: the tables in table position, names taken into account.

A ``let``, a function's parameter or an ``as`` hides a table of the same name from there
on. ``print``, ``range`` and ``datatable`` read nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from qakhunt.kql.syntax import (
    Call,
    Comparison,
    Declaration,
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
    Wildcard,
    bare,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

Kind = Literal["table", "member", "wildcard", "function", "elsewhere", "external", "everything"]
Place = Literal["query", "let", "subquery"]

Names = dict[str, Node]
"""What the query itself has given a name -> what the name stands for."""

_ELSEWHERE = frozenset(["workspace", "cluster", "database", "app", "resource", "adx", "arg"])
_TABULAR_CALLS = frozenset(["materialize", "toscalar"])
_NAMED_IN_TEXT = frozenset(["table", "external_table", "materialized_view"])


@dataclass(frozen=True)
class Source:
    """One place that reads records: ``node`` spans the reference, as ``T`` or ``f('x')``.

    ``kind``: a table by its name; a member, which ``in (name)`` names and which may be a
    column as well; a wildcard of a union; a function that the query does
    not define (``_GetWatchlist``); a table ``elsewhere`` (``workspace('w').T``); external
    data; everything (``search`` without ``in``). ``place``: the query's own pipeline, the
    value of a let, or a subquery of an operator or expression.
    """

    node: Node
    name: str
    kind: Kind
    place: Place


def sources(script: Script) -> list[Source]:
    """Every place that reads records, in the order of the text."""
    found = _script(script, {}, "query")
    return sorted(found, key=lambda source: source.node.start)


def _script(script: Script, names: Names, place: Place) -> Iterator[Source]:
    for statement in script.statements:
        if isinstance(statement, Let):
            yield from _tabular(statement.value, names, "let")
            names = {**names, statement.name: statement.value}
        else:
            yield from _tabular(statement, names, place)
            names = {**names, **_marked(statement)}


def _marked(node: Node) -> Names:
    """Names that an ``as`` gives to what stands before it."""
    found = (one for one in node.walk() if isinstance(one, Operator) and one.name == "as")
    return {a.name: a for one in found for a in one.arguments if isinstance(a, Name)}


def _tabular(node: Node, names: Names, place: Place) -> Iterator[Source]:
    """Sources of a node in table position."""
    if isinstance(node, Pipeline):
        yield from _tabular(node.source, names, place)
        names = {**names, **_marked(node)}
        for operator in node.operators:
            yield from _operator(operator, names)
    elif isinstance(node, Operator):
        if node.name == "union":
            yield from _operands(node, names, place)
        else:
            yield from _operator(node, names)
    elif isinstance(node, Function):
        own = {one.name: one for one in node.parameters if isinstance(one, Declaration)}
        yield from _script(node.body, {**names, **own}, "let")
    elif isinstance(node, (Group, Named)):
        for inner in node.items if isinstance(node, Group) else (node.value,):
            yield from _tabular(inner, names, place)
    elif isinstance(node, Script):
        yield from _script(node, names, place)
    elif isinstance(node, Name):
        if node.name not in names:
            yield Source(node, node.name, "table", place)
    elif isinstance(node, Wildcard):
        yield Source(node, node.pattern, "wildcard", place)
    else:
        yield from _call_or_value(node, names, place)


def _call_or_value(node: Node, names: Names, place: Place) -> Iterator[Source]:
    base = node.base if isinstance(node, Path) else node
    if isinstance(base, Call) and base.name in _ELSEWHERE:
        last = node.steps[-1] if isinstance(node, Path) else base
        name = last.pattern if isinstance(last, Wildcard) else getattr(last, "name", base.name)
        yield Source(node, str(name), "elsewhere", place)
        return
    if not isinstance(node, Call):
        yield from _inside(node, names)
        return
    if node.name in _TABULAR_CALLS:
        for argument in node.arguments:
            yield from _tabular(argument, names, place)
        return
    if node.name in _NAMED_IN_TEXT:
        yield Source(node, node.name, "elsewhere", place)
    elif node.name not in names:
        yield Source(node, node.name, "function", place)
    yield from _arguments(node, names)


def _arguments(call: Call, names: Names) -> Iterator[Source]:
    """A table where the function's parameter is one, else values."""
    function = names.get(call.name)
    tabular = [
        isinstance(one, Declaration) and isinstance(one.type, Group)
        for one in (function.parameters if isinstance(function, Function) else ())
    ]
    for number, argument in enumerate(call.arguments):
        is_table = tabular[number : number + 1] == [True]
        yield from (_tabular(argument, names, "subquery") if is_table else _inside(argument, names))


def _operands(operator: Operator, names: Names, place: Place) -> Iterator[Source]:
    for argument in operator.arguments:
        yield from _tabular(argument, names, place)


def _operator(operator: Operator, names: Names) -> Iterator[Source]:
    name = operator.name
    if name in ("externaldata", "external_data"):
        yield Source(operator, name, "external", "subquery")
    elif name in ("union", "join", "lookup"):
        yield from _operands(operator, names, "subquery")
    elif name in ("find", "search"):
        listed = operator.clause("in")
        if listed is None:
            yield Source(operator, name, "everything", "subquery")
        for table in listed or ():
            yield from _tabular(table, names, "subquery")
    else:
        for argument in operator.arguments:
            yield from _inside(argument, names)
    for clause in operator.clauses:
        is_table = name == "make-graph" and clause.keyword == "with"
        for argument in clause.arguments:
            read = _tabular(argument, names, "subquery") if is_table else _inside(argument, names)
            yield from read


def _inside(node: Node, names: Names) -> Iterator[Source]:
    """Sources of the queries within an expression."""
    waiting = [node]
    while waiting:
        one = waiting.pop()
        base = one.base if isinstance(one, Path) else one
        reads = isinstance(base, Call) and base.name in _TABULAR_CALLS | _ELSEWHERE
        if reads or isinstance(one, (Pipeline, Operator, Script)):
            yield from _tabular(one, names, "subquery")
        elif isinstance(one, Comparison) and one.operator.lstrip("!") in ("in", "in~"):
            waiting.append(one.left)
            yield from _members(one.right, names)
        else:
            waiting += reversed(one.children)


def _members(right: Node, names: Names) -> Iterator[Source]:
    """``in (...)``: one query or table, or a list of values."""
    inner = bare(right)
    if isinstance(inner, Name):
        if inner.name not in names:
            yield Source(inner, inner.name, "member", "subquery")
    elif isinstance(inner, (Pipeline, Operator)) or (
        isinstance(inner, Call) and (inner.name.startswith("_Get") or inner.name in _TABULAR_CALLS)
    ):
        yield from _tabular(inner, names, "subquery")
    else:
        yield from _inside(right, names)
