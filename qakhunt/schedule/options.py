"""How a scheduled run behaves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from qakhunt.schedule.coverage import MOST_MADE_UP
from qakhunt.triage.suppressions import Suppressions

if TYPE_CHECKING:
    from collections.abc import Callable

    from qakhunt.kql.values import Instant, Timespan

MOST_TOLD = 2000
"""Findings that one run reports where there is a state; the next run reports the rest."""


@dataclass(frozen=True)
class JobOptions:
    """How a job behaves. ``every`` is when the next run is expected after this one.

    ``repeat_after`` is when a finding that is still there is reported again;
    ``most_made_up`` bounds the owed windows asked per hunt and workspace.
    ``out_of_time`` ends the asking, ``too_late`` the delivering.
    """

    run_id: str
    now: Instant
    clock: Callable[[], Instant]
    sleep: Callable[[float], None]
    repeat_after: Timespan
    every: Timespan
    heartbeat: bool = False
    most_made_up: int = MOST_MADE_UP
    out_of_time: Callable[[], bool] = lambda: False
    too_late: Callable[[], bool] = lambda: False
    most_told: int = MOST_TOLD
    suppressions: Suppressions = field(default_factory=Suppressions)
