"""Hunts as rules: living time, what the services would refuse, and the way back."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from qakhunt.__main__ import run
from qakhunt.backends.rule_store import RestClient, differences
from qakhunt.backends.services import service_named
from qakhunt.backends.transport import Outcome, Reply
from qakhunt.core.errors import ConfigError, HuntError, QakhuntError, UnansweredError
from qakhunt.hunts.catalog import Catalog
from qakhunt.hunts.loading import load_hunt
from qakhunt.hunts.model import Hunt
from qakhunt.hunts.rule_documents import (
    alert_rule,
    arm_template,
    file_name,
    hunt_of_alert_rule,
    hunt_of_detection,
    hunt_of_saved_search,
    sentinel_yaml,
    yaml_text,
)
from qakhunt.hunts.rule_functions import CATEGORY, Inlined, inlined
from qakhunt.hunts.rules import (
    MissingColumnsError,
    RuleOptions,
    defender_detection,
    rule_id,
    sentinel_rule,
)
from qakhunt.kql.parser import parse
from qakhunt.kql.result_columns import result_columns
from qakhunt.run.config import parse_config

NAME = "qakbot-post-compromise-commands"
INSTANT = re.compile(r"datetime\(|\d{4}-\d\d-\d\dT")


def built_in(name: str = NAME) -> Hunt:
    return Catalog().find(name)[0]


def hunt_file(folder: Path, query: str, **keys: Any) -> Hunt:
    path = folder / "own.yaml"
    path.write_text(yaml_text({"name": "Own", "query": query, **keys}))
    return load_hunt(path)


@pytest.mark.parametrize("hunt", [h for h in Catalog().all() if "qakbot" in h.notes.sets])
def test_no_rule_of_a_built_in_hunt_holds_an_instant(hunt: Hunt) -> None:
    options = RuleOptions(window="7d", add_columns=True)
    for make in (sentinel_rule, defender_detection):
        if hunt.name == "qakbot-recon-burst":
            with pytest.raises(HuntError, match="a rule takes 10,000"):
                make(hunt, options)
            called = sentinel_rule(hunt, RuleOptions(window="7d", as_function=True))
            assert called.function is not None
            assert called.query == f"{called.function.name}(ago(7d), now())"
            assert not INSTANT.search(called.function.query.replace("to typeof(datetime)", ""))
            assert "let StartTime = QakhuntStart;" in called.function.query
            continue
        if hunt.name == "qakbot-recon-injected-parent" and make is defender_detection:
            with pytest.raises(HuntError, match="add arg_max|Timestamp, ReportId missing"):
                make(hunt, options)
            continue
        rule = make(hunt, options)
        assert not INSTANT.search(rule.query)
        assert "= ago(7d);" in rule.query
        assert "= now();" in rule.query


def test_a_function_and_its_rule_are_one_template_or_two_files(tmp_path: Path) -> None:
    options = ["--to", "sentinel-rule", "--window", "7d", "--as-function"]
    arm, text = tmp_path / "rule.json", tmp_path / "rule.yaml"
    for path in (arm, text):
        assert run(["hunts", "export", "qakbot-recon-burst", *options, "--out", str(path)]) == 0
    function, rule = json.loads(arm.read_text())["resources"]
    assert function["type"].endswith("/savedSearches")
    assert function["properties"]["functionParameters"] == (
        "QakhuntStart:datetime, QakhuntEnd:datetime"
    )
    name = function["properties"]["functionAlias"]
    assert rule["properties"]["query"] == f"{name}(ago(7d), now())"
    identifier = function["name"].rpartition("/")[2].removesuffix("')]")
    assert rule["dependsOn"] == [
        "[resourceId('Microsoft.OperationalInsights/workspaces/savedSearches', "
        f"parameters('workspace'), '{identifier}')]"
    ]
    first, second = yaml.safe_load_all(text.read_text())
    assert first["FunctionQuery"] == function["properties"]["query"]
    assert second["query"] == rule["properties"]["query"]
    assert text.read_text().startswith("# A function of the workspace: ")


def test_a_function_of_a_hunt_without_a_window_has_no_parameters(tmp_path: Path) -> None:
    hunt = hunt_file(tmp_path, "DeviceInfo | where TimeGenerated > ago(1h)", queryPeriod="1d")
    rule = sentinel_rule(hunt, RuleOptions(as_function=True))
    assert (rule.query, rule.function and rule.function.parameters) == ("qakhunt_own()", "")
    assert "functionParameters" not in arm_template(rule, scheduled=True)


def test_defender_keeps_no_functions(capsys: pytest.CaptureFixture[str]) -> None:
    export = ["hunts", "export", "qakbot-recon-burst", "--to", "defender-detection"]
    assert run(export) == 2
    assert "Graph has no functions" in capsys.readouterr().err
    assert run([*export, "--as-function"]) == 2
    assert "Graph has no functions that a custom detection could call" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("query", "function"),
    [
        ("f(ago(1d), now()) | take 1", {}),
        ("f(ago(1d))", {}),
        ("g(ago(1d), now())", {}),
        ("f(ago(1d), now())", {"category": "another's"}),
        ("f(ago(1d), now())", {"query": "let A = QakhuntStart; T | where Time > A"}),
    ],
)
def test_only_the_call_of_an_own_function_is_put_in_its_place(
    query: str, function: dict[str, Any]
) -> None:
    text = "let A = QakhuntStart;\nlet B = QakhuntEnd;\nT | where Time between (A .. B)"
    own = {"category": CATEGORY, "functionParameters": "x", "query": text}
    assert inlined("f(ago(1d), now())", {"f": own}) == Inlined(
        text.replace("QakhuntStart", "ago(1d)").replace("QakhuntEnd", "now()"), ("A", "B")
    )
    assert inlined(query, {"f": {**own, **function}}) is None


def test_the_parameters_of_the_run_stand_in_the_rule() -> None:
    rule = sentinel_rule(built_in(), RuleOptions(window="1d", parameters={"Threshold": 5}))
    assert "let Threshold = 5; // Adjust" in rule.query


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "looks back 14 days at most, this hunt 30d"),
        ({"window": "15d"}, "looks back 14 days at most"),
        ({"window": "2026-10-01/2026-11-01"}, "a length of time from now"),
        ({"window": "published"}, "a length of time from now"),
        ({"window": "1m"}, "looks back 5 minutes at least"),
        ({"window": "1h", "frequency": "2h"}, "is longer than the window"),
        ({"window": "1h", "frequency": "often"}, "not a length of time"),
        ({"window": "1h", "frequency": "1m"}, "runs every 5 minutes to 14 days"),
        ({"window": "1d", "parameters": {"QakBotCommands": ["x" * 9999]}}, "takes 10,000"),
    ],
)
def test_what_sentinel_would_refuse_is_refused_with_the_reason(
    options: dict[str, Any], words: str
) -> None:
    with pytest.raises(QakhuntError, match=re.escape(words)):
        sentinel_rule(built_in(), RuleOptions(**options))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"window": "31d"}, "looks back 30d, the window is 31d"),
        ({"window": "2d", "frequency": "1h"}, "runs every 1h looks back 4h"),
        ({"window": "1d", "frequency": "2h"}, "a custom detection runs every 1h, 3h, 12h, 1d"),
    ],
)
def test_what_defender_would_refuse_is_refused_with_the_reason(
    options: dict[str, Any], words: str
) -> None:
    with pytest.raises(QakhuntError, match=re.escape(words)):
        defender_detection(built_in(), RuleOptions(add_columns=True, **options))


def test_missing_columns_are_offered_and_added_only_where_accepted() -> None:
    with pytest.raises(MissingColumnsError, match="DeviceId, ReportId missing") as caught:
        defender_detection(built_in(), RuleOptions(window="1d"))
    offered = caught.value.query
    assert "arg_min(Timestamp, ReportId, DeviceId)" in offered
    rule = defender_detection(built_in(), RuleOptions(window="1d", add_columns=True))
    assert rule.query == offered
    found = result_columns(parse(rule.query), "defender")
    assert found is not None
    assert {"Timestamp", "DeviceId", "ReportId"} <= set(found)


@pytest.mark.parametrize(
    ("query", "becomes"),
    [
        ("T | summarize n = count() by DeviceId", "arg_max(Timestamp, ReportId), n = count()"),
        (
            "T | summarize Timestamp = max(TimeGenerated) by AccountName",
            "arg_max(Timestamp, ReportId, DeviceId) by",
        ),
        (
            "T | summarize n = count() by DeviceName | project DeviceName, n",
            "project DeviceName, n, Timestamp, DeviceId, ReportId",
        ),
        ("T | project DeviceName", "project DeviceName, Timestamp, DeviceId, ReportId"),
        ("T | summarize n = count() by bin(TimeGenerated, 1h)", None),
        ("T | summarize Timestamp = avg(TimeGenerated) by DeviceId", None),
        ("T | summarize n = count() by DeviceId | project-away DeviceId", None),
        ("T | project DeviceId, TimeGenerated | summarize n = count() by DeviceId", None),
    ],
)
def test_columns_are_added_where_one_record_has_them(
    tmp_path: Path, query: str, becomes: str | None
) -> None:
    hunt = hunt_file(tmp_path, query.replace("T ", "DeviceProcessEvents ", 1), queryPeriod="1d")
    if becomes is None:
        with pytest.raises(HuntError) as caught:
            defender_detection(hunt, RuleOptions(add_columns=True))
        assert not isinstance(caught.value, MissingColumnsError)
        return
    assert becomes in defender_detection(hunt, RuleOptions(add_columns=True)).query


def test_a_rule_fires_again_next_month_on_the_first_record(tmp_path: Path) -> None:
    pytest.importorskip("duckdb_kql", reason="the embedded engine needs Python 3.11")
    rule = defender_detection(
        built_in(), RuleOptions(window="7d", add_columns=True, parameters={"Threshold": 1})
    )
    hunt = tmp_path / "rule.kql"
    hunt.write_text(rule.query)
    lines = ((2, "arp -a"), (1, "net view"), (3, "route print"))
    events = tmp_path / "DeviceProcessEvents.ndjson"
    events.write_text("".join(
        json.dumps({
            "Timestamp": f"2026-{month}-14T09:0{number}:00Z", "DeviceName": "pc",
            "AccountName": "a", "DeviceId": "d1", "ReportId": 10 * month + number,
            "ProcessCommandLine": line,
        }) + "\n"
        for month in (10, 11)
        for number, line in lines
    ))  # fmt: skip
    for month in (10, 11):
        out = tmp_path / f"{month}.json"
        arguments = ["--events", str(events), "--dialect", "defender", "--out", str(out), "-q"]
        assert run(["run", str(hunt), *arguments, "--now", f"2026-{month}-15"]) in (0, 4)
        (hit,) = json.loads(out.read_text())["hits"]
        assert (hit["row"]["ReportId"], hit["row"]["DeviceId"]) == (10 * month + 1, "d1")
        assert hit["row"]["Timestamp"].startswith(f"2026-{month}-14T09:01")


@pytest.mark.parametrize(
    ("query", "columns"),
    [
        ("DeviceInfo | project A = DeviceId, OSPlatform | extend B = 1", ("A", "OSPlatform", "B")),
        ("let x = DeviceInfo | project DeviceId; x | count", ("Count",)),
        ("DeviceInfo | summarize count(), make_set(OSPlatform), arg_max(Timestamp, DeviceName) "
         "by DeviceId",
         ("DeviceId", "count_", "set_OSPlatform", "Timestamp", "DeviceName")),
        ("DeviceInfo | project DeviceId, X=1 | join kind=inner (DeviceEvents | project DeviceId, "
         "FileName) on DeviceId", ("DeviceId", "X", "FileName")),
        ("DeviceInfo | project-rename Id = DeviceId | project-keep Id", ("Id",)),
        ("MyTable_CL | project A", ("A",)),
        ("MyTable_CL", None),
        ("DeviceInfo | evaluate bag_unpack(x)", None),
        ("DeviceInfo | invoke f()", None),
    ],
)  # fmt: skip
def test_the_result_columns_that_a_query_tells(query: str, columns: tuple[str, ...] | None) -> None:
    assert result_columns(parse(query), "defender") == columns


def test_an_entity_of_a_missing_column_is_refused(tmp_path: Path) -> None:
    mapping = [{"entityType": "Host", "fieldMappings": [
        {"identifier": "HostName", "columnName": "Computer"}]}]  # fmt: skip
    hunt = hunt_file(
        tmp_path, "DeviceInfo | project DeviceId", queryPeriod="1d", entityMappings=mapping
    )
    with pytest.raises(HuntError, match="mapped from Computer, which the result does not have"):
        sentinel_rule(hunt, RuleOptions())


def test_what_a_rule_does_not_do_is_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    query = (
        "let Since = datetime(2026-10-01);\nDeviceProcessEvents\n"
        "| where TimeGenerated > Since and TimeGenerated > ago(60d)\n| take 1"
    )
    hunt = hunt_file(tmp_path, query, queryPeriod="1d", tactics=["Discovery", "Execution"],
                     relevantTechniques=["T1016"])  # fmt: skip
    assert run(["hunts", "export", hunt.path, "--to", "defender-detection"]) == 0
    warnings = capsys.readouterr().err.splitlines()
    assert (
        "warning: own: datetime(2026-10-01) is a fixed time: the rule does not move on from it"
        in warnings
    )
    assert any(
        "the query itself looks at" in line and "the rule sees 1d" in line for line in warnings
    )
    assert any("its techniques are left out" in line for line in warnings)


@pytest.mark.parametrize(
    "query",
    ["search 'x'", "search * | take 1", "union * | take 1", "DeviceInfo | union (search 'x')"],
)
def test_a_scheduled_rule_names_its_tables(tmp_path: Path, query: str) -> None:
    hunt = hunt_file(tmp_path, query, queryPeriod="1d")
    with pytest.raises(HuntError, match="takes no 'search") as caught:
        sentinel_rule(hunt, RuleOptions())
    assert caught.value.location is not None
    assert sentinel_rule(hunt, RuleOptions(), scheduled=False).query == query


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"severity": "high"}, "know no severity 'high'"),
        ({"tactics": ["Discovry"]}, "know no tactic 'Discovry'"),
        ({"relevantTechniques": ["1016"]}, "know no technique '1016'"),
        ({"entityMappings": [{"entityType": "Computer"}]}, "know no entity type 'Computer'"),
    ],
)
def test_words_that_the_services_do_not_know_are_refused(
    tmp_path: Path, keys: dict[str, Any], words: str
) -> None:
    hunt = hunt_file(tmp_path, "DeviceInfo | take 1", queryPeriod="1d", **keys)
    with pytest.raises(HuntError, match=words):
        sentinel_rule(hunt, RuleOptions())


def test_a_public_rule_keeps_what_its_file_says(tmp_path: Path) -> None:
    hunt = hunt_file(
        tmp_path, "SigninLogs | project UserId", queryFrequency="6h", queryPeriod="2d",
        triggerOperator="eq", triggerThreshold=7, customDetails={"User": "UserId"},
        eventGroupingSettings={"aggregationKind": "SingleAlert"},
    )  # fmt: skip
    rule = alert_rule(sentinel_rule(hunt, RuleOptions()))
    assert (rule["queryFrequency"], rule["queryPeriod"]) == ("PT6H", "P2D")
    assert (rule["triggerOperator"], rule["triggerThreshold"]) == ("Equal", 7)
    assert rule["customDetails"] == {"User": "UserId"}
    assert rule["eventGroupingSettings"] == {"aggregationKind": "SingleAlert"}
    again = tmp_path / "again.yaml"
    again.write_text(sentinel_yaml(sentinel_rule(hunt, RuleOptions()), scheduled=True))
    assert load_hunt(again).rule == hunt.rule
    broken = hunt_file(tmp_path, "SigninLogs | project UserId", customDetails={"User": "Nobody"},
                       queryPeriod="1d")  # fmt: skip
    with pytest.raises(HuntError, match="the custom detail User is of Nobody"):
        sentinel_rule(broken, RuleOptions())


def test_a_tactic_is_written_as_the_services_do(tmp_path: Path) -> None:
    hunt = hunt_file(
        tmp_path, "DeviceInfo", queryPeriod="1d",
        tactics=["Command and Control", "defense-evasion", "Discovery"],
    )  # fmt: skip
    rule = sentinel_rule(hunt, RuleOptions())
    assert rule.tactics == ("CommandAndControl", "DefenseEvasion", "Discovery")


def test_text_in_brackets_is_no_expression_of_the_template(tmp_path: Path) -> None:
    query = "['DeviceInfo'] | where x == dynamic([1])[0] and y in (z[1])\n| where a[0]"
    hunt = hunt_file(tmp_path, f"{query}[1]", queryPeriod="1d", description="[resourceId('x')]")
    template = json.loads(arm_template(sentinel_rule(hunt, RuleOptions()), scheduled=True))
    properties = template["resources"][0]["properties"]
    assert properties["description"] == "[[resourceId('x')]"
    assert properties["query"] == f"[{query}[1]"


def test_a_rule_has_the_hunts_own_id_else_one_of_its_name(tmp_path: Path) -> None:
    assert rule_id(built_in()) == "1c1f2bd2-6a52-4d0f-9a3e-8a7b2f5d0650"
    without = hunt_file(tmp_path, "DeviceInfo")
    assert rule_id(without) == rule_id(without)
    assert rule_id(without) != rule_id(hunt_file(tmp_path, "DeviceInfo", id="../up"))


def test_a_detection_in_its_older_form_is_read(tmp_path: Path) -> None:
    document = hunt_of_detection({
        "id": "35079", "displayName": "Some rule", "isEnabled": True,
        "queryCondition": {"queryText": "DeviceProcessEvents | take 1"},
        "schedule": {"period": "24H"},
        "detectionAction": {"alertTemplate": {
            "severity": "medium", "category": "Execution", "mitreTechniques": ["T1059"],
            "description": "d",
        }},
    })  # fmt: skip
    assert document is not None
    path = tmp_path / f"{file_name(document, ())}.yaml"
    path.write_text(yaml_text(document))
    hunt = load_hunt(path)
    assert (hunt.query, hunt.products, hunt.severity) == (
        "DeviceProcessEvents | take 1", ("defender",), "Medium",
    )  # fmt: skip
    assert (hunt.tactics, hunt.techniques) == (("Execution",), ("T1059",))


def test_a_hostile_rule_is_a_file_with_a_tame_name_and_the_same_query() -> None:
    query = "T\r\n| where x == '\t\x1b[2J' // \u202e \ud800 trailing \n"
    document = hunt_of_alert_rule({
        "name": "x", "kind": "Scheduled",
        "properties": {"displayName": "../../../etc/\x1b]0;x\x07 *rule*", "query": query},
    })  # fmt: skip
    assert document is not None
    assert file_name(document, ("etc-0-x-rule",)) == "etc-0-x-rule-2"
    text = yaml_text(document)
    assert yaml.safe_load(text)["query"] == query
    assert not {"\t", "\x1b", "\u202e"} & {*text}
    assert hunt_of_alert_rule({"name": "f", "kind": "Fusion", "properties": {}}) is None


@pytest.mark.parametrize("odd", [-1, "Discovery", {"a": 1}, [None], True])
def test_a_rule_with_odd_members_is_read_without_them(odd: Any) -> None:
    detection = {
        "id": 5, "queryCondition": {"queryText": "T"},
        "detectionAction": {"alertTemplate": {
            "tactics": odd, "entityMappings": {"hosts": odd}, "mitreTechniques": [],
        }},
    }  # fmt: skip
    tagged = {"id": 5, "properties": {"category": "Hunting Queries", "query": "T", "tags": odd}}
    properties = {"query": "T", "techniques": odd if odd != [None] else 0}
    rule = {"name": "x", "kind": "Scheduled", "properties": properties}
    for document in (
        hunt_of_detection(detection), hunt_of_saved_search(tagged), hunt_of_alert_rule(rule),
    ):  # fmt: skip
        assert document is not None
        assert document["query"] == "T"
        assert not document.keys() & {"tactics", "relevantTechniques", "entityMappings"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--to", "splunk"], "no form named 'splunk'"),
        (["--to", "defender-detection", "--format", "yaml"], "is not written as yaml"),
        (["--to", "sentinel-rule", "--set", "Nothing=1"], "no parameter named 'Nothing'"),
    ],
)
def test_an_export_that_cannot_be_is_one_clear_error(
    capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert run(["hunts", "export", NAME, *arguments]) == 2
    assert words in capsys.readouterr().err


def test_a_file_appears_whole_and_its_suffix_says_yaml(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "rule.yaml"
    export = ["hunts", "export", NAME, "--to", "sentinel-rule", "--window", "14d"]
    assert run([*export, "--out", str(out)]) == 0
    rule = load_hunt(out)
    assert rule.query == sentinel_rule(built_in(), RuleOptions(window="14d")).query
    assert yaml.safe_load(out.read_text())["kind"] == "Scheduled"
    assert run([*export, "--out", str(out)]) == 2
    assert "exists" in capsys.readouterr().err


def test_a_sigma_stub_says_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["hunts", "export", NAME, "--to", "sigma-stub"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("# A stub: it selects events.")
    rule = yaml.safe_load(text)
    assert "whoami /all" in rule["detection"]["selection"]["CommandLine"]
    assert "attack.t1069.001" in rule["tags"]


PROFILE = """
[profiles.r]
backend = "defender"
tenant = "11111111-1111-4111-8111-111111111111"
write = true
"""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (PROFILE, "write: a profile that writes names a sign-in of its own"),
        (PROFILE.replace('"defender"', '"kusto"') + "sign_in = 'azure-cli'", "kusto keeps no rules"),
        (PROFILE + "sign_in = 'azure-cli'\n[groups]\nall = ['r']", "which writes rules and runs no"),
        (PROFILE + "sign_in = 'none'", "none is for services on this machine alone"),
    ],
)  # fmt: skip
def test_a_profile_that_writes_is_checked(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_config(text, Path("c.toml"))


def test_a_profile_that_writes_is_none_of_all_profiles_and_cannot_be_local() -> None:
    text = PROFILE + "sign_in = 'azure-cli'\n"
    assert parse_config(text, Path("c.toml")).select(everything=True) == []
    with pytest.raises(ConfigError, match="write: a file found in the current folder"):
        parse_config(text, Path("qakhunt.toml"), local=True)


@pytest.mark.parametrize(
    ("clouds", "host"),
    [
        ("", "management.azure.com"),
        ("cloud = 'usgov'", "management.usgovcloudapi.net"),
        ("cloud = 'usgov'\nlog_analytics_cloud = 'public'", "management.azure.com"),
        ("cloud = 'china'", "management.chinacloudapi.cn"),
    ],
)
def test_the_tokens_of_sentinels_rules_are_for_the_clouds_resource_manager(
    clouds: str, host: str
) -> None:
    text = f"""
