"""Which columns of a table a query reads, where that can be told.

It can be told up to the first operator that names all the columns it lets through:
what stands before that, row by row, and that operator itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qakhunt.kql.literal import decode_string
from qakhunt.kql.pipeline import pipeline
from qakhunt.kql.tokens import Kind, Token

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

_ROW_BY_ROW = frozenset(["where", "filter", "extend"])
_CHOOSES = frozenset(["project", "summarize", "distinct"])
# What reads columns without naming them, or names them in a text.
_UNNAMED = frozenset(["*", "pack_all", "column_ifexists", "columnifexists"])


def columns_read(tokens: Sequence[Token], at: int, own: Collection[str]) -> set[str] | None:
    """Own columns that the pipeline behind the table's name at ``at`` reads; None for all."""
    found: set[str] = set()
    at += 1
    while at + 1 < len(tokens) and tokens[at].text == "|":
        end = operator_end(tokens, at + 1)
        step = pipeline(tokens[at:end])[1]
        if step.operator not in _ROW_BY_ROW | _CHOOSES:
            return None
        if any(token.text in _UNNAMED for token in step.tokens):
            return None
        found |= _named(step.tokens, own)
        if step.operator in _CHOOSES:
            return found
        at = end
    return None


def bare_columns(tokens: Sequence[Token], own: Collection[str]) -> set[str] | None:
    """The columns of a ``project`` that only names own columns; None for any other."""
    names = tokens[::2]
    if not all(token.kind is Kind.IDENTIFIER and token.text in own for token in names):
        return None
    return {t.text for t in names} if all(t.text == "," for t in tokens[1::2]) else None


def operator_end(tokens: Sequence[Token], at: int) -> int:
    """Where the operator that begins at ``at`` ends: the next pipe, or the pipeline's end."""
    depth = 0
    for position in range(at, len(tokens)):
        text = tokens[position].text
        if depth == 0 and text in ("|", ";", ")", "}"):
            return position
        depth += (text in ("(", "[", "{")) - (text in (")", "]", "}"))
    return len(tokens)


def _named(tokens: Sequence[Token], own: Collection[str]) -> set[str]:
    found = {token.text for token in tokens if token.kind is Kind.IDENTIFIER}
    found |= {decode_string(t.text) for t in tokens if t.kind is Kind.STRING}
    return found & set(own)
