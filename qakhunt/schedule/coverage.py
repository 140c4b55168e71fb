"""The backlog: what was queried completely, what was not, what a run must query: pure rules.

A run asks its *own* window: from the lookback before the last complete answer until
now. So it holds what failed since, and every time range as long as the lookback lies
whole in one window. After a long outage that window would be too large to answer;
then it is bounded, and the windows before it are the *backlog*, which is filled oldest
first.

How far back it looks is the hunt's lookback and each product's late data. Log Analytics
stamps a record that arrives more than 48 hours late with its arrival, so a record can
appear up to 48 hours behind the present. Defender keeps the old time of a device that was
offline, so all it holds is looked at again each day.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from qakhunt.core.errors import HuntError, SourceLocation
from qakhunt.hunts.parameters import script_of
from qakhunt.hunts.time_filters import has_time_filter
from qakhunt.kql.values import Timespan, Window

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from qakhunt.hunts.model import Hunt
    from qakhunt.kql.schema import Product
    from qakhunt.kql.values import Instant

Windows = tuple[Window, ...]
"""A set of time: disjoint half-open windows in ascending order."""
MAX_BACKLOG = 48
MAX_BACKFILL = 7
"""Windows of the backlog that one run queries for one key, by default."""
SKEW = Timespan.parse("5m")


@dataclass(frozen=True, order=True)
class CoverageKey:
    """Whose coverage: a hunt's text and parameters, on one workspace of one customer.

    ``customer`` is the Entra tenant id, else the profile's name; ``workspace`` is
    empty where a product has none.
    """

    hunt_hash: str
    product: str
    customer: str
    workspace: str = ""


@dataclass(frozen=True)
class BacklogWindow:
    """A window still to be answered: since when, how often tried, and why it failed."""

    window: Window
    since: Instant
    attempts: int = 0
    reason: str = ""


@dataclass(frozen=True)
class Lost:
    """Records that aged out before any run had looked at them."""

    window: Window
    found: Instant


@dataclass(frozen=True)
class Coverage:
    """The account of one key. ``backlog`` is oldest first; ``hunt`` is its name when last run.

    ``begun`` is where the first run began to look; ``reread`` is when all that the
    product holds was last looked at completely.
    """

    key: CoverageKey
    hunt: str = ""
    covered: Windows = ()
    backlog: tuple[BacklogWindow, ...] = ()
    lost: tuple[Lost, ...] = ()
    begun: Instant | None = None
    reread: Instant | None = None
    asked: Instant | None = None

    @property
    def reached(self) -> Instant | None:
        """Where the looking ended so far, else where it began; None before the first run."""
        return self.covered[-1].end if self.covered else self.begun

    @property
    def watermark(self) -> Instant | None:
        """All before it was queried completely or is lost; None before the first answer."""
        if not self.covered:
            return None
        missing = subtract((entry.window for entry in self.backlog), self.covered)
        return min([self.covered[-1].end, *(window.start for window in missing)])


@dataclass(frozen=True)
class Due:
    """What a run asks for one key: ``own`` first, then ``backfill``, oldest first.

    ``coverage`` is the account with the whole backlog as it now stands.
    """

    coverage: Coverage
    own: Window
    backfill: tuple[Window, ...]
    lost: Windows
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """How one asked window was answered."""

    window: Window
    complete: bool
    reason: str = ""


def due(
    coverage: Coverage, *, now: Instant, lookback: Timespan, rule: Product,
    most: int = MAX_BACKFILL,
) -> Due:  # fmt: skip
    """The windows that a run at ``now`` asks."""
    coverage, warnings = _trusted(coverage, now)
    span = max(lookback, rule.late)
    oldest = now - rule.retention
    needed = _needed(coverage, now, lookback, rule)
    longest = max(Timespan(2 * span.ticks), rule.reread or span)
    own = Window(max(needed, oldest, now - longest), now)
    backlog = [*coverage.backlog, *_never_asked(coverage, Window(needed, now), own, lookback, span)]
    kept, aged = _aged(backlog, oldest)
    if coverage.reached and coverage.reached < oldest:
        aged.append(Window(coverage.reached, oldest))
    lost = subtract(aged, coverage.covered)
    kept = _distinct(kept)
    backfill = [entry.window for entry in kept if not within(entry.window, own)]
    coverage = replace(
        coverage, backlog=tuple(kept), asked=now, begun=coverage.begun or own.start,
        lost=coverage.lost + tuple(Lost(window, now) for window in lost),
    )  # fmt: skip
    return Due(coverage, own, tuple(backfill[:most]), lost, warnings)


def settle(
    due_: Due, outcomes: Sequence[Outcome], *, now: Instant, lookback: Timespan, rule: Product
) -> Coverage:
    """The account after a run: what was answered is covered, what was not joins the backlog."""
    coverage = due_.coverage
    done = [outcome.window for outcome in outcomes if outcome.complete]
    failed = {outcome.window: outcome for outcome in outcomes if not outcome.complete}
    backlog: list[BacklogWindow] = []
    for entry in coverage.backlog:
        if any(within(entry.window, window) for window in done):
            continue
        tried = failed.get(entry.window)
        backlog.append(
            replace(entry, attempts=entry.attempts + 1, reason=tried.reason) if tried else entry
        )
    if due_.own in failed:
        backlog.append(BacklogWindow(due_.own, now, 1, failed[due_.own].reason))
    reread = coverage.reread
    if rule.reread and any(w.start <= now - rule.reread and w.end == now for w in done):
        reread = now
    return replace(
        coverage, covered=union([*coverage.covered, *done]),
        backlog=tuple(_thinned(_distinct(backlog), lookback)), reread=reread,
    )  # fmt: skip


def _trusted(coverage: Coverage, now: Instant) -> tuple[Coverage, tuple[str, ...]]:
    """The account without anything that lies in the future."""
    future = [
        *(w.end for w in coverage.covered), *(entry.window.end for entry in coverage.backlog)
    ]  # fmt: skip
    latest = max(future, default=now)
    reread = coverage.reread if coverage.reread and coverage.reread <= now else None
    begun = coverage.begun if coverage.begun and coverage.begun < now else None
    backlog = tuple(
        replace(entry, window=Window(entry.window.start, min(entry.window.end, now)))
        for entry in coverage.backlog
        if entry.window.start < now
    )
    trusted = replace(
        coverage, covered=before(coverage.covered, now), backlog=backlog, reread=reread, begun=begun
    )
    if latest <= now + SKEW:
        return trusted, ()
    return trusted, (
        f"{coverage.hunt or 'a hunt'} on {coverage.key.workspace or coverage.key.customer}: the "
        f"state says it was looked at until {latest}, which is after now ({now}); the clock was "
        "set back or was wrong, and what lies after now is looked at again",
    )


def _needed(coverage: Coverage, now: Instant, lookback: Timespan, rule: Product) -> Instant:
    """Where a window that ends now must start to leave nothing out."""
    start = now - lookback
    if coverage.covered:
        start = min(start, coverage.covered[-1].end - max(lookback, rule.late))
    if coverage.begun:
        start = min(
            now - lookback, max(start, coverage.begun) if coverage.covered else coverage.begun
        )
    if rule.reread and _reread_due(coverage, now, rule):
        start = min(start, now - rule.reread)
    return start


def _reread_due(coverage: Coverage, now: Instant, rule: Product) -> bool:
    if coverage.reread is None or rule.every is None:
        return True
    return now.since(coverage.reread) >= rule.every


def _never_asked(
    coverage: Coverage, needed: Window, own: Window, lookback: Timespan, span: Timespan
) -> list[BacklogWindow]:
    """Windows over the hole that outages left before ``own``, none longer than two spans.

    They overlap, so that every time range of the lookback lies whole in one of them.
    """
    if needed.start >= own.start or coverage.reached is None:
        return []
    last = min(own.start + lookback, own.end)
    tiles: list[BacklogWindow] = []
    start = needed.start
    while True:
        end = min(start + Timespan(2 * span.ticks), last)
        tiles.append(BacklogWindow(Window(start, end), needed.end, 0, "no run asked for it"))
        if end >= last:
            return tiles
        start = start + span


def _aged(
    backlog: Iterable[BacklogWindow], oldest: Instant
) -> tuple[list[BacklogWindow], list[Window]]:
    """What of ``backlog`` the product still holds, and the windows that it no longer does."""
    kept, aged = [], []
    for entry in backlog:
        if entry.window.start < oldest:
            aged.append(Window(entry.window.start, min(entry.window.end, oldest)))
        rest = after(entry.window, oldest)
        if rest is not None:
            kept.append(replace(entry, window=rest))
    return kept, aged


def _oldest_first(entry: BacklogWindow) -> tuple[int, int]:
    return entry.window.start.ticks, -entry.window.end.ticks


def _distinct(backlog: Iterable[BacklogWindow]) -> list[BacklogWindow]:
    """Oldest first, without windows that another one contains."""
    kept: list[BacklogWindow] = []
    for entry in sorted(backlog, key=_oldest_first):
        outer = next(
            (i for i, other in enumerate(kept) if within(entry.window, other.window)), None
        )
        if outer is None:
            kept.append(entry)
        else:
            other = kept[outer]
            kept[outer] = replace(
                other, since=min(other.since, entry.since), attempts=other.attempts + entry.attempts
            )
    return kept


def _thinned(backlog: list[BacklogWindow], lookback: Timespan) -> list[BacklogWindow]:
    """No more than ``MAX_BACKLOG``, as long as neighbours overlap by the lookback.

    A long outage of a frequent job would otherwise owe thousands of windows that
    differ by minutes. Where nothing can be left out, nothing is.
    """
    while len(backlog) > MAX_BACKLOG:
        overlaps = [
            (backlog[i - 1].window.end.ticks - backlog[i + 1].window.start.ticks, i)
            for i in range(1, len(backlog) - 1)
        ]
        widest, position = max(overlaps)
        if widest < lookback.ticks:
            break
        del backlog[position]
    return backlog


def lookback_of(hunt: Hunt) -> Timespan:
    """The time range that a run of this hunt queries at least.

    Raises HuntError for a hunt that itself says when it looks, since the state would
    hold for looked at what its filters left out, and for a lookback that is no length.
    """
    if hunt.notes.window is None and has_time_filter(script_of(hunt)):
        raise HuntError(
            f"{hunt.name} filters on time and has no window of its own, so a schedule cannot "
            "say where it looks",
            location=SourceLocation(hunt.path),
            hint="name the bounds of its filter on time under 'qakhunt: window:'",
        )
    try:
        span = Timespan.parse(hunt.notes.lookback)
    except ValueError:
        span = Timespan(0)
    if span.ticks <= 0:
        raise HuntError(
            f"qakhunt.lookback: {hunt.notes.lookback!r} is not a length of time",
            location=SourceLocation(hunt.path), hint="write one such as 30d or 12h",
        )  # fmt: skip
    return span


# Sets of time


def union(windows: Iterable[Window]) -> Windows:
    """The same instants as disjoint windows; windows that touch become one."""
    merged: list[Window] = []
    for window in sorted(windows, key=lambda w: (w.start, w.end)):
        if merged and window.start <= merged[-1].end:
            if window.end > merged[-1].end:
                merged[-1] = Window(merged[-1].start, window.end)
        else:
            merged.append(window)
    return tuple(merged)


def subtract(windows: Iterable[Window], taken: Iterable[Window]) -> Windows:
    """The instants of ``windows`` that lie in none of ``taken``."""
    left = list(union(windows))
    for hole in union(taken):
        kept: list[Window] = []
        for window in left:
            if hole.end <= window.start or window.end <= hole.start:
                kept.append(window)
                continue
            if window.start < hole.start:
                kept.append(Window(window.start, hole.start))
            if hole.end < window.end:
                kept.append(Window(hole.end, window.end))
        left = kept
    return tuple(left)


def within(inner: Window, outer: Window) -> bool:
    """Whether every instant of ``inner`` lies in ``outer``."""
    return outer.start <= inner.start and inner.end <= outer.end


def before(windows: Iterable[Window], end: Instant) -> Windows:
    """What of ``windows`` lies before ``end``."""
    return tuple(
        Window(window.start, min(window.end, end)) for window in windows if window.start < end
    )


def after(window: Window, start: Instant) -> Window | None:
    """What of ``window`` lies at or after ``start``."""
    if window.end <= start:
        return None
    return window if window.start >= start else Window(start, window.end)
