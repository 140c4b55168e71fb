"""KQL to SQL, with the translator's refusals and DuckDB's errors as plain sentences.

Kusto splits a union whose branches give one column two types, where DuckDB merges it: the arms
of every union are kept as queries of their own, whose columns are compared afterwards.
"""

from __future__ import annotations

import dataclasses
import re
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from qakhunt.backends.engine import rendering
from qakhunt.backends.engine.corrections import without_null_text
from qakhunt.backends.engine.dialect import Unreadable, offset_of
from qakhunt.backends.engine.limits import refuse_long_sql
from qakhunt.backends.engine.sql_types import kql_type
from qakhunt.kql.tokens import LineIndex

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from qakhunt.kql.schema import Columns

_LAST_SORT = re.compile(r"(FROM (_\w+) ORDER BY [^\n]*?)( LIMIT \d+)?\)\n(SELECT \* FROM \w+)\Z")
_FUNCTION = re.compile(r"(?:function|aggregate):(\w+)")
_TWINS = re.compile(r"columns '([^']*)' and '([^']*)' differ only in case")
_EXPECTING = re.compile(r"\s+expecting \{.*", re.DOTALL)


@dataclass(frozen=True)
class Translation:
    """One SELECT, its bound parameters, and the arms of its unions."""

    sql: str
    parameters: dict[str, Any]
    unions: tuple[Arms, ...] = ()


def translate(
    duckdb_kql: Any,
    text: str,
    views: Mapping[str, Columns],
    now: dt.datetime,
    *,
    steady: bool = True,
) -> Translation:
    """SQL whose rows come in one order on every run, where ``steady``."""
    schema = {name: list(columns) for name, columns in views.items()}
    if text.lstrip().startswith("."):
        raise Unreadable("a hunt is a query, not a control command", 0)
    with watched() as unions, rendering.watched(text, views):
        result = duckdb_kql.to_sql(text, schema=schema, allow_write=False, query_now=now)
    sql = _steady(str(result)) if steady else str(result)
    refuse_long_sql(sql)
    return Translation(sql, dict(result.parameters), tuple(unions))


def _steady(sql: str) -> str:
    """Break ties of a last sort by the whole row; sort fully where nothing sorts."""
    tied = _LAST_SORT.sub(lambda m: f"{m[1]}, {m[2]}{m[3] or ''})\n{m[4]}", sql)
    if tied != sql or "ORDER BY" in sql or not sql.startswith(("WITH", "SELECT")):
        return tied
    return f"{sql}\nORDER BY ALL"


@contextmanager
def refusals(text: str) -> Iterator[None]:
    """The translator's errors as Unreadable with their place in ``text``."""
    import duckdb_kql

    try:
        yield
    except duckdb_kql.KqlSyntaxError as problem:
        diagnostic = problem.diagnostics[0] if problem.diagnostics else None
        words = _EXPECTING.sub("", diagnostic.message if diagnostic else str(problem))
        offset = _offset(text, diagnostic.span) if diagnostic else None
        raise Unreadable(f"syntax error: {words}", offset) from None
    except duckdb_kql.KqlUnsupportedError as problem:
        name = _FUNCTION.search(problem.construct)
        offset = _offset(text, problem.span) if problem.span else None
        if offset is None and name:
            offset = offset_of(text, name[1])
        named, hint = _construct(problem.construct)
        if offset is None:
            offset = offset_of(text, problem.construct.partition(":")[0])
        construct = f"{name[1]}()" if name else named or _spelled(text, offset)
        raise Unreadable(
            f"the embedded engine does not support {construct or problem.construct}", offset, hint
        ) from None
    except duckdb_kql.KqlSchemaError as problem:
        twins = _TWINS.search(str(problem.hint or ""))
        if twins:
            raise UnionClash(
                f"the columns {twins[1]!r} and {twins[2]!r} differ in case only",
                offset_of(text, twins[2]), hint="rename one of them with project-rename",
            ) from None  # fmt: skip
        raise Unreadable(
            f"no table or column named {problem.name!r}", offset_of(text, problem.name)
        ) from None
    except duckdb_kql.KqlError as problem:
        raise Unreadable(str(problem).splitlines()[0], None) from None
    except RecursionError:
        raise Unreadable("the query is nested too deeply for the embedded engine", None) from None


def _offset(text: str, span: Any) -> int:
    # What ends too early is reported where it ends, not on the empty line behind.
    return min(LineIndex(text).offset(span.line, span.column + 1), len(text.rstrip()))


_ELSEWHERE = "run it with --backend log-analytics or defender, or write it another way"


def _construct(label: str) -> tuple[str | None, str]:
    """The translator's label of a construct as the query writes it, and what to write instead."""
    name, _, detail = label.partition(":")
    if detail == "mixed-types":
        convert = "convert them to one, as with tostring(), tolong() or todouble()"
        return f"{name}() with values of two types", convert
    if name == "operator":
        return f"{detail!r} between two dynamic values", "convert them, as with tostring()"
    if name == "regex lookaround":
        return f"the lookaround {detail} in a regular expression", "Kusto has none either"
    if label == "literal:timespan":
        return "a timespan finer than a microsecond", "write it as a whole number of microseconds"
    if detail and name.startswith(("datetime_", "format_")):
        return f"{name}() with {detail!r}", _ELSEWHERE
    return None, _ELSEWHERE


_OPERATOR = re.compile(r"\|?\s*([A-Za-z][A-Za-z-]*)")


def _spelled(text: str, offset: int | None) -> str | None:
    """The operator as the query writes it, such as ``project-reorder``."""
    match = _OPERATOR.match(text, offset) if offset is not None else None
    return f"the operator {match[1]!r}" if match else None


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
