"""Comparisons that pseudonyms may decide otherwise than the names they stand for.

Whole words of the vocabulary and of the recorded hunts' own literals stay readable. What
looks for another word, or inside of words, may find nothing where there was something.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qakhunt.kql.literal import decode, literal_type
from qakhunt.kql.schema import columns, tables
from qakhunt.kql.tokens import tokenize
from qakhunt.recordings.vocabulary import WORD, vocabulary

if TYPE_CHECKING:
    import re
    from collections.abc import Collection, Iterator, Sequence

    from qakhunt.kql.tokens import Token

_WHOLE = frozenset(["==", "=~", "!=", "!~", "in", "in~", "!in", "!in~"])
_TERMS = frozenset(
    f"{mark}{name}{case}"
    for mark in ("", "!")
    for name in ("has", "has_any", "has_all")
    for case in ("", "_cs")
)
_INSIDE = frozenset(
    f"{mark}{name}{case}"
    for mark in ("", "!")
    for name in ("contains", "startswith", "endswith", "hasprefix", "hassuffix")
    for case in ("", "_cs")
)
_MEASURES = frozenset(["strlen", "substring", "indexof", "countof", "reverse"])
_LONGEST = 60


def pseudonym_doubts(query: str, product: str, kept: Collection[str]) -> list[str]:
    """What the query compares with names. ``kept`` are words of the recorded literals."""
    tokens = tokenize(query)
    own = {name for t in tokens if t.text in tables(product) for name in columns(product, t.text)}
    lets = {
        tokens[at - 2].text: token
        for at, token in enumerate(tokens)
        if at > 2 and tokens[at - 3].text == "let" and literal_type(token)
    }
    doubts: dict[str, None] = {}
    for at, token in enumerate(tokens):
        if token.text in _MEASURES and at + 2 < len(tokens) and tokens[at + 2].text in own:
            doubts[f"{token.text} of {tokens[at + 2].text}, whose words are pseudonyms"] = None
        left = tokens[at - 1].text if at else ""
        if left not in own and left != ")":
            continue
        operator = "regex" if token.text == "matches" else token.text
        if operator not in _WHOLE | _TERMS | _INSIDE | {"regex"}:
            continue
        for text in _compared(tokens, at + 1, lets):
            if _is_doubtful(text, operator, kept):
                shown = text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
                doubts[f"{token.text} {shown!r}, which pseudonyms may stand for"] = None
    return list(doubts)


def _compared(tokens: Sequence[Token], at: int, lets: dict[str, Token]) -> Iterator[str]:
    """The texts that stand right of an operator, by themselves, in a list or by a name."""
    while at < len(tokens):
        token = lets.get(tokens[at].text, tokens[at])
        if literal_type(token) in ("string", "dynamic"):
            value = decode(token.text)[1]
            yield from (v for v in (value if isinstance(value, list) else [value])
                        if isinstance(v, str))  # fmt: skip
        elif token.text not in ("(", ",", "regex"):
            return
        if tokens[at + 1 : at + 2] and tokens[at + 1].text not in (",", "(") and token.text not in (
            "(", ",", "regex",
        ):  # fmt: skip
            return
        at += 1


def _is_doubtful(text: str, operator: str, kept: Collection[str]) -> bool:
    words = [match[0].replace("^", "").casefold() for match in WORD.finditer(text)]
    readable = vocabulary()
    if operator in _INSIDE:
        # One word may be part of a longer one, which became another; several hold together.
        known = all(word in readable or word in kept for word in words)
        return bool(words) and not (known and len(words) > 1)
    if operator == "regex":
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
