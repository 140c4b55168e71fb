"""What makes a run unattended: its state, sinks, suppressions, deadline and logs."""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from qakhunt.cli.log import RunLog, read_log_format
from qakhunt.errors import QakhuntError, UsageError
from qakhunt.hunts.window import PUBLISHED
from qakhunt.kql.values import TICKS_PER_SECOND, Instant, Timespan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from qakhunt.answers.ledger import LedgerLine
    from qakhunt.cli.output import Output
    from qakhunt.cli.request import HuntRequest
    from qakhunt.config import Config
    from qakhunt.runner import PlanLine
    from qakhunt.schedule.options import JobOptions
    from qakhunt.schedule.sinks.base import Sink, SinkContext
    from qakhunt.schedule.store import Store
    from qakhunt.triage.run_result import RunResult

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
    log_format: str = "text"
    show_suppressed: bool = False
    show_known: bool = False


class Schedule:
    """The checked options, and the one way in which a command runs its plan.

    ``until`` is the moment of ``time.monotonic`` at which nothing more is asked.
    """

    def __init__(
        self, options: ScheduleOptions, *, now: Instant, until: float = float("inf"),
        config: Config | None = None, sleep: Callable[[float], None] = time.sleep,
    ) -> None:  # fmt: skip
        from qakhunt.schedule.sinks import make_sink

        started = time.monotonic()
        self._options = options
        self._now = now
        self._clock = lambda: now + _seconds(time.monotonic() - started)
        self._sleep = sleep
        self._told = False
        self._not_kept: QakhuntError | None = None
        self._every = read_length("--every", options.every)
        self._repeat_after = read_length("--repeat-after", options.repeat_after)
        self._until = until
        self._out_of_time = lambda: time.monotonic() >= until
        self.log = RunLog(
            uuid.uuid4().hex, self._clock, as_json=read_log_format(options.log_format)
        )
        self._around = surroundings_of(config, os.environ)
        self.sinks: list[Sink] = [
            make_sink(text, config.file.sinks if config else {}, self._around, _places(config))
            for text in dict.fromkeys(options.sinks)
        ]
        if options.heartbeat and not self.sinks:
            raise UsageError("--heartbeat needs a --sink to go to")

    def refuse_sample(self) -> None:
        """The sample is nobody's tenant: it is neither remembered nor reported."""
        for given, option in ((self._options.state, "--state"), (self._options.sinks, "--sink")):
            if given:
                raise UsageError(
                    f"{option} is not for the bundled sample",
                    hint="name a --profile, or your own --events",
                )

    def refuse_output(self, output: Output) -> None:
        """Standard output has room for one kind of data."""
        if self._owns_stdout and output.format is not None and output.path is None:
            raise UsageError(
                f"--sink stdout and --format {output.format.name} both write to standard output",
                hint="give one of them a file",
            )

    @property
    def _owns_stdout(self) -> bool:
        return "stdout" in self._options.sinks

    @contextlib.contextmanager
    def errors_told(self) -> Iterator[None]:
        """A run that could not look says so through its heartbeat.

        With JSON logs an error is one of their lines, and still ends with its code.
        """
        try:
            yield
        except QakhuntError as problem:
            if self._options.heartbeat and not self._told:
                self._send_failure(problem)
            if not self.log.as_json:
                raise
            self.log.error(problem)
            raise typer.Exit(int(problem.exit_code)) from None

    def present(self, result: RunResult, output: Output) -> None:
        """Show or write the result; JSON logs take the place of the account on stderr."""
        from qakhunt.cli.output import present

        if self.log.as_json:
            output = replace(output, quiet=True)
        if output.format is not None or not self._owns_stdout:
            shown = replace(result, known=frozenset()) if self._options.show_known else result
            present(
                shown if output.format is None else result, output,
                suppressed=self._options.show_suppressed,
            )  # fmt: skip
        elif not output.quiet:
            from rich.console import Console

            from qakhunt.reports.console import show_account

            show_account(result, Console(stderr=True, highlight=False))

    def request(self, request: HuntRequest) -> HuntRequest:
        """The request, its window left to the state where there is one."""
        if self._options.state is None:
            return request
        if request.window != PUBLISHED:
            raise UsageError(
                "--state and --window exclude each other",
                hint="the state and each hunt's lookback say where a scheduled run looks",
            )
        return replace(request, window="30d")

    def run(self, plan: Sequence[PlanLine], ask: Ask) -> RunResult:
        """Run the plan, keep and tell what it finds."""
        self.log.event("run started", lines=len(plan), state=self._options.state)
        if self._options.state is None and not self.sinks:
            return self._plain(ask(plan))
        from qakhunt.schedule.job import run_once, run_scheduled
        from qakhunt.schedule.telling import NotKept

        with contextlib.closing(self._store()) as store:
            job = run_once if self._options.state is None else run_scheduled
            try:
                return job(plan, store, self.sinks, ask, self._job_options())
            except NotKept as problem:
                self._not_kept = problem
                return problem.result
            finally:
                self._told = True

    def check_kept(self) -> None:
        """Raise, once the result is shown, what kept the state from taking it."""
        if self._not_kept is not None:
            raise self._not_kept

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the deadline, None where there is none."""
        if self._until == float("inf"):
            return None
        return max(0.0, self._until - time.monotonic())

    def close(self) -> None:
        """Close the sinks' connections."""
        for sink in self.sinks:
            sink.close()

    def progress(self, _plan_line: PlanLine, line: LedgerLine) -> None:
        """Log a line as it is answered."""
        self.log.line(line)

    def _plain(self, result: RunResult) -> RunResult:
        suppressions = self._suppressions()
        result.warnings += suppressions.expired(self._now)
        result.hits, result.suppressed_hits = suppressions.split(result.hits, self._now)
        result.suppressed = len(result.suppressed_hits)
        return result

    def _store(self) -> Store:
        from qakhunt.schedule.store_file import in_memory

        if self._options.state is None:
            return in_memory()
        return open_state(self._options.state, self._now, self._around)

    def _suppressions(self) -> Any:
        from qakhunt.triage.suppressions import Suppressions, load_suppressions

        path = self._options.suppressions
        return load_suppressions(path) if path else Suppressions()

    def _job_options(self) -> JobOptions:
        from qakhunt.schedule.options import JobOptions

        return JobOptions(
            run_id=self.log.run_id, now=self._now, clock=self._clock, sleep=self._sleep,
            repeat_after=self._repeat_after, every=self._every,
            heartbeat=self._options.heartbeat, out_of_time=self._out_of_time,
            too_late=lambda: time.monotonic() >= self._until + DELIVERY_SECONDS,
            suppressions=self._suppressions(),
        )  # fmt: skip

    def _send_failure(self, problem: QakhuntError) -> None:
        from qakhunt.schedule.deliveries import deliver
        from qakhunt.schedule.heartbeat import heartbeat_of_failure
        from qakhunt.schedule.store import RunRecord
        from qakhunt.schedule.store_file import in_memory

        beat = heartbeat_of_failure(
            problem.message, run_id=self.log.run_id, sent_at=self._now, every=self._every
        )
        with contextlib.closing(in_memory()) as store:
            store.begin(self.log.run_id, self._now)
            messages = [message for sink in self.sinks for message in sink.heartbeat(beat)]
            store.commit(
                RunRecord(self.log.run_id, self._now, self._now, "failed", {}), [], [], messages
            )
            deliver(store, self.sinks, clock=self._clock, sleep=self._sleep)


