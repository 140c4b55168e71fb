"""The table of lint rules, a hunt under lint, its findings, and comments that accept them.

``qakhunt-allow QH201: why`` in the query (``//``) holds for its own line and the next; in
the YAML around it (``#``) for the whole file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from enum import Enum
from importlib.resources import files
from typing import TYPE_CHECKING

import msgspec

from qakhunt.core.errors import SourceLocation
from qakhunt.hunts.parameters import place_of
from qakhunt.kql.parser import parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from qakhunt.answers.table import Column
    from qakhunt.core.documents import Document
    from qakhunt.hunts.model import Hunt
    from qakhunt.hunts.render import RenderedQuery
    from qakhunt.kql.edits import Edit
    from qakhunt.kql.syntax import Script
    from qakhunt.kql.values import Instant


class Severity(str, Enum):
    """What a finding means to the author of the hunt."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"

    @property
    def meaning(self) -> str:
        """One sentence for the author."""
        return _MEANINGS[self]


_MEANINGS = {
    Severity.ERROR: "the hunt does not run, or part of it can never do what it says",
    Severity.WARNING: "the hunt runs, but misses or counts what its author hardly wants",
    Severity.NOTE: "the hunt does what it says, but a reader or another program will stumble",
}


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One rule; ``fixable`` says that its fix is exact, so that ``--fix`` makes it."""

    code: str
    name: str
    severity: Severity
    meaning: str
    fixable: bool = False


_DATA = files("qakhunt").joinpath("data/lint_rules.yaml")
RULES = {rule.code: rule for rule in msgspec.yaml.decode(_DATA.read_bytes(), type=list[Rule])}
"""Code -> rule."""


@dataclass(frozen=True)
class Finding:
    """One thing about a hunt; ``hint`` says what to do about it.

    ``end`` is the place behind what is meant, where that is known. ``fix`` are exact
    edits of the query. ``accepted`` is a suppression's reason, None where there is none.
    """

    rule: Rule
    message: str
    location: SourceLocation
    hint: str = ""
    end: SourceLocation | None = None
    fix: tuple[Edit, ...] = ()
    accepted: str | None = None


@dataclass
class Subject:
    """A hunt with all that the rules look at.

    ``rendered`` maps each product that can run the hunt to its text; ``result`` maps a
    product to the typed columns of its result, where somebody could tell them;
    ``unchecked`` says what could not be checked.
    """

    hunt: Hunt
    now: Instant
    document: Document | None
    rendered: Mapping[str, RenderedQuery]
    result: dict[str, Sequence[Column]] = field(default_factory=dict)
    unchecked: list[str] = field(default_factory=list)

    @property
    def script(self) -> Script:
        """The query's syntax tree."""
        return parse(self.hunt.query)

    def at(
        self,
        code: str,
        start: int,
        end: int,
        message: str,
        hint: str = "",
        fix: Sequence[Edit] = (),
    ) -> Finding:
        """A finding about ``[start, end)`` of the query."""
        return Finding(
            RULES[code],
            message,
            place_of(self.hunt, start),
            hint,
            place_of(self.hunt, end),
            tuple(fix),
        )

    def about(self, code: str, key: tuple[str | int, ...], message: str, hint: str = "") -> Finding:
        """A finding about a key of the hunt's file."""
        location = SourceLocation(self.hunt.path, 1)
        if self.document is not None:
            location = self.document.locate(key)
        return Finding(RULES[code], message, location, hint)


_COMMENT = re.compile(
    r"(?P<mark>//|#)\s*qakhunt-allow\b\s*(?P<codes>[A-Za-z0-9 ,]*)(?::\s*(?P<reason>.*\S))?\s*$"
)


@dataclass(frozen=True)
class Suppression:
    """One comment: codes, reason and place; ``whole_file`` says how far it reaches."""

    codes: tuple[str, ...]
    reason: str
    location: SourceLocation
    whole_file: bool

    def covers(self, finding: Finding) -> bool:
        """Whether it accepts the finding."""
        if finding.rule.code not in self.codes or finding.rule.code.startswith("QH9"):
            return False
        return self.whole_file or finding.location.line in (
            self.location.line,
            self.location.line + 1,
        )


def read_suppressions(text: str, path: str) -> list[Suppression]:
    """All such comments of a file."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        match = _COMMENT.search(line)
        if match is None or _is_quoted(line[: match.start()]):
            continue
        codes = tuple(code for code in re.split(r"[ ,]+", match["codes"].strip()) if code)
        location = SourceLocation(path, number, match.start() + 1)
        found.append(Suppression(codes, match["reason"] or "", location, match["mark"] == "#"))
    return found


def _is_quoted(before: str) -> bool:
    """Whether what follows stands in a literal that began on the same line."""
    quote = ""
    escaped = False
    for char in before:
        if quote:
            quote = "" if char == quote and not escaped else quote
            escaped = char == "\\" and not escaped
        elif char in "\"'`":
            quote, escaped = char, False
    return bool(quote)


def suppress(findings: Iterable[Finding], suppressions: list[Suppression]) -> list[Finding]:
    """The findings, accepted ones marked, with findings about the suppressions themselves."""
    used: set[Suppression] = set()
    result = []
    for finding in findings:
        cover = next((s for s in suppressions if s.reason and s.covers(finding)), None)
        used.update(s for s in suppressions if s.covers(finding))
        result.append(replace(finding, accepted=cover.reason) if cover else finding)
    for suppression in suppressions:
        if not suppression.reason:
            result.append(
                Finding(
                    RULES["QH901"], "a suppression without a reason", suppression.location,
                    "write 'qakhunt-allow CODE: why'",
                )
            )  # fmt: skip
        elif suppression not in used:
            codes = ", ".join(suppression.codes) or "no code"
            message = f"nothing here is {codes}"
            result.append(Finding(RULES["QH902"], message, suppression.location, "take it out"))
    return result
