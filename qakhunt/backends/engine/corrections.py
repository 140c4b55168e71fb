"""What the pinned translator gets silently wrong, corrected in its own tables.

Each entry has a probe in tests/unit/test_engine_probes.py that fails when the
translator's answer changes. Facts: Kusto bins from 0001-01-01, keeps text that is
no JSON, honours the size of a set or list, and writes times in them as ISO 8601.
``hash(x, n)`` parts records the same way in every process, in other parts than Kusto's.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

from qakhunt.backends.engine import membership
from qakhunt.backends.engine.dialect import Unreadable
from qakhunt.backends.engine.limits import MAX_RANGE, TOO_LARGE
from qakhunt.backends.engine.sql_types import SQL_TYPES

if TYPE_CHECKING:
    from collections.abc import Sequence

# 0001-01-01 to 1970-01-01 in microseconds.
KUSTO_EPOCH = 719_162 * 86_400 * 1_000_000

# One element as JSON: a time as Kusto writes it, all else as DuckDB does.
_TIMESPAN = (
    "list_transform([epoch_us(TRY_CAST(CAST({0} AS VARCHAR) AS INTERVAL))], lambda u: "
    "CASE WHEN u < 0 THEN '-' ELSE '' END"
    " || CASE WHEN abs(u) >= 86400000000 THEN (abs(u) // 86400000000) || '.' ELSE '' END"
    " || printf('%02d:%02d:%02d', abs(u) // 3600000000 % 24, abs(u) // 60000000 % 60,"
    " abs(u) // 1000000 % 60)"
    " || CASE WHEN abs(u) % 1000000 > 0 THEN printf('.%06d0', abs(u) % 1000000) ELSE '' END)[1]"
)
ELEMENT = (
    "CASE typeof({0}) WHEN 'TIMESTAMP' THEN "
    "to_json(strftime(TRY_CAST({0} AS TIMESTAMP), '%Y-%m-%dT%H:%M:%S.%f') || '0Z') "
    f"WHEN 'INTERVAL' THEN to_json({_TIMESPAN}) "
    "ELSE to_json({0}) END"
)
_IS_JSON_NULL = "(typeof({0}) = 'JSON' AND CAST({0} AS VARCHAR) = 'null')"
_TOO_LONG_A_RANGE = f"{TOO_LARGE}, its range has more than {MAX_RANGE:,} values"
_NULL_TESTS = {
    "isnull": "({0} IS NULL OR " + _IS_JSON_NULL + ")",
    "isnotnull": "({0} IS NOT NULL AND NOT " + _IS_JSON_NULL + ")",
    "isempty": "({0} IS NULL OR CAST({0} AS VARCHAR) = '' OR " + _IS_JSON_NULL + ")",
    "isnotempty": "({0} IS NOT NULL AND CAST({0} AS VARCHAR) <> '' AND NOT " + _IS_JSON_NULL + ")",
}
_IS_ARRAY = "typeof({0}) = 'JSON' AND json_type(TRY_CAST({0} AS JSON)) = 'ARRAY'"
# Only a dynamic array is unrolled; a string that looks like one is one element.
_ELEMENTS = f"CASE WHEN {_IS_ARRAY} THEN CAST(to_json({{0}}) AS JSON[]) ELSE [{ELEMENT}] END"
# The element's SQL, the value, a condition and a size; each may hold any text.
_SET = (
    "to_json(coalesce(list_sort(list_distinct(flatten(list({0}) "
    "FILTER (WHERE {1} IS NOT NULL {2})))){3}, []))"
)
_LIST = "to_json(coalesce(list({0}) FILTER (WHERE {1} IS NOT NULL {2}){3}, []))"
_PLAIN = re.compile(r'"(?:[^"]|"")*"')
_PARSE_JSON = (
    "CASE WHEN CAST({0} AS VARCHAR) = '' THEN NULL "
    "ELSE coalesce(TRY_CAST({0} AS JSON), to_json(CAST({0} AS VARCHAR))) END"
)
# Both terms are below 2^64, so the rest is never negative; text is never null in Kusto.
_HASH = (
    "CAST(md5_number_lower(coalesce(CAST({0} AS VARCHAR), '')) % CAST({1} AS UBIGINT) AS BIGINT)"
)


# Numbers by value, all else by text, nulls last in both directions as in Kusto; the
# key holds no null, whose place in a struct DuckDB decides by itself.
_IS_NULL = "coalesce(json_type(v), 'NULL') {test} 'NULL'"
_NUMBER = (
    "CASE WHEN json_type(v) IN ('BIGINT', 'UBIGINT', 'DOUBLE') THEN CAST(v AS DOUBLE) ELSE 0 END"
)
_SORT = (
    "CASE WHEN json_type(to_json({0})) = 'ARRAY' THEN to_json(list_transform(list_sort("
    "list_transform(CAST(to_json({0}) AS JSON[]), lambda v: "
    f"struct_pack(z := {_IS_NULL}, n := {_NUMBER}, s := coalesce(v ->> '$', ''), v := v)), "
    "'{direction}'), lambda _kql_k: _kql_k.v)) END"
)


_DECIMAL = f"TRY_CAST({{0}} AS {SQL_TYPES['decimal']})"


@cache
def install() -> None:
    """Replace the table entries, once per process."""
    from duckdb_kql import translate
    from duckdb_kql.translate import functions

    aggregates = functions.AGGREGATE_FUNCTIONS
    for name, element, template in (
        ("make_set", _ELEMENTS, _SET),
        ("make_list", ELEMENT, _LIST),
    ):
        for ending, conditional in (("", False), ("_if", True)):
            aggregates[name + ending] = _sized(
                functions, name + ending, element, template, conditional=conditional
            )
    scalars = functions.SCALAR_FUNCTIONS
    for name in ("parse_json", "todynamic"):
        if name in scalars:
            scalars[name] = functions.FunctionSpec(name, "template", _PARSE_JSON, (1,))
    for name, template in _NULL_TESTS.items():
        scalars[name] = functions.FunctionSpec(name, "template", template, (1,))
    scalars["todecimal"] = functions.FunctionSpec("todecimal", "template", _DECIMAL, (1,))
    # Without a modulus the value itself would be seen, and it is not Kusto's: still refused.
    for name in ("hash", "hash_xxhash64"):
        scalars[name] = functions.FunctionSpec(name, "template", _HASH, (2,))
    for name, direction, test in (("asc", "ASC", "="), ("desc", "DESC", "<>")):
        template = _SORT.replace("{direction}", direction).replace("{test}", test)
        scalars[f"array_sort_{name}"] = functions.FunctionSpec(
            f"array_sort_{name}", "template", template, (1,)
        )
    _type_literals(translate)
    _correct_bin(translate)
    _stream_ranges(translate)
    _fill_outer_joins(translate)
    membership.install(translate, functions)


def _sized(functions: Any, name: str, element: str, template: str, *, conditional: bool) -> Any:
    """An aggregate over 1 value, with a condition first and a size last where given."""

    class Sized(functions.AggregateSpec):  # type: ignore[misc]
        def render(self, args: list[str]) -> str:
            least = 2 if conditional else 1
            if not least <= len(args) <= least + 1:
                raise ValueError(f"{name}() takes {least} or {least + 1} arguments")
            value = args[0]
            condition = f"AND ({args[1]})" if conditional else ""
            size = f"[:{args[least]}]" if len(args) > least else ""
            return template.format(_once(element, value), value, condition, size)

    return Sized(name, template, name_prefix=name[5:].partition("_")[0])


def _once(template: str, value: str) -> str:
    """The template over the value, which is worked out once unless it is a mere column."""
    if _PLAIN.fullmatch(value):
        return template.format(value)
    return f"list_transform([{value}], lambda x: {template.format('x')})[1]"


def _last(values: str) -> str:
    """The end of a range, which is an error where it has more values than it may."""
    return f"CASE WHEN {values} >= {MAX_RANGE} THEN error('{_TOO_LONG_A_RANGE}') ELSE b END"


_SINCE = f"(epoch_us(v) + {KUSTO_EPOCH}) // epoch_us(r) * epoch_us(r) - {KUSTO_EPOCH}"
MACROS = (
    f"CREATE MACRO kql_bin(v TIMESTAMP, r INTERVAL) AS make_timestamp({_SINCE}), "
    "(v INTERVAL, r INTERVAL) AS to_microseconds("
    "CAST(floor(epoch_us(v) / epoch_us(r)) AS BIGINT) * epoch_us(r))",
    "CREATE MACRO kql_bin_at(v TIMESTAMP, r INTERVAL, f TIMESTAMP) AS make_timestamp("
    "epoch_us(f) + CAST(floor((epoch_us(v) - epoch_us(f)) / epoch_us(r)) AS BIGINT) "
    "* epoch_us(r)), (v BIGINT, r BIGINT, f BIGINT) AS "
    "f + CAST(floor((v - f) / r) AS BIGINT) * r, "
    "(v DOUBLE, r DOUBLE, f DOUBLE) AS f + floor((v - f) / r) * r, "
    "(v INTERVAL, r INTERVAL, f INTERVAL) AS to_microseconds(epoch_us(f) + "
    "CAST(floor((epoch_us(v) - epoch_us(f)) / epoch_us(r)) AS BIGINT) * epoch_us(r))",
    "CREATE MACRO kql_range(a TIMESTAMP, b TIMESTAMP, s INTERVAL) AS to_json(list_transform("
    f"generate_series(a, {_last('(epoch_us(b) - epoch_us(a)) // epoch_us(s)')}, s), "
    "lambda t: strftime(t, '%Y-%m-%dT%H:%M:%S.%f') || '0Z')), "
    "(a BIGINT, b BIGINT, s BIGINT) AS to_json("
    f"generate_series(a, {_last('(b - a) // s')}, s)), "
    "(a DOUBLE, b DOUBLE, s DOUBLE) AS to_json(list_transform(generate_series(0, "
    "CAST(floor((b - a) / s) AS BIGINT)), lambda i: a + i * s))",
)
"""Statements for each connection: only DuckDB knows whether a value is a time or a span."""


def _type_literals(translate: Any) -> None:
    """``decimal(1.5)`` is no real, and ``dynamic(null)`` no text: services name the type."""
    from duckdb_kql import ir, lower

    typed, render = lower._typed_literal, translate.render_literal

    def typed_literal(node: Any, kind: str, read: Any) -> Any:
        if lower._cls(node) == "DecimalLiteralExpression":
            return typed(node, "decimal", str)
        return typed(node, kind, read)

    def render_literal(literal: ir.Literal) -> str:
        if literal.kind == "dynamic" and literal.value is None:
            return f"CAST(NULL AS {SQL_TYPES['dynamic']})"
        if literal.kind == "decimal":
            value = "" if literal.value is None else str(literal.value)
            return _DECIMAL.format(translate.quote_string(value))
        return render(literal)  # type: ignore[no-any-return]

    replaced: Any = lower
    replaced._typed_literal, translate.render_literal = typed_literal, render_literal


def _correct_bin(translate: Any) -> None:
    original = translate.render_bin

    def render_bin(node: Any, name: str = "bin") -> str:
        if len(node.args) == 2:
            value, size = node.args
            if getattr(size, "kind", None) == "timespan":
                return f"kql_bin({translate.render_expr(value)}, {translate.render_expr(size)})"
        return original(node, name)  # type: ignore[no-any-return]

    translate.render_bin = render_bin


def _stream_ranges(translate: Any) -> None:
    """A ``range`` of known numbers is made row by row, not as one list; a long one is refused."""

    def render_range(source: Any) -> str:
        bounds = [source.start, source.stop, source.step]
        name = translate.quote_ident(source.name)
        if all(type(getattr(bound, "value", None)) is int for bound in bounds):
            start, stop, step = (bound.value for bound in bounds)
            if step and (stop - start) // step >= MAX_RANGE:
                raise Unreadable(_TOO_LONG_A_RANGE, None, hint="use a larger step")
            return f"SELECT generate_series AS {name} FROM generate_series({start}, {stop}, {step})"
        of_time = any(
            translate._is_datetime_expr(bound) or translate._is_timespan_expr(bound)
            for bound in bounds
        )
        start, stop, step = map(translate.render_expr, bounds)
        if not of_time:
            start, stop, step = (f"CAST({bound} AS BIGINT)" for bound in (start, stop, step))
        begins, ends, each = (f"epoch_us({b})" if of_time else b for b in (start, stop, step))
        values = f"(({ends}) - ({begins})) // nullif(({each}), 0)"
        refusal = f"error({translate.quote_string(_TOO_LONG_A_RANGE)})"
        # In the bound, since DuckDB works a constant series out before it looks at a CASE of it.
        last = f"CASE WHEN {values} >= {MAX_RANGE} THEN {refusal} ELSE {stop} END"
        return f"SELECT UNNEST(generate_series({start}, {last}, {step})) AS {name}"

    translate.render_range = render_range


def _fill_outer_joins(translate: Any) -> None:
    """Text of rows without a partner is empty, since Kusto has no null string."""
    join, lookup = translate.render_join, translate.render_lookup
    filled = ("leftouter", "rightouter", "fullouter")

    def render_join(op: Any, prev: str, left: list[str], right_sql: str, right: list[str]) -> str:
        sql = join(op, prev, left, right_sql, right)
        if op.kind not in filled:
            return sql  # type: ignore[no-any-return]
        return without_null_text(translate, sql, [*left, *translate._renamed(left, right)])

    def render_lookup(op: Any, prev: str, left: list[str], right_sql: str, right: list[str]) -> str:
        from duckdb_kql.schema import lookup_output_columns

        sql = lookup(op, prev, left, right_sql, right)
        names = lookup_output_columns(left, right, [key.right for key in op.keys])
        return without_null_text(translate, sql, names)

    translate.render_join, translate.render_lookup = render_join, render_lookup


def without_null_text(translate: Any, sql: str, names: Sequence[str]) -> str:
    """The relation with the columns ``names``, and empty text where it had none."""
    cells = []
    for name in map(translate.quote_ident, names):
        is_hole = f"typeof({name}) = 'VARCHAR' AND {name} IS NULL"
        cells.append(f"CASE WHEN {is_hole} THEN '' ELSE {name} END AS {name}")
    return f"SELECT {', '.join(cells)} FROM ({sql})"
