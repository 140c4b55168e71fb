"""``qakhunt hunts``: list, show, make and lint hunts."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from qakhunt.cli import lint
from qakhunt.cli import options as o
from qakhunt.cli.request import catalog
from qakhunt.core.safe_text import for_json, for_terminal
from qakhunt.hunts.model import LOG_ANALYTICS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console

    from qakhunt.hunts.model import Hunt

app = o.new_app(no_args_is_help=True)
_LONG = 80
app.command("lint")(lint.lint)


@app.command("list")
def list_hunts(hunts: o.HuntFolders = None, as_json: o.AsJson = False) -> None:
    """List the hunts that can be named."""
    found = catalog(hunts or ()).all()
    if as_json:
        entries = [
            {
                "name": hunt.name, "title": hunt.title, "id": hunt.id, "version": hunt.version,
                "products": list(hunt.products), "source": hunt.source,
            }
            for hunt in found
        ]  # fmt: skip
        document = {"schema": "qakhunt.hunts/1", "hunts": entries}
        print(for_json(json.dumps(document, ensure_ascii=False, indent=2)))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("Hunt", "Title", "Version", "Products", "Sets"):
        table.add_column(heading, overflow="fold")
    for hunt in found:
        cells = (
            hunt.name, hunt.title, hunt.version, ", ".join(hunt.products),
            ", ".join(hunt.notes.sets),
        )  # fmt: skip
        table.add_row(*(Text(for_terminal(cell)) for cell in cells))
    Console().print(table)


@app.command()
def show(hunt: o.HuntName, hunts: o.HuntFolders = None) -> None:
    """Show a hunt: what it finds, its limits, how to run it, parameters, triage."""
    from rich.console import Console

    from qakhunt.reports.console import unpadded

    console = Console(highlight=False, markup=False)
    with unpadded(console):
        for number, found in enumerate(catalog(hunts or ()).find(hunt)):
            if number:
                console.print()
            _show(found, hunt, console)


def _show(hunt: Hunt, name: str, console: Console) -> None:
    from rich.text import Text

    from qakhunt.reports.console import indented
    from qakhunt.triage.words import prose

    def part(title: str, entries: Iterable[str], *, listed: bool = True) -> None:
        entries = [entry for entry in entries if entry]
        if entries:
            console.print(Text(f"\n{title}", style="bold"))
        for entry in entries:
            if entry.startswith("https://") and " " not in entry:  # to be copied, so never wrapped
                console.print(Text(f"  {for_terminal(entry)}"), soft_wrap=True)
            else:
                indented(console, f"- {prose(entry)}" if listed else prose(entry), "")

    version = f", version {hunt.version}" if hunt.version else ""
    console.print(Text(for_terminal(hunt.title), style="bold"))
    indented(console, f"{hunt.name}{version}, {hunt.source}", "dim")
    part("What it finds", [hunt.description], listed=False)
    part("Known limits", hunt.notes.limits)
    part("How to run it", _run_lines(hunt, name), listed=False)
    part("Window", [_window_line(hunt)], listed=False)
    part("Parameters (--set NAME=VALUE)", _parameter_lines(hunt) or ["none"], listed=False)
    part("Triage", hunt.notes.triage)
    part("False positives", hunt.notes.false_positives)
    part("Evidence", _evidence_lines(hunt))
    techniques = [_technique(technique) for technique in hunt.techniques]
    part("ATT&CK", [", ".join(hunt.notes.software), *techniques])
    part("Data sources", [", ".join(hunt.notes.data_sources)], listed=False)
    part("References", hunt.notes.references)
    console.print(Text("\nFile", style="bold"))
    console.print(Text(f"  {for_terminal(hunt.path)}"), soft_wrap=True)


def _run_lines(hunt: Hunt, name: str) -> list[str]:
    """The commands that run and render it, as typed."""
    import shlex

    called = shlex.quote(name)
    other = [product for product in hunt.products if product != LOG_ANALYTICS]
    lines = [f"qakhunt run {called}", f"qakhunt run {called} --profile NAME --window 30d"]
    lines.append(f"qakhunt render {called}" + (f" --dialect {other[0]}" if other else ""))
    return [*lines, f"(written for {', '.join(hunt.products)})"]


def _evidence_lines(hunt: Hunt) -> tuple[str, ...]:
    """What 'qakhunt evaluate --record' measured, or nothing."""
    from qakhunt.testing.evidence import evidence_of, is_of, lines_of

    found = evidence_of(hunt)
    if found is None:
        return ()
    stale = (
        () if is_of(found, hunt) else ("measured on another text of this hunt: measure it again",)
    )
    return (*stale, *lines_of(found))


def _technique(technique: str) -> str:
    from qakhunt.hunts.command_catalogue import families

    name = families().techniques.get(technique)
    return f"{technique} {name}" if name else technique


def _parameter_lines(hunt: Hunt) -> list[str]:
    """Each parameter with its default; a long one folded, since 'render' shows all of it."""
    from qakhunt.answers.cells import to_text
    from qakhunt.hunts.parameters import parameters_of
    from qakhunt.triage.words import count, short_list

    options = {"commands": "--command", "threshold": "--threshold"}
    lines = []
    for parameter in parameters_of(hunt).values():
        default = to_text(parameter.default)
        if len(default) > _LONG and isinstance(parameter.default, list):
            entries = [to_text(entry)[:_LONG] for entry in parameter.default]
            default = f"{count(len(entries), 'entry', 'entries')}: {short_list(entries)}"
        elif len(default) > _LONG:
            default = f"{default[:_LONG]}... ({len(default):,} characters)"
        option = options.get(parameter.role or "")
        lines.append(f"{parameter.name}: {parameter.kql_type} = {default}")
        notes = " ".join(filter(None, [parameter.help, f"({option})" if option else ""]))
        lines += [f"- {notes}"] if notes else []
    return lines


def _window_line(hunt: Hunt) -> str:
    from qakhunt.hunts.parameters import leading_lets, query_tokens

    notes = hunt.notes.window
    if notes is None:
        own = f"its queryPeriod, {hunt.period}" if hunt.period else "its furthest ago(), else 30d"
        return f"{own}; --window changes it"
    spans = {
        let.name: hunt.query[let.value_start : let.value_end]
        for let in leading_lets(query_tokens(hunt))
    }
    end = "up to and including" if notes.inclusive_end else "up to"
    return f"{spans.get(notes.start, '?')} {end} {spans.get(notes.end, '?')}; --window changes it"


@app.command()
def coverage(
    hunts: o.HuntFolders = None,
    format_: Annotated[
        str, typer.Option("--format", metavar="NAME", help="table, json or navigator.")
    ] = "table",
    out: Annotated[
        Optional[Path],  # noqa: UP045 - typer reads it at run time on 3.10
        typer.Option("--out", metavar="PATH", help="Write to a file."),
    ] = None,
    as_json: o.AsJson = False,
    force: o.Force = False,
) -> None:
    """Show which ATT&CK techniques the hunts on this machine look for."""
    from qakhunt.cli import coverage as parts

    parts.show_coverage(
        catalog(hunts or ()).all(), "json" if as_json else format_, out, force=force
    )


@app.command()
def new(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The new hunt's name, also its file's.")
    ],
    folder: Annotated[
        Path, typer.Option("--in", metavar="DIR", help="The folder to put it in.")
    ] = Path(),
    force: o.Force = False,
) -> None:
    """Write a commented hunt file to start from."""
    from qakhunt.core.writing import whole_file
    from qakhunt.hunts.skeleton import check_name, skeleton

    check_name(name)
    path = folder / f"{name}.yaml"
    with whole_file(path, force=force, private=False) as temporary:
        temporary.write_text(skeleton(name), encoding="utf-8", newline="\n")
    print(path)
    print(f"hint: try 'qakhunt run {path}'", file=sys.stderr)
