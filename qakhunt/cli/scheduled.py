"""What makes a run unattended: its state, sinks, suppressions, deadline and logs."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from qakhunt.core.errors import QakhuntError, UsageError
from qakhunt.hunts.window import PUBLISHED
from qakhunt.kql.values import Timespan
from qakhunt.triage.suppressions import Suppressions, load_suppressions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from qakhunt.answers.run_result import RunResult
    from qakhunt.cli.log import RunLog
    from qakhunt.cli.output import Output
    from qakhunt.cli.request import HuntRequest
    from qakhunt.run.config import Config
    from qakhunt.run.plan import PlanLine
    from qakhunt.schedule.job import Job

    Ask = Callable[[Sequence[PlanLine]], RunResult]

State = Annotated[
    Optional[str],  # noqa: UP045 - typer reads it at run time on 3.10
    typer.Option(
        "--state", metavar="PATH|URL",
        help="Remember what was looked at and reported: a file, or the URL of an Azure blob.",
    ),
]  # fmt: skip
Sinks = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(
        "--sink", metavar="NAME|KIND:ADDRESS",
        help="Send findings there: file:, webhook:, teams:, log-analytics:, smtp:, stdout, "
        "or a sink of the configuration. Repeatable.",
    ),
]  # fmt: skip
Heartbeat = Annotated[
    bool, typer.Option("--heartbeat", help="Send every sink a word of how the run went.")
]
Every = Annotated[
    str, typer.Option("--every", metavar="TIME", help="How often the job runs, for the heartbeat.")
]
RepeatAfter = Annotated[
    str,
    typer.Option(
        "--repeat-after", metavar="TIME", help="Report a finding that is still there after this."
    ),
]
SuppressionsFile = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--suppressions", metavar="FILE", help="Hide what this file vouches for."),
]
ShowSuppressed = Annotated[
    bool, typer.Option("--show-suppressed", help="Show suppressed hits too.")
]
ShowKnown = Annotated[
    bool, typer.Option("--show-known", help="Show hits that earlier runs reported too.")
]
Deadline = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--deadline", metavar="TIME", help="Ask nothing more after this long, such as 150m."
    ),
]
LogFormat = Annotated[
    str, typer.Option("--log-format", metavar="NAME", help="Logs on stderr: text or json.")
]


DELIVERY_SECONDS = 600
"""What was found is still delivered for so long after the deadline."""


@dataclass(frozen=True)
class ScheduleOptions:
    """The options as given."""

    state: str | None = None
    sinks: Sequence[str] = ()
    heartbeat: bool = False
    every: str = "24h"
    repeat_after: str = "30d"
    suppressions: Path | None = None
    show_suppressed: bool = False
    show_known: bool = False

    def check(self, output: Output, *, sample: bool) -> None:
        """Refuse what does not go together. Raises UsageError."""
        for given, option in ((self.state, "--state"), (self.sinks, "--sink")):
            if given and sample:  # nobody's tenant: it is neither remembered nor reported
                raise UsageError(
                    f"{option} is not for the bundled sample",
                    hint="name a --profile, or your own --events",
                )
        if "stdout" in self.sinks and output.format is not None and output.path is None:
            raise UsageError(
                f"--sink stdout and --format {output.format.name} both write to standard output",
                hint="give one of them a file",
            )

    def request(self, request: HuntRequest) -> HuntRequest:
        """The request, its window left to the state where there is one."""
        if self.state is None:
            return request
        if request.window != PUBLISHED:
            raise UsageError(
                "--state and --window exclude each other",
                hint="the state and each hunt's lookback say where a scheduled run looks",
            )
        return replace(request, window="30d")


@dataclass(frozen=True)
class Run:
    """How a command runs its plan: as a job where there is a state or a sink, else plainly."""

    log: RunLog
    suppressions: Suppressions
    job: Job | None

    def __call__(self, plan: Sequence[PlanLine], ask: Ask) -> RunResult:
        self.log.event("run started", lines=len(plan), state=self.job.state if self.job else None)
        if self.job is not None:
            return self.job.run(plan, ask)
        result = ask(plan)
        self.suppressions.apply(result, self.log.now)
        return result

    @contextlib.contextmanager
    def reporting_errors(self) -> Iterator[None]:
        """A run that could not look reports it through its heartbeat; the job is closed.

        With JSON logs an error is one of their lines, and still ends with its code.
        """
        try:
            yield
            if self.job is not None:
                self.job.check_kept()
        except QakhuntError as problem:
            if self.job is not None:
                self.job.report_failure(problem)
            if not self.log.as_json:
                raise
            self.log.error(problem)
            raise typer.Exit(int(problem.exit_code)) from None
        finally:
            if self.job is not None:
                self.job.close()


def run_of(
    options: ScheduleOptions, log: RunLog, *, until: float = float("inf"),
    config: Config | None = None, sleep: Callable[[float], None] = time.sleep,
) -> Run:  # fmt: skip
    """What the options ask for. ``until`` is when, by ``time.monotonic``, no query starts."""
    every = read_length("--every", options.every)
    repeat_after = read_length("--repeat-after", options.repeat_after)
    if options.heartbeat and not options.sinks:
        raise UsageError("--heartbeat needs a --sink to go to")
    path = options.suppressions
    suppressions = load_suppressions(path) if path else Suppressions()
    if options.state is None and not options.sinks:
        return Run(log, suppressions, None)
    from qakhunt.schedule.delivery import JobOptions
    from qakhunt.schedule.job import Job

    job_options = JobOptions(
        run_id=log.run_id, now=log.now, clock=log.clock, sleep=sleep, repeat_after=repeat_after,
        every=every, heartbeat=options.heartbeat, suppressions=suppressions,
        out_of_time=lambda: time.monotonic() >= until,
        too_late=lambda: time.monotonic() >= until + DELIVERY_SECONDS,
    )  # fmt: skip
    job = Job(job_options, state=options.state, sinks=options.sinks, config=config)
    return Run(log, suppressions, job)


def present_run(result: RunResult, output: Output, options: ScheduleOptions, log: RunLog) -> None:
    """Show or write the result; JSON logs take the place of the account on stderr."""
    from qakhunt.cli.output import present

    if log.as_json:
        output = replace(output, quiet=True)
    if output.format is not None or "stdout" not in options.sinks:
        shown = replace(result, known=frozenset()) if options.show_known else result
        present(
            shown if output.format is None else result, output,
            suppressed=options.show_suppressed,
        )  # fmt: skip
    elif not output.quiet:
        from rich.console import Console

        from qakhunt.reports.console import show_account

        show_account(result, Console(stderr=True, highlight=False))


def read_length(option: str, text: str) -> Timespan:
    """A length of time with its unit, such as 26h."""
    try:
        span = Timespan.parse(text)
    except (ValueError, OverflowError):
        span = Timespan(0)
    if span.ticks <= 0 or text.strip().isdigit():
        raise UsageError(f"{option} {text!r}: not a length of time", hint="write one such as 26h")
    return span


def read_deadline(text: str | None) -> float:
    """The moment of ``time.monotonic`` that ``--deadline`` names; none is infinity."""
    if text is None:
        return float("inf")
    return time.monotonic() + read_length("--deadline", text).seconds


def seconds_left(until: float) -> float | None:
    """Seconds until that moment of ``time.monotonic``; None for infinity."""
    return None if until == float("inf") else max(0.0, until - time.monotonic())
