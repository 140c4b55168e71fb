"""A scenario: tenants, their workspaces, events, limits and faults; which fault meets a call."""

from __future__ import annotations

import re
import threading
from collections import Counter, deque
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from qakhunt.core.documents import Document, convert, parse_yaml, read_text
from qakhunt.core.errors import ConfigError, UsageError, nearest
from qakhunt.kql.values import Instant, Timespan
from qakhunt.testing.emulator.faults import FAULTS

if TYPE_CHECKING:
    from collections.abc import Sequence

CallPath = Literal[
    "query", "search", "hunting", "kusto", "ingestion", "rules",
    "token", "device-code", "discovery", "managed-identity", "federation",
]  # fmt: skip
"""What a fault can be scripted for: the kinds of call that the emulator answers."""

TENANT = "aaaaaaaa-0000-4000-8000-000000000001"
WORKSPACE = "bbbbbbbb-0000-4000-8000-000000000001"
"""The ids of the one tenant and workspace that are served without a scenario file."""

MOST_CALLS_KEPT = 100_000
PER_IDENTITY, PER_TENANT = (200, 30.0), (45, 60.0)
"""Calls in so many seconds: of one identity to Log Analytics
(https://learn.microsoft.com/azure/azure-monitor/service-limits#log-queries-and-language), of
one tenant to advanced hunting
(https://learn.microsoft.com/graph/api/security-security-runhuntingquery)."""

