"""One record per live service: all that differs between services besides their wire format.

A service is added by a module with its backend and ``SERVICE``, and a row in ``MODULES``.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qakhunt.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from qakhunt.backends.base import Backend, RunLimits
    from qakhunt.backends.profile import Profile
    from qakhunt.backends.rate_limiter import RateLimit
    from qakhunt.backends.rule_store import RuleStore
    from qakhunt.backends.transport import Transport

MODULES = {
    "log-analytics": "qakhunt.backends.log_analytics",
    "defender": "qakhunt.backends.defender",
    "kusto": "qakhunt.backends.kusto",
}
"""Name -> the module whose ``SERVICE`` it is, loaded when it is named."""


@dataclass(frozen=True)
class Place:
    """Where a service answers for a profile, before it is checked.

    ``own`` is the address that the profile names under ``key``; ``hosts`` may see tokens for
    ``scope``, the first of them is used where the profile names none.
    """

    key: str
    own: str | None
    hosts: tuple[str, ...]
    scope: str

    @property
    def endpoint(self) -> str:
        """The address to use."""
        return self.own or f"https://{self.hosts[0]}"


@dataclass(frozen=True)
class Unfit:
    """A key of a profile, what is wrong with it, and how to put it right."""

    key: str
    words: str
    hint: str


@dataclass(frozen=True)
class RuleService:
    """How a service keeps rules: where, and its stores by the form of rule they hold."""

    place: Callable[[Profile], Place]
    open: Callable[[Transport, Profile, str], list[RuleStore]]
    forms: tuple[str, ...]


@dataclass(frozen=True)
class Service:
    """A live service.

    ``place`` raises ConfigError where the profile's cloud does not have the service;
    ``open_client`` takes tokens, endpoint, scope, ``ca_file`` and ``connections``;
    ``read_timeout`` is the longest silence in seconds for a ``server_wait``. Tokens carry
    ``app_id`` or the scope's address as audience; ``permission`` must stand in them;
    ``foreign_tokens`` says that a token of another tenant may read, too (Lighthouse).
    With ``database_keys`` a profile may have ``cluster``, ``database`` and ``tables``, and its
    workspaces have names; ``unfit`` is what else the service has against a profile.
    ``rules`` names the module with the ``RULES`` that it keeps, empty where it keeps none.
    """

    name: str
    product: str
    place: Callable[[Profile], Place]
    open_client: Callable[..., Any]
    open_backend: Callable[[Transport, Profile, RunLimits], Backend]
    read_timeout: Callable[[int], float]
    rate: RateLimit
    app_id: str
    permission: str = ""
    needs_workspaces: bool = False
    foreign_tokens: bool = False
    database_keys: bool = False
    unfit: Callable[[Profile], Unfit | None] = lambda _profile: None
    rules: str = ""

    def rule_service(self) -> RuleService:
        """How it keeps rules. Raises ConfigError where it keeps none."""
        if not self.rules:
            raise ConfigError(
                f"{self.name} keeps no rules", hint="deploy to log-analytics or defender"
            )
        found: RuleService = importlib.import_module(self.rules).RULES
        return found


def service_named(name: str) -> Service:
    """The service of a profile's ``backend``."""
    found: Service = importlib.import_module(MODULES[name]).SERVICE
    return found
