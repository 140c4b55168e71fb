"""Everything that is known of one hit: commands, rarity, assessment, entities."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from qakhunt.hunts.attack import attack
from qakhunt.hunts.command_catalogue import families
from qakhunt.hunts.model import LOG_ANALYTICS
from qakhunt.kql.values import TICKS_PER_SECOND, Instant, Timespan, Window
from qakhunt.triage.assessment import Assessment, assess
from qakhunt.triage.entities import CLOUDS, Entity, Place, Portals, entities_of
from qakhunt.triage.evidence import evidence_of
from qakhunt.triage.process_tree import HitProcesses, hit_processes
from qakhunt.triage.time_ranges import earlier, hull, later
from qakhunt.triage.timeline import Moment, moments_of, stages_of
from qakhunt.triage.words import count, offset

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qakhunt.answers.hits import Hit
    from qakhunt.answers.run_result import HitContext, Rarity, RunResult
    from qakhunt.hunts.command_catalogue import Command
    from qakhunt.hunts.render import RenderedQuery
    from qakhunt.triage.timeline import Moment, Stage


@dataclass(frozen=True)
class Technique:
    """An ATT&CK technique: its id, its name where known, and its page."""

    id: str
    name: str
    url: str


@dataclass(frozen=True)
class CommandNote:
    """One distinct command line of a hit and what is known of it.

    ``offset`` is that of its first run, None where times are not known; ``runs`` counts
    the runs seen, 0 where none was. ``counted`` says whether this hit's hunt counted
    it; ``counted_by`` names every hunt of the run that did.
    """

    command: Command
    title: str
    reveals: str
    techniques: tuple[Technique, ...]
    offset: Timespan | None
    runs: int
    counted: bool
    counted_by: tuple[str, ...]

    @property
    def counted_words(self) -> str:
        """Who counted it, where that is not this hit's hunt alone; else nothing."""
        others = len(self.counted_by) - self.counted
        if self.counted:
            return f"counted by {count(others, 'other hunt')} too" if others else ""
        names = ", ".join(self.counted_by)
        return f"counted by {names} alone" if names else "not counted by the hunt"


_SHOWN = 160


def technique(identifier: str) -> Technique:
    """The technique of that id."""
    name = families().techniques.get(identifier) or attack().techniques.get(identifier, "")
    page = "/".join(["https://attack.mitre.org/techniques", *identifier.split(".")])
    return Technique(identifier, name, f"{page}/")


def notes_of(hit: Hit, moments: Sequence[Moment]) -> list[CommandNote]:
    """The hit's commands in the order of their first run, and the uncounted ones with them.

    A discovery command that ran among them, from the same processes, but that the hunt
    does not list, is here too, with ``counted`` False.
    """
    lines = {command.line: command for command in hit.commands}
    seen: dict[str, list[Moment]] = {}
    for moment in moments:
        process = moment.event.process
        if process is not None and (moment.own or (moment.discovery and moment.related)):
            seen.setdefault(process.line, []).append(moment)
    notes = []
    for line, runs in seen.items():
        command = lines.get(line) or runs[0].event.command
        if command is not None:
            notes.append(_note(hit, command, runs, counted=line in lines))
    notes += [
        _note(hit, command, [], counted=True) for line, command in lines.items() if line not in seen
    ]
    return notes


def _note(hit: Hit, command: Command, runs: Sequence[Moment], *, counted: bool) -> CommandNote:
    family = families().families.get(command.family or "")
    by = dict.fromkeys([hit.hunt] if counted else [])
    by |= dict.fromkeys(name for moment in runs for name in moment.counted_by)
    return CommandNote(
        command=command,
        title=family.title if family else "",
        reveals=family.reveals if family else "",
        techniques=tuple(technique(identifier) for identifier in command.techniques),
        offset=runs[0].offset if runs else None,
        runs=len(runs),
        counted=counted,
        counted_by=tuple(by),
    )


def stage_lines(hit_report: HitReport) -> list[str]:
    """What hunts saw on the device within a day, in order, with offsets from the hit."""
    zero = hit_report.hit.first_seen
    if zero is None:
        return []
    return [
        f"{offset(stage.at.since(zero))}, "
        + ("this hit" if stage.number == hit_report.number else f"hit {stage.number}")
        + f": {stage.title}"
        + (f" ({_start(stage.said)})" if stage.said else "")
        for stage in hit_report.stages
    ]


