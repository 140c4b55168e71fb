"""KQL as the translator reads it: what it misreads is respelled or refused.

The text changes only where it must; edits lead every position back.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from qakhunt.errors import EngineError
from qakhunt.kql.edits import Edit
from qakhunt.kql.literal import decode, decode_string
from qakhunt.kql.pipeline import closing
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


def respell(text: str, tables: Mapping[str, Columns]) -> list[Edit]:
    """Edits that give every string literal a form that the translator reads right.

    ``column_ifexists``, which it does not know, becomes what it stands for.
    """
    try:
        tokens = tokenize(text)
    except KqlLexError as problem:
        raise Unreadable(f"syntax error: {problem.message}", problem.offset) from None
    edits = _columns_if_they_exist(tokens, tables)
    covered = [(edit.start, edit.end) for edit in edits]
    for token in tokens:
        if any(start <= token.start < end for start, end in covered):
            continue
        try:
            new = _respelled(token)
        except ValueError as problem:
            raise Unreadable(str(problem), token.start) from None
        if new is not None:
            edits.append(Edit(token.start, token.end, new))
    return sorted(edits, key=lambda edit: edit.start)


def _columns_if_they_exist(tokens: list[Token], tables: Mapping[str, Columns]) -> list[Edit]:
    """``column_ifexists("Name", default)`` as the column, or as the default.

    Known only where nothing but filters stands between the tables and it.
    """
    named = [tables[token.text] for token in tokens if token.text in tables]
    edits: list[Edit] = []
    for at, token in enumerate(tokens):
        if token.text not in ("column_ifexists", "columnifexists"):
            continue
        if any(edit.start < token.start < edit.end for edit in edits):
            continue  # in the default of one that exists
        bracket, name, comma = tokens[at + 1 : at + 4] if len(tokens) > at + 3 else [token] * 3
        if (bracket.text, name.kind, comma.text) != ("(", Kind.STRING, ","):
            raise Unreadable(f"{token.text} needs a column's name as a literal", token.start)
        column = decode_string(name.text)
        held = {column in columns for columns in named}
        if len(held) != 1 or not _filters_alone(tokens[:at]):
            raise Unreadable(
                f"whether the column {column} exists here is not known to the embedded engine",
                token.start, hint="ask for it directly after the table or its 'where' filters",
            )  # fmt: skip
        if True in held:
            end = tokens[closing(tokens, at + 1)].end
            edits.append(Edit(token.start, end, f"[{_quote(column)}]"))
        else:
            edits.append(Edit(token.start, comma.end, "("))
    return edits


def _filters_alone(before: list[Token]) -> bool:
    """Whether all operators that end in ``before`` are filters."""
    pipes = [at for at, token in enumerate(before) if token.text == "|"]
    return all(before[at + 1].text == "where" for at in pipes[:-1])


def _respelled(token: Token) -> str | None:
    if token.kind is Kind.STRING and not _is_plain(token.text):
        return _quote(decode_string(token.text))
    if token.kind is Kind.TYPED and token.text.startswith("dynamic"):
        if not _has_foreign_escape(token.text):
            return None
        return f"dynamic({_dynamic(decode(token.text)[1])})"
    return None


def _is_plain(text: str) -> bool:
    return text[0] in "'\"" and not _has_foreign_escape(text)


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
    tokens = tokenize(text)
    exact: set[str] = set()
    for name, columns in tables.items():
        if any(token.text == name for token in tokens):
            exact.update(columns)
    made = {
        token.text
        for at, token in enumerate(tokens)
        if token.kind is Kind.IDENTIFIER and _is_binding(tokens, at)
    }
    folded = {name.casefold(): name for name in exact}
    for at, token in enumerate(tokens):
        if token.kind is not Kind.IDENTIFIER or token.text in exact or token.text in made:
            continue
        meant = folded.get(token.text.casefold())
        if meant and not _is_call_or_member(tokens, at):
            raise Unreadable(
                f"no column named {token.text!r}", token.start, hint=f"did you mean {meant!r}?"
            )


def _is_binding(tokens: list[Token], at: int) -> bool:
    after = tokens[at + 1].text if at + 1 < len(tokens) else ""
    before = tokens[at - 1].text if at else ""
    return after in ("=", ":") or before in ("let", "as")


def _is_call_or_member(tokens: list[Token], at: int) -> bool:
    after = tokens[at + 1].text if at + 1 < len(tokens) else ""
    return after == "(" or (at > 0 and tokens[at - 1].text == ".")


def offset_of(text: str, word: str) -> int | None:
    """Where ``word`` first stands as a token of its own, for errors without a place."""
    try:
        tokens: Iterable[Token] = tokenize(text)
    except KqlLexError:
        return None
    return next((token.start for token in tokens if token.text == word), None)
