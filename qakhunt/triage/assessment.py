"""What a hit looks like, with the reasons in plain words.

The criteria are stated below, in the order in which they are tried; each is tested. An
assessment ranks nothing and hides nothing: attackers imitate administrators, and what
was not looked at is said.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from qakhunt.answers.ledger import Status
from qakhunt.hunts.command_catalogue import families
from qakhunt.triage.evidence import (
    BY_HAND,
    LOADERS,
    Burst,
    Evidence,
    by_service,
    encoded,
    without_arguments,
)
from qakhunt.triage.timeline import joined
from qakhunt.triage.words import count, short_list, span

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from qakhunt.answers.run_result import HitContext
    from qakhunt.triage.process_tree import HitProcesses


class Kind(str, Enum):
    """What a hit resembles, the most suspicious first."""

    QAKBOT = "consistent_with_qakbot"
    LOADER = "consistent_with_loader_discovery"
    UNCLEAR = "cannot_tell"
    ADMINISTRATION = "resembles_administration"
    INVENTORY = "resembles_inventory"

    @property
    def rank(self) -> int:
        """0 for the most suspicious."""
        return list(Kind).index(self)

    @property
    def malware(self) -> bool:
        """Whether it is malware that the hit resembles."""
        return self in (Kind.QAKBOT, Kind.LOADER)


TITLES = {
    Kind.QAKBOT: "Consistent with Qakbot, as other loaders are too",
    Kind.LOADER: "Consistent with loader discovery (Qakbot, Pikabot, IcedID, ...)",
    Kind.INVENTORY: "Resembles inventory",
    Kind.ADMINISTRATION: "Resembles administration",
    Kind.UNCLEAR: "Cannot tell",
}
_CAUTIONS = {
    Kind.QAKBOT: "The commands alone do not name the malware: other loaders run the same ones.",
    Kind.LOADER: "The commands alone do not name the malware, and an operator may type them.",
    Kind.INVENTORY: "This does not clear the device: a name can be taken, and attackers imitate.",
    Kind.ADMINISTRATION: "This does not clear the device: attackers imitate administrators.",
    Kind.UNCLEAR: "Nothing here clears the device, and nothing convicts it.",
}


class Side(str, Enum):
    """Which way a reason points, seen from the assessment."""

    FOR = "for"
    AGAINST = "against"
    OPEN = "open"


@dataclass(frozen=True)
class Reason:
    """One fact in words and which way it points."""

    side: Side
    text: str


@dataclass(frozen=True)
class Assessment:
    """What a hit resembles, by which criterion, and why.

    ``not_looked_at`` lists what nobody looked at, so that silence is not taken for peace.
    """

    kind: Kind
    criterion: str
    reasons: tuple[Reason, ...]
    not_looked_at: tuple[str, ...]

    @property
    def title(self) -> str:
        """The assessment in a few words."""
        return TITLES[self.kind]

    @property
    def caution(self) -> str:
        """What the assessment does not say."""
        return _CAUTIONS[self.kind]


@dataclass(frozen=True)
class Criterion:
    """A stated condition, and the assessment that it leads to."""

    kind: Kind
    text: str
    holds: Callable[[Evidence], bool]


def _anchors(burst: Burst) -> int:
    known = families().families
    return sum(known[family].anchor for family in burst.families)


def _full(burst: Burst | None, wanted: int, anchors: int) -> bool:
    return burst is not None and len(burst.families) >= wanted and _anchors(burst) >= anchors


def _beyond(burst: Burst | None) -> bool:
    """Whether a family of the burst asks about other computers or the domain."""
    known = families().families
    return any(known[name].remote for name in (burst.families if burst else ()))


def _lookup(evidence: Evidence) -> bool:
    burst = evidence.burst
    asked = burst is not None and "nslookup_srv" in burst.families and len(burst.families) >= 3
    desktop = any(node.process.file.casefold() == "explorer.exe" for node in evidence.issuers)
    return asked and not (evidence.console or evidence.help_desk or desktop)


def _by_no_shell(evidence: Evidence) -> bool:
    burst = evidence.burst
    if burst is None or burst.issuer is None or burst.by_shell or evidence.administrative:
        return False
    file = burst.issuer.process.file.casefold()
    bare = without_arguments(burst.issuer) and file != "explorer.exe"
    return _full(evidence.burst, 4, 2) and (bare or _beyond(burst))


def _by_shell(evidence: Evidence) -> bool:
    shell = evidence.burst is not None and evidence.burst.by_shell
    enough = _full(evidence.burst, 5, 2) or _full(evidence.burst, 4, 4)
    return shell and not evidence.administrative and enough and _beyond(evidence.burst)


def _by_nobody_known(evidence: Evidence) -> bool:
    unknown = evidence.burst is not None and evidence.burst.issuer is None
    return unknown and _full(evidence.burst, 5, 2)


def _by_several(evidence: Evidence) -> bool:
    burst = evidence.together
    return not evidence.administrative and _full(burst, 7, 4) and _beyond(burst)


def _points_to_qakbot(evidence: Evidence) -> bool:
    """The lookup, two families of no other loader, or a delivery chain and what follows it."""
    own = evidence.points_to.get("Qakbot", ())
    return evidence.lookup or len(own) >= 2 or joined(evidence.stages)


def _spread(evidence: Evidence) -> bool:
    few = evidence.burst is not None and len(evidence.burst.families) < 3
    return evidence.timed and few and evidence.days >= 1 and len(evidence.issuers) > 0


def _everywhere(evidence: Evidence) -> bool:
    shell = evidence.burst is not None and evidence.burst.by_shell
    if shell or evidence.injected:
        return False
    return any(r.devices >= 5 or r.days >= 10 for r in evidence.counted("issuer"))


def _by_hand(evidence: Evidence) -> bool:
    shell = evidence.burst is not None and evidence.burst.by_shell
    return shell and evidence.gap is not None and evidence.gap > BY_HAND


CRITERIA = (
    Criterion(
        Kind.QAKBOT,
        "on one device within a day, a library was loaded as delivery chains do or code was "
        "injected, and another hunt saw what follows it",
        lambda evidence: joined(evidence.stages),
    ),
    Criterion(
        Kind.QAKBOT,
        "a host that Qakbot or its kin injects, started by its bare name, issued at least three "
        "families within 15 minutes, itself or through a shell, one of them rare in inventories",
        lambda evidence: bool(evidence.injected) and _full(evidence.burst, 3, 1),
    ),
    Criterion(
        Kind.QAKBOT,
        "the DNS lookup of domain controllers that Qakbot makes, and at least three families of "
        "discovery commands within 15 minutes, from no person's console or desktop and no "
        "help-desk tool",
        _lookup,
    ),
    Criterion(
        Kind.QAKBOT,
        "a process that is no shell and no management agent issued at least four families within "
        "15 minutes, two of them rare in inventories, and was started without arguments or asked "
        "about other computers or the domain",
        _by_no_shell,
    ),
    Criterion(
        Kind.QAKBOT,
        "a shell issued at least five families within 15 minutes, two of them rare in "
        "inventories, or four that all are, one of them about other computers or the domain, at no "
        "person's console and for no management agent or help-desk tool",
        _by_shell,
    ),
    Criterion(
        Kind.QAKBOT,
        "at least five families within 15 minutes, two of them rare in inventories, and no record "
        "of who issued them",
        _by_nobody_known,
    ),
    Criterion(
        Kind.QAKBOT,
        "several processes, none enough by itself, issued at least seven families within 15 "
        "minutes, four of them rare in inventories, one about other computers or the domain, at no "
        "person's console and for no management agent or help-desk tool",
        _by_several,
    ),
    Criterion(
        Kind.INVENTORY,
        "an agent known to run such commands issued them",
        lambda evidence: bool(evidence.agent or evidence.management),
    ),
    Criterion(
        Kind.INVENTORY,
        "over a day or more, never three families within 15 minutes from the same process",
        _spread,
    ),
    Criterion(
        Kind.INVENTORY,
        "the same process, no shell and no host that Qakbot injects, issues such commands on at "
        "least five devices or ten days",
        _everywhere,
    ),
    Criterion(
        Kind.ADMINISTRATION,
        "a help-desk tool is among the ancestors of the commands",
        lambda evidence: evidence.help_desk is not None,
    ),
    Criterion(
        Kind.ADMINISTRATION,
        "a shell issued them at a person's pace, more than two seconds apart",
        _by_hand,
    ),
)
NONE_HOLDS = "none of the stated criteria holds"


def assess(
    evidence: Evidence, context: HitContext | None, processes: HitProcesses | None
) -> Assessment:
    """The first criterion that holds decides; the reasons say the rest."""
    met = next((c for c in CRITERIA if c.holds(evidence)), None)
    kind = met.kind if met else Kind.UNCLEAR
    if kind is Kind.QAKBOT and not _points_to_qakbot(evidence):
        kind = Kind.LOADER
    return Assessment(
        kind=kind,
        criterion=met.text if met else NONE_HOLDS,
        reasons=tuple(_reasons(kind, evidence)),
        not_looked_at=tuple(_not_looked_at(context, processes)),
    )


def _reasons(kind: Kind, evidence: Evidence) -> list[Reason]:
    """Facts that speak for malware or against it, turned to the assessment's side."""
    suspicious = [*_suspicious(evidence)]
    harmless = [*_harmless(evidence)]
    pro, contra = (suspicious, harmless) if kind.malware else (harmless, suspicious)
    if kind is Kind.UNCLEAR:
        both = [Reason(Side.OPEN, text) for text in [*suspicious, *harmless]]
        return [*both, *(Reason(Side.OPEN, text) for text in _open(evidence))]
    return [
        *(Reason(Side.FOR, text) for text in pro),
        *(Reason(Side.AGAINST, text) for text in contra),
        *(Reason(Side.OPEN, text) for text in _open(evidence)),
    ]


