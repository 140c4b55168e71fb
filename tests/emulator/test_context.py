"""What surrounds hits, asked of the services: the same as from the embedded engine."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from qakhunt.run.sample import sample_events
from tests.emulator.support import APP, SECRET, emulated, guid
from tests.support.cli import Finished, qakhunt
from tests.support.triage import sample_result

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOW = "2026-11-05T09:00:00Z"
TENANT, WORKSPACE = guid("tenant", "well"), guid("workspace", "well")

RESOURCE = (
    "/subscriptions/s/resourceGroups/r/providers/Microsoft.OperationalInsights/workspaces/soc"
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The sample's tables behind both services, without the alerts."""
    folder: Path = tmp_path_factory.mktemp("context")
    events = [path for path in sample_events() if "AlertEvidence" not in path]
    (folder / "scenario.yaml").write_text(
        f"now: {NOW}\napps: [{{client_id: {APP}, secret: {SECRET}}}]\ntenants:\n"
        f"  - id: {TENANT}\n    events: {json.dumps(events)}\n    workspaces: [{{id: {WORKSPACE}}}]\n"
    )
    with emulated(folder, ["well"]):
        with (folder / "config.toml").open("a", encoding="utf-8") as config:
            for name in ("well-log-analytics", "well-defender"):
                config.write(f"[profiles.{name}.workspace_resources]\n{WORKSPACE} = {RESOURCE!r}\n")
        yield folder


def ask(home: Path, *arguments: str) -> Finished:
    return qakhunt(*arguments, "--config", str(home / "config.toml"), env={"PLANTED": SECRET})


def surroundings(document: dict[str, Any], number: int = 0) -> dict[str, Any]:
    held: dict[str, Any] = document["context"]["hits"][number]
    return held


@pytest.mark.parametrize("backend", ["log-analytics", "defender"])
def test_a_service_tells_what_the_engine_tells(home: Path, backend: str) -> None:
    run = ("run", "--profile", f"well-{backend}", "--now", NOW, "--window", "2026-10-07/2026-11-01")
    done = ask(home, *run, "--context", "30m", "--json", "-q", "--set", "Threshold=4")
    document = json.loads(done.out)
    assert document["verdict"] == "hits"
    assert document["clouds"] == {
        f"well-{backend}": {
            "cloud": "public", "log_analytics": "public", "workspace_resources": {WORKSPACE: RESOURCE},
            "cluster": None, "database": None,
        }
    }  # fmt: skip
    held, local = surroundings(document), sample_result().context
    assert local is not None
    expected = {answer.table: answer.found for answer in local.hits[0].tables}
    found = {table["table"]: (table["status"], table["found"]) for table in held["tables"]}
    assert found.pop("AlertEvidence")[0] == "uncovered"
    del expected["AlertEvidence"]
    assert found == {table: ("complete", number) for table, number in expected.items()}
    assert held["assessment"]["kind"] == "consistent_with_qakbot"
    assert [record["FileName"] for record in held["ancestors"]] == ["explorer.exe"]
    asked = [line for line in document["ledger"] if line["purpose"] == "context"]
    assert {line["tenant"] for line in asked} == {TENANT}
    assert all(line["request_ids"] for line in asked)


def test_the_profile_says_where_the_workspace_is(home: Path) -> None:
    run = (
        "run",
        "--profile",
        "well-log-analytics",
        "--now",
        NOW,
        "--window",
        "2026-10-07/2026-11-01",
    )
    saved, page = home / "linked.json", home / "linked.html"
    saved.write_text(ask(home, *run, "--json", "-q").out, encoding="utf-8")
    assert qakhunt("report", str(saved), "--format", "html", "--out", str(page)).code == 0
    text = page.read_text(encoding="utf-8")
    assert f"resourceId/{quote(RESOURCE, safe='')}/" in text
    assert f"https://portal.azure.com/#@{TENANT}/" in text


def test_a_saved_result_is_asked_about_again(home: Path) -> None:
    saved = home / "saved.json"
    run = ("run", "--profile", "well-defender", "--now", NOW, "--window", "2026-10-07/2026-11-01")
    saved.write_text(ask(home, *run, "--json", "-q").out, encoding="utf-8")
    bare = qakhunt("triage", str(saved))
    assert "--context 30m asks the profiles again" in bare.err
    done = ask(home, "triage", str(saved), "--context", "30m", "--hit", "1")
    assert done.code == 0, done.err
    assert "wermgr.exe (9204)" in done.out
    assert "| where Timestamp >= datetime(" in done.out
