"""What several hunts saw on one device, joined by time: delivery, the burst, what followed.

Findings stay as they are, each an episode of one account. A stage joins accounts, since
what begins as a person's goes on as SYSTEM.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qakhunt.kql.values import TICKS_PER_DAY, Instant

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qakhunt.answers.hits import Hit
    from qakhunt.answers.run_result import RunResult

DISCOVERY = "discovery"
LOADING = frozenset(("delivery", "injection"))
"""Behaviours that bring code in; administration does neither."""


@dataclass(frozen=True)
class Stage:
    """One hit as a step on its device; ``number`` counts hits from 1."""

    number: int
    hunt: str
    behaviour: str
    title: str
    at: Instant
    account: str
    said: str


def stages_of(result: RunResult) -> dict[int, tuple[Stage, ...]]:
    """Hit number -> the stages on its device within a day of it, itself among them, by time.

    A hit alone on its device, or without a device or time, has none.
    """
    hunts = {rendered.hunt.name: rendered.hunt for rendered in result.rendered}
    by_device: dict[tuple[str, str], list[Stage]] = {}
    for number, hit in enumerate(result.hits, 1):
        hunt = hunts.get(hit.hunt)
        if hunt is None or hit.device is None or hit.first_seen is None:
            continue
        title = hunt.title.partition(": ")[2] or hunt.title
        stage = Stage(
            number, hit.hunt, hunt.notes.behaviour, title, hit.first_seen, hit.account or "",
            _said(hit),
        )  # fmt: skip
        by_device.setdefault((hit.tenant or hit.profile, hit.device.casefold()), []).append(stage)
    found = {}
    for stages in by_device.values():
        stages.sort(key=lambda stage: (stage.at, stage.number))
        for stage in stages:
            near = tuple(s for s in stages if abs(s.at.since(stage.at).ticks) <= TICKS_PER_DAY)
            if len({s.hunt for s in near}) > 1:
                found[stage.number] = near
    return found


def joined(stages: Sequence[Stage]) -> bool:
    """Whether they are steps of one intrusion: code came in, and something else happened."""
    behaviours = {stage.behaviour for stage in stages}
    return bool(behaviours & LOADING) and len(behaviours) > 1


def _said(hit: Hit) -> str:
    """The first thing that the hit counted."""
    return hit.commands[0].line if hit.commands else ""
