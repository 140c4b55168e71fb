"""Scalar time expressions of KQL, worked out against an injected ``now``.

What a hunt writes as its living default (``startofmonth(ago(15d))``) becomes the
instant that the service would compute; anything else is refused, never guessed.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from qakhunt.kql.literal import decode
from qakhunt.kql.syntax import Call, Chain, Literal, Name, Unary, bare
from qakhunt.kql.values import TICK, TICKS_PER_DAY, Instant, Timespan

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from qakhunt.kql.syntax import Node


class NotEvaluable(ValueError):
    """The expression is not one of the known time expressions."""


def evaluate(node: Node, now: Instant, names: Mapping[str, Any]) -> Any:
    """The Instant, Timespan, number or text that the expression stands for.

    ``names`` holds the values of earlier ``let`` literals. Raises NotEvaluable.
    """
    try:
        return _value(node, now, names)
    except (ValueError, OverflowError, TypeError, AttributeError) as problem:
        raise NotEvaluable(str(problem)) from None


def _value(node: Node, now: Instant, names: Mapping[str, Any]) -> Any:
    node = bare(node)
    if isinstance(node, Literal) and len(node.tokens) == 1:
        return decode(node.tokens[0].text)[1]
    if isinstance(node, Name):
        if node.name not in names:
            raise NotEvaluable(f"unknown name {node.name!r}")
        return names[node.name]
    if isinstance(node, Call):
        function = _FUNCTIONS.get(node.name)
        if function is None:
            raise NotEvaluable(f"unknown function {node.name}()")
        return function(now, *(_value(one, now, names) for one in node.arguments))
    if isinstance(node, Unary) and "+" not in node.signs:
        value = _value(node.operand, now, names)
        for _ in node.signs:
            value = Timespan(-value.ticks) if isinstance(value, Timespan) else -value
        return value
    if isinstance(node, Chain):
        value, *others = [_value(one, now, names) for one in node.operands]
        for operator, other in zip(node.operators, others, strict=True):
            value = _joined(value, operator, other)
        return value
    raise NotEvaluable("no expression of times" if node.parts else "the expression ends too early")


def _joined(left: Any, operator: str, right: Any) -> Any:
    if operator in ("+", "-"):
        return _add(left, right, 1 if operator == "+" else -1)
    if operator != "*":
        raise NotEvaluable(f"unexpected {operator!r}")
    if isinstance(left, int):
        left, right = right, left
    return Timespan(left.ticks * right)


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
