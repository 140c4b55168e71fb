"""Unions whose branches give one column two types: Kusto splits it, DuckDB merges it.

While a query is translated, the arms of every union are kept as queries of their
own; afterwards their columns are compared and a clash is refused.
"""

from __future__ import annotations

import dataclasses
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import TYPE_CHECKING, Any

from qakhunt.backends.engine.corrections import without_null_text
from qakhunt.backends.engine.dialect import Unreadable
from qakhunt.backends.engine.sql_types import kql_type

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

Arms = list[str]

_unions: ContextVar[list[Arms] | None] = ContextVar("unions", default=None)
_lets: ContextVar[tuple[Any, ...]] = ContextVar("lets", default=())


class UnionClash(Unreadable):
    """Branches of a union give a column two types."""


@cache
def install() -> None:
    """Hook into the translator, once per process."""
    from duckdb_kql import translate
    from duckdb_kql.schema import union_output_columns

    original_union, original_query = translate.render_union, translate._render_query

    def render_query(query: Any, schema: Any = None) -> Any:
        token = _lets.set((*_lets.get(), *query.lets))
        try:
            return original_query(query, schema)
        finally:
            _lets.reset(token)

    def render_union(
        op: Any, prev: str, left_cols: Any, query: Any, schema: Any, leading: bool
    ) -> Any:
        kept = _unions.get()
        if kept is not None:
            token = _unions.set(None)  # the arms' own unions are seen when they are rendered
            try:
                kept.append(_arms(translate, op, query, schema))
            finally:
                _unions.reset(token)
        sql = original_union(op, prev, left_cols, query, schema, leading)
        # A branch that lacks a column of text has it empty, since Kusto has no null string.
        return without_null_text(translate, sql, union_output_columns(op, left_cols, schema))

    translate.render_union, translate._render_query = render_union, render_query


def _arms(translate: Any, op: Any, query: Any, schema: Any) -> Arms:
    before = query.operators[: query.operators.index(op)]
    parts = [dataclasses.replace(query, operators=before), *op.branches]
    lets = list(dict(_lets.get()).items())
    return [str(translate.to_sql(dataclasses.replace(part, lets=lets), schema)) for part in parts]


@contextmanager
def watched() -> Iterator[list[Arms]]:
    """The unions that are translated in the block."""
    found: list[Arms] = []
    token = _unions.set(found)
    try:
        yield found
    finally:
        _unions.reset(token)


def refuse_clashes(
    unions: Iterable[Arms], describe: Callable[[str], list[tuple[str, str]]]
) -> None:
    """Refuse a union where a column has two types.

    ``describe`` gives the column names and DuckDB types of a query.
    """
    for arms in unions:
        types: dict[str, str] = {}
        for arm in arms:
            for name, sql_type in describe(arm):
                kind = kql_type(sql_type).replace("int", "long")
                if types.setdefault(name, kind) != kind:
                    raise UnionClash(
                        f"the union's branches give the column {name!r} two types, "
                        f"{types[name]} and {kind}; Kusto would split it",
                        None,
                        hint=f"convert it in one branch, as with to{types[name]}()",
                    )
