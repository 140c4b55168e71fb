"""The feed of a table: the records that a query can need of it, as a query of its own.

It is the table cut to a stretch of time and to the filters that directly follow its
name (or a ``project`` of plain columns that does), as far as they use only the
table's own columns, literals, ``let`` constants and deterministic functions. The
unchanged query over the feeds of all its tables gives what it gives over the tables
themselves.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from qakhunt.hunts.feed_columns import bare_columns, columns_read, operator_end
from qakhunt.hunts.product import tables_of
from qakhunt.kql.functions import DETERMINISTIC, OUTSIDE, UNREPEATABLE, WORDS
from qakhunt.kql.literal import decode_string, encode, literal_type
from qakhunt.kql.pipeline import pipeline, split, statements
from qakhunt.kql.schema import TIME_COLUMN, columns, tables
from qakhunt.kql.tokens import Kind, Token, tokenize

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from qakhunt.kql.values import Window

_FILTERS = ("where", "filter")
_UNBOUNDED = frozenset(["find", "search", "evaluate", "invoke"])
_ARBITRARY = frozenset(["take", "limit", "sample", "sample-distinct"])
_SYMBOLS = frozenset([*"(),+-/%.!~[]<>", "..", "==", "!=", "=~", "!~", "<=", ">=", "<>"])


class NoFeed(ValueError):
    """What the query reads cannot be told from the tables it names; the text says why."""


@dataclass(frozen=True)
class Feed:
    """The records of one table that a query can need.

    ``condition`` is KQL, None where every record is needed; ``lets`` are the
    statements that it refers to, each with its ``;``. ``columns`` are those that the
    query reads, None where it may read all. ``time_column`` is None for a table
    without one, which no stretch of time can cut.
    """

    table: str
    time_column: str | None
    condition: str | None = None
    lets: tuple[str, ...] = ()
    columns: tuple[str, ...] | None = None

    def query(self, window: Window) -> str:
        """KQL that fetches the feed of one stretch of time."""
        lines = [*self.lets, self.table]
        if self.time_column:
            start, end = encode(window.start, "datetime"), encode(window.end, "datetime")
            lines.append(f"| where {self.time_column} >= {start} and {self.time_column} < {end}")
        if self.condition:
            lines.append(f"| where {self.condition}")
        if self.columns:
            lines.append(f"| project {', '.join(self.columns)}")
        return "\n".join(lines) + "\n"


def feeds(text: str, product: str) -> tuple[Feed, ...]:
    """The feed of each table that the query names, in order. Raises NoFeed."""
    tokens = tokenize(text)
    names = tables_of(tokens, product)
    if not names:
        raise NoFeed("the query names no table that is known")
    _refuse_other_sources(tokens, tables(product))
    reader = _FilterReader(text, tokens, product)
    return tuple(reader.feed(name) for name in names)


def _refuse_other_sources(tokens: Sequence[Token], known: Collection[str]) -> None:
    for at, token in enumerate(tokens):
        after = tokens[at + 1].text if at + 1 < len(tokens) else ""
        before = tokens[at - 1].text if at else "|"
        if token.kind is Kind.STRING and before == "[" and decode_string(token.text) in known:
            raise NoFeed(f"{token.text} names a table in brackets")
        if token.kind is not Kind.IDENTIFIER or before == ".":
            continue
        word = token.text
        if word in UNREPEATABLE | OUTSIDE and after == "(":
            raise NoFeed(f"{word}() gives something else each time, or reads from elsewhere")
        starts = before in ("|", "(", ";", "=")
        if starts and after not in ("(", "=") and word in _UNBOUNDED:
            raise NoFeed(f"the operator {word!r} reads more than the tables that the query names")
        if word == "union" and starts and _has_wildcard(tokens[at + 1 :]):
            raise NoFeed("a union with a wildcard reads tables that the query does not name")
        picks = before == "|" and _operator_name(tokens, at) in _ARBITRARY
        if picks and not _is_sorted(tokens, at):
            raise NoFeed(f"{word!r} without a sort before it picks records at will")


def _has_wildcard(tokens: Sequence[Token]) -> bool:
    arguments, depth = next(split(tokens, "|", ";")), 0
    for token in arguments:
        depth += (token.text == "(") - (token.text == ")")
        if depth < 0:
            return False
        if depth == 0 and token.text == "*":
            return True
    return False


def _operator_name(tokens: Sequence[Token], at: int) -> str:
    if tokens[at].text == "sample" and at + 2 < len(tokens) and tokens[at + 1].text == "-":
        return f"sample-{tokens[at + 2].text}"
    return tokens[at].text


def _is_sorted(tokens: Sequence[Token], at: int) -> bool:
    """Whether the operator before the one at ``at`` sorts."""
    depth = 0
    for position in range(at - 2, -1, -1):
        text = tokens[position].text
        depth += (text in (")", "]")) - (text in ("(", "["))
        if depth < 0 or (depth == 0 and text == ";"):
            return False
        if depth == 0 and text == "|":
            return tokens[position + 1].text in ("sort", "order", "top")
    return False


def conditions(text: str, product: str) -> dict[str, list[tuple[str, ...]]]:
    """For each place that reads a table: what every record it can need fulfils.

    Each condition is KQL by itself, the constants it names put in their place; those
    on the record's own time are left out. Raises NoFeed.
    """
    tokens = tokenize(text)
    _refuse_other_sources(tokens, tables(product))
    reader = _FilterReader(text, tokens, product)
    return {name: reader.conditions(name) for name in tables_of(tokens, product)}


class _FilterReader:
    """Reads the filters behind each table's name."""

    def __init__(self, text: str, tokens: Sequence[Token], product: str) -> None:
        self.text, self.tokens, self.product = text, tokens, product
        defined = Counter(
            tokens[at + 1].text for at, token in enumerate(tokens[:-1]) if token.text == "let"
        )
        self.hidden = _function_parameters(tokens) | {n for n, c in defined.items() if c > 1}
        self.lets: dict[str, tuple[Token, ...]] = {}
        for statement in statements(text):
            if statement.name and self._is_constant(statement.value):
                self.lets[statement.name] = statement.value

    def _is_constant(self, tokens: Sequence[Token]) -> bool:
        return bool(tokens) and self._is_repeatable(tokens, ())

    def feed(self, table: str) -> Feed:
        own = columns(self.product, table)
        time_column = TIME_COLUMN[self.product] if TIME_COLUMN[self.product] in own else None
        places = [at for at, token in enumerate(self.tokens) if self._is_source(at, token, table)]
        read = self._columns_read(places, own, time_column)
        alternatives = [self._kept_filters(at, own) for at in places]
        if not alternatives or not all(alternatives):
            return Feed(table, time_column, columns=read)
        used = [token for kept in alternatives for part in kept for token in part]
        texts = [[self._span(part) for part in kept] for kept in alternatives]
        joined = dict.fromkeys(" and ".join(f"({part})" for part in kept) for kept in texts)
        condition = "\n    or ".join(joined)
        return Feed(table, time_column, condition, self._lets_for(used), read)

    def conditions(self, table: str) -> list[tuple[str, ...]]:
        """One tuple for each place that reads the table."""
        own = columns(self.product, table)
        time_column = TIME_COLUMN[self.product]
        return [
            tuple(
                self._by_itself(part)
                for part in self._kept_filters(at, own)
                if all(token.text != time_column for token in part)
            )
            for at, token in enumerate(self.tokens)
            if self._is_source(at, token, table)
        ]

    def _by_itself(self, tokens: Sequence[Token]) -> str:
        """The text on one line, constants instead of their names."""
        parts: list[str] = []
        end = None
        for at, token in enumerate(tokens):
            text = token.text
            is_member = at > 0 and tokens[at - 1].text == "."
            if token.kind is Kind.IDENTIFIER and text in self.lets and not is_member:
                value = self._by_itself(self.lets[text])
                text = value if len(self.lets[text]) == 1 else f"({value})"
            parts.append(text if end in (None, token.start) else f" {text}")
            end = token.end
        return "".join(parts)

    def _columns_read(
        self, places: Sequence[int], own: Collection[str], time_column: str | None
    ) -> tuple[str, ...] | None:
        """In the table's order; its time is among them, whatever the query reads."""
        found = {time_column} if time_column else set()
        for at in places:
            read = columns_read(self.tokens, at, own)
            if read is None:
                return None
            found |= read
        return tuple(name for name in own if name in found) or None

    def _is_source(self, at: int, token: Token, table: str) -> bool:
        if token.kind is not Kind.IDENTIFIER or token.text != table:
            return False
        after = self.tokens[at + 1].text if at + 1 < len(self.tokens) else ""
        return after != "=" and not (at and self.tokens[at - 1].text == ".")

    def _kept_filters(self, at: int, own: Collection[str]) -> list[tuple[Token, ...]]:
        """Conditions that each record must fulfil to get past the filters behind a name."""
        kept = []
        at += 1
        while at + 1 < len(self.tokens) and self.tokens[at].text == "|":
            end = operator_end(self.tokens, at + 2)
            step = pipeline(self.tokens[at:end])[1]
            chosen = bare_columns(step.tokens, own) if step.operator == "project" else None
            if chosen is not None:
                own, at = chosen, end
                continue
            if step.operator not in _FILTERS:
                break
            condition = step.tokens
            has_or = len(list(split(condition, "or"))) > 1
            parts = [condition] if has_or else [tuple(p) for p in split(condition, "and")]
            kept += [part for part in parts if part and self._is_repeatable(part, own)]
            at = end
        return kept

    def _is_repeatable(self, tokens: Sequence[Token], own: Collection[str]) -> bool:
        return all(self._is_known(tokens, at, own) for at in range(len(tokens)))

    def _is_known(self, tokens: Sequence[Token], at: int, own: Collection[str]) -> bool:
        token = tokens[at]
        before = tokens[at - 1].text if at else ""
        after = tokens[at + 1].text if at + 1 < len(tokens) else ""
        if literal_type(token):
            return True if before != "[" else self._is_index(tokens, at, own)
        if token.kind is Kind.PUNCTUATION:
            return token.text in _SYMBOLS or (token.text == "*" and 0 < at < len(tokens) - 1)
        if token.kind is not Kind.IDENTIFIER or token.text in self.hidden:
            return False
        if before == ".":
            return True
        name = token.text
        if after == "(" and name not in WORDS:
            return name in DETERMINISTIC
        if name in WORDS:
            return True
        return (name in own) != (name in self.lets)

    def _is_index(self, tokens: Sequence[Token], at: int, own: Collection[str]) -> bool:
        """``x["key"]`` reads inside a value; a bare ``["name"]`` is a column."""
        if at < 2 or not (tokens[at - 2].kind is Kind.IDENTIFIER or tokens[at - 2].text in ")]"):
            return tokens[at].kind is Kind.STRING and decode_string(tokens[at].text) in own
        return tokens[at - 2].text not in WORDS

    def _span(self, tokens: Sequence[Token]) -> str:
        return self.text[tokens[0].start : tokens[-1].end]

    def _lets_for(self, used: Sequence[Token]) -> tuple[str, ...]:
        """The statements that the conditions need, and those that these need."""
        wanted: set[str] = set()
        waiting = [token.text for token in used if token.kind is Kind.IDENTIFIER]
        while waiting:
            name = waiting.pop()
            if name in self.lets and name not in wanted:
                wanted.add(name)
                waiting += [t.text for t in self.lets[name] if t.kind is Kind.IDENTIFIER]
        return tuple(
            f"let {name} = {self._span(self.lets[name])};" for name in self.lets if name in wanted
        )


def _function_parameters(tokens: Sequence[Token]) -> set[str]:
    """Names that a function's parameter list declares (``x: string``)."""
    return {
        token.text
        for token, after in pairwise(tokens)
        if token.kind is Kind.IDENTIFIER and after.text == ":"
    }
