"""The report as Markdown for a ticket: the same content as the HTML, one file.

Text from logs stands escaped in prose and tables, and in fences that it cannot close.
"""

from __future__ import annotations

import re
from typing import IO, TYPE_CHECKING

from qakhunt.answers.plain import to_text
from qakhunt.reports.details import TLP, clock
from qakhunt.reports.flat import flat_table
from qakhunt.reports.safe import for_markdown, for_terminal
from qakhunt.reports.summary import context_lines, coverage_lines, verdict_line
from qakhunt.reports.text_parts import timeline_lines, tree_lines
from qakhunt.triage.assessment import Side
from qakhunt.triage.dossier import dossiers
from qakhunt.triage.rarity_words import rarity_lines
from qakhunt.triage.words import count, offset

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from qakhunt.hunts.render import RenderedQuery
    from qakhunt.reports.details import ReportDetails
    from qakhunt.reports.formats import ExportOptions
    from qakhunt.triage.dossier import Dossier
    from qakhunt.triage.run_result import RunResult

MOST_IN_FULL = 50
_SIDES = {Side.FOR: "for", Side.AGAINST: "against", Side.OPEN: "not known"}
_LONGEST_LINE = 1000


def write_markdown(result: RunResult, out: IO[bytes], options: ExportOptions) -> None:
    """The whole report; the rows of the result follow the hits, every cell of them."""
    for line in _lines(result, options.details):
        out.write(line.encode("utf-8", "backslashreplace") + b"\n")


def _lines(result: RunResult, details: ReportDetails) -> Iterator[str]:
    yield from _head(result, details)
    found = dossiers(result, details.portals)
    if found:
        yield from ["", f"## {count(len(found), 'hit')}"]
    for dossier in found[:MOST_IN_FULL]:
        yield from _hit(dossier, details)
    if len(found) > MOST_IN_FULL:
        rest = count(len(found) - MOST_IN_FULL, "further hit")
        yield from ["", f"{rest} in the table below alone."]
    yield from ["", "## Result", ""]
    yield from _result_table(result)
    yield from ["", "## How it was asked"]
    for rendered in result.rendered:
        yield from _query(rendered)
    yield from ["", f"Run by qakhunt {for_markdown(result.version)}. Times are UTC."]


def _head(result: RunResult, details: ReportDetails) -> Iterator[str]:
    if details.tlp:
        yield from [f"**TLP:{for_markdown(details.tlp)}** {for_markdown(TLP[details.tlp])}", ""]
    yield from [f"# {_text(result.rendered[0].hunt.title)}", ""]
    yield from [f"**{_text(verdict_line(result))}**", ""]
    yield from (f"- {_text(line)}" for line in coverage_lines(result))
    yield from (f"- {_text(line)}" for line in context_lines(result))
    yield from (f"- warning: {_text(line)}" for line in result.warnings)
    if result.sample:
        yield "- This is the bundled sample: synthetic events, not your tenants."
    for label, value in details.labelled():
        yield f"- {label}: {_text(value)}"


def _hit(dossier: Dossier, details: ReportDetails) -> Iterator[str]:
    hit = dossier.hit
    yield from ["", f"### {dossier.number}. {_text(hit.device or 'no device named')}", ""]
    whom = " in ".join(filter(None, [hit.account, hit.tenant or hit.workspace or hit.profile]))
    when = f"{clock(hit.first_seen)} UTC" if hit.first_seen else "no time"
    local = details.local(hit.first_seen) if hit.first_seen else ""
    yield _text(f"{whom}, {when}" + (f" ({local})" if local else ""))
    assessment = dossier.assessment
    yield from ["", f"**{_text(assessment.title)}.** Criterion: {_text(assessment.criterion)}.", ""]
    yield from (f"- {_SIDES[r.side]}: {_text(r.text)}" for r in assessment.reasons)
    yield from (f"- not looked at: {_text(text)}" for text in assessment.not_looked_at)
    yield from ["", _text(assessment.caution), ""]
    yield from _commands(dossier)
    if dossier.moments:
        yield from ["", "Timeline", ""]
        yield from _fenced(timeline_lines(dossier, details))
    if dossier.findings and dossier.findings.issuers:
        yield from ["", "Process tree", ""]
        yield from _fenced(tree_lines(dossier.findings))
    rarity = rarity_lines(dossier)
    if rarity:
        yield from ["", "How rare, in the window", ""]
        yield from (f"- {_text(line)}" for line in rarity)
    yield from _entities(dossier)
    steps = dossier.rendered.hunt.notes.triage if dossier.rendered else ()
    if steps:
        yield from ["", "Steps of triage", ""]
        yield from (f"{number}. {_text(step)}" for number, step in enumerate(steps, 1))


def _commands(dossier: Dossier) -> Iterator[str]:
    yield _row(["Offset", "Command", "Counted by", "Reveals", "ATT&CK"])
    yield "| --- " * 5 + "|"
    for note in dossier.commands:
        techniques = ", ".join(f"{t.id} {t.name}".strip() for t in note.techniques)
        yield _row(
            [
                offset(note.offset) if note.offset is not None else "-",
                _cut(note.command.line),
                ", ".join(note.counted_by) or "none",
                note.reveals or "of no known family",
                techniques,
            ]
        )


def _entities(dossier: Dossier) -> Iterator[str]:
    for entity in dossier.entities:
        yield from ["", f"{entity.kind.capitalize()}: {_text(_cut(entity.name))}", ""]
        yield from (
            f"- {label}: {_text(_cut(value))}"
            for label, value in entity.details
            if value != entity.name
        )
        yield from (f"- {_text(link.label)}: <{link.url}>" for link in entity.links)
        yield ""
        yield from _fenced(entity.pivot.splitlines(), "kusto")


def _result_table(result: RunResult) -> Iterator[str]:
    table = flat_table(result)
    yield _row([column.name for column in table.columns])
    yield "|" + " --- |" * len(table.columns)
    for row in table.rows:
        yield _row([to_text(cell) for cell in row])


def _query(rendered: RenderedQuery) -> Iterator[str]:
    yield from ["", f"### {_text(rendered.hunt.title)}", ""]
    version = f", version {rendered.hunt.version}" if rendered.hunt.version else ""
    yield f"- hunt: {_text(rendered.hunt.name + version)}, for {_text(rendered.product)}"
    yield f"- SHA\\-256 of the text: {rendered.query_hash}"
    yield f"- SHA\\-256 of the hunt without its window: {rendered.hunt_hash}"
    for name, value in rendered.parameters.items():
        yield f"- {_text(name)} \\= {_text(to_text(value))}"
    yield ""
    yield from _fenced(rendered.text.splitlines(), "kusto")


def _fenced(lines: Iterable[str], language: str = "text") -> Iterator[str]:
    """A block whose fence no line of it can close."""
    shown = [for_terminal(line) for line in lines]
    longest = max((len(run) for line in shown for run in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    yield from [f"{fence}{language}", *shown, fence]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_text(cell) for cell in cells) + " |"


def _text(text: str) -> str:
    return for_markdown(text)


def _cut(text: str) -> str:
    if len(text) <= _LONGEST_LINE:
        return text
    return f"{text[:_LONGEST_LINE]}... ({len(text):,} characters, whole in the result below)"
