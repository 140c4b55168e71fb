"""Hunts as rules, against the emulator over TLS with real tokens: the services' part and ours."""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml

from qakhunt.__main__ import run
from qakhunt.run.config import load_config
from qakhunt.testing.emulator.arm import CONTRIBUTOR, READER
from qakhunt.testing.emulator.detections import PATH, READ, WRITE
from qakhunt.testing.emulator.kusto import database_of
from qakhunt.testing.emulator.scenario import FaultRule
from qakhunt.testing.emulator.server import Emulator
from tests.emulator.support import (
    APP,
    GRAPH,
    guid,
    process_events,
    scenario_of,
    tenant_of,
    token,
    write_events,
)

ARM = "https://management.azure.com"
HUNT = "qakbot-post-compromise-commands"
ALL = ("ThreatHunting.Read.All", CONTRIBUTOR, WRITE)
READING = ("ThreatHunting.Read.All", READER, READ)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """Contoso may do everything, Fabrikam only reads, Northwind is served with faults."""
    records = [{**record, "ReportId": number} for number, record in enumerate(process_events(2, 2))]
    events = write_events(tmp_path_factory.mktemp("rules") / "DeviceProcessEvents.ndjson", records)
    unavailable = FaultRule(fault="unavailable", paths=("rules",), calls="3-")
    tenants = (
        tenant_of("contoso", events, roles=ALL),
        tenant_of("fabrikam", events, roles=READING),
        tenant_of("northwind", events, roles=ALL, faults=(unavailable,)),
        tenant_of("tailspin", events, roles=("ThreatHunting.Read.All",)),
        tenant_of("tailwind", events, roles=ALL),
    )
    with Emulator(scenario_of(*tenants), tls=True) as emulator:
        yield emulator


