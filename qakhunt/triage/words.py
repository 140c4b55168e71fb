"""Numbers and time ranges in words, the same on screen and in reports."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qakhunt.kql.values import Timespan


def count(number: int, singular: str, plural: str | None = None) -> str:
    """``1 hit``, ``2 hits``."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def short_list(names: Sequence[str], most: int = 3) -> str:
    """``a, b, c and 47 more``."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def prose(text: str) -> str:
    """A text of a hunt or a service as one paragraph: its line breaks say nothing."""
    return " ".join(text.split())


def span(seconds: float) -> str:
    """``0.4 s``, ``58 s``, ``12 min``, ``3.4 h``, ``21 days``."""
    if seconds < 1:
        return f"{seconds:.2g} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    if seconds < 172_800:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86_400:.0f} days"


def offset(time: Timespan) -> str:
    """Time since the first command: ``+53.86 s``, ``-4 m 12 s``, ``+1 h 02 m``, ``+21 d 03 h``."""
    sign = "-" if time.ticks < 0 else "+"
    seconds = abs(time.ticks) / 10_000_000
    if seconds < 60:
        return f"{sign}{seconds:.2f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{sign}{whole // 60} m {whole % 60:02d} s"
    if whole < 86_400:
        return f"{sign}{whole // 3600} h {whole // 60 % 60:02d} m"
    return f"{sign}{whole // 86_400} d {whole // 3600 % 24:02d} h"
