"""The report as Markdown for a ticket: the same content as the HTML, one file.

Text from logs stands escaped in prose and tables, and in fences that it cannot close.
"""

from __future__ import annotations

import re
from typing import IO, TYPE_CHECKING

from qakhunt.answers.cells import to_text
from qakhunt.core.safe_text import for_markdown, for_terminal
from qakhunt.reports.details import TLP, clock
from qakhunt.reports.formats import flat_table
from qakhunt.reports.summary import context_lines, coverage_lines, warning_lines
from qakhunt.reports.view import report_view, timeline, tree_lines
from qakhunt.triage.assessment import Side
from qakhunt.triage.hit_report import rarity_lines, stage_lines
from qakhunt.triage.words import count, offset, prose, short_list

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from qakhunt.answers.run_result import RunResult
    from qakhunt.hunts.render import RenderedQuery
    from qakhunt.reports.details import ExportOptions, ReportDetails
    from qakhunt.reports.view import HitView, OwnTable, ReportView, TreeLine
    from qakhunt.triage.hit_report import HitReport

MOST_FINDINGS, MOST_ROWS, _MOST_EVENTS = 500, 200, 200
_SIDES = {Side.FOR: "for", Side.AGAINST: "against", Side.OPEN: "not known"}
_LONGEST_LINE = 1000


def write(result: RunResult, out: IO[bytes], options: ExportOptions) -> None:
    """The whole report; the rows of the result follow the hits, every cell of them."""
    for line in _lines(result, options.details):
        out.write(line.encode("utf-8", "backslashreplace") + b"\n")


def _lines(result: RunResult, details: ReportDetails) -> Iterator[str]:
    view = report_view(result, details)
    yield from _head(view)
    yield from _coverage(view)
    yield from _findings(view)
    steps = [*view.steps, *view.hunt_steps]
    if steps:
        yield from ["", "## Recommended next steps", ""]
        yield from (f"{number}. {_text(step)}" for number, step in enumerate(steps, 1))
    for table in view.tables:
        yield from _own(table)
    for hit in view.hits:
        yield from _hit(hit, details)
    if view.rest:
        rest = count(len(view.rest), "further hit")
        yield from ["", f"{rest} in the table below alone."]
    yield from ["", "## Result", ""]
    yield from _result_table(result)
    yield from ["", "## How it was asked"]
    for rendered in view.queries:
        yield from _query(rendered)
    yield from ["", f"Run by qakhunt {for_markdown(result.version)}. Times are UTC."]


def _head(view: ReportView) -> Iterator[str]:
    result, details = view.result, view.details
    if details.tlp:
        yield from [f"**TLP:{for_markdown(details.tlp)}** {for_markdown(TLP[details.tlp])}", ""]
    yield from [f"# {_text(result.rendered[0].hunt.title)}", ""]
    yield from [f"**{_text(view.verdict)}**", "", view.explained, ""]
    yield from (f"- {_text(line)}" for line in [*coverage_lines(result), *context_lines(result)])
    yield from (f"- warning: {_text(line)}" for line in warning_lines(result))
    if result.sample:
        yield "- This is the bundled sample: synthetic events, not your tenants."
    for label, value in details.labelled():
        yield f"- {label}: {_text(value)}"


def _coverage(view: ReportView) -> Iterator[str]:
    yield from ["", "## Coverage", ""]
    yield _row(["Tenant", "Queries", "Hits", "Source records"])
    yield "| --- " * 4 + "|"
    for row in view.coverage:
        yield _row([row.tenant, row.answers, row.hits, row.source or "-"])
    if view.problems:
        yield from ["", "Not covered:", ""]
        yield from (f"- {_text(problem.sentence)}" for problem in view.problems)


def _findings(view: ReportView) -> Iterator[str]:
    if not view.findings:
        return
    yield from ["", f"## {count(len(view.findings), 'finding')}", ""]
    yield _row(
        ["Hits", "Device", "Account", "Tenant", "Distinct", "When (UTC)", "Assessment", "Hunts"]
    )
    yield "| --- " * 8 + "|"
    for finding in view.findings[:MOST_FINDINGS]:
        worst = finding.worst
        numbers = short_list([str(v.hit_report.number) for v in finding.hits], 5)
        distinct = "-" if finding.distinct is None else str(finding.distinct)
        yield _row(
            [numbers, worst.device, worst.hit.account or "-", worst.place, distinct,
             f"{worst.seen}, {worst.length}", worst.hit_report.assessment.title,
             ", ".join(finding.hunts)]
        )  # fmt: skip
    if len(view.findings) > MOST_FINDINGS:
        rest = count(len(view.findings) - MOST_FINDINGS, "further finding")
        yield from ["", f"{rest} in the table of the result alone."]


