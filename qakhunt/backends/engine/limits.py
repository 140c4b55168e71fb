"""How large a query may be, in one place, and the refusal of what is larger.

Within these limits a query is read, translated and bound in seconds and in less than
a gigabyte, whatever it holds. What DuckDB itself holds is bounded by ``limit_memory``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from qakhunt.backends.engine.dialect import Unreadable
from qakhunt.core.errors import UsageError
from qakhunt.kql.tokens import KqlLexError, tokenize

if TYPE_CHECKING:
    from qakhunt.kql.tokens import Token

MAX_CHARACTERS = 200_000
"""Of a query's text."""
MAX_TOKENS = 30_000
"""Words, literals and signs; a ``dynamic([...])`` is one."""
MAX_OPERATORS = 300
"""Steps of all pipelines: ``|``."""
MAX_TERMS = 400
"""``and``, ``or`` and arithmetic signs in one step."""
MAX_DEPTH = 50
"""Brackets in brackets, of the query and of a ``dynamic`` literal each."""
MAX_RANGE = 10_000_000
"""Values of a ``range`` of numbers."""
MAX_SQL = 1_000_000
"""Characters of the SQL that a query becomes."""

MAX_TRANSLATION = 60.0
"""Seconds: some small queries grow without end, such as ``let`` on ``let`` that double."""
DEFAULT_MEMORY = "25%"
"""Of what the machine, or the container, has."""

TOO_LARGE = "the query is too large for the embedded engine"
"""How every refusal of a size begins."""

_SIZE = re.compile(r"\d+(\.\d+)? ?([KMGT]i?B|%)", re.IGNORECASE)
_memory = DEFAULT_MEMORY

_BINARY = frozenset({"and", "or", "+", "-", "*", "/", "%"})
_OPEN, _CLOSE = frozenset("([{"), frozenset(")]}")


def limit_memory(size: str | None) -> None:
    """Let the engine hold this much at most in this process: ``2GB``, ``500MiB``, ``25%``."""
    global _memory
    if size is not None and not _SIZE.fullmatch(size.strip()):
        raise UsageError(f"--memory-limit: no size: {size!r}", hint="such as 2GB or 25%")
    _memory = size.strip() if size else DEFAULT_MEMORY


def memory_limit() -> str:
    """What ``limit_memory`` was given last, else the default."""
    return _memory


def refuse_oversized(text: str) -> None:
    """Raise Unreadable, with the limit and the place, for a query beyond a limit."""
    if len(text) > MAX_CHARACTERS:
        raise _too_large(f"{len(text):,} characters, more than {MAX_CHARACTERS:,}", None)
    try:
        tokens = tokenize(text)
    except KqlLexError:
        return  # its own refusal follows
    if len(tokens) > MAX_TOKENS:
        raise _too_large(f"{len(tokens):,} words and signs, more than {MAX_TOKENS:,}", None)
    _refuse_shape(tokens)


def _refuse_shape(tokens: list[Token]) -> None:
    operators = terms = depth = 0
    for token in tokens:
        word = token.text
        if word == "|" or word == ";":
            operators, terms = operators + (word == "|"), 0
        elif word in _BINARY:
            terms += 1
        elif word in _OPEN:
            depth += 1
        elif word in _CLOSE:
            depth -= 1
        inner = _depth_inside(word) if word.startswith("dynamic") else 0
        for many, limit, what in (
            (operators, MAX_OPERATORS, "operators"),
            (terms, MAX_TERMS, "terms in one expression"),
            (max(depth, inner), MAX_DEPTH, "brackets inside each other"),
        ):
            if many > limit:
                raise _too_large(f"more than {limit:,} {what}", token.start)


def _depth_inside(literal: str) -> int:
    depth = deepest = 0
    for sign in literal:
        depth += (sign in _OPEN) - (sign in _CLOSE)
        deepest = max(deepest, depth)
    return deepest


def _too_large(what: str, offset: int | None) -> Unreadable:
    return Unreadable(
        f"{TOO_LARGE}, it has {what}",
        offset,
        hint="name values in a list, in (dynamic([...])), or hunt in several queries",
    )


def refuse_long_sql(sql: str) -> None:
    """Raise Unreadable for SQL that DuckDB would take too long to bind."""
    if len(sql) > MAX_SQL:
        raise Unreadable(
            f"{TOO_LARGE}, its SQL has more than {MAX_SQL:,} characters",
            None,
            hint="hunt in several queries, or in fewer steps",
        )
