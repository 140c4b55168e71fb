"""Parents and children: processes joined by id **and** creation time, never by id alone.

Windows uses process ids again. Where a record lacks the creation time, the parent is
the latest earlier process of that id, provided that name and command line agree; such
a link is marked as likely. An ancestor without a record of its own is shown as such.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from qakhunt.hunts.command_catalogue import understand
from qakhunt.kql.values import TICKS_PER_SECOND
from qakhunt.triage.records import Event, ancestors_of, processes_of, text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from qakhunt.answers.hits import Hit
    from qakhunt.answers.run_result import HitContext
    from qakhunt.kql.values import Instant
    from qakhunt.triage.records import Event, Process


# Creation times of one process, given by two records, agree to the millisecond.
_TOLERANCE = TICKS_PER_SECOND // 1000
_ONE_COMMAND = re.compile(r"\s[-/](?:c|co|com|comm|comma|comman|command) ", re.IGNORECASE)
_SHELLS = ("cmd.exe", "powershell.exe", "pwsh.exe")


@dataclass(eq=False)
class Node:
    """A process; ``event`` is the record of its creation, or None where there is none.

    ``likely`` says that the link to ``parent`` rests on id, name and order, since the
    creation time was not recorded; ``circular`` that its records name a parent which
    descends from it.
    """

    process: Process
    event: Event | None = None
    parent: Node | None = None
    children: list[Node] = field(default_factory=list)
    likely: bool = False
    circular: bool = False

    @property
    def started(self) -> Instant | None:
        """When it started, as far as known."""
        return self.process.started or (self.event.at if self.event else None)

    def ancestors(self) -> Iterator[Node]:
        """Its parent, that one's parent, and so on."""
        node = self.parent
        while node is not None:
            yield node
            node = node.parent


