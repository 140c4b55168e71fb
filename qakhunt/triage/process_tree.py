"""Who started whom: processes joined by id **and** creation time, never by id alone.

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

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from qakhunt.kql.values import Instant
    from qakhunt.triage.records import Event, Process

# Creation times of one process, told by two records, agree to the millisecond.
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
