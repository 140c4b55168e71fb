"""From profiles to the backends that ask them: what is shared, and between which.

Profiles that sign in as the same identity share its tokens and its rate limit.
"""

from __future__ import annotations

import math
import ssl
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qakhunt.answers.ledger import Target
from qakhunt.backends.auth.credentials import TokenSource
from qakhunt.backends.auth.identity import Identity, checked_authority
from qakhunt.backends.auth.interactive import cache_folder
from qakhunt.backends.base import LONGEST_GAP
from qakhunt.backends.clouds import check_endpoint, cloud_named
from qakhunt.backends.rate_limiter import RateLimiter, SystemClock
from qakhunt.backends.retry import RetryLimits
from qakhunt.backends.services import RunLimits, Service, service_named
from qakhunt.backends.transport import Transport, shared_connections
from qakhunt.core.errors import ConfigError
from qakhunt.run.config import length_of_time

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from qakhunt.backends.base import Backend
    from qakhunt.backends.profile import Limits, Profile
    from qakhunt.backends.rate_limiter import Clock
    from qakhunt.backends.transport import OnWait
    from qakhunt.kql.values import Instant
    from qakhunt.run.settings import ProfileSettings


LONGEST_WAIT = 600
"""Seconds that a query may run where the profile does not say less."""


@dataclass(frozen=True)
class Address:
    """Where a profile's queries go and what tokens they need; checked."""

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
    _limiters: dict[Any, RateLimiter] = field(default_factory=dict)
    _open: list[Backend] = field(default_factory=list)
    _connections: Any = field(default_factory=shared_connections)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def open(self, settings: ProfileSettings) -> Backend:
        """The backend of a profile. Raises ConfigError; nothing is asked yet."""
        with self._lock:
            return self._opened(settings)

    def _opened(self, settings: ProfileSettings) -> Backend:
        profile = settings.profile
        service, address = service_named(profile.backend), address_of(profile, self.trusted_hosts)
        if profile.ca_file:
            _check_ca_file(settings.name, profile.ca_file)
        tokens = self.tokens(profile, address)
        client = service.open_client(
            tokens, address.endpoint, address.scope, ca_file=profile.ca_file,
            connections=self._connections,
        )  # fmt: skip
        wait = profile.limits.server_wait or LONGEST_WAIT
        silence = service.read_timeout(wait)
        if self.timeout is not None:
            wait = min(wait, max(1, math.ceil(self.timeout)))
        transport = Transport(
            client, address.endpoint, self._limiter(service, profile, address), self.clock,
            read_timeout=silence, timeout=self.timeout, limits=_retry_limits(profile.limits),
            deadline=self.deadline, on_wait=self.on_wait, renew=tokens.renew,
        )  # fmt: skip
        kept = profile.retention and length_of_time("retention", profile.retention)
        gap = profile.longest_gap and length_of_time("longest_gap", profile.longest_gap)
        run = RunLimits(self.now, wait, kept or None, gap or LONGEST_GAP)
        backend = service.open_backend(transport, profile, run)
        self._open.append(backend)
        return backend

    def tokens(self, profile: Profile, address: Address) -> TokenSource:
        """The tokens of the profile's identity in its tenant."""
        identity = Identity(
            profile.sign_in_settings, profile.tenant, address.authority, profile.cloud,
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

    def _limiter(self, service: Service, profile: Profile, address: Address) -> RateLimiter:
        """One rate limiter for an identity, or for a tenant whose limits they are."""
        key: tuple[Any, ...] = (address, profile.sign_in_settings)
        if service.rate.per_tenant:
            key = (*key, profile.tenant)
        if key not in self._limiters:
            limits = profile.limits
            self._limiters[key] = RateLimiter(
                self.clock, concurrency=limits.concurrency or service.rate.concurrency,
                calls=limits.calls or service.rate.calls,
                per=limits.per_seconds or service.rate.per_seconds,
            )  # fmt: skip
        return self._limiters[key]


def address_of(profile: Profile, trusted_hosts: Collection[str] = ()) -> Address:
    """Where the profile's service is. Raises ConfigError for a host that may see no token."""
    cloud = cloud_named(profile.cloud)
    authority = checked_authority(profile.authority, cloud.authority, trusted_hosts)
    place = service_named(profile.backend).place(profile)
    endpoint = check_endpoint(place.endpoint, place.hosts, trusted_hosts)
    return Address(endpoint, place.scope, authority)


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
    workspaces: list[str | None] = [*profile.databases] or [None]
    return [Target(settings.name, profile.tenant, workspace) for workspace in workspaces]


def _retry_limits(limits: Limits) -> RetryLimits:
    standard = RetryLimits()
    return RetryLimits(
        tries=limits.tries or standard.tries,
        throttled_tries=limits.throttled_tries or standard.throttled_tries,
        patience=standard.patience if limits.patience is None else limits.patience,
    )
