"""``qakhunt triage``: from a hit to a decision, on the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from qakhunt.answers.ledger import Verdict
from qakhunt.cli import context as ctx
from qakhunt.cli import options as o
from qakhunt.cli import report_options as ro
from qakhunt.cli.output import Output, present
from qakhunt.cli.run import Events, FormatName, Out, Timeout  # noqa: TC001 - read at run time
from qakhunt.cli.streams import stdout_may_close
from qakhunt.errors import ExitCode, UsageError
from qakhunt.triage.context import DEFAULT_LIMIT

if TYPE_CHECKING:
    from qakhunt.backends.base import Backend
    from qakhunt.kql.values import Timespan
    from qakhunt.runner import PlanLine
    from qakhunt.triage.links import Portals
    from qakhunt.triage.run_result import RunResult

app = o.new_app()

ResultFile = Annotated[
    Path, typer.Argument(metavar="RESULT.json", help="What 'qakhunt run --json' wrote.")
]
HitNumber = Annotated[
    Optional[int],  # noqa: UP045 - typer reads it at run time on 3.10
    typer.Option("--hit", metavar="N", min=1, help="Show this hit alone, in full."),
]


@app.command()
def triage(
    result_file: ResultFile,
    hit: HitNumber = None,
    context: ctx.Around = None,
    context_hits: ctx.Limit = DEFAULT_LIMIT,
    events: Events = None,
    timeout: Timeout = None,
    cloud: ro.Cloud = "public",
    workspace_resource: ro.Resources = None,
    format_: FormatName = None,
    out: Out = None,
    as_json: o.AsJson = False,
    force: o.Force = False,
    quiet: o.Quiet = False,
) -> int:
    """Assess each hit, with its commands, timeline, process tree and entities."""
    from qakhunt.triage.result_file import load_result

    output = Output.of(format_, out, as_json=as_json, csv_raw=False, force=force, quiet=quiet)
    if hit is not None and output.format is not None:
        raise UsageError("--hit is for the screen; an export holds every hit")
    portals = ro.read_portals(cloud, workspace_resource)
    around = ctx.read_around(context)
    result = load_result(result_file)
    if hit is not None and hit > len(result.hits):
        from qakhunt.triage.words import count

        raise UsageError(f"--hit {hit}: the result has {count(len(result.hits), 'hit')}")
    if _may_ask(result, around, events):
        ask(result, around or ctx.read_around("30m"), context_hits, events, timeout, only=hit,
            quiet=quiet)  # fmt: skip
    with stdout_may_close():
        if output.format is not None:
            present(result, output)
        else:
            _show(result, hit, portals, quiet=quiet)
    return _exit_code(result)


def _may_ask(result: RunResult, around: Timespan | None, events: list[str] | None) -> bool:
    """Whether to fetch context: it was asked for, or it is missing and the sample is at hand."""
    if not result.hits:
        return False
    if events or around is not None:
        return True
    return result.context is None and result.sample


def ask(
    result: RunResult,
    around: Timespan | None,
    limit: int,
    events: list[str] | None,
    timeout: float | None,
    *,
    only: int | None = None,
    quiet: bool = False,
) -> None:
    """Fetch the context of a saved result from recorded events, or from the sample."""
    from qakhunt.backends.local import LocalBackend
    from qakhunt.cli.progress import working

    sources = events or _sample(result)
    product = result.rendered[0].product
    with working("loading events", quiet=quiet) as say:
        engine = LocalBackend(sources, now=result.now, product=product, timeout=timeout)
        try:
            say("collecting context")
            ctx.collect_context(result, _plan(result, engine), around, limit, only)
        finally:
            engine.close()


def _sample(result: RunResult) -> list[str]:
    if not result.sample:
        raise UsageError(
            "the result does not say where its events are",
            hint="name them with --events, or run the hunt again with --context 30m",
        )
    from qakhunt.sample import sample_events

    return sample_events()


def _plan(result: RunResult, engine: Backend) -> list[PlanLine]:
    """The saved run's questions, all to the one engine."""
    from qakhunt.backends.base import Target
    from qakhunt.runner import PlanLine

    by_name = {rendered.hunt.name: rendered for rendered in result.rendered}
    found: dict[tuple[str, Target], PlanLine] = {}
    for line in result.ledger.lines:
        rendered = by_name.get(line.hunt)
        if rendered is not None:
            target = Target(line.profile, line.tenant, line.workspace)
            found.setdefault((line.hunt, target), PlanLine(rendered, engine, target))
    return list(found.values())


def _show(result: RunResult, hit: int | None, portals: Portals, *, quiet: bool) -> None:
    from rich.console import Console

    from qakhunt.reports.console import show_account
    from qakhunt.reports.triage_console import show_triage
    from qakhunt.triage.dossier import dossiers

    console = Console(highlight=False)
    found = dossiers(result, portals)
    chosen = [dossier for dossier in found if hit is None or dossier.number == hit]
    show_triage(chosen, console, full=hit is not None)
    if chosen:
        console.print()
    show_account(result, console)
    if result.hits and result.context is None and not quiet:
        Console(stderr=True, highlight=False).print(
            "hint: what surrounded the hits was not recorded: name the events with --events, "
            "or run the hunt again with --context 30m",
            markup=False,
        )


def _exit_code(result: RunResult) -> int:
    """0, or 3 where context was asked for and nothing answered."""
    context = result.context
    if result.interrupted:
        return ExitCode.INTERRUPTED
    if (
        context is not None
        and context.ledger.lines
        and any(not held.missing for held in context.hits.values())
    ):
        failed = context.ledger.verdict(len(result.hits)) is Verdict.FAILED
        return ExitCode.NOTHING_ANSWERED if failed else ExitCode.OK
    return ExitCode.OK
