"""What a run is to query: one line per rendered hunt and target, whole or in slices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qakhunt.kql.values import TICKS_PER_SECOND, Timespan

if TYPE_CHECKING:
    from qakhunt.answers.ledger import Target
    from qakhunt.backends.base import Backend
    from qakhunt.hunts.render import RenderedQuery
    from qakhunt.run.slicing.strategies import SliceStrategy

AUTO, DEVICES, TIME = "auto", "devices", "time"
SPELLINGS = "1d, 6h, devices:8, auto or none"
MOST_PARTS = 4096
SHORTEST = Timespan(60 * TICKS_PER_SECOND)


@dataclass(frozen=True)
class SliceRequest:
    """The option ``--slice``: ``parts`` of the devices, or time ranges of ``span``.

    ``auto`` sends the whole query first and slices only what was too much, by
    device where that is exact, else by time. No slice becomes shorter than
    ``shortest``, and devices are divided into ``most_parts`` at most.
    """

    kind: str
    parts: int = 8
    span: Timespan | None = None
    shortest: Timespan = SHORTEST
    most_parts: int = MOST_PARTS
    most_rows: int = 5_000_000

    def __str__(self) -> str:
        """A spelling that ``read_slices`` reads again."""
        if self.kind == DEVICES:
            return f"{DEVICES}:{self.parts}"
        return f"{self.span.ticks // TICKS_PER_SECOND}s" if self.span else self.kind


def read_slices(text: str) -> SliceRequest | None:
    """Read the text of ``--slice``; None for ``none``. Raises ValueError."""
    wish = text.strip()
    if wish == "none":
        return None
    if wish == AUTO:
        return SliceRequest(AUTO)
    name, colon, number = wish.partition(":")
    if colon and name == DEVICES:
        if not number.isascii() or not number.isdigit() or not 2 <= int(number) <= MOST_PARTS:
            raise ValueError(f"devices are divided into 2 to {MOST_PARTS} parts, not {number!r}")
        return SliceRequest(DEVICES, parts=int(number))
    try:
        span = Timespan.parse(wish)
    except ValueError:
        raise ValueError(f"{text!r} is not a slice: expected {SPELLINGS}") from None
    if wish.isdigit():
        raise ValueError(f"the length {text!r} needs a unit, such as 1d or 6h")
    if span < SHORTEST:
        raise ValueError(f"a slice is at least a minute long, not {text!r}")
    if span.ticks % TICKS_PER_SECOND:
        raise ValueError(f"a slice is a number of whole seconds long, not {text!r}")
    return SliceRequest(TIME, span=span)


@dataclass(frozen=True)
class PlanLine:
    """A rendered hunt for one target, on one backend.

    ``slices`` asks for it in slices, where that gives exactly the same result.
    Without ``gaps_count`` only an empty answer is checked for records to look at.
    With a ``strategy`` of its own the line is fetched that way; what comes is the
    strategy's alone, and neither coverage nor columns are checked.
    """

    rendered: RenderedQuery
    backend: Backend
    target: Target
    slices: SliceRequest | None = None
    gaps_count: bool = True
    strategy: SliceStrategy | None = None

    @property
    def longest_gap(self) -> Timespan | None:
        """The longest time without source records that is no gap; None where none is."""
        return self.backend.longest_gap if self.gaps_count else None
