"""Decoding 100,000 x 15 cells, as a ratio to ``json.loads`` of the same bytes.

python tests/benchmarks/bench_decode.py [--rows N]
"""

from __future__ import annotations

import argparse
import json
import time
from typing import TYPE_CHECKING, Any

from qakhunt.answers import wire_hunting, wire_log_analytics
from qakhunt.answers.table import Column, ResultTable
from qakhunt.kql.values import Instant

if TYPE_CHECKING:
    from collections.abc import Callable

COLUMNS = {
    "TimeGenerated": "datetime", "TenantId": "string", "DeviceId": "string",
    "DeviceName": "string", "AccountName": "string", "ActionType": "string",
    "FileName": "string", "FolderPath": "string", "ProcessCommandLine": "string",
    "ProcessId": "long", "InitiatingProcessFileName": "string", "ReportId": "long",
    "ProcessCreationTime": "datetime", "AdditionalFields": "dynamic", "IsRemote": "bool",
}  # fmt: skip
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


def seconds(works: list[Callable[[bytes], Any]], body: bytes, repeat: int = 9) -> list[float]:
    """The best time of each, taken in turns, so that a busy machine slows all alike."""
    best = [float("inf")] * len(works)
    for _ in range(repeat):
        for n, work in enumerate(works):
            start = time.perf_counter()
            work(body)
            best[n] = min(best[n], time.perf_counter() - start)
    return best


def sdk_decode(body: bytes) -> Any:
    """azure-monitor-query's own way, from the same bytes."""
    from azure.monitor.query import LogsQueryResult

    return LogsQueryResult._from_generated(json.loads(body))


def main() -> None:
    """Print both formats' ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    table = result(parser.parse_args().rows)
    for name, wire in (("log-analytics", wire_log_analytics), ("hunting", wire_hunting)):
        body = wire.encode(table)
        base, ours = seconds([json.loads, wire.decode], body)
        print(
            f"{name}: {len(body) / 1e6:.1f} MB, json.loads {base:.3f} s, "
            f"decode {ours:.3f} s, ratio {ours / base:.2f}"
        )
        if wire is wire_log_analytics:
            (sdk,) = seconds([sdk_decode], body, repeat=1)
            print(f"{name}: azure-monitor-query {sdk:.3f} s, ratio {ours / sdk:.2f}")


if __name__ == "__main__":
    main()
