"""Test cases of hunts: what the file may say, what a case proves, how a failure reads."""

from __future__ import annotations

import json
import time
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from qakhunt.__main__ import run
from qakhunt.hunts.catalog import Catalog
from qakhunt.testing.case_report import failure_lines, junit_xml
from qakhunt.testing.case_runner import CaseResult, CaseRunner, Outcome, run_cases
from qakhunt.testing.cases import CaseError, Suite, find_suites, json_schema, load_suite

pytestmark = pytest.mark.engine

HUNT = """\
id: 00000000-0000-0000-0000-000000000001
name: Small
query: |
  let Names = dynamic(["a", "b"]);
  let Least = 2;
  DeviceProcessEvents
  | where TimeGenerated > ago(1d)
  | where FileName in (Names)
  | summarize Total = count(), Seen = make_set(FileName), First = min(TimeGenerated) by DeviceName
  | where Total >= Least
"""


if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    SuiteOf = Callable[..., Suite]


@pytest.fixture(scope="module")
def runner() -> Iterator[CaseRunner]:
    with CaseRunner() as runner:
        yield runner


@pytest.fixture
def suite_of(tmp_path: Path) -> SuiteOf:
    def write(cases: str, hunt: str = HUNT) -> Suite:
        (tmp_path / "tests").mkdir(exist_ok=True)
        (tmp_path / "small.yaml").write_text(hunt, encoding="utf-8")
        path = tmp_path / "tests" / "small.yaml"
        path.write_text(cases, encoding="utf-8")
        return load_suite(path, Catalog())

    return write


def outcomes(suite: Suite, runner: CaseRunner) -> list[CaseResult]:
    return list(run_cases(suite.cases, runner))


def case(text: str) -> str:
    body = "\n".join("    " + line for line in text.strip("\n").splitlines())
    return f"cases:\n  - name: it\n{body}\n"


FOUR = """
tables:
  DeviceProcessEvents:
    - {DeviceName: x, each: {FileName: [a, b]}}
    - {DeviceName: y, each: {FileName: [a, a, b, c]}}
"""


@pytest.mark.parametrize(
    ("expect", "message"),
    [
        ("{count: 2}", None),
        ("{count: 3}", "expected 3 rows, found 2"),
        ("{none: true}", "expected no rows, found 2"),
        ("{rows: [{DeviceName: y, Total: 3}, {DeviceName: x}]}", None),
        ("{rows: [{DeviceName: y, Total: 3}]}", "a row too many"),
        ("{subset: true, rows: [{DeviceName: y, Total: 3}]}", None),
        ("{rows: [{DeviceName: y, Total: 4}, {DeviceName: x}]}", "row 1 differs in 1 cell"),
        ("{rows: [{DeviceName: x}, {DeviceName: y}, {DeviceName: z}]}", "row 3 is missing"),
        ("{rows: [{Seen: [b, a]}, {Seen: [a, b]}]}", None),
        ("{rows: [{Seen: [a]}, {Seen: [a, b]}]}", "row 1 differs in 1 cell"),
        ("{rows: [{Count: 1}, {}]}", "the result has no column 'Count'"),
        ("{exact: true, rows: [{DeviceName: x}, {DeviceName: y}]}", "row 1 lacks Total"),
        ("{rows: [{Total: '3'}, {Total: 2}]}", "row 1 differs in 1 cell"),
        ("{rows: [{First: start}, {}]}", "row 1 differs in 1 cell"),
        ("{error: no such thing}", "expected the error 'no such thing', but the query ran"),
        ("{warnings: [ago() are rendered]}", None),
        ("{warnings: [too hot]}", "expected the warning 'too hot'"),
    ],
)
def test_what_a_case_may_expect(
    suite_of: SuiteOf, runner: CaseRunner, expect: str, message: str | None
) -> None:
    results = outcomes(suite_of(case(FOUR + f"expect: {expect}")), runner)
    assert [r.product for r in results] == ["log-analytics", "defender"]
    for result in results:
        found = "; ".join(d.message for d in result.differences)
        assert (result.outcome is Outcome.PASSED) == (message is None), found
        assert message is None or message in found


def test_order_matters_only_when_asked(suite_of: SuiteOf, runner: CaseRunner) -> None:
    hunt = HUNT + "  | sort by Total desc\n"
    rows = "rows: [{DeviceName: x}, {DeviceName: y}]"
    free = outcomes(suite_of(case(FOUR + f"expect: {{{rows}}}"), hunt), runner)
    ordered = outcomes(suite_of(case(FOUR + f"expect: {{ordered: true, {rows}}}"), hunt), runner)
    assert {r.outcome for r in free} == {Outcome.PASSED}
    assert {r.outcome for r in ordered} == {Outcome.FAILED}


