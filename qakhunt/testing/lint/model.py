"""A hunt under lint, and a finding about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from qakhunt.core.errors import SourceLocation
from qakhunt.hunts.parameters import place_of
from qakhunt.kql.parser import parse
from qakhunt.testing.lint.rules import RULES, Rule

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qakhunt.answers.table import Column
    from qakhunt.core.documents import Document
    from qakhunt.hunts.model import Hunt
    from qakhunt.hunts.render import RenderedQuery
    from qakhunt.kql.edits import Edit
    from qakhunt.kql.syntax import Script
    from qakhunt.kql.values import Instant


@dataclass(frozen=True)
class Finding:
    """One thing about a hunt; ``mend`` says what to do about it.

    ``end`` is the place behind what is meant, where that is known. ``fix`` are exact
    edits of the query. ``accepted`` is a suppression's reason, None where there is none.
    """

    rule: Rule
    message: str
    location: SourceLocation
    mend: str = ""
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
        mend: str = "",
        fix: Sequence[Edit] = (),
    ) -> Finding:
        """A finding about ``[start, end)`` of the query."""
        return Finding(
            RULES[code],
            message,
            place_of(self.hunt, start),
            mend,
            place_of(self.hunt, end),
            tuple(fix),
        )

    def about(self, code: str, key: tuple[str | int, ...], message: str, mend: str = "") -> Finding:
        """A finding about a key of the hunt's file."""
        location = SourceLocation(self.hunt.path, 1)
        if self.document is not None:
            location = self.document.locate(key)
        return Finding(RULES[code], message, location, mend)
