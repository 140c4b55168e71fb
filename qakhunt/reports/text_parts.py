"""Timeline and process tree as lines of plain text, for tickets and text versions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qakhunt.triage.timeline import Moment, entries, gap_words
from qakhunt.triage.tree_rows import asides, branch, tree_rows
from qakhunt.triage.words import offset

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qakhunt.reports.details import ReportDetails
    from qakhunt.triage.dossier import Dossier
    from qakhunt.triage.findings import Findings

_LONGEST, _MOST = 500, 200


def timeline_lines(dossier: Dossier, details: ReportDetails) -> Iterator[str]:
    """One line per event; ``*`` marks the hit's commands, ``o`` uncounted ones."""
    shown = entries(dossier.moments, fold=len(dossier.moments) > _MOST)
    for entry in shown[:_MOST]:
        if not isinstance(entry, Moment):
            yield f"{'...':>12}    {gap_words(entry)}"
            continue
        event = entry.event
        mark = "*" if entry.own else "o" if entry.discovery and entry.related else " "
        local = details.local(event.at)[11:]
        time = event.at.isoformat()[11:23] + (f" ({local})" if local else "")
        by = f"  by {_cut(event.issuer.file)}" if event.issuer and event.kind != "process" else ""
        yield f"{offset(entry.offset):>12}  {mark} {time}  {event.kind:<8}  {_cut(event.what)}{by}"
    if len(shown) > _MOST:
        yield f"... {len(shown) - _MOST:,} further rows in the JSON result"


def tree_lines(findings: Findings) -> Iterator[str]:
    """The process tree; one process is one line, whatever its command line holds."""
    for row in tree_rows(findings):
        if row.node is None:
            yield f"{branch(row)}... {row.hidden:,} more"
            continue
        process = row.node.process
        number = f" ({process.id})" if process.id is not None else ""
        mark = {"command": "* " if row.own else "o "}.get(row.role, "")
        line = "" if process.line.casefold() == process.file.casefold() else process.line
        said = "".join(f"  [{aside}]" for aside in asides(row.node, row.role))
        text = f"{mark}{_cut(process.file) or 'unnamed process'}{number}"
        text += (f"  {_cut(line)}" if line else "") + said
        yield branch(row) + text.replace("\r", "\\r").replace("\n", "\\n")


def _cut(text: str) -> str:
    if len(text) <= _LONGEST:
        return text
    return f"{text[:_LONGEST]}... ({len(text):,} characters)"
