"""Comments that accept a finding: ``qakhunt-allow QH201: why``.

In the query (``//``) one holds for its own line and the next; in the YAML around it
(``#``) for the whole file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from qakhunt.core.errors import SourceLocation
from qakhunt.testing.lint.model import Finding
from qakhunt.testing.lint.rules import RULES

if TYPE_CHECKING:
    from collections.abc import Iterable

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


def apply(findings: Iterable[Finding], suppressions: list[Suppression]) -> list[Finding]:
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
