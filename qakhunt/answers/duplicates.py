"""One finding that several workspaces of a tenant hold is one finding.

The same events may be sent to several workspaces, or be asked for through two
products. A row that says nothing which another of the tenant does not is its copy.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from qakhunt.answers.plain import to_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from qakhunt.answers.hits import Hit

# Columns that say where a record is kept, not what happened.
_KEEPING = frozenset(["TenantId", "_ItemId", "_TimeReceived", "_ResourceId", "_SubscriptionId"])
_TIME = {"Timestamp": "TimeGenerated"}


def without_copies(hits: Sequence[Hit]) -> list[Hit]:
    """The hits in their order, each finding once; ``also_in`` names the other workspaces."""
    groups: dict[tuple[Any, ...], list[Hit]] = {}
    for hit in hits:
        groups.setdefault(_subject(hit), []).append(hit)
    kept: dict[int, Hit] = {}
    for group in groups.values():
        kept.update(_distinct(group))
    return [kept[id(hit)] for hit in hits if id(hit) in kept]


def _subject(hit: Hit) -> tuple[Any, ...]:
    """Copies can only be among hits with the same subject."""
    if hit.tenant is None:
        return (id(hit),)
    return (hit.hunt, hit.tenant, hit.device, hit.account)


def _distinct(group: list[Hit]) -> dict[int, Hit]:
    """Each hit that no other place says more fully, by its ``id`` as it came."""
    if len({_place(hit) for hit in group}) == 1:
        return {id(hit): hit for hit in group}
    chosen: list[tuple[int, Hit]] = []
    for identity, hit in sorted(_alike(group), key=lambda pair: _fullness(pair[1]), reverse=True):
        for number, (other_identity, other) in enumerate(chosen):
            if _place(hit) != _place(other) and _covers(other, hit):
                names = (*other.also_in, _name(hit), *hit.also_in)
                merged = replace(other, also_in=tuple(dict.fromkeys(names)))
                chosen[number] = (other_identity, merged)
                break
        else:
            chosen.append((identity, hit))
    return dict(chosen)


def _alike(group: list[Hit]) -> Iterator[tuple[int, Hit]]:
    """Equal rows of several places once; equal rows of one place are so many findings."""
    alike: dict[tuple[Any, ...], dict[Any, list[Hit]]] = {}
    for hit in group:
        alike.setdefault(_said(hit), {}).setdefault(_place(hit), []).append(hit)
    for places in alike.values():
        most = max(places.values(), key=len)
        for number, hit in enumerate(most):
            others = (p[number] for p in places.values() if p is not most and len(p) > number)
            yield id(hit), replace(hit, also_in=tuple(_name(other) for other in others))


def _fullness(hit: Hit) -> tuple[int, int]:
    return (hit.total or 0, len(hit.commands))


def _place(hit: Hit) -> tuple[str, str | None]:
    return (hit.profile, hit.workspace)


def _name(hit: Hit) -> str:
    return hit.workspace or hit.profile


def _covers(full: Hit, other: Hit) -> bool:
    """Whether ``full`` spans all that ``other`` says."""
    if full.first_seen is None or full.last_seen is None or not full.commands:
        return False
    if other.first_seen is None or other.last_seen is None or not other.commands:
        return False
    lines = {command.line for command in full.commands}
    return (
        full.first_seen <= other.first_seen
        and other.last_seen <= full.last_seen
        and all(command.line in lines for command in other.commands)
        and (full.total or 0) >= (other.total or 0)
    )


def _said(hit: Hit) -> tuple[Any, ...]:
    return tuple(
        sorted(
            (_TIME.get(name, name), to_text(cell))
            for name, cell in hit.row.items()
            if name not in _KEEPING
        )
    )
