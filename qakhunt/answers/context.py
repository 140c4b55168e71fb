"""What surrounded a hit, as it was collected: records of the device, and how they came.

Records are kept as plain JSON values, the same fresh from a backend and read from a
file, so that a triage of today and of a recording see one thing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from qakhunt.answers.ledger import Ledger, Status

if TYPE_CHECKING:
    from qakhunt.answers.ledger import Target
    from qakhunt.hunts.render import RenderedQuery
    from qakhunt.kql.values import Timespan, Window

Record = dict[str, Any]

DEFAULT_LIMIT = 50
PROCESSES = "DeviceProcessEvents"
# The context hunts: what each is asked for, in the order of the ledger.
TIMELINE_HUNT = "context-device-timeline"
TABLE_HUNTS = {
    "DeviceNetworkEvents": "context-device-network",
    "DeviceFileEvents": "context-device-files",
    "DeviceRegistryEvents": "context-device-registry",
    "DeviceLogonEvents": "context-device-logons",
    "AlertEvidence": "context-device-alerts",
}
ANCESTORS_HUNT = "context-process-ancestors"
RARITY_HUNT = "context-rarity"


@dataclass(frozen=True)
class TableAnswer:
    """What one table said about one hit.

    ``found`` counts its records in the stretches looked at, ``kept`` those that are
    held: the nearest. ``detail`` says why ``status`` is not complete.
    """

    table: str
    hunt: str
    status: Status
    found: int = 0
    kept: int = 0
    detail: str = ""


@dataclass(frozen=True)
class Rarity:
    """On how many devices, by how many accounts and on how many days something occurs.

    ``kind`` is ``issuer`` (the process issued known discovery commands), ``families``
    (one account on one device ran them all) or ``hash`` (the file ran). The hit itself
    is counted.
    """

    kind: str
    value: str
    devices: int
    accounts: int
    days: int


@dataclass(frozen=True)
class HitContext:
    """What surrounded one hit.

    ``looked`` are the stretches of time that were asked for. ``missing`` says why
    there is no context at all, else it is empty.
    """

    looked: tuple[Window, ...] = ()
    tables: tuple[TableAnswer, ...] = ()
    records: dict[str, list[Record]] = field(default_factory=dict)
    ancestors: tuple[Record, ...] = ()
    rarity: tuple[Rarity, ...] = ()
    rarity_window: Window | None = None
    rarity_detail: str = ""
    missing: str = ""


@dataclass(frozen=True)
class ContextQuery:
    """A context hunt as it was sent, and whom it was sent to."""

    rendered: RenderedQuery
    target: Target


@dataclass
class Context:
    """The context of a run's hits.

    ``around`` is looked at before the first and after the last command; ``hits`` maps
    a hit's position in the result, from 0, to its context; the first ``limit`` hits
    were asked for. ``ledger`` accounts for the context hunts alone: the verdict is
    that of the hunts.
    """

    around: Timespan
    limit: int
    queries: list[ContextQuery] = field(default_factory=list)
    ledger: Ledger = field(default_factory=Ledger)
    hits: dict[int, HitContext] = field(default_factory=dict)
