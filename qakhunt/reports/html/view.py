"""A hit as a template shows it: plain values, cut where they would not fit, and said so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qakhunt.reports.details import clock
from qakhunt.reports.html.drawing import overview, track_length, tracks, tree_picture
from qakhunt.reports.text_parts import tree_lines
from qakhunt.triage.assessment import Kind, table_name
from qakhunt.triage.rarity_words import rarity_lines
from qakhunt.triage.timeline import Moment, entries, gap_words
from qakhunt.triage.words import offset, span

if TYPE_CHECKING:
    from qakhunt.kql.values import Instant
    from qakhunt.reports.details import ReportDetails
    from qakhunt.reports.html.drawing import Overview, TreePicture
    from qakhunt.triage.command_notes import CommandNote
    from qakhunt.triage.dossier import Dossier
    from qakhunt.triage.entities import Entity
    from qakhunt.triage.timeline import Entry

LONGEST, SHORT = 4000, 300
MOST_ENTRIES = 160
_LOOKS = {
    Kind.QAKBOT: "bad",
    Kind.INVENTORY: "calm",
    Kind.ADMINISTRATION: "calm",
    Kind.UNCLEAR: "open",
}


class Lines(str):
    """Text whose line breaks stay."""

    __slots__ = ()


def cut(text: str, limit: int = LONGEST) -> str:
    """The text, or its beginning and how long it is."""
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text):,} characters in all)"


@dataclass(frozen=True)
class Times:
    """An instant in UTC, whole and to the second, and in local time where asked."""

    utc: str
    second: str
    local: str

    @classmethod
    def of(cls, moment: Instant | None, details: ReportDetails) -> Times:
        """The texts of an instant; a missing one is a dash."""
        if moment is None:
            return cls("-", "-", "")
        return cls(f"{clock(moment)} UTC", clock(moment)[:19], details.local(moment))


@dataclass(frozen=True)
class CommandRow:
    """One command of a hit; ``places`` are percentages on its track.

    ``normalised`` is empty where it says no more than the line itself.
    """

    note: CommandNote
    line: str
    normalised: str
    offset: str
    places: tuple[float, ...]


@dataclass(frozen=True)
class TimelineRow:
    """One row of the timeline; ``kind`` is ``gap`` for a folded or quiet stretch."""

    kind: str
    look: str = ""
    mark: str = ""
    offset: str = ""
    time: str = ""
    local: str = ""
    what: str = ""
    by: str = ""
    family: str = ""


@dataclass(frozen=True)
class HitView:
    """Everything a template shows of one hit."""

    dossier: Dossier
    anchor: str
    look: str
    first: Times
    length: str
    commands: tuple[CommandRow, ...]
    track: str
    overview: Overview | None
    timeline: tuple[TimelineRow, ...]
    unshown: int
    tree: TreePicture | None
    tree_text: Lines
    rarity: tuple[str, ...]
    entities: tuple[Entity, ...]
    tables: tuple[tuple[str, str], ...]


def short_view(dossier: Dossier, details: ReportDetails) -> HitView:
    """A hit in short: what the hunt found, the assessment, device and account."""
    hit = dossier.hit
    return HitView(
        dossier=dossier,
        anchor=f"hit-{dossier.number}",
        look=_LOOKS[dossier.assessment.kind],
        first=Times.of(hit.first_seen, details),
        length=_length(dossier),
        commands=tuple(
            CommandRow(note, cut(note.command.line, SHORT), "", "", ()) for note in dossier.commands
        ),
        track="",
        overview=None,
        timeline=(),
        unshown=0,
        tree=None,
        tree_text=Lines(),
        rarity=(),
        entities=(),
        tables=(),
    )


def full_view(dossier: Dossier, details: ReportDetails) -> HitView:
    """A hit with everything that is known of it."""
    on_track = tracks(dossier)
    rows, unshown = _timeline(dossier, details)
    findings = dossier.findings
    return HitView(
        dossier=dossier,
        anchor=f"hit-{dossier.number}",
        look=_LOOKS[dossier.assessment.kind],
        first=Times.of(dossier.hit.first_seen, details),
        length=_length(dossier),
        commands=tuple(
            CommandRow(
                note,
                cut(note.command.line),
                _normalised(note),
                offset(note.offset) if note.offset is not None else "",
                on_track[note.command.line].places if note.command.line in on_track else (),
            )
            for note in dossier.commands
        ),
        track=track_length(dossier),
        overview=overview(dossier),
        timeline=tuple(rows),
        unshown=unshown,
        tree=tree_picture(findings) if findings else None,
        tree_text=Lines("\n".join(tree_lines(findings)) if findings else ""),
        rarity=tuple(rarity_lines(dossier)),
        entities=tuple(dossier.entities),
        tables=tuple(_tables(dossier)),
    )


def _normalised(note: CommandNote) -> str:
    normalised = cut(note.command.normalised, SHORT)
    return "" if normalised == note.command.line.casefold() else normalised


def _length(dossier: Dossier) -> str:
    hit = dossier.hit
    if hit.first_seen is None or hit.last_seen is None:
        return "-"
    return span(hit.last_seen.since(hit.first_seen).seconds)


def _timeline(dossier: Dossier, details: ReportDetails) -> tuple[list[TimelineRow], int]:
    shown = entries(dossier.moments, fold=False)
    if len(shown) > MOST_ENTRIES:
        shown = entries(dossier.moments, fold=True)
    rows = [_row(entry, details) for entry in shown[:MOST_ENTRIES]]
    return rows, len(shown) - len(rows)


def _row(entry: Entry, details: ReportDetails) -> TimelineRow:
    if not isinstance(entry, Moment):
        return TimelineRow("gap", what=gap_words(entry))
    event = entry.event
    look = "own" if entry.own else "uncounted" if entry.discovery and entry.related else ""
    if event.kind == "alert":
        look = "alert"
    return TimelineRow(
        kind=event.kind,
        look=look or ("related" if entry.related else "plain"),
        mark="●" if entry.own else "○" if look == "uncounted" else "",
        offset=offset(entry.offset),
        time=event.at.isoformat()[11:23],
        local=details.local(event.at)[11:],
        what=cut(event.what, 1000),
        by=event.issuer.file if event.issuer and event.kind != "process" else "",
        family=event.command.family or "" if event.command else "",
    )


def _tables(dossier: Dossier) -> list[tuple[str, str]]:
    """What each table said about the hit, in words."""
    said = []
    for answer in dossier.context.tables if dossier.context else ():
        words = f"{answer.found:,}"
        if answer.kept < answer.found:
            words = f"the nearest {answer.kept:,} of {answer.found:,}"
        if answer.status.value != "complete":
            words = answer.detail or answer.status.value.replace("_", " ")
        said.append((table_name(answer.table), words))
    return said
