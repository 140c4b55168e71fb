"""The string comparisons of a query: which column, which operator, which texts.

Lists behind a ``let`` are followed to their literals, so that a finding can point at
the entry itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qakhunt.hunts.parameters import leading_lets
from qakhunt.kql.literal import decode, decode_string
from qakhunt.kql.tokens import Kind, Token, tokenize

if TYPE_CHECKING:
    from collections.abc import Sequence

_SYMBOLS = frozenset({"==", "!=", "=~", "!~"})
_WORDS = frozenset((
    "in", "has", "has_cs", "has_any", "has_all", "hasprefix", "hasprefix_cs", "hassuffix",
    "hassuffix_cs", "contains", "contains_cs", "startswith", "startswith_cs", "endswith",
    "endswith_cs",
))  # fmt: skip
_INSENSITIVE_WRAPPERS = frozenset({"tolower", "toupper"})


@dataclass(frozen=True)
class Text:
    """One text that a comparison looks for, and its literal's span in the query."""

    value: str
    start: int
    end: int


@dataclass(frozen=True)
class StringTest:
    """``column operator texts``; ``operator`` is spelled as in KQL, ``!`` included.

    ``start`` and ``end`` span the comparison, ``operator_span`` the operator.
    ``wrapped`` says that the column stands in tolower() or toupper(); ``list_name`` is
    the let that holds the texts, if one does; ``stage`` numbers the bars before it.
    """

    column: str
    operator: str
    texts: tuple[Text, ...]
    start: int
    end: int
    operator_span: tuple[int, int]
    wrapped: bool
    list_name: str | None
    stage: int

    @property
    def positive(self) -> str:
        """The operator without its negation."""
        return {"!=": "==", "!~": "=~"}.get(self.operator, self.operator.removeprefix("!"))


def string_tests(text: str) -> list[StringTest]:
    """All comparisons of a column with literal texts, in order."""
    tokens = tokenize(text)
    lists = _lists(text, tokens)
    found = []
    stage = 0
    for at, token in enumerate(tokens):
        if token.text in ("|", ";"):
            stage += 1
        operator = _operator(tokens, at)
        if operator is None:
            continue
        name, size = operator
        left = _left(tokens, at)
        right = _right(tokens, at + size, lists)
        if left is None or right is None or not right[0]:
            continue
        column, start, wrapped = left
        texts, end, list_name = right
        span = (token.start, tokens[at + size - 1].end)
        found.append(StringTest(column, name, texts, start, end, span, wrapped, list_name, stage))
    return found


def list_entries(text: str) -> dict[str, tuple[Text, ...]]:
    """Each leading let that holds a list of texts, with its entries."""
    return {name: texts for name, texts in _lists(text, tokenize(text)).items() if len(texts) != 1}


def _operator(tokens: Sequence[Token], at: int) -> tuple[str, int] | None:
    """The operator that starts at a token and how many tokens it takes."""
    token = tokens[at]
    if token.text in _SYMBOLS:
        return token.text, 1
    negated = token.text == "!"
    word_at = at + 1 if negated else at
    if word_at >= len(tokens) or tokens[word_at].text not in _WORDS:
        return None
    if not negated and at and tokens[at - 1].text == "!":
        return None
    name = ("!" if negated else "") + tokens[word_at].text
    size = word_at - at + 1
    after = tokens[at + size] if at + size < len(tokens) else None
    if tokens[word_at].text == "in" and after and after.text == "~":
        return name + "~", size + 1
    return name, size


def _left(tokens: Sequence[Token], at: int) -> tuple[str, int, bool] | None:
    """Column, start and wrapping of what stands left of the operator."""
    if at == 0:
        return None
    before = tokens[at - 1]
    if before.kind is Kind.IDENTIFIER:
        return before.text, before.start, False
    if before.text != ")" or at < 4:
        return None
    column, opened, function = tokens[at - 2], tokens[at - 3], tokens[at - 4]
    if opened.text == "(" and column.kind is Kind.IDENTIFIER and function.kind is Kind.IDENTIFIER:
        return column.text, function.start, function.text in _INSENSITIVE_WRAPPERS
    return None


def _right(
    tokens: Sequence[Token], at: int, lists: dict[str, tuple[Text, ...]]
) -> tuple[tuple[Text, ...], int, str | None] | None:
    if at >= len(tokens):
        return None
    token = tokens[at]
    if token.kind is Kind.STRING:
        return (_text(token),), token.end, None
    if token.kind is Kind.IDENTIFIER and token.text in lists:
        return lists[token.text], token.end, token.text
    if token.text != "(":
        return None
    texts: list[Text] = []
    name = None
    for inner in tokens[at + 1 :]:
        if inner.text == ")":
            return tuple(texts), inner.end, name
        if inner.kind is Kind.STRING:
            texts.append(_text(inner))
        elif inner.kind is Kind.TYPED and inner.text.startswith("dynamic"):
            texts += _entries(inner)
        elif inner.kind is Kind.IDENTIFIER and inner.text in lists:
            texts += lists[inner.text]
            name = inner.text
        elif inner.text != ",":
            return None
    return None


def _text(token: Token) -> Text:
    return Text(decode_string(token.text), token.start, token.end)


def _entries(token: Token) -> list[Text]:
    """The strings of a ``dynamic([...])`` literal, each at its own place."""
    try:
        value = decode(token.text)[1]
    except ValueError:
        return []
    if not isinstance(value, list):
        return [Text(value, token.start, token.end)] if isinstance(value, str) else []
    offset = token.text.index("(") + 1
    base = token.start + offset
    return [
        Text(decode_string(inner.text), base + inner.start, base + inner.end)
        for inner in tokenize(token.text[offset:-1])
        if inner.kind is Kind.STRING
    ]


def _lists(text: str, tokens: Sequence[Token]) -> dict[str, tuple[Text, ...]]:
    found: dict[str, tuple[Text, ...]] = {}
    for let in leading_lets(tokens):
        if len(let.tokens) != 1:
            continue
        token = let.tokens[0]
        if token.kind is Kind.STRING:
            found[let.name] = (_text(token),)
        elif token.kind is Kind.TYPED and text[token.start :].startswith("dynamic"):
            found[let.name] = tuple(_entries(token))
    return found
