"""Lint: every rule finds what it is for, at its place, and leaves good hunts alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from qakhunt.__main__ import run
from qakhunt.hunts.catalog import Catalog
from qakhunt.hunts.model import Hunt, QueryPlace
from qakhunt.hunts.render import render
from qakhunt.kql.values import Instant
from qakhunt.testing import microsoft_parser
from qakhunt.testing.lint import names
from qakhunt.testing.lint.check import Linter, LintResult
from qakhunt.testing.lint.model import RULES, Severity, Subject

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.engine

NOW = Instant.parse("2024-03-15T12:00:00Z")
WINDOW = "TimeGenerated > ago(1d)"
HEAD = """\
id: {id}
name: It
relevantTechniques: [T1016]
"""


@pytest.fixture(scope="module")
def linter() -> Iterator[Linter]:
    with Linter(NOW) as opened:
        yield opened


def lint_text(
    linter: Linter, folder: Path, query: str, head: str = HEAD, tail: str = ""
) -> LintResult:
    body = "".join(f"  {line}\n" for line in query.strip("\n").splitlines())
    identity = "00000000-0000-0000-0000-000000000001"
    path = folder / "it.yaml"
    path.write_text(head.replace("{id}", identity) + "query: |\n" + body + tail, encoding="utf-8")
    return linter.lint([path], {})


def found(result: LintResult) -> list[tuple[str, int, int]]:
    """Code, line of the query and column in it; the head has three lines, the indent is two."""
    return [
        (f.rule.code, f.location.line - 4, f.location.column - 2)
        for f in result.findings
        if f.accepted is None
    ]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (f"DeviceProcessEvents\n| where {WINDOW}\n| where Foo == 1", ("QH103", 3, 9)),
        (f"DeviceProcesEvents\n| where {WINDOW}", ("QH102", 1, 1)),
        (f"DeviceProcessEvents\n| where {WINDOW}\n| extend x = frob(1)", ("QH104", 3, 14)),
        (
            f"DeviceProcessEvents\n| where {WINDOW}\n| summarize n = count() by DeviceName\n"
            "| where FileName =~ 'a'",
            ("QH105", 4, 9),
        ),
        (
            f"DeviceProcessEvents\n| where {WINDOW}\n| project-away FileName\n| project FileName",
            ("QH105", 4, 11),
        ),
        (f"DeviceProcessEvents\n| where {WINDOW} and", ("QH101", 2, 0)),
        (f"DeviceProcessEvents\n| where {WINDOW}\n| where ProcessCommandLine =~ 'net view'",
         ("QH201", 3, 9)),
        (f"DeviceProcessEvents\n| where {WINDOW}\n| where ProcessCommandLine has 'net view'",
         ("QH202", 3, 9)),
        (f"DeviceProcessEvents\n| where {WINDOW}\n| where ProcessCommandLine has '/'",
         ("QH202", 3, 32)),
        (f"DeviceProcessEvents\n| where {WINDOW}\n"
         "| where InitiatingProcessCommandLine has_all ('whoami', '/all', 'whoami /all')",
         ("QH204", 3, 9)),
        (f"DeviceProcessEvents\n| where {WINDOW}\n"
         "| where FileName =~ 'net.exe' and InitiatingProcessCommandLine has 'view'",
         ("QH204", 3, 35)),
        (f"DeviceProcessEvents\n| where {WINDOW}\n| where FileName == 'net.exe'",
         ("QH205", 3, 18)),
        (f"DeviceProcessEvents\n| where {WINDOW}\n| where ProcessCommandLine contains 'mimikatz'",
         ("QH206", 3, 28)),
        (f"DeviceProcessEvents\n| where {WINDOW} and ingestion_time() > ago(1d)",
         ("QH503", 2, len(f"| where {WINDOW} and ") + 1)),
        (f"DeviceProcessEvents\n| where {WINDOW}\n| where FileName in~ ('a.exe', 'b.exe', 'a.exe')",
         ("QH207", 3, 41)),
        ("DeviceProcessEvents\n| where FileName =~ 'a'", ("QH301", 1, 1)),
        ("DeviceProcessEvents\n| where TimeGenerated between "
         "(startofmonth(ago(15d)) .. endofmonth(ago(15d)))", ("QH302", 2, 32)),
        ("DeviceProcessEvents\n| where TimeGenerated between (startofmonth(now()) .. now())",
         ("QH302", 2, 32)),
        (f"DeviceProcessEvents\n| where {WINDOW}\n"
         "| summarize n = count() by DeviceName, bin(TimeGenerated, 5m)\n| where n > 3",
         ("QH303", 3, 40)),
        (f"let Unused = 3;\nDeviceProcessEvents\n| where {WINDOW}", ("QH404", 1, 5)),
        (f"DeviceProcessEvents\n| where {WINDOW}\n| evaluate basket()",
         ("QH501", 3, 12)),
        (f"DeviceProcessEvents\n| where {WINDOW}\n| summarize dcount(FileName) by DeviceName",
         ("QH502", 3, 13)),
    ],
)  # fmt: skip
def test_each_rule_finds_its_place(
    linter: Linter, tmp_path: Path, query: str, expected: tuple[str, int, int]
) -> None:
    codes = found(lint_text(linter, tmp_path, query))
    if not expected[2]:
        assert (expected[0], expected[1]) in [(code, line) for code, line, _ in codes]
    else:
        assert expected in codes


@pytest.mark.parametrize(
    "query",
    [
        f"DeviceProcessEvents\n| where {WINDOW}\n| where tolower(FileName) == 'net.exe'",
        f"DeviceProcessEvents\n| where {WINDOW}\n| where SHA256 == 'ab12'",
        f"DeviceProcessEvents\n| where {WINDOW}\n| where FileName in~ ('net.exe', 'arp.exe')",
        f"DeviceProcessEvents\n| where {WINDOW}\n| where ProcessCommandLine has 'view'",
        f"DeviceProcessEvents\n| where {WINDOW}\n| where ProcessCommandLine contains '\\\\Temp\\\\'",
        f"DeviceProcessEvents\n| where {WINDOW}\n| where InitiatingProcessFileName =~ 'cmd.exe' "
        "and InitiatingProcessCommandLine endswith 'whoami /all'",
        "DeviceProcessEvents\n| where TimeGenerated between (ago(2d) .. ago(1d))",
        "DeviceProcessEvents\n| where TimeGenerated between (startofday(ago(1d)) .. "
        "startofday(now()))",
        f"DeviceProcessEvents\n| where {WINDOW}\n| summarize n = count() by bin(TimeGenerated, 1h)",
        f"let T = DeviceProcessEvents | where {WINDOW};\nT\n"
        "| join kind=inner (DeviceNetworkEvents | project DeviceId, RemoteIP) on DeviceId\n"
        "| summarize take_any(RemoteIP), arg_max(TimeGenerated, FileName) by DeviceId\n"
        "| project DeviceId, RemoteIP, TimeGenerated, FileName",
        f"DeviceProcessEvents\n| where {WINDOW}\n| extend f = parse_json(AdditionalFields)\n"
        "| mv-expand f to typeof(string)\n| where f =~ 'x'",
    ],
)
def test_good_queries_are_left_alone(linter: Linter, tmp_path: Path, query: str) -> None:
    assert found(lint_text(linter, tmp_path, query)) == []


@pytest.mark.parametrize(
    ("head", "tail", "code", "line"),
    [
        ("id: x\nname: It\nrelevantTechniques: [T1086]\n", "", "QH402", 3),
        ("id: x\nname: It\nrelevantTechniques: [T9999]\n", "", "QH402", 3),
        ("id: x\nname: It\ntags: []\n", "", "QH401", 1),
        (HEAD, "entityMappings:\n- entityType: Host\n  fieldMappings:\n"
               "  - identifier: HostName\n    columnName: Devicename\n", "QH405", 11),
        (HEAD, "qakhunt:\n  fingerprint: [DeviceName, Account]\n", "QH406", 8),
        (HEAD, "qakhunt:\n  result: {commands: Lines}\n", "QH406", 8),
        (HEAD, "typo: 1\nqakhunt: {}\n", "QH100", 7),
    ],
)  # fmt: skip
def test_metadata_is_checked_at_its_key(
    linter: Linter, tmp_path: Path, head: str, tail: str, code: str, line: int
) -> None:
    query = f"DeviceProcessEvents\n| where {WINDOW}"
    result = lint_text(linter, tmp_path, query, head, tail)
    assert (code, line) in [(f.rule.code, f.location.line) for f in result.findings]


def test_a_product_that_cannot_run_it_is_found(linter: Linter, tmp_path: Path) -> None:
    result = lint_text(linter, tmp_path, "SigninLogs\n| where TimeGenerated > ago(1d)")
    assert [f.rule.code for f in result.findings] == ["QH107"]


def test_two_hunts_of_one_id(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.kql").write_text("T | where TimeGenerated > ago(1d)", encoding="utf-8")
        text = HEAD.replace("{id}", "one") + f"query: |\n  DeviceEvents | where {WINDOW}\n"
        (tmp_path / f"{name}.yaml").write_text(text, encoding="utf-8")
    assert run(["hunts", "lint", str(tmp_path), "--json"]) == 1
    findings = json.loads(capsys.readouterr().out)["findings"]
    twice = [f for f in findings if f["code"] == "QH403"]
    assert {Path(f["file"]).name for f in twice} == {"a.yaml", "b.yaml"}


def test_the_published_rule_has_two_dead_entries_by_name(
    linter: Linter, mission_page: Path
) -> None:
    result = linter.lint([mission_page], {})
    dead = [f.message for f in result.findings if f.rule.code == "QH203"]
    assert len(dead) == 2
    assert "'nslookup-querytype=ALL -timeout=12'" in dead[0]
    assert "'_ldap._tcp.dc._msdcs.WORKGROUP'" in dead[1]
    codes = {f.rule.code for f in result.findings}
    assert codes == {"QH201", "QH203", "QH205", "QH302"}


def test_the_matrix_says_which_recorded_forms_match(linter: Linter) -> None:
    exact, any_term = (
        linter.lint([Path(hunt.path)], {}).matrices[hunt.path][0]
        for name in ("qakbot-post-compromise-commands", "qakbot-post-compromise-commands-any")
        for hunt in Catalog().find(name)
    )
    by_entry = {entry.entry: entry for entry in exact.entries}
    assert by_entry["ipconfig /all"].matched == ["direct"]
    assert by_entry["ipconfig /all"].life == "alive"
    assert {e.entry for e in exact.entries if e.life == "dead"} == {
        "nslookup-querytype=ALL -timeout=12",
        "_ldap._tcp.dc._msdcs.WORKGROUP",
    }
    by_entry = {entry.entry: entry for entry in any_term.entries}
    assert {"direct", "case"} <= set(by_entry["ipconfig /all"].matched)
    # Through cmd /c the wrapper's own line holds the term; in a batch file nothing does.
    assert "cmd" in by_entry["ipconfig /all"].matched
    assert "batch" not in by_entry["ipconfig /all"].matched
    assert all(entry.life == "alive" for entry in any_term.entries)


def test_an_entry_of_an_unknown_program_is_not_called_dead(linter: Linter, tmp_path: Path) -> None:
    query = (
        f"DeviceProcessEvents\n| where {WINDOW}\n"
        "| where ProcessCommandLine in~ ('frobnicate -x', 'whoami /all')"
    )
    result = lint_text(linter, tmp_path, query)
    lives = [entry.life for entry in next(iter(result.matrices.values()))[0].entries]
    assert lives == ["unproven", "alive"]


def test_a_command_that_no_report_shows_is_not_called_dead(linter: Linter, tmp_path: Path) -> None:
    entries = ["whoami", "net group", "nltest /domain_trusts", "e", "nltest/domain_trusts"]
    query = f"DeviceProcessEvents\n| where {WINDOW}\n| where ProcessCommandLine in~ ({{0}})"
    quoted = ", ".join(f"'{entry}'" for entry in entries)
    result = lint_text(linter, tmp_path, query.format(quoted))
    lives = [entry.life for entry in next(iter(result.matrices.values()))[0].entries]
    assert lives == ["unproven"] * 4 + ["dead"]


@pytest.mark.parametrize(
    ("expression", "noted"),
    [
        ("FileName matches regex @'^\\w+$'", True),
        ("FileName matches regex '^\\\\d$'", True),
        ("extract(@'\\bx', 0, FileName) == 'x'", True),
        ("FileName matches regex '[a-y&&xyz]'", True),
        ("FileName matches regex '^[0-9A-Za-z_]+ && x$'", False),
        ("FileName has @'\\d'", False),
        ("FileName matches regex Pattern", True),
    ],
)
def test_a_regular_expression_that_means_more_in_the_service_is_noted(
    linter: Linter, tmp_path: Path, expression: str, noted: bool
) -> None:
    query = (
        f"let Pattern = @'\\d';\nDeviceProcessEvents\n| where {WINDOW}\n| where {expression}"
        "\n| where ProcessCommandLine != Pattern"
    )
    codes = [code for code, *_ in found(lint_text(linter, tmp_path, query))]
    assert ("QH502" in codes) is noted


def test_a_suppression_in_a_literal_is_none(linter: Linter, tmp_path: Path) -> None:
    for mark in ("#", "//"):
        query = (
            f"DeviceProcessEvents\n| where {WINDOW}\n"
            f"| where FileName == '{mark} qakhunt-allow QH205: so says the attacker\n"
        ).rstrip() + "'"
        assert [code for code, *_ in found(lint_text(linter, tmp_path, query))] == ["QH205"]


def test_a_suppression_needs_a_reason_and_an_effect(linter: Linter, tmp_path: Path) -> None:
    comparison = "| where FileName == 'net.exe'"
    base = f"DeviceProcessEvents\n| where {WINDOW}\n"
    with_reason = base + f"// qakhunt-allow QH205: the sensor writes lower case\n{comparison}"
    result = lint_text(linter, tmp_path, with_reason)
    assert found(result) == []
    assert [f.accepted for f in result.findings] == ["the sensor writes lower case"]
    without = base + f"{comparison} // qakhunt-allow QH205"
    assert [code for code, *_ in found(lint_text(linter, tmp_path, without))] == ["QH205", "QH901"]
    idle = base + "// qakhunt-allow QH205: nothing of the kind here"
    assert [code for code, *_ in found(lint_text(linter, tmp_path, idle))] == ["QH902"]
    whole_file = "# qakhunt-allow QH205: known\n" + HEAD
    assert found(lint_text(linter, tmp_path, base + comparison, whole_file)) == []


def test_fix_makes_the_exact_mends_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (
        HEAD.replace("{id}", "one") + "query: |\n"
        "  let Unused = 3; // who knows\n"
        "  let Names = dynamic(['a.exe', 'b.exe', 'a.exe']);\n"
        f"  DeviceProcessEvents | where {WINDOW}\n"
        "  | where FileName in (Names)   // as is\n"
        "  | where Devicename =~ 'x'\n"
    )
    target = tmp_path / "target.yaml"
    target.write_text(text, encoding="utf-8", newline="")
    target.chmod(0o600)
    path = tmp_path / "it.yaml"
    path.symlink_to(target)
    assert run(["hunts", "lint", "--fix"]) == 2
    run(["hunts", "lint", str(path), "--fix"])
    assert "4 fixed" in capsys.readouterr().out
    assert path.read_text(encoding="utf-8") == (
        HEAD.replace("{id}", "one") + "query: |\n"
        "  let Names = dynamic(['a.exe', 'b.exe']);\n"
        f"  DeviceProcessEvents | where {WINDOW}\n"
        "  | where FileName in~ (Names)   // as is\n"
        "  | where DeviceName =~ 'x'\n"
    )
    assert path.is_symlink()
    assert target.stat().st_mode & 0o777 == 0o600


def test_published_hunts_have_no_finding_that_is_not_accepted(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """.ci/hunts lints all of them."""
    sarif = tmp_path / "out.sarif"
    published = [hunt.name for hunt in Catalog().all() if "post-compromise-commands" in hunt.name]
    assert run(["hunts", "lint", *published, "--json", "--sarif", str(sarif)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "qakhunt.lint/1"
    standing = [f for f in document["findings"] if f["accepted"] is None]
    assert {f["severity"] for f in standing} <= {"note"}
    log = json.loads(sarif.read_text(encoding="utf-8"))["runs"][0]
    assert len(log["results"]) == len(document["findings"])
    accepted = [
        r["suppressions"][0]["justification"] for r in log["results"] if "suppressions" in r
    ]
    assert len(accepted) == len(document["findings"]) - len(standing)
    assert all(accepted)


def test_every_rule_is_told_apart() -> None:
    assert all(code == rule.code for code, rule in RULES.items())
    assert len({rule.name for rule in RULES.values()}) == len(RULES)
    assert {rule.severity for rule in RULES.values()} == set(Severity)


def test_hostile_text_reaches_no_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "it.kql"
    path.write_text(
        f"DeviceProcessEvents | where {WINDOW} | where FileName in ('\x1b]0;x\x07', 'a')",
        encoding="utf-8",
    )
    run(["hunts", "lint", str(path), "--matrix"])
    assert "\x1b" not in capsys.readouterr().out


@pytest.fixture(scope="module")
def parser() -> microsoft_parser.MicrosoftParser:
    """Microsoft's own, from the real npm package, where it is."""
    missing = microsoft_parser.why_missing()
    if missing:
        pytest.skip(missing)
    found = microsoft_parser.microsoft_parser()
    assert found is not None
    return found


