"""A few lines for a chat: the verdict, the hits that matter most, and what is missing.

Plain text: chats differ in their markup, so none is used. What a chat would take for a
mention, a link or code is written so that a person still reads it: ``(at)``, ``[:]//``.
"""

from __future__ import annotations

import re
from typing import IO, TYPE_CHECKING

from qakhunt.reports.details import clock
from qakhunt.reports.safe import for_terminal
from qakhunt.reports.summary import faults, one_window, verdict_line
from qakhunt.triage.assessment import Kind
from qakhunt.triage.dossier import dossiers
from qakhunt.triage.words import count, span

if TYPE_CHECKING:
    from qakhunt.reports.formats import ExportOptions
    from qakhunt.triage.dossier import Dossier
    from qakhunt.triage.run_result import RunResult

MOST = 8
_ORDER = tuple(Kind)  # the most suspicious first
_ACTIVE = {"@": "(at)", "<": "\u2039", ">": "\u203a", "`": "'", "](": "] (", "://": "[:]//"}
_ANY = re.compile("|".join(map(re.escape, sorted(_ACTIVE, key=len, reverse=True))))


def write_chat(result: RunResult, out: IO[bytes], options: ExportOptions) -> None:
    """The short text form."""
    details = options.details
    lines = [f"TLP:{details.tlp}"] if details.tlp else []
    lines.append(plain(verdict_line(result)))
    if result.sample:
        lines.append("(the bundled sample: synthetic events)")
    found = sorted(dossiers(result), key=lambda d: _ORDER.index(d.assessment.kind))
    lines += [_hit(dossier) for dossier in found[:MOST]]
    if len(found) > MOST:
        lines.append(f"... and {count(len(found) - MOST, 'further hit')}")
    missing = faults(result)
    if missing:
        lines.append(f"not looked at completely: {count(len(missing), 'question')}")
        lines += [plain(f"- {line.whom}: {line.status.value}") for line in missing[:MOST]]
    lines += [plain(f"warning: {text}") for text in result.warnings[:MOST]]
    if len(result.warnings) > MOST:
        lines.append(f"... and {count(len(result.warnings) - MOST, 'further warning')}")
    window = f"{clock(result.window.start)[:16]} to {clock(result.window.end)[:16]} UTC"
    names = ", ".join(dict.fromkeys(rendered.hunt.name for rendered in result.rendered))
    lines.append(plain(f"{names}; {window if one_window(result) else 'each its own window'}"))
    if details.case:
        lines.append(plain(f"case {details.case}"))
    out.write(("\n".join(lines) + "\n").encode("utf-8", "backslashreplace"))


def _hit(dossier: Dossier) -> str:
    hit = dossier.hit
    said = f"{dossier.number}. {hit.device or 'no device named'}"
    if hit.account:
        said += f" ({hit.account})"
    if hit.first_seen:
        said += f", {clock(hit.first_seen)[:19]} UTC"
        if hit.last_seen:
            said += f" within {span(hit.last_seen.since(hit.first_seen).seconds)}"
    return plain(f"{said}: {dossier.assessment.title}")


def plain(text: str) -> str:
    """Text in which no chat finds a mention, a link or markup."""
    return _ANY.sub(lambda match: _ACTIVE[match[0]], for_terminal(text))
