"""The shape of a query: statements, pipelines and their operators, by token.

It knows brackets and separators, not the grammar: what it splits is for others to
judge, and what they do not understand they refuse.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qakhunt.kql.tokens import Token

_OPENING, _CLOSING = frozenset("([{"), frozenset(")]}")


@dataclass(frozen=True)
class Statement:
    """One statement: ``name`` is what a ``let`` defines, None for any other."""

    name: str | None
    tokens: tuple[Token, ...]


@dataclass(frozen=True)
class Operator:
    """One operator of a pipeline: its whole name (``mv-expand``) and what follows it."""

    name: str
    start: int
    tokens: tuple[Token, ...]


def split(tokens: Sequence[Token], *separators: str) -> list[tuple[Token, ...]]:
    """The stretches between separators that stand in no bracket; never an empty list."""
    parts: list[tuple[Token, ...]] = []
    depth = begin = 0
    for at, token in enumerate(tokens):
        if token.text in _OPENING:
            depth += 1
        elif token.text in _CLOSING:
            depth -= 1
        elif depth == 0 and token.text in separators:
            parts.append(tuple(tokens[begin:at]))
            begin = at + 1
    parts.append(tuple(tokens[begin:]))
    return parts


def statements(tokens: Sequence[Token]) -> list[Statement]:
    """All statements that are not empty, in order."""
    found = []
    for part in split(tokens, ";"):
        if len(part) > 3 and part[0].text == "let" and part[2].text == "=":
            found.append(Statement(part[1].text, part[3:]))
        elif part:
            found.append(Statement(None, part))
    return found


def pipeline(tokens: Sequence[Token]) -> tuple[tuple[Token, ...], list[Operator]]:
    """What the pipeline starts from, and its operators."""
    head, *rest = split(tokens, "|")
    return head, [operator(part) for part in rest]


def operator(tokens: tuple[Token, ...]) -> Operator:
    """An operator from its tokens; a hyphenated name is one name."""
    if not tokens:
        return Operator("", 0, ())
    name, used = tokens[0].text, 1
    if len(tokens) > 2 and tokens[1].text == "-" and _touch(tokens[0], tokens[1], tokens[2]):
        name, used = f"{name}-{tokens[2].text}", 3
    return Operator(name, tokens[0].start, tokens[used:])


def _touch(*tokens: Token) -> bool:
    return all(one.end == other.start for one, other in pairwise(tokens))


def bracketed(tokens: Sequence[Token]) -> bool:
    """Whether one pair of parentheses holds all of the tokens."""
    return (
        len(tokens) > 1
        and tokens[0].text == "("
        and tokens[-1].text == ")"
        and closing(tokens, 0) == len(tokens) - 1
    )


def closing(tokens: Sequence[Token], at: int) -> int:
    """Position of the bracket that closes the one at ``at``; the last token's if none does."""
    depth = 0
    for position in range(at, len(tokens)):
        text = tokens[position].text
        depth += (text in _OPENING) - (text in _CLOSING)
        if depth == 0:
            return position
    return len(tokens) - 1
