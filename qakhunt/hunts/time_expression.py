"""Scalar time expressions of KQL, worked out against an injected ``now``.

What a hunt writes as its living default (``startofmonth(ago(15d))``) becomes the
instant that the service would compute; anything else is refused, never guessed.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from qakhunt.kql.literal import decode, literal_type
from qakhunt.kql.values import TICK, TICKS_PER_DAY, Instant, Timespan

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from qakhunt.kql.tokens import Token


class NotEvaluable(ValueError):
    """The expression is not one of the known time expressions."""


def evaluate(tokens: Sequence[Token], now: Instant, names: Mapping[str, Any]) -> Any:
    """The Instant, Timespan, number or text that the tokens stand for.

    ``names`` holds the values of earlier ``let`` literals. Raises NotEvaluable.
    """
    reader = _Reader(tokens, now, names)
    try:
        value = reader.sum()
    except (ValueError, OverflowError, TypeError, AttributeError, RecursionError) as problem:
        raise NotEvaluable(str(problem)) from None
    if reader.at != len(tokens):
        raise NotEvaluable(f"unexpected {tokens[reader.at].text!r}")
    return value


class _Reader:
    def __init__(self, tokens: Sequence[Token], now: Instant, names: Mapping[str, Any]) -> None:
        self.tokens, self.now, self.names = tokens, now, names
        self.at = 0

    def peek(self) -> str:
        return self.tokens[self.at].text if self.at < len(self.tokens) else ""

    def take(self) -> Token:
        if self.at >= len(self.tokens):
            raise NotEvaluable("the expression ends too early")
        self.at += 1
        return self.tokens[self.at - 1]

    def sum(self) -> Any:
        value = self.product()
        while self.peek() in ("+", "-"):
            sign = 1 if self.take().text == "+" else -1
            value = _add(value, self.product(), sign)
        return value

    def product(self) -> Any:
        value = self.atom()
        while self.peek() == "*":
            self.take()
            factor = self.atom()
            if isinstance(value, int):
                value, factor = factor, value
            value = Timespan(value.ticks * factor)
        return value

    def atom(self) -> Any:
        token = self.take()
        if token.text == "(":
            value = self.sum()
            self.close()
            return value
        if token.text == "-":
            value = self.atom()
            return Timespan(-value.ticks) if isinstance(value, Timespan) else -value
        if literal_type(token):
            return decode(token.text)[1]
        if self.peek() == "(":
            return self.call(token.text)
        if token.text in self.names:
            return self.names[token.text]
        raise NotEvaluable(f"unknown name {token.text!r}")

    def close(self) -> None:
        if self.take().text != ")":
            raise NotEvaluable("expected ')'")

    def call(self, name: str) -> Any:
        self.take()
        arguments: list[Any] = []
        while self.peek() != ")":
            arguments.append(self.sum())
            if self.peek() == ",":
                self.take()
        self.close()
        function = _FUNCTIONS.get(name)
        if function is None:
            raise NotEvaluable(f"unknown function {name}()")
        return function(self.now, *arguments)


def _add(left: Any, right: Any, sign: int) -> Any:
    if isinstance(left, Instant) and isinstance(right, Instant) and sign < 0:
        return left.since(right)
    if isinstance(left, Timespan) and isinstance(right, Timespan):
        return Timespan(left.ticks + sign * right.ticks)
    if isinstance(left, Instant) and isinstance(right, Timespan):
        return Instant(left.ticks + sign * right.ticks)
    if isinstance(left, Timespan) and isinstance(right, Instant) and sign > 0:
        return right + left
    raise NotEvaluable("only times and timespans can be added")


def _now(now: Instant, offset: Timespan | None = None) -> Instant:
    return now + offset if offset else now


def _start_of(unit: str) -> Callable[..., Instant]:
    def function(_now: Instant, moment: Instant, offset: int = 0) -> Instant:
        return start_of(unit, moment, offset)

    return function


def _end_of(unit: str) -> Callable[..., Instant]:
    def function(_now: Instant, moment: Instant, offset: int = 0) -> Instant:
        return start_of(unit, moment, offset + 1) - TICK

    return function


def start_of(unit: str, moment: Instant, offset: int = 0) -> Instant:
    """Start of the day, week (Sunday), month or year ``offset`` units on, in UTC."""
    day = moment.to_datetime().replace(hour=0, minute=0, second=0, microsecond=0)
    if unit == "day":
        return Instant.from_datetime(day + dt.timedelta(days=offset))
    if unit == "week":
        sunday = day - dt.timedelta(days=(day.weekday() + 1) % 7)
        return Instant.from_datetime(sunday + dt.timedelta(weeks=offset))
    months = (day.year * 12 + day.month - 1) + offset * (12 if unit == "year" else 1)
    year, month = divmod(months, 12)
    return Instant.from_datetime(
        day.replace(year=year, month=1 if unit == "year" else month + 1, day=1)
    )


def _datetime_add(_now: Instant, unit: str, count: int, moment: Instant) -> Instant:
    days = {"day": 1, "week": 7}
    if unit in days:
        return Instant(moment.ticks + count * days[unit] * TICKS_PER_DAY)
    if unit not in ("month", "year"):
        return moment + Timespan(count * Timespan.parse(f"1{unit}").ticks)
    import calendar

    stamp = moment.to_datetime()
    year, month = divmod(
        stamp.year * 12 + stamp.month - 1 + count * (12 if unit == "year" else 1), 12
    )
    day = min(stamp.day, calendar.monthrange(year, month + 1)[1])
    moved = Instant.from_datetime(stamp.replace(year=year, month=month + 1, day=day))
    return Instant(moved.ticks + moment.ticks % 10)


def _bin(_now: Instant, moment: Instant, size: Timespan) -> Instant:
    return Instant(moment.ticks - moment.ticks % size.ticks)


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "now": _now,
    "ago": lambda now, span: now - span,
    "bin": _bin,
    "datetime_add": _datetime_add,
    **{f"startof{unit}": _start_of(unit) for unit in ("day", "week", "month", "year")},
    **{f"endof{unit}": _end_of(unit) for unit in ("day", "week", "month", "year")},
}
