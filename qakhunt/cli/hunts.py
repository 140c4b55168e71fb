"""``qakhunt hunts`` and ``render``: the hunts that there are, shown, rendered and created."""

from __future__ import annotations

import shlex
import sys
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qakhunt.backends.kusto_query import DIALECT, PRODUCT, RefusedQuery, refuse_for_lake
from qakhunt.cli import checks, complete, rules
from qakhunt.cli import options as o
from qakhunt.cli.options import Panel
from qakhunt.cli.output import chosen_format, json_text, print_json, print_lines, screen, write_text
from qakhunt.core.errors import NotAvailableError
from qakhunt.core.safe_text import for_terminal, lines_for_terminal
from qakhunt.hunts.model import LOG_ANALYTICS
from qakhunt.hunts.window import PUBLISHED
from qakhunt.run.request import (
    HuntRequest,
    catalog,
    read_now,
    read_product,
    read_values,
    rendered_hunts,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console
    from rich.table import Table

    from qakhunt.hunts.model import Hunt
    from qakhunt.hunts.render import RenderedQuery
    from qakhunt.reports.software import SoftwareCoverage

app = o.new_app(no_args_is_help=True)
_LONG = 80
_CONTEXT = "context"
_FORMATS = ("table", "json", "navigator")


@app.callback()
def hunts() -> None:
    """List, show, create, check, export and import hunts."""


def render(
    hunt: o.OptionalHuntName = None,
    dialect: Annotated[
        o.Text,
        Panel.target(
            "--dialect",
            metavar="PRODUCT",
            help="log-analytics, defender or kusto.",
            autocompletion=complete.render_dialects,
        ),
    ] = None,
    command: o.Commands = None,
    commands: o.CommandsFile = None,
    add_command: o.AddedCommands = None,
    threshold: o.Threshold = None,
    set_: o.Settings = None,
    hunts: o.HuntFolders = None,
    window: o.WindowText = PUBLISHED,
    time_zone: o.TimeZone = None,
    now: o.Now = None,
    quiet: o.Quiet = False,
) -> None:
    """Print a hunt's KQL, ready to paste into the portal. Without a name: the Qakbot hunt."""
    request = HuntRequest(
        [hunt] if hunt else (), hunts or (), command or (), commands, add_command or (),
        threshold, read_values(set_ or ()), window, time_zone,
    )  # fmt: skip
    product = PRODUCT if dialect == DIALECT else read_product(dialect)
    found = rendered_hunts(request, now=read_now(now), product=product, strict=False)
    for rendered, warnings in found:
        if dialect == DIALECT:
            _refuse_for_lake(rendered)
        if not quiet:
            notes = [*rendered.notes, *filter(None, [rendered.partial])]
            lines = [f"warning: {text}" for text in (*rendered.warnings, *warnings)]
            print_lines([*lines, *(f"note: {text}" for text in notes)], to_stderr=True)
        text = rendered.text
        if sys.stdout.isatty():
            text = lines_for_terminal(text)
        sys.stdout.write(text if text.endswith("\n") else f"{text}\n")


def _refuse_for_lake(rendered: RenderedQuery) -> None:
    try:
        refuse_for_lake(rendered.text)
    except RefusedQuery as problem:
        raise NotAvailableError(
            f"{rendered.hunt.name} is not available for {DIALECT}: {problem.message}",
            location=rendered.locate(*problem.place), hint=problem.hint,
        ) from None  # fmt: skip


@app.command("list")
def list_hunts(
    everything: Annotated[
        bool, Panel.output("--all", help="Also list the hunts that collect context for others.")
    ] = False,
    hunts: o.HuntFolders = None,
    as_json: Annotated[
        bool, Panel.output("--json", help="Print JSON, always of all hunts.")
    ] = False,
) -> None:
    """List the hunts that can be named, by set."""
    found = catalog(hunts or ()).all()
    if as_json:
        entries = [
            {
                "name": hunt.name, "title": hunt.title, "id": hunt.id, "version": hunt.version,
                "products": list(hunt.products), "source": hunt.source,
            }
            for hunt in found
        ]  # fmt: skip
        print_json({"schema": "qakhunt.hunts/1", "hunts": entries})
        return
    from rich.table import Table
    from rich.text import Text

    from qakhunt.reports.console import unpadded
    from qakhunt.triage.words import count

    shown = [hunt for hunt in found if everything or hunt.notes.sets != (_CONTEXT,)]
    console = screen()
    width = max(len(for_terminal(hunt.name)) for hunt in found) + 2
    with unpadded(console):
        for (_, name), members in groupby(sorted(shown, key=_place), key=_place):
            console.print(Text(for_terminal(name), style="bold"))
            table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
            table.add_column(min_width=min(width, 40), overflow="fold")
            table.add_column(overflow="fold")
            for hunt in members:
                alone = "" if len(hunt.products) > 1 else f" ({hunt.products[0]} only)"
                cells = (f"  {hunt.name}", f"{hunt.title}{alone}")
                table.add_row(*(Text(for_terminal(cell)) for cell in cells))
            console.print(table)
    hidden = len(found) - len(shown)
    more = f"; --all adds {count(hidden, 'context hunt')}" if hidden else ""
    print(f"{count(len(shown), 'hunt')}{more}; 'qakhunt hunts show HUNT' describes one")


def _place(hunt: Hunt) -> tuple[int, str]:
    """Where a hunt stands in the list: Qakbot's set, other sets, hunts alone, context."""
    first = hunt.notes.sets[0] if hunt.notes.sets else ""
    order = {"qakbot": 0, "": 2, _CONTEXT: 3}.get(first, 1)
    return order, f"Set {first}" if first else "Hunts in no set"


@app.command()
def show(hunt: o.HuntName, hunts: o.HuntFolders = None) -> None:
    """Show a hunt: what it finds, its limits, how to run it, parameters, triage."""
    from qakhunt.reports.console import unpadded

    console = screen()
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


def _technique(identifier: str) -> str:
    from qakhunt.triage.hit_report import technique

    return f"{identifier} {technique(identifier).name}".rstrip()


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
    from qakhunt.hunts.parameters import script_of

    notes = hunt.notes.window
    if notes is None:
        own = f"its queryPeriod, {hunt.period}" if hunt.period else "its furthest ago(), else 30d"
        return f"{own}; --window changes it"
    spans = {
        let.name: hunt.query[let.value.start : let.value.end]
        for let in script_of(hunt).leading_lets
    }
    end = "up to and including" if notes.inclusive_end else "up to"
    return f"{spans.get(notes.start, '?')} {end} {spans.get(notes.end, '?')}; --window changes it"


@app.command()
def coverage(
    software: Annotated[
        o.Text,
        Panel.target(
            "--software", metavar="ID", help="Show ATT&CK's list of a malware, as S0650, beside it."
        ),
    ] = None,
    hunts: o.HuntFolders = None,
    format_: Annotated[str, o.text_format(*_FORMATS)] = "table",
    out: o.Out = None,
    as_json: o.AsJson = False,
    force: o.Force = False,
) -> None:
    """Show which ATT&CK techniques the hunts on this machine search for.

    With --software: each technique that ATT&CK lists for the malware, with the hunts for
    it or the reason why there is none.
    """
    from qakhunt.reports.navigator import coverage_layer, layer_text
    from qakhunt.reports.software import coverage_of

    found = catalog(hunts or ()).all()
    listed = coverage_of(software, found) if software else None
    format_ = chosen_format(format_, _FORMATS, as_json=as_json)
    if out is not None and format_ == "table":
        format_ = "navigator"
    if format_ == "table":
        _software_table(listed) if listed else _coverage_table(found)
        return
    if format_ == "navigator":
        named = {name for t in listed.techniques for name in t.hunts} if listed else None
        shown = [hunt for hunt in found if named is None or hunt.name in named]
        text = layer_text(coverage_layer(shown))
    else:
        text = _coverage_json(found, listed)
    write_text(text, out, force=force, private=False)


def _coverage_json(hunts: Sequence[Hunt], listed: SoftwareCoverage | None) -> str:
    from qakhunt.reports.navigator import techniques_of
    from qakhunt.triage.hit_report import technique

    return json_text(
        {
            "schema": "qakhunt.coverage/1",
            "techniques": [
                {"id": identifier, "name": technique(identifier).name, "hunts": names}
                for identifier, names in techniques_of(hunts).items()
            ],
            **({"software": listed.document()} if listed else {}),
        }
    )


def _technique_table(last: str) -> Table:
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("Technique", no_wrap=True)
    for heading in ("Name", last):
        table.add_column(heading, overflow="fold")
    return table


def _software_table(listed: SoftwareCoverage) -> None:
    from rich.text import Text

    table = _technique_table("Hunts, or why there is none")
    for one in listed.techniques:
        hunts = Text("\n".join(map(for_terminal, one.hunts)))
        table.add_row(one.id, Text(one.name), hunts if one.hunts else Text(one.gap, style="dim"))
    console = screen()
    console.print(table)
    console.print(
        f"{listed.id} {listed.name}, ATT&CK {listed.version}: "
        f"{listed.hunted} of {len(listed.techniques)} techniques are hunted"
    )


def _coverage_table(hunts: Sequence[Hunt]) -> None:
    from rich.text import Text

    from qakhunt.hunts.command_catalogue import families
    from qakhunt.reports.navigator import techniques_of
    from qakhunt.reports.software import coverage_of, lists
    from qakhunt.triage.hit_report import technique
    from qakhunt.triage.words import count

    found = techniques_of(hunts)
    table = _technique_table("Hunts")
    for identifier, names in found.items():
        cells = (identifier, technique(identifier).name, "\n".join(map(for_terminal, names)))
        table.add_row(*map(Text, cells))
    console = screen()
    console.print(table)
    known = families().families.values()
    absent = sorted({t for family in known for t in family.techniques} - found.keys())
    looking = sum(bool(hunt.techniques) for hunt in hunts)
    console.print(f"{count(len(found), 'technique')}, {count(looking, 'hunt')}")
    if absent:
        console.print("known discovery commands, but no hunt looks for: " + ", ".join(absent))
    for identifier in lists().software:
        listed = coverage_of(identifier, hunts)
        console.print(
            f"of ATT&CK's {len(listed.techniques)} techniques of {identifier}: {listed.hunted}; "
            f"--software {identifier} shows each"
        )


@app.command()
def new(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name of the new hunt, and of its file.")
    ],
    folder: Annotated[
        Path, Panel.output("--in", metavar="DIR", help="Folder to write to.", show_default=".")
    ] = Path(),
    force: o.Force = False,
) -> None:
    """Write a commented hunt to start from, with two test cases that pass."""
    from qakhunt.core.writing import check_target
    from qakhunt.hunts.catalog import new_hunt

    hunt, cases = new_hunt(name)
    path, tests = folder / f"{name}.yaml", folder / "tests" / f"{name}.yaml"
    check_target(path, force=force)
    tests.parent.mkdir(exist_ok=True)
    check_target(tests, force=force)
    write_text(hunt, path, force=force, private=False)
    write_text(cases, tests, force=force, private=False)
    print(path)
    print(tests)
    place = shlex.quote(str(path))
    print(f"hint: try 'qakhunt run {place}' and 'qakhunt test {place}'", file=sys.stderr)


app.command("lint")(checks.lint)
app.command("export")(rules.export)
app.command("import")(rules.import_rules)
