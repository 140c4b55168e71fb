"""Import of Windows events beside a bare ``json.loads`` loop over the same lines.

    python tests/benchmarks/bench_import.py FILE.json [FILE.json ...]

Prints events per second of both and the ratio of their times, once for the files
as they are and once for their process creations alone; the aim is 3.0 or less.
Best of three runs each, after one that warms up.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from qakhunt.recordings.event_shapes import Unreadable, read_event
from qakhunt.recordings.windows_events import import_events

LINES = 200_000


def best(work: Callable[[], object]) -> float:
    """Seconds of the fastest of three runs."""
    work()
    times = []
    for _ in range(3):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def measure(title: str, lines: list[bytes], folder: Path) -> None:
    """One line of the table."""
    path = folder / "events.json"
    path.write_bytes(b"\n".join(lines) + b"\n")

    def bare() -> None:
        with path.open("rb") as stream:
            for line in stream:
                json.loads(line)

    alone = best(bare)
    ours = best(lambda: import_events([str(path)], folder / "out.parquet", "parquet"))
    print(
        f"{title}: {len(lines):,} lines, json.loads {len(lines) / alone:,.0f}/s, "
        f"import {len(lines) / ours:,.0f}/s, ratio {ours / alone:.2f}"
    )


def repeated(lines: list[bytes]) -> list[bytes]:
    """About LINES lines; each round has process ids of its own, so that none is a duplicate."""
    rounds = -(-LINES // len(lines))
    return [
        line.replace(b'"Hostname":"', b'"Hostname":"h%d-' % n)
        for n in range(rounds)
        for line in lines
    ][:LINES]


def main() -> None:
    """Measure the files named on the command line."""
    lines = [line for name in sys.argv[1:] for line in Path(name).read_bytes().splitlines()]
    creations = []
    for line in lines:
        try:
            if read_event(line).is_process_creation:
                creations.append(line)
        except Unreadable:
            continue
    with tempfile.TemporaryDirectory() as folder:
        measure("as captured", repeated(lines), Path(folder))
        measure("process creations alone", repeated(creations), Path(folder))


if __name__ == "__main__":
    main()
