"""Operators that choose or order columns, and names that an operator gives to its input."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from qakhunt.backends.engine.dialect import Unreadable
from qakhunt.backends.engine.rewriting.plan import HEADS, Planner, no_column, refusal, rewrites
from qakhunt.backends.engine.rewriting.spelling import quoted
from qakhunt.kql.syntax import Call, Literal, Name, Node, Operator, Ordered, Pipeline, Wildcard

if TYPE_CHECKING:
    from collections.abc import Iterable


def reorder(planner: Planner, pipeline: Pipeline, operator: Operator) -> None:
    """``project-reorder`` as ``project`` of every column."""
    known = planner.columns_before(pipeline, operator)
    _project(planner, operator, dict.fromkeys([*_listed(operator, list(known)), *known]))


def keep(planner: Planner, pipeline: Pipeline, operator: Operator) -> None:
    """``project-keep``: the listed columns in the order of the input."""
    known = planner.columns_before(pipeline, operator)
    listed = set(_listed(operator, list(known)))
    _project(planner, operator, [name for name in known if name in listed])


def away(planner: Planner, pipeline: Pipeline, operator: Operator) -> None:
    """``project-away`` with stars: the columns that no pattern matches."""
    if not any(isinstance(one, Wildcard) for one in operator.arguments):
        return
    known = planner.columns_before(pipeline, operator)
    listed = set(_listed(operator, list(known)))
    _project(planner, operator, [name for name in known if name not in listed])


def distinct(planner: Planner, pipeline: Pipeline, operator: Operator) -> None:
    """``distinct *``: every column."""
    star = next((one for one in operator.arguments if isinstance(one, Wildcard)), None)
    if star is not None:
        known = planner.columns_before(pipeline, operator)
        planner.edit(star.start, star.end, ", ".join(map(quoted, known)))


_INSTEAD = {
    "fork": "run each branch as a query of its own",
    "facet": "summarize n = count() by one column, in a query for each",
    "reduce": "group by what the texts share, as in summarize count() by x = extract(...)",
    "scan": "compare with the row before, as in sort by Time asc | extend earlier = prev(Time)",
    "top-hitters": "'summarize n = count() by x | top 10 by n' counts exactly",
    "top-nested": "'summarize n = count() by x | top 10 by n' has the first level",
    "consume": "'count' runs the whole query, too",
}
"""Operators that are refused, and what to write instead."""


def refuse(planner: Planner, pipeline: Pipeline, operator: Operator) -> None:
    """An operator that the engine does not run."""
    del planner, pipeline
    raise refusal(f"the operator {operator.name!r}", operator, _INSTEAD[operator.name])


def _project(planner: Planner, operator: Operator, names: Iterable[str]) -> None:
    planner.edit(operator.start, operator.end, f"| project {', '.join(map(quoted, names))}")


def _listed(operator: Operator, known: list[str]) -> list[str]:
    """The columns that the arguments name, in their order."""
    found: list[str] = []
    for item in operator.arguments:
        node, words = (item.value, item.words) if isinstance(item, Ordered) else (item, ())
        if isinstance(node, Wildcard):
            matching = [name for name in known if matches(node.pattern, name)]
            if words:
                matching.sort(key=str.casefold, reverse="desc" in words)
            found += matching
        elif isinstance(node, Name):
            if node.name not in known:
                raise no_column(node.name, node.start, dict.fromkeys(known, ""))
            found.append(node.name)
    return found


def matches(pattern: str, name: str) -> bool:
    """Whether a name fits a pattern with stars."""
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), name) is not None


def name_it(planner: Planner, pipeline: Pipeline, operator: Operator) -> None:
    """``as T``: what stands before it under a name that others read."""
    name = next((one.name for one in operator.arguments if isinstance(one, Name)), "")
    before = planner.stage_before(pipeline, operator)
    stage = planner.stage(f'SELECT * FROM "{before.name}"', name=name, ordered=before.ordered)
    planner.becomes(pipeline, operator, stage)


def column_if_exists(planner: Planner, call: Node) -> None:
    """``column_ifexists("Name", default)`` as the column, or as the default."""
    arguments = call.arguments if isinstance(call, Call) else ()
    literal = arguments[0] if len(arguments) == 2 else None
    if not isinstance(literal, Literal) or literal.type != "string":
        raise Unreadable("column_ifexists needs a column's name as a literal", call.start)
    place = planner.place
    if place is None:
        raise Unreadable("column_ifexists has no table before it", call.start)
    if literal.text in planner.columns_before(*place):
        planner.edit(call.start, call.end, quoted(literal.text))
    else:
        planner.edit(call.start, call.end, f"({planner.words(arguments[1])})")


for _name, _step in {
    "project-reorder": reorder, "project-keep": keep, "project-away": away, "as": name_it,
    "distinct": distinct, **dict.fromkeys(_INSTEAD, refuse),
}.items():  # fmt: skip
    rewrites(_step, _name)
HEADS.update({"column_ifexists": column_if_exists, "columnifexists": column_if_exists})
