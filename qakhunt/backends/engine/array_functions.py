"""Functions of arrays, among them the ``series_*`` whose pages say exactly what they give.

Each is SQL over its arguments' SQL; elements that are no numbers count as null.
Source: the function's page below learn.microsoft.com/kusto/query.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qakhunt.backends.engine.networks import bind

if TYPE_CHECKING:
    from collections.abc import Callable

    Function = tuple[Callable[..., str], int, int | None]

_WHOLE = "json_type({0}) IN ('BIGINT', 'UBIGINT')"
_NUMBER = "json_type({0}) IN ('BIGINT', 'UBIGINT', 'DOUBLE')"
STATISTICS = {
    "min": "toreal", "min_idx": "tolong", "max": "toreal", "max_idx": "tolong", "avg": "toreal",
    "stdev": "toreal", "variance": "toreal",
}  # fmt: skip
"""Columns of series_stats(), each with what reads it from series_stats_dynamic()."""
LINE = {
    "rsquare": "toreal", "slope": "toreal", "variance": "toreal", "rvariance": "toreal",
    "interception": "toreal", "line_fit": "todynamic",
}  # fmt: skip
"""Columns of series_fit_line(), each with what reads it from series_fit_line_dynamic()."""


def _elements(series: str) -> str:
    return f"CAST(to_json({series}) AS JSON[])"


def _doubles(series: str) -> str:
    """The elements as reals; null where one is no number."""
    return (
        f"list_transform({_elements(series)}, lambda e: "
        f"CASE WHEN {_NUMBER.format('e')} THEN CAST(e AS DOUBLE) END)"
    )


def _pairwise(whole: str, real: str) -> Callable[[str, str], str]:
    """Two series element by element; a missing or other element makes null."""

    def render(left: str, right: str) -> str:
        whole_pair = f"{_WHOLE.format('p.l')} AND {_WHOLE.format('p.r')}"
        pair = f"{_NUMBER.format('p.l')} AND {_NUMBER.format('p.r')}"
        longs, doubles = (
            form.format(f"CAST(p.l AS {kind})", f"CAST(p.r AS {kind})")
            for form, kind in ((whole, "BIGINT"), (real, "DOUBLE"))
        )
        one = (
            f"CASE WHEN {whole_pair} THEN to_json(TRY({longs})) "
            f"WHEN {pair} THEN to_json({doubles}) END"
        )
        pairs = (
            "list_transform(range(1, greatest(len(s.a), len(s.b)) + 1), "
            "lambda i: struct_pack(l := s.a[i], r := s.b[i]))"
        )
        both = f"struct_pack(a := {_elements(left)}, b := {_elements(right)})"
        return bind(both, "s", f"to_json(list_transform({pairs}, lambda p: {one}))")

    return render


def _each(whole: str, real: str) -> Callable[[str], str]:
    def render(series: str) -> str:
        one = (
            f"CASE WHEN {_WHOLE.format('e')} THEN to_json({whole.format('CAST(e AS BIGINT)')}) "
            f"WHEN {_NUMBER.format('e')} THEN to_json({real.format('CAST(e AS DOUBLE)')}) END"
        )
        return f"to_json(list_transform({_elements(series)}, lambda e: {one}))"

    return render


def _missing(placeholder: str | None) -> str:
    """Whether the element ``e`` stands for none: a null, or the number that is named."""
    if placeholder is None:
        return "coalesce(json_type(e), 'NULL') = 'NULL'"
    return (
        f"CASE WHEN {placeholder} IS NULL THEN coalesce(json_type(e), 'NULL') = 'NULL' "
        f"WHEN {_NUMBER.format('e')} THEN CAST(e AS DOUBLE) = CAST({placeholder} AS DOUBLE) "
        "ELSE false END"
    )


def fill_const(series: str, constant: str, placeholder: str | None = None) -> str:
    """The constant in place of what is missing."""
    filled = f"CASE WHEN {_missing(placeholder)} THEN to_json({constant}) ELSE e END"
    return f"to_json(list_transform({_elements(series)}, lambda e: {filled}))"


def _fill(nearest: str) -> Callable[..., str]:
    """The nearest element to one side in place of what is missing, where there is one."""

    def render(series: str, placeholder: str | None = None) -> str:
        known = f"list_filter({nearest}, lambda e: NOT ({_missing(placeholder)}))"
        found = f"{known}[{'-1' if nearest.startswith('s[1') else '1'}]"
        filled = f"CASE WHEN {_missing(placeholder)} THEN coalesce({found}, e) ELSE e END"
        return bind(_elements(series), "s", f"to_json(list_transform(s, lambda e, i: {filled}))")

    return render


def _over(values: str, body: str) -> str:
    """SQL over the reals ``v`` of a series; null where one is null, or none is there."""
    return bind(
        values, "v", f"CASE WHEN len(v) > 0 AND len(list_filter(v, lambda x: x IS NULL)) = 0 "
        f"THEN {body} END",
    )  # fmt: skip


def stats(series: str, ignore: str = "false") -> str:
    """Least, greatest, mean and spread as an object."""
    fields = ", ".join([
        "'min', list_min(v)", "'min_idx', list_position(v, list_min(v)) - 1",
        "'max', list_max(v)", "'max_idx', list_position(v, list_max(v)) - 1",
        "'avg', list_avg(v)", "'stdev', list_stddev_samp(v)", "'variance', list_var_samp(v)",
        "'sum', list_sum(v)", "'len', len(v)",
    ])  # fmt: skip
    finite = f"list_filter({_doubles(series)}, lambda x: NOT ({ignore}) OR x IS NOT NULL)"
    return _over(finite, f"json_object({fields})")


def fit_line(series: str) -> str:
    """The line with the least squares as an object; the first element stands at 1."""
    slope = (
        "list_sum(list_transform(v, lambda y, i: (i - (len(v) + 1) / 2.0) * (y - list_avg(v)))) / "
        "list_sum(list_transform(v, lambda y, i: (i - (len(v) + 1) / 2.0) ** 2))"
    )
    fitted = "list_transform(t.v, lambda y, i: t.b + t.m * i)"
    rest = "list_transform(t.v, lambda y, i: y - t.b - t.m * i)"
    fields = ", ".join([
        "'rsquare', 1 - list_var_samp(u.r) / list_var_samp(u.v)", "'slope', u.m",
        "'variance', list_var_samp(u.v)", "'rvariance', list_var_samp(u.r)",
        "'interception', u.b", "'line_fit', u.f",
    ])  # fmt: skip
    whole = f"struct_pack(v := t.v, m := t.m, b := t.b, r := {rest}, f := {fitted})"
    line = "struct_pack(v := v, m := m, b := list_avg(v) - m * (len(v) + 1) / 2.0)"
    body = bind(slope, "m", bind(line, "t", bind(whole, "u", f"json_object({fields})")))
    return _over(_doubles(series), f"CASE WHEN list_var_samp(v) > 0 THEN {body} END")


def _rotated(by: str) -> Callable[[str, str], str]:
    def render(array: str, count: str) -> str:
        at = f"(({by}CAST({count} AS BIGINT)) % len(a) + len(a)) % len(a)"
        turned = bind(at, "n", "list_concat(a[n + 1:], a[1:n])")
        return bind(
            _elements(array), "a", f"to_json(CASE WHEN len(a) > 0 THEN {turned} ELSE a END)"
        )

    return render


def _shifted(by: str) -> Callable[..., str]:
    def render(array: str, count: str, default: str = "NULL") -> str:
        at = f"i + {by}CAST({count} AS BIGINT)"
        empty = "CASE WHEN json_type(a[1]) = 'VARCHAR' THEN to_json('') END"
        other = empty if default == "NULL" else f"to_json({default})"
        moved = f"CASE WHEN {at} BETWEEN 1 AND len(a) THEN a[{at}] ELSE {other} END"
        return bind(_elements(array), "a", f"to_json(list_transform(a, lambda e, i: {moved}))")

    return render


_COMPARED = {
    "greater": ">", "greater_equals": ">=", "less": "<", "less_equals": "<=", "equals": "=",
    "not_equals": "<>",
}  # fmt: skip
FUNCTIONS: dict[str, Function] = {
    **{
        f"series_{name}": (_pairwise(f"{{0}} {sign} {{1}}", f"{{0}} {sign} {{1}}"), 2, 2)
        for name, sign in {"add": "+", "subtract": "-", "multiply": "*", **_COMPARED}.items()
    },
    "array_rotate_left": (_rotated(""), 2, 2),
    "array_rotate_right": (_rotated("-"), 2, 2),
    "array_shift_left": (_shifted(""), 2, 3),
    "array_shift_right": (_shifted("-"), 2, 3),
    "series_abs": (_each("abs({0})", "abs({0})"), 1, 1),
    "series_sum": (lambda s: _over(_doubles(s), "list_sum(v)"), 1, 1),
    "series_fill_const": (fill_const, 2, 3),
    "series_fill_forward": (_fill("s[1:i]"), 1, 2),
    "series_fill_backward": (_fill("s[i:]"), 1, 2),
    "series_stats_dynamic": (stats, 1, 2),
    "series_fit_line_dynamic": (fit_line, 1, 1),
}  # fmt: skip
"""Name -> how it is written, and the least and the most arguments."""