def _suspicious(evidence: Evidence) -> list[str]:
    said = []
    if joined(evidence.stages):
        steps = dict.fromkeys(stage.title for stage in evidence.stages)
        said.append(f"steps on this device within a day: {'; '.join(steps)}")
    for burst in (evidence.burst, evidence.together):
        if burst is not None and len(burst.families) >= 3:
            found = count(len(burst.families), "family", "families")
            by = f", from {_name(burst)}" if burst.issuer else ""
            several = ", from several processes" if burst is evidence.together else ""
            said.append(f"{found} of commands within {span(burst.seconds)}{by or several}")
    if evidence.lookup and "Qakbot" not in evidence.points_to:
        said.append("the DNS lookup of domain controllers that Qakbot makes")
    anchors = [_lower(families().families[name].title) for name in evidence.anchors]
    if anchors:
        said.append(f"commands that are rare in inventories: {'; '.join(anchors)}")
    said += [
        f"{malware}'s by public reports: {short_list([_lower(what) for what in found], 2)}"
        for malware, found in evidence.points_to.items()
    ]
    for node in evidence.injected:
        said.append(
            f"{node.process.file} was started without arguments, as a host of injected code is"
        )
    said += [f"{n.process.file} runs an encoded command" for n in evidence.issuers if encoded(n)]
    for node in evidence.issuers:
        loader = next((a for a in node.ancestors() if a.process.file.lower() in LOADERS), None)
        if loader is not None:
            said.append(f"{loader.process.file} is among the ancestors of {node.process.file}")
    if any(r.devices == 1 for r in evidence.counted("issuer")):
        said.append("no other device in the window saw that process issue such commands")
    return list(dict.fromkeys(said))