Guid = Annotated[
    str,
    msgspec.Meta(pattern=r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"),
]
Positive = Annotated[float, msgspec.Meta(ge=0)]
Count = Annotated[int, msgspec.Meta(ge=1)]


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class Limits(_Strict, frozen=True):
    """What one answer may hold, and for how long it may be worked on.

    A limit that is left out is the service's documented one.
    """

    rows: Count | None = None
    bytes: Count | None = None
    seconds: Positive | None = None


class Throttle(_Strict, frozen=True):
    """At most ``calls`` queries in any time range of ``seconds``."""

    calls: Count
    seconds: Positive


class FaultRule(_Strict, frozen=True):
    """One scripted fault.

    ``paths`` are the kinds of call that it meets; left out, those that the fault
    is made for. ``calls`` are the numbers of those calls, from 1, counted for the
    tenant or, where one is named, the workspace: a number, several, ``"2-4"`` or
    ``"3-"``; left out, every call. ``seconds`` sets the fault's own time: the wait
    that it asks for, how long it drips or refuses.
    """

    fault: str
    paths: tuple[CallPath, ...] = ()
    calls: int | str | tuple[int | str, ...] = ()
    workspace: Guid | None = None
    seconds: Positive | None = None

    def meets(self, number: int) -> bool:
        """Whether the ``number``-th call is one of ``calls``."""
        calls = self.calls if isinstance(self.calls, tuple) else (self.calls,)
        return not calls or any(low <= number <= high for low, high in map(_range, calls))


class Workspace(_Strict, frozen=True):
    """A Log Analytics workspace.

    ``events`` are inputs as ``--events`` takes them; left out, the tenant's.
    Records older than ``retention`` do not exist. ``basic_tables`` answer to
    ``/search`` only. ``readers`` are other tenants that may read it (Lighthouse);
    ``readable: false`` keeps its own out.
    """

    id: Guid
    events: tuple[str, ...] | None = None
    retention: str | None = None
    basic_tables: tuple[str, ...] = ()
    readers: tuple[Guid, ...] = ()
    readable: bool = True


class Tenant(_Strict, frozen=True):
    """A customer: what Defender holds, and its workspaces.

    ``roles`` are those that its tokens carry; ``latency`` is the seconds that an
    answer takes at least.
    """

    id: Guid
    name: str = ""
    events: tuple[str, ...] = ()
    retention: str | None = None
    workspaces: tuple[Workspace, ...] = ()
    roles: tuple[str, ...] = ("ThreatHunting.Read.All",)
    limits: Limits = Limits()
    latency: Positive = 0.0
    throttle: Throttle | None = None
    faults: tuple[FaultRule, ...] = ()


class App(_Strict, frozen=True):
    """An app registration. ``secret`` is made up for the emulation; None takes any."""

    client_id: str
    secret: str | None = None


class Scenario(_Strict, frozen=True):
    """All that the emulator serves.

    ``now`` stands for the services' clock in queries; left out, it is the
    machine's. ``any_token`` lets every bearer token in. With ``apps`` only those
    may sign in. Tokens live ``token_seconds``.
    """

    tenants: Annotated[tuple[Tenant, ...], msgspec.Meta(min_length=1)]
    now: str | None = None
    any_token: bool = False
    apps: tuple[App, ...] = ()
    account: str = "analyst@contoso.example"
    token_seconds: Positive = 3600

    @property
    def fixed_now(self) -> Instant | None:
        """``now`` as an instant."""
        return Instant.parse(self.now) if self.now else None


@dataclass(frozen=True)
class LoadedScenario:
    """A scenario and the folder that its relative inputs start from."""

    scenario: Scenario
    folder: Path

    def inputs(self, events: Sequence[str]) -> tuple[str, ...]:
        """Inputs with their paths made absolute."""
        return tuple(_absolute(text, self.folder) for text in events)

    def at(self, now: str | None) -> LoadedScenario:
        """The same at another time, where one is given. Raises UsageError."""
        if now is None:
            return self
        try:
            Instant.parse(now)
        except ValueError as problem:
            raise UsageError(f"--now {now!r}: {problem}") from None
        return replace(self, scenario=msgspec.structs.replace(self.scenario, now=now))

    def without_faults(self) -> LoadedScenario:
        """The same with nothing going wrong: no scripted fault, no throttle."""
        tenants = tuple(
            msgspec.structs.replace(tenant, faults=(), throttle=None)
            for tenant in self.scenario.tenants
        )
        return replace(self, scenario=msgspec.structs.replace(self.scenario, tenants=tenants))


def load_scenario(path: Path) -> LoadedScenario:
    """Load a scenario file. Raises ConfigError at the line and column at fault."""
    document = parse_yaml(read_text(path, ConfigError), str(path), ConfigError)
    if not isinstance(document.value, dict):
        raise ConfigError("a scenario is a mapping of keys", location=document.locate(()))
    scenario = convert(document, Scenario, ConfigError)
    _check(scenario, document)
    return LoadedScenario(scenario, path.resolve().parent)


def single_tenant(events: Sequence[str]) -> LoadedScenario:
    """One tenant with one workspace that hold ``events`` and let any token in."""
    tenant = Tenant(id=TENANT, events=tuple(events), workspaces=(Workspace(id=WORKSPACE),))
    return LoadedScenario(Scenario(tenants=(tenant,), any_token=True), Path.cwd())


def _check(scenario: Scenario, document: Document) -> None:
    """What the types alone do not tell."""
    if scenario.now is not None:
        try:
            Instant.parse(scenario.now)
        except ValueError as problem:
            raise ConfigError(f"now: {problem}", location=document.locate(("now",))) from None
    seen: set[str] = set()
    for t, tenant in enumerate(scenario.tenants):
        at: tuple[str | int, ...] = ("tenants", t)
        _check_new(seen, tenant.id, document, at)
        _check_retention(tenant.retention, document, at)
        for w, workspace in enumerate(tenant.workspaces):
            place = (*at, "workspaces", w)
            _check_new(seen, workspace.id, document, place)
            _check_retention(workspace.retention, document, place)
        for f, rule in enumerate(tenant.faults):
            _check_rule(rule, tenant, document, (*at, "faults", f))


def _check_new(seen: set[str], guid: str, document: Document, at: tuple[str | int, ...]) -> None:
    if guid.lower() in seen:
        raise ConfigError(f"the id {guid} stands twice", location=document.locate((*at, "id")))
    seen.add(guid.lower())


def _check_retention(retention: str | None, document: Document, at: tuple[str | int, ...]) -> None:
    if retention is None:
        return
    try:
        Timespan.parse(retention)
    except ValueError as problem:
        raise ConfigError(
            f"retention: {problem}", location=document.locate((*at, "retention")),
            hint="write it as KQL does, such as 30d",
        ) from None  # fmt: skip


def _check_rule(
    rule: FaultRule, tenant: Tenant, document: Document, at: tuple[str | int, ...]
) -> None:
    if rule.fault not in FAULTS:
        raise ConfigError(
            f"no fault is called {rule.fault!r}", location=document.locate((*at, "fault")),
            hint=nearest(rule.fault, FAULTS) or "qakhunt emulate --list-faults names them all",
        )  # fmt: skip
    known = {workspace.id.lower() for workspace in tenant.workspaces}
    if rule.workspace is not None and rule.workspace.lower() not in known:
        raise ConfigError(
            f"the tenant has no workspace {rule.workspace}",
            location=document.locate((*at, "workspace")),
        )
    calls = rule.calls if isinstance(rule.calls, tuple) else (rule.calls,)
    for call in calls:
        try:
            _range(call)
        except ValueError:
            raise ConfigError(
                f"calls: {call!r} is neither a number from 1 nor a range",
                location=document.locate((*at, "calls")), hint='write 2, [1, 3], "2-4" or "3-"',
            ) from None  # fmt: skip


_RANGE = re.compile(r"(\d+)(-)?(\d+)?", re.ASCII)


def _range(call: int | str) -> tuple[float, float]:
    match = _RANGE.fullmatch(str(call))
    if match is None:
        raise ValueError(call)
    low = int(match[1])
    high = float(match[3]) if match[3] else (float("inf") if match[2] else low)
    if low < 1 or high < low:
        raise ValueError(call)
    return low, high


def _absolute(text: str, folder: Path) -> str:
    table, equals, rest = text.partition("=")
    prefix, path = (f"{table}=", rest) if equals and table.isidentifier() else ("", text)
    return prefix + str(folder / Path(path).expanduser())


# A scenario being served


@dataclass
class Call:
    """One call: its target, its number among its kind, and how it ended.

    ``number`` counts from 1 the calls of one kind to one tenant, ``of_workspace``
    those to one workspace. ``fault`` is the scripted fault that met it, or
    ``throttle`` for the scenario's own limit; ``status`` is None where no answer
    was sent. ``queued`` are the seconds that it waited for one before it to end.
    """

    path: str
    tenant: str | None
    workspace: str | None
    number: int
    of_workspace: int
    at: float
    query: str = ""
    timespan: str = ""
    fault: str | None = None
    status: int | None = None
    queued: float = 0.0


@dataclass
class Script:
    """Counts calls, keeps an account of them and finds their faults.

    With ``limits`` the services' documented rates hold where a tenant has none of its own.
    """

    tenants: dict[str, Tenant]
    limits: bool = False
    calls: deque[Call] = field(default_factory=lambda: deque(maxlen=MOST_CALLS_KEPT))
    _counts: Counter[tuple[str, str | None, str | None]] = field(default_factory=Counter)
    _recent: dict[str, deque[float]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, path: str, tenant: str | None, workspace: str | None, at: float) -> Call:
        """Account for a call that has just arrived."""
        with self._lock:
            self._counts[path, tenant, None] += 1
            number = self._counts[path, tenant, None]
            of_workspace = number
            if workspace is not None:
                self._counts[path, tenant, workspace] += 1
                of_workspace = self._counts[path, tenant, workspace]
            call = Call(path, tenant, workspace, number, of_workspace, at)
            self.calls.append(call)
            return call

    def rule_for(self, call: Call) -> FaultRule | None:
        """The first of the tenant's rules that meets the call."""
        tenant = self.tenants.get(call.tenant or "")
        for rule in tenant.faults if tenant else ():
            if call.path not in (rule.paths or FAULTS[rule.fault].paths):
                continue
            if rule.workspace is None:
                if rule.meets(call.number):
                    return rule
            elif rule.workspace.lower() == call.workspace and rule.meets(call.of_workspace):
                return rule
        return None

    def throttled(self, call: Call, identity: str) -> float | None:
        """Seconds until the limit lets the next query in, or None if it does now."""
        tenant = self.tenants.get(call.tenant or "")
        own = tenant.throttle if tenant else None
        if own is not None:
            whose, most, seconds = f"tenant {call.tenant}", own.calls, own.seconds
        elif self.limits and call.path in ("query", "search"):
            whose, (most, seconds) = f"identity {identity}", PER_IDENTITY
        elif self.limits and call.path == "hunting":
            whose, (most, seconds) = f"tenant {call.tenant}", PER_TENANT
        else:
            return None
        with self._lock:
            recent = self._recent.setdefault(whose, deque())
            while recent and recent[0] <= call.at - seconds:
                recent.popleft()
            if len(recent) < most:
                recent.append(call.at)
                return None
            return recent[0] + seconds - call.at