[profiles.r]
backend = "log-analytics"
tenant = "11111111-1111-4111-8111-111111111111"
workspaces = ["22222222-2222-4222-8222-222222222222"]
{clouds}
"""
    profile = parse_config(text, Path("c.toml")).profiles["r"]
    place = service_named("log-analytics").rule_service().place(profile)
    assert (place.endpoint, place.scope) == (f"https://{host}", f"https://{host}/.default")


def test_no_token_goes_to_a_resource_manager_that_nobody_trusts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(
        PROFILE.replace("defender", "log-analytics")
        + """
workspaces = ["22222222-2222-4222-8222-222222222222"]
arm_endpoint = "https://management.evil.example"
sign_in = "azure-cli"
"""
    )
    arguments = ["--profile", "r", "--config", str(config), "--window", "1d"]
    assert run(["deploy", NAME, *arguments]) == 2
    assert "management.evil.example is no host of this profile's cloud" in capsys.readouterr().err


class Pages:
    """A transport that answers with pages, and remembers what was asked."""

    endpoint = "https://management.azure.com"

    def __init__(self, *pages: object) -> None:
        self.pages, self.asked = list(pages), []  # type: ignore[var-annotated]

    def send(self, call: Any) -> Reply:
        self.asked.append(call.url)
        return Reply(Outcome.ANSWERED, 200, body=json.dumps(self.pages.pop(0)).encode())


@pytest.mark.parametrize(
    "link",
    [
        "https://evil.example/next",
        "https://management.azure.com.evil.example/next",
        "//evil.example",
    ],
)
def test_no_token_follows_a_list_to_another_host(link: str) -> None:
    pages = Pages({"value": [], "nextLink": link})
    client = RestClient(pages, "rules")  # type: ignore[arg-type]
    with pytest.raises(UnansweredError, match="goes on at another host"):
        list(client.pages("/x", "nextLink"))
    assert pages.asked == ["https://management.azure.com/x"]


@pytest.mark.parametrize(
    ("wanted", "there", "paths"),
    [
        ({"queryPeriod": "P1D"}, {"queryPeriod": "PT24H"}, []),
        ({"queryPeriod": "P1D"}, {"queryPeriod": "PT23H"}, ["queryPeriod"]),
        ({"query": "T\n"}, {"query": "T"}, []),
        ({"tactics": ["A", "B"]}, {"tactics": ["B", "A"], "more": 1}, []),
        ({"a": {"b": [{"c": 1}]}}, {"a": {"b": [{"c": 1, "d": 2}], "e": 3}}, []),
        ({"a": {"b": [{"c": 1}]}}, {"a": {"b": [{"c": 2}]}}, ["a.b"]),
        ({"customDetails": None}, {}, []),
        ({"severity": "High"}, {"severity": None}, ["severity"]),
    ],
)
def test_what_counts_as_a_difference(wanted: Any, there: Any, paths: list[str]) -> None:
    assert [field.path for field in differences(wanted, there)] == paths
