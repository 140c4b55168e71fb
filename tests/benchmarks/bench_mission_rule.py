"""The mission's rule on the embedded engine beside hand-written SQL on the same Parquet.

    python -m tests.benchmarks.bench_mission_rule [ROWS_IN_MILLIONS ...]

Prints the ratio of the medians, of wall and of processor time (which other work on
the machine disturbs less), and the process's peak memory. Aim: 1.15 or less,
and under 1 GB for 20 million rows. The generator is part of the benchmark.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from qakhunt.engine.session import Session
from qakhunt.hunts.catalog import Catalog
from qakhunt.hunts.parameters import parameters_of
from qakhunt.hunts.render import render
from qakhunt.kql.values import Instant

NOW = Instant.parse("2026-11-05T09:00:00Z")
HUNT = "qakbot-post-compromise-commands"
REPEATS = 5


def generate(path: Path, rows: int) -> None:
    """Process events of October and November 2026; one in 500 runs a listed command."""
    import duckdb

    commands = parameters_of(Catalog().find(HUNT)[0])["QakBotCommands"].default
    listed = ", ".join("'" + command.replace("'", "''") + "'" for command in commands)
    with duckdb.connect() as connection:
        connection.execute("SET memory_limit='2GB'")
        connection.execute(
            f"""COPY (
                SELECT TIMESTAMP '2026-10-01' + to_microseconds(CAST(hash(i) % 3456000000000 AS BIGINT))
                         AS TimeGenerated,
                       'ws-' || hash(i, 1) % 3000 AS DeviceName,
                       'user' || hash(i, 1) % 3000 AS AccountName,
                       'w' || hash(i, 1) % 5 AS TenantId,
                       CASE WHEN hash(i, 4) % 500 = 0
                            THEN list_extract([{listed}], CAST(hash(i, 5) % {len(commands)} AS INT) + 1)
                            ELSE '"C:\\Program Files\\App' || hash(i, 6) % 400 || '\\app.exe" --id '
                                 || hash(i, 7) % 1000000 END AS ProcessCommandLine
                FROM range({rows}) t(i)
            ) TO '{path}' (FORMAT parquet)"""
        )


def hand_written(path: Path) -> str:
    """The rule as someone would write it in SQL."""
    commands = parameters_of(Catalog().find(HUNT)[0])["QakBotCommands"].default
    listed = ", ".join("'" + command.replace("'", "''") + "'" for command in commands)
    return f"""
        SELECT DeviceName, AccountName, TenantId, count(*) AS Total,
               list_sort(list(DISTINCT ProcessCommandLine)) AS Commands,
               min(TimeGenerated), max(TimeGenerated)
        FROM read_parquet('{path}')
        WHERE TimeGenerated >= TIMESTAMP '2026-10-01' AND TimeGenerated < TIMESTAMP '2026-11-01'
          AND ProcessCommandLine IN ({listed})
        GROUP BY ALL HAVING count(DISTINCT ProcessCommandLine) > 3
        ORDER BY len(Commands) DESC, Total DESC"""


def measure(path: Path, which: str) -> dict[str, float]:
    """Median seconds, wall and processor, of one side, in this process, and its peak memory in MB."""
    if which == "engine":
        rendered = render(Catalog().find(HUNT)[0], now=NOW)
        session = Session([str(path)], "log-analytics")

        def once() -> int:
            return len(session.ask(rendered.text, now=NOW, window=rendered.window))
    else:
        import duckdb

        connection = duckdb.connect()
        connection.execute("SET memory_limit='700MB'")
        sql = hand_written(path)

        def once() -> int:
            return len(connection.execute(sql).fetchall())

    hits = once()
    wall, processor = [], []
    for _ in range(REPEATS):
        started = time.perf_counter(), time.process_time()
        assert once() == hits
        wall.append(time.perf_counter() - started[0])
        processor.append(time.process_time() - started[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "seconds": statistics.median(wall), "processor": statistics.median(processor),
        "peak": peak, "hits": hits,
    }  # fmt: skip


def main(millions: list[int]) -> None:
    """Generate, measure each side in a process of its own, print the ratio."""
    with tempfile.TemporaryDirectory(prefix="qakhunt-bench-") as folder:
        for count in millions:
            path = Path(folder) / f"{count}m.parquet"
            generate(path, count * 1_000_000)
            found = {}
            for which in ("hand", "engine"):
                command = [sys.executable, "-m", __spec__.name, "--one", str(path), which]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                found[which] = json.loads(done.stdout)
            engine, hand = found["engine"], found["hand"]
            assert engine["hits"] == hand["hits"]
            print(
                f"{count} M rows: engine {engine['seconds']:.2f} s, hand-written SQL "
                f"{hand['seconds']:.2f} s, ratio {engine['seconds'] / hand['seconds']:.2f} "
                f"(processor time {engine['processor'] / hand['processor']:.2f}); "
                f"peak {engine['peak']:.0f} MB; {engine['hits']} hits"
            )
            path.unlink()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(measure(Path(sys.argv[2]), sys.argv[3])))
    else:
        main([int(text) for text in sys.argv[1:]] or [5, 20])
