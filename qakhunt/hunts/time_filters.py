"""What stretch of time a query's own filters let through, pipeline by pipeline.

Only conjuncts of ``where`` on a table's records are filters: what counts, aggregates or
computes a time of its own keeps no record out. A ``let`` counts where it is used.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from qakhunt.hunts.time_expression import NotEvaluable, evaluate
from qakhunt.kql.pipeline import bracketed, groups, pipeline, split
from qakhunt.kql.schema import tables
from qakhunt.kql.tokens import Kind
from qakhunt.kql.values import TICK, Instant, Timespan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qakhunt.kql.pipeline import Stage
    from qakhunt.kql.tokens import Token

TIME_COLUMNS = ("TimeGenerated", "Timestamp")

_MIRRORED = {">": "<", ">=": "<=", "<": ">", "<=": ">="}
# Operators that leave a record's time as it is.
_ROW_BY_ROW = frozenset(
    ["where", "filter", "extend", "project", "project-away", "project-keep", "project-reorder",
     "parse", "mv-expand", "serialize", "as", "sort", "order", "distinct", "union"]
)  # fmt: skip
_COMBINES = frozenset(["join", "lookup", "union"])
_TRANSPARENT = frozenset(["", "materialize", "view", "("])


@dataclass(frozen=True)
class Span:
    """Half-open; None is no bound."""

    start: Instant | None = None
    end: Instant | None = None

    def cut(self, other: Span) -> Span:
        """What lies in both."""
        starts = [one.start for one in (self, other) if one.start is not None]
        ends = [one.end for one in (self, other) if one.end is not None]
        return Span(max(starts, default=None), min(ends, default=None))


@dataclass(frozen=True)
class Reading:
    """Records of tables (their names' tokens), each in a span.

    ``filters`` says that they pass row by row so far, so that a filter still is one.
    """

    tables: tuple[tuple[Token, Span], ...] = ()
    filters: bool = True

    def cut(self, span: Span) -> Reading:
        """What of it lies in the span, too."""
        return replace(self, tables=tuple((table, own.cut(span)) for table, own in self.tables))

    def with_(self, other: Reading) -> Reading:
        """The records of both."""
        return Reading(self.tables + other.tables, self.filters and other.filters)


@dataclass
class TimeFilters:
    """The spans in which tables are read; ``unknown`` are filters not worked out.

    ``unfiltered`` are tables without a start; ``doubtful`` is what may be a filter, too.
    """

    spans: list[Span] = field(default_factory=list)
    unknown: list[Token] = field(default_factory=list)
    unfiltered: list[Token] = field(default_factory=list)
    doubtful: list[Token] = field(default_factory=list)

    @property
    def widest(self) -> Span:
        """From the earliest start to the latest end; a bound that one lacks there is none."""
        starts = [span.start for span in self.spans]
        ends = [span.end for span in self.spans]
        return Span(
            None if None in starts else min(filter(None, starts), default=None),
            None if None in ends else max(filter(None, ends), default=None),
        )


def time_filters(
    tokens: Sequence[Token], now: Instant, parameters: Mapping[str, Any]
) -> TimeFilters:
    """All filters on time of the query. ``parameters`` are its lets' values."""
    found = TimeFilters()
    reader = _Reader(found, now, dict(parameters), {})
    reader.use(reader.statements(tokens, given=frozenset(parameters)))
    return found


class _Reader:
    """Reads statements in one scope; ``names`` are its scalars, ``lets`` its tables."""

    def __init__(
        self, found: TimeFilters, now: Instant, names: dict[str, Any], lets: dict[str, Reading]
    ) -> None:
        self._found, self._now = found, now
        self._names, self._lets = names, lets

    def statements(self, tokens: Sequence[Token], given: frozenset[str] = frozenset()) -> Reading:
        """Read all statements; the last is returned and not yet used."""
        reading = Reading()
        for part in split(tokens, ";"):
            if not part:
                continue
            if len(part) > 2 and part[0].text == "let" and part[2].text in ("=", "("):
                self._let(part[1].text, part[3:] if part[2].text == "=" else part[2:], given)
            else:
                reading = self._pipeline(part)
        return reading

    def use(self, reading: Reading) -> None:
        """Records that the query looks at."""
        for table, span in reading.tables:
            self._found.spans.append(span)
            if span.start is None:
                self._found.unfiltered.append(table)

    def _let(self, name: str, body: Sequence[Token], given: frozenset[str]) -> None:
        if name not in given:
            self._names.pop(name, None)
            with contextlib.suppress(NotEvaluable):
                self._names[name] = evaluate(body, self._now, self._names)
        self._lets[name] = self._pipeline(body)

    def _inner(self, tokens: Sequence[Token], without: Sequence[str] = ()) -> Reading:
        names = {name: value for name, value in self._names.items() if name not in without}
        return _Reader(self._found, self._now, names, dict(self._lets)).statements(tokens)

    def _pipeline(self, tokens: Sequence[Token]) -> Reading:
        source, *stages = pipeline(tokens)
        reading = self._source(source, piped=bool(stages))
        for stage in stages:
            others = self._operands(stage.tokens, named=stage.operator in _COMBINES)
            if stage.operator == "union":
                reading = reading.with_(others)
            else:
                self.use(others)
            if stage.operator == "extend" and reading.filters:
                self._doubt_flag(stage.tokens)
            reading = replace(reading, filters=reading.filters and _keeps_time(stage))
            if stage.operator in ("where", "filter") and reading.filters:
                reading = reading.cut(self._where(stage.tokens))
        return reading

    def _source(self, stage: Stage, *, piped: bool) -> Reading:
        first = stage.tokens[0] if stage.tokens else None
        if first is None:
            return Reading()
        if first.text == "union":
            return self._operands(stage.tokens[1:], named=True)
        if first.text in self._lets:
            return self._lets[first.text]
        inner = list(groups(stage.tokens))
        if not inner:
            alone = piped and first.kind is Kind.IDENTIFIER and len(stage.tokens) == 1
            return _whole(first) if alone or is_table(first) else Reading()
        parameters = [
            t.text for t, colon in zip(inner[0], inner[0][1:], strict=False) if colon.text == ":"
        ]
        readings = [self._inner(part, parameters) for part in inner]
        if first.text in _TRANSPARENT:  # of a function, its body behind the parameters
            return readings[-1]
        for reading in readings:
            self.use(reading)
        return Reading()

    def _operands(self, tokens: Sequence[Token], *, named: bool) -> Reading:
        """What stands in brackets and, with ``named``, tables and lets by their names."""
        found = Reading()
        for part in groups(tokens):
            found = found.with_(self._inner(part))
        depth = 0
        for token in tokens if named else ():
            depth += (token.text in "([{") - (token.text in ")]}")
            if depth == 0 and token.kind is Kind.IDENTIFIER:
                whole = _whole(token) if is_table(token) else Reading()
                found = found.with_(self._lets.get(token.text, whole))
        return found

    def _where(self, tokens: Sequence[Token]) -> Span:
        span = Span()
        if len(list(split(tokens, "or"))) > 1:
            self._doubt(tokens)
            return span
        for part in split(tokens, "and"):
            inner = part[1:-1] if bracketed(part) else None
            span = span.cut(self._where(inner) if inner else self._comparison(part))
        return span

    def _comparison(self, part: Sequence[Token]) -> Span:
        if len(part) > 2 and _is_time(part[0]):
            operator, operand = part[1].text, part[2:]
        elif len(part) > 2 and _is_time(part[-1]) and part[-2].text in _MIRRORED:
            operator, operand = _MIRRORED[part[-2].text], part[:-2]
        else:
            self._doubt(part)
            return Span()
        if operator == "between":
            ends = list(split(operand[1:-1], ".."))
            if len(ends) == 2:
                return self._between(*ends)
        if operator in (">", ">="):
            return Span(self._instant(operand))
        if operator in ("<", "<="):
            return Span(end=self._instant(operand, *([TICK] if operator == "<=" else [])))
        self._doubt(part)
        return Span()

    def _between(self, first: Sequence[Token], last: Sequence[Token]) -> Span:
        """Both ends included; a length of time as the second counts from the first."""
        start = self._instant(first)
        with contextlib.suppress(NotEvaluable):
            length = evaluate(last, self._now, self._names)
            if isinstance(length, Timespan) and start is not None:
                return Span(start, start + length + TICK)
        return Span(start, self._instant(last, TICK))

    def _doubt(self, tokens: Sequence[Token]) -> None:
        """A time that is compared in a way that is not understood; ``hourofday(t)`` is none."""
        for at, token in enumerate(tokens):
            inside_call = at > 1 and tokens[at - 1].text == "(" and tokens[at - 2].text != "not"
            is_call = inside_call and tokens[at - 2].kind is Kind.IDENTIFIER
            if _is_time(token) and (not is_call or _is_compared(tokens, at)):
                self._found.doubtful.append(token)
                return

    def _doubt_flag(self, tokens: Sequence[Token]) -> None:
        """A column that says how old the record is may be filtered on later."""
        compared = (t for at, t in enumerate(tokens) if _is_time(t) and _is_compared(tokens, at))
        self._found.doubtful += list(compared)[:1]

    def _instant(self, tokens: Sequence[Token], more: Any = None) -> Instant | None:
        try:
            value = evaluate(tokens, self._now, self._names)
        except NotEvaluable:
            value = None
        if not isinstance(value, Instant):
            self._found.unknown.append(tokens[0])
            return None
        return value + more if more else value


def is_table(token: Token) -> bool:
    """Whether it names a table that either product knows, or a custom one."""
    return token.kind is Kind.IDENTIFIER and (
        token.text in tables("log-analytics")
        or token.text in tables("defender")
        or token.text.endswith("_CL")
    )


def _is_time(token: Token) -> bool:
    return token.kind is Kind.IDENTIFIER and token.text in TIME_COLUMNS


def _is_compared(tokens: Sequence[Token], at: int) -> bool:
    beside = {
        tokens[at - 1].text if at else "",
        tokens[at + 1].text if at + 1 < len(tokens) else "",
    }
    return bool(beside & {*_MIRRORED, "between", "!between", "==", "!="})


def _whole(table: Token) -> Reading:
    return Reading(((table, Span()),))


def _keeps_time(stage: Stage) -> bool:
    """Whether each row that comes out has the time that it had as a record."""
    if stage.operator in ("join", "lookup"):
        return not any(token.text.startswith(("right", "full")) for token in stage.tokens[:4])
    return stage.operator in _ROW_BY_ROW and not _makes_time(stage.tokens)


def _makes_time(tokens: Sequence[Token]) -> bool:
    """Whether the operator gives the time another value or name."""
    return any(
        (_is_time(token) and after.text == "=") or (token.text == "=" and _is_time(after))
        for token, after in pairwise(tokens)
    )
