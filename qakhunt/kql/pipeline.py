"""A pipeline's stages by token, for those that do not read the syntax tree yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qakhunt.kql.tokens import Kind, Token

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_OPENING, _CLOSING = ("(", "[", "{"), (")", "]", "}")


@dataclass(frozen=True)
class Stage:
    """``| operator ...``: ``start`` is its bar's offset, ``tokens`` follow the operator.

    The source of a pipeline is a stage too, with an empty operator.
    """

    operator: str
    tokens: tuple[Token, ...]
    start: int
    end: int


def pipeline(tokens: Sequence[Token]) -> tuple[Stage, ...]:
    """Tokens of a tabular expression as stages, split at the bars outside brackets."""
    bars = [token for token, depth in _with_depth(tokens) if depth == 0 and token.text == "|"]
    stages = []
    for number, part in enumerate(split(tokens, "|")):
        if number == 0:
            start = part[0].start if part else 0
            stages.append(Stage("", tuple(part), start, part[-1].end if part else start))
            continue
        operator, size = _operator(part)
        bar = bars[number - 1]
        stages.append(
            Stage(operator, tuple(part[size:]), bar.start, part[-1].end if part else bar.end)
        )
    return tuple(stages)


def _operator(part: Sequence[Token]) -> tuple[str, int]:
    """The operator's name, hyphens included (``project-away``), and its tokens."""
    if not part:
        return "", 0
    text, size = part[0].text, 1
    while (
        size + 1 < len(part)
        and part[size].text == "-"
        and part[size].start == part[size - 1].end
        and part[size + 1].start == part[size].end
        and part[size + 1].kind is Kind.IDENTIFIER
    ):
        text += "-" + part[size + 1].text
        size += 2
    return text, size


def split(tokens: Sequence[Token], *separators: str) -> Iterator[list[Token]]:
    """The tokens between separators that stand outside all brackets."""
    part: list[Token] = []
    for token, depth in _with_depth(tokens):
        if depth == 0 and token.text in separators:
            yield part
            part = []
        else:
            part.append(token)
    yield part


def _with_depth(tokens: Sequence[Token]) -> Iterator[tuple[Token, int]]:
    """Each token and how many brackets it stands in; a bracket counts as inside."""
    depth = 0
    for token in tokens:
        if token.text in _OPENING:
            depth += 1
        yield token, depth
        if token.text in _CLOSING:
            depth -= 1


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


def groups(tokens: Sequence[Token], opening: Sequence[str] = _OPENING) -> Iterator[Sequence[Token]]:
    """What stands in each outermost pair of brackets."""
    at = 0
    while at < len(tokens):
        if tokens[at].text in opening:
            end = closing(tokens, at)
            yield tokens[at + 1 : end]
            at = end
        at += 1