def test_rows_are_matched_as_well_as_they_can_be(suite_of: SuiteOf, runner: CaseRunner) -> None:
    """The vague row must not take the only result row that fits the strict one."""
    expect = "expect: {rows: [{Seen: [a, b]}, {DeviceName: x}]}"
    assert {r.outcome for r in outcomes(suite_of(case(FOUR + expect)), runner)} == {Outcome.PASSED}


def test_times_may_be_relative_and_products_agree(suite_of: SuiteOf, runner: CaseRunner) -> None:
    text = """
now: 2024-01-02T00:00:00Z
tables:
  DeviceProcessEvents:
    - {TimeGenerated: now-2h, every: 1m, DeviceName: x, each: {FileName: [a, b]}}
expect:
  rows: [{First: 2024-01-01T22:00:00Z}]
"""
    assert {r.outcome for r in outcomes(suite_of(case(text)), runner)} == {Outcome.PASSED}


def test_rows_outside_the_window_do_not_count(suite_of: SuiteOf, runner: CaseRunner) -> None:
    text = """
tables:
  DeviceProcessEvents:
    - {TimeGenerated: now-1d, DeviceName: x, each: {FileName: [a, b]}}
expect: {none: true}
"""
    assert {r.outcome for r in outcomes(suite_of(case(text)), runner)} == {Outcome.PASSED}


def test_a_case_leaves_nothing_behind_for_the_next(suite_of: SuiteOf, runner: CaseRunner) -> None:
    text = (
        "cases:\n"
        "  - {name: fails, tables: {DeviceProcessEvents: [{FileName: a}, {FileName: b}]},"
        " expect: {none: true}}\n"
        "  - {name: empty, expect: {none: true}}\n"
    )
    hunt = "name: all\nquery: |\n  DeviceProcessEvents | where TimeGenerated > ago(1d)\n"
    failed, empty = outcomes(suite_of(text, hunt), runner)[::2]
    assert failed.outcome is Outcome.FAILED
    assert empty.outcome is Outcome.PASSED
    exact = text.replace("{none: true}", "{exact: true, rows: [{}, {}]}", 1)
    again = outcomes(suite_of(exact, hunt), runner)
    assert "qakhunt_row" not in again[0].differences[0].message


def test_rows_come_from_a_file(suite_of: SuiteOf, runner: CaseRunner, tmp_path: Path) -> None:
    lines = [
        {"Timestamp": "2024-03-15T10:00:00Z", "DeviceName": "x", "FileName": name}
        for name in ("a", "b")
    ]
    suite = suite_of(
        case("tables: {DeviceProcessEvents: rows.ndjson}\nexpect: {rows: [{Total: 2}]}")
    )
    path = tmp_path / "tests" / "rows.ndjson"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    assert {r.outcome for r in outcomes(suite, runner)} == {Outcome.PASSED}


def test_the_failure_names_cells_and_how_far_each_event_came(
    suite_of: SuiteOf, runner: CaseRunner
) -> None:
    hostile = "\x1b[31mred"
    text = f"""
tables:
  DeviceProcessEvents:
    - {{DeviceName: x, each: {{FileName: [a, b, "{hostile.encode("unicode_escape").decode()}"]}}}}
    - {{DeviceName: y, each: {{FileName: [a, b]}}}}
expect: {{rows: [{{DeviceName: x, Total: 3}}, {{DeviceName: y}}]}}
"""
    results = outcomes(suite_of(case(text)), runner)
    lines = failure_lines([results[0]])
    assert "row 1 differs in 1 cell" in lines[0]
    assert any("Total: expected 3, found 2" in line for line in lines)
    marks = [line.split()[0] for line in lines if "2024-03-1" in line]
    assert marks == ["+", "+", "-", ".", "."]
    assert not any("\x1b" in line for line in lines)
    document = ET.fromstring(junit_xml(results, 0.1))
    assert document.attrib["failures"] == "2"
    assert "Total: expected 3, found 2" in (document.findtext(".//failure") or "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cases:\n  - name: it\n    expect: {}\n", "the case expects nothing"),
        ("cases:\n  - name: it\n    expects: {count: 1}\n", "did you mean 'expect'?"),
        (case("expect: {error: x, count: 1}"), "has no result"),
        (case("expect: {subset: true, count: 1}"), "speak of 'rows'"),
        (case("expect: {subset: true, rows: []}"), "is true of every result"),
        (case("expect: {count: 1}") + "  - name: it\n    expect: {count: 1}\n", "two cases"),
        (case("now: soon\nexpect: {count: 1}"), "not an ISO 8601"),
        ("hunt: nothing-of-that-name\ncases: []\n", "no hunt named"),
    ],
)
def test_a_broken_file_is_one_error_with_its_line(
    suite_of: SuiteOf, text: str, message: str
) -> None:
    with pytest.raises(CaseError) as problem:
        suite_of(text)
    assert message in f"{problem.value} {problem.value.hint}"
    assert problem.value.location is not None
    assert problem.value.location.line


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{DeviceNam: x}", "did you mean 'DeviceName'?"),
        ("{DeviceName: 7}", "DeviceName is a string"),
        ("{ProcessId: seven}", "ProcessId is a long"),
        ("{each: {FileName: [a], DeviceName: [x, y]}}", "of one length"),
        ("{each: {FileName: []}}", "are empty, so there is no row"),
        ("{ProcessId: 9223372036854775808}", "ProcessId is a long: 9223372036854775808 is beyond"),
        ("{AdditionalFields: 99999999999999999999}", "is beyond 64 bits"),
        ("{file: none.ndjson}", "no such file"),
        ("{TimeGenerated: yesterday}", "TimeGenerated is a datetime"),
    ],
)
def test_a_row_that_the_table_cannot_hold_fails_its_case(
    suite_of: SuiteOf, runner: CaseRunner, row: str, message: str
) -> None:
    text = f"tables: {{DeviceProcessEvents: [{row}]}}\nexpect: {{none: true}}"
    result = outcomes(suite_of(case(text)), runner)[0]
    assert result.outcome is Outcome.FAILED
    assert message in result.differences[0].message


