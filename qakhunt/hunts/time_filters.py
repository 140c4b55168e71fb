"""Times in a query: expressions worked out against ``now``, and how far its filters reach.

No query is refused for what cannot be read: the window is the service's time span.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qakhunt.kql.literal import decode
from qakhunt.kql.syntax import (
    Call,
    Chain,
    Comparison,
    Declaration,
    Group,
    Interval,
    Let,
    Literal,
    Name,
    Named,
    Operator,
    Unary,
    bare,
    column,
    find,
)
from qakhunt.kql.tokens import Kind
from qakhunt.kql.values import TICK, TICKS_PER_DAY, Instant, Timespan

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from qakhunt.kql.syntax import Node, Script
    from qakhunt.kql.tokens import Token


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


TIME_COLUMNS = ("TimeGenerated", "Timestamp")

_MIRRORED = {">": "<", ">=": "<=", "<": ">", "<=": ">="}


@dataclass(frozen=True)
class Reach:
    """The bounds on time that could be read; ``unread`` are those that could not.

    ``starts`` hold each ``ago()`` and each time that a record's is later than. ``kept``
    are those without which a record is left out, ``ends`` those before which it must be.
    """

    starts: tuple[Instant, ...] = ()
    kept: tuple[Instant, ...] = ()
    ends: tuple[Instant, ...] = ()
    unread: tuple[Node, ...] = ()

    @property
    def start(self) -> Instant | None:
        """The furthest start."""
        return min(self.starts, default=None)


def time_filters(script: Script, now: Instant, names: Mapping[str, Any]) -> Reach:
    """The bounds that the query names. ``names`` are values of its lets, read or replaced."""
    reader = _Reader(script, now, names)
    for operator in find(script, Operator):
        if operator.name in ("where", "filter") and operator.has_bar:
            for condition in operator.arguments:
                reader.where(condition)
    others = reader.other_starts()
    return Reach(
        (*reader.kept, *others), tuple(reader.kept), tuple(reader.ends), tuple(reader.unread)
    )


def has_time_filter(script: Script) -> bool:
    """Whether the query compares a time column with anything."""
    return any(
        comparison.operator in (*_MIRRORED, "between")
        and (_is_time(comparison.left.tokens[-1:]) or _is_time(comparison.right.tokens[:1]))
        for comparison in find(script, Comparison)
    )


def _is_time(tokens: Sequence[Token]) -> bool:
    return any(one.kind is Kind.IDENTIFIER and one.text in TIME_COLUMNS for one in tokens)


class _Reader:
    def __init__(self, script: Script, now: Instant, names: Mapping[str, Any]) -> None:
        self.script, self.now = script, now
        self.kept: list[Instant] = []
        self.ends: list[Instant] = []
        self.unread: list[Node] = []
        self._read: set[int] = set()  # ids of nodes that need no second look
        self.names = self._scalars(names)

    def _scalars(self, known: Mapping[str, Any]) -> dict[str, Any]:
        """Values of lets by name; a name that a function gives another meaning has none."""
        names = dict(known)
        for let in self.script.lets:
            if names.get(let.name) is None:
                names[let.name] = self._evaluated(let.value, names)
            if names[let.name] is not None:
                self._read.add(id(let))
        for declaration in find(self.script, Declaration):
            names.pop(declaration.name, None)
        return names

    def where(self, condition: Node) -> None:
        """Read what a record must fulfil to pass; one of several conditions keeps none out."""
        condition = bare(condition)
        if isinstance(condition, Chain) and condition.operators[0] == "and":
            for operand in condition.operands:
                self.where(operand)
        elif isinstance(condition, Comparison):
            if column(condition.left) in TIME_COLUMNS:
                self._comparison(condition.operator, condition.right)
            elif column(condition.right) in TIME_COLUMNS:
                self._comparison(_MIRRORED.get(condition.operator, ""), condition.left)

    def _comparison(self, operator: str, value: Node) -> None:
        if operator == "between" and isinstance(interval := bare(value), Interval):
            start = self._bound(self.kept, interval.low)
            length = self._evaluated(interval.high, self.names)
            if start is not None and isinstance(length, Timespan):
                self.ends.append(start + length)  # counts from the first
            else:
                self._bound(self.ends, interval.high)
        elif operator in _MIRRORED:
            self._bound(self.kept if operator in (">", ">=") else self.ends, value)

    def _bound(self, bounds: list[Instant], value: Node) -> Instant | None:
        self._read.add(id(value))
        instant = self._evaluated(value, self.names)
        if isinstance(instant, Instant):
            bounds.append(instant)
            return instant
        if bounds is self.kept and value.parts:
            self.unread.append(value)
        return None

    def other_starts(self) -> list[Instant]:
        """Each ``ago()``, and each time by its name, that bounds nothing from above."""
        found = []
        waiting: list[tuple[Node, bool]] = [(self.script, False)]
        while waiting:
            node, is_end = waiting.pop()
            value = None
            if id(node) in self._read:
                continue
            if isinstance(node, Name):
                value = self.names.get(node.name)
            elif isinstance(node, Call) and node.name == "ago":
                value = self._evaluated(node, self.names)
                if value is None:
                    self.unread.append(node)
            else:
                waiting += _below(node, is_end=is_end)
            if isinstance(value, Instant) and not is_end:
                found.append(value)
        return found

    def _evaluated(self, node: Node, names: Mapping[str, Any]) -> Any:
        try:
            return evaluate(node, self.now, names)
        except NotEvaluable:
            return None


def _below(node: Node, *, is_end: bool) -> list[tuple[Node, bool]]:
    """What a node is made of, and whether it is, or is part of, the later side of something."""
    if isinstance(node, Comparison):
        ends = node.operator in (">", ">="), node.operator in ("<", "<=")
        return [(node.left, ends[0]), (node.right, ends[1])]
    if isinstance(node, Interval):
        return [(node.low, False), (node.high, True)]
    if isinstance(node, (Named, Let)):
        return [(node.value, False)]
    is_end = is_end and isinstance(node, (Call, Chain, Group, Unary))
    return [(child, is_end) for child in node.children]
