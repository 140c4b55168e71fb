"""Hits, records and contexts for tests of the triage."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

from qakhunt.answers.hits import hits_of
from qakhunt.answers.ledger import Ledger, LedgerLine, Status, Target
from qakhunt.answers.run_result import PROCESSES, Context, HitContext, RunResult, TableAnswer
from qakhunt.answers.table import Column, ResultTable
from qakhunt.backends.local import LocalBackend
from qakhunt.hunts.catalog import Catalog
from qakhunt.hunts.render import render
from qakhunt.kql.values import Instant, Timespan, Window
from qakhunt.run.collector import collect
from qakhunt.run.execution import execute
from qakhunt.run.plan import PlanLine
from qakhunt.run.sample import sample_events, sample_now
from qakhunt.triage.hit_report import HitReport, hit_reports
from tests.support.events import MISSION, NOW

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

COLUMNS = (
    Column("DeviceName", "string"), Column("AccountName", "string"), Column("TenantId", "string"),
    Column("TotalCommandsFound", "long"), Column("CommandLineList", "dynamic"),
    Column("TimeGenerated", "datetime"), Column("LastSeen", "datetime"),
    Column("TotalUniqueCommandsFound", "long"),
)  # fmt: skip
T0 = Instant.parse("2026-10-14T09:12:00Z")


def at(seconds: float) -> Instant:
    """So many seconds after the first command."""
    return Instant(T0.ticks + round(seconds * 10_000_000))


def created(
    seconds: float, file: str, line: str, number: int | None, *,
    issuer: tuple[str, str, int | None, float | None] | None = ("wermgr.exe", "wermgr.exe", 9204, -95),
    before: tuple[str, int | None, float | None] | None = ("rundll32.exe", 8836, -140),
    timed: bool = True, **columns: Any,
) -> dict[str, Any]:  # fmt: skip
    """A process creation as a record; ``issuer`` and ``before`` end with their start."""
    record: dict[str, Any] = {
        "TimeGenerated": at(seconds).isoformat(),
        "DeviceName": "pc1.example",
        "DeviceId": "f" * 40,
        "AccountName": "amy",
        "FileName": file,
        "ProcessCommandLine": line,
        "ProcessId": number,
        "ProcessCreationTime": at(seconds).isoformat() if timed else None,
    }
    if issuer is not None:
        record |= {
            "InitiatingProcessFileName": issuer[0],
            "InitiatingProcessCommandLine": issuer[1],
            "InitiatingProcessId": issuer[2],
            "InitiatingProcessCreationTime": None
            if issuer[3] is None
            else at(issuer[3]).isoformat(),
        }
    if before is not None:
        record |= {
            "InitiatingProcessParentFileName": before[0],
            "InitiatingProcessParentId": before[1],
            "InitiatingProcessParentCreationTime": (
                None if before[2] is None else at(before[2]).isoformat()
            ),
        }
    return record | columns


BURST = [
    "net view", "cmd /c set", "arp -a", "ipconfig /all", "route print", "net localgroup",
    "whoami /all",
]  # fmt: skip


def burst(
    commands: Sequence[str] = tuple(BURST), *, gap: float = 0.2, **kwargs: Any
) -> list[dict[str, Any]]:
    """A burst of commands, each a process of its own."""
    return [
        created(number * gap, f"{line.split()[0].strip(chr(34)).removesuffix('.exe')}.exe", line,
                4000 + 4 * number, **kwargs)
        for number, line in enumerate(commands)
    ]  # fmt: skip


def result_with(
    records: Iterable[dict[str, Any]] | None, *, commands: Sequence[str] = tuple(BURST),
    device: str = "pc1.example", account: str = "amy", first: Instant = T0,
    last: Instant | None = None, tables: dict[str, list[dict[str, Any]]] | None = None,
    target: Target | None = None, **context: Any,
) -> RunResult:  # fmt: skip
    """A result of one hit with the given process records around it; None: no context."""
    rendered = render(Catalog().find(MISSION)[0], now=NOW)
    target = target or Target("p")
    row = (
        device,
        account,
        None,
        len(commands),
        list(commands),
        first,
        last or at(3600),
        len(commands),
    )
    line = LedgerLine(
        MISSION, target.profile, target.tenant, target.workspace, "whole window", rendered.window,
        "local", rendered.query_hash, Status.COMPLETE, rows=1,
    )  # fmt: skip
    result = RunResult(
        now=NOW, window=rendered.window, rendered=(rendered,), ledger=Ledger([line]),
        hits=hits_of(rendered.hunt, target, ResultTable(COLUMNS, [row])), columns={MISSION: COLUMNS},
    )  # fmt: skip
    if records is not None:
        held = {PROCESSES: list(records), **(tables or {})}
        answers = tuple(
            TableAnswer(name, "context", Status.COMPLETE, len(rows), len(rows))
            for name, rows in held.items()
        )
        around = HitContext((Window(at(-1800), at(5400)),), answers, held, **context)
        result.context = Context(Timespan.parse("30m"), 50, hits={0: around})
    return result


def hit_report_of(records: Iterable[dict[str, Any]] | None, **kwargs: Any) -> HitReport:
    """The one hit_report of ``result_with``."""
    return hit_reports(result_with(records, **kwargs))[0]


@cache
def sample_json() -> str:
    """The sample's result with its context, as the program writes it."""
    from qakhunt.reports.details import ExportOptions
    from qakhunt.reports.formats import FORMATS, export_bytes

    return export_bytes(sample_result(), FORMATS["json"], ExportOptions()).decode()


def sample_document() -> dict[str, Any]:
    """The same as a document that a test may change."""
    document: dict[str, Any] = json.loads(sample_json())
    return document


@cache
def sample_result() -> RunResult:
    """The sample's result with its context; not to be changed."""
    return run_with_context(sample_events(), now=sample_now(), profile="sample", sample=True)


def run_with_context(
    events: list[str], *, hunt: str = MISSION, now: Instant = NOW, around: str = "30m",
    limit: int = 50, product: str = "log-analytics", window: str = "published",
    profile: str = "local", sample: bool = False, only: int | None = None, **parameters: Any,
) -> RunResult:  # fmt: skip
    """Run a hunt over events on the embedded engine and collect its context."""
    rendered = render(
        Catalog().find(hunt)[0], now=now, product=product, parameters=parameters, window=window
    )
    backend = LocalBackend(events, now=now, product=product)
    try:
        plan = [PlanLine(rendered, backend, Target(profile))]
        result = execute(plan)
        collect(result, plan, around=Timespan.parse(around), limit=limit, only=only)
    finally:
        backend.close()
    result.sample = sample
    return result


def own_result(columns: tuple[Column, ...], rows: Sequence[tuple[Any, ...]]) -> RunResult:
    """Hits of a hunt named ``own`` that maps nothing of its result."""
    from qakhunt.hunts.model import Hunt, QueryPlace

    mission = Catalog().find(MISSION)[0]
    hunt = Hunt(
        name="own", query=mission.query, path="own.kql", place=QueryPlace("own.kql"), title="own"
    )
    rendered = replace(render(mission, now=NOW), hunt=hunt)
    target = Target("p", None, "w")
    line = LedgerLine(
        "own", "p", None, "w", "whole window", rendered.window, "local", rendered.query_hash,
        Status.COMPLETE, rows=len(rows),
    )  # fmt: skip
    return RunResult(
        now=NOW, window=rendered.window, rendered=(rendered,), ledger=Ledger([line]),
        hits=hits_of(hunt, target, ResultTable(columns, list(rows))), columns={"own": columns},
    )  # fmt: skip
