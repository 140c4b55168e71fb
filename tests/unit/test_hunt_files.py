"""Hunt files of every kind load; broken ones say where and how to mend them."""

from __future__ import annotations

from pathlib import Path

import pytest

from qakhunt.core.errors import HuntError, QakhuntError, UsageError
from qakhunt.hunts.catalog import Catalog, new_hunt
from qakhunt.hunts.loading import load_hunt
from qakhunt.hunts.parameters import parameters_of
from qakhunt.hunts.render import render
from qakhunt.kql.values import Instant

NOW = Instant.parse("2026-11-05T09:00:00Z")

PUBLIC = """\
id: 0f1d3c5a-1111-4222-8333-444455556666
name: Public hunt
description: |
  'Looks for something.'
requiredDataConnectors:
  - connectorId: MicrosoftThreatProtection
    dataTypes: [DeviceProcessEvents]
tactics:
  - Discovery
relevantTechniques:
  - T1033
someOtherKey: kept for others
query: |
  let timeframe = 1d;
  DeviceProcessEvents
  | where TimeGenerated >= ago(timeframe)
  | where FileName =~ "whoami.exe"
entityMappings:
  - entityType: Host
    fieldMappings:
      - identifier: FullName
        columnName: DeviceName
version: 1.0.0
"""


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_public_hunt_loads_unchanged(tmp_path: Path) -> None:
    hunt = load_hunt(write(tmp_path, "public.yaml", PUBLIC))
    assert (hunt.name, hunt.title, hunt.version) == ("public", "Public hunt", "1.0.0")
    assert hunt.description == "Looks for something."
    assert hunt.techniques == ("T1033",)
    assert list(parameters_of(hunt)) == ["timeframe"]
    assert "(datetime(2026-11-05T09:00:00Z) - (timeframe))" in render(hunt, now=NOW).text


def test_a_bare_kql_file_loads(tmp_path: Path) -> None:
    text = "let n = 3; // how many\r\nT | where TimeGenerated > ago(1h) | take n\r\n"
    path = tmp_path / "bare.kql"
    path.write_bytes(text.encode())
    hunt = load_hunt(path)
    assert hunt.query == text
    assert parameters_of(hunt)["n"].default == 3


