"""``qakhunt emulate`` as a process: the ready line, its options, and a clean stop."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from qakhunt.testing.emulator.faults import FAULTS
from qakhunt.testing.emulator.scenario import TENANT, WORKSPACE
from qakhunt.testing.emulator.server import LOOPBACK, bound_socket

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SCHEMA = json.loads(
    files("qakhunt").joinpath("data").joinpath("emulator.schema.json").read_text(encoding="utf-8")
)
PROGRAM = [sys.executable, "-m", "qakhunt", "emulate"]


@contextmanager
def running(*options: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], Any]]:
    process = subprocess.Popen(
        [*PROGRAM, "--port", "0", *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env={**os.environ, **environment},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        yield process, json.loads(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


def refused(*options: str) -> tuple[int, str]:
    done = subprocess.run([*PROGRAM, *options], capture_output=True, text=True, timeout=60)
    assert done.stdout == ""
    return done.returncode, done.stderr


def test_ready_line_any_token_and_a_clean_stop(events: str, tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    options = ("--events", events, "--tls", "--ca-file", str(ca))
    with running(*options, TMPDIR=str(tmp_path)) as (process, line):
        assert list(line) == ["schema", "url", "workspaces", "tenants", "ca", "kusto", "database"]
        jsonschema.validate(line, SCHEMA)
        assert line["workspaces"] == [WORKSPACE]
        assert line["tenants"] == [{"id": TENANT, "workspaces": [WORKSPACE]}]
        assert line["ca"] == str(ca)
        request = urllib.request.Request(
            f"{line['url']}/v1/workspaces/{WORKSPACE}/query?query=DeviceProcessEvents|count",
            headers={"Authorization": "Bearer any"},
        )
        context = ssl.create_default_context(cafile=line["ca"])
        with urllib.request.urlopen(request, context=context) as answer:
            assert json.load(answer)["tables"][0]["rows"] == [[40]]
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (0, "", "")
    assert list(tmp_path.iterdir()) == [ca]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_in_the_middle_of_an_answer_is_clean(
    events: str, tmp_path: Path, number: signal.Signals
) -> None:
    path = tmp_path / "scenario.yaml"
    path.write_text(
        f"any_token: true\ntenants:\n  - id: {TENANT}\n    events: [{events}]\n"
        f"    workspaces: [{{id: {WORKSPACE}}}]\n"
        "    faults: [{fault: slow-drip, seconds: 600}]\n"
    )
    with running("--scenario", str(path), "--tls") as (process, line):
        request = urllib.request.Request(
            f"{line['url']}/v1/workspaces/{WORKSPACE}/query?query=DeviceProcessEvents",
            headers={"Authorization": "Bearer any"},
        )
        context = ssl.create_default_context(cafile=line["ca"])
        with urllib.request.urlopen(request, context=context) as answer:
            process.send_signal(number)
            out, err = process.communicate(timeout=20)
            with pytest.raises((http.client.IncompleteRead, OSError)):
                answer.read()
    assert (process.returncode, out, err) == (0, "", "")


def test_answers_are_sent_without_delay() -> None:
    async def nodelay() -> int:
        accepted: asyncio.Queue[int] = asyncio.Queue()

        async def take(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            sock = writer.get_extra_info("socket")
            await accepted.put(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        async with await asyncio.start_server(take, sock=bound_socket(LOOPBACK, 0)) as server:
            host, port = server.sockets[0].getsockname()
            _, writer = await asyncio.open_connection(host, port)
            found = await accepted.get()
            writer.close()
            return found

    assert asyncio.run(nodelay()) == 1


def test_without_tls_there_is_no_ca_and_the_address_is_loopback(events: str) -> None:
    with running("--events", events) as (_, line):
        assert line["ca"] is None
        assert line["url"].startswith("http://127.0.0.1:")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "nothing to serve"),
        (("--events", "/no/such/file.ndjson"), "/no/such/file.ndjson"),
        (("--events", "x", "--scenario", "y"), "exclude"),
        (("--scenario", "/no/such/file.yaml"), "/no/such/file.yaml"),
        (("--events", "x", "--ca-file", "y"), "--tls"),
        (("--events", "x", "--host", "0.0.0.0"), "--expose"),
        (("--events", "{events}", "--now", "someday"), "someday"),
        (("--events", "{events}", "--port", "0", "--host", "192.0.2.1", "--expose"), "192.0.2.1"),
    ],
)
def test_what_cannot_be_served_is_one_error(
    events: str, options: tuple[str, ...], words: str
) -> None:
    code, err = refused(*(option.format(events=events) for option in options))
    assert code == 2
    assert words in err
    assert err.count("error:") == 1
    assert "Traceback" not in err


def test_a_port_that_is_taken_is_told(events: str) -> None:
    with running("--events", events) as (_, line):
        port = line["url"].rpartition(":")[2]
        code, err = refused("--events", events, "--port", port)
    assert code == 2
    assert "--port 0" in err


def test_the_faults_are_listed() -> None:
    done = subprocess.run([*PROGRAM, "--list-faults"], capture_output=True, text=True, check=True)
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(FAULTS)
