"""``qakhunt run``: the main job."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from qakhunt.answers.ledger import Verdict
from qakhunt.answers.run_result import DEFAULT_LIMIT
from qakhunt.cli import context as ctx
from qakhunt.cli import options as o
from qakhunt.cli import profiles as p
from qakhunt.cli import scheduled as sch
from qakhunt.cli import slices as sl
from qakhunt.cli.answering import Answering, AnswerOptions, who_answers
from qakhunt.cli.log import RunLog, read_log_format
from qakhunt.cli.output import Output, in_zone
from qakhunt.cli.request import HuntRequest, read_input_options
from qakhunt.cli.run_progress import Shown, progress_of
from qakhunt.core.errors import ExitCode
from qakhunt.core.safe_text import for_terminal
from qakhunt.hunts.window import PUBLISHED
from qakhunt.triage.words import short_list

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from qakhunt.answers.run_result import RunResult
    from qakhunt.run.plan import PlanLine

    Collect = Callable[[RunResult, Sequence[PlanLine]], None]

app = o.new_app()

BackendName = Annotated[
    Optional[str],  # noqa: UP045 - typer reads it at run time on 3.10
    typer.Option(
        "--backend", metavar="NAME", help="Who answers: local, log-analytics, defender or replay."
    ),
]
Events = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(
        "--events", metavar="[TABLE=]PATH",
        help="Recorded events for the embedded engine: a file, a folder or a glob.",
    ),
]  # fmt: skip
Recording = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--recording", metavar="DIR", help="Replay what was recorded in this folder."),
]
OnSource = Annotated[
    bool, typer.Option("--on-source", help="Run on the recording's source rows, changes and all.")
]
FormatName = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--format", metavar="NAME",
        help="table, json, ndjson, csv, parquet, markdown, html, chat or navigator.",
    ),
]  # fmt: skip
Out = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--out", metavar="PATH", help="Write to a file; its suffix names the format."),
]
Timeout = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option(
        "--timeout", metavar="SECONDS", min=0.001,
        help="Stop a query, or reading the events, when it takes longer.",
    ),
]  # fmt: skip
MemoryLimit = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--memory-limit", metavar="SIZE",
        help="What the embedded engine may hold, such as 2GB; a quarter of the machine's memory.",
    ),
]  # fmt: skip


@app.command()
def run(
    hunt: o.HuntNames = None,
    backend: BackendName = None,
    profile: p.ProfileNames = None,
    group: p.GroupName = None,
    all_profiles: p.AllProfiles = False,
    config: p.ConfigPath = None,
    trust_host: p.TrustedHosts = None,
    events: Events = None,
    recording: Recording = None,
    on_source: OnSource = False,
    strict: o.Strict = False,
    date_order: o.DateOrder = None,
    max_expanded: o.MaxExpanded = 16,
    dialect: o.Dialect = None,
    command: o.Commands = None,
    commands: o.CommandsFile = None,
    add_command: o.AddedCommands = None,
    threshold: o.Threshold = None,
    set_: o.Settings = None,
    window: o.WindowText = PUBLISHED,
    time_zone: o.TimeZoneOfEvents = None,
    now: o.Now = None,
    hunts: o.HuntFolders = None,
    timeout: Timeout = None,
    memory_limit: MemoryLimit = None,
    slice_: sl.Slice = None,
    explain: sl.Explain = False,
    dry_run: sl.DryRun = False,
    context: ctx.Around = None,
    context_hits: ctx.Limit = DEFAULT_LIMIT,
    format_: FormatName = None,
    out: Out = None,
    as_json: o.AsJson = False,
    csv_raw: Annotated[
        bool, typer.Option("--csv-raw", help="Keep CSV cells as they are, unguarded and unescaped.")
    ] = False,
    force: o.Force = False,
    fail_on_hits: Annotated[
        bool, typer.Option("--fail-on-hits", help="Exit with 10 when there are hits.")
    ] = False,
    state: sch.State = None,
    sink: sch.Sinks = None,
    heartbeat: sch.Heartbeat = False,
    every: sch.Every = "24h",
    repeat_after: sch.RepeatAfter = "30d",
    suppressions: sch.SuppressionsFile = None,
    show_suppressed: sch.ShowSuppressed = False,
    show_known: sch.ShowKnown = False,
    deadline: sch.Deadline = None,
    log_format: sch.LogFormat = "text",
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Tell of each answer and wait on stderr.")
    ] = False,
    quiet: o.Quiet = False,
) -> int:
    """Run hunts and show what they find. Without arguments: the Qakbot hunt.

    Without a configuration the embedded engine hunts in the bundled sample.
    """
    output = Output.of(format_, out, as_json=as_json, csv_raw=csv_raw, force=force, quiet=quiet)
    output = in_zone(output, time_zone)
    request = HuntRequest(
        hunt or (), hunts or (), command or (), commands, add_command or (), threshold, set_ or (),
        window, time_zone, config,
    )  # fmt: skip
    around = ctx.read_around(context)
    slicing = sl.Slicing.of(slice_, explain=explain, dry_run=dry_run, as_json=as_json)
    answers = who_answers(
        AnswerOptions(
            backend, events or (), dialect, now, timeout, config,
            p.Choice(profile or (), group, all_profiles), trust_host or (), slicing.request,
            sch.read_deadline(deadline), recording=recording, on_source=on_source,
            memory_limit=memory_limit,
            inputs=read_input_options(time_zone, date_order, max_expanded, strict=strict),
            announce=output.format is None and not quiet and not sys.stdout.isatty(),
        ),
        os.environ,
    )  # fmt: skip
    options = sch.ScheduleOptions(
        state, sink or (), heartbeat, every, repeat_after, suppressions, show_suppressed, show_known
    )
    options.check(output, sample=answers.sample)
    log = RunLog(answers.now, as_json=read_log_format(log_format))
    run_lines = sch.run_of(options, log, until=answers.until, config=answers.config)
    with run_lines.reporting_errors():
        result = _hunt(
            answers, options.request(request), run_lines, slicing,
            lambda found, plan: ctx.collect_context(found, plan, around, context_hits),
            shown=Shown.of(quiet=quiet, verbose=verbose, as_json=log.as_json),
        )  # fmt: skip
        if output.format or result.verdict is not Verdict.FAILED:
            sch.present_run(result, output, options, log)
        report_failures(result)
    code = exit_code(result, fail_on_hits=fail_on_hits)
    log.finished(result, code)
    return code


def _hunt(
    answers: Answering, request: HuntRequest, run_lines: sch.Run, slicing: sl.Slicing,
    collect: Collect, shown: Shown,
) -> RunResult:  # fmt: skip
    from qakhunt.run.execution import run as run_plan

    with (
        progress_of(shown) as progress,
        answers.opened(request, progress.say, progress.waited) as plan,
    ):
        slicing.told(plan)
        progress.planned(plan)

        def ask(lines: Sequence[PlanLine]) -> RunResult:
            return run_plan(
                lines, progress.both(lambda _, line: run_lines.log.line(line)),
                on_pieces=progress.expected, deadline=sch.seconds_left(answers.until),
            )  # fmt: skip

        result = run_lines(plan, ask)
        collect(result, plan)
    result.sample = answers.sample
    result.clouds = answers.clouds
    return result


def report_failures(result: RunResult) -> None:
    """When nothing answered there is no result to show: say why, on stderr."""
    if result.verdict is not Verdict.FAILED:
        return
    where: dict[tuple[str, str], dict[str, None]] = {}
    for line in result.ledger.lines:
        told = where.setdefault((line.detail, line.hint), {})
        if line.tenant or line.workspace:  # the sample and recorded events need no name
            told[line.whom] = None
    for (detail, hint), whose in where.items():
        place = f"{short_list(list(whose))}: " if whose else ""
        print(f"error: {for_terminal(place + detail)}", file=sys.stderr)
        if hint:
            print(f"hint: {for_terminal(hint)}", file=sys.stderr)


def exit_code(result: RunResult, *, fail_on_hits: bool) -> int:
    """The documented exit code of a run."""
    if result.interrupted:
        return ExitCode.INTERRUPTED
    if result.verdict is Verdict.FAILED:
        rejected = all(line.rejected for line in result.ledger.lines)
        return ExitCode.REJECTED if rejected else ExitCode.NOTHING_ANSWERED
    hits = bool(result.news) and fail_on_hits
    if result.verdict is Verdict.INCOMPLETE:
        return ExitCode.HITS_INCOMPLETE if hits else ExitCode.INCOMPLETE
    if hits:
        return ExitCode.HITS
    undelivered = any(delivery.failed for delivery in result.deliveries)
    return ExitCode.DELIVERY_FAILED if undelivered else ExitCode.OK