def test_microsofts_parser_gives_the_types_of_the_result(
    parser: microsoft_parser.MicrosoftParser,
) -> None:
    text = "DeviceProcessEvents | summarize n = count(), make_set(FileName) by DeviceName"
    analysis = parser.check(text, "log-analytics")
    assert analysis.diagnostics == ()
    assert analysis.columns is not None
    assert [(c.name, c.kql_type) for c in analysis.columns] == [
        ("DeviceName", "string"),
        ("n", "long"),
        ("set_FileName", "dynamic"),
    ]


def test_microsofts_parser_places_count_characters(
    parser: microsoft_parser.MicrosoftParser,
) -> None:
    text = "DeviceProcessEvents | where FileName == '\U0001f600' | where Foo == 1"
    (one,) = parser.check(text, "defender").diagnostics
    assert text[one.start : one.end] == "Foo"


def test_microsofts_parser_takes_the_built_in_hunts(
    parser: microsoft_parser.MicrosoftParser,
) -> None:
    for hunt in Catalog().all():
        for product in hunt.products:
            rendered = render(hunt, now=NOW, product=product)
            assert parser.check(rendered.text, product).diagnostics == (), hunt.name


def test_microsofts_parser_adds_what_no_other_rule_sees(
    linter: Linter, parser: microsoft_parser.MicrosoftParser, tmp_path: Path
) -> None:
    query = f"DeviceProcessEvents\n| where {WINDOW}\n| extend x = strlen(FileName, 3)"
    assert ("QH106", 3, 14) in found(lint_text(linter, tmp_path, query))


