"""A signal ends the program in order, and a hunt beyond a limit is one error."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.cli import ROOT, qakhunt
from tests.support.events import NOW, event, write_ndjson

pytestmark = pytest.mark.engine


def chained(operator: str, term: str, many: int) -> str:
    return operator.join(term.format(i) for i in range(many))


T = "DeviceProcessEvents"
SLOW_TO_READ = f"{T} | where DeviceName in (dynamic([{chained(', ', '7{0}', 25_000)}]))"
SLOW_TO_RUN = (
    f"{T} | where TimeGenerated > ago(60d) | extend k = 1 | join kind=inner ({T} | extend k = 1) "
    f"on k | join kind=inner ({T} | extend k = 1) on k "
    "| summarize n = dcount(strcat(ProcessCommandLine, ProcessCommandLine1, DeviceName2))"
)


def test_a_hunt_beyond_a_limit_is_a_usage_error(tmp_path: Path) -> None:
    hunt = tmp_path / "big.kql"
    filtered = f"{T}\n| where TimeGenerated > ago(30d)"
    hunt.write_text(filtered + chained("", "\n| extend c{0} = 1", 400), encoding="utf-8")
    done = qakhunt("run", str(hunt), "--events", "/nowhere.ndjson")
    assert done.code == 2
    assert f"{hunt}:302:1: the query is too large" in done.error_lines[0]
    assert "more than 300 operators" in done.err


@pytest.mark.skipif(sys.platform == "win32", reason="signals to another process")
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_reading_and_leaves_no_temporary_file(
    tmp_path: Path, sent: signal.Signals
) -> None:
    events = write_ndjson(tmp_path / "e.ndjson", [event(f"c{i}") for i in range(100_000)])
    folder = tmp_path / "temporary"
    folder.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "qakhunt", "run", *["--events", str(events)] * 8],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path,
    )  # fmt: skip
    while not list(folder.glob("qakhunt-*")) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(sent)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, b"interrupted\n")
    assert not list(folder.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="signals to another process")
@pytest.mark.parametrize(
    "query", [SLOW_TO_RUN, SLOW_TO_READ + " | where TimeGenerated > ago(60d)"], ids=["run", "read"]
)
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_run_and_leaves_no_temporary_file(
    tmp_path: Path, query: str, sent: signal.Signals
) -> None:
    events = write_ndjson(tmp_path / "e.ndjson", [event(f"c{i}") for i in range(3000)])
    hunt = tmp_path / "slow.kql"
    hunt.write_text(query, encoding="utf-8")
    folder = tmp_path / "temporary"
    folder.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "qakhunt", "run", str(hunt), "--events", str(events),
         "--window", "60d", "--now", NOW.isoformat()],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path,
    )  # fmt: skip
    while not list(folder.glob("qakhunt-*/*")) and process.poll() is None:
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(sent)
    started = time.monotonic()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert time.monotonic() - started < 10
    assert b"Traceback" not in errors
    assert not list(folder.iterdir())
