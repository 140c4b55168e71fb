"""The language's own words and names, and those that only a workspace knows."""

from __future__ import annotations

import json
import re
from functools import cache
from importlib.resources import files

WORDS = frozenset((
    "and", "or", "not", "in", "has", "has_any", "has_all", "has_cs", "contains", "contains_cs",
    "startswith", "startswith_cs", "endswith", "endswith_cs", "hasprefix", "hasprefix_cs",
    "hassuffix", "hassuffix_cs", "matches", "regex", "like", "between", "by", "asc", "desc",
    "nulls", "first", "last", "true", "false", "null", "of", "to", "step", "from", "on", "with",
    "typeof", "kind", "hint", "isfuzzy", "with_itemindex", "limit", "bool", "boolean", "int",
    "long", "real", "double", "decimal", "string", "datetime", "date", "timespan", "time",
    "guid", "dynamic", "default", "materialize", "toscalar",
))  # fmt: skip
"""Words of expressions that are no columns."""

SAME_COLUMNS = frozenset((
    "where", "filter", "sort", "order", "take", "limit", "sample", "top", "consume",
    "getschema",
))  # fmt: skip
"""Operators that leave the columns as they are."""

# Tables and functions that a workspace brings along, or that only the service knows.
_FOREIGN = re.compile(
    r".*_CL|_GetWatchlist.*|_Im_.*|_ASim_.*|ASim[A-Z].*|im[A-Z].*|FileProfile|DeviceFromIP|"
    r"workspace|app|resource|table|database|cluster|arg|adx"
)


@cache
def _names() -> dict[str, frozenset[str]]:
    text = files("qakhunt.data").joinpath("kql_functions.json").read_text(encoding="utf-8")
    data = json.loads(text)
    return {kind: frozenset(data[kind]) for kind in ("functions", "aggregates", "plugins")}


@cache
def function_names() -> frozenset[str]:
    """Every function, aggregate and plugin of the language."""
    return frozenset().union(*_names().values())


def aggregate_names() -> frozenset[str]:
    """Every aggregate of the language."""
    return _names()["aggregates"]


def is_foreign(name: str) -> bool:
    """Whether a name can be one that only the workspace or the service knows."""
    return _FOREIGN.fullmatch(name) is not None
