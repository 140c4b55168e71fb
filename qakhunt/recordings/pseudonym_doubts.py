"""Comparisons that pseudonyms may decide otherwise than the names they stand for.

Whole words of the vocabulary and of the recorded hunts' own literals stay readable. What
looks for another word, or inside of words, may find nothing where there was something.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qakhunt.kql.literal import decode
from qakhunt.kql.parser import parse
from qakhunt.kql.schema import columns, tables
from qakhunt.kql.syntax import Call, Comparison, Group, Literal, Name, find
from qakhunt.recordings.vocabulary import WORD, vocabulary

if TYPE_CHECKING:
    import re
    from collections.abc import Collection, Iterator

    from qakhunt.kql.syntax import Node

_TERMS = frozenset(["has", "has_cs", "has_any", "has_all"])
_INSIDE = frozenset(
    f"{name}{case}"
    for name in ("contains", "startswith", "endswith", "hasprefix", "hassuffix")
    for case in ("", "_cs")
)
_COMPARED = frozenset(["==", "=~", "in", "in~", "matches regex"]) | _TERMS | _INSIDE
_MEASURES = frozenset(["strlen", "substring", "indexof", "countof", "reverse"])
_LONGEST = 60


def pseudonym_doubts(query: str, product: str, kept: Collection[str]) -> list[str]:
    """What the query compares with names. ``kept`` are words of the recorded literals."""
    script = parse(query)
    named = {node.name for node in find(script, Name)} & tables(product).keys()
    own = {name for table in named for name in columns(product, table)}
    lets = {let.name: let.value for let in script.lets if isinstance(let.value, Literal)}
    doubts: dict[str, None] = {}
    for node in script.walk():
        if isinstance(node, Call) and node.name in _MEASURES and node.arguments:
            of = node.arguments[0]
            if isinstance(of, Name) and of.name in own:
                doubts[f"{node.name} of {of.name}, whose words are pseudonyms"] = None
        if not isinstance(node, Comparison) or node.positive not in _COMPARED:
            continue
        if node.left.parts and node.left.tokens[-1].text not in {*own, ")"}:
            continue
        for text in _compared(node.right, lets):
            if _is_doubtful(text, node.positive, kept):
                shown = text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
                doubts[f"{node.operator} {shown!r}, which pseudonyms may stand for"] = None
    return list(doubts)


def _compared(node: Node, lets: dict[str, Literal]) -> Iterator[str]:
    """The texts that stand right of an operator, by themselves, in a list or by a name."""
    if isinstance(node, Group):
        for item in node.items:
            yield from _compared(item, lets)
    literal = lets.get(node.name) if isinstance(node, Name) else node
    if isinstance(literal, Literal) and literal.type == "string":
        yield literal.text
    elif isinstance(literal, Literal) and literal.type == "dynamic":
        value = decode(literal.tokens[0].text)[1]
        values = value if isinstance(value, list) else [value]
        yield from (one for one in values if isinstance(one, str))


def _is_doubtful(text: str, operator: str, kept: Collection[str]) -> bool:
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
