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
from urllib.parse import quote

from qakhunt.answers.ledger import Target
from qakhunt.backends.auth.credentials import TokenSource
from qakhunt.backends.auth.identity import Identity, checked_authority
from qakhunt.backends.auth.interactive import cache_folder
from qakhunt.backends.base import LONGEST_GAP, RunLimits
from qakhunt.backends.clouds import check_endpoint, cloud_named
from qakhunt.backends.rate_limiter import Clock, RateLimiter
from qakhunt.backends.retry import RetryLimits
from qakhunt.backends.services import Service, service_named
from qakhunt.backends.transport import Transport, pipeline_client, shared_connections
from qakhunt.core.errors import ConfigError
from qakhunt.run.config import length_of_time

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from qakhunt.backends.base import Backend
    from qakhunt.backends.profile import Limits, Profile
    from qakhunt.backends.rule_store import RuleStore
    from qakhunt.backends.services import Place
    from qakhunt.backends.transport import OnWait
    from qakhunt.kql.values import Instant
    from qakhunt.run.settings import ProfileSettings


LONGEST_WAIT = 600
"""Seconds that a query may run where the profile does not say less."""
_RULE_CALLS, _RULE_SILENCE = 60, 90.0
"""Calls about rules in a minute, far below both services' limits; seconds without an answer."""
_WORKSPACES = "/providers/Microsoft.OperationalInsights/workspaces?api-version=2023-09-01"
_LISTING = {
    403: ("no permission on the subscription", "it needs the role Reader, or name --workspace"),
    404: ("no such subscription", "is the subscription of this tenant, and in this cloud?"),
}


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
    clock: Clock = field(default_factory=Clock)
    deadline: float = float("inf")
    timeout: float | None = None
    on_wait: OnWait | None = None
    trusted_hosts: Collection[str] = ()
    ask: Callable[[str], None] | None = None
    cache: Path | None = field(default_factory=cache_folder)
    _tokens: dict[Identity, TokenSource] = field(default_factory=dict)
    _limiters: dict[Any, RateLimiter] = field(default_factory=dict)
    _open: list[Backend] = field(default_factory=list)
    _transports: list[Transport] = field(default_factory=list)
    _connections: Any = field(default_factory=shared_connections)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def open(self, settings: ProfileSettings) -> Backend:
        """The backend of a profile. Raises ConfigError; nothing is asked yet."""
        profile = settings.profile
        if profile.write:
            raise ConfigError(
                f"profile {settings.name}: it may write rules, so it runs no hunts",
                hint="hunts run with profiles that only read; 'qakhunt deploy' takes this one",
            )
        service, address = service_named(profile.backend), address_of(profile, self.trusted_hosts)
        wait = profile.limits.server_wait or LONGEST_WAIT
        silence = service.read_timeout(wait)
        if self.timeout is not None:
            wait = min(wait, max(1, math.ceil(self.timeout)))
        limits = _retry_limits(profile.limits)
        limiter = self._limiter(service, profile, address)
        transport = self._transport(
            settings, address, service.open_client, limiter, silence, limits
        )
        kept = profile.retention and length_of_time("retention", profile.retention)
        gap = profile.longest_gap and length_of_time("longest_gap", profile.longest_gap)
        run = RunLimits(self.now, wait, kept or None, gap or LONGEST_GAP)
        backend = service.open_backend(transport, profile, run)
        with self._lock:
            self._open.append(backend)
        return backend

    def open_rules(self, settings: ProfileSettings, form: str) -> list[RuleStore]:
        """The stores of a profile's rules of one form. Raises ConfigError; nothing is asked yet."""
        profile = settings.profile
        service = service_named(profile.backend).rule_service()
        return service.open(self._rule_transport(settings), profile, form)

    def workspaces(self, settings: ProfileSettings, subscription: str) -> dict[str, str]:
        """Name -> id of the Log Analytics workspaces of an Azure subscription.

        https://learn.microsoft.com/rest/api/loganalytics/workspaces/list
        """
        from qakhunt.backends.rule_store import RestClient

        client = RestClient(self._rule_transport(settings), settings.name, _LISTING)
        path = f"/subscriptions/{quote(subscription, safe='')}{_WORKSPACES}"
        found = {}
        for entry in client.pages(path, "nextLink"):
            properties = entry.get("properties")
            guid = properties.get("customerId") if isinstance(properties, dict) else None
            if isinstance(guid, str):
                found[str(entry.get("name"))] = guid
        return found

    def _rule_transport(self, settings: ProfileSettings) -> Transport:
        profile = settings.profile
        service = service_named(profile.backend).rule_service()
        address = _checked_address(profile, service.place(profile), self.trusted_hosts)
        limits = _retry_limits(profile.limits)
        limiter = RateLimiter(self.clock, concurrency=1, calls=_RULE_CALLS, per=60.0)
        transport = self._transport(
            settings, address, pipeline_client, limiter, _RULE_SILENCE, limits
        )
        with self._lock:
            self._transports.append(transport)
        return transport

    def _transport(
        self, settings: ProfileSettings, address: Address, open_client: Callable[..., Any],
        limiter: RateLimiter, silence: float, limits: RetryLimits,
    ) -> Transport:  # fmt: skip
        profile = settings.profile
        if profile.ca_file:
            _check_ca_file(settings.name, profile.ca_file)
        tokens = self.tokens(profile, address)
        client = open_client(
            tokens, address.endpoint, address.scope, ca_file=profile.ca_file,
            connections=self._connections,
        )  # fmt: skip
        return Transport(
            client, address.endpoint, limiter, self.clock,
            read_timeout=silence, timeout=self.timeout, limits=limits,
            deadline=self.deadline, on_wait=self.on_wait, renew=tokens.renew,
        )  # fmt: skip

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
        for transport in self._transports:
            transport.close()
        for source in self._tokens.values():
            source.close()
        self._connections.close()

    def _limiter(self, service: Service, profile: Profile, address: Address) -> RateLimiter:
        """One rate limiter for an identity, or for a tenant whose limits they are."""
        key: tuple[Any, ...] = (address, profile.sign_in_settings)
        if service.rate.per_tenant:
            key = (*key, profile.tenant)
        with self._lock:
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
    return _checked_address(profile, service_named(profile.backend).place(profile), trusted_hosts)


def _checked_address(profile: Profile, place: Place, trusted_hosts: Collection[str]) -> Address:
    cloud = cloud_named(profile.cloud)
    authority = checked_authority(profile.authority, cloud.authority, trusted_hosts)
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
