"""A dynamic value beside a typed one: it is read as the other's type, null where it cannot be.

DuckDB would end the query at the first value that is no number. Types as Microsoft's
parser states them: dynamic + long is a long, dynamic * real a real, a comparison a bool.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from qakhunt.kql.schema import Columns

_ARITHMETIC = frozenset("+-*/%")
_EQUALITIES = frozenset({"==", "!=", "<>"})
_COMPARISONS = _EQUALITIES | {"<", "<=", ">", ">="}
_RESULTS = {
    name: kind
    for kind, names in {
        "long": "tolong toint strlen array_length countof indexof dcount count countif hourofday "
        "getyear getmonth dayofmonth dayofyear monthofyear datetime_diff datetime_part parse_ipv4",
        "bool": "isempty isnotempty isnull isnotnull not tobool toboolean",
        "real": "toreal todouble avg round",
        "dynamic": "split make_set make_list make_bag bag_pack pack pack_array extract_all "
        "parse_url parse_urlquery parse_path parse_command_line bag_merge array_concat "
        "array_slice set_union set_difference set_intersect bag_keys todynamic parse_json zip",
    }.items()
    for name in names.split()
}
# A number as exact as the other side can be.
_SQL = {
    "long": "DECIMAL(38,9)", "real": "DOUBLE", "bool": "BOOLEAN", "timespan": "INTERVAL",
    "guid": "UUID",
}  # fmt: skip
_READ = {"long": "tolong", "real": "toreal", "datetime": "todatetime", "timespan": "totimespan"}
NUMBER = "kql_number"
"""A function of the translator's table, not of KQL: any value as an exact number, or null."""


class Kinds:
    """The KQL types of a query's expressions, where they are known."""

    def __init__(self, translate: Any, text: str, tables: Mapping[str, Columns]) -> None:
        self.translate = translate
        self.tables = [columns for name, columns in tables.items() if name in text]
        self._defined: dict[str, list[Any]] | None = None

    def read(self, query: Any) -> None:
        """Take note of the names that the query itself defines, once."""
        if self._defined is not None:
            return
        self._defined = {}
        for node in _walk(query):
            for name, what in _definitions(node):
                self._defined.setdefault(name, []).append(what)

    def of_column(self, name: str, inside: frozenset[str] = frozenset()) -> set[str | None]:
        """Every type that a column of this name may have; None is an unknown one."""
        kinds: set[str | None] = {columns[name] for columns in self.tables if name in columns}
        for what in (self._defined or {}).get(name, ()):
            known = what if isinstance(what, str) or name in inside else None
            kinds.add(known if known else self.of(what, inside | {name}) if what else None)
        return {"long" if kind == "int" else kind for kind in kinds} or {None}

    def of(self, node: Any, inside: frozenset[str] = frozenset()) -> str | None:
        """The type of an expression; None where it is not known."""
        kind = getattr(node, "kind", None)
        if isinstance(kind, str):
            return "long" if kind == "int" else kind
        if type(node).__name__ == "ColumnRef":
            kinds = self.of_column(node.name, inside)
            return kinds.pop() if len(kinds) == 1 else None
        known = self._shown(node)
        if known is None and getattr(node, "op", None) in _ARITHMETIC:
            sides = {self.of(side, inside) for side in _operands(node)}
            return sides.pop() if len(sides) == 1 else None
        return known

    def _shown(self, node: Any) -> str | None:
        name = node.name.lower() if type(node).__name__ == "FunctionCall" else ""
        if name in _RESULTS:
            return _RESULTS[name]
        translate = self.translate
        tests = (
            ("dynamic", translate._is_dynamic_expr), ("datetime", translate._is_datetime_expr),
            ("timespan", translate._is_timespan_expr), ("real", translate._is_real_expr),
            ("string", translate._is_string_expr),
        )  # fmt: skip
        return next((kind for kind, test in tests if test(node)), None)

    def may_be(self, node: Any, *kinds: str) -> bool:
        """Whether a column, which is of no one known type, may be of one of these."""
        if type(node).__name__ != "ColumnRef":
            return False
        found = self.of_column(node.name)
        return None in found or bool(found & set(kinds))


def _walk(query: Any) -> Iterator[Any]:
    waiting = [query]
    while waiting:
        node = waiting.pop()
        if isinstance(node, (tuple, list)):
            waiting += node
        elif dataclasses.is_dataclass(node):
            yield node
            waiting += (getattr(node, field.name) for field in dataclasses.fields(node))


def _definitions(node: Any) -> Iterator[tuple[str, Any]]:
    """Names that a node gives to columns, each with an expression, a type or None."""
    what = type(node).__name__
    if what == "NamedExpr" and node.name:
        yield node.name, node.expr
    elif what == "MvExpandTarget":
        yield node.name or node.column, node.to_type or "dynamic"
    elif what == "DataTable":
        yield from node.columns
    elif what == "ParseSegment" and node.name:
        yield node.name, node.type or "string"
    elif what == "RangeSource":
        yield node.name, None


def _operands(node: Any) -> tuple[Any, ...]:
    return (node.operand,) if hasattr(node, "operand") else (node.left, node.right)


