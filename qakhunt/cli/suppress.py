"""``qakhunt suppress``: findings that are known to be benign, in a file to review."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from qakhunt.cli import complete
from qakhunt.cli import options as o
from qakhunt.cli.output import print_lines
from qakhunt.core.errors import UsageError
from qakhunt.run.request import read_now
from qakhunt.triage.suppressions import (
    CONDITIONS,
    Suppression,
    add_entry,
    check_entry,
    load_suppressions,
)

app = o.new_app(help="Suppress findings that are known to be benign.")

File = Annotated[Path, typer.Option("--file", metavar="FILE", help="File of suppressions.")]
DEFAULT_FILE = Path("suppressions.yaml")


def _condition(option: str, metavar: str, text: str, completion: Any = None) -> Any:
    return typer.Option(
        option, metavar=metavar, help=text, autocompletion=completion,
        rich_help_panel="Conditions, all of which must hold",
    )  # fmt: skip


@app.command()
def add(
    owner: Annotated[
        str, typer.Option("--owner", metavar="WHO", help="Who is responsible for it.")
    ],
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why it is benign.")],
    expires: Annotated[
        str, typer.Option("--expires", metavar="DATE", help="When it stops applying.")
    ],
    hunt: Annotated[
        o.Texts, _condition("--hunt", "NAME", "Only of this hunt.", complete.hunts)
    ] = None,
    tenant: Annotated[o.Texts, _condition("--tenant", "ID", "Only of this customer.")] = None,
    device: Annotated[
        o.Texts, _condition("--device", "NAME", "On this device; * and ? match.")
    ] = None,
    account: Annotated[o.Texts, _condition("--account", "NAME", "By this account.")] = None,
    parent: Annotated[o.Texts, _condition("--parent", "FILE", "Started by this process.")] = None,
    family: Annotated[
        o.Texts, _condition("--family", "NAME", "When all commands are of these kinds.")
    ] = None,
    file: File = DEFAULT_FILE,
    now: o.Now = None,
) -> int:
    """Add a suppression; all of its conditions must hold for a finding to be hidden."""
    given = dict(zip(CONDITIONS, (hunt, tenant, device, account, parent, family), strict=True))
    entry = Suppression(
        owner=owner, reason=reason, expires=expires,
        **{name: _one_or_many(values) for name, values in given.items()},
    )  # fmt: skip
    text = check_entry(entry, f"--file {file}")
    if entry.ends <= read_now(now):
        raise UsageError(f"--expires {expires} has passed already")
    add_entry(file, text)
    print(f"added to {file}; it expires on {expires}")
    return 0


@app.command("list")
def list_(file: File = DEFAULT_FILE, now: o.Now = None) -> int:
    """List the suppressions, the expired ones marked."""
    moment = read_now(now)
    for entry in load_suppressions(file).entries:
        conditions = ", ".join(
            f"{name} {value}" for name in CONDITIONS if (value := getattr(entry, name)) is not None
        )
        mark = "EXPIRED " if entry.ends <= moment else ""
        print_lines([f"{mark}{entry.expires}  {conditions}  {entry.owner}: {entry.reason}"])
    return 0


def _one_or_many(values: list[str] | None) -> str | tuple[str, ...] | None:
    if not values:
        return None
    return values[0] if len(values) == 1 else tuple(values)
