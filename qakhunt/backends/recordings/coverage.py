"""What a query may need that a recording's source rows do not hold.

A condition of the query that is the filter's own, or asks for fewer of the same
values, stays inside the filter. Anything else may match outside it: that is said,
never guessed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qakhunt.backends.recordings.redact import WORD, vocabulary
from qakhunt.hunts.command_catalogue import families
from qakhunt.hunts.source_query import NoSourceQuery, conditions
from qakhunt.kql.literal import encode
from qakhunt.kql.parser import parse
from qakhunt.kql.schema import columns, tables
from qakhunt.kql.syntax import (
    Call,
    Comparison,
    Function,
    Group,
    Let,
    Literal,
    Name,
    Named,
    Operator,
    Wildcard,
    bare,
    conjuncts,
    find,
    stages,
)

if TYPE_CHECKING:
    import re
    from collections.abc import Collection, Iterable, Iterator

    from qakhunt.kql.syntax import Node, Script

Conditions = tuple[str, ...]
Alternatives = tuple[Conditions, ...]

_PROCESSES = "DeviceProcessEvents"
_FILE_NAMES = ("FileName", "ProcessVersionInfoOriginalFileName")
_LONGEST = 200

_CHOOSES = frozenset(["summarize", "project", "distinct", "count", "make-series"])
_ADDS = frozenset(["join", "lookup", "union"])
_ONE_SIDED = frozenset(["leftanti", "leftsemi", "anti"])
_NO_TABLE = frozenset(["print", "range", "datatable"])
_UNNAMED = frozenset(["pack_all", "column_ifexists", "columnifexists"])

_WRAPPERS = ("cmd.exe", "conhost.exe", "forfiles.exe", "powershell.exe", "pwsh.exe")
"""What runs commands for others; cmd.exe also those that are no programs, such as set."""


def default_filter(table: str, product: str, queries: Iterable[str]) -> Alternatives:
    """Of process events those of the known families' programs; of any table what hunts need."""
    found: dict[Conditions, None] = {}
    if table == _PROCESSES:
        names = {name for family in families().families.values() for name in family.files}
        files = sorted({*_WRAPPERS, *(f"{name}.exe" for name in names)})
        own = columns(product, table)
        for column in _FILE_NAMES:
            if column in own:
                found[(f"{column} in~ ({encode(files, 'dynamic')})",)] = None
    for query in queries:
        try:
            found.update(dict.fromkeys(conditions(query, product).get(table, [])))
        except NoSourceQuery:
            return ((),)
    return ((),) if () in found else tuple(found)


def as_kql(alternatives: Alternatives) -> str | None:
    """The filter after ``where``; None where every record passes."""
    if () in alternatives:
        return None
    return "\n    or ".join(
        " and ".join(f"({condition})" for condition in one) for one in alternatives
    )


def outside(query: str, product: str, filters: dict[str, Alternatives]) -> list[str]:
    """Why the query may match records that the filters of its tables kept out."""
    try:
        needed = conditions(query, product)
    except NoSourceQuery as problem:
        return [str(problem)]
    ambiguities = []
    for table, places in needed.items():
        if table not in filters:
            ambiguities.append(f"{table} was not recorded")
            continue
        for place in places:
            if not _is_inside(place, filters[table]):
                ambiguities.append(
                    f"it may match {table} outside the recorded filter: {_short(place)}"
                )
    return list(dict.fromkeys(ambiguities))


def _short(place: Conditions) -> str:
    if not place:
        return "it asks for every record"
    text = " and ".join(f"({condition})" for condition in place)
    return "it asks for " + (text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "...")


def columns_missing(query: str, product: str, table: str, kept: Collection[str]) -> list[str]:
    """Columns of the table that the query reads and the recording has not."""
    own = columns(product, table)
    script = parse(query)
    named = {node.name for node in find(script, Name)}
    every = _shows_unnamed(script, {})
    return [name for name in own if (every or name in named) and name not in kept]


