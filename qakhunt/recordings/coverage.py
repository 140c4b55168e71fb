"""What a query may need that a recording's source rows do not hold.

A condition of the query that is the filter's own, or asks for fewer of the same
values, stays inside the filter. Anything else may match outside it: that is said,
never guessed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qakhunt.families.data import families
from qakhunt.hunts.feed import NoFeed, conditions
from qakhunt.kql.literal import decode, encode, literal_type
from qakhunt.kql.pipeline import bracketed, split
from qakhunt.kql.schema import columns
from qakhunt.kql.tokens import Kind, Token, tokenize
from qakhunt.recordings.shown_columns import shows_unnamed_columns

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

Conditions = tuple[str, ...]
Alternatives = tuple[Conditions, ...]

_PROCESSES = "DeviceProcessEvents"
_FILE_NAMES = ("FileName", "ProcessVersionInfoOriginalFileName")
_LONGEST = 200


def default_filter(table: str, product: str, queries: Iterable[str]) -> Alternatives:
    """Of process events those of the known families' programs; of any table what hunts need."""
    found: dict[Conditions, None] = {}
    if table == _PROCESSES:
        names = {name for family in families().families.values() for name in family.files}
        # cmd.exe runs those that are no programs of their own, such as set.
        files = sorted({"cmd.exe", *(f"{name}.exe" for name in names)})
        own = columns(product, table)
        for column in _FILE_NAMES:
            if column in own:
                found[(f"{column} in~ ({encode(files, 'dynamic')})",)] = None
    for query in queries:
        try:
            found.update(dict.fromkeys(conditions(query, product).get(table, [])))
        except NoFeed:
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
    except NoFeed as problem:
        return [str(problem)]
    doubts = []
    for table, places in needed.items():
        if table not in filters:
            doubts.append(f"{table} was not recorded")
            continue
        for place in places:
            if not _is_inside(place, filters[table]):
                doubts.append(f"it may match {table} outside the recorded filter: {_short(place)}")
    return list(dict.fromkeys(doubts))


def _short(place: Conditions) -> str:
    if not place:
        return "it asks for every record"
    text = " and ".join(f"({condition})" for condition in place)
    return "it asks for " + (text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "...")


def columns_missing(query: str, product: str, table: str, kept: Collection[str]) -> list[str]:
    """Columns of the table that the query reads and the recording has not."""
    own = columns(product, table)
    named = {token.text for token in tokenize(query) if token.kind is Kind.IDENTIFIER}
    every = shows_unnamed_columns(query)
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
        tuple(_text(condition, part) for part in split(side, "and"))
        for side in split(_bare(condition), "or")
        if side
    ]


def _bare(condition: str) -> list[Token]:
    """The condition's tokens without brackets around all of them."""
    tokens = tokenize(condition)
    while bracketed(tokens):
        tokens = tokens[1:-1]
    return tokens


def _text(whole: str, tokens: Sequence[Token]) -> str:
    return whole[tokens[0].start : tokens[-1].end] if tokens else ""


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
    return [t.text for t in tokenize(one)] == [t.text for t in tokenize(other)]


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
    tokens = _bare(condition)
    if len(tokens) < 3 or tokens[0].kind is not Kind.IDENTIFIER:
        return None
    column, operator, rest = tokens[0].text, tokens[1].text, tokens[2:]
    exact = operator in ("==", "in")
    if operator == "in" and rest[0].text == "~":
        exact, rest = False, rest[1:]
    if operator not in ("==", "=~", "in"):
        return None
    values = _values(rest)
    return None if values is None else _Membership(column, frozenset(values), exact)


def _values(tokens: Sequence[Token]) -> list[str] | None:
    inner = tokens[1:-1] if bracketed(tokens) else tokens
    found: list[str] = []
    for part in split(inner, ","):
        if len(part) != 1 or literal_type(part[0]) not in ("string", "dynamic"):
            return None
        value: Any = decode(part[0].text)[1]
        items = value if isinstance(value, list) else [value]
        if not all(isinstance(item, str) for item in items):
            return None
        found += items
    return found