def render(kinds: Kinds, node: Any, write: Callable[[Any], str]) -> str | None:
    """SQL of an operation over a value that is, or may be, dynamic; None for any other."""
    what = type(node).__name__
    if what == "BinaryOp" and node.op in _ARITHMETIC:
        return _arithmetic(kinds, node, write)
    if what == "BinaryOp" and node.op in _COMPARISONS:
        return _comparison(kinds, node, write)
    if what == "Between":
        read = _bounded(kinds, node.value, (node.low, node.high))
        return write(dataclasses.replace(node, value=read)) if read else None
    if what == "InList" and node.subquery is None and not node.case_insensitive:
        read = _bounded(kinds, node.value, node.items)
        return write(dataclasses.replace(node, value=read)) if read else None
    return None


def _bounded(kinds: Kinds, value: Any, others: tuple[Any, ...]) -> Any:
    """The value as a number or time where all others are; None where it may stay."""
    from duckdb_kql import ir

    wanted = {kinds.of(other) for other in others}
    own = kinds.of(value)
    if own is not None and own != "dynamic" and not (own == "string" and wanted <= {"long"}):
        return None
    if own is None and not kinds.may_be(value, "dynamic", "string"):
        return None
    if wanted and wanted <= {"long", "real"}:
        return ir.FunctionCall(NUMBER, (value,))
    if own == "dynamic" and wanted and wanted <= {"datetime", "timespan"}:
        reader = "todatetime" if kinds.of(others[0]) == "datetime" else "totimespan"
        return ir.FunctionCall(reader, (value,))
    return None


def _arithmetic(kinds: Kinds, node: Any, write: Callable[[Any], str]) -> str | None:
    left, right = kinds.of(node.left), kinds.of(node.right)
    if "dynamic" not in (left, right):
        return None
    from duckdb_kql import ir

    kind = right if left == "dynamic" else left
    reader = _READ.get(kind or "")
    if reader is None:
        return None
    if node.op == "*" and kind == "timespan":
        reader = "toreal"
    read = {
        side: ir.FunctionCall(reader, (getattr(node, side),))
        for side, own in (("left", left), ("right", right))
        if own == "dynamic"
    }
    return write(dataclasses.replace(node, **read))


def _comparison(kinds: Kinds, node: Any, write: Callable[[Any], str]) -> str | None:
    left, right = kinds.of(node.left), kinds.of(node.right)
    equality = node.op in _EQUALITIES
    if left == right and left is not None:
        return None
    for value, own, other, kind, mirrored in (
        (node.left, left, node.right, right, False),
        (node.right, right, node.left, left, True),
    ):
        if kind == "dynamic" or (kind == "string" and own != "dynamic"):
            continue
        if own == "dynamic" or (own == "string" and equality and kind in ("long", "real")):
            return _compared(kinds, node, value, other, kind, mirrored=mirrored)
        looked = ("dynamic", "string") if equality and kind != "datetime" else ("dynamic",)
        if own is None and kind in (*_SQL, "datetime") and kinds.may_be(value, *looked):
            sql = kinds.translate.render_expr(value)
            held = _compared(kinds, node, value, other, kind, mirrored=mirrored)
            types = "'JSON', 'VARCHAR'" if "string" in looked else "'JSON'"
            return f"CASE WHEN typeof({sql}) IN ({types}) THEN {held} ELSE {write(node)} END"
    return None


def text_of(sql: str) -> str:
    """A value as text, without the quotation marks of a dynamic one."""
    return (
        f"(CASE typeof({sql}) WHEN 'JSON' THEN TRY_CAST(CAST({sql} AS VARCHAR) AS JSON) ->> '$' "
        f"ELSE CAST({sql} AS VARCHAR) END)"
    )


def _compared(
    kinds: Kinds, node: Any, value: Any, other: Any, kind: str | None, *, mirrored: bool
) -> str:
    """The comparison under the type of the other side, which DuckDB tells where none shows."""
    translate = kinds.translate
    text, sql = text_of(translate.render_expr(value)), translate.render_expr(other)
    op = {"==": "=", "!=": "<>"}.get(node.op, node.op)

    def pair(mine: str, theirs: str) -> str:
        return f"({theirs} {op} {mine})" if mirrored else f"({mine} {op} {theirs})"

    time = translate._TODATETIME.format(text)
    if kind == "datetime":
        rendered = pair(time, sql)
    elif kind == "string":
        rendered = pair(text, sql)
    elif kind in _SQL:
        rendered = pair(f"TRY_CAST({text} AS {_SQL[kind]})", sql)
    else:
        theirs = text_of(sql)
        number = pair(f"TRY_CAST({text} AS DOUBLE)", f"TRY_CAST({theirs} AS DOUBLE)")
        rendered = (
            f"CASE WHEN typeof({sql}) IN ('BIGINT', 'INTEGER', 'DOUBLE') "
            f"OR typeof({sql}) LIKE 'DECIMAL%' THEN {number} WHEN typeof({sql}) = 'TIMESTAMP' "
            f"THEN {pair(time, f'TRY_CAST({theirs} AS TIMESTAMP)')} "
            f"ELSE {pair(text, theirs)} END"
        )
    from duckdb_kql.translate.functions import BINARY_OPERATORS

    when_null = BINARY_OPERATORS[node.op].null_result
    if when_null is None:
        return rendered
    operands = ((value, text), (other, sql))
    return translate._apply_null_semantics(rendered, when_null, operands)  # type: ignore[no-any-return]
