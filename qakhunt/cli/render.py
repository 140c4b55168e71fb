"""``qakhunt render``: the KQL on stdout, nothing else."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from qakhunt.backends.kusto_query import DIALECT, PRODUCT, RefusedQuery, refuse_for_lake
from qakhunt.cli import options as o
from qakhunt.cli.request import HuntRequest, read_now, read_product, rendered_hunts
from qakhunt.core.errors import NotAvailableError
from qakhunt.core.safe_text import for_terminal, lines_for_terminal
from qakhunt.hunts.window import PUBLISHED

if TYPE_CHECKING:
    from qakhunt.hunts.render import RenderedQuery

app = o.new_app()


@app.command()
def render(
    hunt: o.OptionalHuntName = None,
    dialect: o.Dialect = None,
    command: o.Commands = None,
    commands: o.CommandsFile = None,
    add_command: o.AddedCommands = None,
    threshold: o.Threshold = None,
    set_: o.Settings = None,
    window: o.WindowText = PUBLISHED,
    time_zone: o.TimeZone = None,
    now: o.Now = None,
    hunts: o.HuntFolders = None,
    quiet: o.Quiet = False,
) -> None:
    """Print a hunt's KQL, ready to paste into the portal. Without a name: the Qakbot hunt."""
    request = HuntRequest(
        [hunt] if hunt else (), hunts or (), command or (), commands, add_command or (),
        threshold, set_ or (), window, time_zone,
    )  # fmt: skip
    product = PRODUCT if dialect == DIALECT else read_product(dialect)
    found = rendered_hunts(request, now=read_now(now), product=product, strict=False)
    for rendered, warnings in found:
        if not quiet:
            for warning in [*rendered.warnings, *warnings]:
                print(f"warning: {for_terminal(warning)}", file=sys.stderr)
            for note in [*rendered.notes, *filter(None, [rendered.partial])]:
                print(f"note: {for_terminal(note)}", file=sys.stderr)
        text = rendered.text
        if dialect == DIALECT:
            _refuse_for_lake(rendered)
        if sys.stdout.isatty():
            text = lines_for_terminal(text)
        sys.stdout.write(text)
        if not text.endswith("\n"):
            sys.stdout.write("\n")


def _refuse_for_lake(rendered: RenderedQuery) -> None:
    try:
        refuse_for_lake(rendered.text)
    except RefusedQuery as problem:
        raise NotAvailableError(
            f"{rendered.hunt.name} is not available for {DIALECT}: {problem.message}",
            location=rendered.locate(*problem.place), hint=problem.hint,
        ) from None  # fmt: skip
