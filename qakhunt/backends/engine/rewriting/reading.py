"""A query's text made ready for the translator: all rewriting, in its order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qakhunt.backends.engine.dialect import Unreadable, refuse_wrong_case
from qakhunt.backends.engine.rewriting import (  # noqa: F401 - their steps
    arrays,
    columns,
    outside,
    pairs,
    plugins,
    searching,
    series,
    windows,
)
from qakhunt.backends.engine.rewriting.expressions import respell_expressions
from qakhunt.backends.engine.rewriting.plan import Plan, Planner
from qakhunt.backends.engine.rewriting.spelling import part_twins, respell_operators
from qakhunt.kql.edits import original_offset
from qakhunt.kql.parser import parse
from qakhunt.kql.schema import TIME_COLUMN
from qakhunt.kql.syntax import Call, find

if TYPE_CHECKING:
    from collections.abc import Callable

    from qakhunt.backends.engine.rewriting.plan import Host


class Reading:
    """A plan, and the way from its text back to the query's."""

    def __init__(self, plan: Plan, locate: Callable[[int], int]) -> None:
        self.plan = plan
        self._locate = locate

    def origin(self, offset: int) -> int:
        """Where an offset of the plan's text stood in the query."""
        return self._locate(original_offset(self.plan.edits, offset))


def read(text: str, host: Host, *, split_unions: bool = False) -> Reading:
    """Rewrite a query. Raises Unreadable with an offset in ``text``."""
    respelled = respell_operators(text, TIME_COLUMN[host.product])
    try:
        respelled.edit(respell_expressions(respelled.text))
        refuse_wrong_case(respelled.text, host.tables)
        respelled.edit(part_twins(respelled.text, host.tables))
        planner = Planner(host, respelled.text)
        planner.split_unions = split_unions
        if "ingestion_time" in text and any(
            call.name == "ingestion_time" for call in find(parse(text), Call)
        ):
            time = TIME_COLUMN[host.product]
            planner.unknown.append(f"ingestion_time() is not recorded: {time} stands for it")
        return Reading(planner.plan(), respelled.origin)
    except Unreadable as problem:
        at = None if problem.offset is None else respelled.origin(problem.offset)
        raise Unreadable(problem.message, at, problem.hint) from None
