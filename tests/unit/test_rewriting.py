"""Rewriting before the translator: places of refusals, and plans that follow the records."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from qakhunt.backends.engine.rewriting.spelling import respell_operators, without_mark
from qakhunt.backends.engine.session import EngineRefused, Session
from qakhunt.kql.values import Window
from tests.support.events import EVER, NOW

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with Session([], "log-analytics", {"T": {"Id": "long", "Bag": "dynamic"}}) as opened:
        opened.put("T", [{"Id": 1, "Bag": {"a": 1}}])
        yield opened


def test_columns_made_of_the_records_follow_the_records(session: Session) -> None:
    query = "T | evaluate bag_unpack(Bag)"
    for bag, names in (({"a": 1}, ["Id", "a"]), ({"b": "x", "c": 2}, ["Id", "b", "c"])):
        session.put("T", [{"Id": 1, "Bag": bag}])
        assert session.ask(query, now=NOW, window=EVER).names == names


def test_a_plan_that_does_not_follow_the_records_is_kept(session: Session) -> None:
    session.put("T", [{"Id": 1, "Bag": {"a": 1}}])
    query = "T | project-reorder Bag | sort by Id"
    first = session.ask(query, now=NOW, window=EVER)
    session.put("T", [{"Id": 2, "Bag": {"z": 1}}, {"Id": 3, "Bag": {}}])
    assert session.ask(query, now=NOW, window=EVER).names == first.names == ["Bag", "Id"]
    assert [row[1] for row in session.ask(query, now=NOW, window=EVER).rows] == [3, 2]


@pytest.mark.parametrize(
    ("query", "place"),
    [
        ("((T\n| where Id > 0\n| project-reorder Nope))", (3, 19)),
        ("let f = (n: long) {\n  T | where Id > n and Nope == 1 };\nf(1)\n| count", (3, 1)),
        ("T | top 3 by Id, tostring(Bag)\n| project-keep Nope", (2, 16)),
        ("T\n| extend s = split('a', ',')\n| mv-expand split(s, ';'), Nope", (3, 28)),
        ("let x = T | project-reorder Bag;\nx | evaluate narrow()\n| evaluate basket()", (3, 12)),
        ("T | extend ID = 1, id = 2\n| project-reorder Ids", (2, 19)),
    ],
)
def test_a_refusal_stands_where_the_user_wrote_it(
    session: Session, query: str, place: tuple[int, int]
) -> None:
    with pytest.raises(EngineRefused) as problem:
        session.ask(query, now=NOW, window=EVER)
    assert (problem.value.line, problem.value.column) == place


def test_an_unknown_answer_is_that_of_the_last_question(session: Session) -> None:
    session.ask("T | extend g = geo_info_from_ip_address('10.0.0.1')", now=NOW, window=EVER)
    assert session.unknown
    session.ask("T | count", now=NOW, window=EVER)
    assert not session.unknown


@pytest.mark.parametrize(
    "query",
    [
        "let f = (x: long) { f(x) | take 1 }; f(1)",
        "let f = () { g() | take 1 }; let g = () { f() | take 1 }; f()",
    ],
)
def test_functions_that_call_each_other_end(session: Session, query: str) -> None:
    with pytest.raises(EngineRefused):
        session.ask(query, now=NOW, window=EVER)


def test_what_needs_no_rewriting_stays_as_it_is() -> None:
    for text in ("T | where x in (1, 2) | project (a + 1) * 2", "print x = (1)", "let a = (1); a"):
        assert respell_operators(text, "TimeGenerated").text == text


def test_the_mark_of_a_twin_goes_and_nothing_else() -> None:
    assert without_mark("id__case1__") == "id"
    assert without_mark("max_id__case2__1") == "max_id1"
    assert without_mark("my__case_id") == "my__case_id"


def test_a_window_bounds_a_stage(session: Session) -> None:
    with Session([], "log-analytics", {"E": {"TimeGenerated": "datetime", "n": "long"}}) as opened:
        opened.put("E", [{"TimeGenerated": NOW, "n": 1}])
        query = "E | evaluate narrow() | count"
        assert opened.ask(query, now=NOW, window=EVER).rows[0] == (2,)
        assert opened.ask(query, now=NOW, window=Window(EVER.start, NOW)).rows[0] == (0,)
