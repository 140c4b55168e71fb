"""A hunt's query as a function of the workspace, which its rule calls: for one too long for a rule.

Sentinel names functions as the way around a rule's 10,000 characters
(learn.microsoft.com/azure/sentinel/scheduled-rules-overview). Log Analytics keeps a function as
a saved search with ``functionAlias`` and ``functionParameters``
(learn.microsoft.com/rest/api/loganalytics/saved-searches); its name has no blanks or special
characters and no underscore in front (learn.microsoft.com/azure/azure-monitor/logs/functions).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qakhunt.kql.edits import Edit, apply
from qakhunt.kql.parser import parse
from qakhunt.kql.syntax import Call, Name, bare, find
from qakhunt.kql.visitors import sources

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

START, END = "QakhuntStart", "QakhuntEnd"
"""The parameters that the window's lets are given."""
CATEGORY = "Qakhunt functions"
_MOST = 80


@dataclass(frozen=True)
class WorkspaceFunction:
    """A function's name, its parameters as ``name:type, ...``, and its text."""

    name: str
    parameters: str
    query: str

    def called(self, bounds: tuple[str, str]) -> str:
        """The query of a rule that calls it for the time between two expressions."""
        return f"{self.name}({', '.join(bounds) if self.parameters else ''})"


def function_of(title: str, identifier: str, query: str, *, has_window: bool) -> WorkspaceFunction:
    """The function of a hunt; ``query`` has START and END as its window's bounds."""
    words = re.findall(r"[A-Za-z0-9]+", title) or re.findall(r"[A-Za-z0-9]+", identifier)
    name = "_".join(["qakhunt", *words])[:_MOST].rstrip("_").lower()
    parameters = f"{START}:datetime, {END}:datetime" if has_window else ""
    return WorkspaceFunction(name, parameters, query)


def functions_among(resources: Iterable[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Name -> properties of the saved searches that are functions."""
    found = [one.get("properties") for one in resources]
    return {
        one["functionAlias"]: one
        for one in found
        if isinstance(one, dict) and one.get("functionAlias") and isinstance(one.get("query"), str)
    }


def called_functions(query: str, functions: Mapping[str, Any]) -> list[str]:
    """The functions of the workspace that a query names."""
    script = parse(query)
    named = [*(one.name for one in sources(script)), *(one.name for one in find(script, Call))]
    return [name for name in dict.fromkeys(named) if name in functions]


@dataclass(frozen=True)
class Inlined:
    """A query with a function's text in the place of its call, and the lets of its window."""

    query: str
    window: tuple[str, str] | None


def inlined(query: str, functions: Mapping[str, Mapping[str, Any]]) -> Inlined | None:
    """A query that is no more than the call of a function of qakhunt's; None for any other."""
    call = parse(query).query
    if not isinstance(call, Call) or call.name not in functions:
        return None
    function = functions[call.name]
    if function.get("category") != CATEGORY:
        return None
    text = function["query"]
    given = [query[one.start : one.end] for one in call.arguments]
    if not function.get("functionParameters"):
        return Inlined(text, None) if not given else None
    if len(given) != 2:
        return None
    lets = {
        value.name: let
        for let in parse(text).leading_lets
        if isinstance(value := bare(let.value), Name)
    }
    if not {START, END} <= lets.keys():
        return None
    bounds = [lets[START], lets[END]]
    edits = [
        Edit(let.value.start, let.value.end, to) for let, to in zip(bounds, given, strict=True)
    ]
    return Inlined(apply(text, edits), (bounds[0].name, bounds[1].name))
