"""The window of a run: resolved once against ``now``, half-open, in UTC.

published                the rule's own arithmetic (its living default)
previous-month           the last whole calendar month
30d, 12h                 up to now
2026-10-01/2026-11-01    dates, or instants with offsets
"""

from __future__ import annotations

import datetime as dt
import re
from typing import TYPE_CHECKING, Any

from qakhunt.errors import HuntError, UsageError
from qakhunt.hunts.parameters import leading_lets, place_of, query_tokens
from qakhunt.hunts.time_expression import NotEvaluable, evaluate
from qakhunt.hunts.time_filters import TIME_COLUMNS, TimeFilters, time_filters
from qakhunt.kql.tokens import Kind, Token
from qakhunt.kql.values import TICK, Instant, Timespan, Window

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qakhunt.hunts.model import Hunt

PUBLISHED = "published"
_COMPARISONS = frozenset(["between", ">", ">=", "<", "<="])

_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_OFFSET = re.compile(r"(?:[Zz]|[+-]\d\d:?\d\d)$")
_SPELLINGS = "published, previous-month, 30d, 12h or START/END (2026-10-01/2026-11-01)"


def resolve(
    text: str,
    hunt: Hunt,
    now: Instant,
    parameters: Mapping[str, Any],
    zone: dt.tzinfo | None = None,
) -> Window:
    """The window that ``text`` names for this hunt.

    ``zone`` is where calendar days begin; the published window is always UTC.
    Raises UsageError for text that names none, HuntError where the hunt has no
    window of its own.
    """
    if text == PUBLISHED:
        return published(hunt, now, parameters)
    try:
        return parse(text, now, zone)
    except (ValueError, OverflowError) as problem:
        raise UsageError(f"window {text!r}: {problem}", hint=f"a window is {_SPELLINGS}") from None


def parse(text: str, now: Instant, zone: dt.tzinfo | None = None) -> Window:
    """A window that needs no hunt. Raises ValueError."""
    zone = zone or dt.timezone.utc
    if text == "previous-month":
        first = now.to_datetime().astimezone(zone).replace(
            day=1, hour=0, minute=0, second=0, microsecond=0, tzinfo=None
        )  # fmt: skip
        before = (first - dt.timedelta(days=1)).replace(day=1)
        return Window(_local(before, zone), _local(first, zone))
    if "/" in text:
        start, _, end = text.partition("/")
        return Window(parse_instant(start.strip(), zone), parse_instant(end.strip(), zone))
    try:
        span = Timespan.parse(text)
    except ValueError:
        raise ValueError("not a window") from None
    if text.strip().lstrip("-").isdigit() or ":" in text:
        raise ValueError("a length needs a unit, such as 30d or 12h")
    if span.ticks <= 0:
        raise ValueError("the length must be more than nothing")
    return Window(now - span, now)


def parse_instant(text: str, zone: dt.tzinfo | None = None) -> Instant:
    """A date (midnight) or instant; without an offset it is in ``zone``."""
    instant = Instant.parse(text)
    if _OFFSET.search(text) and not _DATE.fullmatch(text):
        return instant
    if zone is None or zone is dt.timezone.utc:
        return instant
    local = _local(instant.to_datetime().replace(tzinfo=None), zone)
    return Instant(local.ticks + instant.ticks % 10)


def _local(naive: dt.datetime, zone: dt.tzinfo) -> Instant:
    return Instant.from_datetime(naive.replace(tzinfo=zone))


def published(hunt: Hunt, now: Instant, parameters: Mapping[str, Any]) -> Window:
    """The hunt's own window: its window lets, else the filters on time it writes."""
    tokens = query_tokens(hunt)
    if hunt.notes.window is None:
        return _from_filters(hunt, tokens, now, parameters)
    lets = {let.name: let for let in leading_lets(tokens)}
    names = dict(parameters)
    values = {}
    for name in (hunt.notes.window.start, hunt.notes.window.end):
        let = lets.get(name)
        if let is None:
            raise HuntError(
                f"qakhunt.window names {name!r}, but no leading let of the query has that name",
                location=hunt.place.locate(1, 1),
            )
        try:
            values[name] = names[name] = evaluate(let.tokens, now, names)
        except NotEvaluable as problem:
            raise HuntError(
                f"let {name}: the window cannot be worked out: {problem}",
                location=place_of(hunt, let.value_start),
                hint="give one with --window",
            ) from None
        if not isinstance(values[name], Instant):
            raise HuntError(f"let {name}: not a time", location=place_of(hunt, let.value_start))
    start, end = values[hunt.notes.window.start], values[hunt.notes.window.end]
    if hunt.notes.window.inclusive_end:
        end = end + TICK
    try:
        return Window(start, end)
    except ValueError as problem:
        raise HuntError(str(problem), location=hunt.place.locate(1, 1)) from None


