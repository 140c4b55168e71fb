"""A triage on the terminal: assessment, commands, timeline and process tree of each hit.

Readable at 80 columns and without colour: every mark is a character first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.padding import Padding
from rich.style import Style
from rich.table import Table
from rich.text import Text

from qakhunt.core.safe_text import for_terminal
from qakhunt.reports.console import KIND_STYLES, unpadded
from qakhunt.reports.details import ReportDetails
from qakhunt.reports.view import cell_text, timeline, tree_lines
from qakhunt.triage.assessment import Side
from qakhunt.triage.hit_report import rarity_lines
from qakhunt.triage.words import count, offset, span

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from qakhunt.reports.view import TimelineRow, TreeLine
    from qakhunt.triage.hit_report import HitReport

_SIDES = {Side.FOR: "+", Side.AGAINST: "-", Side.OPEN: "?"}
_SHORT, _LONG = 160, 4000
MOST_IN_FULL = 25


def show_triage(hit_reports: Sequence[HitReport], console: Console, *, full: bool) -> None:
    """Print every hit_report; ``full`` leaves nothing folded.

    Of very many hits the first are printed whole, the rest as one line each.
    """
    with unpadded(console):
        _show_all(hit_reports, console, full=full)


def _show_all(hit_reports: Sequence[HitReport], console: Console, *, full: bool) -> None:
    total = len(hit_reports)
    whole = hit_reports if full else hit_reports[:MOST_IN_FULL]
    for position, hit_report in enumerate(whole):
        if position:
            console.print()
        _show(hit_report, console, full=full)
    if total > len(whole):
        console.print(Text(f"\n{count(total - len(whole), 'further hit')}, one line each", "bold"))
        for hit_report in hit_reports[len(whole) :]:
            console.print(_line(hit_report), no_wrap=True, overflow="ellipsis")
        console.print(Text("--hit N shows one of them in full", "dim"))


def _line(hit_report: HitReport) -> Text:
    text = Text(f"{hit_report.number:>6}  ")
    text.append(_cut(hit_report.hit.device or "-", _SHORT), "bold").append("  ")
    return text.append(hit_report.assessment.title, KIND_STYLES[hit_report.assessment.kind])


def _show(hit_report: HitReport, console: Console, *, full: bool) -> None:
    limit = _LONG if full else _SHORT
    _head(hit_report, console)
    _assessment(hit_report, console)
    if hit_report.stages:
        _stages(hit_report, console, limit)
    if hit_report.commands:
        _commands(hit_report, console, limit)
    else:
        _row(hit_report, console, limit)
    if hit_report.moments:
        _timeline(hit_report, console, limit, full=full)
    if hit_report.processes and hit_report.processes.issuers:
        _heading(console, "Process tree")
        for line in tree_lines(hit_report.processes):
            grid = _grid(_MARK, _TEXT, gap=0)
            grid.add_row(Text(f"  {line.branch}", "dim"), _tree_line(line, limit))
            console.print(grid)
    if hit_report.context:
        lines = rarity_lines(hit_report)
        if lines:
            _heading(console, "How rare")
            for text in lines:
                _item(console, "", for_terminal(text))
    if full:
        _entities(hit_report, console)


def _head(hit_report: HitReport, console: Console) -> None:
    hit = hit_report.hit
    head = Text(f"Hit {hit_report.number}  ", "bold")
    device = next((e for e in hit_report.entities if e.kind == "device"), None)
    page = next((link.url for link in device.links), None) if device else None
    style = Style(bold=True, link=page) if page else Style(bold=True)
    head.append(_cut(hit.device or "no device named", _SHORT), style)
    if hit.account:
        head.append(f"  {_cut(hit.account, _SHORT)}")
    console.print(head)
    place = hit.tenant or hit.workspace
    when = hit.first_seen.short() if hit.first_seen else "no time"
    if hit.first_seen and hit.last_seen:
        when += f", {span(hit.last_seen.since(hit.first_seen).seconds)} long"
    said = "  ".join(filter(None, [when, for_terminal(hit.hunt), for_terminal(place or "")]))
    console.print(Text(said, "dim"))


def _assessment(hit_report: HitReport, console: Console) -> None:
    found = hit_report.assessment
    console.print()
    console.print(Text(f"  {found.title}", KIND_STYLES[found.kind]))
    _item(console, "", f"Criterion: {found.criterion}.", "dim")
    for reason in found.reasons:
        _item(console, _SIDES[reason.side], for_terminal(reason.text))
    _item(console, "", found.caution, "dim")
    _item(console, "", "Not looked at:", "dim")
    for text in found.not_looked_at:
        _item(console, "  -", for_terminal(text), "dim")


def _item(console: Console, mark: str, text: str, style: str = "") -> None:
    grid = _grid(_MARK, _TEXT, gap=1)
    if mark:
        grid.add_row(Text(mark, style), Text(text, style))
        console.print(Padding(grid, (0, 0, 0, 2), expand=False))
    else:
        console.print(Padding(Text(text, style), (0, 0, 0, 2), expand=False))


_MARK: dict[str, Any] = {"no_wrap": True}
_RIGHT: dict[str, Any] = {"justify": "right", **_MARK}
_TEXT: dict[str, Any] = {"overflow": "fold"}


def _grid(*columns: dict[str, Any], gap: int = 2) -> Table:
    """A table without lines, of such columns."""
    grid = Table.grid(padding=(0, gap, 0, 0))
    for options in columns:
        grid.add_column(**options)
    return grid


def _heading(console: Console, text: str, note: str = "") -> None:
    console.print()
    console.print(Text(text, "bold").append(f"  {note}" if note else "", "dim not bold"))


def _stages(hit_report: HitReport, console: Console, limit: int) -> None:
    """What other hunts saw on the device within a day, as one timeline."""
    zero = hit_report.hit.first_seen
    assert zero is not None  # noqa: S101 - a hit without a time has no stages
    _heading(console, "On this device", f"UTC, offsets from {zero.short()}; *: this hit")
    grid = _grid(_RIGHT, _MARK, _TEXT)
    for stage in hit_report.stages:
        own = stage.number == hit_report.number
        what = Text(for_terminal(stage.title), "bold" if own else "")
        if stage.said:
            what.append(f"  {_cut(stage.said, limit)}", "dim")
        number = f"{'*' if own else ' '} hit {stage.number}"
        grid.add_row(Text(offset(stage.at.since(zero)), "dim"), Text(number), what)
    console.print(Padding(grid, (0, 0, 0, 2)))


def _commands(hit_report: HitReport, console: Console, limit: int) -> None:
    uncounted = any(not note.counted for note in hit_report.commands)
    _heading(console, "Commands", "o: seen with them, not counted by the hunt" if uncounted else "")
    grid = _grid(_RIGHT, _MARK, {**_TEXT, "ratio": 3}, {**_TEXT, "ratio": 2})
    for note in hit_report.commands:
        line = Text(_cut(note.command.line, limit))
        if note.runs > 1:
            line.append(f"  x{note.runs:,}", "dim")
        if not note.counted and note.counted_by:
            line.append(f"  ({', '.join(note.counted_by)})", "dim")
        meaning = Text()
        for number, technique in enumerate(note.techniques):
            meaning.append(" " if number else "")
            meaning.append(technique.id, Style(color="cyan", link=technique.url))
        if note.reveals:
            meaning.append(f"{' ' if note.techniques else ''}{note.reveals}", "dim")
        when = Text(offset(note.offset) if note.offset is not None else "", "dim")
        grid.add_row(when, Text("*" if note.counted else "o"), line, meaning)
    console.print(Padding(grid, (0, 0, 0, 2)))


def _row(hit_report: HitReport, console: Console, limit: int) -> None:
    """The hunt's own columns, where it names no commands."""
    _heading(console, "Row")
    grid = _grid({**_TEXT, "max_width": 30}, _TEXT)
    for name, cell in hit_report.hit.row.items():
        grid.add_row(Text(_cut(name, _SHORT), "dim"), Text(_cut(cell_text(cell), limit)))
    console.print(Padding(grid, (0, 0, 0, 2), expand=False))


