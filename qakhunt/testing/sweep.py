"""A hunt's hits for each value of one parameter, over the same records."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from qakhunt.answers.cells import to_text
from qakhunt.answers.hits import hits_of
from qakhunt.answers.ledger import Target
from qakhunt.core.errors import UsageError
from qakhunt.core.safe_text import for_terminal
from qakhunt.hunts.parameters import from_text, parameters_of
from qakhunt.kql.values import Timespan
from qakhunt.testing.contracts import SweepDocument, SweepPoint

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from qakhunt.answers.table import ResultTable
    from qakhunt.hunts.model import Hunt
    from qakhunt.hunts.render import RenderedQuery

MOST_VALUES = 1000
_RANGE = re.compile(r"(.+?)\.\.(.+?)(?:\.\.(.+))?")
_NUMBERS = ("int", "long", "real", "decimal")


def is_range(text: str) -> bool:
    """Whether the text of a setting names several values."""
    return _RANGE.fullmatch(text) is not None or "," in text


def values_of(hunt: Hunt, name: str, text: str) -> list[Any]:
    """The values that ``1..10``, ``1..10..2``, ``5m..30m..5m`` or ``1,2,5`` name.

    Raises UsageError for a parameter or text that names none.
    """
    parameter = parameters_of(hunt).get(name)
    if parameter is None:
        raise UsageError(f"{hunt.name} has no parameter {name!r}")
    kind = parameter.kql_type
    match = _RANGE.fullmatch(text)
    try:
        if match is None:
            return [from_text(part.strip(), kind) for part in text.split(",")]
        return _steps(kind, *match.groups())
    except (ValueError, InvalidOperation) as problem:
        why = "not a number" if isinstance(problem, InvalidOperation) else problem
        raise UsageError(
            f"--set {name}={text}: {why}", hint="values are 1..10, 1..10..2 or 1,2,5"
        ) from None


def _steps(kind: str, first: str, last: str, step: str | None) -> list[Any]:
    if kind == "timespan":
        start, end = Timespan.parse(first).ticks, Timespan.parse(last).ticks
        if step is None:
            raise ValueError("a range of timespans needs a step: 5m..30m..5m")
        size = Timespan.parse(step).ticks
    elif kind in _NUMBERS:
        unit = Decimal(step) if step else Decimal(1)
        numbers = [Decimal(first), Decimal(last), unit]
        scale = 10 ** max(0, *(-int(n.as_tuple().exponent) for n in numbers))
        start, end, size = (int(n * scale) for n in numbers)
    else:
        raise ValueError(f"a range is of numbers or timespans, not of {kind}")
    if size <= 0 or end < start:
        raise ValueError("the range must go up")
    if (end - start) // size >= MOST_VALUES:
        raise ValueError(f"more than {MOST_VALUES} values")
    values = range(start, end + 1, size)
    if kind == "timespan":
        return [Timespan(value) for value in values]
    return [from_text(f"{Decimal(value) / scale:f}", kind) for value in values]


def sweep(
    hunt: Hunt,
    name: str,
    values: Sequence[Any],
    render: Callable[[Mapping[str, Any]], RenderedQuery],
    ask: Callable[[RenderedQuery, str], ResultTable],
) -> list[SweepPoint]:
    """Run the hunt once per value; ``render`` takes the parameters that the value adds."""
    default = parameters_of(hunt)[name].default
    points = []
    for value in values:
        rendered = render({name: value})
        hits = hits_of(hunt, Target("local"), ask(rendered, rendered.text))
        devices = {hit.device for hit in hits if hit.device}
        points.append(SweepPoint(value, len(hits), len(devices), value == default))
    return points


def sweep_lines(name: str, points: Sequence[SweepPoint], width: int, bar: str) -> list[str]:
    """A table with a plot: one line per value, its bar as long as its hits."""
    labels = [for_terminal(to_text(point.value)) for point in points]
    size = max([len(name), *map(len, labels)])
    most = max([1, *(point.hits for point in points)])
    room = max(10, width - size - 24)
    lines = [f"{for_terminal(name):>{size}}  {'hits':>6}  {'devices':>7}"]
    for label, point in zip(labels, points, strict=True):
        length = -(-point.hits * room // most)
        own = " (own)" if point.is_default else ""
        line = f"{label:>{size}}  {point.hits:>6}  {point.devices:>7}  {bar * length}{own}"
        lines.append(line.rstrip())
    return lines


def sweep_document(hunt: Hunt, name: str, points: Sequence[SweepPoint]) -> dict[str, Any]:
    """The sweep as ``qakhunt.sweep/1``."""
    plain = [SweepPoint.of(point) for point in points]
    return SweepDocument("qakhunt.sweep/1", hunt.name, name, plain).plain()
