"""What stretch of time a query's own filters let through.

Only conjuncts of ``where`` are filters: ``countif(TimeGenerated < ago(1d))`` and an
alternative of an ``or`` keep no record out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from qakhunt.hunts.time_expression import NotEvaluable, evaluate
from qakhunt.kql.pipeline import bracketed, groups, pipeline, split
from qakhunt.kql.tokens import Kind
from qakhunt.kql.values import TICK, Instant

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qakhunt.kql.pipeline import Stage
    from qakhunt.kql.tokens import Token

TIME_COLUMNS = ("TimeGenerated", "Timestamp")

_MIRRORED = {">": "<", ">=": "<=", "<": ">", "<=": ">="}


@dataclass(frozen=True)
class Span:
    """Half-open; None is no bound."""

    start: Instant | None = None
    end: Instant | None = None

    @property
    def bounded(self) -> bool:
        """Whether it leaves anything out."""
        return self.start is not None or self.end is not None

    def cut(self, other: Span) -> Span:
        """What lies in both."""
        starts = [one.start for one in (self, other) if one.start is not None]
        ends = [one.end for one in (self, other) if one.end is not None]
        return Span(max(starts, default=None), min(ends, default=None))


@dataclass
class TimeFilters:
    """Filters of a query, pipeline by pipeline; ``unknown`` are those not worked out."""

    spans: list[Span] = field(default_factory=list)
    unknown: list[Token] = field(default_factory=list)

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
    reader = _Reader(now, dict(parameters))
    reader.statements(tokens)
    return reader.found


class _Reader:
    def __init__(self, now: Instant, names: dict[str, Any]) -> None:
        self._now, self._names = now, names
        self._lets: dict[str, Span] = {}
        self.found = TimeFilters()

    def statements(self, tokens: Sequence[Token]) -> Span:
        """Read all statements; the span of the last."""
        span = Span()
        for part in split(tokens, ";"):
            name, body = None, part
            if len(part) > 2 and part[0].text == "let" and part[2].text in ("=", "("):
                name, body = part[1].text, part[3:] if part[2].text == "=" else part[2:]
            span = self._pipeline(body)
            if name is not None:
                self._let(name, body, span)
        return span

    def _let(self, name: str, body: Sequence[Token], span: Span) -> None:
        self._lets[name] = span
        try:
            self._names.setdefault(name, evaluate(body, self._now, self._names))
        except NotEvaluable:
            return

    def _pipeline(self, tokens: Sequence[Token]) -> Span:
        source, *stages = pipeline(tokens)
        span = self._source(source)
        for stage in stages:
            if stage.operator in ("where", "filter"):
                span = span.cut(self._where(stage.tokens))
            for part in groups(stage.tokens):
                self.statements(part)
        if span.bounded:
            self.found.spans.append(span)
        return span

    def _source(self, stage: Stage) -> Span:
        """The span of what the pipeline begins with: a let's, or that of the brackets'."""
        if stage.tokens and stage.tokens[0].text in self._lets:
            return self._lets[stage.tokens[0].text]
        spans = [self.statements(part) for part in groups(stage.tokens)]
        return spans[0] if len(spans) == 1 else Span()

    def _where(self, tokens: Sequence[Token]) -> Span:
        span = Span()
        if len(list(split(tokens, "or"))) > 1:
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
            return Span()
        if operator == "between":
            ends = list(split(operand[1:-1], ".."))
            if len(ends) != 2:
                return Span()
            return Span(self._instant(ends[0])).cut(Span(end=self._instant(ends[1], TICK)))
        if operator in (">", ">="):
            return Span(self._instant(operand))
        if operator in ("<", "<="):
            return Span(end=self._instant(operand, *([TICK] if operator == "<=" else [])))
        return Span()

    def _instant(self, tokens: Sequence[Token], more: Any = None) -> Instant | None:
        try:
            value = evaluate(tokens, self._now, self._names)
        except NotEvaluable:
            value = None
        if not isinstance(value, Instant):
            self.found.unknown.append(tokens[0])
            return None
        return value + more if more else value


def _is_time(token: Token) -> bool:
    return token.kind is Kind.IDENTIFIER and token.text in TIME_COLUMNS