@pytest.fixture
def config(served: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A profile that reads and one that writes, of each tenant and service."""
    monkeypatch.setenv("RULES_SECRET", "made-up")
    text = []
    for tenant in served.loaded.scenario.tenants:
        workspace = tenant.workspaces[0]
        resource = resource_of(database_of(tenant, workspace))
        for backend, short in (("log-analytics", "sentinel"), ("defender", "defender")):
            for write in (False, True):
                name = f"{tenant.name}-{short}{'-writes' if write else ''}"
                text.append(f"""
[profiles.{name}]
backend = "{backend}"
tenant = "{tenant.id}"
workspaces = ["{workspace.id}"]
workspace_resources = {{ "{workspace.id}" = "{resource}" }}
write = {str(write).lower()}
log_analytics_endpoint = "{served.url}"
graph_endpoint = "{served.url}"
arm_endpoint = "{served.url}"
authority = "{served.url}"
ca_file = "{served.ca}"
sign_in = {{ kind = "client-secret", client_id = "{APP}", client_secret_env = "RULES_SECRET" }}
""")
    path = tmp_path / "config.toml"
    path.write_text("".join(text))
    return path


def test_config_init_lists_the_workspaces_of_a_subscription(
    served: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for name, value in {
        "IDENTITY_ENDPOINT": f"{served.url}/msi/token", "IDENTITY_HEADER": "header",
        "QAKHUNT_ARM_ENDPOINT": served.url, "QAKHUNT_AUTHORITY": served.url,
        "QAKHUNT_CA_FILE": str(served.ca),
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    made = tmp_path / "made.toml"
    contoso = served.loaded.scenario.tenants[0]
    options = ["config", "init", "--out", str(made), "--tenant", contoso.id, "--profile", "c",
               "--sign-in", "managed-identity", "--no-doctor", "--subscription", "s-1"]  # fmt: skip
    assert run([*options, "--workspace", contoso.workspaces[0].id]) == 2
    assert run(options) == 0
    profile = load_config(made).profiles["c"]
    assert profile.workspaces == [contoso.workspaces[0].id]
    assert f"workspace contoso-{contoso.workspaces[0].id}: " in capsys.readouterr().err

    def asked(*answers: str) -> str:
        made.unlink()
        monkeypatch.setattr("sys.stdin", Person("".join(f"{one}\n" for one in answers)))
        chosen = [one for one in options if one not in ("--subscription", "s-1")]
        assert run([*chosen, "--backend", "log-analytics"]) == 0
        assert load_config(made).profiles["c"].workspaces == [contoso.workspaces[0].id]
        return capsys.readouterr().err

    # A person who names no workspace is asked for the subscription, and for workspaces again
    # where it cannot be listed.
    assert f"workspace contoso-{contoso.workspaces[0].id}: " in asked("", "s-1")
    monkeypatch.setenv("QAKHUNT_ARM_ENDPOINT", "http://127.0.0.1:9")
    assert "warning: the workspaces cannot be listed: " in asked(
        "", "s-1", f" {contoso.workspaces[0].id} ,"
    )


class Person(StringIO):
    """Answers typed on a terminal."""

    def isatty(self) -> bool:
        return True


def resource_of(name: str) -> str:
    return (
        f"/subscriptions/{guid('subscription')}/resourceGroups/soc"
        f"/providers/Microsoft.OperationalInsights/workspaces/{name}"
    )


def ask(
    served: Emulator, method: str, path: str, body: Any = None, *, tenant: str = "contoso",
    audience: str = ARM, roles: tuple[str, ...] = ALL,
) -> tuple[int, Any]:  # fmt: skip
    """A request with a token of the emulator's Entra ID."""
    import requests

    bearer = token(served, guid("tenant", tenant), audience, roles=list(roles))
    answer = requests.request(
        method, served.url + path, json=body, verify=str(served.ca), timeout=30,
        headers={"Authorization": f"Bearer {bearer}"},
    )  # fmt: skip
    return answer.status_code, answer.json() if answer.content else None


def rules_path(served: Emulator, identifier: str = "", tenant: str = "contoso") -> str:
    found = next(one for one in served.loaded.scenario.tenants if one.name == tenant)
    base = resource_of(database_of(found, found.workspaces[0]))
    tail = f"/{identifier}" if identifier else ""
    return f"{base}/providers/Microsoft.SecurityInsights/alertRules{tail}?api-version=2024-09-01"


def deploy(config: Path, profile: str, *more: str) -> int:
    return run(["deploy", HUNT, "--profile", profile, "--config", str(config), *more])


@pytest.mark.parametrize(
    ("service", "form", "options"),
    [
        ("sentinel", "sentinel-rule", ["--window", "14d"]),
        ("sentinel", "sentinel-hunt", []),
        ("defender", "defender-detection", ["--window", "2d", "--add-columns"]),
    ],
)
def test_an_exported_deployed_and_imported_hunt_has_the_same_query(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    service: str, form: str, options: list[str],
) -> None:  # fmt: skip
    exported = tmp_path / "rule.json"
    assert run(["hunts", "export", HUNT, "--to", form, "--out", str(exported), *options]) == 0
    document = json.loads(exported.read_text())
    if service == "sentinel":
        query = document["resources"][0]["properties"]["query"]
    else:
        query = document["queryCondition"]["queryText"]

    assert deploy(config, f"contoso-{service}-writes", "--to", form, *options) == 0
    assert capsys.readouterr().out.startswith("created: ")
    assert deploy(config, f"contoso-{service}-writes", "--to", form, *options) == 0
    assert capsys.readouterr().out.startswith("unchanged: ")

    folder = tmp_path / "imported"
    arguments = ["--profile", f"contoso-{service}", "--config", str(config), "--out", str(folder)]
    assert run(["hunts", "import", "--from", service, *arguments]) == 0
    hunts = [yaml.safe_load(path.read_text()) for path in folder.iterdir()]
    assert query in [hunt["query"] for hunt in hunts]
    assert all(hunt["relevantTechniques"][0] == "T1016" for hunt in hunts)

    # What was imported is still the same rule, in all that a hunt says of one.
    (path,) = (p for p in folder.iterdir() if yaml.safe_load(p.read_text())["query"] == query)
    capsys.readouterr()
    arguments = ["--profile", f"contoso-{service}-writes", "--config", str(config), "--dry-run"]
    assert run(["deploy", str(path), "--to", form, *arguments]) == 0
    assert capsys.readouterr().out.startswith("unchanged: ")


def test_a_query_too_long_for_a_rule_is_a_function_that_the_rule_calls(
    served: Emulator, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    burst = ("qakbot-recon-burst", "--window", "7d")
    writes = ("--profile", "tailwind-sentinel-writes", "--config", str(config))
    assert run(["deploy", *burst, *writes]) == 2
    assert "hint: --as-function makes" in capsys.readouterr().err

    assert run(["deploy", *burst, "--as-function", *writes]) == 0
    created = capsys.readouterr().out.splitlines()
    assert [line.partition(" [")[0] for line in created] == [
        "created: qakhunt_s0650_qakbot_burst_of_discovery_commands",
        "created: S0650 - Qakbot: burst of discovery commands",
    ]
    assert run(["deploy", *burst, "--as-function", *writes]) == 0
    again = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in again] == ["unchanged", "unchanged"]

    # What changes in the query changes the function and leaves the rule that calls it.
    changed = ("--set", "MinimumFamilies=5", "--as-function", *writes)
    assert run(["deploy", *burst, *changed, "--diff"]) == 10
    assert "+  let MinimumFamilies = 5;" in capsys.readouterr().out
    assert run(["deploy", *burst, *changed]) == 0
    action, *lines, last = capsys.readouterr().out.splitlines()
    assert (action[:8], last[:10]) == ("updated:", "unchanged:")
    assert any("+let MinimumFamilies = 5;" in line for line in lines)

    # Imported, it is one query again, which is the same function and rule.
    folder = tmp_path / "imported"
    reads = ("--profile", "tailwind-sentinel", "--config", str(config))
    assert run(["hunts", "import", "--from", "sentinel", *reads, "--out", str(folder)]) == 0
    assert "warning" not in capsys.readouterr().err
    (path,) = folder.iterdir()
    rule = yaml.safe_load(path.read_text())
    assert "let MinimumFamilies = 5;" in rule["query"]
    assert "let StartTime = ago(7d);" in rule["query"]
    assert run(["deploy", str(path), "--as-function", *writes, "--dry-run"]) == 0
    again = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in again] == ["unchanged", "unchanged"]

    # A rule that does more than call it cannot be read without the workspace.
    place = rules_path(served, "own", "tailwind")
    own = {"query": created[0].split()[1] + "(ago(1d), now()) | take 1", "displayName": "own"}
    body = {**GOOD_RULE, "properties": {**GOOD_RULE["properties"], **own}}  # type: ignore[dict-item]
    assert ask(served, "PUT", place, body, tenant="tailwind")[0] == 201
    arguments = ["--out", str(tmp_path / "second"), *reads]
    assert run(["hunts", "import", "--from", "sentinel", *arguments]) == 0
    assert "warning: own.yaml calls qakhunt_s0650" in capsys.readouterr().err


