"""``hash(column, n)``: one stable partition, the same in every process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("duckdb_kql", reason="the embedded engine needs Python 3.11")

from qakhunt.backends.engine.session import EngineRefused, Session
from qakhunt.kql.values import Instant, Window

if TYPE_CHECKING:
    from pathlib import Path
from typing import Any

DAY = Window(Instant.parse("2026-10-01"), Instant.parse("2026-10-02"))
DEVICES = [f"pc-{n:03d}.contoso.example" for n in range(200)] + ["", "ÄÖ-server", "PC-001"]


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    path = tmp_path / "DeviceProcessEvents.ndjson"
    with path.open("w", encoding="utf-8") as out:
        for name in DEVICES:
            record = {"TimeGenerated": "2026-10-01T08:00:00Z", "DeviceName": name}
            out.write(json.dumps(record) + "\n")
    with Session([str(path)], "log-analytics") as opened:
        yield opened


def _ask(session: Session, text: str) -> list[tuple[Any, ...]]:
    return list(session.ask(text, now=DAY.end, window=DAY).rows)


def test_the_parts_of_a_hash_are_disjoint_and_whole(session: Session) -> None:
    parts = [
        [
            row[0]
            for row in _ask(
                session,
                f"DeviceProcessEvents | where hash(DeviceName, 8) == {k} | project DeviceName",
            )
        ]
        for k in range(8)
    ]
    assert sorted(name for part in parts for name in part) == sorted(DEVICES)
    assert all(len(part) > 5 for part in parts)


def test_a_device_is_in_the_same_part_in_every_process(session: Session) -> None:
    text = "print a = hash('pc-001.contoso.example', 1000), b = hash_xxhash64('ÄÖ-server', 1000)"
    here = _ask(session, text)
    script = (
        "import sys; from qakhunt.backends.engine.session import Session; "
        "from qakhunt.kql.values import Instant, Window; "
        "w = Window(Instant.parse('2026-10-01'), Instant.parse('2026-10-02')); "
        "print(list(Session([], 'log-analytics').ask(sys.argv[1], now=w.end, window=w).rows))"
    )
    there = subprocess.run(
        [sys.executable, "-c", script, text], capture_output=True, text=True, check=True
    )
    assert there.stdout.strip() == str(list(here))


def test_a_hash_without_a_modulus_is_refused(session: Session) -> None:
    with pytest.raises(EngineRefused):
        _ask(session, "DeviceProcessEvents | project h = hash(DeviceName)")
