"""The window of a run: resolved once against ``now``, half-open, in UTC.

published                the hunt's own: its named bounds, its queryPeriod, its furthest
                         ago(), else 30 days
previous-month           the last whole calendar month
30d, 12h                 up to now
2026-10-01/2026-11-01    dates, or instants with offsets
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qakhunt.core.errors import HuntError, UsageError
from qakhunt.hunts.parameters import place_of, script_of
from qakhunt.hunts.time_filters import NotEvaluable, Reach, evaluate, time_filters
from qakhunt.kql.literal import encode
from qakhunt.kql.values import TICK, TICKS_PER_DAY, Instant, Timespan, Window
from qakhunt.kql.visitors import are_several, is_unbounded, is_unknown, query_sources

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qakhunt.hunts.model import Hunt, WindowNotes
    from qakhunt.kql.syntax import Let, Script

PUBLISHED = "published"
DEFAULT = Timespan.parse("30d")
_LONGEST = Timespan.parse("36500d")

_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_OFFSET = re.compile(r"(?:[Zz]|[+-]\d\d:?\d\d)$")
_PERIOD = re.compile(
    r"P(?!$)(?:(\d+)W)?(?:(\d+)D)?(?:T(?!$)(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?",
    re.ASCII | re.IGNORECASE,
)
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
    Raises UsageError for text that names none, HuntError where the hunt's named
    bounds cannot be worked out.
    """
    if text == PUBLISHED:
        return published(hunt, now, parameters)[0]
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


def published(hunt: Hunt, now: Instant, parameters: Mapping[str, Any]) -> tuple[Window, str]:
    """The window where none is asked for, and why it is that one.

    The hunt's named bounds, else its ``queryPeriod``, else its furthest ``ago()``.
    """
    if hunt.notes.window is not None:
        try:
            return _named(hunt, hunt.notes.window, now, parameters), "the hunt's own window"
        except NotEvaluable as problem:
            return Window(_before(now, DEFAULT), now), f"{problem}; --window sets another"
    period = read_period(hunt.period)
    if period is not None:
        return Window(_before(now, period), now), f"the hunt's queryPeriod, {hunt.period}"
    start = time_filters(script_of(hunt), now, parameters).start
    if start is not None and start < now:
        return Window(start, now), f"the query itself looks at {length(start, now)}"
    return Window(_before(now, DEFAULT), now), (
        "the query sets no start that could be read; --window sets one"
    )


def _before(now: Instant, span: Timespan) -> Instant:
    return Instant(max(now.ticks - span.ticks, 0))


def read_period(text: str) -> Timespan | None:
    """A length as Sentinel's rules write it (``P14D``, ``PT1H``, ``1d``); None for no such."""
    match = _PERIOD.fullmatch(text.strip())
    try:
        if match is None:
            span = Timespan.parse(text)
        else:
            units = zip(("7d", "1d", "1h", "1m", "1s"), match.groups(), strict=True)
            span = Timespan(sum(Timespan.parse(u).ticks * int(n) for u, n in units if n))
    except ValueError:
        return None
    return span if 0 < span.ticks < _LONGEST.ticks else None


def length(start: Instant, end: Instant) -> str:
    """The time between, as KQL writes it (``7d``, ``36h``), or the start where it is odd."""
    return _in_units(end.since(start)) or f"time from {start}"


def length_text(span: Timespan) -> str:
    """A length as KQL writes it: ``7d``, ``36h``, or a literal of the type timespan."""
    return _in_units(span) or encode(span, "timespan")


def _in_units(span: Timespan) -> str:
    for unit, most in (("d", 36500), ("h", 72), ("m", 120)):
        count, rest = divmod(span.ticks, Timespan.parse(f"1{unit}").ticks)
        if not rest and 0 < count <= most:
            return f"{count}{unit}"
    return ""


