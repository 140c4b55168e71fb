"""A few lines for a chat: the verdict, the hits that matter most, and what is missing.

Plain text: chats differ in their markup, so none is used. What a chat would take for a
mention, a link or code is written so that a person still reads it: ``(at)``, ``[:]//``.
"""

from __future__ import annotations

import re
from typing import IO, TYPE_CHECKING

from qakhunt.core.safe_text import for_terminal
from qakhunt.reports.details import clock
from qakhunt.reports.summary import faults, one_window, problems, warning_lines
from qakhunt.reports.view import cut, report_view
from qakhunt.triage.words import count

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qakhunt.answers.run_result import RunResult
    from qakhunt.reports.details import ExportOptions
    from qakhunt.reports.view import FindingView, OwnTable

MOST = 8
_LONGEST = 60
_ACTIVE = {"@": "(at)", "<": "\u2039", ">": "\u203a", "`": "'", "://": "[:]//"}
_ANY = re.compile("|".join(map(re.escape, sorted(_ACTIVE, key=len, reverse=True))))


def write(result: RunResult, out: IO[bytes], options: ExportOptions) -> None:
    """The short text form."""
    details = options.details
    lines = [f"TLP:{details.tlp}"] if details.tlp else []
    view = report_view(result, details)
    lines.append(plain(view.verdict))
    if result.sample:
        lines.append("(the bundled sample: synthetic events)")
    lines += [_finding(finding) for finding in view.findings[:MOST]]
    if len(view.findings) > MOST:
        lines.append(f"... and {count(len(view.findings) - MOST, 'further finding')}")
    for table in view.tables:
        lines += _rows(table)
    missing = problems(result.ledger.lines)
    if missing:
        failed = count(len(faults(result)), "query", "queries")
        lines.append(f"not looked at completely: {failed}")
        lines += [plain(f"- {cut(problem.sentence, 300)}") for problem in missing[:MOST]]
    warnings = warning_lines(result)
    lines += [plain(f"warning: {text}") for text in warnings[:MOST]]
    if len(warnings) > MOST:
        lines.append(f"... and {count(len(warnings) - MOST, 'further warning')}")
    window = f"{clock(result.window.start)[:16]} to {clock(result.window.end)[:16]} UTC"
    names = ", ".join(dict.fromkeys(rendered.hunt.name for rendered in result.rendered))
    lines.append(plain(f"{names}; {window if one_window(result) else 'each its own window'}"))
    if details.case:
        lines.append(plain(f"case {details.case}"))
    out.write(("\n".join(lines) + "\n").encode("utf-8", "backslashreplace"))


def _finding(finding: FindingView) -> str:
    view = finding.worst
    said = f"{view.hit_report.number}. {view.device}"
    if view.hit.account:
        said += f" ({view.hit.account})"
    if view.hit.first_seen:
        said += f", {view.seen} UTC"
        said += f" within {view.length}" if view.hit.last_seen else ""
    if len(finding.hunts) > 1:
        said += f", {len(finding.hunts)} hunts agree"
    return plain(f"{said}: {view.hit_report.assessment.title}")


def _rows(table: OwnTable) -> Iterator[str]:
    """The first rows of a hunt without a mapping, each on one line."""
    most = MOST // 2
    yield plain(f"{table.title}: {count(len(table.rows), 'row')}")
    for number, cells in table.rows[:most]:
        filled = table.filled(cells)
        said = ", ".join(f"{name} {cut(cell, _LONGEST)}" for name, cell in filled[:MOST])
        more = f" and {count(len(filled) - MOST, 'column')} more" if len(filled) > MOST else ""
        yield plain(f"{number}. {said}{more}")
    if len(table.rows) > most:
        yield f"... and {count(len(table.rows) - most, 'further row')}"


def plain(text: str) -> str:
    """Text in which no chat finds a mention, a link or markup."""
    shown = _ANY.sub(lambda match: _ACTIVE[match[0]], for_terminal(text))
    return shown.replace("](", "] (")
