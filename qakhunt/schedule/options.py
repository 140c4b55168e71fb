"""What makes a run unattended: its options, and the job that they ask for."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from qakhunt.core.errors import QakhuntError, UsageError
from qakhunt.hunts.window import PUBLISHED
from qakhunt.run.request import read_length
from qakhunt.triage.suppressions import Suppressions, load_suppressions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from qakhunt.answers.run_result import RunResult
    from qakhunt.run.hunting import Ask, Conduct
    from qakhunt.run.log import RunLog
    from qakhunt.run.plan import PlanLine
    from qakhunt.run.request import HuntRequest
    from qakhunt.run.source import Source
    from qakhunt.schedule.job import Job

DELIVERY_SECONDS = 600
"""Findings are still delivered for so long after the deadline."""


@dataclass(frozen=True)
class ScheduleOptions:
    """The options as given."""

    state: str | None = None
    sinks: Sequence[str] = ()
    heartbeat: bool = False
    every: str = "24h"
    repeat_after: str = "30d"
    suppressions: Path | None = None

    @property
    def wanted(self) -> bool:
        """Whether the run is a job: it keeps a state or reports to a sink."""
        return self.state is not None or bool(self.sinks)

    def check(self, *, sample: bool) -> None:
        """Refuse what does not go together. Raises UsageError."""
        for given, option in ((self.state, "--state"), (self.sinks, "--sink")):
            if given and sample:  # nobody's tenant: it is neither remembered nor reported
                raise UsageError(
                    f"{option} is not for the bundled sample",
                    hint="name a --profile, or your own --events",
                )
        for option, length in (("--every", self.every), ("--repeat-after", self.repeat_after)):
            read_length(option, length)
        if self.heartbeat and not self.sinks:
            raise UsageError("--heartbeat needs a --sink to go to")

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

    def read_suppressions(self) -> Suppressions:
        """The suppressions of the file. Raises UsageError."""
        return load_suppressions(self.suppressions) if self.suppressions else Suppressions()

    def conduct(self, job: Job | None, log: RunLog) -> Conduct:
        """Runs a plan as the job where there is one, else plainly. Raises UsageError."""
        suppressions = self.read_suppressions()

        def conduct(plan: Sequence[PlanLine], ask: Ask) -> RunResult:
            log.event("run started", lines=len(plan), state=self.state)
            if job is not None:
                return job.run(plan, ask)
            result = ask(plan)
            suppressions.apply(result, log.now)
            return result

        return conduct


@contextlib.contextmanager
def open_job(
    options: ScheduleOptions, log: RunLog, source: Source,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Job]:  # fmt: skip
    """The job of a checked set of options, for one source, closed with the block.

    An error inside the block is reported by the job's heartbeat and raised.
    """
    from qakhunt.schedule.delivery import JobOptions
    from qakhunt.schedule.job import Job

    job_options = JobOptions(
        run_id=log.run_id, now=log.now, clock=log.clock, sleep=sleep,
        repeat_after=read_length("--repeat-after", options.repeat_after),
        every=read_length("--every", options.every), heartbeat=options.heartbeat,
        suppressions=options.read_suppressions(),
        out_of_time=lambda: time.monotonic() >= source.until,
        too_late=lambda: time.monotonic() >= source.until + DELIVERY_SECONDS,
    )  # fmt: skip
    job = Job(job_options, state=options.state, sinks=options.sinks, config=source.config)
    try:
        yield job
        job.check_kept()
    except QakhuntError as problem:
        job.report_failure(problem)
        raise
    finally:
        job.close()
