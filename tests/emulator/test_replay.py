"""A replayed run is the live run again: verdict, ledger, hits and exports."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from qakhunt.answers.run_document import run_document
from qakhunt.backends.recordings.pseudonyms import Pseudonyms
from qakhunt.backends.recordings.redact import Redactor, literal_words
from qakhunt.backends.recordings.store import Recording, new_recording
from qakhunt.backends.services import service_named
from qakhunt.hunts.loading import load_hunt
from qakhunt.hunts.render import render
from qakhunt.kql.values import Instant
from qakhunt.reports.details import ExportOptions
from qakhunt.reports.formats import export_bytes, format_named
from qakhunt.run.execution import execute
from qakhunt.run.live import targets_of
from qakhunt.run.plan import PlanLine
from qakhunt.run.recorder import Recorder, fetch_source_rows
from qakhunt.run.replay import ReplaySource
from qakhunt.run.request import HuntRequest
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
HUNTS = {
    "per-device": """
        let StartTime = ago(30d);
        let Least = 2;
        DeviceProcessEvents
        | where TimeGenerated >= StartTime and FileName == "whoami.exe"
        | summarize Total = count(), FirstSeen = min(TimeGenerated),
            Commands = make_set(ProcessCommandLine) by DeviceName, AccountName
        | where Total > Least
        | sort by DeviceName asc
    """,
    "nothing": """
        DeviceProcessEvents
        | where TimeGenerated >= ago(30d) and FileName == "absent.exe"
        | summarize Total = count() by DeviceName
    """,
}


@dataclass(frozen=True)
class Situation:
    """What befalls a tenant, and how it is asked."""

    name: str
    service: str = "log-analytics"
    faults: tuple[FaultRule, ...] = ()
    rows: int | None = None
    slices: str | None = None
    verdict: str = "hits"

    def tenant(self, events: str) -> Tenant:
        return tenant_of(self.name, events, faults=self.faults, limits=Limits(rows=self.rows))


SITUATIONS = [
    Situation("whole"),
    Situation("defender", "defender"),
    Situation("lake", "kusto"),
    Situation("throttled", faults=(FaultRule(fault="throttled", calls=1),)),
    Situation("in parts", slices="devices:3"),
    Situation("in days", "defender", slices="4d"),
    Situation("divided", rows=40, slices="16d"),
    Situation("cut", rows=3, verdict="incomplete"),
    Situation("no permission", faults=(FaultRule(fault="forbidden", calls=2),), verdict="incomplete"),
    Situation("partly", faults=(FaultRule(fault="partial", calls=1),), verdict="incomplete"),
]  # fmt: skip


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Emulator, SkippingClock]]:
    path = tmp_path_factory.mktemp("events") / "DeviceProcessEvents.ndjson"
    events = write_events(path, process_events(20, 5))
    clock = SkippingClock(NOW.to_datetime().timestamp())
    tenants = [situation.tenant(events) for situation in SITUATIONS]
    with Emulator(scenario_of(*tenants, now=NOW.isoformat()), clock=clock) as server:
        yield server, clock


def recorded(
    situation: Situation,
    emulator: tuple[Emulator, SkippingClock],
    tmp_path: Path,
    redactor: Redactor | None = None,
    *,
    source: bool = False,
) -> tuple[RunResult, Path]:
    """Run live and record it."""
    server, clock = emulator
    profile = profile_for(
        server, situation.service, guid("tenant", situation.name),
        guid("workspace", situation.name), row_limit=situation.rows,
    )  # fmt: skip
    live = EmulatedBackends(server, clock, NOW)
    folder = tmp_path / "recording"
    slices = read_slices(situation.slices) if situation.slices else None
    plan = []
    backend = live.open(profile)  # one for all hunts, as the program has it
    for name, query in HUNTS.items():
        path = tmp_path / f"{name}.kql"
        path.write_text(query, encoding="utf-8")
        rendered = render(
            load_hunt(path),
            now=NOW,
            product=service_named(situation.service).product,
            window=WINDOW,
        )
        for target in targets_of(profile):
            plan.append(PlanLine(rendered, backend, target, slices))
    try:
        with new_recording(folder, private=redactor is None, force=False) as writer:
            recorder = Recorder(writer, redactor)
            recorded_plan = recorder.plan(plan)
            result = execute(recorded_plan)
            if source:
                assert not fetch_source_rows(recorder, recorded_plan)
            writer.finish(recorder.manifest(plan, result))
    finally:
        live.close()
    return result, folder


def replayed(
    folder: Path, request: HuntRequest | None = None, *, on_source: bool = False
) -> RunResult:
    answers = ReplaySource(folder, on_source=on_source, now=None)
    with answers.opened(request or HuntRequest(), lambda _: None, None) as plan:
        return execute(plan)


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda s: s.name)
def test_a_replay_is_the_live_run_again(
    situation: Situation, emulator: tuple[Emulator, SkippingClock], tmp_path: Path
) -> None:
    live, folder = recorded(situation, emulator, tmp_path)
    # The hunts travel with the recording.
    for path in tmp_path.glob("*.kql"):
        path.unlink()
    again = replayed(folder.rename(tmp_path / "moved"))

    assert live.verdict.value == situation.verdict
    assert live.hits
    assert run_document(again) == run_document(live)
    for name in ("json", "csv", "ndjson", "markdown", "html", "parquet"):
        made = [export_bytes(r, format_named(name), ExportOptions()) for r in (live, again)]
        assert made[0] == made[1], name


def test_redacted_the_verdict_ledger_and_number_of_hits_are_the_same(
    emulator: tuple[Emulator, SkippingClock], tmp_path: Path
) -> None:
    for number, situation in enumerate(SITUATIONS):
        if situation.faults:
            continue  # these struck once
        place = tmp_path / str(number)
        place.mkdir()
        redactor = Redactor(Pseudonyms(b"k" * 32), literal_words(HUNTS.values()))
        live, folder = recorded(situation, emulator, place, redactor)
        again = replayed(folder)
        assert again.verdict is live.verdict
        assert facts(again) == facts(live)
        assert live.hits
        assert len(again.hits) == len(live.hits)
        text = json.dumps(run_document(again))
        assert "contoso" not in text
        assert guid("tenant", situation.name) not in text


def facts(result: RunResult) -> list[Any]:
    return [
        (e.hunt, e.slice, e.status, e.rows, e.attempts, e.waits, e.bytes)
        for e in result.ledger.lines
    ]


def test_changes_run_on_the_source_rows_and_say_what_these_do_not_hold(
    emulator: tuple[Emulator, SkippingClock], tmp_path: Path
) -> None:
    live, folder = recorded(SITUATIONS[0], emulator, tmp_path, source=True)
    unchanged = replayed(folder, on_source=True)
    assert sorted(hit.cells for hit in unchanged.hits) == sorted(hit.cells for hit in live.hits)
    assert unchanged.verdict is live.verdict
    recording = Recording.open(folder)
    assert {one.table for one in recording.manifest.filters} == {"DeviceProcessEvents"}

    more = replayed(folder, HuntRequest(settings={"Least": "9999"}), on_source=True)
    assert (len(more.hits), more.verdict.value) == (0, "clean")

    changed = tmp_path / "changed.kql"
    changed.write_text(HUNTS["per-device"].replace("whoami.exe", "nltest.exe"), encoding="utf-8")
    inside = replayed(folder, HuntRequest(names=[str(changed)]), on_source=True)
    assert inside.verdict.value == "clean"
    changed.write_text(HUNTS["per-device"].replace("whoami.exe", "svchost.exe"), encoding="utf-8")
    outside = replayed(folder, HuntRequest(names=[str(changed)]), on_source=True)
    assert outside.verdict.value == "incomplete"
    assert 'FileName == "svchost.exe"' in outside.ledger.lines[0].detail


def test_a_column_that_was_not_recorded_is_named(
    emulator: tuple[Emulator, SkippingClock], tmp_path: Path
) -> None:
    redactor = Redactor(Pseudonyms(b"k" * 32), literal_words(HUNTS.values()))
    _, folder = recorded(SITUATIONS[0], emulator, tmp_path, redactor, source=True)
    changed = tmp_path / "changed.kql"
    changed.write_text(
        HUNTS["per-device"].replace("by DeviceName", "by DeviceName, MachineGroup"),
        encoding="utf-8",
    )
    result = replayed(folder, HuntRequest(names=[str(changed)]), on_source=True)
    assert result.verdict.value == "incomplete"
    assert "not recorded: MachineGroup" in result.ledger.lines[0].detail
