"""The runbook's bundle, run as Azure Automation runs it, against the emulator."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from qakhunt.kql.values import Instant, Timespan
from tests.support.automation import Automation, Ended, python310
from tests.support.receivers import (
    AZURITE_KEY,
    Receiver,
    azurite,
    azurite_command,
    http_receiver,
    make_container,
)

pytest.importorskip("duckdb_kql", reason="the emulator needs the embedded engine (Python 3.11)")
pytest.importorskip("uvicorn", reason="the emulator is an extra")
pytest.importorskip("uv", reason="building a runbook is an extra")
pytestmark = [
    pytest.mark.skipif(python310() is None, reason="there is no CPython 3.10"),
    pytest.mark.skipif(
        azurite_command() is None, reason="Azurite is not installed: npm install azurite"
    ),
]

TENANT = "aaaaaaaa-0000-4000-8000-000000000001"
WORKSPACE = "bbbbbbbb-0000-4000-8000-000000000001"
SECOND = "bbbbbbbb-0000-4000-8000-000000000002"
RULE = "dcr-00000000000000000000000000000001"
STREAM = "Custom-QakhuntFindings_CL"
DEVICE, ACCOUNT, SECRET = "ws-secret-77", "j.secretname", "s3cret-of-the-hook"
COMMANDS = ["net view", "arp -a", "ipconfig /all", "whoami /all", "route print"]
MOST_OUTPUT = 1024 * 1024


def write_events(path: Path, now: Instant, rows: int = 0) -> str:
    """A burst two days ago on one device, and ``rows`` others."""

    def event(device: str, minutes: float, command: str) -> dict[str, Any]:
        moment = now - Timespan(int(minutes * 600_000_000))
        return {
            "Timestamp": moment.isoformat(), "DeviceId": device, "DeviceName": device,
            "AccountName": ACCOUNT, "FileName": command.split()[0] + ".exe",
            "ProcessCommandLine": command, "ProcessId": 1,
        }  # fmt: skip

    events = [event(DEVICE, 2880 - n / 10, command) for n, command in enumerate(COMMANDS)]
    events += [event(f"ws-{n:03}", 60 * n + 30, "explorer.exe") for n in range(700)]
    events += [
        event(f"dev-{n % 50:03}", 1500 + n / 1000, f"ping host{n} -n 1 {'x' * 100}")
        for n in range(rows)
    ]
    path.write_text("".join(json.dumps(e) + "\n" for e in events))
    return str(path)


@dataclass
class Site:
    """Everything outside the job: the services, the receiver and the bundle."""

    emulator: Any
    receiver: Receiver
    state: str
    bundle: Path
    automation: Automation

    def run(self, *arguments: str, **environment: str) -> Ended:
        return self.automation.run(
            arguments,
            {
                "IDENTITY_ENDPOINT": f"{self.emulator.url}/msi/token",
                "IDENTITY_HEADER": "header-of-the-sandbox",
                "REQUESTS_CA_BUNDLE": str(self.emulator.ca),
                "AZURE_STORAGE_KEY": AZURITE_KEY, **environment,
            },
            {"HOOK_SECRET": SECRET},
        )  # fmt: skip


CONFIG = """
[profiles.sentinel]
backend = "log-analytics"
tenant = "{tenant}"
workspaces = ["{workspace}"]
log_analytics_endpoint = "{url}"
authority = "{url}"
ca_file = "{ca}"
sign_in = "managed-identity"
[profiles.sentinel.limits]
tries = 1

[profiles.second]
backend = "log-analytics"
tenant = "{tenant}"
workspaces = ["{second}"]
log_analytics_endpoint = "{url}"
authority = "{url}"
ca_file = "{ca}"
sign_in = "managed-identity"
[profiles.second.limits]
tries = 1

[profiles.defender]
backend = "defender"
tenant = "{tenant}"
graph_endpoint = "{url}"
authority = "{url}"
ca_file = "{ca}"
sign_in = "managed-identity"

[schedule]
sign_in = "managed-identity"
tenant = "{tenant}"
authority = "{url}"
ca_file = "{ca}"

[sinks.hook]
kind = "webhook"
url = "{hook}"
secret_env = "HOOK_SECRET"

[sinks.table]
kind = "log-analytics"
endpoint = "{url}"
rule = "{rule}"
"""
MANY = """
id: 11111111-0000-4000-8000-000000000011
name: Every ping
query: |
  let Start = ago(30d);
  let End = now();
  DeviceProcessEvents
  | where TimeGenerated >= Start and TimeGenerated < End
  | where ProcessCommandLine startswith "ping"
  | project TimeGenerated, DeviceName, AccountName, ProcessCommandLine
entityMappings:
  - entityType: Host
    fieldMappings: [{identifier: HostName, columnName: DeviceName}]
