"""What a hit's context says about its commands: which they are and who issued them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qakhunt.triage.process_tree import Forest, Node
from qakhunt.triage.records import Event, ancestors_of, processes_of

if TYPE_CHECKING:
    from qakhunt.answers.context import HitContext
    from qakhunt.answers.hits import Hit
    from qakhunt.triage.records import Process


@dataclass(frozen=True)
class Findings:
    """The hit's own commands as events, who issued them, and what else these ran.

    ``own`` are the commands that the hunt counted; ``discovery`` are all known
    discovery commands of the same issuing processes, counted or not, ``own`` included.
    ``unclear`` says that no process is known to have issued some of them.
    """

    own: tuple[Event, ...]
    discovery: tuple[Event, ...]
    issuers: tuple[Node, ...]
    forest: Forest
    unclear: bool


def findings_of(hit: Hit, context: HitContext) -> Findings:
    """Read the context once; without process records everything is empty."""
    timeline = processes_of(context)
    forest = Forest([*timeline, *ancestors_of(context)])
    own = _own(hit, timeline)
    issuers: dict[int, Node] = {}
    unclear = False
    for event in own:
        issuer = forest.issuer_of(forest.node_of(event))
        if issuer is None:
            unclear = True
        else:
            issuers.setdefault(id(issuer), issuer)
    counted = {id(event) for event in own}
    discovery = [
        event
        for event in timeline
        if id(event) in counted
        or (
            event.command is not None
            and event.command.family is not None
            and id(forest.issuer_of(forest.node_of(event))) in issuers
        )
    ]
    return Findings(tuple(own), tuple(discovery), tuple(issuers.values()), forest, unclear)


def issuing_processes(hit: Hit, context: HitContext) -> list[Process]:
    """The processes that issued the hit's commands."""
    return [node.process for node in findings_of(hit, context).issuers]


def unknown_ancestors(hit: Hit, context: HitContext) -> list[Process]:
    """Ancestors of the hit's commands whose creation is not in the timeline."""
    found: dict[int, Process] = {}
    for issuer in findings_of(hit, context).issuers:
        for node in (issuer, *issuer.ancestors()):
            if node.event is None and node.process.id is not None:
                found.setdefault(id(node), node.process)
    return list(found.values())


def core_families(hit: Hit, context: HitContext) -> set[str]:
    """The families of the hit's commands and of whatever else their issuers ran."""
    commands = [*hit.commands]
    commands += [e.command for e in findings_of(hit, context).discovery if e.command]
    return {command.family for command in commands if command.family}


def _own(hit: Hit, timeline: list[Event]) -> list[Event]:
    first = hit.first_seen
    if first is None:
        return []
    last = max(hit.last_seen or first, first)
    lines = {command.line for command in hit.commands}
    found = [
        event
        for event in timeline
        # Fractions below a microsecond are lost where the embedded engine computed the hit.
        if first.floor_microsecond() <= event.at.floor_microsecond() <= last
        and event.process is not None
        and event.process.line in lines
    ]
    account = (hit.account or "").casefold()
    theirs = [event for event in found if _account(event) in ("", account)]
    return theirs if account and theirs else found


def _account(event: Event) -> str:
    return str(event.record.get("AccountName") or "").casefold()
