"""Can it fire? Each entry of a command list against known commands as recorded.

The hunt's own operator decides, on the embedded engine. An entry is dead when it is
plainly meant for a known command and no rendering of any known command matches it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from qakhunt.hunts.command_catalogue import families, known_commands, renderings_of, understand
from qakhunt.kql.literal import encode
from qakhunt.kql.schema import SENTINEL, columns
from qakhunt.kql.values import Instant, Window
from qakhunt.testing.lint.matching import StringTest, Text, string_tests

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qakhunt.backends.engine.session import Session
    from qakhunt.testing.lint.model import Finding, Subject

_TABLE = "DeviceProcessEvents"
_COLUMNS = ("ProcessCommandLine",)
_LEAST_TELLING = 4
"""Letters from which on a part of a command says which one is meant."""
_MOMENT = Instant.parse("2024-01-01T00:00:00Z")
_WINDOW = Window(Instant.parse("2023-01-01T00:00:00Z"), Instant.parse("2025-01-01T00:00:00Z"))


class Life(str, Enum):
    """What could be proven of an entry."""

    ALIVE = "alive"
    DEAD = "dead"
    UNPROVEN = "unproven"  # it speaks of no known command


@dataclass(frozen=True)
class EntryLife:
    """One entry: the renderings under which some known command matches it.

    ``meant`` is the known command that a dead entry seems to be written for.
    """

    text: Text
    matched: frozenset[str]
    life: Life
    meant: str | None = None


@dataclass(frozen=True)
class Matrix:
    """Entries by renderings, under one comparison of a hunt."""

    test: StringTest
    renderings: tuple[str, ...]
    entries: tuple[EntryLife, ...]


def matrices(subject: Subject, session: Session) -> list[Matrix]:
    """One matrix per comparison of the recorded command line with a list of texts."""
    found = []
    for test in string_tests(subject.hunt.query):
        is_list = len(test.texts) > 1 and not test.operator.startswith("!")
        if is_list and test.column in _COLUMNS and test.column in columns(SENTINEL.name, _TABLE):
            found.append(_matrix(subject.hunt.query, test, session))
    return found


def _matrix(query: str, test: StringTest, session: Session) -> Matrix:
    known = [(command, None) for command in [*known_commands(), *_programs()]]
    own = [(text.value, n) for n, text in enumerate(test.texts) if _is_command(text.value)]
    recorded = [
        (rendering, line, number)
        for command, number in [*known, *own]
        for rendering, lines in renderings_of(command).items()
        for line in lines
    ]
    session.put(
        _TABLE,
        [
            {"TimeGenerated": _MOMENT, "ReportId": number, "ProcessCommandLine": line}
            for number, (_, line, _) in enumerate(recorded)
        ],
    )
    left = query[test.start : test.operator_span[0]].strip()
    flags = [
        f"m{number} = {left} {test.operator} {_operand(test, text)}"
        for number, text in enumerate(test.texts)
    ]
    answer = session.ask(
        f"{_TABLE}\n| project ReportId, {', '.join(flags)}", now=_MOMENT, window=_WINDOW
    )
    session.put(_TABLE, [])
    hits: list[set[str]] = [set() for _ in test.texts]
    possible: set[int] = set()
    for row in answer.rows:
        rendering, _, whose = recorded[row[0]]
        for number, flag in enumerate(row[1:]):
            if flag and whose is None:
                hits[number].add(rendering)
            elif flag and whose == number:
                possible.add(number)
    entries = tuple(
        _life(text, frozenset(hits[number]), possible=number in possible)
        for number, text in enumerate(test.texts)
    )
    return Matrix(test, tuple(families().renderings), entries)


def _programs() -> list[str]:
    """Programs of the families that public reports show in no command, by their name alone."""
    shown = {command.split()[0].lower().removesuffix(".exe") for command in known_commands()}
    named = [file for family in families().families.values() for file in family.files]
    return [name for name in dict.fromkeys(named) if name not in shown]


def _operand(test: StringTest, text: Text) -> str:
    literal = encode(text.value, "string")
    return f"({literal})" if test.positive in ("in", "in~", "has_any", "has_all") else literal


def _is_command(entry: str) -> bool:
    """Whether the entry begins with a program that known commands run."""
    first = (
        entry.split(maxsplit=1)[0].strip('"').lower().removesuffix(".exe") if entry.split() else ""
    )
    shown = {command.split()[0].lower().removesuffix(".exe") for command in known_commands()}
    return first in shown.union(_programs())


def _life(text: Text, matched: frozenset[str], *, possible: bool) -> EntryLife:
    """``possible`` says that it matches a command of its own, which no report shows."""
    if matched:
        return EntryLife(text, matched, Life.ALIVE)
    meant = None if possible else _meant(text.value)
    return EntryLife(text, matched, Life.DEAD if meant else Life.UNPROVEN, meant)


def _meant(entry: str) -> str | None:
    """The known command that an entry is plainly written for."""
    compact = _compact(entry)
    if len(compact) < _LEAST_TELLING:
        return None
    for command in known_commands():
        if compact in _compact(command):
            return command
    family = understand(entry).family
    return families().families[family].issued[0] if family else None


def _compact(text: str) -> str:
    return "".join(text.lower().replace('"', "").split())


def check(subject: Subject, found: list[Matrix]) -> Iterator[Finding]:
    """QH203 for every dead entry."""
    for matrix in found:
        for entry in matrix.entries:
            if entry.life is Life.DEAD:
                yield subject.at(
                    "QH203", entry.text.start, entry.text.end,
                    f"the entry {entry.text.value!r} can never match: under "
                    f"{matrix.test.operator} no recorded form of a known command fits it",
                    f"it seems to be meant for {entry.meant!r}, which is recorded whole",
                )  # fmt: skip
