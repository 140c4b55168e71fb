"""What a run found and how completely it looked: the input of every report."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from qakhunt import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qakhunt.answers.context import Context
    from qakhunt.answers.hits import Hit
    from qakhunt.answers.ledger import DeliveryLine, Ledger, Verdict
    from qakhunt.answers.table import Column
    from qakhunt.hunts.render import RenderedQuery
    from qakhunt.kql.values import Instant, Window


@dataclass(frozen=True)
class Clouds:
    """The clouds of a profile: Defender's, and that of its workspaces.

    ``workspace_resources`` are Azure resource ids by the workspace's GUID, where known;
    ``cluster`` and ``database`` those of a Kusto cluster.
    """

    cloud: str
    log_analytics: str
    workspace_resources: Mapping[str, str] = field(default_factory=dict)
    cluster: str | None = None
    database: str | None = None


@dataclass
class RunResult:
    """What a run found and how completely it looked.

    ``columns`` are those of each hunt's result, also where it has no rows;
    ``suppressed`` counts hits that a suppression keeps from ``hits``; they stand in
    ``suppressed_hits``. Of a scheduled run: ``deliveries`` is what each sink was sent,
    ``state`` what the state knows, ``known`` the numbers in ``hits`` of findings that
    earlier runs reported. ``context`` is None where nobody asked for what surrounded the hits.
    ``version`` is that of the qakhunt which ran. ``clouds`` are those of live profiles.
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
    suppressed_hits: list[Hit] = field(default_factory=list)
    deliveries: list[DeliveryLine] = field(default_factory=list)
    state: Mapping[str, Any] | None = None
    known: frozenset[int] = frozenset()
    context: Context | None = None
    version: str = __version__
    clouds: Mapping[str, Clouds] = field(default_factory=dict)

    @property
    def verdict(self) -> Verdict:
        """What may be said of the run."""
        return self.ledger.verdict(len(self.hits) + self.suppressed)

    @property
    def news(self) -> list[Hit]:
        """The hits that no earlier run reported; all of them without a state."""
        return [hit for number, hit in enumerate(self.hits) if number not in self.known]
