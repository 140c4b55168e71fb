"""Where marks stand in the drawings: the time range around a hit.

Horizontal places are percentages, so that a drawing fits a phone and paper alike
while its text keeps its size. Everything is to scale.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qakhunt.kql.values import TICKS_PER_SECOND, Instant
from qakhunt.triage.time_ranges import hull
from qakhunt.triage.words import offset

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qakhunt.triage.hit_report import HitReport
    from qakhunt.triage.timeline import Moment

LANES = (
    ("alert", "Alerts"), ("command", "Commands"), ("process", "Processes"), ("network", "Network"),
    ("file", "Files"), ("registry", "Registry"), ("device", "Device"), ("logon", "Logons"),
)  # fmt: skip
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 43_200, 86_400,
          172_800, 604_800)  # fmt: skip
_MOST_MARKS = 400


@dataclass(frozen=True)
class Mark:
    """One event: ``at`` in percent of the width, ``kind`` for its look, ``text`` on hover."""

    at: float
    kind: str
    text: str


@dataclass(frozen=True)
class Lane:
    """One row of marks with its label."""

    label: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class Tick:
    """A line of the time axis and its label."""

    at: float
    label: str
    anchor: str


@dataclass(frozen=True)
class Overview:
    """The time range around a hit; ``band`` is where its commands lie, as start and width."""

    lanes: tuple[Lane, ...]
    ticks: tuple[Tick, ...]
    band: tuple[float, float]
    hidden: int
    summary: str


def overview(hit_report: HitReport) -> Overview | None:
    """The drawing of the whole time range looked at, or None where nothing lies in it."""
    moments = hit_report.moments
    context = hit_report.context
    if not moments or context is None or not context.looked or hit_report.zero is None:
        return None
    window = hull(context.looked)
    start = min(window.start, moments[0].event.at)
    length = max(window.end.ticks, moments[-1].event.at.ticks + 1) - start.ticks

    def place(moment: Instant) -> float:
        return round((moment.ticks - start.ticks) * 100 / length, 3)

    shown = _chosen(moments)
    by_lane: dict[str, list[Mark]] = {name: [] for name, _ in LANES}
    for moment in shown:
        lane = "command" if moment.look in ("own", "uncounted") else moment.event.kind
        said = f"{offset(moment.offset)}  {moment.event.what}"[:300]
        by_lane.setdefault(lane, []).append(Mark(place(moment.event.at), moment.look, said))
    lanes = tuple(Lane(label, tuple(by_lane[name])) for name, label in LANES if by_lane[name])
    own = [m.event.at for m in moments if m.own] or [hit_report.zero]
    first, last = place(own[0]), place(own[-1])
    ticks = _ticks(hit_report.zero, start, length, max_ticks=5)
    summary = ", ".join(f"{lane.label.lower()}: {len(lane.marks)}" for lane in lanes)
    return Overview(
        lanes, ticks, (first, max(last - first, 0.15)), len(moments) - len(shown), summary
    )


def _chosen(moments: Sequence[Moment]) -> list[Moment]:
    """All moments, or of very many those that matter and the first of the rest."""
    if len(moments) <= _MOST_MARKS:
        return list(moments)
    left = _MOST_MARKS - sum(m.own or m.related for m in moments)
    kept = []
    for moment in moments:
        if moment.own or moment.related or left > 0:
            kept.append(moment)
            left -= not (moment.own or moment.related)
    return kept[: 2 * _MOST_MARKS]


def _ticks(zero: Instant, start: Instant, length: int, max_ticks: int) -> tuple[Tick, ...]:
    """Round offsets from the first command, as many as fit."""
    wanted = length / TICKS_PER_SECOND / max_ticks
    step = next((s for s in _STEPS if s >= wanted), _STEPS[-1])
    while length / TICKS_PER_SECOND / step > 2 * max_ticks:
        step *= 2
    ticks = []
    begin = -((zero.ticks - start.ticks) // (step * TICKS_PER_SECOND))
    number = begin
    while True:
        at = zero.ticks + number * step * TICKS_PER_SECOND
        if at > start.ticks + length:
            break
        place = round((at - start.ticks) * 100 / length, 3)
        anchor = "start" if place < 6 else "end" if place > 94 else "middle"
        ticks.append(Tick(place, tick_label(number * step), anchor))
        number += 1
    return tuple(ticks)


def tick_label(seconds: int) -> str:
    """``0``, ``-15 min``, ``+30 s``, ``+2 d``."""
    if seconds == 0:
        return "0"
    sign, size = ("-" if seconds < 0 else "+"), abs(seconds)
    for unit, name in ((86_400, "d"), (3600, "h"), (60, "min")):
        if size >= unit and size % unit == 0:
            return f"{sign}{size // unit} {name}"
    if size > 3600:
        return f"{sign}{size // 3600} h {size % 3600 // 60:02d}"
    return f"{sign}{size} s" if size < 60 else f"{sign}{size // 60} min {size % 60:02d}"
