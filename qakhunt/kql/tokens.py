"""A KQL lexer that keeps every byte: tokens carry spans into the text.

It knows all string forms (``'..'`` ``".."`` ``@'..'`` ``h'..'`` and the fenced
ones), comments, numbers, timespans and the ``type(...)`` literals, which are one
token each. It accepts any other text as punctuation; grammar is not its concern.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from enum import Enum

import msgspec

from qakhunt.kql.values import TIMESPAN_UNITS


class Kind(Enum):
    """What a token is."""

    STRING = "string"
    NUMBER = "number"
    TIMESPAN = "timespan"
    TYPED = "typed"  # datetime(..) dynamic(..) guid(..) int(..) ...
    IDENTIFIER = "identifier"
    PUNCTUATION = "punctuation"
    COMMENT = "comment"


class Token(msgspec.Struct, frozen=True):
    """A token and its half-open span ``[start, end)`` in the text."""

    kind: Kind
    start: int
    end: int
    text: str


class KqlLexError(ValueError):
    """The text cannot be split into tokens; ``offset`` says where."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.message = message
        self.offset = offset


TYPED_LITERALS = {
    "bool": "bool", "boolean": "bool",
    "int": "int", "long": "long",
    "real": "real", "double": "real", "decimal": "decimal",
    "datetime": "datetime", "date": "datetime",
    "time": "timespan", "timespan": "timespan",
    "guid": "guid", "uuid": "guid", "uniqueid": "guid",
    "dynamic": "dynamic",
}  # fmt: skip
"""Keyword before the parenthesis -> KQL type."""

_SPACE = re.compile(r"\s+")
_COMMENT = re.compile(r"//[^\r\n]*")
_FENCED = re.compile(r"[hH]?(```|~~~)")
_QUOTE = re.compile(r"[hH]?(@?)(['\"])")
_PLAIN = {
    "'": re.compile(r"(?:[^'\\\r\n]|\\[^\r\n])*'"),
    '"': re.compile(r'(?:[^"\\\r\n]|\\[^\r\n])*"'),
}
_VERBATIM = {"'": re.compile(r"(?:[^']|'')*'"), '"': re.compile(r'(?:[^"]|"")*"')}
_IDENTIFIER = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]+|\d+(?:\.(?!\.)\d*)?(?:[eE][+-]?\d+)?", re.ASCII)
_UNIT = re.compile(r"[a-z]+")
_OPERATOR = re.compile(r"==|=~|!=|!~|<=|>=|<>|=>|\.\.|.", re.DOTALL)
_TYPED_OPEN = re.compile(r"\s*\(")
_ATOM = re.compile(r"[^()]*\)")


def tokenize(text: str, *, comments: bool = False) -> list[Token]:
    """Split ``text`` into tokens; white space, and comments unless asked for, are left out.

    Raises KqlLexError for a string or a typed literal that never ends.
    """
    tokens: list[Token] = []
    position, length = 0, len(text)
    while position < length:
        space = _SPACE.match(text, position)
        if space:
            position = space.end()
            continue
        kind, end = _next(text, position)
        if comments or kind is not Kind.COMMENT:
            tokens.append(Token(kind, position, end, text[position:end]))
        position = end
    return tokens


def _next(text: str, at: int) -> tuple[Kind, int]:
    comment = _COMMENT.match(text, at)
    if comment:
        return Kind.COMMENT, comment.end()
    end = string_end(text, at)
    if end is not None:
        return Kind.STRING, end
    word = _IDENTIFIER.match(text, at)
    if word:
        end = _typed_end(text, at, word) if word[0] in TYPED_LITERALS else None
        return (Kind.TYPED, end) if end is not None else (Kind.IDENTIFIER, word.end())
    number = _NUMBER.match(text, at)
    if number:
        unit = _UNIT.match(text, number.end())
        if unit and unit[0] in TIMESPAN_UNITS:
            return Kind.TIMESPAN, unit.end()
        return Kind.NUMBER, number.end()
    operator = _OPERATOR.match(text, at)
    return Kind.PUNCTUATION, operator.end() if operator else at + 1


def string_end(text: str, at: int) -> int | None:
    """Where the string literal that starts at ``at`` ends; None if none starts there."""
    fenced = _FENCED.match(text, at)
    if fenced:
        close = text.find(fenced[1], fenced.end())
        if close < 0:
            raise KqlLexError(f"a {fenced[1]} string is not closed", at)
        return close + 3
    quote = _QUOTE.match(text, at)
    if not quote:
        return None
    forms = _VERBATIM if quote[1] else _PLAIN
    body = forms[quote[2]].match(text, quote.end())
    if body is None:
        raise KqlLexError("a string is not closed on its line", at)
    return body.end()


def _typed_end(text: str, at: int, word: re.Match[str]) -> int | None:
    opened = _TYPED_OPEN.match(text, word.end())
    if not opened:
        return None
    if TYPED_LITERALS[word[0]] != "dynamic":
        atom = _ATOM.match(text, opened.end())
        return atom.end() if atom else None
    depth, position = 1, opened.end()
    while position < len(text):
        comment = _COMMENT.match(text, position)
        end = comment.end() if comment else string_end(text, position)
        if end is not None:
            position = end
            continue
        depth += {"(": 1, ")": -1}.get(text[position], 0)
        position += 1
        if not depth:
            return position
    raise KqlLexError("dynamic( is not closed", at)


class LineIndex:
    """Offsets to line and column, both counted from 1."""

    def __init__(self, text: str) -> None:
        self._starts = [0, *(m.end() for m in re.finditer(r"\r\n|\r|\n", text))]

    def locate(self, offset: int) -> tuple[int, int]:
        """Line and column of ``offset``."""
        line = bisect_right(self._starts, offset)
        return line, offset - self._starts[line - 1] + 1

    def offset(self, line: int, column: int = 1) -> int:
        """Offset of a line and column; a line past the end gives the last line's."""
        return self._starts[min(line, len(self._starts)) - 1] + column - 1
