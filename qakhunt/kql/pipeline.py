"""A query's shape by token: its statements, and each pipeline's stages.

Enough of the grammar to say where a filter or an aggregation stands; expressions
stay tokens. It never fails: what it does not know becomes a stage of that name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qakhunt.kql.tokens import Kind, Token, tokenize

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


@dataclass(frozen=True)
class Statement:
    """One statement: ``name`` is set for ``let name = ...``.

    ``stages`` split its value (a let's) or the whole (a query's) at its bars.
    """

    name: str | None
    tokens: tuple[Token, ...]
    stages: tuple[Stage, ...]
    start: int
    end: int

    @property
    def value(self) -> tuple[Token, ...]:
        """What a ``let`` stands for, from its parameter list on; else the whole."""
        if self.name is None:
            return self.tokens
        return self.tokens[3:] if self.tokens[2].text == "=" else self.tokens[2:]

    @property
    def source(self) -> Stage:
        """The stage before the first bar."""
        return self.stages[0]


def statements(text: str) -> list[Statement]:
    """The text's statements in order. Raises KqlLexError."""
    found = []
    for part in split(tokenize(text), ";"):
        if part:
            found.append(_statement(part))
    return found


def query_statement(found: Sequence[Statement]) -> Statement | None:
    """The statement that yields the result: the last that is no ``let``."""
    return next((one for one in reversed(found) if one.name is None), None)


def _statement(tokens: Sequence[Token]) -> Statement:
    name = None
    body = tokens
    if len(tokens) > 2 and tokens[0].text == "let" and tokens[2].text in ("=", "("):
        name = tokens[1].text
        body = tokens[3:] if tokens[2].text == "=" else tokens[2:]
    return Statement(name, tuple(tokens), pipeline(body), tokens[0].start, tokens[-1].end)


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


@dataclass(frozen=True)
class Item:
    """One entry of a list of columns: ``name = expression``, or an expression alone.

    ``name`` is also set for a bare column.
    """

    name: str | None
    tokens: tuple[Token, ...]
    start: int
    end: int


def items(tokens: Sequence[Token]) -> list[Item]:
    """Entries between commas, as of ``extend``, ``project`` or a ``by`` list."""
    found = []
    for part in split(tokens, ","):
        if not part:
            continue
        name, expression = None, part
        if len(part) > 2 and part[0].kind is Kind.IDENTIFIER and part[1].text == "=":
            name, expression = part[0].text, part[2:]
        elif len(part) == 1 and part[0].kind is Kind.IDENTIFIER:
            name = part[0].text
        found.append(Item(name, tuple(expression), part[0].start, part[-1].end))
    return found


def by_split(tokens: Sequence[Token]) -> tuple[list[Token], list[Token]]:
    """The tokens before and after a ``by`` outside all brackets."""
    parts = list(split(tokens, "by"))
    return parts[0], parts[1] if len(parts) > 1 else []
