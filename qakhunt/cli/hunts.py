"""``qakhunt hunts``: list, show, make and lint hunts."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from qakhunt.cli import lint
from qakhunt.cli import options as o
from qakhunt.cli.request import catalog
from qakhunt.reports.safe import for_json, for_terminal

if TYPE_CHECKING:
    from qakhunt.hunts.model import Hunt

app = o.new_app(no_args_is_help=True)
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
    """Show a hunt: parameters, window, techniques, triage, limits."""
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    for number, found in enumerate(catalog(hunts or ()).find(hunt)):
        if number:
            console.print()
        _show(found, console)


def _show(hunt: Hunt, console: Any) -> None:
    from rich.padding import Padding
    from rich.text import Text

    def heading(text: str) -> None:
        console.print(Text(f"\n{text}", style="bold"))

    def paragraph(text: str) -> None:
        console.print(Padding(Text(for_terminal(text)), (0, 0, 0, 2)))

    def items(title: str, entries: tuple[str, ...]) -> None:
        if entries:
            heading(title)
            for entry in entries:
                console.print(Padding(Text(f"- {for_terminal(entry)}"), (0, 0, 0, 2)))

    console.print(Text(for_terminal(hunt.title), style="bold"))
    version = f", version {hunt.version}" if hunt.version else ""
    paragraph(f"{hunt.name}{version}, {hunt.source}: {hunt.path}")
    if hunt.description:
        console.print()
        paragraph(" ".join(hunt.description.split()))
    heading("Parameters")
    for line in _parameter_lines(hunt) or ["none"]:
        paragraph(line)
    heading("Window")
    paragraph(_window_line(hunt))
    heading("For")
    paragraph(", ".join(hunt.products))
    software = ", ".join(hunt.notes.software)
    techniques = [_technique(t) for t in hunt.techniques]
    items("ATT&CK", tuple(filter(None, [software, *techniques])))
    items("Data sources", hunt.notes.data_sources)
    items("Triage", hunt.notes.triage)
    items("False positives", hunt.notes.false_positives)
    items("Evidence", _evidence_lines(hunt))
    items("Known limits", hunt.notes.limits)
    items("References", hunt.notes.references)


def _evidence_lines(hunt: Hunt) -> tuple[str, ...]:
    """What 'qakhunt evaluate --record' measured, or nothing."""
    from qakhunt.proving.evidence import evidence_of, is_of, lines_of

    found = evidence_of(hunt)
    if found is None:
        return ()
    stale = (
        () if is_of(found, hunt) else ("measured on another text of this hunt: measure it again",)
    )
    return (*stale, *lines_of(found))


def _technique(technique: str) -> str:
    from qakhunt.families.data import families

    name = families().techniques.get(technique)
    return f"{technique} {name}" if name else technique


def _parameter_lines(hunt: Hunt) -> list[str]:
    from qakhunt.answers.plain import to_text
    from qakhunt.hunts.parameters import parameters_of

    options = {"commands": "--command", "threshold": "--threshold"}
    lines = []
    for parameter in parameters_of(hunt).values():
        lines.append(f"{parameter.name}: {parameter.kql_type} = {to_text(parameter.default)}")
        option = options.get(parameter.role or "")
        notes = " ".join(filter(None, [parameter.help, f"({option})" if option else ""]))
        if notes:
            lines.append(f"    {notes}")
    return lines


def _window_line(hunt: Hunt) -> str:
    from qakhunt.hunts.parameters import leading_lets, query_tokens

    notes = hunt.notes.window
    if notes is None:
        return "as its own filters on time say; now() and ago() are those of the run"
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
    from qakhunt.hunts.skeleton import check_name, skeleton
    from qakhunt.reports.writing import whole_file

    check_name(name)
    path = folder / f"{name}.yaml"
    with whole_file(path, force=force, private=False) as temporary:
        temporary.write_text(skeleton(name), encoding="utf-8", newline="\n")
    print(path)
    print(f"hint: try 'qakhunt run {path}'", file=sys.stderr)
