"""``qakhunt triage``: from a hit to a decision, on the terminal."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from qakhunt.answers.ledger import Verdict
from qakhunt.answers.run_result import DEFAULT_LIMIT
from qakhunt.backends.engine.external import give_external
from qakhunt.backends.engine.limits import limit_memory
from qakhunt.cli import options as o
from qakhunt.cli.options import Panel
from qakhunt.cli.output import Output, present, screen
from qakhunt.cli.report import read_portals
from qakhunt.core.errors import ExitCode, UsageError
from qakhunt.run.hunting import collect_context, read_around
from qakhunt.run.saved import reopened
from qakhunt.triage.words import count

if TYPE_CHECKING:
    from qakhunt.answers.run_result import RunResult
    from qakhunt.kql.values import Timespan
    from qakhunt.triage.entities import Portals


def triage(
    result_file: o.ResultFile,
    config: o.ConfigPath = None,
    trust_host: o.TrustedHosts = None,
    events: o.Events = None,
    external: o.External = None,
    memory_limit: o.MemoryLimit = None,
    timeout: o.Timeout = None,
    context: o.Around = None,
    context_hits: o.ContextHits = DEFAULT_LIMIT,
    hit: Annotated[
        o.Number,
        Panel.output("--hit", metavar="N", min=1, help="Show only this hit, in full."),
    ] = None,
    format_: o.FormatName = None,
    out: o.Out = None,
    as_json: o.AsJson = False,
    force: o.Force = False,
    quiet: o.Quiet = False,
    cloud: o.Cloud = None,
    workspace_resource: o.WorkspaceResources = None,
) -> int:
    """Assess each hit, with its commands, timeline, process tree and entities."""
    from qakhunt.answers.run_document import load_result

    output = Output.of(format_, out, as_json=as_json, csv_raw=False, force=force, quiet=quiet)
    if hit is not None and output.format is not None:
        raise UsageError("--hit is for the screen; an export holds every hit")
    portals = read_portals(cloud, workspace_resource)
    around = read_around(context)
    result = load_result(result_file)
    if hit is not None and hit > len(result.hits):
        raise UsageError(f"--hit {hit}: the result has {count(len(result.hits), 'hit')}")
    if _may_ask(result, around, events):
        limit_memory(memory_limit)
        give_external(external)
        with reopened(
            result, events, timeout=timeout, config=config, trusted_hosts=trust_host or (),
            quiet=quiet,
        ) as plan:  # fmt: skip
            around = around or read_around("30m")
            collect_context(result, plan, around, context_hits, only=hit)
    if output.format is not None:
        from qakhunt.reports.details import ReportDetails

        present(result, replace(output, details=ReportDetails(portals=portals)))
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


def _show(result: RunResult, hit: int | None, portals: Portals, *, quiet: bool) -> None:
    from qakhunt.reports.console import show_account
    from qakhunt.reports.triage_console import show_triage
    from qakhunt.triage.hit_report import hit_reports

    console = screen()
    found = hit_reports(result, portals)
    chosen = [report for report in found if hit is None or report.number == hit]
    show_triage(chosen, console, full=hit is not None)
    if chosen:
        console.print()
    show_account(result, console)
    if result.hits and result.context is None and not quiet:
        hint = f"hint: what surrounded the hits was not recorded: {_how_to_get_it(result)}"
        screen(to_stderr=True).print(hint)


def _how_to_get_it(result: RunResult) -> str:
    if {line.backend for line in result.ledger.lines} - {"local"}:
        return "--context 30m asks the profiles again, --events names recorded events"
    return "name the events with --events, or run the hunt again with --context 30m"


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
