"""Small changes to a query that its test cases must notice."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from qakhunt.hunts.parameters import place_of, query_tokens, script_of
from qakhunt.kql.edits import Edit, apply
from qakhunt.kql.parser import parse
from qakhunt.kql.syntax import Comparison, Let, Literal, stages
from qakhunt.kql.tokens import Kind, Token, tokenize

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from qakhunt.core.errors import SourceLocation
    from qakhunt.hunts.model import Hunt
    from qakhunt.kql.syntax import Operator, Script

_COMPARISONS = {
    ">": ">=", ">=": ">", "<": "<=", "<=": "<", "==": "!=", "!=": "==", "=~": "==", "!~": "!=",
    "and": "or", "or": "and",
}  # fmt: skip
_TAKE_LISTS = frozenset(["in", "in~", "has_any", "has_all"])
_LONGEST = 60


@dataclass(frozen=True)
class Mutant:
    """One change: the changed hunt, what was changed, and where.

    ``earlier`` and ``later`` are seconds by which the run's window is widened instead.
    """

    description: str
    location: SourceLocation
    hunt: Hunt
    earlier: int = 0
    later: int = 0


def mutants(hunt: Hunt) -> list[Mutant]:
    """All mutants of a hunt, in the order of its text; the window's come last."""
    found: dict[str, Mutant] = {}
    for words, edit in sorted(_edits(hunt), key=lambda pair: (pair[1].start, pair[1].end, pair[0])):
        text = apply(hunt.query, [edit])
        mutant = Mutant(words, place_of(hunt, edit.start), replace(hunt, query=text))
        found.setdefault(text, mutant)
    return [*found.values(), *_window_mutants(hunt)]


def _window_mutants(hunt: Hunt) -> list[Mutant]:
    notes = hunt.notes.window
    if notes is None:
        return []
    lets = {let.name: let for let in script_of(hunt).leading_lets}
    return [
        Mutant(words, place_of(hunt, lets[name].target.start), hunt, earlier, later)
        for name, words, earlier, later in (
            (notes.start, "the window begins a second earlier", 1, 0),
            (notes.end, "the window ends a second later", 0, 1),
        )
        if name in lets
    ]


def _edits(hunt: Hunt) -> Iterator[tuple[str, Edit]]:
    tokens = query_tokens(hunt)
    skipped = _window_spans(hunt)
    for at, token in enumerate(tokens):
        if not any(start <= token.start < end for start, end in skipped):
            yield from _token_edits(hunt.query, tokens, at)
    yield from _list_edits(parse(hunt.query))
    for statement in parse(hunt.query).statements:
        query = statement.value if isinstance(statement, Let) else statement
        for operator in stages(query)[1]:
            yield from _operator_edits(hunt.query, operator)


def _window_spans(hunt: Hunt) -> list[tuple[int, int]]:
    """Spans of the window's lets: rendering replaces them, so no case could see a change."""
    notes = hunt.notes.window
    if notes is None:
        return []
    return [
        (let.value.start, let.value.end)
        for let in script_of(hunt).leading_lets
        if let.name in (notes.start, notes.end)
    ]


def _token_edits(query: str, tokens: Sequence[Token], at: int) -> Iterator[tuple[str, Edit]]:
    token = tokens[at]
    around = _around(query, tokens, at)

    def change(new: str, end: int | None = None) -> tuple[str, Edit]:
        last = end or token.end
        return f"{query[token.start : last]} -> {new} in {around}", Edit(token.start, last, new)

    if token.text in _COMPARISONS and not _is_assignment(tokens, at):
        yield change(_COMPARISONS[token.text])
        after = tokens[at + 1] if at + 1 < len(tokens) else None
        has_case = after is not None and any(char.isalpha() for char in after.text[1:])
        if token.text in ("==", "!=") and has_case and after and after.kind is Kind.STRING:
            yield change({"==": "=~", "!=": "!~"}[token.text])
    elif token.text == "in" and token.kind is Kind.IDENTIFIER:
        folded = at + 1 < len(tokens) and tokens[at + 1].text == "~"
        yield change("in", tokens[at + 1].end) if folded else change("in~")
    elif token.kind is Kind.NUMBER and token.text.isdigit() and _is_limit(tokens, at):
        yield change(str(int(token.text) + 1))
        yield change(str(int(token.text) - 1))
    elif token.kind is Kind.TIMESPAN:
        digits = "".join(char for char in token.text if char.isdigit())
        if token.text.startswith(digits):
            yield change(f"{int(digits) + 1}{token.text[len(digits) :]}")
    elif token.kind is Kind.STRING and "(?i)" in token.text:
        new = token.text.replace("(?i)", "", 1)
        words = f"(?i) dropped in {_short(token.text)}"
        yield words, Edit(token.start, token.end, new)


def _is_limit(tokens: Sequence[Token], at: int) -> bool:
    """Whether a number is compared, counted to or a let's value, not an argument of a call."""
    before = tokens[at - 1].text if at else ""
    after = tokens[at + 1].text if at + 1 < len(tokens) else ""
    compared = {before, after} & {*_COMPARISONS, ".."} - {"and", "or"}
    is_let = before == "=" and after == ";" and at > 2 and tokens[at - 3].text == "let"
    return bool(compared) or is_let or before in ("take", "top", "limit")


def _is_assignment(tokens: Sequence[Token], at: int) -> bool:
    """``>`` after ``=`` and the like belong to other constructs."""
    return at > 0 and tokens[at - 1].text == "=" and tokens[at - 1].end == tokens[at].start


def _around(query: str, tokens: Sequence[Token], at: int) -> str:
    first, last = max(0, at - 2), min(len(tokens) - 1, at + 2)
    while first < at and tokens[first].text in ("|", ";", ","):
        first += 1
    while last > at and tokens[last].text in ("|", ";", ","):
        last -= 1
    return _short(query[tokens[first].start : tokens[last].end])


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 3] + "..."


def _list_edits(script: Script) -> Iterator[tuple[str, Edit]]:
    for node in script.walk():
        if isinstance(node, Literal) and node.type == "dynamic":
            text = node.tokens[0].text
            offset = text.index("(") + 1
            yield from _entries(tokenize(text[offset:-1]), node.start + offset)
        elif isinstance(node, Comparison) and node.positive in _TAKE_LISTS:
            yield from _entries(node.right.tokens, 0)


def _entries(tokens: Sequence[Token], base: int) -> Iterator[tuple[str, Edit]]:
    """One edit per literal of a list, with the comma that parts it from its neighbour."""
    inside = [token for token in tokens if token.text not in ("[", "]", "(", ")", ",")]
    if len(inside) < 2 or any(t.kind not in (Kind.STRING, Kind.NUMBER) for t in inside):
        return
    for at, token in enumerate(inside):
        start = inside[at - 1].end if at else token.start
        end = token.end if at else inside[at + 1].start
        yield f"entry {_short(token.text)} dropped", Edit(base + start, base + end, "")


def _operator_edits(query: str, operator: Operator) -> Iterator[tuple[str, Edit]]:
    if operator.name == "where":
        words = f"filter dropped: {_short(query[operator.start : operator.end])}"
        yield words, Edit(operator.start, operator.end, "")
    by = operator.clause("by") or () if operator.name == "summarize" else ()
    for at, item in enumerate(by if len(by) > 1 else ()):
        start = by[at - 1].end if at else item.start
        end = item.end if at else by[at + 1].start
        words = f"grouping by {_short(query[item.start : item.end])} dropped"
        yield words, Edit(start, end, "")
