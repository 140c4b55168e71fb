"""``make-series``: one row a group, its values along an axis as arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qakhunt.backends.engine.corrections import KUSTO_EPOCH
from qakhunt.backends.engine.rewriting.plan import Planner, refusal, rewrites
from qakhunt.backends.engine.rewriting.spelling import quoted
from qakhunt.backends.engine.sql_types import SQL_TYPES, identifier
from qakhunt.kql.syntax import Call, Name, Named, Node, Operator, Pipeline

if TYPE_CHECKING:
    from qakhunt.backends.engine.rewriting.plan import Stage

_MOST = 1 << 20
"""Values of one series; the documentation names the same limit."""


@dataclass(frozen=True)
class _Axis:
    """The axis in whole numbers: microseconds of times, else the numbers themselves.

    ``start`` and ``stop`` say which bounds the query gives; ``inclusive`` that the stop
    belongs to the series, whose bins then begin where ``bin()`` has them.
    """

    name: str
    kind: str
    start: bool
    stop: bool
    inclusive: bool

    def number(self, sql: str) -> str:
        """A value of the axis as a number."""
        if self.kind == "datetime":
            return f"epoch_us({sql})"
        return f"CAST({sql} AS {'DOUBLE' if self.kind == 'real' else 'BIGINT'})"

    def step(self) -> str:
        """The step as a number."""
        return "epoch_us(b._step)" if self.kind == "datetime" else self.number("b._step")

    @property
    def origin(self) -> str:
        """Where bin 0 begins."""
        if self.start and not self.inclusive:
            return self.number("b._start")
        return f"(-{KUSTO_EPOCH})" if self.kind == "datetime" else "0"

    def bin(self, number: str) -> str:
        """The bin that a number falls into."""
        shifted = f"({number} - {self.origin})"
        if self.kind == "real":
            return f"CAST(floor({shifted} / {self.step()}) AS BIGINT)"
        step = self.step()
        return f"(({shifted} - (({shifted} % {step} + {step}) % {step})) // {step})"

    def json(self, number: str) -> str:
        """The axis's value at the start of a bin, as JSON."""
        value = f"({self.origin} + {number} * {self.step()})"
        if self.kind == "datetime":
            return (
                f"to_json(strftime(make_timestamp(CAST({value} AS BIGINT)), "
                "'%Y-%m-%dT%H:%M:%S.%f') || '0Z')"
            )
        return f"to_json({value})"


def make_series(planner: Planner, pipeline: Pipeline, operator: Operator) -> None:
    """``make-series`` as a stage."""
    bounds, inclusive = _bounds(operator)
    if "step" not in bounds or operator.clause("on") is None:
        raise refusal("'make-series' without a step", operator)
    limits = _limits(planner, operator, bounds)
    before = planner.stage_before(pipeline, operator)
    (on,) = operator.clause("on") or (operator,)
    value = on.value if isinstance(on, Named) else on
    keyed = planner.stage(
        planner.sql(f"{before.name} | extend _axis = (", (value.start, value.end), ")")
    )
    kind = keyed.columns["_axis"].replace("int", "long")
    if kind not in ("datetime", "long", "real"):
        raise refusal(f"'make-series' on an axis of type {kind}", on)
    if kind == "long" and limits.columns["_step"] == "real":
        kind = "real"
    names = on.names if isinstance(on, Named) else [on.name if isinstance(on, Name) else "Column1"]
    axis = _Axis(names[0], kind, "start" in bounds, "stop" in bounds, inclusive)
    grouped = _grouped(planner, operator, _binned(planner, axis, keyed, limits))
    planner.becomes(pipeline, operator, _arrays(planner, operator, axis, grouped, limits))


def _bounds(operator: Operator) -> tuple[dict[str, Node], bool]:
    """Start, stop and step, and whether the stop is part of the series."""
    ranged = operator.clause("in")
    if ranged and isinstance(ranged[0], Call) and len(ranged[0].arguments) == 3:
        return dict(zip(("start", "stop", "step"), ranged[0].arguments, strict=True)), True
    named = (("start", "from"), ("stop", "to"), ("step", "step"))
    clauses = ((name, operator.clause(word)) for name, word in named)
    return {name: found[0] for name, found in clauses if found}, False


def _defaults(operator: Operator) -> dict[int, Node]:
    """The default of each aggregate that has one, by the aggregate's number."""
    found = {}
    for clause in operator.clauses:
        if clause.keyword == "default" and clause.arguments:
            before = [one for one in operator.arguments if one.start < clause.start]
            found[len(before) - 1] = clause.arguments[0]
    return found


