"""A run from its source to its result: what the command line and ``qakhunt.run`` share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qakhunt.answers.run_result import DEFAULT_LIMIT
from qakhunt.core.errors import UsageError
from qakhunt.kql.values import TICKS_PER_DAY, Timespan
from qakhunt.run.execution import RunOptions, execute
from qakhunt.run.progress import Silent
from qakhunt.run.request import seconds_left

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from qakhunt.answers.run_result import RunResult
    from qakhunt.run.plan import PlanLine
    from qakhunt.run.progress import Progress
    from qakhunt.run.request import HuntRequest
    from qakhunt.run.slicing.strategies import SliceRequest
    from qakhunt.run.source import Source

    Ask = Callable[[Sequence[PlanLine]], RunResult]
    Conduct = Callable[[Sequence[PlanLine], Ask], RunResult]


def hunt(
    source: Source,
    request: HuntRequest,
    progress: Silent | None = None,
    *,
    answered: Progress | None = None,
    conduct: Conduct | None = None,
    around: Timespan | None = None,
    limit: int = DEFAULT_LIMIT,
) -> RunResult:
    """Query the plan of the source and collect what surrounds the hits, where wanted.

    ``answered`` gets each line of the ledger beside the display; ``conduct`` takes the plan
    and the function that queries it, for a run that does more than query. Raises QakhuntError
    where there is no plan; what does not answer stands in the ledger.
    """
    shown = progress or Silent()
    report = shown.both(answered) if answered else shown.answered
    with source.opened(request, shown.say, shown.waited) as plan:
        shown.planned(plan)

        def ask(lines: Sequence[PlanLine]) -> RunResult:
            return execute(lines, RunOptions(report, shown.expected, seconds_left(source.until)))

        result = conduct(plan, ask) if conduct else ask(plan)
        collect_context(result, plan, around, limit)
    result.sample, result.clouds = source.sample, source.clouds
    return result


def collect_context(
    result: RunResult, plan: Sequence[PlanLine], around: Timespan | None, limit: int,
    only: int | None = None,
) -> None:  # fmt: skip
    """Collect into ``result`` where it is wanted and something was found."""
    if around is None or not result.hits or result.interrupted:
        return
    from qakhunt.run.collector import collect

    collect(result, plan, around=around, limit=limit, only=only)


def read_around(text: str | None) -> Timespan | None:
    """How long before and after a hit to look. Raises UsageError."""
    if text is None:
        return None
    try:
        around = Timespan.parse(text)
    except ValueError:
        raise UsageError(f"--context {text!r}: expected a time such as 30m or 2h") from None
    if not 0 < around.ticks <= TICKS_PER_DAY:
        raise UsageError(f"--context {text}: expected more than nothing, up to a day")
    return around


def read_slice(text: str | None) -> SliceRequest | None:
    """How to slice. Raises UsageError."""
    if text is None:
        return None
    from qakhunt.run.slicing.strategies import read_slices

    try:
        return read_slices(text)
    except ValueError as problem:
        raise UsageError(f"--slice: {problem}") from None