def test_the_emulator_refuses_what_a_function_cannot_be(served: Emulator) -> None:
    base = rules_path(served).partition("/providers/Microsoft.SecurityInsights")[0]
    path = f"{base}/savedSearches/f?api-version=2025-07-01"
    properties = {
        "category": "c", "displayName": "d", "functionParameters": "a:datetime",
        "query": "DeviceProcessEvents\n| where TimeGenerated > a",
    }  # fmt: skip
    for alias in ("_own", "two words"):
        body = {"properties": {**properties, "functionAlias": alias}}
        assert ask(served, "PUT", path, body)[0] == 400
    broken = {**properties, "query": "DeviceInfo | where NoColumn == 1"}
    for name, function in (("own", properties), ("broken", broken)):
        body = {"properties": {**function, "functionAlias": name}}
        assert ask(served, "PUT", path.replace("/f?", f"/{name}?"), body)[0] == 201
    for query, words in (
        ("broken(ago(1d))", "'NoColumn'"),
        ("own_other(ago(1d))", "own_other"),
        ("own(ago(1d))\n| where Nothing == 1", "'where' operator: Failed to resolve"),
    ):
        rule = {**GOOD_RULE, "properties": {**GOOD_RULE["properties"], "query": query}}  # type: ignore[dict-item]
        status, answer = ask(served, "PUT", rules_path(served, "calls"), rule)
        assert status == 400
        assert words in answer["error"]["message"]
    for name in ("own", "broken"):
        assert ask(served, "DELETE", path.replace("/f?", f"/{name}?"))[0] == 200


