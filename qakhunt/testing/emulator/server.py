"""The emulator as a server on loopback, its time and its sockets.

It serves in the foreground, or on a thread for tests, with a clock that never waits.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import shutil
import socket
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from qakhunt.core.errors import UsageError
from qakhunt.testing.emulator.app import CONNECTION, Door, Emulation
from qakhunt.testing.emulator.clock import Clock
from qakhunt.testing.emulator.kusto import first_database

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from qakhunt.testing.emulator.scenario import Call, LoadedScenario

    Action = Callable[[], Coroutine[Any, Any, None]]

LOOPBACK = "127.0.0.1"

_BACKLOG = 2048
_STOP_SECONDS = 1.0
"""Seconds that an answer under way has when the emulator is stopped."""
_KEEP_ALIVE = 120


class Emulator:
    """A scenario served at ``url``. A context manager serves it on a thread.

    ``tls`` makes a certificate; ``ca`` is then the path of the authority to
    trust. ``ca_file`` says where to write it. ``limits`` throttles as the services
    document, where the scenario says nothing else.
    """

    def __init__(
        self,
        loaded: LoadedScenario,
        *,
        host: str = LOOPBACK,
        port: int = 0,
        tls: bool = False,
        ca_file: Path | None = None,
        clock: Clock | None = None,
        limits: bool = False,
    ) -> None:
        self.loaded = loaded
        self.clock = clock or Clock()
        self._folder = Path(tempfile.mkdtemp(prefix="qakhunt-emulator-"))
        self._thread: threading.Thread | None = None
        self.ca: Path | None = None
        try:
            self._door = _Door(self.clock, host, port)
            self.emulation = Emulation(loaded, self.clock, self._door, limits=limits)
            certificate = self._make_certificate(host, ca_file) if tls else None
        except BaseException:
            self.close()
            raise
        self.url = f"{'https' if tls else 'http'}://{in_url(host)}:{self._door.port}"
        self.emulation.issuer.origin = self.url
        self._server = _Server(self.emulation.application(), self._door, certificate)

    def _make_certificate(self, host: str, ca_file: Path | None) -> Path:
        """The server's certificate, signed by an authority made for this emulation."""
        import trustme

        authority = trustme.CA(organization_name="qakhunt emulator")
        names = dict.fromkeys(["localhost", LOOPBACK, "::1", host])
        made = authority.issue_cert(
            *names, not_after=dt.datetime.now(dt.timezone.utc) + dt.timedelta(days=30)
        )
        self.ca, server = self._folder / "ca.pem", self._folder / "server.pem"
        if ca_file is not None:
            self.ca = ca_file.resolve()
        try:
            authority.cert_pem.write_to_path(self.ca)
        except OSError as problem:
            raise UsageError(f"cannot write {ca_file}: {problem.strerror}") from None
        server.touch(mode=0o600)
        made.private_key_and_cert_chain_pem.write_to_path(server)
        return server

    def ready_line(self) -> dict[str, Any]:
        """What is served, as ``qakhunt.emulator/1``."""
        tenants = self.loaded.scenario.tenants
        return {
            "schema": "qakhunt.emulator/1",
            "url": self.url,
            "workspaces": [w.id for t in tenants for w in t.workspaces],
            "tenants": [{"id": t.id, "workspaces": [w.id for w in t.workspaces]} for t in tenants],
            "ca": str(self.ca) if self.ca else None,
            "kusto": self.url,
            "database": first_database(self.loaded),
        }

    @property
    def calls(self) -> list[Call]:
        """Every call so far, oldest first."""
        return list(self.emulation.script.calls)

    def serve(self, ready: Callable[[], None]) -> None:
        """Serve until SIGTERM or Ctrl-C; ``ready`` is called when connections are taken."""
        self._server.ready = ready
        try:
            self._server.run_until_stopped()
        finally:
            self.close()

    def start(self) -> None:
        """Serve on a thread; returns when connections are taken."""
        up = threading.Event()
        self._server.ready = up.set
        self._thread = threading.Thread(target=self._server.run_until_stopped, daemon=True)
        self._thread.start()
        if not up.wait(30):
            raise RuntimeError("the emulator did not start")

    def close(self) -> None:
        """Stop and give everything back."""
        if self._thread is not None:
            self._server.should_exit = True
            self._thread.join(30)
            self._thread = None
        if hasattr(self, "_door"):
            self._door.close()
        if hasattr(self, "emulation"):
            self.emulation.store.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Emulator:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Door(Door):
    """The listening socket, which some faults shut for a while."""

    def __init__(self, clock: Clock, host: str, port: int) -> None:
        self._clock = clock
        self._host = host
        self.socket = bound_socket(host, port)
        self.port: int = self.socket.getsockname()[1]
        self.stop_listening: Callable[[], None] = lambda: None
        self.listen_again: Callable[[], Awaitable[None]]

    async def shut(self, seconds: float) -> None:
        self.stop_listening()
        self.socket.close()

        async def reopen() -> None:
            self.socket = bound_socket(self._host, self.port)
            await self.listen_again()

        self._clock.call_later(seconds, reopen)

    def close(self) -> None:
        """Give the port back."""
        self.socket.close()


