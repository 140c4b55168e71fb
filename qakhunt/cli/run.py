"""``qakhunt run``: the main job."""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from qakhunt.answers.ledger import Verdict
from qakhunt.answers.run_result import DEFAULT_LIMIT
from qakhunt.cli import complete
from qakhunt.cli import options as o
from qakhunt.cli.options import Panel
from qakhunt.cli.output import Output, present, print_json, print_lines, screen
from qakhunt.core.errors import ExitCode, QakhuntError, UsageError
from qakhunt.hunts.window import PUBLISHED
from qakhunt.run.hunting import hunt as hunt_in
from qakhunt.run.hunting import read_around, read_slice
from qakhunt.run.log import RunLog, read_log_format
from qakhunt.run.progress import Shown, progress_of
from qakhunt.run.request import (
    HuntRequest,
    read_deadline,
    read_input_options,
    read_values,
    read_zone,
)
from qakhunt.run.source import Choice, Source, SourceOptions, choose_source
from qakhunt.schedule.options import ScheduleOptions, open_job
from qakhunt.triage.words import count, short_list

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from qakhunt.answers.run_result import RunResult
    from qakhunt.backends.engine.inputs import InputOptions
    from qakhunt.kql.values import Timespan
    from qakhunt.run.plan import Forecast, LineForecast
    from qakhunt.schedule.job import Job


def run(
    hunt: o.HuntNames = None,
    backend: o.BackendName = None,
    profile: o.ProfileNames = None,
    group: o.GroupName = None,
    all_profiles: o.AllProfiles = False,
    config: o.ConfigPath = None,
    trust_host: o.TrustedHosts = None,
    recording: o.RecordingPath = None,
    on_source: o.OnSource = False,
    events: o.Events = None,
    external: o.External = None,
    strict: o.Strict = False,
    date_order: o.DateOrder = None,
    max_expanded: o.MaxExpanded = None,
    dialect: o.Dialect = None,
    memory_limit: o.MemoryLimit = None,
    command: o.Commands = None,
    commands: o.CommandsFile = None,
    add_command: o.AddedCommands = None,
    threshold: o.Threshold = None,
    set_: o.Settings = None,
    hunts: o.HuntFolders = None,
    window: o.WindowText = PUBLISHED,
    time_zone: o.TimeZoneOfEvents = None,
    now: o.Now = None,
    timeout: o.Timeout = None,
    deadline: o.Deadline = None,
    slice_: o.Slice = None,
    explain: Annotated[
        bool, Panel.execution("--explain", help="Show how each hunt can be sliced; query nothing.")
    ] = False,
    dry_run: Annotated[
        bool, Panel.execution("--dry-run", help="Show the queries and their quota; query nothing.")
    ] = False,
    context: o.Around = None,
    context_hits: o.ContextHits = DEFAULT_LIMIT,
    format_: o.FormatName = None,
    out: o.Out = None,
    as_json: o.AsJson = False,
    csv_raw: Annotated[
        bool,
        Panel.output(
            "--csv-raw", help="Write CSV cells as they are, without the guard against formulas."
        ),
    ] = False,
    force: o.Force = False,
    fail_on_hits: Annotated[
        bool, Panel.output("--fail-on-hits", help="Exit with code 10 when there are hits.")
    ] = False,
    show_suppressed: Annotated[
        bool, Panel.output("--show-suppressed", help="Also show suppressed hits.")
    ] = False,
    show_known: Annotated[
        bool, Panel.output("--show-known", help="Also show hits that earlier runs reported.")
    ] = False,
    log_format: Annotated[
        str,
        Panel.output(
            "--log-format", metavar="NAME", help="Format of logs on stderr: text or json.",
            autocompletion=complete.one_of("text", "json"),
        ),
    ] = "text",
    verbose: o.Verbose = False,
    quiet: o.Quiet = False,
    state: Annotated[
        o.Text,
        Panel.schedule(
            "--state", metavar="PATH|URL",
            help="Remember coverage and reported findings in a file or an Azure blob.",
        ),
    ] = None,
    sink: o.Sinks = None,
    heartbeat: Annotated[
        bool, Panel.schedule("--heartbeat", help="Report the outcome of every run to every sink.")
    ] = False,
    every: Annotated[
        str,
        Panel.schedule("--every", metavar="TIME", help="Interval of the job, for the heartbeat."),
    ] = "24h",
    repeat_after: Annotated[
        str,
        Panel.schedule(
            "--repeat-after", metavar="TIME", help="Report a persisting finding again after this."
        ),
    ] = "30d",
    suppressions: o.SuppressionsFile = None,
) -> int:  # fmt: skip
    """Run hunts and show what they find. Without arguments: the Qakbot hunt.

    Without a configuration the embedded engine runs on the bundled sample.
    """
    view = _view(
        Output.of(format_, out, as_json=as_json, csv_raw=csv_raw, force=force, quiet=quiet),
        sinks=sink or (), zone=time_zone, plan_only=explain or dry_run,
    )  # fmt: skip
    request = HuntRequest(
        hunt or (), hunts or (), command or (), commands, add_command or (), threshold,
        read_values(set_ or ()), window, time_zone, config,
    )  # fmt: skip
    around = read_around(context)
    source = choose_source(
        SourceOptions(
            backend, events or (), dialect, now, timeout, config,
            Choice(profile or (), group, all_profiles), trust_host or (), read_slice(slice_),
            read_deadline(deadline), recording=recording, on_source=on_source,
            memory_limit=memory_limit, external=external or (),
            inputs=_input_options(events, time_zone, date_order, max_expanded, strict=strict),
            announce=view.format is None and not quiet and not sys.stdout.isatty(),
        ),
        os.environ,
    )  # fmt: skip
    schedule = ScheduleOptions(state, sink or (), heartbeat, every, repeat_after, suppressions)
    schedule.check(sample=source.sample)
    log = RunLog(source.now, as_json=read_log_format(log_format))
    shown = Shown.of(quiet=quiet, verbose=verbose, as_json=log.as_json)
    if explain or dry_run:
        with progress_of(shown) as progress, source.opened(request, progress.say, None) as plan:
            from qakhunt.run.plan import forecast

            found = forecast(plan)
        _show_plan(found, explain=explain, dry_run=dry_run, as_json=as_json)
        return ExitCode.OK
    try:
        with open_job(schedule, log, source) if schedule.wanted else nullcontext() as job:
            result = _hunt(
                source, request, schedule, job, log, shown, around, context_hits
            )  # fmt: skip
            _present(
                result, view, log, to_stdout="stdout" in schedule.sinks,
                suppressed=show_suppressed, known=show_known,
            )  # fmt: skip
    except QakhuntError as problem:
        if not log.as_json:
            raise
        log.error(problem)
        return int(problem.exit_code)
    code = exit_code(result, fail_on_hits=fail_on_hits)
    log.finished(result, code)
    return code


