"""What a run found and how completely it looked: the input of every report."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qakhunt.answers.ledger import Ledger, Verdict
    from qakhunt.answers.table import Column
    from qakhunt.hunts.render import RenderedQuery
    from qakhunt.kql.values import Instant, Window
    from qakhunt.triage.hits import Hit


@dataclass
class RunResult:
    """What a run found and how completely it looked.

    ``columns`` are those of each hunt's result, also where it has no rows;
    ``suppressed`` counts hits that a suppression keeps from ``hits``.
    """

    now: Instant
    window: Window
    rendered: tuple[RenderedQuery, ...]
    ledger: Ledger
    hits: list[Hit]
    columns: dict[str, tuple[Column, ...]]
    warnings: list[str] = field(default_factory=list)
    suppressed: int = 0
    sample: bool = False
    interrupted: bool = False

    @property
    def verdict(self) -> Verdict:
        """What may be said of the run."""
        return self.ledger.verdict(len(self.hits) + self.suppressed)
