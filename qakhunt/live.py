"""From profiles to the backends that ask them: what is shared, and by whom.

Profiles that sign in as the same identity share its tokens and its pace.
"""

from __future__ import annotations

import math
import ssl
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qakhunt.backends import defender, log_analytics
from qakhunt.backends.analysts import cache_folder
from qakhunt.backends.auth import Identity, TokenSource, checked_authority
from qakhunt.backends.base import Target
from qakhunt.backends.clouds import check_endpoint, cloud_named
from qakhunt.backends.pace import Gate, SystemClock
from qakhunt.backends.retry import RetryLimits
from qakhunt.backends.transport import Transport, shared_connections
from qakhunt.config_checks import length_of_time
from qakhunt.errors import ConfigError
from qakhunt.hunts.source_rows import LONGEST_GAP

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from qakhunt.backends.base import Backend
    from qakhunt.backends.pace import Clock
    from qakhunt.backends.transport import OnWait
    from qakhunt.config_model import Limits, Profile
    from qakhunt.kql.values import Instant, Timespan
    from qakhunt.settings import ProfileSettings


@dataclass(frozen=True)
class Service:
    """Where a profile's questions go and for what tokens are; checked."""

    endpoint: str
    scope: str
    authority: str


@dataclass
class LiveBackends:
    """Opens backends for profiles; close it when the run is over.

    ``deadline`` is a moment of ``clock``; ``timeout`` is the most seconds that a query
    may take, where it is less than the profile allows; ``ask`` shows a person what to do to sign
    in, where there is a person; ``cache`` is the folder of the analysts' sign-ins.
    """

    now: Instant
    clock: Clock = field(default_factory=SystemClock)
    deadline: float = float("inf")
    timeout: float | None = None
    on_wait: OnWait | None = None
    trusted_hosts: Collection[str] = ()
    ask: Callable[[str], None] | None = None
    cache: Path | None = field(default_factory=cache_folder)
    _tokens: dict[Identity, TokenSource] = field(default_factory=dict)
    _gates: dict[Any, Gate] = field(default_factory=dict)
    _open: list[Backend] = field(default_factory=list)
    _connections: Any = field(default_factory=shared_connections)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def open(self, settings: ProfileSettings) -> Backend:
        """The backend of a profile. Raises ConfigError; nothing is asked yet."""
        with self._lock:
            return self._opened(settings)

    def _opened(self, settings: ProfileSettings) -> Backend:
        profile = settings.profile
        service = service_of(profile, self.trusted_hosts)
        if profile.ca_file:
            _check_ca_file(settings.name, profile.ca_file)
        tokens = self.tokens(profile, service)
        module: Any = log_analytics if profile.backend == "log-analytics" else defender
        client = module.open_client(
            tokens, service.endpoint, service.scope, ca_file=profile.ca_file,
            connections=self._connections,
        )  # fmt: skip
        wait = profile.limits.server_wait or log_analytics.LONGEST_WAIT
        silence = (
            log_analytics.read_timeout(wait) if module is log_analytics else defender.READ_TIMEOUT
        )
        if self.timeout is not None:
            wait = min(wait, max(1, math.ceil(self.timeout)))
        transport = Transport(
            client, service.endpoint, self._gate(profile, service), self.clock,
            read_timeout=silence, timeout=self.timeout, limits=_retry_limits(profile.limits),
            deadline=self.deadline, on_wait=self.on_wait, renew=tokens.renew,
        )  # fmt: skip
        backend = self._backend(profile, transport, wait)
        self._open.append(backend)
        return backend

    def tokens(self, profile: Profile, service: Service) -> TokenSource:
        """The tokens of the profile's identity in its tenant."""
        identity = Identity(
            profile.sign_in_settings, profile.tenant, service.authority, profile.cloud,
            profile.ca_file, self.cache, self.ask,
        )  # fmt: skip
        with self._lock:
            if identity not in self._tokens:
                self._tokens[identity] = TokenSource(identity)
            return self._tokens[identity]

    def close(self) -> None:
        """End all waits and close all connections."""
        self.clock.stop()
        for backend in self._open:
            backend.close()
        for source in self._tokens.values():
            source.close()
        self._connections.close()

    def _gate(self, profile: Profile, service: Service) -> Gate:
        """One pace for an identity; for Graph, whose limits are the tenant's, in each tenant."""
        module: Any = log_analytics if profile.backend == "log-analytics" else defender
        key: tuple[Any, ...] = (service, profile.sign_in_settings)
        if module is defender:
            key = (*key, profile.tenant)
        if key not in self._gates:
            limits = profile.limits
            self._gates[key] = Gate(
                self.clock, concurrency=limits.concurrency or module.CONCURRENCY,
                calls=limits.calls or module.CALLS,
                per=limits.per_seconds or module.PER_SECONDS,
            )  # fmt: skip
        return self._gates[key]

    def _oldest(self, profile: Profile) -> Instant | None:
        if profile.retention is None:
            return None
        return self.now - length_of_time("retention", profile.retention)

    def _longest_gap(self, profile: Profile) -> Timespan:
        if profile.longest_gap is None:
            return LONGEST_GAP
        return length_of_time("longest_gap", profile.longest_gap)

    def _backend(self, profile: Profile, transport: Transport, wait: int) -> Backend:
        limits = profile.limits
        if profile.backend == "log-analytics":
            settings = log_analytics.LogAnalyticsSettings(
                server_wait=wait,
                row_limit=limits.row_limit or log_analytics.ROW_LIMIT,
                allow_billed_search=profile.allow_billed_search,
                billed_tables=frozenset(profile.billed_tables),
                oldest=self._oldest(profile),
                longest_gap=self._longest_gap(profile),
            )
            return log_analytics.LogAnalyticsBackend(
                transport, settings, concurrency=limits.concurrency or log_analytics.CONCURRENCY
            )
        return defender.DefenderBackend(
            transport,
            defender.DefenderSettings(
                self.now, limits.row_limit or defender.ROW_LIMIT, self._longest_gap(profile)
            ),
            concurrency=limits.concurrency or defender.CONCURRENCY,
        )


