"""The events around a hit in order, with offsets from its first command.

The hit's commands are marked; time ranges in which nothing happened are folded into one
entry, so are runs of events that have nothing to do with the commands' processes.
What several hunts saw on one device is joined by time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qakhunt.kql.values import TICKS_PER_DAY, TICKS_PER_SECOND, Instant, Timespan
from qakhunt.triage.records import events_of
from qakhunt.triage.words import count, span

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qakhunt.answers.hits import Hit
    from qakhunt.answers.run_result import HitContext, RunResult
    from qakhunt.triage.process_tree import HitProcesses
    from qakhunt.triage.records import Event, Process

QUIET = 120 * TICKS_PER_SECOND


@dataclass(frozen=True)
class Moment:
    """One event; ``own`` marks the hit's commands, ``counted_by`` the hunts that counted it.

    ``related`` says that it belongs to the processes of the hit, or is an alert or a logon.
    """

    event: Event
    offset: Timespan
    own: bool
    related: bool
    counted_by: tuple[str, ...] = ()

    @property
    def discovery(self) -> bool:
        """Whether it is a known discovery command."""
        return self.event.command is not None and self.event.command.family is not None

    @property
    def look(self) -> str:
        """``own`` for the hit's commands, ``uncounted`` for those beside them, else what it is.

        That is ``alert``, ``related`` or ``plain``.
        """
        if self.event.kind == "alert":
            return "alert"
        if self.own:
            return "own"
        if self.discovery and self.related:
            return "uncounted"
        return "related" if self.related else "plain"


@dataclass(frozen=True)
class Quiet:
    """A time range without events."""

    start: Instant
    length: Timespan


@dataclass(frozen=True)
class Folded:
    """Events of other processes that are not shown one by one, over ``length``."""

    moments: tuple[Moment, ...]
    length: Timespan


if TYPE_CHECKING:
    Gap = Quiet | Folded
    Entry = Moment | Gap


def moments_of(
    hit: Hit,
    context: HitContext,
    processes: HitProcesses,
    counted: Mapping[tuple[Instant, str], Sequence[str]],
) -> list[Moment]:
    """Every event around the hit. ``counted`` tells which hunts counted a command."""
    own = {(event.at, event.process) for event in processes.own}
    zero = min((event.at for event in processes.own), default=hit.first_seen)
    theirs = _processes(processes)
    found = []
    for event in events_of(context):
        process = event.process
        found.append(
            Moment(
                event=event,
                offset=event.at.since(zero or event.at),
                own=process is not None and (event.at, process) in own,
                related=_related(event, theirs),
                counted_by=tuple(counted.get((event.at, process.line), ())) if process else (),
            )
        )
    return found


def entries(moments: Sequence[Moment], *, fold: bool) -> list[Entry]:
    """The moments with quiet time ranges, and with unrelated runs folded where asked.

    A folded run takes the quiet around it with it, from what is shown before it to
    what is shown after it.
    """
    shown: list[Entry] = []
    run: list[Moment] = []
    before: Instant | None = None
    for moment in moments:
        if fold and not (moment.own or moment.related or moment.discovery):
            run.append(moment)
            continue
        shown += _between(before, run, moment.event.at)
        shown.append(moment)
        before = moment.event.at
        run = []
    return shown + _between(before, run, run[-1].event.at) if run else shown


def _between(before: Instant | None, run: Sequence[Moment], after: Instant) -> list[Entry]:
    """What stands between two shown moments: folded events, a quiet period, or nothing."""
    start = before or (run[0].event.at if run else after)
    length = after.since(start)
    if run:
        return [Folded(tuple(run), length)]
    return [Quiet(start, length)] if length.ticks >= QUIET else []


def _processes(processes: HitProcesses) -> set[tuple[int | None, str, Instant | None]]:
    """The processes of the hit: issuing ones, their ancestors, and the commands'."""
    nodes = [node for issuer in processes.issuers for node in (issuer, *issuer.ancestors())]
    known = {_name(node.process) for node in nodes}
    return known | {_name(event.process) for event in processes.discovery if event.process}


def _name(process: Process) -> tuple[int | None, str, Instant | None]:
    started = process.started
    rounded = Instant(started.ticks - started.ticks % TICKS_PER_SECOND) if started else None
    return process.id, process.file.casefold(), rounded


_TOP = frozenset(("explorer.exe", "services.exe", "svchost.exe", "userinit.exe", "winlogon.exe"))


def _related(event: Event, theirs: set[tuple[int | None, str, Instant | None]]) -> bool:
    if event.kind in ("alert", "logon"):
        return True
    if event.process is not None and _name(event.process) in theirs:
        return True
    issuer = event.issuer
    # What a desktop or a service host starts is related only where it leads to the commands.
    return issuer is not None and _name(issuer) in theirs and issuer.file.casefold() not in _TOP


def gap_words(gap: Gap) -> str:
    """A quiet or folded period in words."""
    if isinstance(gap, Folded):
        events = count(len(gap.moments), "event")
        return f"{events} of other processes in {span(gap.length.seconds)}"
    return f"{span(gap.length.seconds)} without events"


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
