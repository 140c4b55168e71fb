"""What a query reads: its tables and functions, and which of them no window bounds.

By token, on the safe side: what may be a source counts as one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qakhunt.kql.pipeline import closing, pipeline, split
from qakhunt.kql.schema import TIME_COLUMN, columns
from qakhunt.kql.tokens import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from qakhunt.kql.pipeline import Stage
    from qakhunt.kql.tokens import Token

    Lets = dict[str, list["Token"]]

# Rows that the query itself writes out.
_CONSTANT = frozenset(["print", "datatable", "range"])
_WRAPPERS = frozenset(["materialize", "view", "toscalar"])
_COMBINING = frozenset(["union", "join", "lookup"])
_EVERYTHING = frozenset(["find", "search"])
_UNBOUNDED = frozenset(
    """externaldata external_table cluster database workspace app adx arg resource
    _GetWatchlist _GetWatchlistAlias""".split()  # noqa: SIM905
)
# What a bracket begins with that holds steps and no source (mv-apply, partition, fork).
_STEPS = frozenset(
    """where filter extend project summarize top take limit distinct sort order count parse
    evaluate mv serialize sample make render as invoke scan""".split()  # noqa: SIM905
)
_BEFORE_TABLES = _WRAPPERS | {"in", "|"}
_OPENING = ("(", "[", "{")
_NO_STATEMENT = frozenset(["set", "declare", "alias", "restrict"])


def sources(tokens: Sequence[Token], *, unused: bool = False) -> list[Token]:
    """The first token of each source, as often as the query reads it.

    A ``let`` counts where it is used, with ``unused`` also where it is not; rows that the
    query itself writes out are none.
    """
    lets: Lets = {}
    try:
        found = _statements(tokens, lets)
    except RecursionError:  # hundreds of brackets within each other: nothing is known of it
        return []
    return [*found, *(token for own in lets.values() for token in own)] if unused else found


def are_several(read: Sequence[Token]) -> bool:
    """Whether these are, or may be, more sources than one."""
    return len(read) > 1 or any(source.text in {"*", *_EVERYTHING} for source in read)


def is_unbounded(source: Token, product: str) -> bool:
    """Whether no window bounds it: a known table without a time, or no table at all."""
    own = columns(product, source.text)
    return source.text in _UNBOUNDED or (bool(own) and TIME_COLUMN[product] not in own)


def is_unknown(source: Token, product: str) -> bool:
    """Whether the shipped schema has no such table: a custom one, a function, or none."""
    named = source.kind is Kind.IDENTIFIER and source.text not in {
        *_UNBOUNDED, *_EVERYTHING, *_COMBINING, "table",
    }  # fmt: skip
    return named and not columns(product, source.text)


def _statements(tokens: Sequence[Token], lets: Lets) -> list[Token]:
    found = []
    for part in split(tokens, ";"):
        if len(part) > 2 and part[0].text == "let" and part[2].text in ("=", "("):
            lets[part[1].text] = _reads(part[3:] if part[2].text == "=" else part[2:], lets)
        elif part and part[0].text not in _NO_STATEMENT:
            found += _reads(part, lets, alone=True)
    return found


def _reads(tokens: Sequence[Token], lets: Lets, *, alone: bool = False) -> list[Token]:
    """Sources of a pipeline; without bars it is one only if it stands ``alone``."""
    head, *stages = pipeline(tokens)
    found = _head(head.tokens, lets, alone=alone or bool(stages))
    for stage in (head, *stages):
        combines = stage.operator in _COMBINING or (stage is head and _begins(head, "union"))
        if stage.operator in _COMBINING:
            found += _operands(stage.tokens, lets)
        elif stage.operator == "as" and stage.tokens:
            lets[stage.tokens[-1].text] = list(found)
        before = ["", "|" if stage is head else ""]
        for at, token in _outside(stage.tokens):
            after = stage.tokens[at + 1].text if at + 1 < len(stage.tokens) else ""
            if token.text in _OPENING:
                tabular = combines or before[-1] in _BEFORE_TABLES or before[-2:] == ["in", "~"]
                inner = stage.tokens[at + 1 : closing(stage.tokens, at)]
                found += _inner(inner, lets, tabular=tabular)
            elif token.text in lets and before[-1] != "." and after != "=":
                found += lets[token.text]
            before.append(token.text)
    return found


def _inner(tokens: Sequence[Token], lets: Lets, *, tabular: bool) -> list[Token]:
    """Sources within a bracket; ``tabular``: a table's name alone is one, too."""
    if any(token.text == ";" for _, token in _outside(tokens)):
        return _statements(tokens, dict(lets))
    is_table = len(tokens) == 1 and tabular and _is_table(tokens[0])
    return _reads(tokens, lets, alone=is_table)


def _head(tokens: Sequence[Token], lets: Lets, *, alone: bool) -> list[Token]:
    """The source before the first bar; brackets and lets are the caller's."""
    if not tokens:
        return []
    first = tokens[0]
    if first.text == "union":
        return _operands(tokens[1:], lets)
    if first.text in _UNBOUNDED or (first.text in _EVERYTHING and alone):
        return [first]
    if first.text == "[" and alone:
        return list(tokens[1:2])  # ['a table']
    is_name = first.kind is Kind.IDENTIFIER and first.text not in _CONSTANT | _WRAPPERS | _STEPS
    return [first] if alone and is_name and first.text not in lets else []


def _operands(tokens: Sequence[Token], lets: Lets) -> list[Token]:
    """Names that ``union`` or ``join`` combine: no option (``kind=inner``), before ``on``."""
    outside = [token for _, token in _outside(tokens)]
    names: list[Token] = []
    for at, token in enumerate(outside):
        if token.text in ("on", "where"):
            break
        before = outside[at - 1].text if at else ""
        after = outside[at + 1].text if at + 1 < len(outside) else ""
        is_option = before in ("=", ".") or (after in ("=", ".") and token.text not in _UNBOUNDED)
        if token.kind is Kind.IDENTIFIER and token.text not in lets and not is_option:
            names.append(outside[at + 1] if after == "*" else token)  # Device*
    return names


def _begins(stage: Stage, word: str) -> bool:
    return bool(stage.tokens) and stage.tokens[0].text == word


def _is_table(token: Token) -> bool:
    known = any(columns(product, token.text) for product in TIME_COLUMN)
    return token.kind is Kind.IDENTIFIER and (known or token.text.endswith("_CL"))


def _outside(tokens: Sequence[Token]) -> Iterator[tuple[int, Token]]:
    """Tokens outside all brackets and the opening ones, with their positions."""
    end = -1
    for at, token in enumerate(tokens):
        if at <= end:
            continue
        yield at, token
        if token.text in _OPENING:
            end = closing(tokens, at)