def _view(output: Output, *, sinks: Sequence[str], zone: str | None, plan_only: bool) -> Output:
    """The output with its local times; refuses what would be ignored or written twice."""
    if plan_only and (output.path or (output.format and output.format.name != "json")):
        raise UsageError(
            "--explain and --dry-run show the plan: --out and --format have no effect",
            hint="--json prints the plan as JSON",
        )
    if "stdout" in sinks and output.format is not None and output.path is None:
        raise UsageError(
            f"--sink stdout and --format {output.format.name} both write to standard output",
            hint="give one of them a file",
        )
    if zone is None or output.format is None:
        return output
    from qakhunt.reports.details import ReportDetails

    return replace(output, details=ReportDetails(zone=read_zone(zone)))


def _input_options(
    events: Sequence[str] | None, zone: str | None, date_order: str | None,
    max_expanded: float | None, *, strict: bool,
) -> InputOptions:  # fmt: skip
    """How events are read; an option without events to apply to is a mistake."""
    for given, option in (
        (strict, "--strict"), (date_order, "--date-order"), (max_expanded, "--max-expanded"),
    ):  # fmt: skip
        if given and not events:
            raise UsageError(f"{option} applies to --events, and none are given")
    return read_input_options(zone, date_order, max_expanded, strict=strict)