def _lower(title: str) -> str:
    return title if title[1:2].isupper() else title[:1].lower() + title[1:]


def _harmless(evidence: Evidence) -> list[str]:
    said = []
    if evidence.agent:
        said.append(f"the issuing process is {evidence.agent}")
    if evidence.management:
        said.append(f"{evidence.management}, a management agent, is among the ancestors")
    if evidence.help_desk:
        said.append(f"{evidence.help_desk}, a help-desk tool, is among the ancestors")
    if evidence.console:
        said.append("a person may have typed them: the shell was opened from a desktop")
    if evidence.burst is not None and evidence.burst.by_shell:
        said.append(f"a shell issued them: {_name(evidence.burst)}")
    if evidence.gap is not None and evidence.gap > BY_HAND:
        said.append(
            f"the commands are {span(evidence.gap)} apart (median), a person's or a schedule's pace"
        )
    if evidence.days >= 1:
        days = f" on {count(evidence.day_count, 'day')}" if evidence.day_count else ""
        said.append(f"they are spread over {span(evidence.days * 86_400)}{days}")
    for node in evidence.issuers:
        if by_service(node) and not without_arguments(node):
            said.append(f"a service or a task started {node.process.file}")
    for rarity in evidence.counted("issuer"):
        if rarity.devices > 1:
            said.append(
                f"{rarity.value} issues such commands on {count(rarity.devices, 'device')}, "
                f"on {count(rarity.days, 'day')}"
            )
        elif rarity.days > 2:
            said.append(f"{rarity.value} issues such commands here on {count(rarity.days, 'day')}")
    if evidence.families and not evidence.anchors:
        said.append("none of the commands is rare in inventories")
    return list(dict.fromkeys(said))


