"""Two queries over the same records: hits gained, lost and changed, and by which events."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from qakhunt.answers.hits import Hit, hits_of
from qakhunt.answers.ledger import Target
from qakhunt.kql.values import Instant
from qakhunt.testing.contracts import DiffCell, DiffEvent
from qakhunt.testing.events import EventFinder, HitEvents, itself, plan_events

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from qakhunt.answers.table import ResultTable
    from qakhunt.hunts.render import RenderedQuery
    from qakhunt.testing.contracts import CountedBy

    Ask = Callable[[RenderedQuery, str], ResultTable]

_WHO = ("DeviceName", "Computer", "AccountName", "Account")
MOST_EXPLAINED = 200
"""Hits whose events are fetched; further ones are listed without."""


@dataclass(frozen=True)
class HitChange:
    """A hit gained (``old`` is None), lost (``new`` is None) or changed.

    ``cells`` are those of the changed columns; ``events_complete`` is False where a limit
    cut the events.
    """

    old: Hit | None
    new: Hit | None
    cells: dict[str, DiffCell] = field(default_factory=dict)
    events: tuple[DiffEvent, ...] = ()
    events_complete: bool = True

    @property
    def hit(self) -> Hit:
        """The newer of the two that there is."""
        found = self.new or self.old
        if found is None:
            raise ValueError("a change has a hit")
        return found


@dataclass(frozen=True)
class Side:
    """A rendered query and its result."""

    rendered: RenderedQuery
    result: ResultTable
    hits: list[Hit]


@dataclass
class Comparison:
    """What the new query does that the old did not.

    ``unknown`` says where records that nobody kept could have changed the answer.
    """

    old: Side
    new: Side
    gained: list[HitChange]
    lost: list[HitChange]
    changed: list[HitChange]
    same: int
    columns_added: list[str]
    columns_removed: list[str]
    unknown: list[str] = field(default_factory=list)

    @property
    def differs(self) -> bool:
        """Whether anything at all is another."""
        columns = self.columns_added or self.columns_removed
        return bool(self.gained or self.lost or self.changed or columns)


def compare(old: RenderedQuery, new: RenderedQuery, ask: Ask) -> Comparison:
    """Run both and set one against the other.

    ``ask(rendered, text)`` answers a text under the clock, product and window of a side.
    """
    before, after = _side(old, ask), _side(new, ask)
    names = before.result.names, after.result.names
    shared = [name for name in names[1] if name in names[0]]
    pairs, lost, gained = _pair(before.hits, after.hits, _key_columns(after, shared), shared)
    changed = []
    same = 0
    for one, other in pairs:
        cells = _cells(one, other, shared)
        same += not cells
        if cells:
            changed.append(HitChange(one, other, cells))
    explain = _Explainer(before, after, ask)
    return Comparison(
        before,
        after,
        gained=explain.all(HitChange(None, hit) for hit in gained),
        lost=explain.all(HitChange(hit, None) for hit in lost),
        changed=explain.all(changed),
        same=same,
        columns_added=[name for name in names[1] if name not in names[0]],
        columns_removed=[name for name in names[0] if name not in names[1]],
    )


def _side(rendered: RenderedQuery, ask: Ask) -> Side:
    result = ask(rendered, rendered.text)
    return Side(rendered, result, hits_of(rendered.hunt, Target("local"), result))


def _key_columns(side: Side, shared: Sequence[str]) -> list[str]:
    """Columns that say which hits are the same one: the fingerprint, else who and where.

    Times are left out: a hit that begins a little earlier is the same one, changed.
    """
    times = {column.name for column in side.result.columns if column.kql_type == "datetime"}
    who = side.rendered.hunt.notes.fingerprint or _WHO
    return [name for name in (*who, "TenantId") if name in shared and name not in times]


def _pair(
    old: Sequence[Hit], new: Sequence[Hit], keys: Sequence[str], shared: Sequence[str]
) -> tuple[list[tuple[Hit, Hit]], list[Hit], list[Hit]]:
    """Pairs of one hit before and after, and what is left on each side.

    Within a key, equal rows are paired first, the rest in the order of their time.
    """
    by_key: dict[Any, tuple[list[Hit], list[Hit]]] = defaultdict(lambda: ([], []))
    for side, hits in enumerate((old, new)):
        for hit in hits:
            row = hit.row
            key = _frozen([row[name] for name in keys] if keys else [row[n] for n in shared])
            by_key[key][side].append(hit)
    pairs, lost, gained = [], [], []
    for before, after in by_key.values():
        rest = list(after)
        unpaired = []
        for hit in before:
            twin = next((other for other in rest if not _cells(hit, other, shared)), None)
            if twin is None:
                unpaired.append(hit)
            else:
                rest.remove(twin)
                pairs.append((hit, twin))
        unpaired.sort(key=_moment)
        rest.sort(key=_moment)
        count = min(len(unpaired), len(rest))
        pairs += zip(unpaired[:count], rest[:count], strict=True)
        lost += unpaired[count:]
        gained += rest[count:]
    return pairs, lost, gained


def _moment(hit: Hit) -> int:
    return hit.first_seen.ticks if hit.first_seen else 0


def _cells(old: Hit, new: Hit, shared: Sequence[str]) -> dict[str, DiffCell]:
    before, after = old.row, new.row
    return {
        name: DiffCell(before[name], after[name])
        for name in shared
        if _frozen(before[name]) != _frozen(after[name])
    }


def _frozen(cell: Any) -> Any:
    if isinstance(cell, list):
        return tuple(_frozen(item) for item in cell)
    if isinstance(cell, dict):
        return tuple(sorted((key, _frozen(value)) for key, value in cell.items()))
    # Python takes True for 1, and NaN for another NaN.
    if isinstance(cell, bool) or cell != cell:
        return (type(cell).__name__, str(cell))
    return cell


class _Explainer:
    """Fetches the events of changes, a limited number of them, from both queries."""

    def __init__(self, old: Side, new: Side, ask: Ask) -> None:
        self.finders = [_finder(side, ask) for side in (old, new)]
        self.left = MOST_EXPLAINED

    def all(self, changes: Iterable[HitChange]) -> list[HitChange]:
        """The changes with their events."""
        listed = list(changes)
        chosen, rest = listed[: self.left], listed[self.left :]
        self.left -= len(chosen)
        if not chosen:
            return rest
        old = self._events(0, chosen, [change.old for change in chosen])
        new = self._events(1, chosen, [change.new for change in chosen])
        return [
            _with_events(change, *events) for change, *events in zip(chosen, old, new, strict=True)
        ] + rest

    def _events(
        self, side: int, changes: Sequence[HitChange], own: Sequence[Hit | None]
    ) -> list[HitEvents | None]:
        """What one query counts of each change; None where its keys do not say which.

        A query without the hit is asked about the other's: it may count some events.
        """
        finder = self.finders[side]
        if finder is None:
            return [itself(hit.row) if hit else None for hit in own]
        rows = [(hit or change.hit).row for change, hit in zip(changes, own, strict=True)]
        if any(name not in rows[0] for name, _ in finder.plan.keys):
            return [None for _ in rows]
        return list(finder.find(rows))


def _finder(side: Side, ask: Ask) -> EventFinder | None:
    rendered = side.rendered
    plan = plan_events(rendered.text, rendered.hunt, side.result.names)
    if plan is None:
        return None
    return EventFinder(plan, rendered.product, side.result, lambda text: ask(rendered, text))


def _with_events(change: HitChange, old: HitEvents | None, new: HitEvents | None) -> HitChange:
    rows = _merged(old.rows if old else (), new.rows if new else ())
    complete = all(events is None or events.complete for events in (old, new))
    return replace(change, events=tuple(rows), events_complete=complete)


def _merged(old: Sequence[dict[str, Any]], new: Sequence[dict[str, Any]]) -> list[DiffEvent]:
    """The events of both versions in time order, each once per time it occurs."""
    shared = Counter(map(_event_key, old)) & Counter(map(_event_key, new))
    found = []
    sides: tuple[tuple[CountedBy, Sequence[dict[str, Any]]], ...] = (("old", old), ("new", new))
    for counted_by, events in sides:
        left = shared.copy()
        for cells in events:
            key = _event_key(cells)
            left[key] -= 1
            if left[key] < 0:
                found.append(DiffEvent(counted_by, cells))
            elif counted_by == "old":
                found.append(DiffEvent("both", cells))
    return sorted(found, key=lambda event: _event_time(event.cells))


def _event_key(cells: dict[str, Any]) -> Any:
    return tuple((name, _frozen(cell)) for name, cell in sorted(cells.items()))


def _event_time(cells: dict[str, Any]) -> int:
    return next((c.ticks for c in cells.values() if isinstance(c, Instant)), 0)