def iso_length(span: Timespan) -> str:
    """A length as Azure writes it, in whole seconds: ``P14D``, ``PT1H30M``."""
    rest = span.ticks // TICKS_PER_DAY * TICKS_PER_DAY
    days, seconds = span.ticks // TICKS_PER_DAY, int(Timespan(span.ticks - rest).seconds)
    hours, minutes, seconds = seconds // 3600, seconds // 60 % 60, seconds % 60
    clock = "".join(f"{n}{u}" for n, u in ((hours, "H"), (minutes, "M"), (seconds, "S")) if n)
    return f"P{f'{days}D' if days else ''}{f'T{clock}' if clock else ''}"


def _named(hunt: Hunt, notes: WindowNotes, now: Instant, parameters: Mapping[str, Any]) -> Window:
    """What the lets hold that the hunt names as its bounds."""
    names = dict(parameters)
    values = {}
    for let in bound_lets(hunt, notes):
        name = let.name
        try:
            values[name] = names[name] = evaluate(let.value, now, names)
        except NotEvaluable as problem:
            raise NotEvaluable(f"let {name} cannot be worked out here ({problem})") from None
        if not isinstance(values[name], Instant):
            raise HuntError(f"let {name}: not a time", location=place_of(hunt, let.value.start))
    start, end = values[notes.start], values[notes.end]
    try:
        return Window(start, end + TICK if notes.inclusive_end else end)
    except ValueError as problem:
        raise HuntError(str(problem), location=hunt.place.locate(1, 1)) from None


def bound_lets(hunt: Hunt, notes: WindowNotes) -> list[Let]:
    """The leading lets of start and end. Raises HuntError where one is not there."""
    lets = {let.name: let for let in script_of(hunt).leading_lets}
    for name in (notes.start, notes.end):
        if name not in lets:
            raise HuntError(
                f"qakhunt.window names {name!r}, but no leading let of the query has that name",
                location=hunt.place.locate(1, 1),
            )
    return [lets[notes.start], lets[notes.end]]


@dataclass(frozen=True)
class Account:
    """What a window means for a query: ``notes``, and ``partial`` why it tells not all.

    ``warnings`` name what the shipped schema does not know.
    """

    notes: tuple[str, ...] = ()
    partial: str = ""
    warnings: tuple[str, ...] = ()


def account(
    script: Script, window: Window, now: Instant, names: Mapping[str, Any], product: str
) -> Account:
    """What the window cuts and what it does not bound, as far as the query can be read."""
    read = query_sources(script)
    bounded = [source for source in read if not is_unbounded(source, product)]
    reach = time_filters(script, now, names) if bounded else Reach()
    places = len({source.node.start for source in bounded})
    notes, partial = [], ""
    start = reach.start
    kept = min(reach.kept) if len(reach.kept) >= places > 0 else None
    end = max(reach.ends) if len(reach.ends) >= places > 0 else None
    if kept is not None and kept >= window.end:
        partial = f"the query itself looks at {length(kept, now)}, at nothing of the window"
    elif end is not None and end <= window.start:
        partial = f"the query itself looks to {end} only, at nothing of the window"
    elif start is not None and start < window.start:
        back = length(start, now)
        if are_several(bounded):
            partial = f"the window cuts the {back} that the query compares with"
        else:
            notes.append(f"the query itself looks at {back}, more than the window")
    elif kept is not None and kept > window.start:
        notes.append(f"the query itself looks at {length(kept, now)}, less than the window")
    if not partial and end is not None and window.start < end < min(window.end, now):
        notes.append(f"the query itself looks to {end} only")
    if are_several(bounded) and 0 < len(reach.kept) < places:
        notes.append("of sources without a filter on time of their own the query sees the window")
    if reach.unread:
        notes.append("how far a filter on time of the query reaches cannot be read")
    free = dict.fromkeys(source.word for source in read if is_unbounded(source, product))
    if free:
        notes.append(f"the window does not bound {', '.join(free)}")
    strange = dict.fromkeys(s.word for s in read if is_unknown(s, product))
    return Account(tuple(notes), partial, tuple(
        f"{name} is no table of the shipped schema: taken for a table or function of yours"
        for name in strange
    ))  # fmt: skip
