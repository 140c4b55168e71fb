"""Options and steps by which commands collect what surrounded the hits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Optional

import typer

from qakhunt.core.errors import UsageError
from qakhunt.kql.values import TICKS_PER_DAY, Timespan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qakhunt.answers.run_result import RunResult
    from qakhunt.run.plan import PlanLine

LONGEST = Timespan(TICKS_PER_DAY)

Around = Annotated[
    Optional[str],  # noqa: UP045 - typer reads it at run time on 3.10
    typer.Option(
        "--context", metavar="TIME", help="Fetch what surrounded each hit, such as 30m or 2h.",
    ),
]  # fmt: skip
Limit = Annotated[
    int,
    typer.Option("--context-hits", metavar="N", min=1, help="Fetch it for the first N hits."),
]


def read_around(text: str | None) -> Timespan | None:
    """How long before and after a hit to look. Raises UsageError."""
    if text is None:
        return None
    try:
        around = Timespan.parse(text)
    except ValueError:
        raise UsageError(f"--context {text!r}: expected a time such as 30m or 2h") from None
    if not 0 < around.ticks <= LONGEST.ticks:
        raise UsageError(f"--context {text}: expected more than nothing, up to a day")
    return around


def collect_context(
    result: RunResult,
    plan: Sequence[PlanLine],
    around: Timespan | None,
    limit: int,
    only: int | None = None,
) -> None:
    """Collect into ``result`` where somebody asked and something was found."""
    if around is None or not result.hits or result.interrupted:
        return
    from qakhunt.run.collector import collect

    collect(result, plan, around=around, limit=limit, only=only)