def _is_inside(place: Conditions, alternatives: Alternatives) -> bool:
    if any(all(_implied(wanted, place) for wanted in one) for one in alternatives):
        return True
    # Inside, too, if each side of one of its own "or" is.
    for at, condition in enumerate(place):
        sides = _sides(condition)
        if len(sides) > 1:
            rest = place[:at] + place[at + 1 :]
            return all(_is_inside((*rest, *side), alternatives) for side in sides)
    return False


def _sides(condition: str) -> list[Conditions]:
    return [
        tuple(condition[part.start : part.end] for part in conjuncts(side))
        for side in conjuncts(_expression(condition), "or")
    ]


def _expression(condition: str) -> Node:
    """The condition without brackets around all of it."""
    script = parse(condition)
    return bare(script.statements[0]) if len(script.statements) == 1 else script


def _implied(wanted: str, place: Conditions) -> bool:
    """Whether a record that fulfils all of ``place`` fulfils ``wanted``."""
    if any(_same(wanted, condition) for condition in place):
        return True
    outer = _membership(wanted)
    if outer is None:
        return False
    inner = (_membership(condition) for condition in place)
    return any(one is not None and one.is_within(outer) for one in inner)


def _same(one: str, other: str) -> bool:
    return [t.text for t in parse(one).tokens] == [t.text for t in parse(other).tokens]


@dataclass(frozen=True)
class _Membership:
    """``column`` is one of ``values``; without ``exact`` whatever their case."""

    column: str
    values: frozenset[str]
    exact: bool

    def is_within(self, outer: _Membership) -> bool:
        if self.column != outer.column:
            return False
        if outer.exact:
            return self.exact and self.values <= outer.values
        return {v.casefold() for v in self.values} <= {v.casefold() for v in outer.values}


def _membership(condition: str) -> _Membership | None:
    node = _expression(condition)
    if not isinstance(node, Comparison) or not isinstance(node.left, Name):
        return None
    if node.operator not in ("==", "=~", "in", "in~"):
        return None
    values = _values(node.right)
    exact = node.operator in ("==", "in")
    return None if values is None else _Membership(node.left.name, frozenset(values), exact)


def _values(node: Node) -> list[str] | None:
    found: list[str] = []
    for one in node.items if isinstance(node, Group) else (node,):
        value = one.value if isinstance(one, Literal) else None
        texts = one.strings if isinstance(one, Literal) else ()
        if len(texts) != (len(value) if isinstance(value, list) else 1):
            return None
        found += texts
    return found


# Whether a query's result shows columns that it does not name, or reads them by a ``*``


def _shows_unnamed(script: Script, lets: dict[str, bool]) -> bool:
    """Of the last statement; lets are kept as they come. True where it is unknown."""
    shown = True
    for one in script.statements:
        if isinstance(one, Let):
            lets[one.name] = _shows(one.value, lets)
        else:
            shown = _shows(one, lets)
    return shown


def _shows(node: Node, lets: dict[str, bool]) -> bool:
    source, operators = stages(node)
    shown = _source_shows(source, lets)
    packed = False
    for operator in operators:
        packed = packed or (shown and any(one.name in _UNNAMED for one in find(operator, Call)))
        if operator.name in _CHOOSES:
            shown = shown and any(find(operator, Wildcard))
        elif operator.name in _ADDS and operator.option("kind") not in _ONE_SIDED:
            shown = shown or any(_shows(one, lets) for one in operator.arguments)
    return shown or packed


def _source_shows(node: Node, lets: dict[str, bool]) -> bool:
    if isinstance(node, (Name, Call)) and node.name in lets:
        return lets[node.name]
    if isinstance(node, Function):
        return _shows_unnamed(node.body, dict(lets))
    if isinstance(node, Operator):
        if node.name == "union":
            return any(_shows(one, lets) for one in node.arguments)
        return node.name not in _NO_TABLE
    if isinstance(node, Named):
        return _shows(node.value, lets)
    inner = node.items if isinstance(node, Group) else getattr(node, "arguments", ())
    return _shows(inner[-1], lets) if inner else True


