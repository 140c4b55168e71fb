"""``parse-kv``: keys and values in a text, as columns.

Source: https://learn.microsoft.com/kusto/query/parse-kv-operator. The forms whose page
leaves open where a value ends (greedy, without delimiters) are refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qakhunt.backends.engine.dialect import Unreadable
from qakhunt.backends.engine.rewriting.expressions import READERS
from qakhunt.backends.engine.rewriting.plan import Planner, refusal, rewrites
from qakhunt.backends.engine.rewriting.spelling import quoted
from qakhunt.backends.engine.sql_types import identifier, literal
from qakhunt.kql.syntax import Declaration, Group, Literal, Named, Node, Operator, Pipeline

if TYPE_CHECKING:
    from collections.abc import Iterator

_SPACE = " \t\r\n"


@dataclass(frozen=True)
class _Format:
    """What divides a text: delimiters, pairs of quotes and escapes, else an expression."""

    pairs: str
    values: str
    quotes: tuple[str, ...]
    escapes: str
    regex: str


def parse_kv(planner: Planner, pipeline: Pipeline, operator: Operator) -> None:
    """``parse-kv`` as a stage."""
    keys = operator.clause("as")
    wanted = [one for one in _items(keys) if isinstance(one, Declaration)]
    if not wanted or not operator.arguments:
        raise Unreadable("'parse-kv' needs a text and its keys", operator.start)
    form = _format(operator)
    given = operator.arguments[0]
    before = planner.stage_before(pipeline, operator)
    text = planner.stage(
        planner.sql(f"{before.name} | extend _kv = tostring(", (given.start, given.end), ")")
    )
    found = planner.stage(
        f"SELECT * EXCLUDE (_kv, _pairs), {_values(wanted)} FROM "
        f"(SELECT *, {_pairs(form)} AS _pairs FROM {identifier(text.name)})"
    )
    made = ", ".join(f"{quoted(one.name)} = {_read(one)}(_kv{at})" for at, one in enumerate(wanted))
    gone = ", ".join(f"_kv{at}" for at in range(len(wanted)))
    sql = planner.sql(f"{found.name} | extend {made} | project-away {gone}")
    planner.becomes(pipeline, operator, planner.stage(sql, ordered=before.ordered))


def _items(clause: tuple[Node, ...] | None) -> tuple[Node, ...]:
    return clause[0].items if clause and isinstance(clause[0], Group) else ()


def _read(one: Declaration) -> str:
    kind = "".join(token.text for token in one.type.tokens)
    if kind not in READERS:
        raise Unreadable(f"'parse-kv' knows no type {kind!r}", one.type.start)
    return READERS[kind]


def _format(operator: Operator) -> _Format:
    options = list(_options(operator))
    for name, _, at in options:
        if name not in ("pair_delimiter", "kv_delimiter", "quote", "escape", "regex"):
            raise refusal(
                f"'parse-kv' with {name}", at, "name both delimiters, or give a regex of two groups"
            )

    def of(name: str) -> list[str]:
        return [value for one, value, _ in options if one == name]

    regex = "".join(of("regex"))
    pairs, values = "".join(of("pair_delimiter")), "".join(of("kv_delimiter"))
    if not regex and not (pairs and values):
        raise refusal(
            "'parse-kv' without delimiters", operator,
            "name both: with (pair_delimiter=',', kv_delimiter='=')",
        )  # fmt: skip
    quotes = tuple(of("quote"))
    if quotes and (len(pairs) > 1 or len(values) > 1):
        raise refusal("'parse-kv' with quotes and delimiters of several characters", operator)
    return _Format(pairs, values, quotes, "".join(of("escape")), regex)


def _options(operator: Operator) -> Iterator[tuple[str, str, Node]]:
    for item in _items(operator.clause("with")):
        value = item.value if isinstance(item, Named) else item
        name = item.names[0] if isinstance(item, Named) else ""
        if not isinstance(value, Literal):
            raise Unreadable("'parse-kv' needs literals behind 'with'", item.start)
        if value.type == "string":
            yield name, value.text, item
        elif value.value:  # greedy=false is the default
            yield name, "", item


def _class(*characters: str) -> str:
    return "[^" + "".join(re.escape(one) for one in dict.fromkeys("".join(characters))) + "]"


def _pairs(form: _Format) -> str:
    """SQL for the list of pairs, each with its key ``k`` and its value ``v``."""
    if not form.regex and not form.quotes:
        parts = f"str_split(_kv, {literal(form.pairs)})"
        at = f"strpos(p, {literal(form.values)})"
        value = f"substr(p, {at} + {len(form.values)})"
        return (
            f"list_transform(list_filter({parts}, lambda p: {at} > 0), lambda p: "
            f"struct_pack(k := {_trimmed(f'substr(p, 1, {at} - 1)')}, v := {_trimmed(value)}))"
        )
    pattern = form.regex or _quoting(form)
    keys, values = (f"regexp_extract_all(_kv, {literal(pattern)}, {group})" for group in (1, 2))
    key, value = (
        _unquoted(form, part) if form.quotes else part
        for part in (_trimmed("p"), _trimmed(f"{values}[i]"))
    )
    return f"list_transform({keys}, lambda p, i: struct_pack(k := {key}, v := {value}))"


def _trimmed(sql: str) -> str:
    return rf"trim({sql}, E' \t\r\n')"


def _quoting(form: _Format) -> str:
    """One pair: a key and a value, each in quotes or up to the next delimiter."""
    blank = "".join(one for one in _SPACE if one not in form.pairs + form.values)
    space = f"[{blank}]*" if blank else ""
    forms = []
    for pair in form.quotes:
        opens, closes = re.escape(pair[0]), re.escape(pair[-1])
        inner = _class(pair[-1], form.escapes)
        if form.escapes:
            inner = f"(?:[{re.escape(form.escapes)}][\\s\\S]|{inner})"
        forms.append(f"{opens}{inner}*{closes}")
    either = "|".join(forms)
    key, value = f"{either}|{_class(form.pairs, form.values)}+", f"{either}|{_class(form.pairs)}*"
    return (
        f"{space}({key}){space}{re.escape(form.values)}{space}({value}){space}"
        f"(?:{re.escape(form.pairs)}|$)"
    )


def _unquoted(form: _Format, sql: str) -> str:
    """A part without its quotes, and what is escaped in them as it is."""
    inner = "substr(q, 2, length(q) - 2)"
    if form.escapes:
        escaped = literal(f"[{re.escape(form.escapes)}]([\\s\\S])")
        inner = f"regexp_replace({inner}, {escaped}, '\\1', 'g')"
    tests = " OR ".join(
        f"(length(q) > 1 AND starts_with(q, {literal(pair[0])}) "
        f"AND ends_with(q, {literal(pair[-1])}))"
        for pair in form.quotes
    )
    return f"list_transform([{sql}], lambda q: CASE WHEN {tests} THEN {inner} ELSE q END)[1]"


def _values(wanted: list[Declaration]) -> str:
    """The first value of each key; empty where it has none."""
    return ", ".join(
        f"coalesce(list_filter(_pairs, lambda p: p.k = {literal(one.name)})[1].v, '') AS _kv{at}"
        for at, one in enumerate(wanted)
    )


rewrites(parse_kv, "parse-kv")
