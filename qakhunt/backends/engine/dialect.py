"""KQL as the translator reads it: what it misreads is respelled or refused.

The text changes only where it must; edits lead every position back.
"""

from __future__ import annotations

import json
from itertools import pairwise
from typing import TYPE_CHECKING

from qakhunt.core.errors import EngineError
from qakhunt.kql.edits import Edit
from qakhunt.kql.literal import decode, decode_string
from qakhunt.kql.parser import parse
from qakhunt.kql.syntax import (
    Call,
    Declaration,
    Group,
    Let,
    Literal,
    Name,
    Named,
    Operator,
    Option,
    Path,
    find,
)
from qakhunt.kql.tokens import Kind, KqlLexError, Token, tokenize

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from qakhunt.kql.schema import Columns
    from qakhunt.kql.syntax import Script

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
    script = parse(text)
    edits = _columns_if_they_exist(script, tables)
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
    inside = (
        *_bare_indexes(script), *_leading_captures(script), *_percentiles(script, text),
        *_names_of_keywords(script), *_typed_extracts(script),
    )  # fmt: skip
    edits += (e for e in inside if not any(a <= e.start < b for a, b in covered))
    return sorted(edits, key=lambda edit: edit.start)


def _columns_if_they_exist(script: Script, tables: Mapping[str, Columns]) -> list[Edit]:
    """``column_ifexists("Name", default)`` as the column, or as the default.

    Known only where nothing but filters stands between the tables and it.
    """
    named = [tables[node.name] for node in find(script, Name) if node.name in tables]
    edits: list[Edit] = []
    for call in find(script, Call):
        if call.name not in ("column_ifexists", "columnifexists"):
            continue
        if any(edit.start < call.start < edit.end for edit in edits):
            continue  # in the default of one that exists
        literal = call.arguments[0] if len(call.arguments) == 2 else None
        if not isinstance(literal, Literal) or literal.type != "string":
            raise Unreadable(f"{call.name} needs a column's name as a literal", call.start)
        column = literal.text
        held = {column in columns for columns in named}
        if len(held) != 1 or not _filters_alone(script, call):
            raise Unreadable(
                f"whether the column {column} exists here is not known to the embedded engine",
                call.start, hint="ask for it directly after the table or its 'where' filters",
            )  # fmt: skip
        if True in held:
            edits.append(Edit(call.start, call.end, f"[{_quote(column)}]"))
        else:
            comma = next(part for part in call.parts if part.start >= literal.end)
            edits.append(Edit(call.start, comma.end, "("))
    return edits


def _bare_indexes(script: Script) -> Iterator[Edit]:
    """``value.[0]`` as ``value[0]``."""
    for path in find(script, Path):
        for dot, step in pairwise(path.parts):
            if isinstance(dot, Token) and dot.text == "." and isinstance(step, Group):
                yield Edit(dot.start, dot.end, "")


_MARK = "\u2063"


def _leading_captures(script: Script) -> Iterator[Edit]:
    """``parse x with a ","``: a mark before the text gives the first column its literal."""
    for operator in find(script, Operator):
        pattern = operator.clause("with") if operator.name.startswith("parse") else None
        if pattern and isinstance(pattern[0], (Declaration, Name)) and operator.arguments:
            source = operator.arguments[0]
            yield Edit(source.start, source.start, f'strcat("{_MARK}", ')
            yield Edit(source.end, source.end, ")")
            yield Edit(pattern[0].start, pattern[0].start, f'"{_MARK}" ')


def _percentiles(script: Script, text: str) -> Iterator[Edit]:
    """``percentiles(x, 5, 95)`` as one ``percentile`` for each, under the same names."""
    for operator in find(script, Operator):
        if operator.name != "summarize":
            continue
        for call in operator.arguments:
            if isinstance(call, Call) and call.name == "percentiles" and len(call.arguments) > 1:
                value, *wanted = (text[one.start : one.end] for one in call.arguments)
                each = ", ".join(f"percentile({value}, {one})" for one in wanted)
                yield Edit(call.start, call.end, each)


_KEYWORDS = frozenset([
    "anomalycolumns", "consume", "count", "distinct", "entity_group", "extend", "join", "limit",
    "order", "parse", "regex", "scan", "serialize", "sort", "summarize", "table", "take", "top",
])  # fmt: skip
"""Words that Kusto takes for names where no operator can stand, the translator does not."""


def _names_of_keywords(script: Script) -> Iterator[Edit]:
    """Such names in the form that is always a name; the words of options stay words."""
    words = {
        word.start
        for node in script.walk()
        if isinstance(node, Option) or (isinstance(node, Operator) and node.name == "render")
        for word in find(node, Name)
    }
    for name in find(script, Name):
        plain = name.name in _KEYWORDS and name.tokens[0].text == name.name
        if plain and name.start not in words:
            yield Edit(name.start, name.end, f"['{name.name}']")


_READERS = {
    "string": "tostring", "int": "toint", "long": "tolong", "real": "toreal", "double": "toreal",
    "datetime": "todatetime", "date": "todatetime", "timespan": "totimespan", "bool": "tobool",
    "guid": "toguid", "dynamic": "todynamic",
}  # fmt: skip


def _typed_extracts(script: Script) -> Iterator[Edit]:
    """``extract(regex, group, text, typeof(long))`` as ``tolong(extract(regex, group, text))``."""
    for call in find(script, Call):
        type_of = call.arguments[-1] if call.arguments else None
        if not isinstance(type_of, Call) or type_of.name != "typeof":
            continue
        reader = _READERS.get("".join(part.text for part in type_of.tokens[2:-1]))
        if call.name in ("extract", "extract_json", "extractjson") and reader:
            yield Edit(call.start, call.start, f"{reader}(")
            yield Edit(call.arguments[-2].end, type_of.end, ")")


def _filters_alone(script: Script, call: Call) -> bool:
    """Whether all operators before the one that the call stands in are filters."""
    before = [one for one in find(script, Operator) if one.start < call.start and one.has_bar]
    return all(one.name == "where" for one in before[:-1])


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
        if meant and node.name not in exact | made | tables.keys() and node.start not in members:
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