def _hunt(
    source: Source, request: HuntRequest, schedule: ScheduleOptions, job: Job | None, log: RunLog,
    shown: Shown, around: Timespan | None, limit: int,
) -> RunResult:  # fmt: skip
    """Run the plan as a job where there is one, else plainly."""
    conduct = schedule.conduct(job, log)
    with progress_of(shown) as progress:
        return hunt_in(
            source, schedule.request(request), progress, answered=lambda _, line: log.line(line),
            conduct=conduct, around=around, limit=limit,
        )  # fmt: skip


def _present(
    result: RunResult, output: Output, log: RunLog, *, to_stdout: bool, suppressed: bool,
    known: bool,
) -> None:  # fmt: skip
    """Show or write the result, or why there is none; JSON logs replace the account on stderr."""
    output = replace(output, quiet=output.quiet or log.as_json)
    if output.format is None and result.verdict is Verdict.FAILED:
        pass  # there is nothing to show
    elif output.format is not None:
        present(result, output)
    elif not to_stdout:
        shown = replace(result, known=frozenset()) if known else result
        present(shown, output, suppressed=suppressed)
    elif not output.quiet:
        from qakhunt.reports.console import show_account

        show_account(result, screen(to_stderr=True))
    report_failures(result)


def _show_plan(found: Forecast, *, explain: bool, dry_run: bool, as_json: bool) -> None:
    if as_json:
        from qakhunt.run.plan import plan_document

        print_json(plan_document(found))
        return
    for name, lines in found.explanation.items() if explain else ():
        print_lines([f"{name}:", *(f"  {line}" for line in lines)])
    if dry_run:
        print_lines(_plan_lines(found))


def _plan_lines(found: Forecast) -> list[str]:
    """One entry per target and kind of question: hunts that are asked alike stand together."""
    alike: dict[tuple[object, ...], list[LineForecast]] = {}
    for entry in found.lines:
        how = (entry.missing, entry.slices, entry.note, entry.billed, entry.line.rendered.window)
        alike.setdefault((entry.line.target, entry.line.backend.name, how), []).append(entry)
    lines: list[str] = []
    for entries in alike.values():
        lines += _plan_entry(entries)
    for quota in found.quotas:
        lines.append(f"{quota.whose}: {count(quota.calls, 'call')} of {quota.limit}")
    total = sum(len(entry.slices) for entry in found.lines)
    targets = len({entry.line.target for entry in found.lines})
    lines.append(f"{count(targets, 'target')}, {count(total, 'call')}; nothing was queried")
    return lines


def _plan_entry(entries: Sequence[LineForecast]) -> Iterator[str]:
    first = entries[0]
    target, slices = first.line.target, first.slices
    label = " ".join(filter(None, [target.profile, target.tenant, target.workspace]))
    hunts = [entry.line.rendered.hunt.name for entry in entries]
    asked = hunts[0] if len(hunts) == 1 else count(len(hunts), "hunt")
    if first.missing:
        yield f"{asked} on {label}: not queried: {first.missing}"
        return
    text = f"{asked} on {label} ({first.line.backend.name}): "
    text += count(len(slices) * len(hunts), "call")
    if len(slices) > 1:
        text += f", {slices[0]} to {slices[-1]}"
    yield f"{text}; {sum(entry.probes for entry in entries)} more to check the coverage"
    if first.billed:
        tables = dict.fromkeys(table for entry in entries for table in entry.tables)
        named = ", ".join(tables) or "tables that the query does not name"
        yield f"  billed by the gigabyte, size unknown: {named}, {first.line.rendered.window}"
    if first.note:
        yield f"  not sliced: {first.note}"


def report_failures(result: RunResult) -> None:
    """When nothing answered there is no result to show: say why, on stderr."""
    if result.verdict is not Verdict.FAILED:
        return
    where: dict[tuple[str, str], dict[str, None]] = {}
    for line in result.ledger.lines:
        labels = where.setdefault((line.detail, line.hint), {})
        if line.tenant or line.workspace:  # the sample and recorded events need no name
            labels[line.label] = None
    for (detail, hint), whose in where.items():
        place = f"{short_list(list(whose))}: " if whose else ""
        hints = [f"hint: {hint}"] if hint else []
        print_lines([f"error: {place}{detail}", *hints], to_stderr=True)


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
