"""A service on loopback that answers what a test tells it to, faults included."""

from __future__ import annotations

import json
import socket
import ssl
import struct
import threading
from collections import deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Step = Callable[["Handler"], None]


@dataclass(frozen=True)
class Received:
    """A request as the service saw it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Handler(BaseHTTPRequestHandler):
    """Takes the next step of the script; the last one is repeated."""

    protocol_version = "HTTP/1.1"
    server: Server

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Received(self.command, self.path, headers, self.rfile.read(length))
        step = self.server.service.next_step(request)
        step(self)

    do_GET = do_POST = _answer  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def reset(self) -> None:
        """Break the connection off as a crashing peer does."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    service: Service

    def finish_request(self, request: Any, client_address: Any) -> None:
        self.service.connections += 1
        super().finish_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


@dataclass
class Service:
    """The server, its script and what it received."""

    server: Server
    ca: Path | None
    steps: deque[Step] = field(default_factory=deque)
    routes: dict[str, Step] = field(default_factory=dict)
    received: list[Received] = field(default_factory=list)
    connections: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        scheme = "https" if self.ca else "http"
        return f"{scheme}://localhost:{self.server.server_address[1]}"

    def script(self, *steps: Step) -> None:
        """Answer with these, one after the other; the last again and again."""
        with self.lock:
            self.steps = deque(steps)
            self.received.clear()
            self.connections = 0

    def next_step(self, request: Received) -> Step:
        with self.lock:
            self.received.append(request)
            for start, step in self.routes.items():
                if request.path.startswith(start):
                    return step
            return self.steps.popleft() if len(self.steps) > 1 else self.steps[0]


def serving(certificate: Path | None, ca: Path | None) -> Iterator[Service]:
    """Run the service in a thread; for use as a fixture's body."""
    server = Server(("127.0.0.1", 0), Handler)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    server.service = Service(server, ca)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def send(
    status: int = 200,
    body: bytes | Any = b"",
    headers: dict[str, str] | None = None,
    length: int | None = None,
) -> Step:
    """A whole answer; ``length`` lies about its size."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()

    def step(handler: Handler) -> None:
        handler.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            handler.send_header(name, value)
        if status != 204:
            handler.send_header("Content-Length", str(len(data) if length is None else length))
        handler.end_headers()
        handler.wfile.write(data)
        handler.wfile.flush()
        if length is not None and length != len(data):
            handler.close_connection = True

    return step


def reset_before(handler: Handler) -> None:
    """No answer: the connection breaks."""
    handler.reset()


def reset_within(handler: Handler) -> None:
    """The connection breaks in the middle of the body."""
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    handler.wfile.write(b'{"tables": [')
    handler.wfile.flush()
    handler.reset()


def drip(body: bytes, seconds: float) -> Step:
    """A body that comes one byte at a time."""

    def step(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        waiting = threading.Event()
        for byte in body:
            handler.wfile.write(bytes([byte]))
            handler.wfile.flush()
            waiting.wait(seconds)

    return step


def silence(seconds: float) -> Step:
    """Nothing for a while, then the end."""

    def step(handler: Handler) -> None:
        threading.Event().wait(seconds)
        handler.reset()

    return step
