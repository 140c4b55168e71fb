"""What a run is to ask: one line per rendered hunt and target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qakhunt.answers.ledger import Target
    from qakhunt.backends.base import Backend
    from qakhunt.hunts.render import RenderedQuery
    from qakhunt.kql.values import Timespan
    from qakhunt.run.slicing.request import SliceRequest


@dataclass(frozen=True)
class PlanLine:
    """One question of the plan: a rendered hunt for one target, on one backend.

    ``slices`` asks for it in pieces, where that gives exactly the same result.
    Without ``gaps_count`` only an empty answer is checked for records to look at.
    """

    rendered: RenderedQuery
    backend: Backend
    target: Target
    slices: SliceRequest | None = None
    gaps_count: bool = True

    @property
    def longest_gap(self) -> Timespan | None:
        """The longest stretch without source records that is no gap; None where none is."""
        return self.backend.longest_gap if self.gaps_count else None
