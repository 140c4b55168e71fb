"""Functions of a query that give or take tables, put in where they are called."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from qakhunt.backends.engine.dialect import Unreadable
from qakhunt.kql.edits import Edit, apply
from qakhunt.kql.syntax import (
    Call,
    Declaration,
    Function,
    Group,
    Let,
    Literal,
    Name,
    Named,
    Node,
    Operator,
    Path,
    Pipeline,
    Script,
    find,
)

if TYPE_CHECKING:
    from collections.abc import Mapping


def expand(text: str, script: Script) -> list[Edit]:
    """The edits of one round: one function turned into a table, or one call replaced."""
    tabular = {
        let.name: (let, let.value)
        for let in script.lets
        if isinstance(let.value, Function) and _is_tabular(let.value)
    }
    for name, (let, function) in tabular.items():
        if name in _calls(function):
            raise Unreadable(f"the function {name!r} calls itself", let.start)
        if set(_calls(function)) & set(tabular):
            continue  # its own calls first
        if not function.parameters:
            return _as_table(text, script, let, function)
        calls = [call for call in find(script, Call) if call.name == name]
        if not calls:
            return [Edit(let.start, behind(text, let.end), "")]
        return _put_in(text, script, calls[0], function)
    return []


def _is_tabular(function: Function) -> bool:
    takes_table = any(
        isinstance(one, Declaration) and isinstance(one.type, Group) for one in function.parameters
    )
    query = function.body.query
    while isinstance(query, Group) and len(query.items) == 1:
        query = query.items[0]
    return takes_table or isinstance(query, (Pipeline, Operator))


def _calls(node: Node) -> list[str]:
    return [call.name for call in find(node, Call)]


def behind(text: str, at: int) -> int:
    """Behind the semicolon that ends a statement."""
    end = text.find(";", at)
    return at if end < 0 or text[at:end].strip() else end + 1


def _as_table(text: str, script: Script, let: Let, function: Function) -> list[Edit]:
    """``let f = () { lets; query }`` as ``lets; let f = query``, and ``f()`` as ``f``."""
    number = _number(text)
    before, query = _body(text, function, {}, number)
    edits = [Edit(let.start, let.end, f"{before}let {let.name} = ({query})")]
    for call in find(script, Call):
        if call.name == let.name and not let.start <= call.start < let.end:
            edits.append(Edit(call.start, call.end, call.name))
    return edits


def _put_in(text: str, script: Script, call: Call, function: Function) -> list[Edit]:
    statement, holder = _place(script, call)
    number = _number(text)
    arguments = list(call.arguments)
    hoisted = ""
    values: dict[str, str] = {}
    parameters = [one for one in function.parameters if isinstance(one, Declaration)]
    if holder is not None:  # invoke: what stands before it is the first argument
        table = parameters[0].name if parameters else ""
        hoisted += f"let {table}__f{number} = ({text[holder[0].start : holder[1].start]});\n"
        values[table] = f"{table}__f{number}"
        parameters = parameters[1:]
    named = {one.names[0]: one.value for one in arguments if isinstance(one, Named) and one.names}
    plain = iter([one for one in arguments if not isinstance(one, Named)])
    for one in parameters:
        value = named.get(one.name) or next(plain, None) or one.default
        if value is None:
            raise Unreadable(f"{call.name}() needs a value for {one.name!r}", call.start)
        words = text[value.start : value.end]
        if isinstance(one.type, Group):
            hoisted += f"let {one.name}__f{number} = ({words});\n"
            values[one.name] = f"{one.name}__f{number}"
        else:
            values[one.name] = words if isinstance(value, (Literal, Name)) else f"({words})"
    before, query = _body(text, function, values, number)
    start, end = (holder[0].start, holder[1].end) if holder else (call.start, call.end)
    body = f"({query})"
    if start == statement.start:
        return [Edit(start, end, hoisted + before + body)]
    return [Edit(statement.start, statement.start, hoisted + before), Edit(start, end, body)]


def _place(script: Script, call: Call) -> tuple[Node, tuple[Pipeline, Operator] | None]:
    """The statement that holds the call, and the pipeline whose ``invoke`` it is."""
    holders = [node for node in script.walk() if node.start <= call.start and call.end <= node.end]
    statement: Node = script
    invoke = None
    for node in holders:
        if isinstance(node, Script):
            statement = next(
                (one for one in node.statements if one.start <= call.start < one.end), statement
            )
        elif isinstance(node, Pipeline):
            for operator in node.operators:
                if operator.name == "invoke" and call in operator.arguments:
                    invoke = node, operator
    return statement, invoke


def _body(text: str, function: Function, values: Mapping[str, str], number: int) -> tuple[str, str]:
    """The body's own lets under names of their own, and its query, parameters put in."""
    body = function.body
    query = body.query or body
    own = {let.name: f"{let.name}__f{number}" for let in body.lets}
    inserted = {**values, **own}
    edits = []
    skipped = {step.start for path in find(body, Path) for step in path.steps}
    for node in body.walk():
        if isinstance(node, Named):
            skipped.add(node.target.start)
    for node in find(body, Name):
        if node.name in inserted and node.start not in skipped:
            edits.append(Edit(node.start, node.end, inserted[node.name]))
    for call in find(body, Call):
        if call.name in own:
            edits.append(Edit(call.start, call.start + len(call.name), own[call.name]))

    def words(node: Node) -> str:
        inside = [
            Edit(e.start - node.start, e.end - node.start, e.text)
            for e in edits
            if node.start <= e.start and e.end <= node.end
        ]
        return apply(text[node.start : node.end], inside)

    before = "".join(f"{words(let)};\n" for let in body.lets)
    return before, words(query)


def _number(text: str) -> int:
    return next(number for number in count(1) if f"__f{number}" not in text)