def constructs() -> list[str]:
    path = Path(__file__).parents[1] / "support" / "kql_constructs.kql"
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line[:2] != "//"]


def test_tables_and_functions_are_known_as_microsofts_parser_knows_them(
    parser: microsoft_parser.MicrosoftParser,
) -> None:
    any_hunt = render(Catalog().all()[0], now=NOW)
    unknown = ["T | take 1", "DeviceInfo | union U, (V | count)", "print frob(1)"]
    for query in [*constructs(), *unknown]:
        theirs = {
            d.start
            for d in parser.check(query, "log-analytics").diagnostics
            if d.code in ("KS204", "KS211")
        }
        hunt = Hunt("it", query, "it.kql", QueryPlace("it.kql"))
        rendered = replace(any_hunt, hunt=hunt, text=query, edits=())
        subject = Subject(hunt, NOW, None, {"log-analytics": rendered})
        assert {f.location.column - 1 for f in names.check(subject)} == theirs, query


@pytest.mark.parametrize("has_parser", [True, False])
def test_the_place_that_dropped_a_column_is_named_whoever_misses_it(
    has_parser: bool, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    query = (
        f"let T = DeviceProcessEvents\n| where {WINDOW}\n| project-away FileName;\n"
        "T\n| extend Name = FileName"
    )
    with Linter(NOW) as linter:
        linter.parser = request.getfixturevalue("parser") if has_parser else None
        (finding,) = lint_text(linter, tmp_path, query).findings
    assert finding.rule.code == "QH105"
    assert finding.location.line == 4 + 5
    assert finding.message == "project-away in line 7 has dropped the column 'FileName'"


def test_columns_that_neither_can_tell_are_reported_as_not_checked(tmp_path: Path) -> None:
    query = f"DeviceProcessEvents\n| where {WINDOW}\n| evaluate basket()"
    with Linter(NOW) as linter:
        linter.parser = None
        result = lint_text(linter, tmp_path, query)
    assert any("columns not checked" in text for text in result.unchecked)


def test_names_of_a_function_of_the_service_are_its_own_affair(
    linter: Linter, tmp_path: Path
) -> None:
    query = (
        f"DeviceProcessEvents\n| where {WINDOW}\n| invoke FileProfile(SHA1, 1000)\n"
        "| where GlobalPrevalence < 3"
    )
    codes = [code for code, *_ in found(lint_text(linter, tmp_path, query))]
    assert codes == ["QH503"]


def test_without_the_parser_it_says_what_was_not_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    microsoft_parser.microsoft_parser.cache_clear()
    monkeypatch.setenv(microsoft_parser.VARIABLE, str(tmp_path))
    try:
        run(["hunts", "lint", "qakbot-post-compromise-commands", "--json"])
    finally:
        microsoft_parser.microsoft_parser.cache_clear()
    captured = capsys.readouterr()
    assert "not checked with Microsoft's own parser" in captured.err
    assert "Microsoft" in json.loads(captured.out)["unchecked"][0]
