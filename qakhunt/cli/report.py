"""``qakhunt report``: a saved result as something to hand over."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from qakhunt.cli import options as o
from qakhunt.cli import report_options as ro
from qakhunt.cli.output import Output, write_export
from qakhunt.cli.request import read_now, read_zone
from qakhunt.core.errors import OutputError, UsageError

if TYPE_CHECKING:
    from qakhunt.answers.run_result import RunResult
    from qakhunt.reports.details import ReportDetails
    from qakhunt.reports.formats import Format

app = o.new_app()

ResultFile = Annotated[
    Path, typer.Argument(metavar="RESULT.json", help="What 'qakhunt run --json' wrote.")
]
FormatName = Annotated[
    Optional[str],  # noqa: UP045 - typer reads it at run time on 3.10
    typer.Option(
        "--format", metavar="NAME",
        help="html (the default), markdown, chat, navigator, or any format of run.",
    ),
]  # fmt: skip
Out = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--out", metavar="PATH", help="Write to a file; with --split, into a folder."),
]
Split = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--split", metavar="BY", help="tenant: one file for each customer."),
]
TimeZone = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--time-zone", metavar="ZONE", help="Show local times beside UTC."),
]
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


@app.command()
def report(
    result_file: ResultFile,
    format_: FormatName = None,
    out: Out = None,
    split: Split = None,
    tlp: ro.Tlp = "",
    case: ro.Case = "",
    author: ro.Author = "",
    contact: ro.Contact = "",
    principal: ro.Principal = "",
    time_zone: TimeZone = None,
    cloud: ro.Cloud = None,
    workspace_resource: ro.Resources = None,
    force: o.Force = False,
    quiet: o.Quiet = False,
) -> None:
    """Make a report of a saved result, to hand over."""
    from qakhunt.answers.run_document import load_result
    from qakhunt.reports.details import ReportDetails

    if split not in (None, "tenant"):
        raise UsageError(f"--split {split!r}: a report can be split by tenant")
    details = ReportDetails(
        tlp=ro.read_tlp(tlp), case=case, author=author, contact=contact, principal=principal,
        zone=read_zone(time_zone), made=read_now(None),
        portals=ro.read_portals(cloud, workspace_resource),
    )  # fmt: skip
    if split is None:
        name = format_ or (None if out else "html")
        output = Output.of(name, out, as_json=False, csv_raw=False, force=force, quiet=quiet)
        if output.format is None:
            raise UsageError("a report is no table", hint="'qakhunt triage' shows the hits")
        result = load_result(result_file)
        write_export(result, output, details)
        return
    from qakhunt.reports.formats import format_named

    chosen = format_named(format_ or "html")
    if out is None:
        raise UsageError("--split writes a file for each customer", hint="name a folder with --out")
    _write_parts(load_result(result_file), chosen, out, result_file.stem, details, force=force)


def _write_parts(
    result: RunResult,
    format_: Format,
    folder: Path,
    stem: str,
    details: ReportDetails,
    *,
    force: bool,
) -> None:
    from qakhunt.answers.run_result import by_tenant
    from qakhunt.core.writing import check_target, whole_file
    from qakhunt.reports.details import ExportOptions

    if not folder.is_dir():
        raise OutputError(f"no such folder: {folder}", hint="make the folder first")
    parts: dict[Path, tuple[str, RunResult]] = {}
    for number, (whose, part) in enumerate(by_tenant(result).items(), 1):
        name = f"{stem}-{_UNSAFE.sub('_', whose)}"
        path = folder / f"{name}{_suffix(format_)}"
        if path in parts:  # two names that differ in what a file name cannot hold
            path = folder / f"{name}-{number}{_suffix(format_)}"
        parts[path] = (whose, part)
    for path in parts:
        check_target(path, force=force)
    for path, (whose, part) in parts.items():
        own = ExportOptions(details=replace(details, tenant=whose))
        with whole_file(path, force=force) as temporary, temporary.open("wb") as stream:
            format_.write(part, stream, own)
        print(path, file=sys.stdout)


def _suffix(format_: Format) -> str:
    return format_.suffixes[0] if format_.suffixes else f".{format_.name}.json"
