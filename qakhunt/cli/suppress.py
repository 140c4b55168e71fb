"""``qakhunt suppress``: what somebody vouches for, in a file to review."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from qakhunt.cli import options as o
from qakhunt.cli.request import read_now
from qakhunt.core.errors import UsageError
from qakhunt.core.safe_text import for_terminal
from qakhunt.triage.suppressions import (
    CONDITIONS,
    Suppression,
    as_entry,
    load_suppressions,
    parse_suppressions,
)

app = o.new_app(help="Vouch for findings that are no cause for concern.")

Many = Optional[list[str]]  # noqa: UP045 - typer reads it at run time on 3.10
File = Annotated[Path, typer.Option("--file", metavar="FILE", help="The suppressions' file.")]
DEFAULT_FILE = Path("suppressions.yaml")
_HEAD = "# Findings that somebody looked at and vouches for. Review it like code.\nsuppressions:\n"


@app.command()
def add(
    owner: Annotated[str, typer.Option("--owner", metavar="WHO", help="Who vouches for it.")],
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why it is harmless.")],
    expires: Annotated[
        str, typer.Option("--expires", metavar="DATE", help="When it stops applying.")
    ],
    hunt: Annotated[Many, typer.Option("--hunt", metavar="NAME", help="Only this hunt's.")] = None,
    tenant: Annotated[
        Many, typer.Option("--tenant", metavar="ID", help="Only this customer's.")
    ] = None,
    device: Annotated[
        Many, typer.Option("--device", metavar="NAME", help="On this device; * and ? match.")
    ] = None,
    account: Annotated[
        Many, typer.Option("--account", metavar="NAME", help="By this account.")
    ] = None,
    parent: Annotated[
        Many, typer.Option("--parent", metavar="FILE", help="Issued by this process.")
    ] = None,
    family: Annotated[
        Many, typer.Option("--family", metavar="NAME", help="When all commands are of these.")
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
    text = as_entry(entry)
    parse_suppressions(_HEAD + text, f"--file {file}")
    if entry.ends <= read_now(now):
        raise UsageError(f"--expires {expires} has passed already")
    _append(file, text)
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
        print(for_terminal(f"{mark}{entry.expires}  {conditions}  {entry.owner}: {entry.reason}"))
    return 0


def _one_or_many(values: list[str] | None) -> str | tuple[str, ...] | None:
    if not values:
        return None
    return values[0] if len(values) == 1 else tuple(values)


def _append(file: Path, entry: str) -> None:
    """Put the entry at the end, whatever comments the file holds, or make the file."""
    from qakhunt.core.writing import whole_file

    old = ""
    if file.exists():
        load_suppressions(file)
        old = file.read_text(encoding="utf-8-sig")
        if old and not old.endswith("\n"):
            old += "\n"
    new = (old or _HEAD) + entry
    try:
        parse_suppressions(new, str(file))
    except Exception:
        raise UsageError(
            f"{file} is not written the way an entry can be added to",
            hint="its list must be the last key and indented by two spaces; add it by hand:\n"
            + entry,
        ) from None
    with whole_file(file, force=True) as path:
        path.write_text(new, encoding="utf-8")
