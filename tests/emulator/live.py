"""The live backends, pointed at an emulator, with waits that take no time."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from azure.core.credentials import AccessToken

from qakhunt.backends.defender import DefenderBackend, DefenderSettings
from qakhunt.backends.defender import open_client as open_graph
from qakhunt.backends.log_analytics import LogAnalyticsBackend, LogAnalyticsSettings
from qakhunt.backends.log_analytics import open_client as open_logs
from qakhunt.backends.pace import Gate
from qakhunt.backends.transport import Transport
from tests.emulator.support import GRAPH, LOG_ANALYTICS, token

if TYPE_CHECKING:
    from qakhunt.backends.base import Backend
    from qakhunt.emulator.clock import SkippingClock
    from qakhunt.emulator.server import Emulator
    from qakhunt.kql.values import Instant


class ClientClock:
    """The client's side of the emulator's time: its waits move the emulator's clock on."""

    def __init__(self, shared: SkippingClock) -> None:
        self._shared = shared
        self._stop = threading.Event()

    def monotonic(self) -> float:
        return self._shared.time()

    def wall(self) -> float:
        return self._shared.time()

    def sleep(self, seconds: float) -> None:
        self._shared.skip(seconds)

    def stop(self) -> None:
        self._stop.set()

    @property
    def stopped(self) -> bool:
        return self._stop.is_set()


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


def live_backend(
    emulator: Emulator,
    product: str,
    tenant: str,
    *,
    clock: SkippingClock,
    now: Instant,
    row_limit: int | None = None,
    oldest: Instant | None = None,
) -> Backend:
    """The backend of a product, signed in to ``tenant``, one question at a time."""
    sign_in, time_ = SignIn(emulator, tenant), ClientClock(clock)
    ca = str(emulator.ca) if emulator.ca else None
    gate = Gate(time_, concurrency=1, calls=1000, per=1.0)
    options: dict[str, Any] = {} if row_limit is None else {"row_limit": row_limit}
    if product == "defender":
        graph = open_graph(sign_in, emulator.url, f"{GRAPH}/.default", ca_file=ca)
        transport = Transport(
            graph, emulator.url, gate, time_, read_timeout=30, renew=sign_in.renew, jitter=_half
        )
        return DefenderBackend(transport, DefenderSettings(now=now, **options), concurrency=1)
    logs = open_logs(sign_in, emulator.url, f"{LOG_ANALYTICS}/.default", ca_file=ca)
    transport = Transport(
        logs, emulator.url, gate, time_, read_timeout=30, renew=sign_in.renew, jitter=_half
    )
    settings = LogAnalyticsSettings(oldest=oldest, **options)
    return LogAnalyticsBackend(transport, settings, concurrency=1)


def _half() -> float:
    return 0.5
