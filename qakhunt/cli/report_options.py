"""Options of a report: where its links lead, and what it says of itself."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from qakhunt.core.errors import UsageError, nearest
from qakhunt.triage.entities import CLOUDS, RESOURCE_HINT, Portals, is_workspace_resource

if TYPE_CHECKING:
    from collections.abc import Sequence

Cloud = Annotated[
    Optional[str],  # noqa: UP045 - typer reads it at run time on 3.10
    typer.Option(
        "--cloud",
        metavar="NAME",
        help=f"Whose portals links lead to, if not the profile's: {', '.join(CLOUDS)}.",
    ),
]
Resources = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(
        "--workspace-resource", metavar="[GUID=]ID",
        help="A workspace's Azure resource id, for links to Logs in the Azure portal, "
        "if the profile names none.",
    ),
]  # fmt: skip
Tlp = Annotated[
    str,
    typer.Option("--tlp", metavar="LEVEL", help="Marking: red, amber+strict, amber, green, clear."),
]
Case = Annotated[str, typer.Option("--case", metavar="ID", help="The case that the report is for.")]
Author = Annotated[str, typer.Option("--author", metavar="NAME", help="Who made the report.")]
Contact = Annotated[str, typer.Option("--contact", metavar="TEXT", help="Whom to ask about it.")]
Principal = Annotated[
    str, typer.Option("--principal", metavar="NAME", help="The account that ran the hunts.")
]
_GUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)


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