def _own(table: OwnTable) -> Iterator[str]:
    """A hunt's own columns: a table, or a list per row where it has many."""
    yield from ["", f"## {_text(table.title)}", ""]
    rows = table.rows[:MOST_ROWS]
    if not table.wide:
        yield _row(["No.", *table.names])
        yield "| --- " * (len(table.names) + 1) + "|"
        yield from (_row([str(number), *map(_cut, cells)]) for number, cells in rows)
    for number, cells in rows if table.wide else ():
        yield from ["", f"Row {number}", ""]
        yield from (f"- {_text(name)}: {_text(_cut(cell))}" for name, cell in table.filled(cells))
    if len(table.rows) > len(rows):
        rest = count(len(table.rows) - len(rows), "further row")
        yield from ["", f"{rest} in the table of the result alone."]


def _hit(view: HitView, details: ReportDetails) -> Iterator[str]:
    hit, hit_report = view.hit, view.hit_report
    yield from ["", f"## {hit_report.number}. {_text(view.device)}", ""]
    who = " in ".join(filter(None, [hit.account, view.place]))
    when = f"{clock(hit.first_seen)} UTC" if hit.first_seen else "no time"
    local = details.local(hit.first_seen) if hit.first_seen else ""
    yield _text(f"{who}, {when}" + (f" ({local})" if local else ""))
    assessment = hit_report.assessment
    yield from ["", f"**{_text(assessment.title)}.** Criterion: {_text(assessment.criterion)}.", ""]
    yield from (f"- {_SIDES[r.side]}: {_text(r.text)}" for r in assessment.reasons)
    yield from (f"- not looked at: {_prose(text)}" for text in assessment.not_looked_at)
    yield from ["", _text(assessment.caution), ""]
    stages = stage_lines(hit_report)
    if stages:
        yield from ["On this device, within a day", ""]
        yield from (f"- {_text(line)}" for line in stages)
        yield ""
    yield from _commands(hit_report)
    if hit_report.moments:
        yield from ["", "Timeline", ""]
        yield from _fenced(_timeline(hit_report, details))
    if hit_report.processes and hit_report.processes.issuers:
        yield from ["", "Process tree", ""]
        yield from _fenced(map(_tree_line, tree_lines(hit_report.processes)))
    rarity = rarity_lines(hit_report)
    if rarity:
        yield from ["", "How rare, in the window", ""]
        yield from (f"- {_text(line)}" for line in rarity)
    yield from _entities(hit_report)


def _timeline(hit_report: HitReport, details: ReportDetails) -> Iterator[str]:
    """One line per event; ``*`` marks the hit's commands, ``o`` uncounted ones."""
    rows, left = timeline(hit_report, details, fold=False, most=_MOST_EVENTS)
    for row in rows:
        if row.kind == "gap":
            yield f"{'...':>12}    {row.what}"
            continue
        time = row.time + (f" ({row.local})" if row.local else "")
        by = f"  by {_cut(row.by)}" if row.by else ""
        yield f"{row.offset:>12}  {row.mark or ' '} {time}  {row.kind:<8}  {_cut(row.what)}{by}"
    if left:
        yield f"... {left:,} further rows in the JSON result"


def _tree_line(line: TreeLine) -> str:
    mark = f"{line.mark} " if line.mark else ""
    more = f"  {_cut(line.more)}" if line.more else ""
    return f"{line.branch}{mark}{_cut(line.name)}{more}{line.said}"


def _commands(hit_report: HitReport) -> Iterator[str]:
    yield _row(["Offset", "Command", "Counted by", "Reveals", "ATT&CK"])
    yield "| --- " * 5 + "|"
    for note in hit_report.commands:
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


def _entities(hit_report: HitReport) -> Iterator[str]:
    for entity in hit_report.entities:
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
    hunt = rendered.hunt
    yield from ["", f"### {_text(hunt.title)}", ""]
    version = f", version {hunt.version}" if hunt.version else ""
    yield f"- hunt: {_text(hunt.name + version)}, for {_text(rendered.product)}"
    yield f"- SHA\\-256 of the text: {rendered.query_hash}"
    yield f"- SHA\\-256 of the hunt without its window: {rendered.hunt_hash}"
    for name, value in rendered.parameters.items():
        yield f"- {_text(name)} \\= {_text(to_text(value))}"
    for title, texts in (
        ("limit", hunt.notes.limits),
        ("false positive", hunt.notes.false_positives),
    ):
        yield from (f"- {title}: {_prose(text)}" for text in texts)
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


def _prose(text: str) -> str:
    return for_markdown(prose(text))


def _cut(text: str) -> str:
    if len(text) <= _LONGEST_LINE:
        return text
    return f"{text[:_LONGEST_LINE]}... ({len(text):,} characters, whole in the result below)"