# Comparisons that pseudonyms may decide otherwise than the names they stand for: whole
# words of the vocabulary and of the recorded hunts' own literals stay readable; what
# looks for another word, or inside of words, may find nothing where there was something

_TERMS = frozenset(["has", "has_cs", "has_any", "has_all"])
_INSIDE = frozenset(
    f"{name}{case}"
    for name in ("contains", "startswith", "endswith", "hasprefix", "hassuffix")
    for case in ("", "_cs")
)
_COMPARED = frozenset(["==", "=~", "in", "in~", "matches regex"]) | _TERMS | _INSIDE
_MEASURES = frozenset(["strlen", "substring", "indexof", "countof", "reverse"])
_LONGEST_TEXT = 60


def pseudonym_ambiguities(query: str, product: str, kept: Collection[str]) -> list[str]:
    """What the query compares with names. ``kept`` are words of the recorded literals."""
    script = parse(query)
    named = {node.name for node in find(script, Name)} & tables(product).keys()
    own = {name for table in named for name in columns(product, table)}
    lets = {let.name: let.value for let in script.lets if isinstance(let.value, Literal)}
    ambiguities: dict[str, None] = {}
    for node in script.walk():
        if isinstance(node, Call) and node.name in _MEASURES and node.arguments:
            of = node.arguments[0]
            if isinstance(of, Name) and of.name in own:
                ambiguities[f"{node.name} of {of.name}, whose words are pseudonyms"] = None
        if not isinstance(node, Comparison) or node.positive not in _COMPARED:
            continue
        if node.left.parts and node.left.tokens[-1].text not in {*own, ")"}:
            continue
        for text in _compared(node.right, lets):
            if _is_ambiguous(text, node.positive, kept):
                shown = text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 3] + "..."
                ambiguities[f"{node.operator} {shown!r}, which pseudonyms may stand for"] = None
    return list(ambiguities)


def _compared(node: Node, lets: dict[str, Literal]) -> Iterator[str]:
    """The texts that stand right of an operator, by themselves, in a list or by a name."""
    if isinstance(node, Group):
        for item in node.items:
            yield from _compared(item, lets)
    literal = lets.get(node.name) if isinstance(node, Name) else node
    if isinstance(literal, Literal):
        yield from literal.strings


def _is_ambiguous(text: str, operator: str, kept: Collection[str]) -> bool:
    words = [match[0].replace("^", "").casefold() for match in WORD.finditer(text)]
    readable = vocabulary()
    if operator in _INSIDE:
        # One word may be part of a longer one, which became another; several hold together.
        known = all(word in readable or word in kept for word in words)
        return bool(words) and not (known and len(words) > 1)
    if operator == "matches regex":
        return any(
            # Character classes and escapes leave letters that are no words.
            len(match[0]) > 2
            and match[0].casefold() not in readable
            and not (match[0].casefold() in kept and _stands_apart(text, match))
            for match in WORD.finditer(text)
        )
    if any(len(word) == 1 and not word.isdecimal() for word in words) and len(words) > 1:
        return not _has_switches_only(text)
    return any(len(word) > 1 and word not in readable and word not in kept for word in words)


def _stands_apart(text: str, match: re.Match[str]) -> bool:
    """Whether a word of a regular expression ends where a word of the command line does."""
    before, after = text[: match.start()][-1:], text[match.end() :][:1]
    return bool(before and after) and {before, after} <= set(" \\|():/")


def _has_switches_only(text: str) -> bool:
    """Whether every letter by itself is a switch or a drive, which stay readable."""
    return all(
        text[: match.start()][-1:] in ("-", "/") or text[match.end() :][:1] == ":"
        for match in WORD.finditer(text)
        if len(match[0]) == 1 and not match[0].isdecimal()
    )
