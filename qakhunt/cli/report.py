"""``qakhunt report``: a report of a saved result, to hand over."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

from qakhunt.cli import complete
from qakhunt.cli import options as o
from qakhunt.cli.options import Panel
from qakhunt.cli.output import Output, print_lines, write_export
from qakhunt.core.errors import UsageError, nearest
from qakhunt.run.request import read_now, read_zone
from qakhunt.triage.entities import CLOUDS, RESOURCE_HINT, Portals, is_workspace_resource
from qakhunt.triage.words import count

if TYPE_CHECKING:
    from collections.abc import Sequence

_GUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)


def report(
    result_file: o.ResultFile,
    format_: Annotated[
        o.Text,
        Panel.output(
            "--format", metavar="NAME", autocompletion=complete.report_formats,
            help="html (default), markdown, chat, navigator, or another format of run.",
        ),
    ] = None,
    out: Annotated[
        o.File,
        Panel.output("--out", metavar="PATH", help="File to write; with --split, a folder."),
    ] = None,
    split: Annotated[
        o.Text,
        Panel.output(
            "--split", metavar="BY", help="tenant: one file per customer.",
            autocompletion=complete.one_of("tenant"),
        ),
    ] = None,
    clean: Annotated[
        bool, Panel.output("--clean", help="With --split, write a file for clean customers too.")
    ] = False,
    force: o.Force = False,
    quiet: o.Quiet = False,
    tlp: Annotated[
        str,
        Panel.report(
            "--tlp", metavar="LEVEL", help="Marking: red, amber+strict, amber, green or clear.",
            autocompletion=complete.one_of("red", "amber+strict", "amber", "green", "clear"),
        ),
    ] = "",
    case: Annotated[str, Panel.report("--case", metavar="ID", help="Case of the report.")] = "",
    author: Annotated[str, Panel.report("--author", metavar="NAME", help="Author.")] = "",
    contact: Annotated[
        str, Panel.report("--contact", metavar="TEXT", help="Contact for questions.")
    ] = "",
    principal: Annotated[
        str, Panel.report("--principal", metavar="NAME", help="Account that ran the hunts.")
    ] = "",
    time_zone: Annotated[
        o.Text, Panel.report("--time-zone", metavar="ZONE", help="Show local times beside UTC.")
    ] = None,
    cloud: o.Cloud = None,
    workspace_resource: o.WorkspaceResources = None,
) -> None:  # fmt: skip
    """Create a report from a saved result, to hand over."""
    from qakhunt.answers.run_document import load_result
    from qakhunt.reports.details import ReportDetails

    if split not in (None, "tenant"):
        raise UsageError(f"--split {split!r}: a report can be split by tenant")
    details = ReportDetails(
        tlp=read_tlp(tlp), case=case, author=author, contact=contact, principal=principal,
        zone=read_zone(time_zone), made=read_now(None),
        portals=read_portals(cloud, workspace_resource),
    )  # fmt: skip
    if split is None:
        name = format_ or (None if out else "html")
        output = Output.of(name, out, as_json=False, csv_raw=False, force=force, quiet=quiet)
        if output.format is None:
            raise UsageError("a report is no table", hint="'qakhunt triage' shows the hits")
        result = load_result(result_file)
        write_export(result, output, details)
        return
    from qakhunt.reports.formats import format_named, write_parts

    chosen = format_named(format_ or "html")
    if out is None:
        raise UsageError("--split writes a file for each customer", hint="name a folder with --out")
    paths, left_out = write_parts(
        load_result(result_file), chosen, out, result_file.stem, details, clean=clean, force=force
    )
    print_lines(map(str, paths))
    if left_out and not quiet:
        words = f"no file for {count(left_out, 'clean customer')}; --clean writes one for each"
        print_lines([words], to_stderr=True)


def read_portals(cloud: str | None, resources: Sequence[str] | None) -> Portals:
    """The portals that links lead to. Raises UsageError."""
    if cloud is not None and cloud not in CLOUDS:
        raise UsageError(
            f"no cloud named {cloud!r}", hint=nearest(cloud, CLOUDS) or ", ".join(CLOUDS)
        )
    found = []
    for text in resources or ():
        guid, equals, resource = text.partition("=")
        if not equals:
            guid, resource = "", text
        if guid and not _GUID.fullmatch(guid.lower()):
            raise UsageError(f"--workspace-resource {text!r}: {guid!r} is no workspace's GUID")
        if not is_workspace_resource(resource):
            raise UsageError(
                f"--workspace-resource {text!r}: not the resource id of a workspace",
                hint=RESOURCE_HINT,
            )
        found.append((guid.lower(), resource))
    return Portals(cloud or "", tuple(found))


def read_tlp(text: str) -> str:
    """A level of the traffic light protocol, or nothing. Raises UsageError."""
    from qakhunt.reports.details import TLP

    if not text:
        return ""
    level = text.upper().removeprefix("TLP:").strip()
    if level not in TLP:
        raise UsageError(
            f"--tlp {text!r}: no such level",
            hint=nearest(level, TLP) or f"levels: {', '.join(TLP).lower()}",
        )
    return level
