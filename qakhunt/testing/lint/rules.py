"""The one table of lint rules: code, name, severity and what a finding means."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


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


@dataclass(frozen=True)
class Rule:
    """One rule; ``fixable`` says that its mend is exact, so that ``--fix`` makes it."""

    code: str
    name: str
    severity: Severity
    meaning: str
    fixable: bool = False


_E, _W, _N = Severity.ERROR, Severity.WARNING, Severity.NOTE

RULES: dict[str, Rule] = {
    rule.code: rule
    for rule in (
        Rule("QH100", "unreadable-file", _E, "The hunt's file cannot be loaded."),
        Rule("QH101", "syntax", _E, "The query is not valid KQL."),
        Rule("QH102", "unknown-table", _E, "The product has no table of this name."),
        Rule("QH103", "unknown-column", _E, "No column of this name is there.", fixable=True),
        Rule("QH104", "unknown-function", _E, "KQL has no function of this name."),
        Rule("QH105", "dropped-column", _E, "An earlier operator has dropped this column."),
        Rule("QH106", "microsoft-parser", _E, "Microsoft's own parser rejects this."),
        Rule("QH107", "product", _E, "A product that the hunt names cannot run it."),
        Rule(
            "QH201", "exact-command-line", _W,
            "Whole command lines of several words are compared: another spacing, quote, "
            "extension or argument is missed.",
        ),
        Rule(
            "QH202", "not-one-term", _W,
            "The has family looks for one term, a run of letters and digits; text of several "
            "words matches as one unbroken phrase at best.",
        ),
        Rule("QH203", "dead-entry", _E, "No command as Defender records it can match this entry."),
        Rule(
            "QH204", "parent-for-child", _W,
            "A column of the parent process is tested for what only the child's line holds.",
        ),
        Rule(
            "QH205", "case-sensitive", _W,
            "Windows ignores case in names and commands; this comparison does not.", fixable=True,
        ),
        Rule(
            "QH206", "contains-for-term", _N,
            "contains reads every character of every row, and matches inside longer words; has "
            "uses the term index.",
        ),
        Rule("QH207", "repeated-entry", _N, "The list holds an entry twice.", fixable=True),
        Rule("QH301", "no-window", _N, "The query has neither a filter on time nor a window."),
        Rule(
            "QH302", "day-dependent-window", _W,
            "What stretch of time the hunt looks at depends on the day on which it runs.",
        ),
        Rule(
            "QH303", "tumbling-burst", _W,
            "Bins stand edge to edge: a burst across an edge is split and can miss the threshold.",
        ),
        Rule("QH401", "no-technique", _N, "The hunt names no ATT&CK technique."),
        Rule(
            "QH402", "stale-technique", _W, "ATT&CK has no such technique, or has withdrawn it.",
        ),
        Rule("QH403", "duplicate-id", _E, "Two hunts have one id."),
        Rule("QH404", "unused-parameter", _N, "A let is never used.", fixable=True),
        Rule("QH405", "entity-column", _E, "An entity maps to a column that the result lacks."),
        Rule("QH406", "note-column", _E, "A note names a column that the result lacks."),
        Rule(
            "QH501", "engine-refuses", _N,
            "The embedded engine does not run this: the hunt has no tests, replay or comparison.",
        ),
        Rule(
            "QH502", "engine-differs", _N,
            "The embedded engine's answer can differ from the service's without a word.",
        ),
        Rule(
            "QH503", "lake-lacks", _N,
            "The Sentinel data lake does not have this: the hunt cannot run there.",
        ),
        Rule("QH901", "suppression-without-reason", _W, "A suppression must say why."),
        Rule("QH902", "idle-suppression", _N, "A suppression suppresses nothing."),
    )
}  # fmt: skip
