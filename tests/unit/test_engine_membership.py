"""Lists of terms mean on the fast path what one expression per term means, on DuckDB itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from qakhunt.backends.engine.corrections import install
from qakhunt.backends.engine.session import require_engine

pytestmark = pytest.mark.engine

# Few enough that a term is often found: what is special to expressions and to SQL, letters
# whose other case has another length, and letters that not every Unicode version knows.
_ALPHABET = "aabAB1_ .-\\|()[]{}^$*+?/\"'%\n\0ß\u017fKk\u0130\u0131éÉ中½\u0870\u0301\u00a0😀"
_TERMS = st.lists(st.text(st.sampled_from(_ALPHABET), max_size=4), min_size=1, max_size=8)
_TEXTS = st.lists(
    st.text(st.sampled_from(_ALPHABET), max_size=14) | st.text(max_size=8), max_size=8
)
_AFFIXES = ("", "a", "_", "\u0870")


@pytest.fixture(scope="module")
def database() -> Iterator[Any]:
    install()
    with require_engine().connect() as connection:
        connection.execute("CREATE TABLE t (i BIGINT, x VARCHAR)")
        yield connection


def fill(database: Any, texts: list[str]) -> None:
    """The texts and one null."""
    database.execute("DELETE FROM t")
    database.execute("INSERT INTO t SELECT unnest(range(len($1))), unnest($1)", [[*texts, None]])


def values(database: Any, test: str) -> list[Any]:
    """The test's value per row."""
    return [row[0] for row in database.execute(f"SELECT {test} FROM t ORDER BY i").fetchall()]


def agrees(database: Any, test: str, wanted: list[Any]) -> None:
    """The test has these values, and keeps these rows as a filter, alone and turned round."""
    assert values(database, test) == wanted, test
    for where, keeps in ((test, True), (f"NOT {test}", False)):
        kept = database.execute(f"SELECT i FROM t WHERE {where} ORDER BY i").fetchall()
        assert [row[0] for row in kept] == [i for i, v in enumerate(wanted) if v is keeps], where


def one_per_term(terms: list[str], joiner: str) -> str:
    """The translator's own form, with boundaries that DuckDB alone decides on."""
    from duckdb_kql import translate
    from duckdb_kql.translate import functions

    tests = [functions.term_match_sql("x", translate.quote_string(term)) for term in terms]
    return f"coalesce({joiner.join(tests)}, FALSE)"


def merged(terms: list[str], value: str, *, require_all: bool = False) -> str:
    from duckdb_kql import ir, translate

    items = tuple(ir.Literal(term, "string") for term in terms)
    node = ir.HasList(ir.ColumnRef("x"), items, require_all)
    return translate._render_has_list(node, value)


@settings(deadline=None, max_examples=40)
@given(terms=_TERMS, texts=_TEXTS)
@example(terms=[""], texts=["", "a"])
@example(terms=["", "a"], texts=["b"])
@example(terms=["K", "\u017f"], texts=["K", "k", "s", "S"])
def test_merged_terms_match_as_one_expression_per_term(
    database: Any, terms: list[str], texts: list[str]
) -> None:
    around = [left + term + right for term in terms[:2] for left in _AFFIXES for right in _AFFIXES]
    fill(database, texts + around)
    for require_all, joiner in ((False, " OR "), (True, " AND ")):
        wanted = values(database, one_per_term(terms, joiner))
        for value in ('"x"', "substr(x, 1)"):
            agrees(database, merged(terms, value, require_all=require_all), wanted)


@pytest.mark.parametrize("count", [10, 100, 1000, 3000])
def test_any_number_of_terms_is_right(database: Any, count: int) -> None:
    edges = ("{}", "-{}", "{}_", "/{}:")
    terms = [edges[n % 4].format(f"word{n} tail{n}") for n in range(count)]
    some = [*terms[:: max(1, count // 10)], terms[-1]]
    fill(
        database, [left + term + right for term in some for left in _AFFIXES for right in _AFFIXES]
    )
    wanted = values(database, one_per_term(some, " OR "))
    assert set(wanted) == {True, False}
    agrees(database, merged(terms, '"x"'), wanted)
