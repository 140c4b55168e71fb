"""Decoding 100,000 x 15 cells, as a ratio to ``json.loads`` of the same bytes."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

from qakhunt.answers import wire_hunting, wire_log_analytics
from qakhunt.answers.table import Column, ResultTable
from qakhunt.kql.values import Instant
from tests.benchmarks.table import Row, beside

if TYPE_CHECKING:
    from collections.abc import Iterator

COLUMNS = {
    "TimeGenerated": "datetime", "TenantId": "string", "DeviceId": "string",
    "DeviceName": "string", "AccountName": "string", "ActionType": "string",
    "FileName": "string", "FolderPath": "string", "ProcessCommandLine": "string",
    "ProcessId": "long", "InitiatingProcessFileName": "string", "ReportId": "long",
    "ProcessCreationTime": "datetime", "AdditionalFields": "dynamic", "IsRemote": "bool",
}  # fmt: skip
RECORDS = 100_000
START = Instant.parse("2026-10-01T00:00:00Z").ticks


def result(rows: int) -> ResultTable:
    """A result as process events give one."""
    columns = tuple(Column(name, kind) for name, kind in COLUMNS.items())
    return ResultTable(
        columns,
        [
            (
                Instant(START + n * 259_201_237), f"workspace-{n % 3}", f"{n % 500:040x}",
                f"host{n % 500}.contoso.com", f"user{n % 90}", "ProcessCreated", "net.exe",
                r"C:\Windows\System32\net.exe", f'net view /all /domain "{n}"', n % 65_536,
                "cmd.exe", n, Instant(START + n * 259_201_230), {"n": n, "tags": ["a", "b"]},
                None if n % 7 else True,
            )
            for n in range(rows)
        ],
    )  # fmt: skip


def sdk_decode(body: bytes) -> Any:
    """azure-monitor-query's own way, from the same bytes."""
    from azure.monitor.query import LogsQueryResult

    return LogsQueryResult._from_generated(json.loads(body))


def rows() -> Iterator[Row]:
    """Both formats beside ``json.loads``, one beside the SDK, too."""
    table = result(RECORDS)
    for name, wire in (("log-analytics", wire_log_analytics), ("hunting", wire_hunting)):
        body = wire.encode(table)
        decode, loads = partial(wire.decode, body), partial(json.loads, body)
        note = f"{RECORDS:,} records, {len(body) / 1e6:.1f} MB"
        yield beside(f"decode an answer, {name}", decode, "json.loads", loads, note=note)
        if wire is wire_log_analytics:
            sdk = partial(sdk_decode, body)
            title = f"decode an answer, {name}"
            yield beside(title, decode, "azure-monitor-query", sdk, note=note, repeats=1)