class Forest:
    """All processes that the given creations name, as trees."""

    def __init__(self, creations: Iterable[Event]) -> None:
        self.nodes: list[Node] = []
        self._by_start: dict[tuple[int | None, int], list[Node]] = {}
        self._created_as: dict[int | None, list[Node]] = {}
        self._without_start: dict[tuple[int | None, str, int], list[Node]] = {}
        self._of_event: dict[int, Node] = {}
        made = []
        for event in sorted(creations, key=lambda event: event.at):
            if event.process is None:
                continue
            node = self._created(event, event.process)
            if node.event is event:
                made.append(node)
            self._of_event[id(event)] = node
        for nodes in self._created_as.values():
            nodes.sort(key=_start)
        for child in made:
            self._link(child)
        for known in self.nodes:
            known.children.sort(key=_start)

    def node_of(self, event: Event) -> Node:
        """The process that ``event``, one of the creations, created."""
        return self._of_event[id(event)]

    def issuer_of(self, node: Node) -> Node | None:
        """The process that issued a command, seen through ``cmd /c`` and ``net``."""
        inner = node
        while inner.parent is not None and _passes_on(inner.parent, inner):
            inner = inner.parent
        return inner.parent

    def _created(self, event: Event, process: Process) -> Node:
        known = self._started_at(process, process.started or event.at)
        if known is not None and process.id is not None:
            return known
        node = self._add(Node(process, event))
        self._created_as.setdefault(process.id, []).append(node)
        return node

    def _add(self, node: Node) -> Node:
        self.nodes.append(node)
        if node.started is not None:
            key = (node.process.id, node.started.ticks // _TOLERANCE)
            self._by_start.setdefault(key, []).append(node)
        return node

    def _started_at(self, process: Process, started: Instant) -> Node | None:
        """The known process of that id and start; a file name that differs tells them apart."""
        bucket = started.ticks // _TOLERANCE
        for at in (bucket - 1, bucket, bucket + 1):
            for node in self._by_start.get((process.id, at), ()):
                if node.started and _same(node.started, started) and _alike(node.process, process):
                    return node
        return None

    def _link(self, node: Node) -> None:
        event = node.event
        if event is None or event.issuer is None:
            return
        at = node.started or event.at
        parent, likely = self._resolve(event.issuer, at)
        if not _join(node, parent, likely=likely):
            return
        if parent.event is None and parent.parent is None and event.before is not None:
            above, likely = self._resolve(event.before, parent.started or at)
            _join(parent, above, likely=likely)

    def _resolve(self, process: Process, before: Instant) -> tuple[Node, bool]:
        """The node of a process that a record names, and whether that is only likely."""
        if process.started is not None:
            known = self._started_at(process, process.started) if process.id is not None else None
            return known or self._add(Node(process)), False
        bearers = self._created_as.get(process.id, []) if process.id is not None else []
        at = bisect_right(bearers, before.ticks, key=_start)
        if at and _alike(bearers[at - 1].process, process):
            return bearers[at - 1], True
        # Whoever bore the id has no record here; ``at`` keeps bearers before and after
        # a reuse apart.
        strangers = self._without_start.setdefault((process.id, process.file.casefold(), at), [])
        for node in strangers:
            if _alike(node.process, process):
                return node, True
        strangers.append(self._add(Node(process)))
        return strangers[-1], True


def _start(node: Node) -> int:
    return node.started.ticks if node.started else 0


def _same(one: Instant, other: Instant) -> bool:
    return abs(one.ticks - other.ticks) <= _TOLERANCE


def _alike(one: Process, other: Process) -> bool:
    if one.file and other.file and one.file.casefold() != other.file.casefold():
        return False
    return not one.line or not other.line or one.line == other.line


def _join(child: Node, parent: Node, *, likely: bool) -> bool:
    """Make ``parent`` the child's, unless that would close a circle."""
    if parent is child or any(above is child for above in parent.ancestors()):
        child.circular = True
        return False
    child.parent, child.likely = parent, likely
    parent.children.append(child)
    return True


def _passes_on(parent: Node, child: Node) -> bool:
    """Whether the parent merely runs the child for another.

    So do ``cmd /c X``, ``powershell -c X`` and the ``net`` that starts ``net1``.
    """
    files = parent.process.file.casefold(), child.process.file.casefold()
    if files == ("net.exe", "net1.exe"):
        return True
    if files[0] not in _SHELLS:
        return False
    if files[0] != "cmd.exe" and _ONE_COMMAND.search(parent.process.line):
        return True
    inner, outer = understand(child.process.line), understand(parent.process.line)
    if inner.family is not None:
        return outer.family == inner.family
    # The shell's own text, unwrapped, is the child's with at most a redirection after it.
    return bool(inner.normalised) and f"{outer.normalised} ".startswith(f"{inner.normalised} ")


MOST_CHILDREN = 25
MOST_ROWS = 250
MOST_ISSUERS = 10
_MOST_ANCESTORS = 12


@dataclass(frozen=True)
class TreeRow:
    """One line of the drawing.

    ``rails`` says, per level above, whether a line goes on there; ``last`` whether the
    row closes its level. ``node`` is None for a row that only counts ``hidden`` ones.
    ``role`` is ``ancestor``, ``issuer``, ``command``, ``other`` or ``more``.
    """

    role: str
    node: Node | None = None
    rails: tuple[bool, ...] = ()
    last: bool = True
    hidden: int = 0
    own: bool = False

    @property
    def depth(self) -> int:
        """How deep the row stands, from 0."""
        return len(self.rails)


def tree_rows(processes: HitProcesses) -> list[TreeRow]:
    """The rows of all trees that the hit's commands stand in, top down."""
    issuers = {id(node) for node in processes.issuers[:MOST_ISSUERS]}
    roots: dict[int, Node] = {}
    path: set[int] = set()
    for issuer in processes.issuers[:MOST_ISSUERS]:
        chain = [issuer, *issuer.ancestors()][:_MOST_ANCESTORS]
        path |= {id(node) for node in chain}
        roots.setdefault(id(chain[-1]), chain[-1])
    commands = {id(processes.forest.node_of(event)) for event in processes.discovery}
    own = {id(processes.forest.node_of(event)) for event in processes.own}
    view = _View(path, issuers, commands, own)
    rows = view.rows(list(roots.values()))
    left = len(processes.issuers) - len(issuers)
    return [*rows, TreeRow("more", hidden=left)] if left > 0 else rows


@dataclass(frozen=True)
class _View:
    path: set[int]
    issuers: set[int]
    commands: set[int]
    own: set[int]

    def rows(self, roots: Sequence[Node]) -> list[TreeRow]:
        found: list[TreeRow] = []
        # Depth first without recursion: a chain can be thousands of processes long.
        waiting: list[tuple[Node | int, tuple[bool, ...], bool, bool]] = [
            (root, (), True, False) for root in reversed(roots)
        ]
        while waiting:
            node, rails, last, inside = waiting.pop()
            if len(found) >= MOST_ROWS:
                found.append(
                    TreeRow("more", hidden=_size([node, *(entry[0] for entry in waiting)]))
                )
                break
            if isinstance(node, int):
                found.append(TreeRow("more", rails=rails, last=last, hidden=node))
                continue
            inside = inside or id(node) in self.issuers
            found.append(TreeRow(self._role(node), node, rails, last, own=id(node) in self.own))
            below = (*rails, not last)
            shown: list[Node | int] = [*self._children(node, inside=inside)]
            hidden = len(node.children) - len(shown)
            if hidden and inside:
                shown.append(hidden)
            for at, child in reversed(list(enumerate(shown))):
                waiting.append((child, below, at == len(shown) - 1, inside))
        return found

    def _children(self, node: Node, *, inside: bool) -> list[Node]:
        """Children to show: on the way to the commands only those that lead there."""
        if not inside:
            return [child for child in node.children if id(child) in self.path]
        marked = [c for c in node.children if id(c) in self.commands or id(c) in self.path]
        marked = marked[: 4 * MOST_CHILDREN]
        kept = {id(child) for child in marked}
        for child in node.children:
            if len(kept) >= MOST_CHILDREN:
                break
            kept.add(id(child))
        return [child for child in node.children if id(child) in kept]

    def _role(self, node: Node) -> str:
        if id(node) in self.issuers:
            return "issuer"
        if id(node) in self.commands:
            return "command"
        return "ancestor" if id(node) in self.path else "other"


def _size(entries: Iterable[Node | int]) -> int:
    return sum(entry if isinstance(entry, int) else 1 for entry in entries)


def branch(row: TreeRow) -> str:
    """The row's lines in front of its text: ``│  └─ ``."""
    if not row.rails:
        return ""
    rails = "".join("│  " if goes_on else "   " for goes_on in row.rails[1:])
    return rails + ("└─ " if row.last else "├─ ")


def asides(node: Node, role: str) -> list[str]:
    """What else there is to say of a process, in words."""
    said = []
    if role == "issuer":
        said.append("issued the commands")
    if node.circular:
        said.append("its records name a descendant as parent")
    elif node.event is None:
        said.append("no record of its start")
    elif node.parent is None:
        said.append("parent not recorded")
    elif node.likely:
        said.append("parent by id and name, its start was not recorded")
    return said


@dataclass(frozen=True)
class HitProcesses:
    """The hit's own commands as events, who issued them, and what else these ran.

    ``own`` are the commands that the hunt counted; ``discovery`` are all known
    discovery commands of the same issuing processes, counted or not, ``own`` included.
    """

    own: tuple[Event, ...]
    discovery: tuple[Event, ...]
    issuers: tuple[Node, ...]
    forest: Forest


def hit_processes(hit: Hit, context: HitContext) -> HitProcesses:
    """Read the context once; without process records everything is empty."""
    timeline = processes_of(context)
    forest = Forest([*timeline, *ancestors_of(context)])
    own = _own(hit, timeline)
    issuers: dict[int, Node] = {}
    for event in own:
        issuer = forest.issuer_of(forest.node_of(event))
        if issuer is not None:
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
    return HitProcesses(tuple(own), tuple(discovery), tuple(issuers.values()), forest)


def issuing_processes(hit: Hit, context: HitContext) -> list[Process]:
    """The processes that issued the hit's commands."""
    return [node.process for node in hit_processes(hit, context).issuers]


def unknown_ancestors(hit: Hit, context: HitContext) -> list[Process]:
    """Ancestors of the hit's commands whose creation is not in the timeline."""
    found: dict[int, Process] = {}
    for issuer in hit_processes(hit, context).issuers:
        for node in (issuer, *issuer.ancestors()):
            if node.event is None and node.process.id is not None:
                found.setdefault(id(node), node.process)
    return list(found.values())


def core_families(hit: Hit, context: HitContext) -> set[str]:
    """The families of the hit's commands and of whatever else their issuers ran."""
    commands = [*hit.commands]
    commands += [e.command for e in hit_processes(hit, context).discovery if e.command]
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
    theirs = [
        event for event in found if text(event.record, "AccountName").casefold() in ("", account)
    ]
    return theirs if account and theirs else found
