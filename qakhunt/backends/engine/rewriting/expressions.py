"""Expressions that the translator does not read, in a form that it does."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from qakhunt.backends.engine.array_functions import LINE, STATISTICS
from qakhunt.backends.engine.rewriting.spelling import column_name, quoted
from qakhunt.kql.edits import Edit
from qakhunt.kql.parser import parse
from qakhunt.kql.syntax import Call, Declaration, Group, Name, Named, Operator, Option, Path, find
from qakhunt.kql.tokens import Token

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qakhunt.kql.syntax import Script


def respell_expressions(text: str) -> list[Edit]:
    """The edits, none inside another."""
    script = parse(text)
    found = [
        *_bare_indexes(script), *_leading_captures(script), *_percentiles(script, text),
        *_names_of_keywords(script), *_typed_extracts(script), *_several_columns(script, text),
    ]  # fmt: skip
    spans = [(edit.start, edit.end) for edit in found]
    return [e for e in found if not any(start < e.start < end for start, end in spans)]


def _bare_indexes(script: Script) -> Iterator[Edit]:
    """``value.[0]`` as ``value[0]``."""
    for path in find(script, Path):
        for dot, step in pairwise(path.parts):
            if isinstance(dot, Token) and dot.text == "." and isinstance(step, Group):
                yield Edit(dot.start, dot.end, "")


_MARK = "\u2063"


def _leading_captures(script: Script) -> Iterator[Edit]:
    """``parse x with a ","``: a mark before the text gives the first column its literal."""
    for operator in find(script, Operator):
        pattern = operator.clause("with") if operator.name.startswith("parse") else None
        if pattern and isinstance(pattern[0], (Declaration, Name)) and operator.arguments:
            source = operator.arguments[0]
            yield Edit(source.start, source.start, f'strcat("{_MARK}", ')
            yield Edit(source.end, source.end, ")")
            yield Edit(pattern[0].start, pattern[0].start, f'"{_MARK}" ')


def _percentiles(script: Script, text: str) -> Iterator[Edit]:
    """``percentiles(x, 5, 95)`` as one ``percentile`` for each, under the same names."""
    for operator in find(script, Operator):
        if operator.name != "summarize":
            continue
        for call in operator.arguments:
            if isinstance(call, Call) and call.name == "percentiles" and len(call.arguments) > 1:
                value, *wanted = (text[one.start : one.end] for one in call.arguments)
                each = ", ".join(f"percentile({value}, {one})" for one in wanted)
                yield Edit(call.start, call.end, each)


_KEYWORDS = frozenset([
    "anomalycolumns", "consume", "count", "distinct", "entity_group", "extend", "join", "limit",
    "order", "parse", "regex", "scan", "serialize", "sort", "summarize", "table", "take", "top",
])  # fmt: skip
"""Words that Kusto takes for names where no operator can stand, the translator does not."""


def _names_of_keywords(script: Script) -> Iterator[Edit]:
    """Such names in the form that is always a name; the words of options stay words."""
    words = {
        word.start
        for node in script.walk()
        if isinstance(node, Option) or (isinstance(node, Operator) and node.name == "render")
        for word in find(node, Name)
    }
    for name in find(script, Name):
        plain = name.name in _KEYWORDS and name.tokens[0].text == name.name
        if plain and name.start not in words:
            yield Edit(name.start, name.end, f"['{name.name}']")


READERS = {
    "string": "tostring", "int": "toint", "long": "tolong", "real": "toreal", "double": "toreal",
    "datetime": "todatetime", "date": "todatetime", "timespan": "totimespan", "bool": "tobool",
    "guid": "toguid", "dynamic": "todynamic",
}  # fmt: skip


def _typed_extracts(script: Script) -> Iterator[Edit]:
    """``extract(regex, group, text, typeof(long))`` as ``tolong(extract(regex, group, text))``."""
    for call in find(script, Call):
        type_of = call.arguments[-1] if call.arguments else None
        if not isinstance(type_of, Call) or type_of.name != "typeof":
            continue
        reader = READERS.get("".join(part.text for part in type_of.tokens[2:-1]))
        if call.name in ("extract", "extract_json", "extractjson") and reader:
            yield Edit(call.start, call.start, f"{reader}(")
            yield Edit(call.arguments[-2].end, type_of.end, ")")


_SEVERAL = {"series_stats": STATISTICS, "series_fit_line": LINE}


def _several_columns(script: Script, text: str) -> Iterator[Edit]:
    """``(a, b) = series_stats(x)`` as a column for each name, all of them where none is given."""
    for operator in find(script, Operator):
        for item in operator.arguments if operator.name in ("extend", "project") else ():
            call = item.value if isinstance(item, Named) else item
            if not isinstance(call, Call) or call.name not in _SEVERAL or not call.arguments:
                continue
            columns = _SEVERAL[call.name]
            own = f"{call.name}_{column_name(call.arguments[0]) or ''}"
            names = item.names if isinstance(item, Named) else [f"{own}_{one}" for one in columns]
            listed = text[call.arguments[0].start : call.arguments[-1].end]
            each = (
                f"{quoted(name)} = {read}({call.name}_dynamic({listed})['{column}'])"
                for name, (column, read) in zip(names, columns.items(), strict=False)
            )
            yield Edit(item.start, item.end, ", ".join(each))
