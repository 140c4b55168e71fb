"""Sets of time: disjoint half-open windows in ascending order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qakhunt.kql.values import Window

if TYPE_CHECKING:
    from collections.abc import Iterable

    from qakhunt.kql.values import Instant

Windows = tuple[Window, ...]


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
