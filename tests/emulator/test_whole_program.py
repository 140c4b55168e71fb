"""``qakhunt emulate`` in one process and ``qakhunt run --all-profiles`` in another."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

import qakhunt as python
from tests.emulator.support import (
    APP,
    SECRET,
    configure,
    emulated,
    fetch_url,
    guid,
    process_events,
    write_events,
)
from tests.support.cli import ROOT, Finished, qakhunt

if TYPE_CHECKING:
    from pathlib import Path

NOW = "2026-10-20T00:00:00Z"
WELL, BUSY, SHAKY, CLOSED, EMPTY, LOST = (
    "well", "busy", "shaky", "closed", "empty", "lost",
)  # fmt: skip

HUNT = """
name: Who asks who they are
qakhunt:
  window: {start: StartTime, end: EndTime}
query: |
  let StartTime = ago(30d);
  let EndTime = now();
  DeviceProcessEvents
  | where TimeGenerated >= StartTime and TimeGenerated < EndTime
  | where FileName == "whoami.exe"
  | summarize Count = count(), FirstSeen = min(TimeGenerated) by DeviceName, TenantId
"""

FAULTS = {
    WELL: "[]",
    BUSY: "[{fault: throttled, calls: 1, seconds: 1}]",
    SHAKY: "[{fault: reset-during, calls: 1}, {fault: cut-body, calls: 2}]",
    CLOSED: "[{fault: forbidden}]",
    EMPTY: "[{fault: no-source-rows}]",
    LOST: "[{fault: AADSTS7000222}]",
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Events, a scenario with a tenant for each trouble, a hunt."""
    folder: Path = tmp_path_factory.mktemp("home")
    write_events(folder / "DeviceProcessEvents.ndjson", process_events(14, 3))
    tenants = "".join(
        f"  - id: {guid('tenant', name)}\n    events: [DeviceProcessEvents.ndjson]\n"
        f"    workspaces: [{{id: {guid('workspace', name)}}}]\n    faults: {faults}\n"
        for name, faults in FAULTS.items()
    )
    (folder / "scenario.yaml").write_text(
        f"now: {NOW}\napps: [{{client_id: {APP}, secret: {SECRET}}}]\ntenants:\n{tenants}"
    )
    (folder / "who.yaml").write_text(HUNT)
    return folder


def run(home: Path, *options: str) -> Any:
    arguments = [
        "run", str(home / "who.yaml"), "--all-profiles", "--config", str(home / "config.toml"),
        "--now", NOW, "--window", "2026-10-01/2026-10-15", *options,
    ]  # fmt: skip
    done = qakhunt(*arguments, env={"PLANTED": SECRET, "COLUMNS": "300"})
    for text in (done.out, done.err):
        assert SECRET not in text
        assert "eyJ" not in text, "this is how every token begins"
        assert "Traceback" not in text
    return done


EXPECTED = {
    WELL: ("complete", 2, ""),
    BUSY: ("complete", 3, ""),
    SHAKY: ("complete", 4, ""),
    CLOSED: ("failed", 1, "no permission"),
    EMPTY: ("uncovered", 2, "holds no records in the window"),
    LOST: ("failed", 1, "secret has expired"),
}
"""Status, tries (the coverage check's included) and words of both lines of a tenant."""


@dataclass(frozen=True)
class Troubled:
    """One run with every fault on: the program's end, its export and the emulator's account.

    ``doctor`` is what the doctor said of all profiles afterwards.
    """

    done: Finished
    doctor: Finished
    found: dict[str, Any]
    calls: list[dict[str, Any]]


@pytest.fixture(scope="module")
def troubled(home: Path) -> Troubled:
    with emulated(home, FAULTS) as line:
        done = run(home, "--fail-on-hits", "--out", str(home / "out.json"))
        calls = json.loads(fetch_url(f"{line['url']}/emulator/calls", home / "ca.pem"))
        doctor = qakhunt(
            "doctor", "--all-profiles", "--config", str(home / "config.toml"), "--now", NOW,
            env={"PLANTED": SECRET, "COLUMNS": "200"},
        )  # fmt: skip
    return Troubled(done, doctor, json.loads((home / "out.json").read_text()), calls)


