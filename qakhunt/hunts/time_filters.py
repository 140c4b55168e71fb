"""How far a query's own filters on time reach, where that can be read.

Nothing is refused for what cannot be read: the window is the service's time span.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from qakhunt.hunts.time_expression import NotEvaluable, evaluate
from qakhunt.kql.pipeline import bracketed, closing, split
from qakhunt.kql.tokens import Kind
from qakhunt.kql.values import Instant, Timespan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qakhunt.kql.tokens import Token

TIME_COLUMNS = ("TimeGenerated", "Timestamp")

_MIRRORED = {">": "<", ">=": "<=", "<": ">", "<=": ">="}


@dataclass(frozen=True)
class Reach:
    """The bounds on time that could be read; ``unread`` are those that could not.

    ``starts`` hold each ``ago()`` and each time that a record's is later than. ``kept``
    are those without which a record is left out, ``ends`` those before which it must be.
    """

    starts: tuple[Instant, ...] = ()
    kept: tuple[Instant, ...] = ()
    ends: tuple[Instant, ...] = ()
    unread: tuple[Token, ...] = ()

    @property
    def start(self) -> Instant | None:
        """The furthest start."""
        return min(self.starts, default=None)


def time_filters(tokens: Sequence[Token], now: Instant, parameters: Mapping[str, Any]) -> Reach:
    """The bounds that the query names. ``parameters`` are its literal lets' values."""
    reader = _Reader(tokens, now, parameters)
    for at, (bar, word) in enumerate(pairwise(tokens)):
        if bar.text == "|" and word.text in ("where", "filter"):
            reader.where(tokens[at + 2 : _operator_end(tokens, at + 2)])
    others = reader.other_starts()
    return Reach(
        (*reader.kept, *others), tuple(reader.kept), tuple(reader.ends), tuple(reader.unread)
    )


def has_time_filter(tokens: Sequence[Token]) -> bool:
    """Whether the query compares a time column with anything."""
    beside = ["", *(token.text for token in tokens), ""]
    return any(
        is_time(token) and not {*_MIRRORED, "between"}.isdisjoint((beside[at], beside[at + 2]))
        for at, token in enumerate(tokens)
    )


def is_time(token: Token) -> bool:
    """Whether it names the time of a record."""
    return token.kind is Kind.IDENTIFIER and token.text in TIME_COLUMNS


class _Reader:
    def __init__(
        self, tokens: Sequence[Token], now: Instant, parameters: Mapping[str, Any]
    ) -> None:
        self.tokens, self.now = tokens, now
        self.kept: list[Instant] = []
        self.ends: list[Instant] = []
        self.unread: list[Token] = []
        self._read: set[int] = set()  # offsets of tokens that need no second look
        self.names = self._scalars(parameters)

    def _scalars(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Values of lets by name; a name that a function gives another meaning has none."""
        names = dict(parameters)
        for part in split(self.tokens, ";"):
            if len(part) > 3 and part[0].text == "let" and part[2].text == "=":
                value = self._evaluated(part[3:], names)
                if value is not None:
                    names.setdefault(part[1].text, value)
                    self._read.update(token.start for token in part)
        for token, colon in pairwise(self.tokens):
            if colon.text == ":":
                names.pop(token.text, None)
        return names

    def where(self, condition: Sequence[Token]) -> None:
        """Read what a record must fulfil to pass; one of several conditions keeps none out."""
        if len(list(split(condition, "or"))) > 1:
            return
        for part in split(condition, "and"):
            if bracketed(part):
                self.where(part[1:-1])
            elif len(part) > 2 and is_time(part[0]):
                self._comparison(part[1].text, part[2:])
            elif len(part) > 2 and is_time(part[-1]):
                self._comparison(_MIRRORED.get(part[-2].text, ""), part[:-2])

    def _comparison(self, operator: str, value: Sequence[Token]) -> None:
        if operator == "between":
            first, *last = split(value[1:-1], "..")
            start = self._bound(self.kept, first)
            length = self._evaluated(last[0], self.names) if last else None
            if start is not None and isinstance(length, Timespan):
                self.ends.append(start + length)  # counts from the first
            elif last:
                self._bound(self.ends, last[0])
        elif operator in _MIRRORED:
            self._bound(self.kept if operator in (">", ">=") else self.ends, value)

    def _bound(self, bounds: list[Instant], value: Sequence[Token]) -> Instant | None:
        self._read.update(token.start for token in value)
        instant = self._evaluated(value, self.names)
        if isinstance(instant, Instant):
            bounds.append(instant)
            return instant
        if bounds is self.kept and value:
            self.unread.append(value[0])
        return None

    def other_starts(self) -> list[Instant]:
        """Each ``ago()``, and each time by its name, that bounds nothing from above."""
        found = []
        for at, token in enumerate(self.tokens):
            if token.kind is not Kind.IDENTIFIER or token.start in self._read:
                continue
            end, value = at, self.names.get(token.text)
            if token.text == "ago":
                end = closing(self.tokens, at + 1)
                value = self._evaluated(self.tokens[at : end + 1], self.names)
                if value is None:
                    self.unread.append(token)
            if isinstance(value, Instant) and not _is_end(self.tokens, at, end):
                found.append(value)
        return found

    def _evaluated(self, tokens: Sequence[Token], names: Mapping[str, Any]) -> Any:
        try:
            return evaluate(tokens, self.now, names)
        except NotEvaluable:
            return None


def _is_end(tokens: Sequence[Token], at: int, end: int) -> bool:
    """Whether the value from ``at`` to ``end``, or a call around it, is what comes later."""
    while True:
        before = tokens[at - 1].text if at else ""
        after = tokens[end + 1].text if end + 1 < len(tokens) else ""
        if before in ("<", "<=", "..") or after in (">", ">="):
            return True
        if before != "(" or at < 2 or tokens[at - 2].kind is not Kind.IDENTIFIER:
            return False
        end, at = closing(tokens, at - 1), at - 2


def _operator_end(tokens: Sequence[Token], at: int) -> int:
    """Where the operator that begins at ``at`` ends: the next pipe, or the pipeline's end."""
    depth = 0
    for position in range(at, len(tokens)):
        text = tokens[position].text
        if depth == 0 and text in ("|", ";", ")", "}"):
            return position
        depth += (text in ("(", "[", "{")) - (text in (")", "]", "}"))
    return len(tokens)
