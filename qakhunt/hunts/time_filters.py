"""How far a query's own filters on time reach, where that can be read.

Nothing is refused for what cannot be read: the window is the service's time span.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qakhunt.hunts.time_expression import NotEvaluable, evaluate
from qakhunt.kql.pipeline import closing, split
from qakhunt.kql.tokens import Kind
from qakhunt.kql.values import Instant, Timespan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qakhunt.kql.tokens import Token

TIME_COLUMNS = ("TimeGenerated", "Timestamp")

_COMPARISONS = frozenset([">", ">=", "<", "<="])
_BEFORE_BRACKET = frozenset(["and", "where", "filter"])
_OPERAND_ENDS = _COMPARISONS | frozenset(
    ["and", "or", "|", ",", ";", "=", "==", "!=", "..", "where", "filter", "by", "(", ")", "{", "}"]
)


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
    for at, token in enumerate(tokens):
        if token.text in _COMPARISONS:
            reader.comparison(at)
        elif token.text == "between" and at and is_time(tokens[at - 1]):
            reader.between(at)
    reader.other_starts()
    return Reach(tuple(reader.starts), tuple(reader.kept), tuple(reader.ends), tuple(reader.unread))


def has_time_filter(tokens: Sequence[Token]) -> bool:
    """Whether the query compares a time column with anything."""
    beside = ["", *(token.text for token in tokens), ""]
    return any(
        is_time(token) and not {*_COMPARISONS, "between"}.isdisjoint((beside[at], beside[at + 2]))
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
        self.starts: list[Instant] = []
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
        for token, colon in zip(self.tokens, self.tokens[1:], strict=False):
            if colon.text == ":":
                names.pop(token.text, None)
        return names

    def comparison(self, at: int) -> None:
        """Read one comparison: its later side bounds, where the other is a record's time."""
        left, right = _operand(self.tokens, at, -1), _operand(self.tokens, at, 1)
        if self.tokens[at].text in ("<", "<="):
            left, right = right, left
        self._bound(at, column=left, value=right)
        self._bound(at, column=right, value=left, is_end=True)
        self._read.update(token.start for token in left)

    def between(self, at: int) -> None:
        """Both ends; a length of time as the second counts from the first."""
        ends = list(split(self.tokens[at + 2 : closing(self.tokens, at + 1)], ".."))
        column = [self.tokens[at - 1]]
        if len(ends) == 2:
            self._bound(at, column=column, value=ends[0])
            length = self._evaluated(ends[1], self.names)
            start = self._evaluated(ends[0], self.names)
            if not isinstance(length, Timespan) or not isinstance(start, Instant):
                self._bound(at, column=column, value=ends[1], is_end=True)
            elif _is_kept(self.tokens, at):
                self.ends.append(start + length)

    def _bound(
        self, at: int, *, column: Sequence[Token], value: Sequence[Token], is_end: bool = False
    ) -> None:
        if len(column) != 1 or not is_time(column[0]) or not value:
            return
        self._read.update(token.start for token in value)
        instant = self._evaluated(value, self.names)
        if isinstance(instant, Instant):
            if not is_end:
                self.starts.append(instant)
            if _is_kept(self.tokens, at):
                (self.ends if is_end else self.kept).append(instant)
        elif not is_end:
            self.unread.append(value[0])

    def other_starts(self) -> None:
        """Each ``ago()``, and each time by its name, that bounds nothing from above."""
        for at, token in enumerate(self.tokens):
            if token.kind is not Kind.IDENTIFIER or token.start in self._read:
                continue
            is_call = token.text == "ago" and self.tokens[at + 1 : at + 2]
            value: Any = self.names.get(token.text)
            if is_call:
                call = self.tokens[at : closing(self.tokens, at + 1) + 1]
                value = self._evaluated(call, self.names)
                if value is None:
                    self.unread.append(token)
            if isinstance(value, Instant) and self._precedes(at) != "..":
                self.starts.append(value)

    def _precedes(self, at: int) -> str:
        return self.tokens[at - 1].text if at else ""

    def _evaluated(self, tokens: Sequence[Token], names: Mapping[str, Any]) -> Any:
        try:
            return evaluate(tokens, self.now, names)
        except NotEvaluable:
            return None


def _is_kept(tokens: Sequence[Token], at: int) -> bool:
    """Whether the comparison at ``at`` must hold for a record to pass: part of a ``where``."""
    for step in (1, -1):
        position, depth, least = at, 0, 0
        while 0 <= position + step < len(tokens):
            position += step
            text = tokens[position].text
            depth += step * ((text in ("(", "[", "{")) - (text in (")", "]", "}")))
            if depth < least and step < 0:
                word = tokens[position - 1] if position else None
                if word and word.kind is Kind.IDENTIFIER and word.text not in _BEFORE_BRACKET:
                    return False  # inside a call, such as not() or countif()
            least = min(least, depth)
            if depth == least and text == "or":
                return False
            if depth == least and text in ("|", ";"):
                break
        if step < 0:
            after = tokens[position + 1 : position + 2]
            return tokens[position].text == "|" and after[0].text in ("where", "filter")
    return False


def _operand(tokens: Sequence[Token], at: int, step: int) -> Sequence[Token]:
    """What stands on one side of the comparison at ``at``, brackets whole."""
    end, depth = at + step, 0
    opening, closing_ = (("(", "["), (")", "]"))[::step]
    while 0 <= end < len(tokens):
        text = tokens[end].text
        depth += (text in opening) - (text in closing_)
        if depth < 0 or (depth == 0 and text in _OPERAND_ENDS and text not in closing_):
            break
        end += step
    return tokens[at + 1 : end] if step > 0 else tokens[end + 1 : at]