class _Protocol(H11Protocol):
    """Hands its connection to the application, which some faults must break."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        application: Any = self.app

        async def with_connection(scope: Any, receive: Any, send: Any) -> None:
            scope["extensions"] = {CONNECTION: transport}
            try:
                await application(scope, receive, send)
            except asyncio.CancelledError:  # the emulator stops in the middle of an answer
                self.cycle.disconnected = True
                transport.abort()

        self.app = with_connection

    def shutdown(self) -> None:
        super().shutdown()
        if self.transport.is_closing():
            self.transport.abort()  # over TLS an idle client would be waited for


class _Server(uvicorn.Server):
    """uvicorn on our own socket, able to stop listening and to begin again."""

    def __init__(self, application: Any, door: _Door, certificate: Path | None) -> None:
        super().__init__(uvicorn.Config(
            application, http=_Protocol, ws="none", lifespan="off", loop="asyncio",
            log_config=None, access_log=False, server_header=False, date_header=False,
            proxy_headers=False, backlog=_BACKLOG,
            timeout_keep_alive=_KEEP_ALIVE,
            ssl_certfile=str(certificate) if certificate else None,
        ))  # fmt: skip
        self.door = door
        door.stop_listening, door.listen_again = self.stop_listening, self.listen_again
        self.ready: Callable[[], None] = lambda: None

    def run_until_stopped(self) -> None:
        """Serve until stopped; a signal that did so is not raised again."""
        with self.capture_signals():
            asyncio.run(self._serve([self.door.socket]))
            self._captured_signals.clear()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready()

    async def listen_again(self) -> None:
        """Take connections on the door's new socket."""
        if not self.should_exit:
            await super().startup([self.door.socket])

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.stop_listening()
        answering = list(self.server_state.tasks)
        if answering:
            _, unfinished = await asyncio.wait(answering, timeout=_STOP_SECONDS)
            for task in unfinished:
                task.cancel()
        await super().shutdown(sockets)

    def stop_listening(self) -> None:
        """Take no more connections; those that stand go on."""
        for server in self.servers:
            server.close()
        self.servers = []


def bound_socket(host: str, port: int) -> socket.socket:
    """A socket bound to the address, 0 taking any free port. Raises UsageError."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # asyncio sends without delay only where the protocol is named; a delayed answer
        # takes 40 ms longer.
        sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
    except OSError as problem:
        raise UsageError(
            f"cannot listen on {host}:{port}: {problem.strerror or problem}",
            hint="--port 0 takes any free port",
        ) from None
    return sock


def in_url(host: str) -> str:
    """The host as it stands in a URL."""
    return f"[{host}]" if ":" in host else host
