"""Findings and runs for tests, without a backend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qakhunt.answers.hits import Hit
from qakhunt.answers.ledger import Ledger, LedgerLine, Status
from qakhunt.answers.run_result import RunResult
from qakhunt.answers.table import Column
from qakhunt.hunts.catalog import Catalog
from qakhunt.hunts.command_catalogue import understand
from qakhunt.hunts.model import Hunt
from qakhunt.hunts.render import render
from qakhunt.kql.values import Instant, Window
from qakhunt.schedule.findings import finding_document, judge, reported_findings
from qakhunt.schedule.sinks.base import Report

NOW = Instant.parse("2026-11-05T09:00:00Z")
WINDOW = Window(Instant.parse("2026-10-06T09:00:00Z"), NOW)
TENANT = "11111111-1111-4111-8111-111111111111"
HOSTILE = [
    "\x1b]0;owned\x07net view", "=cmd|' /C calc'!A0", "[link](https://evil.example)",
    "<img src=x onerror=alert(1)>", "**bold** `code`", "a\u202eb", "x\r\nBcc: evil@example.com",
    '","id":"forged', "${device}", "\ud800 lone",
]  # fmt: skip
COLUMNS = (
    Column("DeviceName", "string"), Column("AccountName", "string"),
    Column("CommandLineList", "dynamic"), Column("TotalUniqueCommandsFound", "long"),
)  # fmt: skip


def hunt() -> Hunt:
    return Catalog().find("qakbot-post-compromise-commands")[0]


def make_hit(
    device: str = "ws-01", account: str = "a.moreau",
    commands: tuple[str, ...] = ("net view", "whoami /all", "arp -a", "route print"),
    *, tenant: str | None = TENANT, workspace: str | None = "ws-guid",
) -> Hit:  # fmt: skip
    understood = tuple(map(understand, commands))
    return Hit(
        hunt().name, "contoso", tenant, workspace, device, account, understood, ("T1018",),
        Instant.parse("2026-10-14T09:12:03Z"), Instant.parse("2026-10-14T09:12:58Z"),
        len(commands), len(commands), COLUMNS, (device, account, list(commands), len(commands)),
    )  # fmt: skip


def make_result(hits: list[Hit]) -> RunResult:
    rendered = render(hunt(), now=NOW, window=WINDOW)
    line = LedgerLine(
        hunt().name, "contoso", TENANT, "ws-guid", "whole window", WINDOW, "log-analytics",
        rendered.query_hash, Status.COMPLETE,
    )  # fmt: skip
    return RunResult(NOW, WINDOW, (rendered,), Ledger([line]), hits, {hunt().name: COLUMNS})


def make_report(hits: list[Hit]) -> Report:
    from qakhunt.kql.values import Timespan

    found = reported_findings(hits, {hunt().name: hunt()})
    judged = [f for f, _ in judge(found, {}, now=NOW, repeat_after=Timespan.parse("30d"))]
    documents: list[dict[str, Any]] = [
        finding_document(finding, run_id="run-1", now=NOW) for finding in judged
    ]
    return Report("run-1", NOW, documents, make_result(hits))


BEAT: dict[str, Any] = {
    "schema": "qakhunt.heartbeat/1", "run": "run-1", "sent_at": NOW.isoformat(),
    "next_expected": "2026-11-06T09:00:00.0000000Z",
    "status": "looked, complete, nothing found", "verdict": "clean", "ledger": {"complete": 1},
    "state": {}, "problem": None,
}  # fmt: skip

QUERIES = Path(__file__).parents[2] / "queries"
