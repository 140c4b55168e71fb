"""Events, scenarios and clients that the tests of the emulator share."""

from __future__ import annotations

import json
import signal
import socket
import ssl
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qakhunt.testing.emulator.scenario import LoadedScenario, Scenario, Tenant, Workspace
from tests.support.cli import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from qakhunt.testing.emulator.server import Emulator

WINDOW = ("2026-10-01T00:00:00Z", "2026-11-01T00:00:00Z")
NOW = "2026-11-01T00:00:00Z"
GRAPH = "https://graph.microsoft.com"
LOG_ANALYTICS = "https://api.loganalytics.io"
APP = "11111111-2222-4333-8444-555555555555"
SECRET = "Pl4nted~secret.of_the-program"


def guid(*parts: object) -> str:
    """A GUID that is always the same for the same parts."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "/".join(map(str, parts))))


def write_events(path: Path, records: Iterable[dict[str, Any]]) -> str:
    """Write records as NDJSON; the path as text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return str(path)


def process_events(days: int = 10, devices: int = 4) -> list[dict[str, Any]]:
    """One process on each of ``devices`` on each of the first ``days`` of October 2026."""
    return [
        {
            "TimeGenerated": f"2026-10-{day:02d}T{8 + device // 60:02d}:{device % 60:02d}:00.1234567Z",
            "DeviceName": f"pc-{device}.contoso.example",
            "DeviceId": f"{device:040x}",
            "AccountName": f"user{device}",
            "FileName": "whoami.exe",
            "ProcessCommandLine": f'whoami.exe /all "Grüße {day}"',
        }
        for day in range(1, days + 1)
        for device in range(devices)
    ]


def scenario_of(*tenants: Tenant, **settings: Any) -> LoadedScenario:
    """A scenario that stands in memory; inputs must be absolute."""
    return LoadedScenario(Scenario(tenants=tenants, **settings), Path.cwd())


def tenant_of(name: str, events: str, **settings: Any) -> Tenant:
    """A tenant with one workspace, both called after ``name``."""
    workspace = settings.pop("workspace", {})
    return Tenant(
        id=guid("tenant", name), name=name, events=(events,),
        workspaces=(Workspace(id=guid("workspace", name), **workspace),), **settings,
    )  # fmt: skip


def token(emulator: Emulator, tenant: str, audience: str, **claims: Any) -> str:
    """A token as the emulator's own Entra ID gives it."""
    claims.setdefault("roles", ["ThreatHunting.Read.All"])
    return emulator.emulation.issuer.issue(tenant, audience, **claims)


@dataclass(frozen=True)
class Raw:
    """What came over the wire, byte by byte, and how the connection ended."""

    head: bytes
    body: bytes
    ended: str

    @property
    def status(self) -> int | None:
        """The status line's number, None where there was no answer."""
        return int(self.head.split(b" ", 2)[1]) if self.head else None

    @property
    def headers(self) -> dict[str, str]:
        """Headers by lower-case name."""
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        pairs = (line.partition(": ") for line in lines if line)
        return {name.lower(): value for name, _, value in pairs}

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


def raw_post(emulator: Emulator, path: str, body: dict[str, Any], bearer: str) -> Raw:
    """POST over a bare socket and read until the connection ends, however it ends."""
    url = urllib.parse.urlsplit(emulator.url)
    data = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {url.netloc}\r\nAuthorization: Bearer {bearer}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n"
        "Connection: close\r\n\r\n"
    )
    received, ended = b"", "closed"
    try:
        with _connection(emulator, url.hostname or "", url.port or 0) as sock:
            sock.sendall(head.encode() + data)
            chunks = []
            try:
                while chunk := sock.recv(1 << 20):
                    chunks.append(chunk)
            except ConnectionResetError:
                ended = "reset"
            received = b"".join(chunks)
    except ConnectionRefusedError:
        return Raw(b"", b"", "refused")
    head_bytes, _, rest = received.partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" in head_bytes.lower():
        rest = _unchunked(rest)
    return Raw(head_bytes, rest, ended)


def _connection(emulator: Emulator, host: str, port: int) -> socket.socket:
    sock = socket.create_connection((host, port), timeout=30)
    if emulator.ca is None:
        return sock
    return ssl.create_default_context(cafile=str(emulator.ca)).wrap_socket(
        sock, server_hostname=host
    )


def _unchunked(data: bytes) -> bytes:
    result = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        length = int(size or b"0", 16)
        result, data = result + data[:length], data[length + 2 :]
    return result


def fetch(
    emulator: Emulator, path: str, body: Any = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """An ordinary request: status, headers by lower-case name, body. A dict body is a form."""
    data = None
    if isinstance(body, dict):
        data = urllib.parse.urlencode(body).encode()
    elif isinstance(body, bytes):
        data = body
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(emulator.url + path, data, named)
    context = ssl.create_default_context(cafile=str(emulator.ca)) if emulator.ca else None
    try:
        with urllib.request.urlopen(request, context=context, timeout=30) as answer:
            found = {name.lower(): value for name, value in answer.headers.items()}
            return answer.status, found, answer.read()
    except urllib.error.HTTPError as problem:
        with problem:
            found = {name.lower(): value for name, value in problem.headers.items()}
            return problem.code, found, problem.read()


def fetch_url(url: str, ca: Path) -> bytes:
    """The body of a GET over TLS."""
    context = ssl.create_default_context(cafile=str(ca))
    with urllib.request.urlopen(url, context=context, timeout=30) as answer:
        return bytes(answer.read())


@contextmanager
def emulated(home: Path, names: Iterable[str], *options: str) -> Iterator[dict[str, Any]]:
    """The emulator as a process of its own, and a configuration that points at it.

    It serves ``scenario.yaml`` of the folder, whose tenants have those names.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "qakhunt", "emulate", "--scenario", str(home / "scenario.yaml"),
         "--port", "0", "--tls", "--ca-file", str(home / "ca.pem"), *options],
        stdout=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line: dict[str, Any] = json.loads(process.stdout.readline())
        configure(home, names, line["url"])
        yield line
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
    assert process.returncode == 0


def configure(home: Path, names: Iterable[str], url: str) -> None:
    """Every tenant has a profile of each service, except one that is only expected."""
    profiles = "".join(
        f'[profiles.{name}-{backend}]\nbackend = "{backend}"\ntenant = "{guid("tenant", name)}"\n'
        f'workspaces = ["{guid("workspace", name)}"]\nca_file = "{home / "ca.pem"}"\n'
        f'authority = "{url}"\nlog_analytics_endpoint = "{url}"\ngraph_endpoint = "{url}"\n'
        f'sign_in = {{kind = "client-secret", client_id = "{APP}", client_secret_env = "PLANTED"}}\n'
        for name in names
        for backend in ("log-analytics", "defender")
    )
    (home / "config.toml").write_text(profiles)
