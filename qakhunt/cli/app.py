"""The program: which commands there are, each imported and built only when named."""

from __future__ import annotations

import importlib
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperGroup

from qakhunt.core.errors import nearest


class Entry(NamedTuple):
    """A command: the module under ``qakhunt.cli`` whose ``app`` it is, and its help line."""

    module: str
    help: str


COMMANDS: dict[str, Entry] = {
    "run": Entry("run", "Run hunts and show what they find. Without arguments: the Qakbot hunt."),
    "triage": Entry("triage", "Assess the hits of a saved result, one by one."),
    "report": Entry("report", "Make a report of a saved result, to hand over."),
    "record": Entry("record", "Run hunts and keep what they were answered."),
    "render": Entry("render", "Print a hunt's KQL, ready to paste into the portal."),
    "login": Entry("login", "Sign in as an analyst, once for all tenants."),
    "logout": Entry("logout", "Forget a sign-in."),
    "accounts": Entry("accounts", "List the analysts signed in."),
    "doctor": Entry("doctor", "Check a profile's configuration, sign-in, permissions and data."),
    "state": Entry("state", "See, check, reset and prune the state of scheduled runs."),
    "runbook": Entry("runbook", "Make what Azure Automation needs."),
    "suppress": Entry("suppress", "Vouch for findings that are no cause for concern."),
    "config": Entry("config_cmd", "Show the configuration in force."),
    "emulate": Entry("emulate", "Serve recorded events as the services do, faults included."),
    "hunts": Entry("hunts", "List, show, make and lint hunts."),
    "test": Entry("test_cmd", "Run the test cases of hunts."),
    "import-events": Entry("import_events", "Import Windows events as recorded process events."),
    "evaluate": Entry("evaluate", "Measure hunts on labelled events."),
    "diff": Entry("diff", "Compare two queries on the same events: what is gained, lost, changed."),
    "sweep": Entry("sweep", "Count a hunt's hits for each value of a parameter."),
}


class LazyGroup(TyperGroup):
    """Loads a command's module when the command is named, not before."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        module = importlib.import_module(f"qakhunt.cli.{entry.module}")
        command = typer.main.get_command(module.app)
        command.name = cmd_name
        command.short_help = entry.help
        return command

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            hint = nearest(args[0], COMMANDS)
            ctx.fail(f"no command named {args[0]!r}" + (f": {hint}" if hint else ""))
        return super().resolve_command(ctx, args)


def _show_version(wanted: bool) -> None:
    if wanted:
        from qakhunt import __version__

        typer.echo(f"qakhunt {__version__}")
        raise typer.Exit


app = typer.Typer(
    name="qakhunt",
    cls=LazyGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def main(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and exit.", callback=_show_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Hunt for Qakbot and its like in Microsoft Sentinel and Defender.

    A hunt is plain KQL. It runs live, or offline on recorded events; "no hits" is
    said only when everything answered completely.
    """
