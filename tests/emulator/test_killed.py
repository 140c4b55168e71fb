"""Kill -9 at any moment of a run: the export is whole or not there, and nothing else is."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.emulator.support import process_events, write_events

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into Linux's /proc")

EVERY_PROCESS = """
name: Every process
qakhunt:
  window: {start: StartTime, end: EndTime}
query: |
  let StartTime = ago(30d);
  let EndTime = now();
  DeviceProcessEvents
  | where TimeGenerated >= StartTime and TimeGenerated < EndTime
"""


def started(hunt: Path, events: str, out: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "qakhunt", "run", str(hunt), "--events", events,
         "--now", "2026-11-01", "--window", "2026-10-01/2026-11-01", "--out", str(out)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def is_writing(process: subprocess.Popen[bytes], folder: Path) -> bool:
    """Whether the process holds a file of the folder open, named or not."""
    try:
        opened = [str(link.readlink()) for link in Path(f"/proc/{process.pid}/fd").iterdir()]
    except OSError:
        return False
    return any(target.startswith(f"{folder}/") for target in opened)


def test_a_killed_run_leaves_a_whole_file_or_none(tmp_path: Path) -> None:
    events = write_events(tmp_path / "in" / "DeviceProcessEvents.ndjson", process_events(28, 500))
    hunt = tmp_path / "in" / "every.yaml"
    hunt.write_text(EVERY_PROCESS)
    out = tmp_path / "out" / "result.json"
    out.parent.mkdir()
    for delay in (0.0, 0.05):
        process = started(hunt, events, out)
        while process.poll() is None and not is_writing(process, out.parent):
            time.sleep(0.0002)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        assert process.wait(60) == -signal.SIGKILL, "it ended before it could be killed"
        assert list(out.parent.iterdir()) == []
    process = started(hunt, events, out)
    assert process.wait(120) == 0
    assert len(json.loads(out.read_text())["hits"]) == 14_000
