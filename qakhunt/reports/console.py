"""The result on a terminal: wide as a table, narrow as one block per hit.

Everything that came from a log passes ``safe.for_terminal`` and Rich's Text, so
neither escapes nor markup of an attacker act.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from qakhunt.answers.ledger import Verdict
from qakhunt.answers.plain import to_text
from qakhunt.reports.grouping import by_device
from qakhunt.reports.safe import for_terminal
from qakhunt.reports.summary import (
    context_lines,
    coverage_lines,
    delivery_line,
    faults,
    verdict_line,
)
from qakhunt.triage.words import count, span

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import RenderableType

    from qakhunt.kql.values import Instant
    from qakhunt.triage.hits import Hit
    from qakhunt.triage.run_result import RunResult

WIDE = 132
_STYLES = {
    Verdict.CLEAN: "bold green",
    Verdict.HITS: "bold red",
    Verdict.INCOMPLETE: "bold yellow",
    Verdict.FAILED: "bold magenta",
}


def show(result: RunResult, console: Console, *, suppressed: bool = False) -> None:
    """Print what is new of the hits, verdict and coverage; suppressed hits if asked."""
    _show_hits(result, result.news, console)
    if suppressed and result.suppressed_hits:
        console.print(Text("Suppressed", style="bold"))
        _show_hits(result, result.suppressed_hits, console)
    show_account(result, console)


def _show_hits(result: RunResult, hits: Sequence[Hit], console: Console) -> None:
    titles = {rendered.hunt.name: rendered.hunt.title for rendered in result.rendered}
    if len({hit.hunt for hit in hits}) > 1:
        _show_devices(hits, titles, console)
        return
    for name, title in titles.items():
        own = [hit for hit in hits if hit.hunt == name]
        if own:
            console.print(Text(for_terminal(title), style="bold"))
            console.print(_table(own) if console.width >= WIDE else _blocks(own))
            console.print()


def _show_devices(hits: Sequence[Hit], titles: Mapping[str, str], console: Console) -> None:
    """Hits of several hunts, by device, strongest first."""
    for group in by_device(hits):
        head = _text(group[0].device, "bold")
        if _place(group[0]):
            head.append("  ").append_text(_text(_place(group[0]), "dim"))
        hunts = len({hit.hunt for hit in group})
        console.print(head.append(f"  {count(hunts, 'hunt')}", "bold red"))
        for name, title in titles.items():
            own = [hit for hit in group if hit.hunt == name]
            if own:
                console.print(Padding(Text(for_terminal(title)), (0, 0, 0, 2), expand=False))
                console.print(Padding(_blocks(own), (0, 0, 0, 4), expand=False))


def show_account(result: RunResult, console: Console) -> None:
    """Print the verdict, what was looked at, and the warnings."""

    def indented(text: str, style: str) -> None:
        console.print(Padding(Text(for_terminal(text), style), (0, 0, 0, 2), expand=False))

    console.print(Text(for_terminal(verdict_line(result)), _STYLES[result.verdict]))
    troubled = len(faults(result))
    lines = coverage_lines(result)
    for number, line in enumerate(lines):
        indented(line, "yellow" if number >= len(lines) - troubled else "dim")
    for delivery in result.deliveries:
        indented(delivery_line(delivery), "red" if delivery.failed else "dim")
    for number, line in enumerate(context_lines(result)):
        indented(line, "yellow" if number else "dim")
    for warning in result.warnings:
        indented(f"warning: {warning}", "yellow")
    if result.sample:
        indented("This is the bundled sample: synthetic events, not your tenants.", "cyan")


def _table(hits: Sequence[Hit]) -> RenderableType:
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 1, 0))
    table.add_column("Device", overflow="fold", min_width=16)
    table.add_column("Account", overflow="fold", min_width=12)
    table.add_column("Workspace", overflow="fold", min_width=18)
    table.add_column("Distinct", justify="right", no_wrap=True)
    table.add_column("Total", justify="right", no_wrap=True)
    table.add_column("First and last seen (UTC)", no_wrap=True)
    table.add_column("Commands", overflow="fold", min_width=30)
    for hit in hits:
        table.add_row(
            _text(hit.device), _text(hit.account), _text(_place(hit)),
            _text(hit.distinct), _text(hit.total), _seen(hit), _commands(hit),
        )  # fmt: skip
    return table


def _blocks(hits: Sequence[Hit]) -> RenderableType:
    blocks: list[RenderableType] = []
    for number, hit in enumerate(hits, 1):
        head = Text(f"{number}. ").append_text(_text(hit.device, "bold"))
        if hit.account:
            head.append("  ").append_text(_text(hit.account))
        seen = Text(
            f"{to_text(hit.distinct) or '-'} distinct, {to_text(hit.total) or '-'} in total"
        )
        if hit.first_seen and hit.last_seen:
            seen.append(f", within {span(hit.last_seen.since(hit.first_seen).seconds)}", "bold")
        times = Text(_clock(hit.first_seen))
        if hit.last_seen:
            times.append(f" to {_clock(hit.last_seen)}")
        body: list[RenderableType] = [seen, times.append(" UTC")]
        if _place(hit):
            body.append(_text(_place(hit), "dim"))
        blocks += [head, Padding(Group(*body, _commands(hit)), (0, 0, 1, 3), expand=False)]
    return Group(*blocks)


def _place(hit: Hit) -> str | None:
    return hit.tenant or hit.workspace


def _text(value: object, style: str = "") -> Text:
    return Text("-" if value is None else for_terminal(str(value)), style=style)


def _seen(hit: Hit) -> Text:
    text = Text(_clock(hit.first_seen))
    if hit.last_seen is not None:
        text.append(f"\n{_clock(hit.last_seen)}")
        if hit.first_seen is not None:
            text.append(f"\nwithin {span(hit.last_seen.since(hit.first_seen).seconds)}", "bold")
    return text


def _clock(moment: Instant | None) -> str:
    return moment.isoformat()[:19].replace("T", " ") if moment else "-"


def _commands(hit: Hit) -> Text:
    text = Text()
    lines = [for_terminal(command.line) for command in hit.commands]
    width = min(max(map(len, lines), default=0), 44)
    for number, (line, command) in enumerate(zip(lines, hit.commands, strict=True)):
        text.append("\n" if number else "").append(line)
        if command.techniques:
            text.append(" " * max(2, width - len(line) + 2) + " ".join(command.techniques), "cyan")
    return text