def test_one_tenant_s_trouble_is_its_own(troubled: Troubled) -> None:
    found = troubled.found
    assert (found["verdict"], troubled.done.code) == ("incomplete", 14)
    assert len(found["ledger"]) == 12
    for entry in found["ledger"]:
        name = entry["profile"].partition("-")[0]
        status, tries, words = EXPECTED[name]
        assert entry["status"] == status, entry
        assert entry["attempts"] == tries
        assert words in entry["detail"]
    # Both services of a tenant saw the same: a finding counts once.
    assert {hit["profile"].partition("-")[0] for hit in found["hits"]} == {WELL, BUSY, SHAKY}
    assert len(found["hits"]) == 3 * 3


def test_nothing_is_asked_again_once_it_answered(troubled: Troubled) -> None:
    answered = [
        (call["path"], call["tenant"], call["query"])
        for call in troubled.calls
        if call["path"] in ("query", "hunting") and call["status"] == 200 and not call["fault"]
    ]
    assert len(answered) == len(set(answered)) == 2 * 3 * 2


def test_the_account_says_who_did_not_answer_and_why(troubled: Troubled) -> None:
    account = troubled.done.err
    assert "INCOMPLETE: 9 hits on 9 devices; not everything was looked at" in account
    lines = (" ".join(line.split()) for line in account.splitlines())
    rows = {line.partition("-")[0]: line for line in lines if " of 2 " in line}
    for name, (status, _, words) in EXPECTED.items():
        complete = 2 if status == "complete" else 0
        assert f"{guid('tenant', name)}) {complete} of 2" in rows[name]
        said = [line for line in account.splitlines() if f"{name}-" in line and ": " in line]
        assert bool(said) == (status != "complete"), name
        assert all(words in line for line in said)


def test_the_doctor_sums_up_each_profile_and_says_each_reason_once(troubled: Troubled) -> None:
    doctor = troubled.doctor
    assert doctor.code == 1
    lines = doctor.out.splitlines()
    summaries = [line for line in lines if line.split()[0] in ("ok", "warning", "failed")]
    assert len(summaries) == 2 * len(FAULTS)
    tenant = guid("tenant", CLOSED)
    assert f"failed   {CLOSED}-defender ({tenant})  permission" in summaries
    assert doctor.out.count("the client secret has expired") == 1
    assert doctor.out.count("holds no records") <= 1
    assert any(f"{LOST}-log-analytics, {LOST}-defender" in line for line in lines)
    assert lines[-1].startswith("6 of 12 profiles failed; ")


def test_without_faults_everything_is_looked_at(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLANTED", SECRET)
    with emulated(home, FAULTS, "--no-faults"):
        done = run(home, "--json")
        own = python.run(
            home / "who.yaml", profile=["well-log-analytics", "busy-defender"], now=NOW,
            config=home / "config.toml", window="2026-10-01/2026-10-15",
        )  # fmt: skip
    assert [line.status.value for line in own.ledger.lines] == ["complete", "complete"]
    assert {hit.profile for hit in own.hits} == {"well-log-analytics", "busy-defender"}
    assert len(own.hits) == 2 * 3
    found = json.loads(done.out)
    assert (found["verdict"], done.code) == ("hits", 0)
    assert {entry["status"] for entry in found["ledger"]} == {"complete"}
    assert len(found["hits"]) == 6 * 3


def test_with_nobody_there_nothing_answered(home: Path) -> None:
    configure(home, FAULTS, "https://127.0.0.1:9")
    done = run(home, "--json", "--deadline", "1s")
    assert done.code == 3
    assert json.loads(done.out)["verdict"] == "failed"


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is POSIX's")
def test_a_run_killed_while_it_waits_leaves_nothing(home: Path, tmp_path: Path) -> None:
    lasting = "[{fault: slow-drip, seconds: 600}]"
    scenario = (home / "scenario.yaml").read_text()
    (home / "scenario.yaml").write_text(scenario.replace(FAULTS[BUSY], lasting))
    try:
        with emulated(home, FAULTS) as line:
            process = subprocess.Popen(
                [sys.executable, "-m", "qakhunt", "run", str(home / "who.yaml"), "--profile",
                 "busy-log-analytics", "--config", str(home / "config.toml"), "--now", NOW,
                 "--out", str(tmp_path / "out.json")],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                env={"PLANTED": SECRET, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path / "home")},
            )  # fmt: skip
            until = time.monotonic() + 30
            while b'"slow-drip"' not in fetch_url(f"{line['url']}/emulator/calls", home / "ca.pem"):
                assert time.monotonic() < until, "the run asked nothing"
                time.sleep(0.05)
            process.kill()
            assert process.wait(20) == -signal.SIGKILL
    finally:
        (home / "scenario.yaml").write_text(scenario)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
