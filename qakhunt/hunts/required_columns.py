"""The columns that a Defender custom detection needs, added to a query that drops them.

A summarize gets them of one of its records: the first or last, where its result already
holds the first or last ``Timestamp``, else the last.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qakhunt.kql.edits import Edit, apply
from qakhunt.kql.result_columns import result_columns
from qakhunt.kql.schema import DEFENDER
from qakhunt.kql.syntax import Call, Name, Named, Operator, bare, column, find, stages

if TYPE_CHECKING:
    from qakhunt.kql.syntax import Node, Script

REQUIRED = ("Timestamp", "DeviceId", "ReportId")
_TIME = REQUIRED[0]


def with_columns(query: str, script: Script) -> str | None:
    """The query with the columns in its result; None where it cannot be said how."""
    if script.query is None:
        return None
    _, operators = stages(bare(script.query))
    edits: list[Edit] = []
    last = max((n for n, one in enumerate(operators) if one.name == "summarize"), default=-1)
    if last >= 0:
        edit = _summarized(operators[last])
        if edit is None or not _are_there(script, last):
            return None
        edits.append(edit)
    for number, operator in enumerate(operators[last + 1 :]):
        if operator.name in ("project", "distinct") and operator.arguments:
            if last < 0 and not edits and not _are_there(script, number):
                return None
            kept = {name for one in operator.arguments for name in _names(one)}
            lacking = [name for name in REQUIRED if name not in kept]
            end = operator.arguments[-1].end
            edits.append(Edit(end, end, "".join(f", {name}" for name in lacking)))
    return apply(query, edits) if edits else None


def _are_there(script: Script, operators: int) -> bool:
    """Whether records are known to have the columns there."""
    found = result_columns(script, DEFENDER.name, operators)
    return found is not None and set(REQUIRED) <= set(found)


def _summarized(operator: Operator) -> Edit | None:
    """``Timestamp = min(Timestamp)`` becomes an arg_min; else an arg_max comes in front."""
    if not operator.arguments:
        return None
    by = operator.clause("by") or ()
    if any(name.name == _TIME for one in by for name in find(one, Name)):
        return None  # one time for many records: no record is the one
    groups = {name for one in by for name in _names(one)}
    wanted = ", ".join(name for name in ("ReportId", "DeviceId") if name not in groups)
    for argument in operator.arguments:
        if not isinstance(argument, Named) or argument.names != (_TIME,):
            continue
        call = bare(argument.value)
        if not isinstance(call, Call) or call.name not in ("min", "max"):
            return None
        if [column(bare(one)) for one in call.arguments] != [_TIME]:
            return None
        return Edit(argument.start, argument.end, f"arg_{call.name}({_TIME}, {wanted})")
    first = operator.arguments[0].start
    return Edit(first, first, f"arg_max({_TIME}, {wanted}), ")


def _names(node: Node) -> tuple[str, ...]:
    if isinstance(node, Named):
        return node.names
    name = column(bare(node))
    return (name,) if name else ()
