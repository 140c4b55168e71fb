"""``qakhunt run``: the main job."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from qakhunt.answers.ledger import Verdict
from qakhunt.cli import options as o
from qakhunt.cli import scheduled as sch
from qakhunt.cli.output import Output
from qakhunt.cli.request import HuntRequest, read_now, read_product, rendered_hunts
from qakhunt.cli.streams import stdout_may_close
from qakhunt.errors import ExitCode, UsageError, nearest
from qakhunt.hunts.window import PUBLISHED
from qakhunt.reports.safe import for_terminal

if TYPE_CHECKING:
    from qakhunt.triage.run_result import RunResult

app = o.new_app()

BACKENDS = ("local",)

BackendName = Annotated[
    Optional[str],  # noqa: UP045 - typer reads it at run time on 3.10
    typer.Option("--backend", metavar="NAME", help="Who answers: local."),
]
Events = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(
        "--events", metavar="[TABLE=]PATH",
        help="Recorded events for the embedded engine: a file, a folder or a glob.",
    ),
]  # fmt: skip
FormatName = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--format", metavar="NAME", help="table, json, ndjson, csv, markdown or parquet."),
]
Out = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--out", metavar="PATH", help="Write to a file; its suffix names the format."),
]
Timeout = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option("--timeout", metavar="SECONDS", min=0.001, help="Stop a query that takes longer."),
]


@dataclass(frozen=True)
class _Source:
    """Where the embedded engine reads from."""

    events: list[str]
    now: str | None
    sample: bool


@app.command()
def run(
    hunt: o.HuntNames = None,
    backend: BackendName = None,
    events: Events = None,
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
    timeout: Timeout = None,
    format_: FormatName = None,
    out: Out = None,
    as_json: o.AsJson = False,
    csv_raw: Annotated[
        bool, typer.Option("--csv-raw", help="Leave CSV cells unguarded against formulas.")
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
    quiet: o.Quiet = False,
) -> int:
    """Run hunts and show what they find. Without arguments: the Qakbot hunt on the sample."""
    output = Output.of(format_, out, as_json=as_json, csv_raw=csv_raw, force=force, quiet=quiet)
    request = HuntRequest(
        hunt or (), hunts or (), command or (), commands, add_command or (), threshold, set_ or (),
        window, time_zone,
    )  # fmt: skip
    _check_backend(backend)
    source = _source(events, now)
    schedule = sch.Schedule(
        sch.ScheduleOptions(
            state, sink or (), heartbeat, every, repeat_after, suppressions, deadline, log_format,
            show_suppressed, show_known,
        ),
        now=read_now(source.now),
    )  # fmt: skip
    if source.sample:
        schedule.refuse_sample()
    schedule.refuse_output(output)
    with contextlib.closing(schedule), schedule.errors_logged():
        request = schedule.request(request)
        result = _run_local(request, source, read_product(dialect), timeout, schedule, quiet=quiet)
        if output.format or result.verdict is not Verdict.FAILED:
            with stdout_may_close():
                schedule.present(result, output)
        _report_failures(result)
        code = exit_code(result, fail_on_hits=fail_on_hits)
        schedule.log.finished(result, code)
    return code


def _check_backend(name: str | None) -> None:
    if name is not None and name not in BACKENDS:
        raise UsageError(
            f"no backend named {name!r}", hint=nearest(name, BACKENDS) or ", ".join(BACKENDS)
        )


def _source(events: list[str] | None, now: str | None) -> _Source:
    if events:
        return _Source(events, now, sample=False)
    from qakhunt.sample import sample_events, sample_now

    return _Source(sample_events(), now or sample_now().isoformat(), sample=True)


def _run_local(
    request: HuntRequest, source: _Source, product: str, timeout: float | None,
    schedule: sch.Schedule, *, quiet: bool,
) -> RunResult:  # fmt: skip
    from qakhunt.backends.base import Target
    from qakhunt.backends.local import LocalBackend
    from qakhunt.cli.progress import working
    from qakhunt.runner import PlanLine
    from qakhunt.runner import run as run_plan

    now = read_now(source.now)
    found = rendered_hunts(request, now=now, product=product)
    with working("loading events", quiet=quiet) as say:
        engine = LocalBackend(source.events, now=now, product=product, timeout=timeout)
        try:
            say("hunting")
            profile = "sample" if source.sample else "local"
            plan = [PlanLine(rendered, engine, Target(profile)) for rendered, _ in found]
            result = schedule.run(plan, lambda lines: run_plan(lines, schedule.progress))
        finally:
            engine.close()
    result.sample = source.sample
    return result


def _report_failures(result: RunResult) -> None:
    """When nothing answered there is no result to show: say why, on stderr."""
    if result.verdict is not Verdict.FAILED:
        return
    for line in result.ledger.lines:
        print(f"error: {for_terminal(line.detail)}", file=sys.stderr)
        if line.hint:
            print(f"hint: {for_terminal(line.hint)}", file=sys.stderr)


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