def _limits(planner: Planner, operator: Operator, bounds: dict[str, Node]) -> Stage:
    """One row: the bounds and the defaults."""
    defaults = _defaults(operator)
    words: list[str | tuple[int, int]] = []
    for name, node in bounds.items():
        words += [", " if words else "print ", f"_{name} = (", (node.start, node.end), ")"]
    for number in range(len(operator.arguments)):
        default = defaults.get(number)
        value: list[str | tuple[int, int]] = ["0"]
        if default is not None:
            value = [(default.start, default.end)]
        words += [f", _default{number} = (", *value, ")"]
    return planner.stage(planner.sql(*words))


def _binned(planner: Planner, axis: _Axis, keyed: Stage, limits: Stage) -> Stage:
    conditions = ["r._axis IS NOT NULL"]
    if axis.start:
        conditions.append("r._axis >= b._start")
    if axis.stop:
        conditions.append(f"r._axis {'<=' if axis.inclusive else '<'} b._stop")
    return planner.stage(
        f"SELECT r.*, {axis.bin(axis.number('r._axis'))} AS _bin "
        f"FROM {identifier(keyed.name)} r, {identifier(limits.name)} b "
        f"WHERE {' AND '.join(conditions)}"
    )


def _grouped(planner: Planner, operator: Operator, binned: Stage) -> Stage:
    """The aggregates by group and bin: the groups' columns, ``_bin``, then the aggregates."""
    words: list[str | tuple[int, int]] = [f"{binned.name} | summarize "]
    for number, one in enumerate(operator.arguments):
        words += [", " if number else "", (one.start, one.end)]
    words.append(" by ")
    for one in operator.clause("by") or ():
        words += [(one.start, one.end), ", "]
    return planner.stage(planner.sql(*words, quoted("_bin")))


def _arrays(
    planner: Planner, operator: Operator, axis: _Axis, grouped: Stage, limits: Stage
) -> Stage:
    columns = list(grouped.columns)
    groups, values = columns[: columns.index("_bin")], columns[columns.index("_bin") + 1 :]
    keys = [identifier(name) for name in groups]
    first = axis.bin(axis.number("b._start")) if axis.start else "min(g._bin)"
    last = "max(g._bin)"
    if axis.stop:
        stop = axis.number("b._stop")
        if axis.kind == "real" and not axis.inclusive:
            last = f"CAST(ceil(({stop} - {axis.origin}) / {axis.step()}) AS BIGINT) - 1"
        else:
            last = axis.bin(stop if axis.inclusive else f"({stop} - 1)")
    bounded = axis.start and axis.stop
    source = f"{identifier(grouped.name)} g, {identifier(limits.name)} b"
    if not keys and bounded:  # a row though nothing is in it
        some = (
            ""
            if operator.option("kind") == "nonempty"
            else (f" WHERE EXISTS (SELECT 1 FROM {identifier(grouped.name)})")
        )
        series = f"SELECT {first} AS _first, {last} AS _last FROM {identifier(limits.name)} b{some}"
    else:
        listed = "".join(f"g.{key}, " for key in keys)
        bounds = f"any_value({first})" if axis.start else first
        ends = f"any_value({last})" if axis.stop else last
        by = f" GROUP BY {', '.join(f'g.{key}' for key in keys)}" if keys else ""
        series = f"SELECT {listed}{bounds} AS _first, {ends} AS _last FROM {source}{by}"
        series += "" if keys else " HAVING count(*) > 0"
    places = (
        f"SELECT s.*, unnest(range(_first, least(_last + 1, _first + {_MOST}))) AS _at "
        f"FROM ({series}) s"
    )
    cells = []
    for number, name in enumerate(values):
        kind = SQL_TYPES.get(grouped.columns[name], "VARCHAR")
        cell = f"coalesce(q.{identifier(name)}, CAST(b._default{number} AS {kind}))"
        cells.append(f"to_json(list(to_json({cell}) ORDER BY p._at)) AS {identifier(name)}")
    cells.append(f"to_json(list({axis.json('p._at')} ORDER BY p._at)) AS {identifier(axis.name)}")
    same = "".join(f" AND q.{key} IS NOT DISTINCT FROM p.{key}" for key in keys)
    listed = "".join(f"p.{key}, " for key in keys)
    by = f" GROUP BY {', '.join(f'p.{key}' for key in keys)}" if keys else " HAVING count(*) > 0"
    return planner.stage(
        f"SELECT {listed}{', '.join(cells)} FROM ({places}) p "
        f"LEFT JOIN {identifier(grouped.name)} q ON q._bin = p._at{same} "
        f"CROSS JOIN {identifier(limits.name)} b{by}"
    )


rewrites(make_series, "make-series")
