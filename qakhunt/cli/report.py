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
Clean = Annotated[
    bool, typer.Option("--clean", help="With --split, write a file for clean customers, too.")
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
    clean: Clean = False,
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
    from qakhunt.answers.ledger import Verdict
    from qakhunt.answers.run_result import by_tenant
    from qakhunt.reports.formats import format_named
    from qakhunt.triage.words import count

    chosen = format_named(format_ or "html")
    if out is None:
        raise UsageError("--split writes a file for each customer", hint="name a folder with --out")
    parts = by_tenant(load_result(result_file))
    kept = {
        whose: part for whose, part in parts.items() if clean or part.verdict is not Verdict.CLEAN
    }
    _write_parts(kept, chosen, out, result_file.stem, details, force=force)
    if len(kept) < len(parts) and not quiet:
        left = count(len(parts) - len(kept), "clean customer")
        print(f"no file for {left}; --clean writes one for each", file=sys.stderr)


def _write_parts(
    parts: dict[str, RunResult],
    format_: Format,
    folder: Path,
    stem: str,
    details: ReportDetails,
    *,
    force: bool,
) -> None:
    """A file for each customer, named by its profile and its tenant."""
    from qakhunt.answers.ledger import whom
    from qakhunt.core.writing import check_target, whole_file
    from qakhunt.reports.details import ExportOptions

    if not folder.is_dir():
        raise OutputError(f"no such folder: {folder}", hint="make the folder first")
    files: dict[Path, tuple[str, RunResult]] = {}
    for number, (whose, part) in enumerate(parts.items(), 1):
        label = whom(", ".join(_profiles(part)) or "-", whose, None)
        name = f"{stem}-{_UNSAFE.sub('_', label).strip('_')}"
        path = folder / f"{name}{_suffix(format_)}"
        if path in files:  # two names that differ in what a file name cannot hold
            path = folder / f"{name}-{number}{_suffix(format_)}"
        files[path] = (label, part)
    for path in files:
        check_target(path, force=force)
    for path, (label, part) in files.items():
        own = ExportOptions(details=replace(details, tenant=label))
        with whole_file(path, force=force) as temporary, temporary.open("wb") as stream:
            format_.write(part, stream, own)
        print(path, file=sys.stdout)


def _profiles(part: RunResult) -> list[str]:
    """The first profiles of a customer: a file's name has an end."""
    return list(dict.fromkeys(line.profile for line in part.ledger.lines))[:3]


def _suffix(format_: Format) -> str:
    return format_.suffixes[0] if format_.suffixes else f".{format_.name}.json"
