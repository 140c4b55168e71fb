"""What is known of a hit, as plain measurements: the ground an assessment stands on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

import msgspec

from qakhunt.hunts.command_catalogue import families
from qakhunt.kql.values import TICKS_PER_DAY, TICKS_PER_SECOND, Instant
from qakhunt.triage.process_tree import Node
from qakhunt.triage.records import Process, number, text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qakhunt.answers.hits import Hit
    from qakhunt.answers.run_result import HitContext, Rarity
    from qakhunt.hunts.command_catalogue import Command
    from qakhunt.triage.process_tree import HitProcesses
    from qakhunt.triage.timeline import Stage

    _Timed = tuple[Instant, Command, Node | None]

BY_HAND = 2.0
"""Seconds between commands that a person takes at least."""
# A burst is what lies within this; the measured ones took one minute.
BURST = 15 * 60 * TICKS_PER_SECOND
_ENCODED = re.compile(r"\s[-/]e(?:c|nc?|nco[a-z]*)?\s+[A-Za-z0-9+/=]{20}", re.IGNORECASE)
# What loads a script or a library of an attacker's choice.
LOADERS = frozenset(("wscript.exe", "cscript.exe", "mshta.exe", "rundll32.exe", "regsvr32.exe"))
_INSTALLED = ("\\program files", "\\windows\\", "\\programdata\\microsoft\\")
_DESKTOPS = ("explorer.exe", "windowsterminal.exe", "conhost.exe", "userinit.exe", "sshd.exe")
_BARE_SHELL = re.compile(
    r'"?[^"/]*?(?:cmd|powershell|pwsh)(?:\.exe)?"?(?: +[-/](?:noexit|nologo|k))*\s*', re.I
)
_PARENT_COLUMNS = ("IssuingProcessParent", "InitiatingProcessParentFileName")
_SERVICE_PARENTS = frozenset(("services.exe", "svchost.exe", "taskeng.exe", "taskhostw.exe"))


class Tools(msgspec.Struct, frozen=True):
    """``data/management_tools.yaml``: file name, or part of a command line -> what it is."""

    agents: dict[str, str]
    management: dict[str, str]
    help_desk: dict[str, str]


@cache
def tools() -> Tools:
    """The programs that manage machines."""
    data = files("qakhunt").joinpath("data/management_tools.yaml").read_bytes()
    return msgspec.yaml.decode(data, type=Tools)


@dataclass(frozen=True)
class Burst:
    """The fullest 15 minutes from one process: its families, and its length.

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
    without it ``burst`` is the whole hit where that is short, else None. ``together`` is the
    fullest 15 minutes of the commands of several processes. ``gap`` is the median time between
    commands in seconds; ``days`` are those from first to last. ``by_device`` says that the hunt
    counted the commands of a whole device, where no one process issued enough.
    """

    commands: tuple[Command, ...]
    families: tuple[str, ...]
    anchors: tuple[str, ...]
    lookup: bool
    timed: bool
    burst: Burst | None
    together: Burst | None
    gap: float | None
    days: float
    day_count: int
    issuers: tuple[Node, ...]
    agent: str | None
    rarity: tuple[Rarity, ...]
    management: str | None = None
    help_desk: str | None = None
    console: bool = False
    by_device: bool = False
    stages: tuple[Stage, ...] = ()
    """What hunts saw on the device within a day, the hit itself among it."""

    @property
    def administrative(self) -> bool:
        """Whether an agent, a help-desk tool or a person at a console issued the commands."""
        return bool(self.agent or self.management or self.help_desk or self.console)

    @property
    def injected(self) -> tuple[Node, ...]:
        """Hosts of injected code that issued the commands, themselves or through a shell.

        A host is started by its bare name; an explorer.exe is one in SysWOW64 alone.
        """
        found = {id(host): host for node in self.issuers if (host := _injected_host(node))}
        return tuple(found.values())

    @property
    def points_to(self) -> dict[str, list[str]]:
        """Malware -> the families and hosts that its public reports have, and no other's."""
        found: dict[str, list[str]] = {}
        known = families()
        burst = self.together or self.burst
        for name in burst.families if burst else self.families:
            if known.families[name].malware:
                found.setdefault(known.families[name].malware, []).append(
                    known.families[name].title
                )
        hosts = {name.casefold(): malware for name, malware in known.parents.malware.items()}
        for node in self.injected:
            if node.process.file.casefold() in hosts:
                of = hosts[node.process.file.casefold()]
                found.setdefault(of, []).append(f"the host {node.process.file}")
        return found

    def counted(self, kind: str) -> tuple[Rarity, ...]:
        """The counts of one kind."""
        return tuple(rarity for rarity in self.rarity if rarity.kind == kind)


