"""The result on a terminal: a table of hits, a hunt's own columns, coverage, verdict, next steps.

Everything that came from a log passes ``safe.for_terminal`` and Rich's Text, so
neither escapes nor markup of an attacker act.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from qakhunt.answers.findings import EPISODE_GAP
from qakhunt.answers.ledger import Verdict
from qakhunt.core.safe_text import for_terminal
from qakhunt.reports.summary import (
    context_lines,
    coverage_lines,
    coverage_rows,
    delivery_line,
    problems,
    verdict_line,
    warning_lines,
)
from qakhunt.reports.view import cut, report_view, suppressed_view
from qakhunt.triage.assessment import Kind
from qakhunt.triage.words import count, span

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType

    from qakhunt.answers.run_result import RunResult
    from qakhunt.reports.summary import CoverageRow, Problem
    from qakhunt.reports.view import FindingView, HitView, OwnTable, ReportView

WIDE, WIDE_ENOUGH = 80, 110
LONGEST = 400
MOST_WHOLE = 10
"""Findings that are shown with their commands."""
_INDENT = (0, 0, 0, 2)
_GAP = span(EPISODE_GAP.seconds)
_RIGHT = (0, 3)
_STYLES = {
    Verdict.CLEAN: "bold green",
    Verdict.HITS: "bold red",
    Verdict.INCOMPLETE: "bold yellow",
    Verdict.FAILED: "bold magenta",
}
KIND_STYLES = {
    Kind.QAKBOT: "bold red",
    Kind.LOADER: "bold red",
    Kind.INVENTORY: "bold blue",
    Kind.ADMINISTRATION: "bold blue",
    Kind.UNCLEAR: "bold yellow",
}


@contextmanager
def unpadded(console: Console) -> Iterator[None]:
    """Where no terminal shows it, what is printed inside has no blanks at its line ends."""
    if console.is_terminal:
        yield
        return
    with console.capture() as caught:
        yield
    console.file.write("\n".join(line.rstrip(" ") for line in caught.get().split("\n")))


def show(result: RunResult, console: Console, *, suppressed: bool = False) -> None:
    """Print what is new of the hits, suppressed ones if asked, then the account of the run."""
    view = report_view(result, only_new=True)
    with unpadded(console):
        _show_hits(view, console)
        if suppressed and result.suppressed_hits:
            console.print(Text("Suppressed", style="bold"))
            _show_hits(suppressed_view(result), console)
        _account(result, console)
        steps = Table.grid(padding=(0, 1, 0, 0))
        for number, step in enumerate(view.steps):
            steps.add_row(Text("" if number else "  next:"), _text(step))
        if view.steps:
            console.print(steps)


def show_account(result: RunResult, console: Console) -> None:
    """Print what was covered, the warnings and, last, the verdict."""
    with unpadded(console):
        _account(result, console)


def _account(result: RunResult, console: Console) -> None:
    for line in coverage_lines(result):
        indented(console, line, "dim")
    rows = coverage_rows(result)
    if len(rows) > 1:
        console.print(Padding(_tenants(rows, console.width), _INDENT, expand=False))
    show_problems(problems(result.ledger.lines), console)
    for delivery in result.deliveries:
        indented(console, delivery_line(delivery), "red" if delivery.failed else "dim")
    for number, line in enumerate(context_lines(result)):
        indented(console, line, "yellow" if number else "dim")
    for warning in warning_lines(result):
        indented(console, f"warning: {warning}", "yellow")
    if result.sample:
        indented(console, "This is the bundled sample: synthetic events, not your tenants.", "cyan")
    console.print(Text(for_terminal(verdict_line(result)), _STYLES[result.verdict]))


def _tenants(rows: Sequence[CoverageRow], width: int) -> Table:
    """One line per tenant; its source records where there is room."""
    grid = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    grid.add_column("Tenant", overflow="fold")
    grid.add_column("Complete", no_wrap=True)
    grid.add_column("Hits", justify="right")
    sources = width >= WIDE_ENOUGH and any(row.source for row in rows)
    if sources:
        grid.add_column("Source records")
    for row in rows:
        style = "dim" if row.complete == row.queries else "yellow"
        complete = f"{row.complete:,} of {row.queries:,}"
        cells = [row.tenant, complete, row.hits, *([row.source] if sources else [])]
        grid.add_row(*(_text(cell, style) for cell in cells))
    return grid


def show_problems(found: Sequence[Problem], console: Console) -> None:
    """What is not complete, and why: a sentence for one, else a table."""
    if len(found) == 1 or console.width < WIDE:
        for problem in found:
            indented(console, problem.sentence, "yellow")
    elif found:
        grid = Table(box=None, header_style="yellow", pad_edge=False, padding=(0, 2, 0, 0))
        grid.add_column("Not complete", overflow="fold", max_width=console.width // 2)
        grid.add_column("Why", overflow="fold")
        for problem in found:
            where = _text(problem.places)
            where.append("\n").append_text(_text(problem.asked, "dim"))
            grid.add_row(where, _text(problem.reason, "yellow"))
        console.print(Padding(grid, _INDENT, expand=False))


def indented(console: Console, text: str, style: str, by: int = 2) -> None:
    """A paragraph with its lines indented."""
    console.print(Padding(Text(for_terminal(text), style), (0, 0, 0, by), expand=False))


def _show_hits(view: ReportView, console: Console) -> None:
    titles = {r.hunt.name: r.hunt.title for r in view.result.rendered}
    hunts = {hit.hit.hunt for finding in view.findings for hit in finding.hits}
    if view.findings:
        several = len(hunts) > 1
        title = count(len(view.findings), "finding") if several else titles.get(hunts.pop(), "")
        heading = Text(for_terminal(title), style="bold")
        if any(len(finding.hits) > 1 for finding in view.findings):
            heading.append(f"  hits on one device up to {_GAP} apart are one", "not bold dim")
        console.print(heading)
        columns = _Columns(view.findings, console.width)
        if columns.fit:
            console.print(columns.heading(), no_wrap=True)
        for at, finding in enumerate(view.findings):
            shown = titles if several else {}
            _show_finding(finding, columns, console, shown, whole=at < MOST_WHOLE)
        left = len(view.findings) - MOST_WHOLE
        if left > 0:
            rest = f"the commands of the other {left:,}: --out FILE.html, or 'qakhunt triage'"
            console.print(_text(rest, "dim"))
        console.print()
    for table in view.tables:
        heading = Text(for_terminal(table.title), style="bold")
        console.print(heading.append(f"  {count(len(table.rows), 'row')}", "not bold dim"))
        console.print(_own(table, console.width))
        console.print()


class _Columns:
    """The widths of device, account, distinct, when and assessment; ``fit`` from 80 columns on."""

    def __init__(self, findings: Sequence[FindingView], width: int) -> None:
        self.fit = width >= WIDE
        self.gap = 2 if width >= WIDE_ENOUGH else 1
        views = [finding.worst for finding in findings]
        number = max(len(str(view.hit_report.number)) for view in views)
        when = 30 if width >= WIDE_ENOUGH else 17
        assessment = 24 if width >= WIDE_ENOUGH else 13
        left = width - number - 8 - when - assessment - 5 * self.gap
        device = max(6, *(len(for_terminal(view.device)) for view in views))
        account = max(7, *(len(for_terminal(view.hit.account or "-")) for view in views))
        if device + account > left:
            account = min(account, max(8, left - device))
            device = left - account
        self.widths = (number, device, account, 8, when, assessment)
        self.indent = number + self.gap

    def row(self, cells: Sequence[Text]) -> RenderableType:
        """One row of the table; what does not fit continues below."""
        aligned = list(zip(cells, self.widths, strict=True))
        if all(cell.cell_len <= width for cell, width in aligned):  # Rich's tables are slow
            line = Text()
            for at, (cell, width) in enumerate(aligned):
                blank = " " * (width - cell.cell_len)
                line.append(blank if at in _RIGHT else "").append_text(cell)
                line.append(("" if at in _RIGHT else blank) + " " * self.gap)
            line.rstrip()
            return line
        grid = Table.grid(padding=(0, self.gap, 0, 0))
        for at, width in enumerate(self.widths):
            grid.add_column(width=width, overflow="fold", justify="right" if at in _RIGHT else None)  # type: ignore[arg-type]
        grid.add_row(*cells)
        return grid

    def heading(self) -> RenderableType:
        """The names of the columns."""
        names = ("", "Device", "Account", "Distinct", "When (UTC)", "Assessment")
        return self.row([Text(name, "bold") for name in names])


def _show_finding(
    finding: FindingView, columns: _Columns, console: Console, titles: dict[str, str], *,
    whole: bool,
) -> None:  # fmt: skip
    """The worst hit as a row; beneath it the hunts that agree and the commands of all hits."""
    view = finding.worst
    hit, style = view.hit, KIND_STYLES[view.hit_report.assessment.kind]
    device, distinct = _text(view.device, "bold"), _distinct(finding)
    if columns.fit:
        cells = [
            Text(str(view.hit_report.number), "dim"), device, _text(hit.account),
            Text(distinct), Text(_when(view)), Text(view.title, style),
        ]  # fmt: skip
        console.print(columns.row(cells))
    else:
        console.print(Text(f"{view.hit_report.number}. ").append_text(device))
        facts = f"{distinct} distinct, {'-' if hit.total is None else hit.total} in total"
        indented(console, f"{hit.account or '-'}, {facts}", "")
        indented(console, f"{_when(view)} UTC", "")
        console.print(Padding(Text(view.title, style), (0, 0, 0, 2), expand=False))
    by = columns.indent if columns.fit else 2
    lines = list(_found_by(finding, titles))
    lines = [*lines, *_commands(finding, console.width - by)] if whole else lines[:1]
    if max(line.cell_len for line in lines) <= console.width - by:
        console.print(Text("\n").join(Text(" " * by).append_text(line) for line in lines))
    else:
        console.print(Padding(Group(*lines), (0, 0, 0, by), expand=False))


def _distinct(finding: FindingView) -> str:
    return "-" if finding.distinct is None else f"{finding.distinct:,}"


def _when(view: HitView) -> str:
    return f"{view.seen}{f', {view.length}' if view.length != '-' else ''}"


def _found_by(finding: FindingView, titles: dict[str, str]) -> Iterator[Text]:
    """Where it was found and by which hunts; of several hits each with its number."""
    view = finding.worst
    if len(finding.hits) == 1:
        title = titles.get(view.hit.hunt)
        yield _text(f"{title}, {view.place}" if title else view.place, "dim")
        return
    agree = f"{len(finding.hunts)} hunts agree" if len(finding.hunts) > 1 else ""
    yield _text(", ".join(filter(None, [view.place, agree])), "dim")
    for one in sorted(finding.hits, key=lambda v: v.hit_report.number):
        title = titles.get(one.hit.hunt, one.hit.hunt)
        elsewhere = f", {one.place}" if not view.place.startswith(one.place) else ""
        yield _text(f"hit {one.hit_report.number}: {title}{elsewhere}", "dim")


def _commands(finding: FindingView, width: int) -> Iterator[Text]:
    """The commands of all hits, each once, with their techniques, side by side where short."""
    fullest = sorted(finding.hits, key=lambda v: -len(v.hit.commands))
    commands = {command.line: command for view in fullest for command in view.hit.commands}
    items = []
    for command in commands.values():
        items.append((_text(cut(command.line, LONGEST)), " ".join(command.techniques)))
    longest = max((text.cell_len for text, _ in items), default=0)
    techniques = max((len(more) for _, more in items), default=0)
    across = max(1, width // (longest + techniques + 4))
    for at in range(0, len(items), across):
        line = Text()
        for text, more in items[at : at + across]:
            blank = min(longest, max(width // 2, text.cell_len)) - text.cell_len
            line.append_text(text).append(" " * blank)
            line.append(f"  {more:<{techniques}}  ", "cyan")
        line.rstrip()
        yield line


def _own(table: OwnTable, width: int) -> RenderableType:
    """A hunt's own columns: as a table where it fits, else a list for each row."""
    widths = [
        max(len(name), min(max(len(row[at]) for _, row in table.rows), 16))
        for at, name in enumerate(table.names)
    ]
    if sum(widths) + 2 * len(widths) <= width:
        grid = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
        for name, least in zip(table.names, widths, strict=True):
            grid.add_column(_text(name), overflow="fold", min_width=least)
        for _, row in table.rows:
            grid.add_row(*(_text(cut(cell, LONGEST), "dim" * (cell == "-")) for cell in row))
        return grid
    blocks: list[RenderableType] = []
    for number, row in table.rows:
        filled = table.filled(row)
        block = Table.grid(padding=(0, 2, 0, 0))
        block.add_column(overflow="fold", max_width=max(12, width // 3))
        block.add_column(overflow="fold")
        for name, cell in filled:
            block.add_row(_text(name, "dim"), _text(cut(cell, LONGEST)))
        empty = len(row) - len(filled)
        note = f"  {count(empty, 'empty column')}" if empty else ""
        blocks += [
            Text(f"{number}.").append(note, "dim"),
            Padding(block, (0, 0, 0, 2), expand=False),
        ]
    return Group(*blocks)


def _text(value: str | None, style: str = "") -> Text:
    return Text("-" if value is None else for_terminal(value), style=style)