def _start(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def rarity_lines(hit_report: HitReport) -> list[str]:
    """One sentence for each count; the hit itself is among those counted."""
    context = hit_report.context
    if context is None:
        return []
    return [f"{_subject(rarity, hit_report)}: {_counts(rarity)}" for rarity in context.rarity]


def _subject(rarity: Rarity, hit_report: HitReport) -> str:
    if rarity.kind == "issuer":
        return f"{rarity.value} issuing discovery commands"
    if rarity.kind == "families":
        families = {n.command.family for n in hit_report.commands if n.command.family}
        return f"the same {count(len(families), 'family', 'families')} from one account"
    for issuer in hit_report.processes.issuers if hit_report.processes else ():
        if issuer.process.sha256.lower() == rarity.value:
            return f"the file of {issuer.process.file} ({rarity.value[:12]}…)"
    return f"the file {rarity.value[:12]}…"


def _counts(rarity: Rarity) -> str:
    devices = count(rarity.devices, "device")
    if rarity.devices == 1:
        devices = "this device alone"
    accounts, days = count(rarity.accounts, "account"), count(rarity.days, "day")
    return f"{devices}, {accounts}, {days}"


_HALF_HOUR = Timespan(1800 * TICKS_PER_SECOND)


@dataclass(frozen=True)
class HitReport:
    """One hit with its context, read once. ``number`` counts from 1.

    ``context`` is None where nobody asked for it or where it could not be had.
    """

    number: int
    hit: Hit
    rendered: RenderedQuery | None
    context: HitContext | None
    processes: HitProcesses | None
    moments: tuple[Moment, ...]
    commands: tuple[CommandNote, ...]
    assessment: Assessment
    portals: Portals
    stages: tuple[Stage, ...] = ()

    @cached_property
    def entities(self) -> list[Entity]:
        """Who and what is involved, with pivots and links."""
        return entities_of(self.hit, self.context, self.processes, self._place())

    @property
    def zero(self) -> Instant | None:
        """The moment that offsets count from: the first command."""
        own = self.processes.own if self.processes else ()
        return min((event.at for event in own), default=self.hit.first_seen)

    def _place(self) -> Place:
        hit = self.hit
        product = self.rendered.product if self.rendered else LOG_ANALYTICS
        return Place(product, hit.tenant, hit.workspace, self._window(), self.portals)

    def _window(self) -> Window:
        """What pivots look at: the time ranges queried, else half an hour around the hit."""
        if self.context and self.context.looked:
            return hull(self.context.looked)
        if self.hit.first_seen is None:
            assert self.rendered is not None  # noqa: S101 - a hit comes from a hunt
            return self.rendered.window
        last = max(self.hit.last_seen or self.hit.first_seen, self.hit.first_seen)
        return Window(earlier(self.hit.first_seen, _HALF_HOUR), later(last, _HALF_HOUR))


def hit_reports(result: RunResult, portals: Portals | None = None) -> list[HitReport]:
    """One hit_report for each hit, in the result's order.

    ``portals`` is where links lead; a cloud that it does not name is the profile's.
    """
    contexts = result.context.hits if result.context else {}
    read = {
        number: hit_processes(result.hits[number], context)
        for number, context in contexts.items()
        if number < len(result.hits) and not context.missing
    }
    counted = _counted(result, read)
    by_hunt = {rendered.hunt.name: rendered for rendered in result.rendered}
    stages = stages_of(result)
    return [
        _hit_report(number, hit, by_hunt.get(hit.hunt), contexts.get(number), read.get(number),
                 counted.get((hit.profile, hit.device), {}), _portals(result, hit, portals),
                 stages.get(number + 1, ()))
        for number, hit in enumerate(result.hits)
    ]  # fmt: skip


def _portals(result: RunResult, hit: Hit, given: Portals | None) -> Portals:
    known = result.clouds.get(hit.profile)
    named = given.workspaces if given else ()
    own = known.workspace_resources.items() if known else ()
    # The named ones come last, so that they win.
    resources = (*((guid.lower(), resource) for guid, resource in own), *named)
    kusto = (known.cluster, known.database) if known else (None, None)
    if given is not None and given.cloud:
        return replace(given, workspaces=resources, cluster=kusto[0], database=kusto[1])
    clouds = (known.cloud, known.log_analytics) if known else ("public", "public")
    cloud, azure = (name if name in CLOUDS else "public" for name in clouds)
    return Portals(cloud, resources, azure, *kusto)


def _hit_report(
    number: int,
    hit: Hit,
    rendered: RenderedQuery | None,
    context: HitContext | None,
    processes: HitProcesses | None,
    counted: Mapping[tuple[Instant, str], Sequence[str]],
    portals: Portals,
    stages: tuple[Stage, ...],
) -> HitReport:
    there = context if context is not None and not context.missing else None
    moments: list[Moment] = []
    if there is not None and processes is not None:
        moments = moments_of(hit, there, processes, counted)
    return HitReport(
        number=number + 1,
        hit=hit,
        rendered=rendered,
        context=there,
        processes=processes,
        moments=tuple(moments),
        commands=tuple(notes_of(hit, moments)),
        assessment=assess(
            replace(evidence_of(hit, there, processes), stages=stages), context, processes
        ),
        portals=portals,
        stages=stages,
    )


def _counted(
    result: RunResult, read: Mapping[int, HitProcesses]
) -> dict[tuple[str, str | None], dict[tuple[Instant, str], list[str]]]:
    """Per profile and device: which hunts counted the command of a given time and line."""
    found: dict[tuple[str, str | None], dict[tuple[Instant, str], list[str]]] = {}
    for number, processes in read.items():
        hit = result.hits[number]
        on_device = found.setdefault((hit.profile, hit.device), {})
        for event in processes.own:
            if event.process is not None:
                hunts = on_device.setdefault((event.at, event.process.line), [])
                if hit.hunt not in hunts:
                    hunts.append(hit.hunt)
    return found