def evidence_of(hit: Hit, context: HitContext | None, processes: HitProcesses | None) -> Evidence:
    """Measure a hit, with its context where there is one."""
    timed = _timed(processes) if processes and processes.own else []
    commands = [command for _, command, _ in timed] or list(hit.commands)
    # A hunt that reads original file names knows families which the lines do not show.
    named = [] if timed else _listed(hit.row.get("Families"))
    found = tuple(dict.fromkeys([*(c.family for c in commands if c.family), *named]))
    known = families().families
    first, last = _bounds(hit, timed)
    length = last.ticks - first.ticks if first and last else 0
    issuers = (processes.issuers if processes else ()) or _issuer_of_row(hit)
    gap = _median_gap([at for at, _, _ in timed])
    return Evidence(
        commands=tuple(commands),
        families=found,
        anchors=tuple(family for family in found if known[family].anchor),
        lookup="nslookup_srv" in found,
        timed=bool(timed),
        together=_fullest_of_one(timed, None) if timed and len(issuers) > 1 else None,
        burst=_fullest(timed) if timed else _whole(found, hit, length, issuers),
        gap=gap,
        days=length / TICKS_PER_DAY,
        day_count=len({at.ticks // TICKS_PER_DAY for at, _, _ in timed}),
        issuers=issuers,
        agent=_agent(issuers),
        rarity=context.rarity if context else (),
        management=_named_ancestor(issuers, tools().management),
        help_desk=_named_ancestor(issuers, tools().help_desk),
        by_device=text(hit.row, "Tier") == "device",
        console=any(_at_console(node) for node in issuers) and (gap is None or gap > BY_HAND),
    )


def _listed(cell: object) -> list[str]:
    known = families().families
    return [name for name in cell if name in known] if isinstance(cell, list) else []


def _issuer_of_row(hit: Hit) -> tuple[Node, ...]:
    """The issuing process that the hit's own row names, with its parent."""
    row = hit.row
    for file, line, id_ in (
        ("IssuingProcess", "IssuingProcessCommandLine", "IssuingProcessId"),
        ("InitiatingProcessFileName", "InitiatingProcessCommandLine", "InitiatingProcessId"),
    ):
        if text(row, file):
            above = next((text(row, name) for name in _PARENT_COLUMNS if text(row, name)), "")
            parent = Node(Process(None, above)) if above else None
            process = Process(number(row, id_), text(row, file), text(row, line))
            return (Node(process, parent=parent),)
    return ()


def _injected_host(node: Node) -> Node | None:
    chain = (node, *node.ancestors())
    shells = families().parents.shells
    host = next((n for n in chain if n.process.file.casefold() not in shells), None)
    if host is None or not (without_arguments(host) or not host.process.line):
        return None
    file = host.process.file.casefold()
    if file == "explorer.exe":
        return host if "\\syswow64" in host.process.folder.casefold() else None
    known = {name.casefold() for name in families().parents.injected}
    return host if file in known else None


def _named_ancestor(issuers: Sequence[Node], names: Mapping[str, str]) -> str | None:
    """The first of the names among the issuing processes and what started them."""
    for issuer in issuers:
        for node in (issuer, *issuer.ancestors()):
            title = names.get(node.process.file.casefold())
            folder = node.process.folder.casefold()
            trusted = not folder or any(part in folder for part in _INSTALLED)
            if title and trusted and node.process.signed is not False:
                return title
    return None


def _at_console(node: Node) -> bool:
    """Whether the process is a shell that a person opened and types into."""
    parent = node.parent.process.file.casefold() if node.parent else ""
    return parent in _DESKTOPS and bool(_BARE_SHELL.fullmatch(node.process.line))


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


def _timed(processes: HitProcesses) -> list[_Timed]:
    """The hit's and other known discovery commands, with times and issuers, by time."""
    forest = processes.forest
    return [
        (event.at, event.command, forest.issuer_of(forest.node_of(event)))
        for event in processes.discovery
        if event.command is not None
    ]


def _bounds(hit: Hit, timed: Sequence[_Timed]) -> tuple[Instant | None, Instant | None]:
    if timed:
        return timed[0][0], timed[-1][0]
    return hit.first_seen, hit.last_seen or hit.first_seen


def _whole(found: tuple[str, ...], hit: Hit, length: int, issuers: Sequence[Node]) -> Burst | None:
    """Without single times: a hit as short as a burst is one."""
    if hit.first_seen is None or hit.last_seen is None or length > BURST:
        return None
    return Burst(found, length / TICKS_PER_SECOND, issuers[0] if issuers else None)


def _fullest(timed: Sequence[_Timed]) -> Burst:
    # A host of injected code may be started anew for each command.
    by_issuer: dict[object, list[_Timed]] = {}
    for entry in timed:
        host = _injected_host(entry[2]) if entry[2] else None
        key = host.process.file.casefold() if host else id(entry[2])
        by_issuer.setdefault(key, []).append(entry)
    bursts = [_fullest_of_one(entries, entries[0][2]) for entries in by_issuer.values()]
    return max(bursts, key=lambda burst: len(burst.families), default=Burst((), 0.0))


def _fullest_of_one(timed: Sequence[_Timed], issuer: Node | None) -> Burst:
    best = Burst((), 0.0, issuer)
    start = 0
    for end, (at, _, _) in enumerate(timed):
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
        for name, words in tools().agents.items():
            if any(
                name == node.process.file.casefold() or name in node.process.line.casefold()
                for node in chain[:3]
            ):
                return words
    return None