def surroundings_of(config: Config | None, environment: Mapping[str, str]) -> SinkContext:
    """What sinks and the state need of the configuration and the environment."""
    from qakhunt.config_model import Schedule as Settings
    from qakhunt.schedule.azure_blob import credential_of
    from qakhunt.schedule.sinks.base import SinkContext, resolve_reference

    settings = config.file.schedule if config else Settings()
    return SinkContext(
        secret=lambda text: resolve_reference(text, environment, settings),
        environment=environment,
        credential=lambda: credential_of(settings),
        verify=settings.ca_file or environment.get("QAKHUNT_CA_FILE") or True,
    )


def _places(config: Config | None) -> Any:
    """Where a sink's settings stand in the configuration."""
    if config is None:
        return None
    return lambda name, path: config.document.locate(("sinks", name, *path))


def open_state(text: str, now: Instant, surroundings: SinkContext, *, create: bool = True) -> Store:
    """The state at a path or a blob's URL, held until it is closed."""
    from qakhunt.schedule.azure_blob import is_blob_url

    if is_blob_url(text):
        from qakhunt.schedule.store_blob import open_blob

        return open_blob(
            text, now, environment=surroundings.environment, credential=surroundings.credential,
            verify=surroundings.verify, create=create,
        )  # fmt: skip
    from qakhunt.schedule.store_file import open_file

    return open_file(Path(text), now, create=create)


def read_state(text: str, surroundings: SinkContext) -> Store:
    """The state at a path or a blob's URL, to look at while a run may hold it."""
    from qakhunt.schedule.azure_blob import is_blob_url

    if is_blob_url(text):
        from qakhunt.schedule.store_blob import read_blob

        return read_blob(
            text, environment=surroundings.environment, credential=surroundings.credential,
            verify=surroundings.verify,
        )  # fmt: skip
    from qakhunt.schedule.store_file import read_file

    return read_file(Path(text))


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


def _seconds(number: float) -> Timespan:
    return Timespan(int(number * TICKS_PER_SECOND))