def test_a_query_that_does_not_run_fails_with_its_place(
    suite_of: SuiteOf, runner: CaseRunner, tmp_path: Path
) -> None:
    hunt = HUNT.replace("count()", "counted()")
    result = outcomes(suite_of(case("expect: {none: true}"), hunt), runner)[0]
    assert result.outcome is Outcome.FAILED
    assert f"{tmp_path / 'small.yaml'}:9:" in result.differences[0].message


def test_a_product_that_the_hunt_cannot_serve_is_skipped_and_said(
    suite_of: SuiteOf, runner: CaseRunner
) -> None:
    hunt = "name: s\nquery: |\n  SigninLogs | where TimeGenerated > ago(1d)\n"
    results = outcomes(suite_of(case("expect: {none: true}"), hunt), runner)
    assert [r.outcome for r in results] == [Outcome.PASSED, Outcome.SKIPPED]


def test_two_hundred_cases_of_one_rendering_are_quick(
    suite_of: SuiteOf, runner: CaseRunner
) -> None:
    rest = "tables: {DeviceProcessEvents: [{FileName: a}]}, expect: {none: true}"
    text = "cases:\n" + "".join(f"  - {{name: c{i}, {rest}}}\n" for i in range(200))
    hunt = HUNT + "qakhunt: {products: [log-analytics]}\n"
    suite = suite_of(text, hunt)
    started = time.process_time()
    results = outcomes(suite, runner)
    assert {r.outcome for r in results} == {Outcome.PASSED}
    assert time.process_time() - started < 5


def test_the_shipped_schema_is_the_models_own() -> None:
    import qakhunt.data

    path = Path(qakhunt.data.__path__[0]) / "test_cases.schema.json"
    assert json.loads(path.read_text(encoding="utf-8")) == json.loads(json.dumps(json_schema()))


def test_the_published_hunts_pass(capsys: pytest.CaptureFixture[str]) -> None:
    published = [hunt.name for hunt in Catalog().all() if "post-compromise-commands" in hunt.name]
    assert run(["test", *published, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["failed"] == 0
    assert {c["hunt"] for c in document["cases"]} == set(published)


def test_every_built_in_hunt_has_cases_that_fire_and_cases_that_stay_silent() -> None:
    """All of them run in .ci/hunts."""
    suites = find_suites([], Catalog())
    assert {suite.hunt.name for suite in suites} == {hunt.name for hunt in Catalog().all()}
    for suite in suites:
        silent = [c for c in suite.cases if c.expect.none]
        firing = [c for c in suite.cases if c.expect.rows or c.expect.count]
        assert silent, suite.path
        assert firing, suite.path


def test_the_exit_code_tells_a_failure(
    suite_of: SuiteOf, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = suite_of(case("expect: {count: 1}"))
    assert run(["test", str(suite.path)]) == 1
    assert "FAIL" in capsys.readouterr().out
    assert run(["test", str(suite.path), "-k", "nothing like it"]) == 2
    assert "no test cases to run" in capsys.readouterr().err
    junit = tmp_path / "out.xml"
    assert run(["test", str(tmp_path / "small.yaml"), "--junit", str(junit)]) == 1
    assert ET.parse(junit).getroot().attrib["tests"] == "2"