def _timeline(hit_report: HitReport, console: Console, limit: int, *, full: bool) -> None:
    zero = hit_report.zero
    _heading(console, "Timeline", f"UTC, offsets from {zero.short()}" if zero else "")
    grid = _grid(_RIGHT, _MARK, _TEXT)
    for row in timeline(hit_report, ReportDetails(), fold=not full)[0]:
        grid.add_row(*_entry(row, limit))
    console.print(Padding(grid, (0, 0, 0, 2)))


def _entry(row: TimelineRow, limit: int) -> tuple[Text, Text, Text]:
    if row.kind == "gap":
        return Text("", "dim"), Text("...", "dim"), Text(row.what, "dim")
    what = Text(_cut(row.what, limit), "dim" if row.look == "plain" else "")
    if row.by:
        what.append(f"  by {_cut(row.by, _SHORT)}", "dim")
    if row.kind == "process" and row.family:
        what.append(f"  {row.family}", "cyan")
    style = "bold" if row.mark == "*" else "dim"
    kind = Text(f"{row.mark or ' '} {row.kind}", "magenta bold" if row.kind == "alert" else style)
    return Text(row.offset, style), kind, what


def _tree_line(line: TreeLine, limit: int) -> Text:
    style = {"issuer": "bold", "other": "dim", "more": "dim"}.get(line.look, "")
    text = Text(f"{line.mark} " if line.mark else "").append(_cut(line.name, limit), style)
    if line.more:
        text.append(f"  {_cut(line.more, limit)}", "dim")
    return text.append(for_terminal(line.said), "yellow" if line.look == "issuer" else "dim")


def _cut(text: str, limit: int) -> str:
    shown = for_terminal(text[: limit + 1])
    if len(text) <= limit:
        return shown
    return f"{for_terminal(text[:limit])}... ({len(text):,} characters)"


def _entities(hit_report: HitReport, console: Console) -> None:
    _heading(console, "Entities", "queries to pivot with")
    for entity in hit_report.entities:
        name = Text(f"{entity.kind}  ", "dim")
        link = entity.links[0].url if entity.links else None
        name.append(_cut(entity.name, _SHORT), Style(bold=True, link=link))
        console.print(Padding(name, (0, 0, 0, 2)))
        details = "  ".join(
            f"{label}: {_cut(value, _SHORT)}" for label, value in entity.details
            if value != entity.name
        )  # fmt: skip
        if details:
            console.print(Padding(Text(details, "dim"), (0, 0, 0, 4)))
        # Not wrapped by us, so that what is copied is what was written.
        query = "".join(f"      {for_terminal(line)}\n" for line in entity.pivot.splitlines())
        console.print(Text(query), soft_wrap=True, end="")
