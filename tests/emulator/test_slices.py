"""Sliced runs over the wire: faults in every slice, every event counted exactly once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from qakhunt.backends.services import service_named
from qakhunt.hunts.loading import load_hunt
from qakhunt.hunts.render import render
from qakhunt.kql.values import Instant
from qakhunt.run.execution import execute
from qakhunt.run.live import targets_of
from qakhunt.run.plan import PlanLine
from qakhunt.run.slicing.strategies import read_slices
from qakhunt.testing.emulator.clock import SkippingClock
from qakhunt.testing.emulator.scenario import FaultRule, Limits
from qakhunt.testing.emulator.server import Emulator
from tests.emulator.live import EmulatedBackends, profile_for
from tests.emulator.support import guid, process_events, scenario_of, tenant_of, write_events

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from qakhunt.answers.run_result import RunResult
    from qakhunt.testing.emulator.scenario import Tenant

pytestmark = pytest.mark.engine

NOW = Instant.parse("2026-11-01T00:00:00Z")
WINDOW = "2026-10-05/2026-10-21"
DAYS, DEVICES, SLICES = 20, 8, 4
EVENTS = 16 * DEVICES
HUNT = """
let StartTime = ago(30d);
DeviceProcessEvents
| where TimeGenerated >= StartTime and FileName == "whoami.exe"
| summarize Count = count(), FirstSeen = min(TimeGenerated) by DeviceName
"""
CUTS = {"devices": "devices:4", "time": "4d"}


@dataclass(frozen=True)
class Case:
    """One run: which slice meets which fault."""

    service: str
    cut: str
    fault: str
    slice: int

    @property
    def name(self) -> str:
        return f"{self.service}/{self.cut}/{self.fault}/{self.slice}"

    def tenant(self, events: str) -> Tenant:
        if self.fault == "row limit":
            # A service that gives as many rows as it may give has cut the answer.
            most = {"devices": 2, "time": 3 * DEVICES - 1}[self.cut]
            return tenant_of(self.name, events, limits=Limits(rows=most))
        rule = FaultRule(fault=self.fault, calls=self.slice)
        return tenant_of(self.name, events, faults=(rule,))


REPEATED = [
    Case(service, cut, fault, number)
    for service in ("log-analytics", "defender", "kusto")
    for cut in CUTS
    for fault, numbers in (("unavailable", range(1, SLICES + 1)), ("reset-during", (2,)))
    for number in numbers
]
DIVIDED = [
    Case(service, cut, fault, number)
    for service in ("log-analytics", "defender", "kusto")
    for cut in CUTS
    for fault, numbers in (("gateway-timeout", range(1, SLICES + 1)), ("row limit", (0,)))
    for number in numbers
]
FAILED = [Case("log-analytics", cut, "forbidden", n) for cut in CUTS for n in (1, 3)]


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Emulator, SkippingClock]]:
    folder = tmp_path_factory.mktemp("events")
    path = folder / "DeviceProcessEvents.ndjson"
    events = write_events(path, process_events(DAYS, DEVICES))
    clock = SkippingClock(NOW.to_datetime().timestamp())
    tenants = [case.tenant(events) for case in (*REPEATED, *DIVIDED, *FAILED)]
    with Emulator(scenario_of(*tenants, now=NOW.isoformat()), clock=clock) as server:
        yield server, clock


def sliced(case: Case, emulator: tuple[Emulator, SkippingClock], folder: Path) -> RunResult:
    server, clock = emulator
    path = folder / "counts.kql"
    path.write_text(HUNT, encoding="utf-8")
    rendered = render(
        load_hunt(path), now=NOW, product=service_named(case.service).product, window=WINDOW
    )
    limit = case.tenant("x").limits.rows if case.fault == "row limit" else None
    profile = profile_for(
        server, case.service, guid("tenant", case.name), guid("workspace", case.name),
        row_limit=limit,
    )  # fmt: skip
    live = EmulatedBackends(server, clock, NOW)
    try:
        (target,) = targets_of(profile)
        line = PlanLine(rendered, live.open(profile), target, read_slices(CUTS[case.cut]))
        return execute([line])
    finally:
        live.close()


def asked(case: Case, emulator: tuple[Emulator, SkippingClock]) -> list[str]:
    """The queries, less the coverage check that follows them."""
    queries = [c.query for c in emulator[0].calls if c.tenant == guid("tenant", case.name)]
    return [query for query in queries if "SourceRows" not in query]


def counts(result: RunResult) -> dict[str, int]:
    return {hit.row["DeviceName"]: hit.row["Count"] for hit in result.hits}


EVERY_EVENT_ONCE = {f"pc-{n}.contoso.example": 16 for n in range(DEVICES)}


@pytest.mark.parametrize("case", REPEATED, ids=lambda case: case.name)
def test_a_slice_that_failed_is_repeated_as_itself(
    case: Case, emulator: tuple[Emulator, SkippingClock], tmp_path: Path
) -> None:
    result = sliced(case, emulator, tmp_path)
    texts = asked(case, emulator)

    assert counts(result) == EVERY_EVENT_ONCE
    assert result.verdict.value == "hits"
    assert len(texts) == SLICES + 1
    assert texts[case.slice - 1] == texts[case.slice]
    assert len(set(texts)) == SLICES
    assert [line.attempts for line in result.ledger.lines] == [
        1 + (number == case.slice) + (number == 1) for number in range(1, SLICES + 1)
    ]  # the first has the coverage check's account


@pytest.mark.parametrize("case", DIVIDED, ids=lambda case: case.name)
def test_a_slice_that_was_too_much_is_divided_and_no_other(
    case: Case, emulator: tuple[Emulator, SkippingClock], tmp_path: Path
) -> None:
    result = sliced(case, emulator, tmp_path)
    texts = asked(case, emulator)

    assert counts(result) == EVERY_EVENT_ONCE
    assert result.verdict.value == "hits"
    assert len(set(texts)) == len(texts)
    assert sum(line.attempts for line in result.ledger.lines) == len(texts) + 1
    if case.fault == "gateway-timeout":
        assert len(texts) == SLICES + 2
        assert sum("divided from" in line.detail for line in result.ledger.lines) == 1
    else:
        assert len(texts) > SLICES + 2


@pytest.mark.parametrize("case", FAILED, ids=lambda case: case.name)
def test_a_slice_that_is_refused_leaves_a_hole_that_is_told(
    case: Case, emulator: tuple[Emulator, SkippingClock], tmp_path: Path
) -> None:
    result = sliced(case, emulator, tmp_path)
    statuses = [line.status.value for line in result.ledger.lines]

    assert result.verdict.value == "incomplete"
    assert statuses == ["failed" if n == case.slice else "complete" for n in range(1, SLICES + 1)]
    assert 0 < sum(counts(result).values()) < EVENTS
    assert "1 of 4 slices did not answer completely" in " ".join(result.warnings)
