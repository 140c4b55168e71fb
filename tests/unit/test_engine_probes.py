"""Probes of the pinned translator: what it got wrong is put right, and stays so.

Each expectation is Kusto's documented or measured behaviour. When an upgrade of
duckdb-kql changes an answer, one of these fails.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from qakhunt.backends.engine.session import EngineRefused, Session
from qakhunt.hunts.window import parse
from qakhunt.kql.values import Instant
from tests.support.events import NOW, OCTOBER, event, write_ndjson

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    records = [
        event("net view", ReportId=1, AccountName='["x","y"]', AdditionalFields={"a": [1, 2]}),
        event("NET  VIEW", ReportId=2, AccountName="bob", TimeGenerated="2026-10-06T00:00:00Z"),
        event("(a|b)*", ReportId=3, AccountName="", AdditionalFields="text"),
        event("xnet viewx", ReportId=4, TimeGenerated="2026-10-12T00:00:00.0000009Z"),
    ]
    path = write_ndjson(tmp_path_factory.mktemp("probes") / "e.ndjson", records)
    with Session([str(path)], "log-analytics") as opened:
        yield opened


def cells(session: Session, query: str) -> list[Any]:
    text = f"DeviceProcessEvents | sort by ReportId asc | {query}"
    table = session.ask(text, now=NOW, window=parse(OCTOBER, NOW))
    return [row[0] if len(row) == 1 else row for row in table.rows]


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        # 2026-10-05 is a Monday; Kusto's bins of 7 days begin on Mondays (from 0001-01-01).
        ("7d", ["2026-10-05", "2026-10-05", "2026-10-05", "2026-10-12"]),
        ("1d", ["2026-10-05", "2026-10-06", "2026-10-05", "2026-10-12"]),
        ("30m", ["2026-10-05T10:00:00Z", "2026-10-06", "2026-10-05T10:00:00Z", "2026-10-12"]),
    ],
)
def test_bins_begin_where_kustos_do(session: Session, size: str, expected: list[str]) -> None:
    assert cells(session, f"project b = bin(TimeGenerated, {size})") == [
        Instant.parse(text) for text in expected
    ]


def test_bins_of_numbers_and_timespans(session: Session) -> None:
    assert cells(session, "project bin(ReportId, 3)") == [0, 0, 3, 3]
    assert str(cells(session, "take 1 | project bin(3h + 5m, 1h)")[0]) == "03:00:00"


def test_a_bin_of_a_difference_of_times_is_a_timespan(session: Session) -> None:
    since = "TimeGenerated - datetime(2026-10-04T07:30:00Z)"
    assert str(cells(session, f"take 1 | project bin({since}, 1h)")[0]) == "1.02:00:00"
    assert cells(session, "take 1 | project bin(TimeGenerated - 1h, 1h)") == [
        Instant.parse("2026-10-05T09:00:00Z")
    ]


def test_text_that_is_no_json_stays_text(session: Session) -> None:
    assert cells(session, "project parse_json(ProcessCommandLine)") == [
        "net view", "NET  VIEW", "(a|b)*", "xnet viewx",
    ]  # fmt: skip
    assert cells(session, "take 1 | project a = parse_json('{\"k\": 1}').k") == [1]
    assert cells(session, "take 1 | project isnull(parse_json(''))") == [True]


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("array_sort_asc(dynamic([10, 9, 2.5, -1]))", [-1, 2.5, 9, 10]),
        ("array_sort_desc(dynamic([10, 9, 100]))", [100, 10, 9]),
        ("array_sort_asc(dynamic([null, 3, 20]))", [3, 20, None]),
        ("array_sort_desc(dynamic([3, null, 20]))", [20, 3, None]),
        ("array_sort_asc(dynamic(['b', '10', '9', 'a']))", ["10", "9", "a", "b"]),
        ("array_sort_desc(make_set(ReportId))", [4, 3, 2, 1]),
    ],
)
def test_arrays_of_numbers_sort_by_value(session: Session, call: str, expected: list[Any]) -> None:
    query = "summarize x = " if "make_set" in call else "take 1 | project x = "
    assert cells(session, query + call) == [expected]


@pytest.mark.parametrize("function", ["make_set", "make_list"])
def test_a_set_or_list_keeps_its_size(session: Session, function: str) -> None:
    assert cells(session, f"summarize array_length({function}(ProcessCommandLine, 2))") == [2]
    assert cells(session, f"summarize array_length({function}(ProcessCommandLine))") == [4]
    conditional = f"{function}_if(ProcessCommandLine, ReportId > 1, 2)"
    assert cells(session, f"summarize array_length({conditional})") == [2]


def test_a_string_that_looks_like_an_array_is_one_element(session: Session) -> None:
    found = cells(session, "where ReportId < 3 | summarize make_set(AccountName)")
    assert sorted(found[0]) == ['["x","y"]', "bob"]
    assert cells(session, "take 1 | summarize make_set(AdditionalFields.a)") == [[1, 2]]


@pytest.mark.parametrize("function", ["make_set", "make_list"])
def test_times_in_a_set_are_iso_8601(session: Session, function: str) -> None:
    found = cells(session, f"take 1 | summarize {function}(TimeGenerated)")
    assert found == [["2026-10-05T10:00:00.0000000Z"]]


def test_sets_come_in_one_order(session: Session) -> None:
    found = cells(session, "summarize make_set(ProcessCommandLine)")
    assert found[0] == sorted(found[0])


@pytest.mark.parametrize(
    ("literal", "value"),
    [
        ('h"secret"', "secret"),
        ("```two\nlines```", "two\nlines"),
        ('"\\u0041\\x42"', "AB"),
        ("@'C:\\x''y'", "C:\\x'y"),
        ('"a\\tb\\\\n"', "a\tb\\n"),
    ],
)
def test_every_string_form_means_the_same_here(session: Session, literal: str, value: str) -> None:
    assert cells(session, f"take 1 | project x = {literal}") == [value]


def test_escapes_in_dynamic_mean_the_same_here(session: Session) -> None:
    assert cells(session, 'take 1 | project dynamic(["\\u0041", "x\\ny"])') == [["A", "x\ny"]]


@pytest.mark.parametrize(
    ("predicate", "expected"),
    [
        ("ProcessCommandLine has_any ('net view', 'zzz')", [1]),
        ("ProcessCommandLine has_any (dynamic(['VIEW', 'zzz']))", [1, 2]),
        ("ProcessCommandLine has_any ('(a|b)*')", [3]),
        ("ProcessCommandLine has_any ('(a')", [3]),
        ("ProcessCommandLine has_any ('.*')", []),
        ("ProcessCommandLine has_any ('.', '')", [1, 2, 3, 4]),
        ("ProcessCommandLine has_any ('zzz', '|b)')", [3]),
        ("ProcessCommandLine has_any ('zzz', '\u0870', 'VIEW')", [1, 2]),
        ("not(ProcessCommandLine has_any ('net view', '*'))", [2, 4]),
        ("tolower(ProcessCommandLine) has_any ('VIEW', 'zzz')", [1, 2]),
        ("AdditionalFields.a has_any ('2', 'zzz')", [1]),
        ("iff(ProcessCommandLine has_any ('view', 'zzz'), true, false)", [1, 2]),
        ("ProcessCommandLine has_all ('net', 'view')", [1, 2]),
        ("ProcessCommandLine has_all (dynamic(['b', '(a']))", [3]),
        ("not(AdditionalFields.a has_all ('1', '2'))", [2, 3, 4]),
        ("ProcessCommandLine in~ (dynamic([]))", []),
        ("ProcessCommandLine !in~ (dynamic([]))", [1, 2, 3, 4]),
        ("ProcessCommandLine has 'net'", [1, 2]),
        ("ProcessCommandLine in ('net view')", [1]),
        ("ProcessCommandLine in~ ('NET VIEW')", [1]),
        ("ProcessCommandLine in (dynamic(['net view', \"(a|b)*\"]))", [1, 3]),
        ("ProcessCommandLine in~ (dynamic(['NET VIEW', 'X']))", [1]),
        ("ProcessCommandLine !in (dynamic(['net view']))", [2, 3, 4]),
        ("AccountName in (dynamic(['', 'bob']))", [2, 3]),
        ("ProcessCommandLine contains 'NET'", [1, 2, 4]),
        ("ProcessCommandLine matches regex @'^net'", [1]),
    ],
)
def test_text_operators(session: Session, predicate: str, expected: list[int]) -> None:
    assert cells(session, f"where {predicate} | project ReportId") == expected


def test_merged_terms_match_what_single_terms_match(session: Session) -> None:
    terms = ["net view", "NET", "a", "b)", "|", "xnet", "viewx", ".", "view"]
    for term in terms:
        one = cells(session, f"where ProcessCommandLine has '{term}' | project ReportId")
        many = cells(session, f"where ProcessCommandLine has_any ('{term}') | project ReportId")
        assert one == many, term


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("where processcommandline == 'x'", "no column named 'processcommandline'"),
        ("where NoSuch == 'x'", "no column named 'NoSuch'"),
        ("project-reorder NoSuch", "no column named 'NoSuch'"),
        ("evaluate basket()", "the plugin basket() of 'evaluate'"),
        ("invoke DeviceProfile()", "the function DeviceProfile() behind 'invoke'"),
        ("where x ==", "syntax error"),
        ("summarize a = 1 +", "syntax error"),
    ],
)
def test_what_the_engine_refuses_is_named_with_its_place(
    session: Session, query: str, words: str
) -> None:
    with pytest.raises(EngineRefused) as problem:
        session.ask(f"DeviceProcessEvents\n| {query}\n", now=NOW, window=parse(OCTOBER, NOW))
    assert words in problem.value.message
    assert problem.value.line in (2, 3)
    assert problem.value.column >= 1


def test_a_union_of_clashing_types_has_a_column_for_each(session: Session) -> None:
    query = (
        "union (DeviceProcessEvents | project x = ReportId), "
        "(DeviceProcessEvents | project x = DeviceName) | summarize max(x_long), max(x_string)"
    )
    answer = session.ask(query, now=NOW, window=parse(OCTOBER, NOW))
    assert list(answer.rows) == [(4, "ws-1")]


def test_the_clock_is_the_runs(session: Session) -> None:
    assert cells(session, "take 1 | project now(), ago(1d)") == [
        (NOW, Instant.parse("2026-11-04T09:00:00Z"))
    ]


def test_equal_sort_keys_come_in_one_order(session: Session) -> None:
    first = cells(session, "summarize n = count() by ReportId | sort by n")
    assert all(
        cells(session, "summarize n = count() by ReportId | sort by n") == first for _ in range(5)
    )


@pytest.mark.parametrize(
    "query",
    [
        "union (DeviceProcessEvents | project x = ReportId), "
        "(DeviceProcessEvents | project x = ReportId + 1)",
        "let A = DeviceProcessEvents | project x = ReportId, y = 'a';\n"
        "let B = A | where x > 2;\nunion A, B | summarize n = count() by x",
        "let A = DeviceProcessEvents | where TimeGenerated > ago(90d);\n"
        "A | union (A | where ReportId > 9), DeviceProcessEvents | count",
        "DeviceProcessEvents | union DeviceNetworkEvents | summarize count() by ActionType",
        "let U = (union DeviceProcessEvents, DeviceNetworkEvents);\nU | union U | count",
    ],
)
def test_a_union_of_like_types_runs(session: Session, query: str) -> None:
    assert session.ask(query, now=NOW, window=parse(OCTOBER, NOW)).rows


@pytest.mark.parametrize(("operator", "expected"), [("in", [1]), ("!in", [2, 3, 4])])
def test_nothing_is_in_no_list(session: Session, operator: str, expected: list[int]) -> None:
    """What an outer join finds nothing for is in no list, and not in every list."""
    query = (
        "project k = ReportId | join kind=leftouter (DeviceProcessEvents | where ReportId == 1 "
        f"| project k = ReportId, L = ProcessCommandLine) on k | where L {operator} "
        "(dynamic(['net view'])) | project k"
    )
    assert sorted(cells(session, query)) == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("top 2 by ReportId | project ReportId", [4, 3]),
        ("project ReportId | top 2 by ReportId", [4, 3]),
        ("project ReportId | top 2 by ReportId asc", [1, 2]),
        ("project ReportId, n = 1 | top 3 by n | project ReportId", [1, 2, 3]),
        ("sort by ReportId | take 1 | project ReportId", [4]),
    ],
)
def test_top_takes_the_first_in_order(session: Session, query: str, expected: list[int]) -> None:
    assert cells(session, query) == expected


@pytest.mark.parametrize(
    "query",
    [
        "every | join kind=leftouter (one) on k",
        "one | join kind=rightouter (every) on k",
        "one | join kind=fullouter (every) on k",
        "every | lookup (one) on k",
        "every | where k > 1 | union (one)",
    ],
)
def test_text_that_a_row_lacks_is_empty_and_not_null(session: Session, query: str) -> None:
    text = (
        "let every = DeviceProcessEvents | project k = ReportId;\n"
        "let one = every | where k == 1 | extend L = 'x', N = 7;\n"
        f"{query} | summarize e = countif(L == ''), n = countif(isnull(N)), l = make_set(L)"
    )
    answer = session.ask(text, now=NOW, window=parse(OCTOBER, NOW))
    assert list(answer.rows) == [(3, 3, ["", "x"])]


@pytest.mark.parametrize(
    ("call", "expected"),
    [("isnull", True), ("isnotnull", False), ("isempty", True), ("isnotempty", False)],
)
def test_a_null_in_json_is_null(session: Session, call: str, expected: bool) -> None:
    query = f"take 1 | project {call}(parse_json('{{\"a\": null}}').a)"
    assert cells(session, query) == [expected]
    other = f'take 1 | project {call}(parse_json(\'{{"a": "null"}}\').b), {call}(ReportId)'
    assert cells(session, other) == [(expected, not expected)]


@pytest.mark.parametrize("function", ["make_set", "make_list"])
@pytest.mark.parametrize(
    ("span", "expected"),
    [
        ("26h", "1.02:00:00"), ("-90s", "-00:01:30"), ("2d", "2.00:00:00"),
        ("1.5s", "00:00:01.5000000"), ("400d", "400.00:00:00"),
    ],
)  # fmt: skip
def test_timespans_in_a_set_are_kustos(
    session: Session, function: str, span: str, expected: str
) -> None:
    query = f"take 1 | extend d = totimespan({span}) | summarize {function}(d)"
    assert cells(session, query) == [[expected]]


def test_literals_keep_their_type(session: Session) -> None:
    query = (
        "DeviceProcessEvents | take 1 | project a = decimal(1.50), b = decimal(null), "
        "c = todecimal('2.5') * 2, d = dynamic(null), e = tostring(dynamic(null))"
    )
    table = session.ask(query, now=NOW, window=parse(OCTOBER, NOW))
    kinds = [column.kql_type for column in table.columns]
    assert kinds == ["decimal", "decimal", "decimal", "dynamic", "string"]
    assert [str(cell) for cell in table.rows[0]] == ["1.5", "None", "5", "None", ""]
    listed = "datatable(a: decimal, b: dynamic)[decimal(1.5), dynamic(null)] | project a, b"
    assert str(session.ask(listed, now=NOW, window=parse(OCTOBER, NOW)).rows[0][0]) == "1.5"