def _open(evidence: Evidence) -> list[str]:
    said = []
    if evidence.by_device:
        said.append(
            "no one process issued enough: the hunt counted by device and account (Tier device)"
        )
    if not evidence.issuers:
        said.append("which process issued the commands is not known")
    if not evidence.timed:
        said.append("only the times of the first and the last command are known")
    if evidence.burst is not None and not evidence.points_to:
        said.append("nothing here distinguishes Qakbot from other loaders")
    if not evidence.families:
        said.append("no command belongs to a known family")
    return said


def _name(burst: Burst) -> str:
    if burst.issuer is None:
        return "an unknown process"
    process = burst.issuer.process
    return f"{process.file} ({process.id})" if process.id is not None else process.file


_TABLE_NAMES = {
    "DeviceProcessEvents": "process events",
    "DeviceNetworkEvents": "network events",
    "DeviceFileEvents": "file events",
    "DeviceRegistryEvents": "registry events",
    "DeviceEvents": "device events",
    "DeviceLogonEvents": "logons",
    "AlertEvidence": "alerts",
}
ALWAYS = "memory, the contents of files, e-mail and other devices of the account"


def table_name(table: str) -> str:
    """A table in plain words."""
    return _TABLE_NAMES.get(table, table)


def _not_looked_at(context: HitContext | None, processes: HitProcesses | None) -> list[str]:
    if context is None:
        return ["what surrounded the hit: it was not asked for", ALWAYS]
    if context.missing:
        return [f"what surrounded the hit: {context.missing}", ALWAYS]
    said = []
    for answer in context.tables:
        name = table_name(answer.table)
        if answer.status is not Status.COMPLETE:
            why = answer.detail or answer.status.value.replace("_", " ")
            said.append(f"{name}: {why}")
        elif answer.kept < answer.found:
            said.append(
                f"{name}: {answer.found:,} lie around the hit, the nearest {answer.kept:,} are here"
            )
    if not any(answer.found for answer in context.tables):
        said.append("the device itself: no table has a record of it around the hit")
    elif processes is not None and not processes.own:
        said.append("the hit's commands: no process event around it is one of them")
    if context.rarity_detail:
        said.append(f"how rare it is: {context.rarity_detail}")
    if len(context.looked) > 1:
        said.append(
            "the time between the first and the last command, but for the commands themselves"
        )
    said += _unknown_ancestors(processes)
    return [*said, ALWAYS]


def _unknown_ancestors(processes: HitProcesses | None) -> Sequence[str]:
    found: dict[str, None] = {}
    for issuer in processes.issuers if processes else ():
        top = [issuer, *issuer.ancestors()][-1]
        if top.event is None:
            name = top.process.file or "an unnamed process"
            found[f"what started {name}: no record of its start"] = None
    return list(found)
