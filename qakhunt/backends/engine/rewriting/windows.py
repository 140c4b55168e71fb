"""Window functions over serialized rows: ``row_number()``, ``prev()`` and their kin.

The rows are numbered in their order, each call becomes a column, and the operator reads
the columns. Sources: the functions' pages, and for the operators that serialize rows or
keep them so https://learn.microsoft.com/kusto/query/serialize-operator.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qakhunt.backends.engine.dialect import Unreadable
from qakhunt.backends.engine.rewriting.plan import HEADS, Planner, refusal, rewrites
from qakhunt.backends.engine.rewriting.spelling import column_name, quoted
from qakhunt.backends.engine.sql_types import identifier
from qakhunt.kql.syntax import (
    Call,
    Comparison,
    Name,
    Named,
    Node,
    Operator,
    Pipeline,
    Wildcard,
    bare,
    find,
    stages,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qakhunt.backends.engine.rewriting.plan import Stage

_PLACE = "_serialized_place"
_SORTS = frozenset(["sort", "order", "top"])
_SERIALIZES = _SORTS | {"serialize", "getschema", "top-hitters"}
_SCATTERS = frozenset([
    "count", "distinct", "evaluate", "facet", "join", "lookup", "make-series", "mv-apply",
    "mv-expand", "mvapply", "mvexpand", "partition", "reduce", "sample", "sample-distinct",
    "summarize", "top-nested", "union",
])  # fmt: skip
_READERS = frozenset(["extend", "filter", "project", "serialize", "where"])
_ARGUMENTS = {
    "row_number": (0, 2), "prev": (1, 3), "next": (1, 3), "row_cumsum": (1, 2),
    "row_rank_dense": (1, 2), "row_rank_min": (1, 2), "row_window_session": (3, 4),
}  # fmt: skip
"""Window function -> the least and the most arguments."""


def calls(node: Node) -> list[Call]:
    """The window functions that a node calls on its own rows, the innermost first."""

    def walk(one: Node) -> Iterator[Call]:
        for child in one.children:
            if not isinstance(child, Pipeline):
                yield from walk(child)
        if isinstance(one, Call) and one.name in _ARGUMENTS:
            yield one

    return list(walk(node))


def step(planner: Planner, pipeline: Pipeline, operator: Operator) -> None:
    """An operator that calls window functions as a stage; ``serialize`` itself changes no row."""
    found = calls(operator)
    if not found and operator.name != "serialize":
        return
    if found and any(isinstance(one.left, Wildcard) for one in find(operator, Comparison)):
        raise refusal(f"{found[0].name}() beside '*'", found[0], "filter in two steps")
    if not found and not operator.arguments:
        planner.edit(operator.start, operator.end, "")
        return
    if found:
        before, serializer = _serializer(planner, pipeline, operator)
        if not before and operator.name != "serialize":
            raise unordered(found[0])
        if serializer is not None and serializer.name in _SORTS:
            _break_ties(planner, *_holder(planner, pipeline, serializer))
    rows = planner.stage_before(pipeline, operator)
    placed = planner.stage(
        f"SELECT *, row_number() OVER () AS {_PLACE} FROM {identifier(rows.name)}"
    )
    planner.becomes(pipeline, operator, read(planner, placed, operator, _PLACE))


def read(planner: Planner, rows: Stage, operator: Operator, place: str, part: str = "") -> Stage:
    """The operator over rows numbered by ``place``; apart for each ``part``, both then stay."""
    made: list[str] = []
    for number, call in enumerate(calls(operator)):
        rows = _column(planner, rows, call, number, place, part)
        made.append(f"_window{number}")
        planner.edit(call.start, call.end, quoted(made[-1]))
    _name_columns(planner, operator)
    name = "extend" if operator.name == "serialize" else operator.name
    words: list[str | tuple[int, int]] = [f"{rows.name} | {name} "]
    if name == "project":
        words.append(f"{place}, {part}, " if part else f"{place}, ")
    words.append((operator.arguments[0].start, operator.arguments[-1].end))
    after = planner.stage(planner.sql(*words))
    dropped = made if part else [*made, place]
    listing = ", ".join(identifier(one) for one in after.columns if one not in dropped)
    return planner.stage(
        f"SELECT {listing} FROM {identifier(after.name)} ORDER BY {place}", ordered=True
    )


def _serializer(
    planner: Planner, pipeline: Pipeline, operator: Operator
) -> tuple[bool, Operator | None]:
    """Whether the rows before an operator are serialized, and the operator that did it."""
    for before in reversed(pipeline.operators[: pipeline.operators.index(operator)]):
        if before.name in _SERIALIZES:
            return True, before
        if before.name in _SCATTERS:
            return False, None
    source = bare(pipeline.source)
    if isinstance(source, Operator):
        return source.name == "range", None
    if isinstance(source, Name) and source.name not in planner.host.tables:
        let = next((one for one in planner.lets if one.name == source.name), None)
        source = bare(let.value) if let is not None else source
    inner, operators = stages(source)
    if not operators:
        return isinstance(inner, Operator) and inner.name == "range", None
    ends = Operator(source.end, source.end, (), "", (), (), ())
    return _serializer(
        planner, Pipeline(source.start, source.end, (), inner, (*operators, ends)), ends
    )


def _holder(planner: Planner, pipeline: Pipeline, operator: Operator) -> tuple[Pipeline, Operator]:
    """The pipeline that an operator stands in, which may be that of a let."""
    if operator in pipeline.operators:
        return pipeline, operator
    return next(one for one in planner.pipelines if operator in one.operators), operator


def _break_ties(planner: Planner, pipeline: Pipeline, operator: Operator) -> None:
    """Sort rows with the same keys by all their columns: one order on every run."""
    keys = operator.clause("by") or ()
    if any(e.start <= operator.start and operator.end <= e.end for e in planner.edits):
        return  # a stage already
    columns = ", ".join(f"{quoted(one)} asc" for one in planner.columns_before(pipeline, operator))
    listed = f"{planner.written((keys[0].start, keys[-1].end))[0]}, {columns}"
    if operator.name == "top":
        taken = planner.words(operator.arguments[0])
        planner.edit(operator.start, operator.end, f"| sort by {listed} | take {taken}")
    else:
        planner.edit(keys[0].start, keys[-1].end, listed)


def unordered(call: Call) -> Unreadable:
    return Unreadable(
        f"{call.name}() needs rows in an order, and these have none", call.start,
        hint="put 'sort by ... asc' or 'serialize' before the operator",
    )  # fmt: skip


def _name_columns(planner: Planner, operator: Operator) -> None:
    """Columns without a name are numbered before calls become names."""
    if operator.name not in ("extend", "project", "serialize"):
        return
    unnamed = 0
    for item in operator.arguments:
        if not isinstance(item, Named) and column_name(item) is None:
            unnamed += 1
            planner.edit(item.start, item.end, f"Column{unnamed} = {planner.words(item)}")


def _column(planner: Planner, rows: Stage, call: Call, number: int, place: str, part: str) -> Stage:
    """The rows with the call's value as a further column."""
    least, most = _ARGUMENTS[call.name]
    if not least <= len(call.arguments) <= most:
        raise Unreadable(
            f"{call.name}() takes {least} to {most} arguments, not {len(call.arguments)}",
            call.start,
        )  # fmt: skip
    names = [f"_window{number}_{at}" for at in range(len(call.arguments))]
    words: list[str | tuple[int, int]] = [rows.name]
    for name, argument in zip(names, call.arguments, strict=True):
        words += [f" | extend {name} = (", (argument.start, argument.end), ")"]
    given = planner.stage(planner.sql(*words))
    result = f"_window{number}"
    restart = names[most - 1] if call.name not in ("prev", "next") and len(names) == most else None
    by = f"{part}, {place}" if part else place
    counted = f"{_count(restart)} OVER (ORDER BY {by})" if restart else "0"
    grouped = f"SELECT *, {counted} AS _window_group"
    source = f"({grouped} FROM {identifier(given.name)})"
    over = (
        f"(PARTITION BY {', '.join([*([part] if part else []), '_window_group'])} ORDER BY {place})"
    )
    if call.name == "row_window_session":
        sql = _sessions(source, names, result, place, part, restart)
    elif call.name.startswith("row_rank"):
        sql = _ranks(source, names[0], result, over, dense=call.name == "row_rank_dense")
    elif call.name in ("prev", "next"):
        sql = f"SELECT *, {_neighbour(call.name, given, names, over)} AS {result} FROM {source}"
    elif call.name == "row_cumsum":
        kind = given.columns[names[0]]
        if kind not in ("int", "long", "real"):
            raise refusal(
                f"row_cumsum() of a {kind}", call, "convert it, as with tolong() or todouble()"
            )
        total = f"coalesce(sum({names[0]}) OVER {over}, 0)"
        total = f"CAST({total} AS {'DOUBLE' if kind == 'real' else 'BIGINT'})"
        sql = f"SELECT *, {total} AS {result} FROM {source}"
    else:
        first = f"CAST({names[0]} AS BIGINT)" if names else "1"
        sql = f"SELECT *, {first} + row_number() OVER {over} - 1 AS {result} FROM {source}"
    extra = ", ".join([*names, "_window_group"])
    return planner.stage(f"SELECT * EXCLUDE ({extra}) FROM (\n{sql}\n)")


