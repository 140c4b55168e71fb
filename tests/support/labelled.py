"""A hunt that is small enough to measure on a few rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qakhunt.hunts.loading import load_hunt

# Fires on two distinct command lines of a device.
TWO = """
DeviceProcessEvents
| where TimeGenerated > ago(30d)
| summarize Commands = make_set(ProcessCommandLine), FirstSeen = min(TimeGenerated), LastSeen = max(TimeGenerated) by DeviceName
| where array_length(Commands) >= 2
"""


def two(folder: Path) -> Any:
    path = folder / "two.kql"
    path.write_text(TWO, encoding="utf-8")
    return load_hunt(path)
