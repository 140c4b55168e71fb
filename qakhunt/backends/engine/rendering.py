"""What is watched while the translator writes SQL: tables, repetition and size.

A value that a construct's SQL repeats is worked out once: the templates of nested
calls would otherwise multiply, six ``tostring`` to gigabytes.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections import Counter
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import TYPE_CHECKING, Any

from qakhunt.backends.engine import dynamics
from qakhunt.backends.engine.dialect import Unreadable, offset_of
from qakhunt.backends.engine.limits import refuse_long_sql
from qakhunt.core.errors import nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from qakhunt.kql.schema import Columns

_SMALL = 200
"""Characters of SQL that are put in without a look."""
_REPEATED = 16_000
"""Characters that the copies of one value may take: a binding costs a list for each row."""
_LAZY = frozenset({"iff", "iif", "case", "coalesce"})
# DuckDB takes neither in a lambda.
_UNBINDABLE = re.compile(r"\(\s*(?:SELECT|WITH)\b| OVER \(")


@dataclasses.dataclass
class _Child:
    """A part of the expression that is being written; ``sql`` once it is asked for."""

    name: str
    bindable: bool
    sql: str | None = None


@dataclasses.dataclass
class _Rendering:
    text: str
    tables: Mapping[str, Columns]
    prefix: str
    kinds: dynamics.Kinds
    numbers: Iterator[int] = dataclasses.field(default_factory=itertools.count)
    children: dict[int, _Child] = dataclasses.field(default_factory=dict)
    """Of the innermost expression, by the id of the node."""
    columns: list[str] | None = None
    """Those that the operator being written reads, where they are known."""

    @contextmanager
    def inside(self, children: dict[int, _Child]) -> Iterator[None]:
        before, self.children = self.children, children
        try:
            yield
        finally:
            self.children = before


_now: ContextVar[_Rendering | None] = ContextVar("rendering", default=None)


@contextmanager
def watched(text: str, tables: Mapping[str, Columns]) -> Iterator[None]:
    """Within the block the query's tables are those of ``tables``."""
    from duckdb_kql import translate

    kinds = dynamics.Kinds(translate, text, tables)
    known = text.casefold() + " ".join(name for t in kinds.tables for name in t).casefold()
    prefix = "_once"
    while prefix in known:
        prefix += "_"
    token = _now.set(_Rendering(text, tables, prefix, kinds))
    try:
        yield
    finally:
        _now.reset(token)


@cache
def install() -> None:
    """Hook into the translator, once per process."""
    from duckdb_kql import ir, translate

    expression, table_ref = translate.render_expr, translate.render_table_ref
    query = translate._render_query
    plain = (ir.Literal, ir.ColumnRef, ir.Parameter, ir.LetRef)

    def render_table_ref(source: Any) -> str:
        now = _now.get()
        if now is not None:
            _refuse_unknown(now, source, translate._let_cte)
        return table_ref(source)

    def render_query(node: Any, schema: Any = None) -> Any:
        now = _now.get()
        if now is None:
            return query(node, schema)
        now.kinds.read(node)
        with now.inside({}):
            return query(node, schema)

    def render_expr(node: Any) -> str:
        now = _now.get()
        if now is None or not isinstance(node, ir.Expr) or isinstance(node, plain):
            return expression(node)
        child = now.children.get(id(node))
        if child is None:
            return written(now, node)
        if child.sql is None:
            child.sql = written(now, node)
        return child.name if child.bindable and len(child.sql) > _SMALL else child.sql

    def written(now: _Rendering, node: Any) -> str:
        children = _children(ir, now, node, plain)
        with now.inside(children):
            own = dynamics.render(now.kinds, node, expression)
            sql = _bound(own or expression(node), children.values())
        refuse_long_sql(sql)
        return sql

    operator = translate.render_operator

    def render_operator(op: Any, prev: str, cols: list[str] | None = None) -> str:
        now = _now.get()
        if now is not None:
            now.columns = cols
        return operator(op, prev, cols)

    hooks: Any = translate
    hooks.render_operator = render_operator
    hooks.render_expr, hooks.render_table_ref = render_expr, render_table_ref
    hooks._render_query = render_query


def refusal(name: str, message: str, hint: str | None = None) -> Unreadable:
    """A refusal at the first place where the query being translated has the word ``name``."""
    now = _now.get()
    return Unreadable(message, offset_of(now.text, name) if now else None, hint)


def columns_here() -> list[str] | None:
    """The columns that the operator being translated reads; None where they are not known."""
    now = _now.get()
    return now.columns if now else None


def _refuse_unknown(now: _Rendering, source: Any, let_cte: Any) -> None:
    """DuckDB's own catalogue and other databases are no tables of a hunt."""
    bound = source.database is None and let_cte(source.name) is not None
    if not bound and (source.database is not None or source.name not in now.tables):
        raise Unreadable(
            f"no table named {source.name!r}",
            offset_of(now.text, source.name),
            nearest(source.name, now.tables),
        )


def _children(ir: Any, now: _Rendering, node: Any, plain: tuple[type, ...]) -> dict[int, _Child]:
    """The compound expressions in ``node``; bindable if evaluated whenever it is."""
    lazy = isinstance(node, ir.FunctionCall) and node.name.lower() in _LAZY
    found: dict[int, _Child] = {}
    for field in dataclasses.fields(node):
        value = getattr(node, field.name)
        for at, part in enumerate(value if isinstance(value, tuple) else (value,)):
            if isinstance(part, ir.Expr) and not isinstance(part, plain):
                name = f"{now.prefix}{next(now.numbers)}"
                found.setdefault(id(part), _Child(name, bindable=at == 0 or not lazy))
    return found


def _bound(sql: str, children: Iterable[_Child]) -> str:
    """The SQL with each long child put in, by a lambda around it where it is repeated."""
    texts = {
        child.name: child.sql
        for child in children
        if child.bindable and child.sql is not None and len(child.sql) > _SMALL
    }
    if not texts:
        return sql
    pattern = re.compile(r"\b(?:" + "|".join(texts) + r")\b")
    found = Counter(pattern.findall(sql))
    repeated = [
        name
        for name, text in texts.items()
        if found[name] > 1 and found[name] * len(text) > _REPEATED
    ]
    if _UNBINDABLE.search(sql):
        repeated = []
    body = pattern.sub(lambda name: name[0] if name[0] in repeated else texts[name[0]], sql)
    for name in repeated:
        body = f"list_transform([{texts[name]}], lambda {name}: {body})[1]"
    return body
