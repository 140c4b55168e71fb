"""A hit's process tree as rows to draw: ancestors down to the issuing process, then its brood.

Rows are bounded: of many children the ones that matter are kept, and the rest counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from qakhunt.triage.findings import Findings
    from qakhunt.triage.process_tree import Node

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


def tree_rows(findings: Findings) -> list[TreeRow]:
    """The rows of all trees that the hit's commands stand in, top down."""
    issuers = {id(node) for node in findings.issuers[:MOST_ISSUERS]}
    roots: dict[int, Node] = {}
    path: set[int] = set()
    for issuer in findings.issuers[:MOST_ISSUERS]:
        chain = [issuer, *issuer.ancestors()][:_MOST_ANCESTORS]
        path |= {id(node) for node in chain}
        roots.setdefault(id(chain[-1]), chain[-1])
    commands = {id(findings.forest.node_of(event)) for event in findings.discovery}
    own = {id(findings.forest.node_of(event)) for event in findings.own}
    view = _View(path, issuers, commands, own)
    rows = view.rows(list(roots.values()))
    left = len(findings.issuers) - len(issuers)
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
