"""The program: which commands there are, each imported and built only when named."""

from __future__ import annotations

import importlib
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperGroup

from qakhunt.cli.options import new_app
from qakhunt.core.errors import nearest

HUNTING, RESULTS, SETUP = "Hunting", "Results", "Setup"
ENGINEERING, UNATTENDED = "Detection engineering", "Unattended runs"


class Entry(NamedTuple):
    """A command: its function, or its group's Typer, in a module under ``qakhunt.cli``."""

    place: str
    panel: str
    help: str


COMMANDS: dict[str, Entry] = {
    "run": Entry("run:run", HUNTING, "Run hunts and show what they find."),
    "render": Entry("hunts:render", HUNTING, "Print a hunt's KQL, ready to paste into the portal."),
    "hunts": Entry("hunts:app", HUNTING, "List, show, create, check, export and import hunts."),
    "triage": Entry("triage:triage", RESULTS, "Assess the hits of a saved result."),
    "report": Entry("report:report", RESULTS, "Create a report from a saved result."),
    "config": Entry("config:app", SETUP, "Create and show the configuration."),
    "doctor": Entry(
        "config:doctor", SETUP, "Check configuration, sign-in, permissions and data of profiles."
    ),
    "login": Entry("sign_in:login", SETUP, "Sign in as an analyst, once for all tenants."),
    "logout": Entry("sign_in:logout", SETUP, "Remove sign-ins from this machine."),
    "accounts": Entry("sign_in:accounts", SETUP, "List the analysts who are signed in."),
    "state": Entry(
        "state:app", UNATTENDED, "Show, check, reset and prune a scheduled job's state."
    ),
    "suppress": Entry("suppress:app", UNATTENDED, "Suppress findings that are known to be benign."),
    "runbook": Entry("runbook:app", UNATTENDED, "Build a runbook for Azure Automation."),
    "test": Entry("checks:run_tests", ENGINEERING, "Run the test cases of hunts."),
    "diff": Entry("compare:diff", ENGINEERING, "Compare two queries on the same events."),
    "sweep": Entry("compare:sweep", ENGINEERING, "Count a hunt's hits for each parameter value."),
    "evaluate": Entry("evaluate:evaluate", ENGINEERING, "Measure hunts on labelled events."),
    "deploy": Entry("rules:deploy", ENGINEERING, "Put hunts into a tenant as rules."),
    "record": Entry("record:record", ENGINEERING, "Run hunts and record the answers."),
    "import-events": Entry(
        "record:import_events", ENGINEERING, "Import Windows event logs as process events."
    ),
    "emulate": Entry("emulate:emulate", ENGINEERING, "Serve recorded events as the services do."),
}


class LazyGroup(TyperGroup):
    """Loads a command's module when the command is named, not before."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        module, _, name = entry.place.partition(":")
        found = getattr(importlib.import_module(f"qakhunt.cli.{module}"), name)
        if not isinstance(found, typer.Typer):
            alone = new_app()
            alone.command()(found)
            found = alone
        command: Any = typer.main.get_command(found)
        command.name, command.short_help = cmd_name, entry.help
        command.rich_help_panel = entry.panel
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
    rich_markup_mode="rich",
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
    """Hunt for Qakbot and similar malware in Microsoft Sentinel and Defender.

    A hunt is plain KQL. It runs live, or offline on recorded events; "no hits" is
    reported only when every query was answered completely.
    """
