"""What a run is to ask: one line per rendered hunt and target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qakhunt.hunts.source_rows import LONGEST_GAP

if TYPE_CHECKING:
    from qakhunt.backends.base import Backend, Target
    from qakhunt.hunts.render import RenderedQuery
    from qakhunt.kql.values import Timespan
    from qakhunt.slicing.request import SliceRequest


@dataclass(frozen=True)
class PlanLine:
    """One question of the plan: a rendered hunt for one target, on one backend.

    ``slices`` asks for it in pieces, where that gives exactly the same result.
    ``longest_gap`` is the longest stretch without source records that is no gap; None
    where gaps do not count, so that only an empty answer is checked.
    """

    rendered: RenderedQuery
    backend: Backend
    target: Target
    slices: SliceRequest | None = None
    longest_gap: Timespan | None = LONGEST_GAP
