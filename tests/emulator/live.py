"""The live backends, assembled as the program does, pointed at an emulator; waits take no time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from azure.core.credentials import AccessToken

from qakhunt.backends.profile import Limits, Profile
from qakhunt.backends.rate_limiter import Clock
from qakhunt.run.live import LiveBackends
from qakhunt.run.settings import ProfileSettings
from tests.emulator.support import token

if TYPE_CHECKING:
    from qakhunt.kql.values import Instant
    from qakhunt.testing.emulator.clock import SkippingClock
    from qakhunt.testing.emulator.server import Emulator


class ClientClock(Clock):
    """The client's side of the emulator's time: its waits move the emulator's clock on."""

    def __init__(self, shared: SkippingClock) -> None:
        super().__init__()
        self._shared = shared

    def monotonic(self) -> float:
        """Seconds of the shared time."""
        return self._shared.time()

    def wall(self) -> float:
        """Seconds of the shared time."""
        return self._shared.time()

    def sleep(self, seconds: float) -> None:
        """Let the shared time pass."""
        self._shared.skip(seconds)


class SignIn:
    """A credential whose tokens are the emulator's, kept until ``renew`` drops them."""

    def __init__(self, emulator: Emulator, tenant: str) -> None:
        self._emulator, self._tenant = emulator, tenant
        self._kept: dict[str, str] = {}

    def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        """The token for the scope's audience."""
        audience = scopes[0].removesuffix("/.default")
        if audience not in self._kept:
            self._kept[audience] = token(self._emulator, self._tenant, audience)
        # The pipeline keeps a token that lives long; this one it must ask for every time.
        return AccessToken(self._kept[audience], int(time.time()) + 1)

    def renew(self, _authorization: str) -> None:
        """Get new tokens from now on."""
        self._kept.clear()

    def close(self) -> None:
        """Nothing to close."""


class EmulatedBackends(LiveBackends):
    """As the program opens them, except for the way to sign in."""

    def __init__(self, emulator: Emulator, clock: SkippingClock, now: Instant) -> None:
        super().__init__(now, ClientClock(clock), cache=None)
        self._emulator = emulator

    def tokens(self, profile: Profile, service: Any) -> Any:
        """Tokens of the emulator's own, without a sign-in."""
        return SignIn(self._emulator, profile.tenant)


def profile_for(
    emulator: Emulator,
    backend: Any,
    tenant: str,
    workspace: str,
    *,
    row_limit: int | None = None,
    retention: str | None = None,
) -> ProfileSettings:
    """A profile of one workspace at the emulator, asked one question at a time."""
    named = [f"lake-{workspace}"] if backend == "kusto" else [workspace]
    profile = Profile(
        backend=backend, tenant=tenant, workspaces=named, retention=retention,
        cluster=f"{emulator.url}/lake/kql" if backend == "kusto" else None,
        allow_billed_search=backend == "kusto",
        limits=Limits(concurrency=1, calls=1000, per_seconds=1.0, row_limit=row_limit),
        log_analytics_endpoint=emulator.url, graph_endpoint=emulator.url,
        ca_file=str(emulator.ca) if emulator.ca else None,
    )  # fmt: skip
    return ProfileSettings("profile", profile, {})