def _from_filters(
    hunt: Hunt, tokens: Sequence[Token], now: Instant, parameters: Mapping[str, Any]
) -> Window:
    refuse_without_filter(hunt, tokens)
    filters = time_filters(tokens, now, parameters)
    own = filters.widest
    at = next(iter([*filters.unknown, *filters.unfiltered, *filters.doubtful]), None)
    if filters.unfiltered and not filters.unknown:
        raise HuntError(
            f"{hunt.name} reads {filters.unfiltered[0].text} without a filter on time from "
            "when on, so its window cannot be worked out",
            location=place_of(hunt, filters.unfiltered[0].start),
            hint="give that one, too, or say with --window how far to look back",
        )
    if filters.unknown or own.start is None:
        bound = "a bound" if filters.unknown else "the start"
        raise HuntError(
            f"{hunt.name}: {bound} of its window cannot be worked out from its filters on time",
            location=place_of(hunt, at.start if at else 0), hint="give one with --window",
        )  # fmt: skip
    try:
        return Window(own.start, own.end or now)
    except ValueError as problem:
        raise HuntError(str(problem), location=hunt.place.locate(1, 1)) from None


def refuse_without_filter(hunt: Hunt, tokens: Sequence[Token]) -> None:
    """Raises HuntError for a query without window lets that never looks at the time."""
    if not has_time_filter(tokens):
        raise HuntError(
            f"{hunt.name} has neither a filter on time nor a window",
            location=hunt.place.locate(1, 1),
            hint=f"filter on {TIME_COLUMNS[0]} in the query, or name its bounds under "
            "'qakhunt: window:'",
        )


def refuse_beyond_filters(
    hunt: Hunt, tokens: Sequence[Token], window: Window, now: Instant, parameters: Mapping[str, Any]
) -> str | None:
    """Raises HuntError where the query's own filters on time leave out part of ``window``.

    An empty answer would then say nothing of that part. Where that cannot be told, a
    warning is returned.
    """
    filters = time_filters(tokens, now, parameters)
    is_own = window == _published(filters, now)
    for own in filters.spans:
        late = own.start is not None and own.start > window.start
        early = own.end is not None and own.end < window.end
        if (late or early) and not is_own:
            looked = [f"from {own.start}"] * (own.start is not None)
            looked += [f"to {own.end}"] * (own.end is not None)
            raise HuntError(
                f"{hunt.name} itself looks {' '.join(looked)} only, which is not all of {window}",
                location=hunt.place.locate(1, 1),
                hint="name its bounds under 'qakhunt: window:', so that --window can set them",
            )
    unsure = [*filters.unknown, *filters.doubtful]
    if unsure:
        line = place_of(hunt, unsure[0].start).line
        return (
            f"{hunt.name}: whether its filter on time in line {line} covers the window is unknown"
        )
    return None


def _published(filters: TimeFilters, now: Instant) -> Window | None:
    """The window of the filters alone, in which a part may look at less by design."""
    own = filters.widest
    if filters.unknown or filters.unfiltered or own.start is None:
        return None
    end = own.end or now
    return Window(own.start, end) if own.start < end else None


def has_time_filter(tokens: Sequence[Token]) -> bool:
    """Whether the query compares a time column with anything."""
    beside = ["", *(token.text for token in tokens), ""]
    return any(
        token.kind is Kind.IDENTIFIER
        and token.text in TIME_COLUMNS
        and not _COMPARISONS.isdisjoint((beside[at], beside[at + 2]))
        for at, token in enumerate(tokens)
    )
