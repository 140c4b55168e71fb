"""The syntax tree: every token in its place, whatever the text, and the shapes of all of KQL."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qakhunt.hunts.catalog import Catalog
from qakhunt.kql.parser import DEEPEST, parse
from qakhunt.kql.syntax import (
    Call,
    Chain,
    Comparison,
    Function,
    Group,
    Let,
    Literal,
    Name,
    Node,
    Operator,
    Pipeline,
    Script,
    Unparsed,
    find,
)
from qakhunt.kql.tokens import KqlLexError, Token, tokenize
from qakhunt.kql.visitors import sources

SUPPORT = Path(__file__).parents[1] / "support"
HUNTS = {hunt.name: hunt.query for hunt in Catalog().all()}
LINES = [
    line.replace("\\n", "\n")
    for name in ("kql_constructs.kql", "kql_syntax.kql")
    for line in (SUPPORT / name).read_text(encoding="utf-8").splitlines()
    if not line.startswith("//")
]


def well_formed(text: str) -> Script:
    """The tree, after its spans and its tokens were compared with the text."""
    tree = parse(text)
    try:
        assert list(tree.tokens) == tokenize(text)
    except KqlLexError:
        assert "".join(text.split()) or not tree.parts
    for node in tree.walk():
        at = node.start
        for part in node.parts:
            assert at <= part.start <= part.end <= node.end
            if isinstance(part, Token):
                assert text[part.start : part.end] == part.text
            at = part.end
        if node.parts:
            assert (node.parts[0].start, node.parts[-1].end) == (node.start, node.end)
        for name in node.__struct_fields__[3:]:
            value: Any = getattr(node, name)
            for field in value if isinstance(value, tuple) else (value,):
                inside = not isinstance(field, Node) or not field.parts
                assert inside or node.start <= field.start <= field.end <= node.end
    return tree


@pytest.mark.parametrize("text", [*HUNTS.values(), *LINES])
def test_all_of_the_language_is_understood(text: str) -> None:
    left = [text[node.start : node.end] for node in find(well_formed(text), Unparsed)]
    assert not [part for part in left if part]


@pytest.mark.parametrize("text", LINES)
def test_every_beginning_of_a_query_has_a_tree(text: str) -> None:
    for token in tokenize(text)[:: 3 if len(text) > 60 else 1]:
        well_formed(text[: token.end])
        well_formed(text[token.start :])


@settings(deadline=None)
@given(st.text())
def test_any_text_has_a_tree(text: str) -> None:
    well_formed(text)


@settings(deadline=None)
@given(st.lists(st.sampled_from(sorted({t.text for q in HUNTS.values() for t in tokenize(q)}))))
def test_any_words_of_the_language_have_a_tree(words: list[str]) -> None:
    well_formed(" ".join(words))


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([*HUNTS.values(), *LINES]), st.randoms(use_true_random=False))
def test_a_broken_query_has_a_tree(text: str, chance: random.Random) -> None:
    for _ in range(chance.randrange(1, 4)):
        start = chance.randrange(len(text) + 1)
        end = min(len(text), start + chance.randrange(9))
        text = (
            text[:start] + chance.choice(["", "(", ")", "|", ";", ",", "=", "'", "["]) + text[end:]
        )
    well_formed(text)


@pytest.mark.parametrize(
    "opening", ["(", "[", "{", "f(", "a[", "x in (", "(T | where ", "let f = () {"]
)
def test_deep_nesting_ends_without_a_recursion_error(opening: str) -> None:
    closing = {"(": ")", "[": "]", "{": "}"}[next(c for c in reversed(opening) if c in "([{")]
    for depth in (DEEPEST - 5, 3000):
        well_formed(opening * depth + "1" + closing * depth)
    well_formed(opening * 3000)


@pytest.mark.parametrize("text", [
    "a or ", "1 + ", "- ", "a.", "a == ", "T | where x | ", "x = ", "x: ", "'a' ", "not ", "union ",
    "print ", "T | fork a = ", "T | mv-apply x on ", "let a = ", "a .. ", "declare ", "x asc ", "| ",
])  # fmt: skip
def test_long_chains_end_without_a_recursion_error(text: str) -> None:
    well_formed(text * 5000 + "b")


def shape(node: Node) -> Any:
    if isinstance(node, (Name, Literal)):
        return "".join(token.text for token in node.tokens)
    if isinstance(node, Chain):
        return [node.operators[0], *map(shape, node.operands)]
    if isinstance(node, Comparison):
        return [node.operator, shape(node.left), shape(node.right)]
    if isinstance(node, Call):
        return [node.name + "()", *map(shape, node.arguments)]
    if isinstance(node, Group):
        return list(map(shape, node.items))
    return type(node).__name__


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a or b and c or d", ["or", "a", ["and", "b", "c"], "d"]),
        ("a and (b or c)", ["and", "a", [["or", "b", "c"]]]),
        ("a == b + c * d", ["==", "a", ["+", "b", ["*", "c", "d"]]]),
        ("a < b == c", ["==", ["<", "a", "b"], "c"]),
        ("a has b + c", ["+", ["has", "a", "b"], "c"]),
        ("a !in~ ('x', 'y')", ["!in~", "a", ["'x'", "'y'"]]),
        ("a !between (1 .. 2)", ["!between", "a", ["Interval"]]),
        ("a matches regex 'x' and not(b)", ["and", ["matches regex", "a", "'x'"], ["not()", "b"]]),
        ("a in ((T | take 1))", ["in", "a", [["Pipeline"]]]),
    ],
)
def test_operators_bind_as_kusto_binds_them(text: str, expected: list[Any]) -> None:
    query = parse(f"T | where {text}").query
    assert isinstance(query, Pipeline)
    (condition,) = query.operators[0].arguments
    assert shape(condition) == expected


def test_an_operator_shows_its_options_arguments_and_clauses() -> None:
    text = "T | join kind=leftouter hint.strategy=shuffle (U | take 1) on a, $left.b == $right.c"
    query = parse(text).query
    assert isinstance(query, Pipeline)
    (join,) = query.operators
    assert (join.option("kind"), join.option("hint.strategy")) == ("leftouter", "shuffle")
    assert text[join.arguments[0].start : join.arguments[0].end] == "(U | take 1)"
    assert [text[n.start : n.end] for n in join.clause("on") or ()] == [
        "a", "$left.b == $right.c",
    ]  # fmt: skip
    assert text[join.start :].startswith("| join")


def test_what_only_looks_like_a_literal_has_no_value() -> None:
    tree = parse(r"T | where ['\q'] == '\q' and a == dynamic([1,) and b == 'c' 'd'")
    assert [one.value for one in find(tree, Literal)] == [None, None, "cd"]
    assert [one.text for one in find(tree, Literal) if one.type == "string"] == [r"'\q'", "cd"]


def test_lets_and_functions_hold_their_values() -> None:
    tree = parse("let a = 1; let f = (x: string) { let b = 2; T | where c == x }; f('z')")
    assert [let.name for let in tree.lets] == ["a", "f"]
    function = tree.lets[1].value
    assert isinstance(function, Function)
    assert isinstance(function.body.statements[0], Let)
    assert isinstance(function.body.query, Pipeline)
    assert isinstance(tree.query, Call)


def test_an_unknown_operator_keeps_the_queries_in_it() -> None:
    tree = parse("T | frobnicate deeply (U | where a == 1) by b")
    names = [one.name for one in find(tree, Operator)]
    assert names == ["frobnicate", "where"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("T | where a == b", ["table T query"]),
        ("let L = T; L | join (U) on a", ["table T let", "table U subquery"]),
        ("let T = U; T", ["table U let"]),
        ("union T, (U | take 1), V*", ["table T query", "table U query", "wildcard V* query"]),
        ("let f = (T: (a: long), b: string) { T | join U on a }; f(V, 'x')",
         ["table U subquery", "table V subquery"]),
        ("T | where a in (U) and b in ('x', c) and d in ((V | project d))",
         ["table T query", "member U subquery", "table V subquery"]),
        ("let l = dynamic([]); T | where a in (l)", ["table T query"]),
        ("let s = toscalar(T | count); print s", ["table T let"]),
        ("print toscalar(T | count)", ["table T subquery"]),
        ("workspace('w').T | union database('d').U", ["elsewhere T query", "elsewhere U subquery"]),
        ("_GetWatchlist('w') | project SearchKey", ["function _GetWatchlist query"]),
        ("T | where a in ((_GetWatchlist('w') | project k))",
         ["table T query", "function _GetWatchlist subquery"]),
        ("externaldata(a: string)['https://x'] | take 1", ["external externaldata subquery"]),
        ("search 'x'", ["everything search subquery"]),
        ("search in (T, U*) 'x'", ["table T subquery", "wildcard U* subquery"]),
        ("range x from 1 to 3 step 1 | join (datatable(a: int)[1]) on a", []),
        ("T | as X | union X", ["table T query"]),
        ("T | make-graph a --> b with U on c | graph-match (x)-[e]->(y) where x.a == 1 project x.b",
         ["table T query", "table U subquery"]),
        ("T | where U.a == 1 and V == 2 | summarize W = count() by Z", ["table T query"]),
        ("materialize(T | take 1) | extend a = toscalar(U | count)",
         ["table T query", "table U subquery"]),
    ],
)  # fmt: skip
def test_sources_are_the_tables_in_table_position(text: str, expected: list[str]) -> None:
    assert [f"{s.kind} {s.name} {s.place}" for s in sources(parse(text))] == expected
