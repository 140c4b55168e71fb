"""Columns of a table on its way through a query, and the names that KQL gives them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from qakhunt.kql.pipeline import Item, Stage, split
from qakhunt.kql.tokens import Kind, Token
from qakhunt.proving.lint.vocabulary import aggregate_names

if TYPE_CHECKING:
    from collections.abc import Sequence

_AGGREGATE_PREFIX = {
    "make_set": "set", "make_set_if": "set", "make_list": "list", "make_list_if": "list",
    "make_bag": "bag", "make_bag_if": "bag",
}  # fmt: skip
_UNNAMED_AGGREGATES = frozenset({"percentile", "percentiles", "percentilew", "percentilesw"})


@dataclass
class Table:
    """Columns in order; ``open`` means that there may be others."""

    columns: list[str] = field(default_factory=list)
    open: bool = False
    dropped: dict[str, Stage] = field(default_factory=dict)


def item_names(item: Item) -> list[str]:
    """Columns that an entry makes: its name, or the one that KQL gives it."""
    if item.name:
        return [item.name]
    tokens = item.tokens
    if len(tokens) > 2 and tokens[0].text == "(" and "=" in [token.text for token in tokens]:
        close = closing(tokens, 0)
        return [token.text for token in tokens[1:close] if token.kind is Kind.IDENTIFIER]
    if len(tokens) < 3 or tokens[1].text != "(":
        return []
    function = tokens[0].text
    arguments = [part for part in split(tokens[2:-1], ",") if part]
    plain = [
        part[0].text for part in arguments if len(part) == 1 and part[0].kind is Kind.IDENTIFIER
    ]
    if function in ("bin", "floor", "startofday", "startofmonth", "startofweek"):
        return plain[:1]
    if function in ("arg_max", "arg_min", "take_any", "any"):
        return plain
    if function == "count":
        return ["count_"]
    if function in ("countif",):
        return [f"{function}_"]
    if function not in aggregate_names() or function in _UNNAMED_AGGREGATES:
        return []
    prefix = _AGGREGATE_PREFIX.get(function, function)
    first_is_plain = bool(plain) and len(arguments[0]) == 1
    return [f"{prefix}_{plain[0]}"] if first_is_plain else []


def without_options(tokens: Sequence[Token]) -> list[Token]:
    """Tokens without leading ``name=value`` options such as ``kind=inner``."""
    rest = list(tokens)
    while True:
        size = 0
        if len(rest) > 2 and rest[0].kind is Kind.IDENTIFIER:
            if (
                rest[1].text == "="
                and rest[0].text in ("kind", "withsource", "isfuzzy", "bagexpansion")
            ) or (rest[1].text == "=" and rest[0].text == "with_itemindex"):
                size = 3
            elif rest[0].text == "hint" and rest[1].text == "." and len(rest) > 4:
                size = 5
        if not size:
            return rest
        rest = rest[size:]


def is_lambda(tokens: Sequence[Token]) -> bool:
    return len(tokens) > 1 and tokens[0].text == "(" and any(token.text == "{" for token in tokens)


def closing(tokens: Sequence[Token], at: int) -> int:
    depth = 0
    for position in range(at, len(tokens)):
        depth += {"(": 1, ")": -1}.get(tokens[position].text, 0)
        if depth == 0:
            return position
    return len(tokens) - 1