def test_a_change_is_said_and_diff_and_dry_run_write_nothing(
    served: Emulator, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    deploy(config, "contoso-sentinel-writes", "--window", "14d")
    changed = ("--window", "7d", "--threshold", "4")
    capsys.readouterr()
    assert deploy(config, "contoso-sentinel-writes", *changed, "--diff") == 10
    shown = capsys.readouterr().out
    assert "-  let Threshold = 3;" in shown
    assert "+queryPeriod: P7D" in shown
    assert deploy(config, "contoso-sentinel-writes", *changed, "--dry-run") == 0
    assert "would be updated" in capsys.readouterr().out
    assert deploy(config, "contoso-sentinel-writes", "--window", "14d", "--diff") == 0
    assert capsys.readouterr().out == "no difference\n"

    assert deploy(config, "contoso-sentinel-writes", *changed) == 0
    out = capsys.readouterr().out
    assert "queryPeriod: P14D -> P7D" in out
    assert "+let Threshold = 4;" in out
    ((_, listed),) = [ask(served, "GET", rules_path(served))]
    assert len(listed["value"]) == 1


def test_what_others_set_stays_and_a_rule_that_is_off_stays_off(
    served: Emulator, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    deploy(config, "contoso-sentinel-writes", "--window", "14d")
    _, listed = ask(served, "GET", rules_path(served))
    rule = listed["value"][0]
    rule["properties"] |= {"enabled": False, "incidentConfiguration": {"createIncident": True}}
    status, _ = ask(served, "PUT", rules_path(served, rule["name"]), rule)
    assert status == 200
    capsys.readouterr()
    assert deploy(config, "contoso-sentinel-writes", "--window", "6d") == 0
    assert "it is off there and stays so" in capsys.readouterr().out
    _, after = ask(served, "GET", rules_path(served, rule["name"]))
    assert after["properties"]["enabled"] is False
    assert after["properties"]["incidentConfiguration"] == {"createIncident": True}
    assert after["properties"]["queryPeriod"] == "P6D"


@pytest.mark.parametrize("service", ["sentinel", "defender"])
def test_a_profile_that_reads_does_not_write_and_one_that_writes_does_not_hunt(
    served: Emulator, config: Path, capsys: pytest.CaptureFixture[str], service: str
) -> None:
    before = len(served.calls)
    assert deploy(config, f"contoso-{service}", "--window", "1d", "--add-columns") == 2
    assert f"the profile contoso-{service} only reads" in capsys.readouterr().err
    arguments = ["--profile", f"contoso-{service}-writes", "--config", str(config)]
    assert run(["run", HUNT, *arguments]) == 2
    assert "it runs no hunts" in capsys.readouterr().err
    assert len(served.calls) == before


def test_doctor_reads_the_rules_of_a_profile_that_writes(
    served: Emulator, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    doctor = ["doctor", "--config", str(config), "--profile"]
    assert run([*doctor, "fabrikam-sentinel-writes"]) == 0
    assert "sentinel-rule: workspace fabrikam-" in capsys.readouterr().out
    assert run([*doctor, "fabrikam-defender-writes"]) == 0
    assert "defender-detection: tenant" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("service", "words"),
    [
        ("sentinel", "does not have authorization to perform action"),
        ("defender", "does not have any of the required permissions"),
    ],
)
def test_a_403_is_said_in_the_services_words_and_nothing_is_written(
    served: Emulator, config: Path, capsys: pytest.CaptureFixture[str], service: str, words: str
) -> None:
    profile = f"fabrikam-{service}-writes"
    assert deploy(config, profile, "--window", "1d", "--add-columns") == 3
    error = capsys.readouterr().err
    assert words in error
    assert "nothing was changed before" in error
    assert "hint: reading needs" in error
    roles = READING
    status, found = ask(served, "GET", rules_path(served, tenant="fabrikam"),
                        tenant="fabrikam", roles=roles)  # fmt: skip
    assert (status, found) == (200, {"value": []})
    status, found = ask(served, "GET", PATH, tenant="fabrikam", audience=GRAPH, roles=roles)
    assert (status, found) == (200, {"value": []})


@pytest.mark.parametrize("service", ["sentinel", "defender"])
def test_rules_that_may_not_be_read_are_not_written(
    config: Path, capsys: pytest.CaptureFixture[str], service: str
) -> None:
    assert deploy(config, f"tailspin-{service}-writes", "--window", "1d", "--add-columns") == 3
    error = capsys.readouterr().err
    assert "no permission" in error
    assert error.splitlines()[0].endswith("; nothing was changed")


def test_two_hunts_of_one_id_are_not_deployed(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = []
    for name in ("first", "second"):
        paths.append(tmp_path / f"{name}.yaml")
        paths[-1].write_text(
            f"id: same\nname: {name}\nqueryPeriod: 1d\nquery: DeviceProcessEvents | take 1\n"
        )
    arguments = ["--profile", "contoso-sentinel-writes", "--config", str(config)]
    assert run(["deploy", *map(str, paths), *arguments]) == 2
    assert "'first' and 'second' have one id" in capsys.readouterr().err


def test_a_rule_changed_meanwhile_is_a_conflict(
    served: Emulator, config: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from qakhunt.backends import sentinel_rules

    deploy(config, "contoso-sentinel-writes", "--window", "14d")
    _, listed = ask(served, "GET", rules_path(served))
    rule = listed["value"][0]
    read = sentinel_rules.SentinelStore.get

    def read_then_changed(store: Any, identifier: str) -> Any:
        found = read(store, identifier)
        ask(served, "PUT", rules_path(served, rule["name"]), found)
        return found

    monkeypatch.setattr(sentinel_rules.SentinelStore, "get", read_then_changed)
    assert deploy(config, "contoso-sentinel-writes", "--window", "5d") == 3
    error = capsys.readouterr().err
    assert "conflict: Newer instance of" in error
    assert "hint: someone else changed it" in error
    _, after = ask(served, "GET", rules_path(served, rule["name"]))
    assert after["properties"]["queryPeriod"] == rule["properties"]["queryPeriod"]


def test_a_query_that_the_service_does_not_take_is_rejected(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hunt = tmp_path / "broken.yaml"
    hunt.write_text("name: b\nqueryPeriod: 1d\nquery: DeviceProcessEvents | where NoColumn == 1\n")
    arguments = ["--profile", "contoso-sentinel-writes", "--config", str(config)]
    assert run(["deploy", str(hunt), *arguments]) == 5
    error = capsys.readouterr().err
    assert "NoColumn" in error
    assert "nothing was changed before" in error


def test_a_lost_write_is_not_sent_again_and_its_outcome_not_guessed(
    served: Emulator, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def calls() -> int:
        tenant = guid("tenant", "northwind")
        return sum(call.path == "rules" and call.tenant == tenant for call in served.calls)

    # The rule and the list are read; the third call is the write, which the fault meets.
    assert deploy(config, "northwind-sentinel-writes", "--window", "1d") == 3
    error = capsys.readouterr().err
    assert "the service failed with HTTP 503" in error
    assert "whether it was written is not known" in error
    assert calls() == 3


def test_detections_of_another_form_are_left_alone(
    served: Emulator, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    older = {
        "id": "35079", "displayName": "old", "isEnabled": True, "etag": "x",
        "queryCondition": {"queryText": "DeviceInfo"}, "schedule": {"period": "24H"},
    }  # fmt: skip
    kept = served.emulation.detections.kept
    kept.put(guid("tenant", "northwind"), "35079", older)
    served.emulation.script.tenants[guid("tenant", "northwind")] = next(
        one for one in served.loaded.without_faults().scenario.tenants if one.name == "northwind"
    )
    options = ("--window", "1d", "--add-columns")
    assert deploy(config, "northwind-defender-writes", *options) == 3
    assert "in a form that is not written here" in capsys.readouterr().err
    assert len(kept.all(guid("tenant", "northwind"))) == 1


GOOD_RULE = {
    "kind": "Scheduled",
    "properties": {
        "displayName": "r", "enabled": True, "query": "DeviceProcessEvents",
        "queryFrequency": "PT1H", "queryPeriod": "P1D", "severity": "High",
        "suppressionDuration": "PT5H", "suppressionEnabled": False,
        "triggerOperator": "GreaterThan", "triggerThreshold": 0,
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"queryPeriod": "P15D"}, "between 5 minutes and 14 days"),
        ({"queryFrequency": "PT1M"}, "between 5 minutes and 14 days"),
        ({"queryFrequency": "P2D"}, "must not be longer than queryPeriod"),
        ({"severity": "high"}, "is no severity"),
        ({"triggerOperator": "gt"}, "is no triggerOperator"),
        ({"query": "DeviceProcessEvents | where"}, "Failed to run"),
        ({"query": "search 'x'"}, "can't contain 'search *'"),
        ({"query": "print 1 //" + "x" * 10_000}, "more than 10000"),
        ({"suppressionDuration": None}, "'suppressionDuration' is missing"),
    ],
)
def test_the_emulator_refuses_what_a_scheduled_rule_cannot_be(
    served: Emulator, change: dict[str, Any], words: str
) -> None:
    body = {**GOOD_RULE, "properties": {**GOOD_RULE["properties"], **change}}  # type: ignore[dict-item]
    status, answer = ask(served, "PUT", rules_path(served, "refused"), body)
    assert status == 400
    assert words in answer["error"]["message"]
    assert ask(served, "GET", rules_path(served, "refused"))[0] == 404


def test_the_emulator_takes_returns_updates_and_removes_a_rule(served: Emulator) -> None:
    path = rules_path(served, "taken")
    status, made = ask(served, "PUT", path, GOOD_RULE)
    assert (status, made["name"], made["properties"]["query"]) == (
        201, "taken", "DeviceProcessEvents",
    )  # fmt: skip
    assert ask(served, "PUT", path, GOOD_RULE)[0] == 409
    status, changed = ask(served, "PUT", path, {**GOOD_RULE, "etag": made["etag"]})
    assert status == 200
    assert changed["etag"] != made["etag"]
    assert ask(served, "DELETE", path)[0] == 200
    assert ask(served, "DELETE", path)[0] == 204
    assert ask(served, "PUT", path.partition("?")[0], GOOD_RULE)[0] == 400
    assert ask(served, "PUT", path, GOOD_RULE, audience=GRAPH)[0] == 401
    assert ask(served, "GET", path, tenant="fabrikam")[0] == 403
    elsewhere = path.replace(guid("workspace", "contoso"), guid("workspace", "nobody"))
    assert ask(served, "GET", elsewhere)[0] == 404


def detection(identifier: str, **change: Any) -> dict[str, Any]:
    return {
        "id": identifier, "displayName": "d", "status": "enabled",
        "queryCondition": {
            "queryText": "DeviceProcessEvents | project Timestamp, DeviceId, ReportId"
        },
        "schedule": {"frequency": "PT1H"},
        "detectionAction": {
            "alertTemplate": {
                "title": "t", "severity": "high",
                "entityMappings": {"hosts": [{"deviceIdColumn": "DeviceId"}]},
            }
        },
        **change,
    }  # fmt: skip


def test_the_emulator_takes_returns_and_refuses_custom_detections(served: Emulator) -> None:
    def graph(method: str, path: str, body: Any = None) -> tuple[int, Any]:
        return ask(served, method, path, body, audience=GRAPH)

    assert graph("POST", PATH, detection("one"))[0] == 201
    assert graph("POST", PATH, detection("one"))[0] == 409
    for change, words in (
        ({"queryCondition": {"queryText": "DeviceProcessEvents | project Timestamp, DeviceId"}},
         "no column ReportId"),
        ({"isEnabled": True}, "'isEnabled' does not exist"),
        ({"schedule": {"frequency": "PT2H"}}, "is no frequency"),
        ({"schedule": {"period": "24H"}}, "'period' does not exist"),
        ({"status": "on"}, "is no status"),
    ):  # fmt: skip
        status, answer = graph("POST", PATH, detection("two", **change))
        assert (status, words in answer["error"]["message"]) == (400, True), answer
    status, changed = graph("PATCH", f"{PATH}/one", {"schedule": {"frequency": "P1D"}})
    assert (status, changed["schedule"], changed["displayName"]) == (200, {"frequency": "P1D"}, "d")
    graph("POST", PATH, detection("three"))
    listed, following = [], f"{PATH}?$top=1"
    while following:
        _, page = graph("GET", following)
        listed += [one["id"] for one in page["value"]]
        assert len(page["value"]) == 1
        following = page.get("@odata.nextLink", "").removeprefix(served.url)
    assert listed[-2:] == ["one", "three"]
    assert graph("DELETE", f"{PATH}/one")[0] == 204
    assert graph("DELETE", f"{PATH}/three")[0] == 204
    assert graph("GET", f"{PATH}/one")[0] == 404
