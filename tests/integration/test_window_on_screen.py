"""What the window means, in the ledger and on the screen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.cli import qakhunt
from tests.support.events import NOW, event, write_ndjson

if TYPE_CHECKING:
    pass

BASELINE = """\
let known = DeviceProcessEvents
| where TimeGenerated between (ago(14d) .. ago(1d)) | distinct FileName;
DeviceProcessEvents | where TimeGenerated > ago(1d) | where FileName !in (known)
"""


@pytest.mark.engine
@pytest.mark.parametrize(
    ("query", "window", "code", "status", "said"),
    [
        (BASELINE, "7d", 4, "partial", "the window cuts the 14d that the query compares with"),
        (BASELINE, "published", 0, "complete", "window 2026-10-22T09:00:00Z/2026-11-05T09:00:00Z: "
         "the query itself looks at 14d"),
        ("DeviceProcessEvents | where TimeGenerated > ago(7d)", "30d", 0, "complete",
         "the query itself looks at 7d, less than the window"),
        ("DeviceProcessEvents", "7d", 0, "complete", ""),
        ("DeviceProcessEvents | where TimeGenerated > ago(7d)", "2026-09-01/2026-10-01", 4,
         "partial", "the query itself looks at 7d, at nothing of the window"),
    ],
)  # fmt: skip
def test_what_the_window_means_stands_in_the_ledger_and_on_the_screen(
    tmp_path: Path, query: str, window: str, code: int, status: str, said: str
) -> None:
    hunt = tmp_path / "mine.kql"
    hunt.write_text(query)
    events = write_ndjson(
        tmp_path / "DeviceProcessEvents.ndjson",
        [event("whoami /all", FileName="whoami.exe", TimeGenerated="2026-11-04T10:00:00Z")],
    )
    done = qakhunt(
        "run", str(hunt), "--events", str(events), "--window", window, "--now", str(NOW), "--json"
    )
    assert done.code == code
    (line,) = json.loads(done.out)["ledger"]
    assert line["status"] == status
    assert said in (line["detail"] if status == "partial" else "\n".join(line["notes"]))
    # On the screen the reason stands beside the window.
    assert said.rpartition("Z: ")[2] in " ".join(done.err.split())
