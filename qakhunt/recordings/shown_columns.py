"""Whether a query's result shows columns that it does not name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qakhunt.kql.pipeline import groups, pipeline, split
from qakhunt.kql.tokens import Kind, tokenize

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qakhunt.kql.pipeline import Stage
    from qakhunt.kql.tokens import Token

_CHOOSES = frozenset(["summarize", "project", "distinct", "count", "make-series"])
_ADDS = frozenset(["join", "lookup", "union"])
_ONE_SIDED = frozenset(["leftanti", "leftsemi", "anti"])
_NO_TABLE = frozenset(["print", "range", "datatable"])
_UNNAMED = frozenset(["pack_all", "column_ifexists", "columnifexists"])


def shows_unnamed_columns(query: str) -> bool:
    """Whether every column of some source may be in the result, or be read by a ``*``.

    True where it cannot be told.
    """
    return _body(tokenize(query), {})


def _has_star(tokens: Sequence[Token]) -> bool:
    """Whether a ``*`` stands as an argument, as in ``arg_max(x, *)``; a product is none."""
    around = zip(tokens, tokens[1:], tokens[2:], strict=False)
    return any(
        star.text == "*" and before.text in ("(", ",") and after.text in (")", ",", "by")
        for before, star, after in around
    )


def _body(tokens: Sequence[Token], lets: dict[str, bool]) -> bool:
    """Whether the last of the statements shows every column; lets are kept as they come."""
    shown = True
    for part in split(tokens, ";"):
        if len(part) > 2 and part[0].text == "let" and part[2].text in ("=", "("):
            lets[part[1].text] = _pipeline(part[3:] if part[2].text == "=" else part[2:], lets)
        elif part:
            shown = _pipeline(part, lets)
    return shown


def _pipeline(tokens: Sequence[Token], lets: dict[str, bool]) -> bool:
    source, *stages = pipeline(tokens)
    shown = _source(source, lets)
    packed = False
    for stage in stages:
        packed = packed or (shown and any(token.text in _UNNAMED for token in stage.tokens))
        if stage.operator in _CHOOSES:
            shown = shown and _has_star(stage.tokens)
        elif stage.operator in _ADDS and not _ONE_SIDED & {t.text for t in stage.tokens[:4]}:
            shown = shown or _operands(stage.tokens, lets)
    return shown or packed


def _source(stage: Stage, lets: dict[str, bool]) -> bool:
    first = stage.tokens[0].text if stage.tokens else ""
    if first in _NO_TABLE:
        return False
    if first == "union":
        return _operands(stage.tokens[1:], lets)
    if first in lets:
        return lets[first]
    inner = list(groups(stage.tokens))
    # Of a function that is the body, behind its parameters.
    return _body(inner[-1], dict(lets)) if inner else True


def _operands(tokens: Sequence[Token], lets: dict[str, bool]) -> bool:
    """Whether one of the tables or brackets that an operator takes shows every column."""
    if any(_body(part, dict(lets)) for part in groups(tokens)):
        return True
    operands = next(split(tokens, "on"))
    return any(
        lets.get(token.text, True)
        for at, token in enumerate(operands)
        if token.kind is Kind.IDENTIFIER and _stands_alone(operands, at)
    )


def _stands_alone(tokens: Sequence[Token], at: int) -> bool:
    """Whether a name is an operand: outside brackets and no part of ``kind=inner``."""
    depth = sum((t.text == "(") - (t.text == ")") for t in tokens[:at])
    beside = {
        tokens[at - 1].text if at else "",
        tokens[at + 1].text if at + 1 < len(tokens) else "",
    }
    return depth == 0 and not beside & {"=", ".", "("}
