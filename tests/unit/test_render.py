"""Rendering: spans are replaced and every other byte stays."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qakhunt.core.errors import HuntError, NotAvailableError, UsageError
from qakhunt.hunts.catalog import Catalog
from qakhunt.hunts.loading import load_hunt
from qakhunt.hunts.model import PRODUCTS, Hunt
from qakhunt.hunts.parameters import parameters_of
from qakhunt.hunts.render import render
from qakhunt.kql.literal import decode
from qakhunt.kql.tokens import tokenize
from qakhunt.kql.values import Instant

NOW = Instant.parse("2026-11-05T09:00:00Z")
GOLDEN = Path(__file__).parents[1] / "golden"
MISSION = "qakbot-post-compromise-commands"

ALL_HUNTS = [hunt.name for hunt in Catalog().all()]


def hunt_named(name: str) -> Hunt:
    return Catalog().find(name)[0]


@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize("name", ALL_HUNTS)
def test_rendered_hunts_are_as_recorded(name: str, product: str) -> None:
    """The text in tests/golden was read by a person; a change there is a decision."""
    hunt = hunt_named(name)
    if product not in hunt.products:
        pytest.skip(f"{name} is not for {product}")
    expected = (GOLDEN / f"{name}.{product}.kql").read_text(encoding="utf-8")
    assert render(hunt, now=NOW, product=product).text == expected


@pytest.mark.parametrize("name", ALL_HUNTS)
def test_nothing_but_the_window_changes_by_default(name: str) -> None:
    hunt = hunt_named(name)
    rendered = render(hunt, now=NOW).text.splitlines()
    assert hunt.notes.window is not None
    bounds = (f"let {hunt.notes.window.start} =", f"let {hunt.notes.window.end} =")
    for before, after in zip(hunt.query.splitlines(), rendered, strict=True):
        assert before == after or before.startswith(bounds)


def test_the_mission_rule_is_the_published_one(mission_page: Path) -> None:
    """Same list, comparison, grouping, threshold and order, whatever else stands beside."""
    published, ours = load_hunt(mission_page), hunt_named(MISSION)
    lists = [parameters_of(hunt)["QakBotCommands"].default for hunt in (published, ours)]
    assert lists[0] == lists[1]
    assert parameters_of(ours)["Threshold"].default == 3

    def tail(hunt: Hunt) -> str:
        text = " ".join(token.text for token in tokenize(hunt.query))
        text = text.replace(", LastSeen = max ( TimeGenerated )", "").replace("> Threshold", "> 3")
        return " ".join(text[text.index("| where ProcessCommandLine") :].split())

    assert tail(published) == tail(ours)
    for now in ("2026-11-05T09:00:00Z", "2026-11-20T09:00:00Z"):
        windows = [render(hunt, now=Instant.parse(now)).window for hunt in (published, ours)]
        assert windows[0].start == windows[1].start


@given(st.lists(st.text().filter(str.strip), min_size=5, max_size=8, unique=True))
def test_any_command_list_changes_its_literal_alone(commands: list[str]) -> None:
    hunt = hunt_named(MISSION)
    rendered = render(hunt, now=NOW, parameters={"QakBotCommands": commands})
    default, changed = tokenize(render(hunt, now=NOW).text), tokenize(rendered.text)
    assert decode(changed[3].text) == ("dynamic", commands)
    assert [t.text for t in default[:3] + default[4:]] == [
        t.text for t in changed[:3] + changed[4:]
    ]


def test_values_are_read_by_the_parameters_type() -> None:
    rendered = render(hunt_named(MISSION), now=NOW, parameters={"Threshold": "5"})
    assert "let Threshold = 5; // Adjust" in rendered.text
    assert rendered.parameters["Threshold"] == 5


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("Threshold", "many", "Threshold is a long: expected a whole number"),
        ("Threshold", 1.5, "Threshold is a long"),
        ("Threshold", -1, "below 0"),
        ("QakBotCommands", [], "the command list is empty"),
        ("QakBotCommands", "[1]", "must be text"),
        ("QakBotCommands", "[", "expected JSON"),
        ("QakBotCommands", "[" * 100_000, "nested too deeply"),
        ("QakBotCommands", "[" * 5000 + "]" * 5000, "nested too deeply"),
    ],
)
def test_a_wrong_value_names_the_parameter_and_its_line(
    name: str, value: object, words: str
) -> None:
    with pytest.raises(UsageError) as problem:
        render(hunt_named(MISSION), now=NOW, parameters={name: value})
    assert words in problem.value.message
    assert problem.value.location is not None
    text = Path(problem.value.location.path).read_text(encoding="utf-8").splitlines()
    assert text[problem.value.location.line - 1].strip().startswith(f"let {name}")


def test_an_unknown_parameter_suggests_the_nearest() -> None:
    with pytest.raises(UsageError) as problem:
        render(hunt_named(MISSION), now=NOW, parameters={"Treshold": 1})
    assert problem.value.hint == "did you mean 'Threshold'?"


def test_hashes_say_what_changed() -> None:
    hunt = hunt_named(MISSION)
    base = render(hunt, now=NOW)
    window = render(hunt, now=NOW, window="30d")
    value = render(hunt, now=NOW, parameters={"Threshold": 4})
    assert window.hunt_hash == base.hunt_hash
    assert window.query_hash != base.query_hash
    assert value.hunt_hash != base.hunt_hash
    defender = render(hunt, now=NOW, product="defender")
    assert defender.hunt_hash == base.hunt_hash
    assert defender.query_hash != base.query_hash


def _kql(folder: Path, query: str) -> Hunt:
    path = folder / "hunt.kql"
    path.write_text(query, encoding="utf-8")
    return load_hunt(path)


def test_defender_text_changes_identifiers_only(tmp_path: Path) -> None:
    query = (
        "DeviceProcessEvents // TimeGenerated\n| where TimeGenerated > ago(1d)\n"
        "| extend a = 'TimeGenerated', b = Fields.TimeGenerated\n"
        "| summarize TimeGenerated = min(TimeGenerated) by DeviceName, TenantId"
    )
    text = render(_kql(tmp_path, query), now=NOW, product="defender").text
    assert text == (
        "DeviceProcessEvents // TimeGenerated\n| where Timestamp > datetime(2026-11-04T09:00:00Z)\n"
        "| extend a = 'TimeGenerated', b = Fields.TimeGenerated\n"
        '| summarize Timestamp = min(Timestamp) by DeviceName, TenantId = ""'
    )


def test_a_name_in_brackets_is_a_name_everywhere(tmp_path: Path) -> None:
    query = """let ['my list'] = dynamic(["a"]);
