"""What is known of a hit, as plain measurements: the ground an assessment stands on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

from qakhunt.hunts.command_catalogue import families
from qakhunt.kql.values import TICKS_PER_DAY, TICKS_PER_SECOND, Instant

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qakhunt.answers.context import HitContext, Rarity
    from qakhunt.answers.hits import Hit
    from qakhunt.hunts.command_catalogue import Command
    from qakhunt.triage.findings import Findings
    from qakhunt.triage.process_tree import Node

    _Timed = tuple[Instant, Command, Node | None]

# A burst is what lies within this; the measured ones took one minute.
BURST = 15 * 60 * TICKS_PER_SECOND
_ENCODED = re.compile(r"\s[-/]e(?:c|nc?|nco[a-z]*)?\s+[A-Za-z0-9+/=]{20}", re.IGNORECASE)
# What loads a script or a library of an attacker's choice.
LOADERS = frozenset(("wscript.exe", "cscript.exe", "mshta.exe", "rundll32.exe", "regsvr32.exe"))
# Windows' and Azure's own that run several of the commands by themselves.
AGENTS = {
    "windowsazureguestagent.exe": "the Azure guest agent, which runs ipconfig, route and arp",
    "gathernetworkinfo": "Windows' own gatherNetworkInfo.vbs, which runs several of the commands",
}
_SERVICE_PARENTS = frozenset(("services.exe", "svchost.exe", "taskeng.exe", "taskhostw.exe"))


@dataclass(frozen=True)
class Burst:
    """The fullest stretch of 15 minutes from one process: its families, and its length.

    ``issuer`` is None where nothing recorded says who issued them.
    """

    families: tuple[str, ...]
    seconds: float
    issuer: Node | None = None

    @property
    def by_shell(self) -> bool:
        """Whether the issuing process is a shell."""
        return (
            self.issuer is not None
            and self.issuer.process.file.casefold() in families().parents.shells
        )


@dataclass(frozen=True)
class Evidence:
    """Measurements of one hit.

    ``timed`` says that the time of each command is known, not the first and last alone;
    without it ``burst`` is the whole hit where that is short, else None. ``gap`` is the
    median time between commands in seconds; ``days`` are those from first to last.
    """

    commands: tuple[Command, ...]
    families: tuple[str, ...]
    anchors: tuple[str, ...]
    lookup: bool
    timed: bool
    burst: Burst | None
    gap: float | None
    days: float
    day_count: int
    issuers: tuple[Node, ...]
    agent: str | None
    rarity: tuple[Rarity, ...]

    @property
    def issuer_known(self) -> bool:
        """Whether a process is known to have issued the commands."""
        return bool(self.issuers)

    @property
    def injected(self) -> tuple[Node, ...]:
        """Issuing processes that look like a host of injected code: named so, or argument-less."""
        # The user's own explorer.exe is one, too: it starts without arguments as well.
        hosts = (*families().parents.injected, "explorer.exe")
        return tuple(
            node
            for node in self.issuers
            if node.process.file.casefold() in hosts and without_arguments(node)
        )

    def counted(self, kind: str) -> tuple[Rarity, ...]:
        """The counts of one kind."""
        return tuple(rarity for rarity in self.rarity if rarity.kind == kind)


def evidence_of(hit: Hit, context: HitContext | None, findings: Findings | None) -> Evidence:
    """Measure a hit, with its context where there is one."""
    timed = _timed(findings) if findings and findings.own else []
    commands = [command for _, command, _ in timed] or list(hit.commands)
    found = tuple(dict.fromkeys(c.family for c in commands if c.family))
    known = families().families
    first, last = _bounds(hit, timed)
    length = last.ticks - first.ticks if first and last else 0
    issuers = findings.issuers if findings else ()
    return Evidence(
        commands=tuple(commands),
        families=found,
        anchors=tuple(family for family in found if known[family].anchor),
        lookup="nslookup_srv" in found,
        timed=bool(timed),
        burst=_fullest(timed) if timed else _whole(found, hit, length),
        gap=_median_gap([at for at, _, _ in timed]),
        days=length / TICKS_PER_DAY,
        day_count=len({at.ticks // TICKS_PER_DAY for at, _, _ in timed}),
        issuers=issuers,
        agent=_agent(issuers),
        rarity=context.rarity if context else (),
    )


def without_arguments(node: Node) -> bool:
    """Whether the process was started by its bare name."""
    line = node.process.line.strip().strip('"').casefold()
    return bool(line) and line.rsplit("\\", 1)[-1] == node.process.file.casefold()


def encoded(node: Node) -> bool:
    """Whether the process is PowerShell that runs an encoded command."""
    file = node.process.file.casefold()
    return file in ("powershell.exe", "pwsh.exe") and bool(_ENCODED.search(node.process.line))


def by_service(node: Node) -> bool:
    """Whether a service or a scheduled task started the process, as far as known."""
    return node.parent is not None and node.parent.process.file.casefold() in _SERVICE_PARENTS


def _timed(findings: Findings) -> list[_Timed]:
    """The hit's and other known discovery commands, with times and issuers, by time."""
    forest = findings.forest
    return [
        (event.at, event.command, forest.issuer_of(forest.node_of(event)))
        for event in findings.discovery
        if event.command is not None
    ]


def _bounds(hit: Hit, timed: Sequence[_Timed]) -> tuple[Instant | None, Instant | None]:
    if timed:
        return timed[0][0], timed[-1][0]
    return hit.first_seen, hit.last_seen or hit.first_seen


def _whole(found: tuple[str, ...], hit: Hit, length: int) -> Burst | None:
    """Without single times: a hit as short as a burst is one."""
    if hit.first_seen is None or hit.last_seen is None or length > BURST:
        return None
    return Burst(found, length / TICKS_PER_SECOND)


def _fullest(timed: Sequence[_Timed]) -> Burst:
    by_issuer: dict[int, list[_Timed]] = {}
    for entry in timed:
        by_issuer.setdefault(id(entry[2]), []).append(entry)
    bursts = [_fullest_of_one(entries) for entries in by_issuer.values()]
    return max(bursts, key=lambda burst: len(burst.families), default=Burst((), 0.0))


def _fullest_of_one(timed: Sequence[_Timed]) -> Burst:
    best = Burst((), 0.0, timed[0][2])
    start = 0
    for end, (at, _, issuer) in enumerate(timed):
        while at.ticks - timed[start][0].ticks > BURST:
            start += 1
        inside = timed[start : end + 1]
        found = tuple(dict.fromkeys(c.family for _, c, _ in inside if c.family))
        if len(found) > len(best.families):
            length = (at.ticks - timed[start][0].ticks) / TICKS_PER_SECOND
            best = Burst(found, length, issuer)
    return best


def _median_gap(times: Sequence[Instant]) -> float | None:
    gaps = [(later.ticks - earlier.ticks) / TICKS_PER_SECOND for earlier, later in pairwise(times)]
    return median(gaps) if gaps else None


def _agent(issuers: Sequence[Node]) -> str | None:
    for issuer in issuers:
        chain = [issuer, *issuer.ancestors()]
        for name, words in AGENTS.items():
            if any(
                name == node.process.file.casefold() or name in node.process.line.casefold()
                for node in chain[:3]
            ):
                return words
    return None
