"""Everything that is known of one hit, put together for whoever shows it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from qakhunt.kql.schema import SENTINEL
from qakhunt.kql.values import TICKS_PER_SECOND, Instant, Timespan, Window
from qakhunt.triage.assessment import Assessment, assess
from qakhunt.triage.command_notes import CommandNote, notes_of
from qakhunt.triage.entities import Entity, Place, entities_of
from qakhunt.triage.evidence import evidence_of
from qakhunt.triage.findings import Findings, findings_of
from qakhunt.triage.links import CLOUDS, Portals
from qakhunt.triage.stretches import earlier, hull, later
from qakhunt.triage.timeline import Moment, moments_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qakhunt.answers.context import HitContext
    from qakhunt.answers.hits import Hit
    from qakhunt.answers.run_result import RunResult
    from qakhunt.hunts.render import RenderedQuery

_HALF_HOUR = Timespan(1800 * TICKS_PER_SECOND)


@dataclass(frozen=True)
class Dossier:
    """One hit with its context, read once. ``number`` counts from 1.

    ``context`` is None where nobody asked for it or where it could not be had.
    """

    number: int
    hit: Hit
    rendered: RenderedQuery | None
    context: HitContext | None
    findings: Findings | None
    moments: tuple[Moment, ...]
    commands: tuple[CommandNote, ...]
    assessment: Assessment
    portals: Portals

    @cached_property
    def entities(self) -> list[Entity]:
        """Who and what is involved, with pivots and links."""
        return entities_of(self.hit, self.context, self.findings, self._place())

    @property
    def zero(self) -> Instant | None:
        """The moment that offsets count from: the first command."""
        own = self.findings.own if self.findings else ()
        return min((event.at for event in own), default=self.hit.first_seen)

    def _place(self) -> Place:
        hit = self.hit
        product = self.rendered.product if self.rendered else SENTINEL.name
        return Place(product, hit.tenant, hit.workspace, self._window(), self.portals)

    def _window(self) -> Window:
        """What pivots look at: the stretches looked at, else half an hour around the hit."""
        if self.context and self.context.looked:
            return hull(self.context.looked)
        if self.hit.first_seen is None:
            assert self.rendered is not None  # noqa: S101 - a hit comes from a hunt
            return self.rendered.window
        last = max(self.hit.last_seen or self.hit.first_seen, self.hit.first_seen)
        return Window(earlier(self.hit.first_seen, _HALF_HOUR), later(last, _HALF_HOUR))


def dossiers(result: RunResult, portals: Portals | None = None) -> list[Dossier]:
    """One dossier for each hit, in the result's order.

    ``portals`` is where links lead; a cloud that it does not name is the profile's.
    """
    contexts = result.context.hits if result.context else {}
    read = {
        number: findings_of(result.hits[number], context)
        for number, context in contexts.items()
        if number < len(result.hits) and not context.missing
    }
    counted = _counted(result, read)
    by_hunt = {rendered.hunt.name: rendered for rendered in result.rendered}
    return [
        _dossier(number, hit, by_hunt.get(hit.hunt), contexts.get(number), read.get(number),
                 counted.get((hit.profile, hit.device), {}), _portals(result, hit, portals))
        for number, hit in enumerate(result.hits)
    ]  # fmt: skip


def _portals(result: RunResult, hit: Hit, given: Portals | None) -> Portals:
    known = result.clouds.get(hit.profile)
    named = given.workspaces if given else ()
    own = known.workspace_resources.items() if known else ()
    # The named ones come last, so that they win.
    resources = (*((guid.lower(), resource) for guid, resource in own), *named)
    if given is not None and given.cloud:
        return replace(given, workspaces=resources)
    clouds = (known.cloud, known.log_analytics) if known else ("public", "public")
    cloud, azure = (name if name in CLOUDS else "public" for name in clouds)
    return Portals(cloud, resources, azure)


def _dossier(
    number: int,
    hit: Hit,
    rendered: RenderedQuery | None,
    context: HitContext | None,
    findings: Findings | None,
    counted: Mapping[tuple[Instant, str], Sequence[str]],
    portals: Portals,
) -> Dossier:
    there = context if context is not None and not context.missing else None
    moments: list[Moment] = []
    if there is not None and findings is not None:
        moments = moments_of(hit, there, findings, counted)
    return Dossier(
        number=number + 1,
        hit=hit,
        rendered=rendered,
        context=there,
        findings=findings,
        moments=tuple(moments),
        commands=tuple(notes_of(hit, moments)),
        assessment=assess(evidence_of(hit, there, findings), context, findings),
        portals=portals,
    )


def _counted(
    result: RunResult, read: Mapping[int, Findings]
) -> dict[tuple[str, str | None], dict[tuple[Instant, str], list[str]]]:
    """Per profile and device: which hunts counted the command of a given time and line."""
    found: dict[tuple[str, str | None], dict[tuple[Instant, str], list[str]]] = {}
    for number, findings in read.items():
        hit = result.hits[number]
        on_device = found.setdefault((hit.profile, hit.device), {})
        for event in findings.own:
            if event.process is not None:
                hunts = on_device.setdefault((event.at, event.process.line), [])
                if hit.hunt not in hunts:
                    hunts.append(hit.hunt)
    return found