DeviceProcessEvents | where FileName in (['my list']) | project ['TimeGenerated']"""
    hunt = _kql(tmp_path, query)
    text = render(hunt, now=NOW, product="defender", parameters={"my list": ["b"]}).text
    assert text == query.replace('"a"', '"b"').replace("['TimeGenerated']", "Timestamp")


@pytest.mark.parametrize(
    ("tail", "words"),
    [
        ("| where TenantId == 'x'", "no column TenantId"),
        ("| summarize count() by strcat(TenantId, 'x')", "no column TenantId"),
        ("| project MachineGroup", "no column MachineGroup"),
    ],
)
def test_what_defender_lacks_is_refused_with_its_line(
    tmp_path: Path, tail: str, words: str
) -> None:
    hunt = _kql(tmp_path, "DeviceProcessEvents\n| where TimeGenerated > ago(1d)\n" + tail)
    with pytest.raises(NotAvailableError, match="not available for defender") as problem:
        render(hunt, now=NOW, product="defender")
    assert words in problem.value.message
    assert problem.value.location is not None
    assert problem.value.location.line == 3


def test_a_table_that_defender_lacks_is_refused(tmp_path: Path) -> None:
    hunt = _kql(tmp_path, "SecurityEvent\n| where TimeGenerated > ago(1d)")
    with pytest.raises(NotAvailableError, match="has no table SecurityEvent"):
        render(hunt, now=NOW, product="defender")


def test_a_table_is_named_where_it_is_read_and_nowhere_else(tmp_path: Path) -> None:
    """Many a column is called as a table of Log Analytics is."""
    query = (
        "CloudAppEvents\n| extend Event = tostring(RawEventData.Usage)\n"
        "| where isnotempty(Event) and Event in ('Alert')\n| summarize Usage = count() by Event"
    )
    assert render(_kql(tmp_path, query), now=NOW, product="defender").text == query
    hunt = _kql(tmp_path, "DeviceInfo | where DeviceName in ((Event | project Computer))")
    with pytest.raises(NotAvailableError, match="has no table Event"):
        render(hunt, now=NOW, product="defender")


def test_the_time_of_a_joins_side_and_of_a_scans_step_is_adapted(tmp_path: Path) -> None:
    query = (
        "DeviceEvents\n| join DeviceInfo on $left.TimeGenerated == $right.TimeGenerated\n"
        "| scan with (step s: true; step t: TimeGenerated - s.TimeGenerated < 5m;)\n"
        "| extend x = AdditionalFields.TimeGenerated"
    )
    text = render(_kql(tmp_path, query), now=NOW, product="defender").text
    expected = query.replace("TimeGenerated", "Timestamp")
    assert text == expected.replace("AdditionalFields.Timestamp", "AdditionalFields.TimeGenerated")


@pytest.mark.parametrize(
    "query",
    [
        "DeviceEvents | parse AdditionalFields with * 'x' Type ' ' MachineGroup:long | project Type, MachineGroup",
        "DeviceEvents | join (externaldata(Type: string) ['https://x/y']) on $left.ActionType == $right.Type",
        "My_CL | join DeviceEvents on DeviceId | project MachineGroup, TenantId",
        "DeviceEvents | summarize n = count() by DeviceName, TenantId | project DeviceName, TenantId",
    ],
)
def test_a_column_that_the_query_has_from_elsewhere_is_let_pass(tmp_path: Path, query: str) -> None:
    assert render(_kql(tmp_path, query), now=NOW, product="defender").text


def test_a_column_that_the_query_makes_itself_is_no_product_column(tmp_path: Path) -> None:
    hunt = _kql(
        tmp_path,
        "DeviceProcessEvents\n| where TimeGenerated > ago(1d)\n| extend Type = 'x'\n| project Type",
    )
    assert "project Type" in render(hunt, now=NOW, product="defender").text


@given(st.integers(1, 11), st.integers(1, 80))
def test_a_place_in_the_rendered_text_leads_back_to_the_file(line: int, column: int) -> None:
    hunt = hunt_named(MISSION)
    rendered = render(hunt, now=NOW, parameters={"QakBotCommands": ["a\nb", "c", "d", "e"]})
    text = rendered.text.splitlines()[line - 1]
    column = min(column, len(text))
    place = rendered.locate(line, column)
    file_line = Path(place.path).read_text(encoding="utf-8").splitlines()[place.line - 1]
    if line >= 5:
        assert file_line[place.column - 1] == text[column - 1]


def test_an_open_string_is_an_error_at_its_place(tmp_path: Path) -> None:
    hunt = _kql(tmp_path, "T\n| where TimeGenerated > ago(1d) and x == 'abc")
    with pytest.raises(HuntError, match="syntax error") as problem:
        render(hunt, now=NOW)
    assert str(problem.value.location).endswith("hunt.kql:2:42")
