"""``qakhunt triage``: from a hit to a decision, on the terminal."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from qakhunt.answers.ledger import Verdict
from qakhunt.answers.run_result import DEFAULT_LIMIT
from qakhunt.backends.engine.limits import limit_memory
from qakhunt.cli import context as ctx
from qakhunt.cli import options as o
from qakhunt.cli import profiles as p
from qakhunt.cli import report_options as ro
from qakhunt.cli.output import Output, present
from qakhunt.cli.request import read_now
from qakhunt.cli.run import (  # noqa: TC001 - read at run time
    Events,
    FormatName,
    MemoryLimit,
    Out,
    Timeout,
)
from qakhunt.core.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from qakhunt.answers.run_result import RunResult
    from qakhunt.backends.base import Backend
    from qakhunt.kql.values import Timespan
    from qakhunt.run.plan import PlanLine
    from qakhunt.triage.entities import Portals

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
    memory_limit: MemoryLimit = None,
    config: p.ConfigPath = None,
    trust_host: p.TrustedHosts = None,
    cloud: ro.Cloud = None,
    workspace_resource: ro.Resources = None,
    format_: FormatName = None,
    out: Out = None,
    as_json: o.AsJson = False,
    force: o.Force = False,
    quiet: o.Quiet = False,
) -> int:
    """Assess each hit, with its commands, timeline, process tree and entities."""
    from qakhunt.answers.run_document import load_result

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
        limit_memory(memory_limit)
        asker = _Asker(events, timeout, config, trust_host or ())
        with asker.opened(result, quiet=quiet) as plan:
            around = around or ctx.read_around("30m")
            ctx.collect_context(result, plan, around, context_hits, only=hit)
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


@dataclass(frozen=True)
class _Asker:
    """Who tells what surrounded the hits of a saved result: whoever answered its run."""

    events: Sequence[str] | None
    timeout: float | None
    config: Path | None
    trusted_hosts: Sequence[str]

    @contextmanager
    def opened(self, result: RunResult, *, quiet: bool) -> Iterator[list[PlanLine]]:
        """The saved run's questions, to recorded events, the sample or its profiles."""
        live = {line.backend for line in result.ledger.lines} - {"local"}
        if self.events or result.sample or not live:
            with self._local(result, quiet=quiet) as plan:
                yield plan
        else:
            with self._live(result, quiet=quiet) as plan:
                yield plan

    @contextmanager
    def _local(self, result: RunResult, *, quiet: bool) -> Iterator[list[PlanLine]]:
        from qakhunt.backends.local import LocalBackend
        from qakhunt.cli.progress import working

        sources = self.events or _sample(result)
        product = result.rendered[0].product
        with working("loading events", quiet=quiet) as say:
            engine = LocalBackend(sources, now=result.now, product=product, timeout=self.timeout)
            try:
                say("collecting context")
                yield _plan(result, lambda _profile: engine)
            finally:
                engine.close()

    @contextmanager
    def _live(self, result: RunResult, *, quiet: bool) -> Iterator[list[PlanLine]]:
        from qakhunt.cli.progress import working
        from qakhunt.run.live import LiveBackends
        from qakhunt.run.settings import FROM_ENVIRONMENT

        asked = dict.fromkeys(line.profile for line in result.ledger.lines)
        names = [name for name in asked if name not in (FROM_ENVIRONMENT, "-")]
        settings = p.chosen_profiles(p.read_config(self.config), p.Choice(names))
        live = LiveBackends(read_now(None), trusted_hosts=self.trusted_hosts, timeout=self.timeout)
        with working("collecting context", quiet=quiet):
            try:
                backends = {chosen.name: live.open(chosen) for chosen in settings}
                yield _plan(result, backends.get)
            finally:
                live.close()


def _sample(result: RunResult) -> list[str]:
    if not result.sample:
        raise UsageError(
            "the result does not say where its events are",
            hint="name them with --events, or run the hunt again with --context 30m",
        )
    from qakhunt.run.sample import sample_events

    return sample_events()


def _plan(result: RunResult, backend_of: Callable[[str], Backend | None]) -> list[PlanLine]:
    """The saved run's questions, each to the backend of its profile."""
    from qakhunt.answers.ledger import Target
    from qakhunt.run.plan import PlanLine

    found: dict[tuple[str, Target], PlanLine] = {}
    for line in result.ledger.lines:
        backend = backend_of(line.profile)
        if backend is None:
            continue
        rendered = next((r for r in result.rendered if r.hunt.name == line.hunt
                         and r.product == backend.product), None)  # fmt: skip
        if rendered is not None:
            target = Target(line.profile, line.tenant, line.workspace)
            found.setdefault((line.hunt, target), PlanLine(rendered, backend, target))
    return list(found.values())


def _show(result: RunResult, hit: int | None, portals: Portals, *, quiet: bool) -> None:
    from rich.console import Console

    from qakhunt.reports.console import show_account
    from qakhunt.reports.triage_console import show_triage
    from qakhunt.triage.hit_report import hit_reports

    console = Console(highlight=False)
    found = hit_reports(result, portals)
    chosen = [hit_report for hit_report in found if hit is None or hit_report.number == hit]
    show_triage(chosen, console, full=hit is not None)
    if chosen:
        console.print()
    show_account(result, console)
    if result.hits and result.context is None and not quiet:
        Console(stderr=True, highlight=False).print(
            f"hint: what surrounded the hits was not recorded: {_how_to_get_it(result)}",
            markup=False,
        )


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
