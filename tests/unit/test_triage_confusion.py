"""What triage makes of the tuning data: generated bursts and modelled programs, as a table.

The hunt's thresholds are lowered here, so that benign programs raise alerts, too. These
are the data that the criteria were made on: the table shows that they separate at all,
not how well they do on other data.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from qakhunt.kql.values import Instant
from qakhunt.testing.generator import as_json, generate
from qakhunt.triage.assessment import Kind
from qakhunt.triage.hit_report import hit_reports
from tests.support.triage import run_with_context

pytestmark = pytest.mark.engine
SEED, PER_RENDERING = 11, 5

Table = Counter[tuple[str, str, Kind]]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    """(label, with or without context, assessment) -> alerts; it costs 20 s and one engine."""
    labels: dict[str, str] = {}
    rows = []
    for one in generate(SEED, PER_RENDERING):
        if one.behaviour != "discovery":
            continue
        devices = sorted({row["DeviceName"] for row in one.rows})
        chosen = set(devices[:: max(1, len(devices) // 20)])
        labels |= dict.fromkeys(chosen, one.label)
        rows += [row for row in one.rows if row["DeviceName"] in chosen]
    path: Path = tmp_path_factory.mktemp("tuning") / "DeviceProcessEvents.ndjson"
    with path.open("w", encoding="utf-8") as out:
        for row in rows:
            record = as_json(row)
            out.write(json.dumps({"TimeGenerated": record.pop("Timestamp"), **record}) + "\n")
    result = run_with_context(
        [str(path)], hunt="qakbot-recon-burst", now=Instant.parse("2026-11-20"), limit=1000,
        window="2026-10-01/2026-11-15", around="10m", MinimumFamilies=3, MinimumAnchors=0,
    )  # fmt: skip
    found: Table = Counter()
    for way in ("with context", "without"):
        for hit_report in hit_reports(result):
            found[labels[hit_report.hit.device or ""], way, hit_report.assessment.kind] += 1
        result.context = None
    for label in ("qakbot", "benign"):
        for way in ("with context", "without"):
            counts = {kind.value: found[label, way, kind] for kind in Kind}
            print(f"{label:8} {way:13}", counts)
    return found


@pytest.mark.parametrize("way", ["with context", "without"])
def test_bursts_are_told_from_programs_and_administrators(table: Table, way: str) -> None:
    bursts = sum(
        number for (label, how, _), number in table.items() if (label, how) == ("qakbot", way)
    )
    benign = sum(
        number for (label, how, _), number in table.items() if (label, how) == ("benign", way)
    )
    assert bursts >= 40
    assert benign >= 10
    assert table["qakbot", way, Kind.QAKBOT] >= 0.95 * bursts
    assert table["benign", way, Kind.QAKBOT] <= 0.02 * benign
