"""Small sets of process events for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from qakhunt.answers.ledger import Target
from qakhunt.answers.run_result import RunResult
from qakhunt.backends.local import LocalBackend
from qakhunt.hunts.catalog import Catalog
from qakhunt.hunts.render import render
from qakhunt.kql.values import Instant, Window
from qakhunt.run.execution import execute
from qakhunt.run.plan import PlanLine

NOW = Instant.parse("2026-11-05T09:00:00Z")
EVER = Window(Instant.parse("1900-01-01"), Instant.parse("2200-01-01"))
OCTOBER = "2026-10-01/2026-11-01"
MISSION = "qakbot-post-compromise-commands"
FOUR = ["net view", "arp -a", "whoami /all", "route print"]


def event(command: str, **columns: Any) -> dict[str, Any]:
    """A process event in October 2026 with the columns that the test is about."""
    return {
        "TimeGenerated": "2026-10-05T10:00:00Z",
        "DeviceId": "id-1",
        "DeviceName": "ws-1",
        "AccountName": "ann",
        "ProcessCommandLine": command,
        **columns,
    }


def write_ndjson(path: Path, records: list[dict[str, Any]]) -> Path:
    """The records, one a line."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def run_on(
    path: Path | str, *, hunt: str = MISSION, product: str = "log-analytics",
    window: str = OCTOBER, **parameters: Any,
) -> RunResult:  # fmt: skip
    """Run one hunt over a file of events on the embedded engine."""
    rendered = render(
        Catalog().find(hunt)[0], now=NOW, product=product, parameters=parameters, window=window
    )
    backend = LocalBackend([str(path)], now=NOW, product=product)
    try:
        return execute([PlanLine(rendered, backend, Target("local"))])
    finally:
        backend.close()