def _count(condition: str) -> str:
    """How often it holds: DuckDB's FILTER takes quadratic time over a window."""
    return f"sum(CASE WHEN {condition} THEN 1 ELSE 0 END)"


def _neighbour(name: str, given: Stage, names: list[str], over: str) -> str:
    kind = given.columns[names[0]]
    default = names[2] if len(names) > 2 else "''" if kind == "string" else "NULL"
    offset = names[1] if len(names) > 1 else "1"
    return f"{'lag' if name == 'prev' else 'lead'}({names[0]}, {offset}, {default}) OVER {over}"


def _ranks(source: str, term: str, result: str, over: str, *, dense: bool) -> str:
    """A rank begins where the term is another than the row's before."""
    marked = (
        f"SELECT *, row_number() OVER {over} AS _window_row, "
        f"({term} IS DISTINCT FROM lag({term}) OVER {over} OR row_number() OVER {over} = 1) "
        f"AS _window_begins FROM {source}"
    )
    rank = (
        _count("_window_begins") if dense else "max(CASE WHEN _window_begins THEN _window_row END)"
    )
    value = f"CAST({rank} OVER {over} AS BIGINT) AS {result}"
    return f"SELECT * EXCLUDE (_window_row, _window_begins), {value} FROM ({marked})"


def _sessions(
    source: str, names: list[str], result: str, place: str, part: str, restart: str | None
) -> str:
    """Session starts: segments end where neighbours are too far apart, and are followed
    from one start to the next."""
    time, longest, apart = names[:3]
    by = f"{part}, {place}" if part else place
    earlier = f"lag({time}) OVER ({f'PARTITION BY {part} ' if part else ''}ORDER BY {place})"
    begins = f"{earlier} IS NULL OR {time} >= {earlier} + {apart} OR {restart or 'false'}"
    return (
        f"WITH RECURSIVE _marked AS (SELECT *, ({begins}) AND {time} IS NOT NULL AS _window_begins "
        f"FROM {source}), _cut AS (SELECT * EXCLUDE (_window_begins), {_count('_window_begins')} "
        f"OVER (ORDER BY {by}) AS _window_segment FROM _marked), _starts AS ("
        f"SELECT _window_segment, min({place}) AS _at, arg_min({time}, {place}) AS _first "
        f"FROM _cut WHERE {time} IS NOT NULL GROUP BY _window_segment UNION ALL "
        f"SELECT c._window_segment, min(c.{place}), arg_min(c.{time}, c.{place}) FROM _starts s "
        f"JOIN _cut c ON c._window_segment = s._window_segment AND c.{place} > s._at "
        f"AND c.{time} >= s._first + c.{longest} GROUP BY c._window_segment) "
        f"SELECT c.* EXCLUDE (_window_segment), CASE WHEN c.{time} IS NOT NULL THEN s._first END "
        f"AS {result} FROM _cut c ASOF LEFT JOIN _starts s "
        f"ON c._window_segment = s._window_segment AND c.{place} >= s._at"
    )


def elsewhere(planner: Planner, call: Node) -> None:
    """A window function where no row set is at hand, or in another operator's words."""
    place = planner.place
    if place is None or place[1].name not in _READERS:
        inside = f" inside {place[1].name!r}" if place is not None else " without a table"
        name = call.name if isinstance(call, Call) else ""
        raise refusal(
            f"{name}(){inside}", call, f"name its value first, as in extend x = {name}(...)"
        )


rewrites(step, *_READERS)
HEADS.update(dict.fromkeys(_ARGUMENTS, elsewhere))