qakhunt:
  window: {start: Start, end: End}
  lookback: 30d
  fingerprint: [DeviceName, AccountName]
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    from qakhunt.__main__ import run as qakhunt
    from qakhunt.testing.emulator.scenario import load_scenario
    from qakhunt.testing.emulator.server import Emulator

    folder = tmp_path_factory.mktemp("runbook")
    now = Instant.from_datetime(dt.datetime.now(dt.timezone.utc))
    scenario = folder / "scenario.yaml"
    scenario.write_text(json.dumps({
        "tenants": [{
            "id": TENANT, "events": [write_events(folder / "few.ndjson", now)],
            "workspaces": [
                {"id": WORKSPACE},
                {"id": SECOND, "events": [write_events(folder / "many.ndjson", now, 100_000)]},
            ],
            "faults": [
                {"fault": "unavailable", "paths": ["query"], "workspace": WORKSPACE, "calls": 5}
            ],
        }],
    }))  # fmt: skip
    (folder / "hunts").mkdir()
    (folder / "hunts" / "every-ping.yaml").write_text(MANY)
    with http_receiver() as receiver, azurite() as account:
        state = f"{make_container(account, 'state')}/state.db"
        with Emulator(load_scenario(scenario), tls=True) as emulator:
            config = folder / "config.toml"
            config.write_text(CONFIG.format(
                tenant=TENANT, workspace=WORKSPACE, second=SECOND, url=emulator.url,
                ca=emulator.ca, hook=receiver.url, rule=RULE,
            ))  # fmt: skip
            code = qakhunt([
                "runbook", "build", "qakbot-post-compromise-commands", "every-ping",
                "--out", str(folder / "bundle"), "--config", str(config), "--all-profiles",
                "--hunts", str(folder / "hunts"), "--state", state,
                "--sink", "hook", "--sink", "table", "--quiet",
            ])  # fmt: skip
            assert code == 0
            bundle = folder / "bundle"
            yield Site(emulator, receiver, state, bundle, Automation(bundle, folder))


def test_the_bundle_is_what_its_manifest_says(site: Site) -> None:
    manifest = json.loads((site.bundle / "manifest.json").read_text())
    names = {wheel["project"] for wheel in manifest["wheels"]}
    assert {"qakhunt", "tomli", "azure-identity", "azure-monitor-ingestion"} <= names
    assert not names & {"duckdb", "duckdb-kql", "starlette", "pytest"}
    files = {path.name for path in (site.bundle / "wheels").iterdir()}
    assert files == {Path(wheel["file"]).name for wheel in manifest["wheels"]}
    for wheel in [*manifest["wheels"], manifest["runbook"]]:
        content = (site.bundle / wheel["file"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == wheel["sha256"]
    whole = b"".join(p.read_bytes() for p in site.bundle.iterdir() if p.is_file())
    assert SECRET.encode() not in whole


def test_jobs_in_a_row(site: Site) -> None:
    """What is new, then nothing twice, then a workspace that does not answer."""
    _reports_what_is_new_and_names_nobody(site)
    _reports_nothing_twice(site)
    _fails_with_a_last_line_that_says_so(site)


def _reports_what_is_new_and_names_nobody(site: Site) -> None:
    ended = site.run("qakbot-post-compromise-commands", "sentinel,defender")
    assert ended.code == 0, ended.errors
    told = [json.loads(body) for body in site.receiver.bodies]
    findings = [d for d in told if d["schema"] == "qakhunt.finding/1"]
    assert {f["device"] for f in findings} == {DEVICE}
    assert told[-1]["status"] == "looked, complete, findings"
    rows = site.emulator.emulation.ingestion.rows(RULE, STREAM)
    assert {row["Kind"] for row in rows} == {"finding", "heartbeat"}
    for text in (DEVICE, ACCOUNT, SECRET, *COMMANDS):
        assert text not in ended.output
        assert text not in ended.errors
    assert "qakhunt: hits, 2 of 2 questions answered completely" in ended.output
    print(ended.output, f"{ended.peak:.0f} MB")


def _reports_nothing_twice(site: Site) -> None:
    before = len(site.receiver.bodies)
    ended = site.run("qakbot-post-compromise-commands", "sentinel,defender")
    assert ended.code == 0, ended.errors
    new = [json.loads(body) for body in site.receiver.bodies[before:]]
    assert [d["schema"] for d in new] == ["qakhunt.heartbeat/1"]
    assert "known=1" in ended.output


def _fails_with_a_last_line_that_says_so(site: Site) -> None:
    before = len(site.receiver.bodies)
    ended = site.run("qakbot-post-compromise-commands", "sentinel,defender")
    assert ended.code == 1
    assert ended.last_line.startswith(
        "qakhunt.schedule.runbook.job.JobFailed: qakhunt did not look"
    )
    assert "1 of 2 questions" in ended.last_line
    assert "WARNING: qakbot-post-compromise-commands profile=sentinel" in ended.output
    beat = json.loads(site.receiver.bodies[before])
    assert beat["status"] == "could not look everywhere"
    made_up = site.run("qakbot-post-compromise-commands", "sentinel,defender")
    assert made_up.code == 0, made_up.errors
    assert "owed=0" in made_up.output
    assert not any(name in ended.output + ended.errors for name in (DEVICE, ACCOUNT, SECRET))


def test_a_hundred_thousand_rows_fit_in_the_sandbox(site: Site) -> None:
    ended = site.run("every-ping", "second")
    print(ended.output, f"{ended.peak:.0f} MB")
    assert ended.code == 0, ended.errors
    assert "rows=100000" in ended.output
    assert ended.peak < 200
    assert len(ended.output.encode()) < MOST_OUTPUT
