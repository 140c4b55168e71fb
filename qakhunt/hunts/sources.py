"""What a query reads its records from, as far as its text says it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from qakhunt.hunts.product import tables_of
from qakhunt.kql.pipeline import bracketed, groups, pipeline, split
from qakhunt.kql.schema import tables
from qakhunt.kql.tokens import Kind, tokenize

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qakhunt.kql.tokens import Token

    Tokens = Sequence[Token]

_MADE_HERE = frozenset(["print", "datatable", "range"])
# What a query brings along or looks up, rather than what it looks at.
_LISTS = frozenset(["externaldata", "_GetWatchlist"])
_EVERYTHING = frozenset(["find", "search"])
_TRANSPARENT = frozenset(["materialize", "view"])
_NOT_QUERIES = frozenset(["set", "declare", "alias", "restrict"])
_OPERATORS = frozenset(
    ["count", "serialize", "consume", "getschema", "where", "take", "limit", "top", "summarize"]
)  # fmt: skip


@dataclass
class Sources:
    """``tables`` are names, or expressions, to read records from, each once.

    ``unnamed`` are sources whose tables the query does not name, such as ``search``.
    """

    tables: dict[str, None] = field(default_factory=dict)
    unnamed: dict[str, None] = field(default_factory=dict)


def sources_of(text: str, product: str) -> Sources:
    """All sources of a query, those of every ``let`` included."""
    tokens = tokenize(text)
    reader = _Reader(text, product)
    reader.statements(tokens)
    found = Sources(unnamed=reader.found.unnamed)
    named = [table for table in tables_of(tokens, product) if table not in reader.lets]
    found.tables = dict.fromkeys([*named, *reader.found.tables])
    return found


class _Reader:
    """Walks statements and collects what stands where a table does."""

    def __init__(self, text: str, product: str) -> None:
        self.found = Sources()
        self.lets: set[str] = set()
        self._text, self._known = text, tables(product)

    def statements(self, tokens: Tokens) -> None:
        for part in split(tokens, ";"):
            if len(part) > 2 and part[0].text == "let" and part[2].text in ("=", "("):
                self.lets.add(part[1].text)
                self._let(part[3:] if part[2].text == "=" else part[2:])
            elif part and part[0].text not in _NOT_QUERIES:
                self._pipeline(part)

    def _let(self, value: Tokens) -> None:
        if value and value[-1].text == "}":
            opening = [token.text for token in value].index("{")
            self.lets.update(token.text for token in value[:opening])
            self.statements(value[opening + 1 : -1])
        elif self._is_tabular(value):
            self._pipeline(value)
        else:
            self._inside(value)

    def _is_tabular(self, tokens: Tokens) -> bool:
        if len(pipeline(tokens)) > 1:
            return True
        if bracketed(tokens):
            return self._is_tabular(tokens[1:-1])
        first = tokens[0].text if tokens else ""
        words = _MADE_HERE | _LISTS | _EVERYTHING | _TRANSPARENT | {"union", "table", "workspace"}
        return first in words or (len(tokens) == 1 and self._is_table(tokens[0]))

    def _is_table(self, token: Token) -> bool:
        return token.kind is Kind.IDENTIFIER and (
            token.text in self._known or token.text.endswith("_CL")
        )

    def _pipeline(self, tokens: Tokens) -> None:
        source, *stages = pipeline(tokens)
        self._source(source.tokens)
        for stage in stages:
            if stage.operator == "union":
                self._branches(stage.tokens)
            elif stage.operator == "as" and stage.tokens:
                self.lets.add(stage.tokens[-1].text)
            elif stage.operator in ("join", "lookup"):
                right = next(split(_without_options(stage.tokens), "on", "where"))
                self._source(right)
            else:
                self._inside(stage.tokens)

    def _branches(self, tokens: Tokens) -> None:
        for branch in split(_without_options(tokens), ","):
            self._source(branch)

    def _source(self, tokens: Tokens) -> None:
        """What a pipeline starts from."""
        if not tokens:
            return
        first = tokens[0].text
        if bracketed(tokens):
            self._pipeline(tokens[1:-1])
        elif first == "union":
            self._branches(tokens[1:])
        elif first in _TRANSPARENT:
            for part in groups(tokens[1:]):
                self.statements(part)
        elif first in _MADE_HERE | _LISTS:
            self._inside(tokens)
        elif first in _EVERYTHING and len(tokens) > 2 and tokens[1].text == "in":
            self._branches(next(groups(tokens)))
        elif first in _EVERYTHING or any(token.text == "*" for token in tokens):
            self.found.unnamed[_words(self._text, tokens)] = None
        elif first not in self.lets:
            self._table(tokens)
        else:
            self._inside(tokens)

    def _table(self, tokens: Tokens) -> None:
        words = _words(self._text, tokens)
        plain = all(token.kind in (Kind.IDENTIFIER, Kind.STRING) or token.text in ".()[]"
                    for token in tokens)  # fmt: skip
        local = any(token.text in self.lets for token in tokens)
        (self.found.tables if plain and not local else self.found.unnamed)[words] = None

    def _inside(self, tokens: Tokens) -> None:
        """Queries in the brackets of an expression."""
        for part in groups(tokens):
            first, *others = pipeline(part)
            is_source = len(first.tokens) == 1 and first.tokens[0].kind is Kind.IDENTIFIER
            starts = is_source and first.tokens[0].text not in _OPERATORS
            if (
                (others and starts)
                or self._is_tabular(part[:1])
                or (is_source and self._is_table(first.tokens[0]))
            ):
                self._pipeline(part)
            else:
                self._inside(part)


def _without_options(tokens: Tokens) -> Tokens:
    """Less the leading ``kind=``, ``withsource=`` and hints."""
    at = 0
    while at + 2 < len(tokens):
        equals = 3 if tokens[at + 1].text == "." else 1
        if at + equals + 1 >= len(tokens) or tokens[at + equals].text != "=":
            break
        at += equals + 2
    return tokens[at:]


def _words(text: str, tokens: Tokens) -> str:
    return text[tokens[0].start : tokens[-1].end]
