"""What reads queries never fails on a query that somebody else wrote."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from hypothesis import given, settings
from hypothesis import strategies as st

from qakhunt.core.errors import SourceLocation
from qakhunt.hunts.model import Hunt, QueryPlace
from qakhunt.kql.tokens import KqlLexError, Token, tokenize
from qakhunt.kql.values import Instant
from qakhunt.testing.case_report import failure_lines, junit_xml
from qakhunt.testing.case_runner import (
    CaseResult,
    Difference,
    Outcome,
    sets_in,
)
from qakhunt.testing.cases import Case, Expectation
from qakhunt.testing.contracts import CaseEvent, Cell
from qakhunt.testing.events import plan_events
from qakhunt.testing.lint.matching import string_tests
from qakhunt.testing.lint.model import read_suppressions
from qakhunt.testing.mutation import mutants

WORDS = [
    "DeviceProcessEvents",
    "let",
    "T",
    "=",
    "where",
    "extend",
    "project",
    "project-away",
    "summarize",
    "by",
    "join",
    "on",
    "kind",
    "inner",
    "union",
    "mv-expand",
    "parse",
    "with",
    "in",
    "in~",
    "has_any",
    "==",
    "!=",
    ">",
    "<=",
    "and",
    "or",
    "not",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ",",
    ";",
    "|",
    "..",
    ".",
    "count()",
    "make_set(FileName)",
    "bin(TimeGenerated,",
    "1h)",
    "FileName",
    "'a'",
    '"b"',
    "@'c'",
    "3",
    "5m",
    "dynamic(['x','y'])",
    "dynamic([1])",
    "//",
    "comment",
    "*",
    "!",
    "~",
    "=",
    "-",
    "$left",
]

queries = st.one_of(
    st.lists(st.sampled_from(WORDS), max_size=30).map(" ".join),
    st.lists(st.sampled_from([*WORDS, "\n"]), max_size=30).map("".join),
    st.text(max_size=60),
)


def read(text: str) -> tuple[list[Token] | None, int]:
    """The tokens, or None and the place where they end."""
    try:
        return tokenize(text), 0
    except KqlLexError as problem:
        return None, problem.offset


@given(queries)
@settings(max_examples=300, deadline=None)
def test_any_text_is_read_or_refused_at_its_place(text: str) -> None:
    hunt = Hunt("it", text, "it.kql", QueryPlace("it.kql"))
    tokens, offset = read(text)
    assert 0 <= offset <= len(text)
    if tokens is None:
        return
    for test in string_tests(text):
        assert 0 <= test.start <= test.node.at[0] < test.node.end <= len(text)
    sets_in(text)
    plan_events(text, hunt, ["DeviceName"])


@given(queries)
@settings(max_examples=150, deadline=None)
def test_each_mutant_is_another_query(text: str) -> None:
    from qakhunt.core.errors import HuntError

    hunt = Hunt("it", text, "it.kql", QueryPlace("it.kql"))
    try:
        found = mutants(hunt)
    except HuntError:
        return
    assert all(mutant.hunt.query != text for mutant in found)
    assert len({mutant.hunt.query for mutant in found}) == len(found)


@given(st.text(max_size=80))
def test_any_comment_is_a_suppression_or_none(text: str) -> None:
    for suppression in read_suppressions(f"x // qakhunt-allow {text}\n{text}", "it.kql"):
        assert suppression.location.line >= 1


@given(st.text(max_size=40), st.text(max_size=40))
@settings(deadline=None)
def test_hostile_text_stays_text_in_the_reports(name: str, cell: str) -> None:
    hunt = Hunt(name, "T", "it.kql", QueryPlace("it.kql"))
    case = Case(
        name, hunt, SourceLocation("it.yaml", 3), {}, {}, Expectation(none=True), {},
        Instant(0), "published", ("log-analytics",),
    )  # fmt: skip
    difference = Difference(cell, 1, (Cell(name, cell, cell),), {}, {name: cell})
    note = CaseEvent("counted", "T", {"Line": cell})
    result = CaseResult(case, "log-analytics", Outcome.FAILED, (difference,), (note,))
    lines = failure_lines([result])
    assert not any(char < " " or "\x7f" <= char <= "\x9f" for line in lines for char in line)
    document = ET.fromstring(junit_xml([result], 1.0))
    assert document.find(".//failure") is not None
