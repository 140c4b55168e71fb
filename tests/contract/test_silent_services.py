"""A service that takes the connection and says nothing: limits and Ctrl-C are heard."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.cli import ROOT, Finished, qakhunt

if TYPE_CHECKING:
    from collections.abc import Iterator

TENANT = "aaaaaaaa-0000-4000-8000-000000000001"
WORKSPACE = "bbbbbbbb-0000-4000-8000-000000000001"
APP = "cccccccc-0000-4000-8000-000000000001"


class Silent:
    """A socket that takes every connection, counts it and never answers."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._taken: list[socket.socket] = []
        self.connected = threading.Event()
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._take, daemon=True)
        self._thread.start()

    @property
    def count(self) -> int:
        """Connections so far."""
        return len(self._taken)

    def _take(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self._taken.append(connection)
            self.connected.set()

    def close(self) -> None:
        """Hang up."""
        # Closing alone does not wake the thread that accepts.
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()
        for connection in self._taken:
            connection.close()


@pytest.fixture
def silent() -> Iterator[Silent]:
    service = Silent()
    yield service
    service.close()


@pytest.fixture
def config(silent: Silent, tmp_path: Path) -> Path:
    """Profiles whose query, or whose sign-in, meets the silence."""
    secret = f'{{ kind = "client-secret", client_id = "{APP}", client_secret_env = "HUNTER" }}'
    lines = []
    for name, backend, sign_in in (
        ("sentinel", "log-analytics", '"none"'),
        ("defender", "defender", '"none"'),
        ("signing", "defender", secret),
    ):
        lines.append(
            f'[profiles.{name}]\nbackend = "{backend}"\ntenant = "{TENANT}"\n'
            f'log_analytics_endpoint = "http://127.0.0.1:{silent.port}"\n'
            f'graph_endpoint = "http://127.0.0.1:{silent.port}"\n'
            f'authority = "https://127.0.0.1:{silent.port}"\nsign_in = {sign_in}\n'
            + (f'workspaces = ["{WORKSPACE}"]\n' if backend == "log-analytics" else "")
        )
    path = tmp_path / "config.toml"
    path.write_text("".join(lines), encoding="utf-8")
    return path


def run(config: Path, *arguments: str) -> Finished:
    return qakhunt(*arguments, "--config", str(config), env={"HUNTER": "x"})


@pytest.mark.parametrize("profile", ["sentinel", "defender"])
def test_a_query_ends_at_its_time_out_and_is_not_asked_again(
    silent: Silent, config: Path, profile: str
) -> None:
    done = run(config, "run", "--profile", profile, "--timeout", "0.2")
    assert done.code == 3
    whom = WORKSPACE if profile == "sentinel" else TENANT
    assert done.error_lines == [f"error: {profile} ({whom}): 127.0.0.1 did not answer in time"]
    assert silent.count == 1


def test_who_did_not_answer_is_named(config: Path) -> None:
    done = run(config, "run", "--profile", "sentinel", "--profile", "defender", "--timeout", "0.2")
    assert done.error_lines == [
        f"error: sentinel ({WORKSPACE}), defender ({TENANT}): 127.0.0.1 did not answer in time"
    ]


def test_the_deadline_is_heard_while_signing_in(config: Path) -> None:
    done = run(config, "run", "--profile", "signing", "--deadline", "1s")
    assert done.code == 3
    assert done.error_lines == [f"error: signing ({TENANT}): the run's time was up"]
    assert "a longer --deadline" in done.err


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
@pytest.mark.parametrize("command", ["run", "doctor"])
@pytest.mark.parametrize("profile", ["sentinel", "signing"])
def test_ctrl_c_is_heard(silent: Silent, config: Path, command: str, profile: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "qakhunt", command, "--config", str(config), "--profile", profile],
        env={**os.environ, "PYTHONPATH": str(ROOT), "HUNTER": "x"},
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert silent.connected.wait(60)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "interrupted" in err
    assert "Traceback" not in err


def test_a_wrong_ca_file_is_named(config: Path, tmp_path: Path) -> None:
    junk = tmp_path / "junk.pem"
    junk.write_text("junk")
    whole = config.read_text()
    for path, words in (
        (junk, f"profile defender: ca_file {junk} holds no certificate"),
        (tmp_path / "none.pem", f"profile defender: cannot read ca_file {tmp_path / 'none.pem'}: "),
    ):
        config.write_text(
            whole.replace("[profiles.defender]", f'[profiles.defender]\nca_file = "{path}"')
        )
        done = run(config, "run", "--profile", "defender")
        assert done.code == 2
        assert words in done.error_lines[0]
        doctor = run(config, "doctor", "--profile", "defender")
        assert doctor.code == 1
        assert f"failed   defender  configuration: {words}" in doctor.out