def service_of(profile: Profile, trusted_hosts: Collection[str] = ()) -> Service:
    """The service of a profile. Raises ConfigError for a host that may see no token."""
    cloud = cloud_named(profile.cloud)
    authority = checked_authority(profile.authority, cloud.authority, trusted_hosts)
    if profile.backend == "defender":
        endpoint = profile.graph_endpoint or f"https://{cloud.graph_host}"
        return Service(
            check_endpoint(endpoint, cloud.hosts, trusted_hosts), cloud.graph_scope, authority
        )
    place = cloud_named(profile.log_analytics_cloud or profile.cloud)
    endpoint = profile.log_analytics_endpoint or f"https://{place.log_analytics[0]}"
    return Service(
        check_endpoint(endpoint, place.hosts, trusted_hosts), place.log_analytics_scope, authority
    )


def _check_ca_file(name: str, path: str) -> None:
    """Raises ConfigError for a file that holds no certificates."""
    hint = "a PEM file with the certificate of the CA that signs what answers"
    if Path(path).is_dir():
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError:
        raise ConfigError(
            f"profile {name}: ca_file {path} holds no certificate", hint=hint
        ) from None
    except OSError as problem:
        raise ConfigError(
            f"profile {name}: cannot read ca_file {path}: {problem.strerror}", hint=hint
        ) from None


def targets_of(settings: ProfileSettings) -> list[Target]:
    """Whom a profile's questions are for: each workspace, or the tenant."""
    profile = settings.profile
    workspaces: list[str | None] = [*profile.workspaces] or [None]
    return [Target(settings.name, profile.tenant, workspace) for workspace in workspaces]


def _retry_limits(limits: Limits) -> RetryLimits:
    standard = RetryLimits()
    return RetryLimits(
        tries=limits.tries or standard.tries,
        throttled_tries=limits.throttled_tries or standard.throttled_tries,
        patience=standard.patience if limits.patience is None else limits.patience,
    )
