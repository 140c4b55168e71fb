"""A dynamic value beside a typed one: it is read as the other's type, null where it cannot be.

DuckDB would end the query at the first value that is no number. Types as Microsoft's
parser states them: dynamic + long is a long, dynamic * real a real, a comparison a bool.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from qakhunt.kql.schema import Columns

_ARITHMETIC = frozenset("+-*/%")
_COMPARISONS = frozenset({"==", "!=", "<>", "<", "<=", ">", ">="})
_LONGS = frozenset(
    "tolong toint strlen array_length countof indexof dcount count countif hourofday getyear "
    "getmonth dayofmonth dayofyear monthofyear datetime_diff datetime_part parse_ipv4".split()
)
_BOOLS = frozenset("isempty isnotempty isnull isnotnull not tobool toboolean".split())
# A number as exact as the other side can be.
_SQL = {
    "long": "DECIMAL(38,9)", "real": "DOUBLE", "bool": "BOOLEAN", "timespan": "INTERVAL",
    "guid": "UUID",
}  # fmt: skip
_READ = {"long": "tolong", "real": "toreal", "datetime": "todatetime", "timespan": "totimespan"}


def kind_of(translate: Any, node: Any) -> str | None:
    """The type of an expression where it shows on its face."""
    kind = getattr(node, "kind", None)
    if kind in ("int", "long"):
        return "long"
    if kind in ("real", "bool", "datetime", "timespan", "guid", "dynamic", "string"):
        return str(kind)
    if translate._is_dynamic_expr(node):
        return "dynamic"
    for known, test in (
        ("datetime", translate._is_datetime_expr),
        ("timespan", translate._is_timespan_expr),
        ("real", translate._is_real_expr),
        ("string", translate._is_string_expr),
    ):
        if test(node):
            return known
    name = getattr(node, "name", "").lower() if hasattr(node, "args") else ""
    if name in _LONGS:
        return "long"
    if getattr(node, "op", None) in _ARITHMETIC:
        sides = {kind_of(translate, side) for side in _operands(node)}
        return sides.pop() if len(sides) == 1 else None
    return "bool" if name in _BOOLS else None


def _operands(node: Any) -> tuple[Any, ...]:
    return (node.operand,) if hasattr(node, "operand") else (node.left, node.right)


def render(
    translate: Any, node: Any, tables: Mapping[str, Columns], write: Callable[[Any], str]
) -> str | None:
    """SQL of a binary operation in which one side is, or may be, dynamic; None for others."""
    op = node.op
    if op not in _ARITHMETIC and op not in _COMPARISONS:
        return None
    left, right = kind_of(translate, node.left), kind_of(translate, node.right)
    if "string" in (left, right) or (left == right and left is not None):
        return None
    if op in _ARITHMETIC:
        return _arithmetic(translate, node, left, right, write)
    for value, other, kind, mirrored in (
        (node.left, node.right, right, False), (node.right, node.left, left, True),
    ):  # fmt: skip
        own = right if mirrored else left
        if own == "dynamic" and kind != "dynamic":
            return _compared(translate, node, value, other, kind, mirrored=mirrored)
        may_be = own is None and hasattr(value, "name") and not hasattr(value, "args")
        if may_be and kind in (*_SQL, "datetime") and not _is_typed(value.name, tables):
            sql = translate.render_expr(value)
            held = _compared(translate, node, value, other, kind, mirrored=mirrored)
            # Kusto compares text with a number by == and != only.
            texts = ", 'VARCHAR'" if node.op in ("==", "!=", "<>") and kind != "datetime" else ""
            return f"CASE WHEN typeof({sql}) IN ('JSON'{texts}) THEN {held} ELSE {write(node)} END"
    return None


def _arithmetic(
    translate: Any, node: Any, left: str | None, right: str | None, write: Callable[[Any], str]
) -> str | None:
    if "dynamic" not in (left, right):
        return None
    from duckdb_kql import ir

    kind = right if left == "dynamic" else left
    reader = _READ.get(kind or "")
    if reader is None:
        return None
    if node.op in "*/" and kind == "timespan":
        reader = "toreal" if node.op == "*" else reader
    read = {
        side: ir.FunctionCall(reader, (getattr(node, side),))
        for side, own in (("left", left), ("right", right))
        if own == "dynamic"
    }
    return write(dataclasses.replace(node, **read))


def _is_typed(name: str, tables: Mapping[str, Columns]) -> bool:
    """Whether every table that has the column has no text and no dynamic value in it."""
    kinds = {columns[name] for columns in tables.values() if name in columns}
    return bool(kinds) and not kinds & {"dynamic", "string"}


def _compared(
    translate: Any, node: Any, value: Any, other: Any, kind: str | None, *, mirrored: bool
) -> str:
    """The comparison under the type of the other side, which DuckDB tells where none shows."""
    mine = translate.render_expr(value)
    text = f"(CASE typeof({mine}) WHEN 'VARCHAR' THEN CAST({mine} AS VARCHAR) "
    text += f"ELSE TRY_CAST(CAST({mine} AS VARCHAR) AS JSON) ->> '$' END)"
    sql = translate.render_expr(other)
    op = {"==": "=", "!=": "<>"}.get(node.op, node.op)

    def pair(mine: str, theirs: str) -> str:
        return f"({theirs} {op} {mine})" if mirrored else f"({mine} {op} {theirs})"

    time = translate._TODATETIME.format(text)
    if kind == "datetime":
        rendered = pair(time, sql)
    elif kind in _SQL:
        rendered = pair(f"TRY_CAST({text} AS {_SQL[kind]})", sql)
    else:
        their = f"CAST({sql} AS VARCHAR)"
        unwrapped = f"(TRY_CAST({their} AS JSON) ->> '$')"
        number = pair(f"TRY_CAST({text} AS DOUBLE)", f"TRY_CAST({their} AS DOUBLE)")
        rendered = (
            f"CASE WHEN typeof({sql}) IN ('BIGINT', 'INTEGER', 'DOUBLE') "
            f"OR typeof({sql}) LIKE 'DECIMAL%' THEN {number} WHEN typeof({sql}) = 'TIMESTAMP' "
            f"THEN {pair(time, f'TRY_CAST({their} AS TIMESTAMP)')} "
            f"WHEN typeof({sql}) = 'JSON' THEN {pair(text, unwrapped)} "
            f"ELSE {pair(text, their)} END"
        )
    from duckdb_kql.translate.functions import BINARY_OPERATORS

    when_null = BINARY_OPERATORS[node.op].null_result
    if when_null is None:
        return rendered
    operands = ((value, text), (other, sql))
    return translate._apply_null_semantics(rendered, when_null, operands)  # type: ignore[no-any-return]
