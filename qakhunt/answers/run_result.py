"""What a run found, how completely it looked, and what surrounded its hits."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta

from qakhunt import __version__
from qakhunt.answers.ledger import Ledger, Status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qakhunt.answers.hits import Hit
    from qakhunt.answers.ledger import DeliveryLine, LedgerLine, Target, Verdict
    from qakhunt.answers.table import Column
    from qakhunt.hunts.render import RenderedQuery
    from qakhunt.kql.values import Instant, Timespan, Window


Record = dict[str, Any]

DEFAULT_LIMIT = 50
PROCESSES = "DeviceProcessEvents"
# The context hunts: what each is asked for, in the order of the ledger.
TIMELINE_HUNT = "context-device-timeline"
TABLE_HUNTS = {
    "DeviceNetworkEvents": "context-device-network",
    "DeviceFileEvents": "context-device-files",
    "DeviceRegistryEvents": "context-device-registry",
    "DeviceEvents": "context-device-events",
    "DeviceLogonEvents": "context-device-logons",
    "AlertEvidence": "context-device-alerts",
}
ANCESTORS_HUNT = "context-process-ancestors"
RARITY_HUNT = "context-rarity"


# These stand in the document of a run as they are: their texts are its schema's.


@dataclass(frozen=True)
class TableAnswer:
    """The answer of one table about one hit."""

    table: str
    hunt: Annotated[str, Meta(description="The context hunt.")]
    status: Annotated[Status, Meta(description="How completely the query was answered.")]
    found: Annotated[int, Meta(ge=0, description="Records in the time ranges.")] = 0
    kept: Annotated[int, Meta(ge=0, description="Records kept here: the nearest.")] = 0
    detail: Annotated[str, Meta(description="Why the status is not complete.")] = ""


@dataclass(frozen=True)
class Rarity:
    """On how many devices, by how many accounts and on how many days a thing occurs."""

    # An issuer issued known discovery commands, families were all run by one account on one
    # device, the file of a hash ran. The hit itself is counted.

    kind: Annotated[str, Meta(description="issuer, families or hash.")]
    value: Annotated[str, Meta(description="The process, the families or the hash.")]
    devices: Annotated[int, Meta(ge=0)]
    accounts: Annotated[int, Meta(ge=0)]
    days: Annotated[int, Meta(ge=0)]


@dataclass(frozen=True)
class Clouds:
    """The clouds of a live profile."""

    cloud: Annotated[str, Meta(description="The cloud of Entra ID and Defender.")]
    log_analytics: Annotated[str, Meta(description="The cloud of the workspaces.")]
    workspace_resources: Annotated[
        dict[str, str],
        Meta(description="Workspace id -> its Azure resource id, where configured."),
    ] = field(default_factory=dict)
    cluster: Annotated[str | None, Meta(description="The address of a Kusto cluster.")] = None
    database: Annotated[str | None, Meta(description="The cluster's database.")] = None


@dataclass(frozen=True)
class HitContext:
    """What surrounded one hit.

    ``looked`` are the time ranges queried. ``missing`` says why
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
    """A context hunt as it was sent, and its target."""

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


def customer(source: LedgerLine | Hit | Target) -> str:
    """Whose it is: the tenant of the profile, else the profile."""
    return source.tenant or source.profile


def by_tenant(result: RunResult) -> dict[str, RunResult]:
    """Customer -> that customer's part of the result, in the order of the ledger."""
    customers = dict.fromkeys(customer(line) for line in result.ledger.lines)
    customers |= dict.fromkeys(customer(hit) for hit in [*result.hits, *result.suppressed_hits])
    return {whose: _part(result, whose) for whose in customers}


def _part(result: RunResult, whose: str) -> RunResult:
    lines = [line for line in result.ledger.lines if customer(line) == whose]
    numbers = [n for n, hit in enumerate(result.hits) if customer(hit) == whose]
    hunts = {line.hunt for line in lines} | {result.hits[n].hunt for n in numbers}
    profiles = {line.profile for line in lines} | {result.hits[n].profile for n in numbers}
    strangers = _names_of_others(result, whose)
    return replace(
        result,
        rendered=tuple(r for r in result.rendered if r.hunt.name in hunts),
        ledger=Ledger(lines),
        hits=[result.hits[n] for n in numbers],
        columns={name: found for name, found in result.columns.items() if name in hunts},
        warnings=[
            text
            for text in result.warnings
            if not any(name in text.casefold() for name in strangers)
        ],
        known=frozenset(at for at, number in enumerate(numbers) if number in result.known),
        **_suppressed(result, whose),
        # Sinks and state are the operator's, not a customer's.
        deliveries=[],
        state=None,
        clouds={name: c for name, c in result.clouds.items() if name in profiles},
        context=_context(result.context, whose, numbers) if result.context else None,
    )


def _suppressed(result: RunResult, whose: str) -> dict[str, Any]:
    """The customer's suppressed hits; a bare count, whose owners are not known, stays."""
    if not result.suppressed_hits:
        return {}
    own = [hit for hit in result.suppressed_hits if customer(hit) == whose]
    return {"suppressed_hits": own, "suppressed": len(own)}


def _context(context: Context, whose: str, numbers: list[int]) -> Context:
    return replace(
        context,
        queries=[query for query in context.queries if customer(query.target) == whose],
        ledger=Ledger([line for line in context.ledger.lines if customer(line) == whose]),
        hits={at: context.hits[n] for at, n in enumerate(numbers) if n in context.hits},
    )


def _names_of_others(result: RunResult, whose: str) -> set[str]:
    """What would reveal another customer: tenants, profiles, workspaces, devices."""
    found: set[str | None] = set()
    for line in result.ledger.lines:
        if customer(line) != whose:
            found |= {line.tenant, line.profile, line.workspace}
    for hit in [*result.hits, *result.suppressed_hits]:
        if customer(hit) != whose:
            found |= {hit.tenant, hit.profile, hit.workspace, hit.device}
    return {name.casefold() for name in found if name}
