"""TOML texts as documents: the values, and the line and column of each key.

The standard parser tells no places; a scan of the lines finds the keys again.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

from qakhunt.core.documents import Document, Path_
from qakhunt.core.errors import SourceLocation

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found, unused-ignore]

if TYPE_CHECKING:
    from qakhunt.core.documents import ErrorType

_PART = r"""(?:"(?:[^"\\]|\\.)*"|'[^']*'|[A-Za-z0-9_-]+)"""
_NAME = rf"{_PART}(?:\s*\.\s*{_PART})*"
_TABLE = re.compile(rf"\s*(\[\[?)\s*({_NAME})\s*\]\]?")
_KEY = re.compile(rf"\s*({_NAME})\s*=")
_PARTS = re.compile(_PART)
_AT = re.compile(r"\s*\(at (?:line (\d+), column (\d+)|end of document)\)")
_TEXTS = re.compile(
    r'"""|' + r"'''|" + r""""(?:[^"\\\n]|\\.)*"|'[^'\n]*'|#.*|[\[\]{}]""", re.MULTILINE
)


def parse_toml(text: str, path: str, error: ErrorType) -> Document:
    """Parse a TOML document. Raises ``error`` with the line and column."""
    try:
        value = tomllib.loads(text)
    except tomllib.TOMLDecodeError as problem:
        words = str(problem)
        at = _AT.search(words)
        line, column = (int(at[1]), int(at[2])) if at and at[1] else (text.count("\n") + 1, 0)
        said = _AT.sub("", words)
        raise error(
            f"broken TOML: {said[:1].lower()}{said[1:]}",
            location=SourceLocation(path, line, column),
        ) from None
    except RecursionError:
        raise error("the TOML is nested too deeply", location=SourceLocation(path)) from None
    return Document(path, text, value, _places(text, path), frozenset())


def _places(text: str, path: str) -> dict[Path_, SourceLocation]:
    """Path of keys and indexes -> where the key or the table's head stands."""
    places: dict[Path_, SourceLocation] = {}
    table: Path_ = ()
    counts: dict[Path_, int] = {}
    inside = _Nesting()
    for number, line in enumerate(text.splitlines(), 1):
        if not inside.value:
            head, key = _TABLE.match(line), _KEY.match(line)
            if head:
                table = _names(head[2])
                if head[1] == "[[":
                    counts[table] = counts.get(table, -1) + 1
                table = _indexed(table, counts)
                places.setdefault(table, SourceLocation(path, number, head.start(1) + 1))
                continue
            if key:
                here = (*table, *_names(key[1]))
                for length in range(len(table) + 1, len(here) + 1):
                    place = SourceLocation(path, number, key.start(1) + 1)
                    places.setdefault(here[:length], place)
        inside.read(line)
    return places


def _names(dotted: str) -> Path_:
    return tuple(_name(part) for part in _PARTS.findall(dotted))


def _name(part: str) -> str:
    if part[0] == '"':
        return str(tomllib.loads(f"name = {part}")["name"])
    return part.strip("'")


def _indexed(table: Path_, counts: dict[Path_, int]) -> Path_:
    """The path with the index of the current element after each array of tables."""
    result: list[str | int] = []
    for length in range(1, len(table) + 1):
        result.append(table[length - 1])
        if table[:length] in counts:
            result.append(counts[table[:length]])
    return tuple(result)


class _Nesting:
    """Whether the next line begins inside a value: a long text, an array, a table in braces."""

    def __init__(self) -> None:
        self._depth = 0
        self._quote: str | None = None

    @property
    def value(self) -> bool:
        return self._depth > 0 or self._quote is not None

    def read(self, line: str) -> None:
        at = 0
        while at < len(line):
            if self._quote:
                end = line.find(self._quote, at)
                if end < 0:
                    return
                at, self._quote = end + 3, None
                continue
            match = _TEXTS.search(line, at)
            if match is None:
                return
            at = match.end()
            found = match[0]
            if found in ('"""', "'''"):
                self._quote = found
            elif found in "[{":
                self._depth += 1
            elif found in "]}":
                self._depth -= 1
