"""One finding that several workspaces of a tenant hold is one finding.

The same events may be sent to several workspaces, or be asked for through two
products. A row that says nothing which another of the tenant does not is its copy.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from qakhunt.answers.cells import to_json_value, to_text
from qakhunt.kql.values import TICKS_PER_SECOND, Instant, Timespan

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from qakhunt.answers.hits import Hit
    from qakhunt.answers.run_result import RunResult
    from qakhunt.hunts.model import Hunt


# Columns that say where a record is kept, not what happened.
_KEEPING = frozenset(["TenantId", "_ItemId", "_TimeReceived", "_ResourceId", "_SubscriptionId"])
_TIME = {"Timestamp": "TimeGenerated"}


def without_duplicates(hits: Sequence[Hit]) -> list[Hit]:
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


EPISODE_GAP = Timespan(15 * 60 * TICKS_PER_SECOND)
"""An episode ends where no command follows for longer than this."""
DAY = "day"


@dataclass(frozen=True)
class Finding:
    """One episode: its hits by time, each with its position in the result, from 0.

    ``fingerprints`` are those of its hits, in their order; ``id`` is the first of them,
    with a number after it where an earlier finding of the result has the same.
    """

    id: str
    positions: tuple[int, ...]
    hits: tuple[Hit, ...]
    fingerprints: tuple[str, ...]

    @property
    def fingerprint(self) -> str:
        """The same for the same episode, run after run: that of its first hit."""
        return self.fingerprints[0]

    @property
    def device(self) -> str | None:
        """The device's name."""
        return self.hits[0].device

    @property
    def account(self) -> str | None:
        """The account's name."""
        return self.hits[0].account

    @property
    def hunts(self) -> tuple[str, ...]:
        """Names of the hunts that see it."""
        return tuple(dict.fromkeys(hit.hunt for hit in self.hits))

    @property
    def start(self) -> Instant | None:
        """Time of the first command."""
        return self.hits[0].first_seen

    @property
    def end(self) -> Instant | None:
        """Time of the last command."""
        return max((hit_end(hit) for hit in self.hits), default=None) if self.start else None


def hit_end(hit: Hit) -> Instant:
    """Time of a hit's last command, that of its first where no other is known."""
    first = hit.first_seen or Instant(0)
    return max(first, hit.last_seen or first)


def findings_of(hits: Sequence[Hit], hunts: Mapping[str, Hunt]) -> list[Finding]:
    """The hits as findings, in the order of each one's first hit in ``hits``."""
    marks = [fingerprint(hunts.get(hit.hunt), hit) for hit in hits]
    groups: dict[tuple[Any, ...], list[int]] = {}
    for position, hit in enumerate(hits):
        subject = (hit.tenant or hit.profile, _plain(hit.device), _plain(hit.account))
        timed = hit.device is not None and hit.first_seen is not None
        groups.setdefault(subject if timed else (marks[position],), []).append(position)
    episodes = sorted((e for group in groups.values() for e in _episodes(group, hits)), key=min)
    seen: dict[str, int] = {}
    found = []
    for episode in episodes:
        mark = marks[episode[0]]
        number = seen[mark] = seen.get(mark, 0) + 1
        found.append(
            Finding(
                mark if number == 1 else f"{mark}.{number}",
                tuple(episode),
                tuple(hits[position] for position in episode),
                tuple(marks[position] for position in episode),
            )
        )
    return found


def findings_of_run(result: RunResult) -> list[Finding]:
    """The findings of a run."""
    return findings_of(result.hits, {r.hunt.name: r.hunt for r in result.rendered})


def _episodes(group: Iterable[int], hits: Sequence[Hit]) -> list[list[int]]:
    """Positions of one subject's hits, by time, parted where the gap is too long."""
    found: list[list[int]] = []
    end = 0
    for position in sorted(group, key=lambda p: (hits[p].first_seen or Instant(0), p)):
        first = (hits[position].first_seen or Instant(0)).ticks
        if not found or first > end + EPISODE_GAP.ticks:
            found.append([])
        found[-1].append(position)
        end = max(end, hit_end(hits[position]).ticks)
    return found


def fingerprint(hunt: Hunt | None, hit: Hit) -> str:
    """32 hex digits, the same for the same hit however often it is found.

    The hunt goes by its id, so a change of its parameters keeps its findings. A
    declared column that the result lacks makes the whole row count: two findings
    never become one.
    """
    row = hit.row
    declared = hunt.notes.fingerprint if hunt else ()
    values = [_value(name, hit, row) for name in declared if name in row or name == DAY]
    if not declared:
        values = [_plain(hit.device), _plain(hit.account), _value(DAY, hit, row)]
    if len(values) < len(declared) or (not declared and hit.device is None):
        values.append([_plain(cell) for cell in hit.cells])
    named = (hunt.id.lower() if hunt else "") or hit.hunt
    identity = [named, *_owner(hit), *values]
    text = json.dumps(identity, ensure_ascii=True, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _owner(hit: Hit) -> Sequence[Any]:
    """The tenant; duplicates in several of its workspaces are one finding."""
    if hit.tenant:
        return [hit.tenant.lower()]
    return [f"profile:{hit.profile}", (hit.workspace or "").lower()]


def _value(name: str, hit: Hit, row: dict[str, Any]) -> Any:
    if name in row:
        return _plain(row[name])
    return hit.first_seen.isoformat()[:10] if hit.first_seen else None


def _plain(cell: Any) -> Any:
    """Names differ in case between sources; nothing else is taken for the same."""
    value = to_json_value(cell)
    return value.strip().casefold() if isinstance(value, str) else value
