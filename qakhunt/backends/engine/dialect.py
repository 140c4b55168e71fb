"""KQL as the translator reads it: what it misreads is respelled or refused.

The text changes only where it must; edits lead every position back.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from qakhunt.core.errors import EngineError
from qakhunt.kql.edits import Edit
from qakhunt.kql.literal import decode, decode_string
from qakhunt.kql.parser import parse
from qakhunt.kql.syntax import Declaration, Let, Name, Named, Operator, Path, find
from qakhunt.kql.tokens import Kind, KqlLexError, Token, tokenize

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from qakhunt.kql.schema import Columns

# The only escapes that the translator knows; it drops the backslash of others.
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_KNOWN_ESCAPES = frozenset("ntr\\'\"")


class Unreadable(EngineError):
    """The engine cannot read or run the query; ``offset`` is where in its text."""

    def __init__(self, message: str, offset: int | None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.offset = offset


def respell(text: str) -> list[Edit]:
    """Edits that give every string literal a form that the translator reads right."""
    try:
        tokens = tokenize(text)
    except KqlLexError as problem:
        raise Unreadable(f"syntax error: {problem.message}", problem.offset) from None
    edits = []
    for token in tokens:
        try:
            new = _respelled(token)
        except ValueError as problem:
            raise Unreadable(str(problem), token.start) from None
        if new is not None:
            edits.append(Edit(token.start, token.end, new))
    return edits


def _respelled(token: Token) -> str | None:
    if token.kind is Kind.STRING:
        if token.text[0] in "'\"" and not _has_foreign_escape(token.text):
            return None
        return _quote(decode_string(token.text))
    if token.kind is Kind.TYPED and token.text.startswith("dynamic"):
        if not _has_foreign_escape(token.text):
            return None
        return f"dynamic({_dynamic(decode(token.text)[1])})"
    return None


def _has_foreign_escape(text: str) -> bool:
    escaped = False
    for char in text:
        if escaped and char not in _KNOWN_ESCAPES:
            return True
        escaped = char == "\\" and not escaped
    return False


def _quote(value: str) -> str:
    return '"' + "".join(_ESCAPES.get(char, char) for char in value) + '"'


def _dynamic(value: object) -> str:
    if isinstance(value, str):
        return _quote(value)
    if isinstance(value, list):
        return "[" + ",".join(map(_dynamic, value)) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{_quote(k)}:{_dynamic(v)}" for k, v in value.items()) + "}"
    return json.dumps(value)


def refuse_wrong_case(text: str, tables: Mapping[str, Columns]) -> None:
    """Refuse a table's column in the wrong case: DuckDB would fold it, Kusto does not."""
    script = parse(text)
    names = list(find(script, Name))
    mentioned = {node.name for node in names}
    exact = {column for name in tables if name in mentioned for column in tables[name]}
    made = {one.name for one in script.walk() if isinstance(one, (Let, Declaration))}
    members: set[int] = set()
    for node in script.walk():
        if isinstance(node, Named):
            made.update(node.names)
        elif isinstance(node, Operator) and node.name == "as":
            made.update(one.name for one in node.arguments if isinstance(one, Name))
        elif isinstance(node, Path):
            members.update(step.start for step in node.steps)
    folded = {name.casefold(): name for name in exact}
    for node in names:
        meant = folded.get(node.name.casefold())
        known = node.name in exact or node.name in made or node.name in tables
        if meant and not known and node.start not in members:
            raise Unreadable(
                f"no column named {node.name!r}", node.start, hint=f"did you mean {meant!r}?"
            )


def offset_of(text: str, word: str) -> int | None:
    """Where ``word`` first stands as a token of its own, for errors without a place."""
    try:
        tokens: Iterable[Token] = tokenize(text)
    except KqlLexError:
        return None
    return next((token.start for token in tokens if token.text == word), None)
