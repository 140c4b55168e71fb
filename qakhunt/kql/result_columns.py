"""The columns of a query's result, as far as its text tells; None where it does not.

Known tables come with the columns of the shipped schema. What cannot be read (a function
of the workspace, an operator whose columns depend on the data) makes the answer None,
never a guess.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qakhunt.kql.schema import columns
from qakhunt.kql.syntax import (
    Call,
    Group,
    Let,
    Name,
    Named,
    Operator,
    Ordered,
    Path,
    Wildcard,
    bare,
    column,
    stages,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from qakhunt.kql.syntax import Node, Script

Names = dict[str, None]
"""Column names in order."""

_KEEPS = frozenset([
    "where", "filter", "sort", "order", "top", "take", "limit", "sample", "as", "serialize",
    "render", "consume",
])  # fmt: skip
_DECIDES = frozenset(["project", "distinct", "summarize", "count"])
_PICKS = frozenset(["arg_max", "arg_min"])


def result_columns(
    script: Script, product: str, operators: int | None = None
) -> tuple[str, ...] | None:
    """Names of the result's columns, in order; None where the text does not tell.

    With ``operators``, those behind so many operators of the query.
    """
    lets: dict[str, Node] = {}
    for statement in script.statements:
        if isinstance(statement, Let):
            lets[statement.name] = statement.value
    if script.query is None:
        return None
    found = _columns(script.query, product, lets, operators)
    return None if found is None else tuple(found)


def _columns(
    node: Node, product: str, lets: Mapping[str, Node], most: int | None = None
) -> Names | None:
    source, operators = stages(bare(node))
    found = _source(bare(source), product, lets)
    for operator in operators[:most]:
        if operator.name in _DECIDES:
            found = _decided(operator, found)
        elif found is not None:
            found = _after(operator, found, product, lets)
    return found


def _decided(operator: Operator, before: Names | None) -> Names | None:
    """What an operator makes that names all of its columns, whatever stood before it."""
    arguments = operator.arguments
    if operator.name == "count":
        return {"Count": None}
    if operator.name == "summarize":
        made, groups = _made(arguments), _made(operator.clause("by") or ())
        return None if made is None or groups is None else {**groups, **made}
    if any(isinstance(one, Wildcard) for one in arguments):
        return before if operator.name == "distinct" else None
    return _made(arguments)


def _source(node: Node, product: str, lets: Mapping[str, Node]) -> Names | None:
    if isinstance(node, Name):
        if node.name in lets:
            others = {name: value for name, value in lets.items() if name != node.name}
            return _columns(lets[node.name], product, others)
        return dict.fromkeys(columns(product, node.name)) or None
    if isinstance(node, Operator) and node.name == "union":
        return _union(node, {}, product, lets)
    if isinstance(node, Operator) and node.name == "print":
        return _made(node.arguments)
    return None


def _after(
    operator: Operator, before: Names, product: str, lets: Mapping[str, Node]
) -> Names | None:
    name, arguments = operator.name, operator.arguments
    if name in _KEEPS:
        return before
    if name == "extend":
        made = _made(arguments)
        return None if made is None else {**before, **made}
    if name in ("project-away", "project-keep"):
        named = {column(bare(one)) for one in arguments}
        if None in named:
            return None
        away = name == "project-away"
        return {one: None for one in before if (one in named) is not away}
    if name == "project-rename":
        return _renamed(arguments, before)
    if name == "union":
        return _union(operator, before, product, lets)
    if name in ("mv-expand", "mvexpand"):
        made = _made(arguments)
        return None if made is None else {**before, **made}
    if name in ("join", "lookup"):
        return _joined(operator, before, product, lets)
    return None


def _union(
    operator: Operator, before: Names, product: str, lets: Mapping[str, Node]
) -> Names | None:
    found = dict(before)
    for argument in operator.arguments:
        read = _columns(argument, product, lets)
        if read is None:
            return None
        found |= read
    return found


def _joined(
    operator: Operator, before: Names, product: str, lets: Mapping[str, Node]
) -> Names | None:
    kind = operator.option("kind").strip("'\"").lower()
    if kind in ("leftsemi", "leftanti", "anti", "leftantisemi"):
        return before
    if not operator.arguments:
        return None
    right = _columns(operator.arguments[0], product, lets)
    if right is None:
        return None
    if kind in ("rightsemi", "rightanti", "rightantisemi"):
        return right
    # A name that both sides have gets a digit on the right: the left one is what counts here.
    return {**before, **{one: None for one in right if one not in before}}


def _renamed(arguments: Iterable[Node], before: Names) -> Names | None:
    renamed: dict[str, str] = {}
    for one in arguments:
        old = column(bare(one.value)) if isinstance(one, Named) else None
        if old is None or not isinstance(one, Named):
            return None
        renamed[old] = one.names[0]
    return {renamed.get(name, name): None for name in before}


def _made(arguments: Iterable[Node]) -> Names | None:
    """Names that the entries of a list make; None where one has no readable name."""
    made: Names = {}
    for argument in arguments:
        one = argument.value if isinstance(argument, Ordered) else argument
        if isinstance(one, Named):
            made.update(dict.fromkeys(one.names))
            continue
        names = _own_names(bare(one))
        if names is None:
            return None
        made.update(dict.fromkeys(names))
    return made


def _own_names(node: Node) -> tuple[str, ...] | None:
    """What Kusto calls an entry without a name of its own."""
    if isinstance(node, Name):
        return (node.name,)
    if isinstance(node, Path) and isinstance(node.steps[-1], Name):
        base = column(node.base)
        steps = [step.name for step in node.steps if isinstance(step, Name)]
        return None if base is None or len(steps) < len(node.steps) else ("_".join([base, *steps]),)
    if isinstance(node, Call):
        if node.name in _PICKS:
            names = [column(bare(one)) for one in node.arguments]
            return tuple(one for one in names if one is not None) if None not in names else None
        first = column(bare(node.arguments[0])) if node.arguments else ""
        if node.name in ("bin", "floor", "tostring", "todatetime", "tolong") and first:
            return (first,)
        prefix = {"make_set": "set", "make_list": "list"}.get(node.name, node.name)
        return None if first is None else (f"{prefix}_{first}",)
    if isinstance(node, Group):
        return None
    return None
