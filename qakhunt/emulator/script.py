"""What was asked of the emulator, and which scripted fault meets a call."""

from __future__ import annotations

import threading
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from qakhunt.emulator.faults import FAULTS

if TYPE_CHECKING:
    from qakhunt.emulator.scenario import FaultRule, Tenant

MOST_CALLS_KEPT = 100_000


@dataclass
class Call:
    """One call: to whom, the how-manieth of its kind, and how it ended.

    ``number`` counts from 1 the calls of one kind to one tenant, ``of_workspace``
    those to one workspace. ``fault`` is the scripted fault that met it, or
    ``throttle`` for the scenario's own limit; ``status`` is None where no answer
    was sent.
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


@dataclass
class Script:
    """Counts calls, keeps an account of them and finds their faults."""

    tenants: dict[str, Tenant]
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

    def throttled(self, call: Call) -> float | None:
        """Seconds until the tenant's limit lets the next query in, or None if it does now."""
        tenant = self.tenants.get(call.tenant or "")
        if tenant is None or tenant.throttle is None:
            return None
        with self._lock:
            recent = self._recent.setdefault(tenant.id, deque())
            while recent and recent[0] <= call.at - tenant.throttle.seconds:
                recent.popleft()
            if len(recent) < tenant.throttle.calls:
                recent.append(call.at)
                return None
            return recent[0] + tenant.throttle.seconds - call.at