def test_the_published_page_loads_as_it_is(mission_page: Path) -> None:
    hunt = load_hunt(mission_page)
    assert hunt.title == "S0650 - Qakbot: Post compromise commands"
    assert hunt.version == "2.0"
    assert hunt.notes.software == ("S0650",)
    assert len(hunt.notes.references) == 3
    assert hunt.notes.triage[0].startswith("This is high-fidelity detections")
    assert hunt.notes.false_positives
    page = mission_page.read_text(encoding="utf-8")
    assert hunt.query in page
    place = hunt.place.locate(2, 1)
    assert page.splitlines()[place.line - 1] == "DeviceProcessEvents"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_does_no_harm(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "bom.yaml"
    path.write_bytes(PUBLIC.encode(encoding))
    assert load_hunt(path).title == "Public hunt"


def test_every_built_in_hunt_documents_itself() -> None:
    hunts = Catalog().all()
    assert {"qakbot-post-compromise-commands", "qakbot-post-compromise-commands-any"} <= {
        hunt.name for hunt in hunts
    }
    assert len({hunt.id for hunt in hunts}) == len(hunts)
    for hunt in hunts:
        assert hunt.description
        assert hunt.version
        assert hunt.notes.limits, hunt.name
        for name, parameter in parameters_of(hunt).items():
            assert parameter.help, f"{hunt.name}: {name} has no help"


BROKEN = {
    "broken YAML": ("query: [\n", 2, "broken YAML"),
    "a tab": ("query: |\n  T\n\tname: x\n", 3, "broken YAML"),
    "a key twice": ("name: a\nname: b\nquery: x\n", 2, "stands twice"),
    "an unknown key": ("query: x\nqakhunt: {}\nquerry: y\n", 3, "unknown key 'querry'"),
    "an unknown key of ours": ("query: x\nqakhunt:\n  windw: {}\n", 3, "unknown key 'windw'"),
    "a deep unknown key": (
        "query: x\nqakhunt:\n  parameters:\n    A:\n      halp: y\n", 5, "unknown key 'halp'",
    ),
    "a wrong type": ("query: x\nqakhunt:\n  limits: 5\n", 3, "qakhunt.limits: expected a list"),
    "an unknown product": ("query: x\nqakhunt:\n  products: [sentinel]\n", 3, "products"),
    "no query": ("name: x\n", 1, "no query"),
    "an empty query": ("name: x\nquery: ''\n", 2, "empty"),
    "a list": ("- a\n", 1, "mapping"),
    "an alias": ("query: x\ntags: &t [a]\ntactics: *t\n", 2, "aliases"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_one_error_at_its_line(tmp_path: Path, case: str) -> None:
    text, line, words = BROKEN[case]
    with pytest.raises(HuntError) as problem:
        load_hunt(write(tmp_path, "broken.yaml", text))
    assert words in problem.value.message
    assert problem.value.location is not None
    assert problem.value.location.line == line


def test_unknown_keys_suggest_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(HuntError) as problem:
        load_hunt(write(tmp_path, "x.yaml", "query: x\nqakhunt:\n  windw: {}\n"))
    assert problem.value.hint == "did you mean 'window'?"


def test_notes_about_a_parameter_that_is_not_there_are_refused(tmp_path: Path) -> None:
    text = "query: |\n  let A = 1;\n  T\nqakhunt:\n  parameters:\n    B: {help: x}\n"
    with pytest.raises(HuntError, match="no leading let"):
        parameters_of(load_hunt(write(tmp_path, "x.yaml", text)))


@pytest.mark.parametrize("name", ["x.txt", "x"])
def test_other_files_are_no_hunts(tmp_path: Path, name: str) -> None:
    with pytest.raises(HuntError, match="not a hunt file"):
        load_hunt(write(tmp_path, name, "T"))


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(HuntError, match="no such file"):
        load_hunt(tmp_path / "x.yaml")


def test_a_hunt_is_found_by_name_id_path_and_set(tmp_path: Path) -> None:
    path = write(tmp_path, "mine.yaml", PUBLIC)
    catalog = Catalog((tmp_path,))
    assert catalog.find("mine")[0].path == str(path)
    assert catalog.find("0F1D3C5A-1111-4222-8333-444455556666")[0].name == "mine"
    assert catalog.find(str(path))[0].name == "mine"
    assert len(catalog.find("qakbot")) >= 2


def test_ones_own_hunt_hides_the_built_in_of_its_name(tmp_path: Path) -> None:
    write(tmp_path, "qakbot-post-compromise-commands.yaml", PUBLIC)
    assert Catalog((tmp_path,)).find("qakbot-post-compromise-commands")[0].title == "Public hunt"


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(UsageError) as problem:
        Catalog().find("qakbot-post-compromise-comands")
    assert problem.value.hint == "did you mean 'qakbot-post-compromise-commands'?"


def test_the_template_passes_its_own_checks(tmp_path: Path) -> None:
    hunt = load_hunt(write(tmp_path, "my-hunt.yaml", new_hunt("my-hunt")[0]))
    assert hunt.title == "My hunt"
    for product in hunt.products:
        assert render(hunt, now=NOW, product=product).text


@pytest.mark.parametrize("text", ["query: !!python/object:os.system x\n", "query: " + "[" * 5000])
def test_hostile_yaml_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(QakhuntError):
        load_hunt(write(tmp_path, "x.yaml", text))


ODD = {
    "null keys": "name:\ndescription: null\ntactics:\nrelevantTechniques:\nentityMappings:\n",
    "numbers": "id: 5\nname: 12\nversion: 1.0\nseverity: 3\n",
    "one tactic": "tactics: Discovery\nrelevantTechniques: T1033, T1016\n",
    "holes in lists": "tactics:\n  - Discovery\n  -\nrelevantTechniques: [T1033]\n",
    "foreign keys": "kind: Scheduled\nqueryPeriod: P1D\ncustomDetails: {a: b}\nspoken: [1]\n",
    "mappings of another shape": "entityMappings: {Host: DeviceName}\n",
    "a mapping that lacks its column": "entityMappings:\n  - entityType: Host\n"
    "    fieldMappings:\n      - identifier: FullName\n",
}


@pytest.mark.parametrize("case", ODD)
def test_what_others_wrote_around_a_query_never_stops_it(tmp_path: Path, case: str) -> None:
    path = write(tmp_path, "odd.yaml", ODD[case] + "query: SecurityEvent | count\n")
    assert render(load_hunt(path), now=NOW).text == "SecurityEvent | count"


def test_a_literal_that_only_the_service_reads_stays_as_it_is(tmp_path: Path) -> None:
    query = (
        "set querytrace;\ndeclare query_parameters(a: long = 1);\nlet d = datetime(Jan 1, 2024);\n"
        'let n = 3;\nlet l = dynamic([ // it\'s a list\n  "x"]);\nSecurityEvent | take n\n'
    )
    hunt = load_hunt(write(tmp_path, "odd.kql", query))
    assert list(parameters_of(hunt)) == ["n", "l"]
    assert render(hunt, now=NOW, parameters={"n": 5}).text == query.replace("n = 3", "n = 5")


PAGES = {
    "under a heading": "# T\n## Query\n```\nQ1\n```\n",
    "marked": "# T\n```powershell\nnot this\n```\n```kql\nQ1\n```\n",
    "four ticks": "# T\n## Query\n````kusto\nQ1\n````\n",
    "tildes": "# T\n## The query\n~~~\nQ1\n~~~\n",
    "in a list": "# T\n## Query\n1. Run\n\n   ```kql\n   Q1\n   ```\n",
    "never closed": "# T\n## Query\n```\nQ1\n",
    "no heading": "Some words\n\n```\nQ1\n```\n",
    "windows lines": "# T\r\n## Query\r\n```kql\r\nQ1\r\n```\r\n",
    "a heading far away": "# T\n## Query\nsome words\n## Details\n```\nQ1\n```\n",
}


@pytest.mark.parametrize("case", PAGES)
def test_a_page_holds_its_query_in_any_fence(tmp_path: Path, case: str) -> None:
    path = tmp_path / "page.md"
    path.write_bytes(PAGES[case].encode())
    hunt = load_hunt(path)
    assert hunt.query.strip() == "Q1"
    place = hunt.place.locate(1, 1)
    line = path.read_text().splitlines()[place.line - 1]
    assert line[place.column - 1 :] == "Q1"
    assert not hunt.remarks


def test_each_query_of_a_page_can_be_named(tmp_path: Path) -> None:
    page = "# T\n## Query\n```kql\nHeartbeat\n```\ntext\n```kql\nSyslog\n| count\n```\n"
    path = write(tmp_path, "page.md", page)
    hunts = Catalog().find_all([str(path), f"{path}#2"])
    assert [(h.name, h.query) for h in hunts] == [
        ("page", "Heartbeat\n"), ("page-2", "Syslog\n| count\n"),
    ]  # fmt: skip
    (warning,) = render(hunts[0], now=NOW).warnings
    assert warning.endswith("query 1 of the 2 on the page; page.md#2 names the second")
    with pytest.raises(HuntError, match="no query 3"):
        Catalog().find(f"{path}#3")
