"""One line of the benchmarks' table, and how two works are measured beside each other."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


@dataclass(frozen=True)
class Row:
    """``ratio`` of what is measured to its yardstick; ``aim`` is its highest good value."""

    name: str
    yardstick: str
    seconds: float
    yardstick_seconds: float
    ratio: float
    aim: float | None = None
    note: str = ""


def beside(
    name: str,
    work: Callable[[], Any],
    yardstick: str,
    other: Callable[[], Any],
    *,
    aim: float | None = None,
    note: str = "",
    repeats: int = 5,
) -> Row:
    """Both in turns, so that a busy machine slows both: medians of this process's own
    processor time, and the median of the ratios pair by pair. Each runs once before."""
    work(), other()
    pairs = [(_processor(work), _processor(other)) for _ in range(repeats)]
    ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    return Row(name, yardstick, ours, theirs, ratio, aim, note)


def _processor(work: Callable[[], Any]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def show(rows: Iterable[Row]) -> None:
    """Print the table, each line as soon as it is known."""
    print(f"{'what':44} {'beside':34} {'seconds':>9} {'beside':>9} {'ratio':>6} {'aim':>5}  note")
    for row in rows:
        aim = f"{row.aim:.2f}" if row.aim is not None else "-"
        print(
            f"{row.name:44} {row.yardstick:34} {row.seconds:9.3f} {row.yardstick_seconds:9.3f} "
            f"{row.ratio:6.2f} {aim:>5}  {row.note}",
            flush=True,
        )
