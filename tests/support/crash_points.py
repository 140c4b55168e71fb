"""Commits a run to a state and dies at its n-th statement, for every n.

    python -m tests.support.crash_points FOLDER

Prints one line of JSON: for each n, how the state was found afterwards.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path

from qakhunt.kql.values import Instant, Window
from qakhunt.schedule.coverage import Coverage, CoverageKey
from qakhunt.schedule.findings import Known
from qakhunt.schedule.store import Message, RunRecord, Store
from qakhunt.schedule.store_file import open_file

NOW = Instant.parse("2026-11-05T09:00:00Z")
KEY = CoverageKey("hash", "log-analytics", "customer", "workspace")
COVERED = Coverage(KEY, "hunt", covered=(Window(Instant.parse("2026-10-06"), NOW),))


def commit(store: Store) -> None:
    known = Known("f" * 32, "hunt", "customer", NOW, NOW, NOW, 1, 3, frozenset({"a", "b"}))
    record = RunRecord("run", NOW, NOW, "hits", {"owed": 0})
    messages = [Message("file:x", f"id-{n}", b"{}", findings=(f"id-{n}",)) for n in range(3)]
    store.commit(record, [COVERED], [known], messages)


def die_at(path: Path, statement: int) -> None:
    """In a child: begin, then die as kill -9 does, just before the n-th statement."""
    store = open_file(path, NOW)
    store.begin("run", NOW)
    left = [statement]

    def count(_text: str) -> None:
        left[0] -= 1
        if left[0] < 0:
            os._exit(9)

    store._connection.set_trace_callback(count)
    commit(store)
    os._exit(0)


def found(path: Path) -> str:
    with contextlib.closing(open_file(path, NOW)) as store:
        parts = (store.coverage(KEY).covered, store.known(), store.pending())
        ended = [run for run in store.runs() if run.finished]
        if store.warnings:
            return "damaged"
        if not any(parts) and not ended:
            return "before"
        if all(parts) and len(store.pending()) == 3 and len(ended) == 1:
            return "after"
        return "torn"


def main(folder: Path) -> None:
    outcomes = []
    for statement in range(1000):
        path = folder / f"{statement}.db"
        child = os.fork()
        if child == 0:
            die_at(path, statement)
        _, status = os.waitpid(child, 0)
        outcomes.append(found(path))
        if os.WEXITSTATUS(status) == 0:
            break
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
