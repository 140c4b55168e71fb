"""The account of an answer: what was asked, what answered, and the verdict.

The verdict follows from the ledger and the number of hits alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

    from qakhunt.kql.values import Instant, Window


Accounted = TypeVar("Accounted")


class Status(str, Enum):
    """How completely one line was answered."""

    COMPLETE = "complete"
    UNCOVERED = "uncovered"
    TRUNCATED = "truncated"
    PARTIAL = "partial"
    FAILED = "failed"
    NOT_RUN = "not_run"


class Verdict(str, Enum):
    """What may be said of a whole run."""

    CLEAN = "clean"
    HITS = "hits"
    INCOMPLETE = "incomplete"
    FAILED = "failed"


@dataclass(frozen=True)
class SourceRows:
    """What the coverage check saw in the window.

    ``first`` and ``last`` are the times of the oldest and newest source record.
    """

    rows: int
    devices: int
    first: Instant | None = None
    last: Instant | None = None


@dataclass(frozen=True)
class LedgerLine:
    """One question to one workspace about one slice, and how it was answered.

    ``bytes`` counts the answer's body as received, ``waits`` and ``elapsed`` are
    seconds; ``rejected`` marks a failure that is the query's own. ``gaps`` are the
    time ranges of the window without a source record; ``notes`` say what the window
    means for the query and change nothing.
    """

    hunt: str
    profile: str
    tenant: str | None
    workspace: str | None
    slice: str
    window: Window
    backend: str
    query_hash: str
    status: Status
    detail: str = ""
    hint: str = ""
    rejected: bool = False
    rows: int = 0
    bytes: int = 0
    attempts: int = 0
    waits: tuple[float, ...] = ()
    request_ids: tuple[str, ...] = ()
    elapsed: float = 0.0
    source: SourceRows | None = None
    gaps: tuple[Window, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Who was asked, in words."""
        return target_label(self.profile, self.tenant, self.workspace)


def target_label(profile: str, tenant: str | None, workspace: str | None) -> str:
    """A profile's name and, in brackets, the id that it stands for."""
    place = workspace or tenant
    if not place or place == profile:
        return profile
    # An expected tenant without a profile stands under "-".
    return place if profile == "-" else f"{profile} ({place})"


@dataclass(frozen=True)
class Target:
    """What is queried: a profile's customer (Entra tenant id) and one workspace."""

    profile: str
    tenant: str | None = None
    workspace: str | None = None

    @property
    def label(self) -> str:
        """Who is asked, in words."""
        return target_label(self.profile, self.tenant, self.workspace)


def with_account(kept: Accounted, *calls: Any) -> Accounted:
    """An answer or a line with the tries, waits, ids and seconds of all ``calls``."""
    changes: dict[str, Any] = {
        "attempts": sum(call.attempts for call in calls),
        "waits": tuple(wait for call in calls for wait in call.waits),
        "request_ids": tuple(one for call in calls for one in call.request_ids),
        "elapsed": sum(call.elapsed for call in calls),
    }
    return replace(kept, **changes)  # type: ignore[type-var]


@dataclass(frozen=True)
class DeliveryLine:
    """What one sink was sent in a run. It never changes the verdict.

    ``messages`` were due, earlier runs' included; ``delivered`` of them were
    confirmed. ``waits`` and ``elapsed`` are seconds.
    """

    sink: str
    messages: int = 0
    delivered: int = 0
    findings: int = 0
    attempts: int = 0
    waits: tuple[float, ...] = ()
    detail: str = ""
    elapsed: float = 0.0

    @property
    def failed(self) -> bool:
        """Whether something is still to be sent."""
        return self.delivered < self.messages


@dataclass
class Ledger:
    """All lines of a run, in the order of its plan."""

    lines: list[LedgerLine] = field(default_factory=list)

    def verdict(self, hits: int) -> Verdict:
        """The verdict given ``hits``, suppressed ones included."""
        return verdict(self.lines, hits)

    @property
    def devices(self) -> int | None:
        """Devices seen by the probes, or None where no line was probed."""
        probed = [line.source.devices for line in self.lines if line.source]
        return sum(probed) if probed else None


ANSWERED = frozenset({Status.COMPLETE, Status.UNCOVERED, Status.TRUNCATED, Status.PARTIAL})


def verdict(lines: Iterable[LedgerLine], hits: int) -> Verdict:
    """Clean or hits only when every line is complete; failed when nothing answered."""
    statuses = [line.status for line in lines]
    if not any(status in ANSWERED for status in statuses):
        return Verdict.FAILED
    if any(status is not Status.COMPLETE for status in statuses):
        return Verdict.INCOMPLETE
    return Verdict.HITS if hits else Verdict.CLEAN
