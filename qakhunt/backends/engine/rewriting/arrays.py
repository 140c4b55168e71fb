"""``mv-apply`` and ``partition``: a subquery over a part of the records, step by step.

All records run through the subquery together, told apart by a number that grouping,
sorting and counting keep apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qakhunt.backends.engine.rewriting import windows
from qakhunt.backends.engine.rewriting.plan import Planner, refusal, rewrites
from qakhunt.backends.engine.sql_types import identifier
from qakhunt.kql.syntax import Group, Name, Named, Node, Operator, Ordered, Pipeline

if TYPE_CHECKING:
    from qakhunt.backends.engine.rewriting.plan import Stage

_ROW, _ORDER = "_applied_row", "_applied_order"
_PLAIN = frozenset([
    "where", "filter", "extend", "parse", "parse-where", "mv-expand", "project-rename",
    "project-away",
])  # fmt: skip


@dataclass
class _Applied:
    """What the subquery has come to; ``own`` are the columns that are its result."""

    stage: Stage
    own: list[str]


def mv_apply(planner: Planner, pipeline: Pipeline, operator: Operator) -> None:
    """``mv-apply`` as a stage."""
    clause = next((one for one in operator.clauses if one.keyword == "on"), None)
    group = clause.arguments[0] if clause and clause.arguments else None
    query = group.items[0] if isinstance(group, Group) and len(group.items) == 1 else None
    if clause is None or not isinstance(query, Pipeline) or query.source.parts:
        raise refusal("this form of the operator 'mv-apply'", operator)
    known = planner.columns_before(pipeline, operator)
    before = planner.stage_before(pipeline, operator)
    numbered = planner.stage(
        f"SELECT row_number() OVER () AS {_ROW}, * FROM {identifier(before.name)}"
    )
    start = [*operator.options, *operator.arguments][0].start
    expanded = planner.stage(planner.sql(f"{numbered.name} | mv-expand ", (start, clause.start)))
    planner.inside = operator.name
    elements = [name for one in operator.arguments for name in _names(one)]
    index = operator.option("with_itemindex")
    applied = _Applied(expanded, [*elements, *([index] if index else [])])
    for step in query.operators:
        applied = _step(planner, numbered, applied, step)
    gone = {one.name for one in operator.arguments if isinstance(one, Name)}
    kept = [name for name in known if name not in gone and name not in applied.own]
    listing = ", ".join(
        [f"r.{identifier(name)}" for name in kept]
        + [f"a.{identifier(name)}" for name in applied.own]
    )
    stage = planner.stage(
        f"SELECT {listing} FROM {identifier(applied.stage.name)} a "
        f"JOIN {identifier(numbered.name)} r USING ({_ROW})"
    )
    planner.becomes(pipeline, operator, stage)


def partition(planner: Planner, pipeline: Pipeline, operator: Operator) -> None:
    """``partition by key (subquery)``: the subquery over the records of each key."""
    by = operator.clause("by") or ()
    query = by[1].items[0] if len(by) == 2 and isinstance(by[1], Group) and by[1].items else None
    if not isinstance(by[0] if by else None, Name) or not isinstance(query, Pipeline):
        raise refusal("this form of the operator 'partition'", operator)
    if query.source.parts:
        raise refusal("'partition' with a query of its own", query)
    before = planner.stage_before(pipeline, operator)
    key = identifier(by[0].name)  # type: ignore[attr-defined]
    numbered = planner.stage(
        f"SELECT dense_rank() OVER (ORDER BY {key}) AS {_ROW}, * FROM {identifier(before.name)}"
    )
    planner.inside = operator.name
    applied = _Applied(numbered, list(before.columns))
    for step in query.operators:
        applied = _step(planner, numbered, applied, step)
    listing = ", ".join(map(identifier, applied.own))
    stage = planner.stage(f"SELECT {listing} FROM {identifier(applied.stage.name)}")
    planner.becomes(pipeline, operator, stage)


def _names(node: Node) -> list[str]:
    if isinstance(node, Named):
        return list(node.names)
    return [node.name] if isinstance(node, Name) else []


def _step(planner: Planner, numbered: Stage, applied: _Applied, step: Operator) -> _Applied:
    name = step.name
    if name == "serialize" or windows.calls(step):
        return _serialized(planner, applied, step)
    if name in _PLAIN:
        return _plain(planner, applied, step)
    if name in ("project", "distinct"):
        listed = step.arguments[0].start, step.arguments[-1].end
        place = f"{_ORDER}, " if name == "project" and _ORDER in applied.stage.columns else ""
        after = _asked(planner, applied, f" | {name} {_ROW}, {place}", listed)
        return _Applied(after, [one for one in after.columns if one not in (_ROW, _ORDER)])
    if name in ("summarize", "count"):
        return _summarize(planner, numbered, applied, step)
    if name in ("sort", "order"):
        return _sort(planner, applied, step.clause("by") or ())
    if name == "top":
        return _take(planner, _sort(planner, applied, step.clause("by") or ()), step)
    if name in ("take", "limit"):
        return _take(planner, applied, step)
    raise refusal(f"the operator {name!r} inside {planner.inside!r}", step)


def _asked(planner: Planner, applied: _Applied, *words: str | tuple[int, int]) -> Stage:
    return planner.stage(planner.sql(applied.stage.name, *words))


def _plain(planner: Planner, applied: _Applied, step: Operator) -> _Applied:
    bar = " " if step.has_bar else " | "
    after = _asked(planner, applied, bar, (step.start, step.end))
    had = applied.stage.columns
    own = [one for one in applied.own if one in after.columns]
    return _Applied(
        after, own + [one for one in after.columns if one not in had and one not in own]
    )


def _serialized(planner: Planner, applied: _Applied, step: Operator) -> _Applied:
    """Rows in their order, and what window functions say of it."""
    rows = applied.stage
    if _ORDER not in rows.columns:
        if step.name != "serialize":
            raise windows.unordered(windows.calls(step)[0])
        rows = planner.stage(
            f"SELECT *, row_number() OVER () AS {_ORDER} FROM {identifier(rows.name)}"
        )
    if not step.arguments:
        return _Applied(rows, applied.own)
    after = windows.read(planner, rows, step, _ORDER, _ROW)
    own = [one for one in applied.own if one in after.columns]
    new = [one for one in after.columns if one not in (*rows.columns, *own)]
    return _Applied(after, own + new)


def _summarize(planner: Planner, numbered: Stage, applied: _Applied, step: Operator) -> _Applied:
    """An aggregation over no element has a row for each record, too."""
    keys = next((one for one in step.clauses if one.keyword == "by"), None)
    if step.name == "count":
        words: tuple[str | tuple[int, int], ...] = ("Count = count()",)
    else:
        words = ((step.arguments[0].start, step.arguments[-1].end),) if step.arguments else ()
    by: tuple[str | tuple[int, int], ...] = (f" by {_ROW}",)
    if keys is not None:
        by = (f" by {_ROW}, ", (keys.arguments[0].start, keys.arguments[-1].end))
    after = _asked(planner, applied, " | summarize ", *words, *by)
    own = [one for one in after.columns if one != _ROW]
    if keys is None:
        empty = _asked(planner, applied, " | take 0 | summarize ", *words)
        done = identifier(after.name)
        after = planner.stage(
            f"SELECT * FROM {done} UNION ALL BY NAME SELECT n.{_ROW}, e.* FROM "
            f"(SELECT DISTINCT {_ROW} FROM {identifier(numbered.name)} "
            f"WHERE {_ROW} NOT IN (SELECT {_ROW} FROM {done})) n, {identifier(empty.name)} e"
        )
    return _Applied(after, own)


def _sort(planner: Planner, applied: _Applied, keys: tuple[Node, ...]) -> _Applied:
    words: list[str | tuple[int, int]] = [" | extend "]
    order = []
    for number, key in enumerate(keys):
        value, said = (key.value, key.words) if isinstance(key, Ordered) else (key, ())
        words += [", " if number else "", f"_key{number} = (", (value.start, value.end), ")"]
        ascending = "asc" in said
        first = "first" in said or (ascending and "last" not in said)
        order.append(
            f"_key{number} {'ASC' if ascending else 'DESC'} NULLS {'FIRST' if first else 'LAST'}"
        )
    keyed = _asked(planner, applied, *words)
    columns = ", ".join(identifier(one) for one in applied.stage.columns if one != _ORDER)
    place = f"row_number() OVER (PARTITION BY {_ROW} ORDER BY {', '.join(order)}, {columns})"
    after = planner.stage(
        f"SELECT {columns}, {place} AS {_ORDER} FROM {identifier(keyed.name)} "
        f"ORDER BY {_ROW}, {_ORDER}"
    )
    return _Applied(after, applied.own)


def _take(planner: Planner, applied: _Applied, step: Operator) -> _Applied:
    if not step.arguments:
        raise refusal(f"the operator {step.name!r} without a number", step)
    order = _ORDER if _ORDER in applied.stage.columns else "1"
    number = planner.sql("print ", (step.arguments[0].start, step.arguments[0].end))
    after = planner.stage(
        f"SELECT * FROM {identifier(applied.stage.name)} QUALIFY row_number() OVER "
        f"(PARTITION BY {_ROW} ORDER BY {order}) <= (SELECT * FROM ({number}))"
    )
    return _Applied(after, applied.own)


rewrites(mv_apply, "mv-apply", "mvapply")
rewrites(partition, "partition")
