"""Real receivers on loopback: an HTTP server that answers as told, and Azurite."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

AZURITE_ACCOUNT = "devstoreaccount1"
# The emulator's published key, the same on every installation.
AZURITE_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)


@dataclass
class Taken:
    """One request as it came; ``refused`` says that the answer took nothing."""

    path: str
    headers: dict[str, str]
    body: bytes
    refused: bool = False


@dataclass
class Answer:
    """How to answer one request; ``act`` may do anything with the connection instead."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    act: Callable[[BaseHTTPRequestHandler], None] | None = None


class Receiver:
    """What came, and the answers still to give; without one it answers 200."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.taken: list[Taken] = []
        self.answers: deque[Answer] = deque()

    @property
    def bodies(self) -> list[bytes]:
        return [taken.body for taken in self.taken]


@contextlib.contextmanager
def http_receiver() -> Iterator[Receiver]:
    """An HTTP server on loopback."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            answer = receiver.answers.popleft() if receiver.answers else Answer()
            refused = answer.status >= 300
            receiver.taken.append(Taken(self.path, headers, body, refused))
            if answer.act is not None:
                answer.act(self)
                return
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver = Receiver(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    """Close the connection without an answer."""
    handler.close_connection = True
    handler.connection.shutdown(socket.SHUT_RDWR)


def azurite_command() -> str | None:
    """The Azurite program, or None where it is not installed."""
    named = os.environ.get("QAKHUNT_AZURITE")
    places = [named, shutil.which("azurite-blob")]
    return next((place for place in places if place and Path(place).exists()), None)


@contextlib.contextmanager
def azurite() -> Iterator[str]:
    """Azurite's blob service in memory; the value is the account's URL."""
    command = azurite_command()
    assert command is not None
    with tempfile.NamedTemporaryFile() as log:
        process = subprocess.Popen(
            [command, "--blobPort", "0", "--inMemoryPersistence", "--skipApiVersionCheck",
             "--disableTelemetry"],
            stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            yield f"{_listening(Path(log.name), process)}/{AZURITE_ACCOUNT}"
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _listening(log: Path, process: subprocess.Popen[bytes]) -> str:
    """Where it listens, once its log says so."""
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        found = re.search(r"listen\w* (?:at|on) (http://[\d.]+:\d+)", log.read_text())
        if found:
            return found[1]
        time.sleep(0.05)
    raise RuntimeError(f"Azurite did not start: {log.read_text()}")


def make_container(account_url: str, name: str) -> str:
    """A new container; its URL."""
    from azure.storage.blob import ContainerClient

    url = f"{account_url}/{name}"
    credential = {"account_name": AZURITE_ACCOUNT, "account_key": AZURITE_KEY}
    with ContainerClient.from_container_url(url, credential=credential) as client:
        client.create_container()
    return url
