"""Aggregates that the pinned translator lacks, or computes for numbers only.

A sum or mean of times depends on the type, which only DuckDB knows: those are macros
with one body for each. Source: the function's page below learn.microsoft.com/kusto/query.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from qakhunt.backends.engine.networks import renamed
from qakhunt.backends.engine.scalars import entries, object_of

_TOO_LARGE = "a sum is larger than a long holds; sum(todouble(...)) is a real"
_LONG = (
    "CASE WHEN {0} BETWEEN -9223372036854775808 AND 9223372036854775807 "
    f"THEN CAST({{0}} AS BIGINT) ELSE error('{_TOO_LARGE}') END"
)


def _sum(only: str) -> str:
    whole = _LONG.format(f"coalesce(sum(x){only}, 0)")
    span = f"to_microseconds(CAST(coalesce(sum(epoch_us(x)){only}, 0) AS BIGINT))"
    return (
        f"(x BIGINT{{0}}) AS {whole}, (x DOUBLE{{0}}) AS coalesce(sum(x){only}, 0.0), "
        f"(x DECIMAL(38,17){{0}}) AS coalesce(sum(x){only}, 0), (x INTERVAL{{0}}) AS {span}"
    )


def _avg(only: str) -> str:
    mean = f"CAST(avg(epoch_us(x)){only} AS BIGINT)"
    number = f"coalesce(avg(x){only}, CAST('NaN' AS DOUBLE))"
    return (
        f"(x BIGINT{{0}}) AS {number}, (x DOUBLE{{0}}) AS {number}, "
        f"(x INTERVAL{{0}}) AS to_microseconds({mean}), "
        f"(x TIMESTAMP{{0}}) AS make_timestamp({mean})"
    )


_IF = " FILTER (WHERE c)"
MACROS = tuple(
    f"CREATE MACRO {name} {body(only).replace('{0}', condition)}"
    for name, body, only, condition in (
        ("kql_sum", _sum, "", ""), ("kql_sumif", _sum, _IF, ", c BOOLEAN"),
        ("kql_avg", _avg, "", ""), ("kql_avgif", _avg, _IF, ", c BOOLEAN"),
    )
)  # fmt: skip
"""Statements that give a connection the aggregates over several types."""

_OBJECTS = "FILTER (WHERE json_type({0}) = 'OBJECT'{1})"
_BAG = renamed(object_of(f"coalesce(flatten(list({entries('{0}')}) {_OBJECTS}), [])"))
_NULLS = "to_json(coalesce(list(to_json({0})), []))"
_TEMPLATES: dict[str, tuple[str, tuple[int, ...], str | None]] = {
    "sum": ("kql_sum({0})", (1,), None),
    "sumif": ("kql_sumif({0}, {1})", (2,), None),
    "avg": ("kql_avg({0})", (1,), None),
    "avgif": ("kql_avgif({0}, {1})", (2,), None),
    "minif": ("min({0}) FILTER (WHERE {1})", (2,), None),
    "maxif": ("max({0}) FILTER (WHERE {1})", (2,), None),
    "stdevp": ("coalesce(stddev_pop({0}), 0.0)", (1,), None),
    "variancep": ("coalesce(var_pop({0}), 0.0)", (1,), None),
    "count_distinct": ("count(DISTINCT {0})", (1,), None),
    "count_distinctif": ("count(DISTINCT {0}) FILTER (WHERE {1})", (2,), None),
    "take_anyif": ("any_value({0}) FILTER (WHERE {1})", (2,), None),
    "anyif": ("any_value({0}) FILTER (WHERE {1})", (2,), None),
    "binary_all_and": ("bit_and(CAST({0} AS BIGINT))", (1,), None),
    "binary_all_or": ("bit_or(CAST({0} AS BIGINT))", (1,), None),
    "binary_all_xor": ("bit_xor(CAST({0} AS BIGINT))", (1,), None),
    "make_list_with_nulls": (_NULLS, (1,), "list"),
    "make_bag": (_BAG.replace("{1}", ""), (1, 2), "bag"),
    "make_bag_if": (_BAG.replace("{1}", " AND ({1})"), (2, 3), "bag"),
}


@cache
def install() -> None:
    """Add them to the translator's table, once per process."""
    from duckdb_kql.translate import functions

    table: dict[str, Any] = functions.AGGREGATE_FUNCTIONS
    for name, (template, arities, prefix) in _TEMPLATES.items():
        table[name] = functions.AggregateSpec(name, template, arities, name_prefix=prefix)
    table["percentiles_array"] = _percentiles_array(functions)
    for alias, known in (("makeset", "make_set"), ("makelist", "make_list")):
        table[alias] = table[known]
    table["make_dictionary"] = table["make_bag"]


def _percentiles_array(functions: Any) -> Any:
    """Several percentiles as one array, named one by one or by an array of them."""

    class Percentiles(functions.AggregateSpec):  # type: ignore[misc]
        def render(self, args: list[str]) -> str:
            if len(args) < 2:
                raise ValueError("percentiles_array() takes a value and percentiles")
            wanted = ", ".join(args[1:])
            if "JSON" in wanted:
                wanted = wanted.partition("'")[2].rpartition("'")[0].strip("[]")
            parts = [f"quantile_disc({args[0]}, {one} / 100.0)" for one in wanted.split(",")]
            return f"to_json([{', '.join(parts)}])"

    return Percentiles("percentiles_array", "", (), name_prefix="percentiles")
