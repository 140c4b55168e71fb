"""A comparison as text, Markdown for a pull request, and ``qakhunt.diff/1``."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

from qakhunt.answers.cells import to_text
from qakhunt.answers.run_document import HitRecord, hit_document
from qakhunt.core.safe_text import for_markdown, for_terminal
from qakhunt.kql.values import Instant
from qakhunt.testing.contracts import (
    ChangedHit,
    DiffCell,
    DiffColumns,
    DiffCounts,
    DiffDocument,
    DiffEvent,
    DiffHit,
    DiffQuery,
)

if TYPE_CHECKING:
    from qakhunt.answers.hits import Hit
    from qakhunt.hunts.render import RenderedQuery
    from qakhunt.testing.compare import Comparison, HitChange

MOST_HITS = 50
MOST_EVENTS = 20
MOST_BRIEF = 8
_MARKS = {"both": " ", "new": "+", "old": "-"}
_CUT = "a limit cut the events of this hit"


def text_lines(found: Comparison) -> list[str]:
    """The comparison for a terminal: numbers first, then each hit with its events."""
    lines = [
        f"old  {_label(found.old.rendered)}: {_hits(len(found.old.hits))}",
        f"new  {_label(found.new.rendered)}: {_hits(len(found.new.hits))}",
        numbers(found),
    ]
    lines += [f"column {name} is new" for name in found.columns_added]
    lines += [f"column {name} is gone" for name in found.columns_removed]
    lines += [f"unknown: {words}" for words in found.unknown]
    for title, changes in _sections(found):
        if not changes:
            continue
        lines += ["", f"{title}:"]
        for change in changes[:MOST_HITS]:
            lines += [f"  {_who(change.hit)}", *_cell_lines(change)]
            lines += _event_lines(change)
        if len(changes) > MOST_HITS:
            lines.append(f"  and {len(changes) - MOST_HITS} more")
    if any(change.events for _, changes in _sections(found) for change in changes):
        lines += ["", "events: + counted by the new query alone, - by the old alone"]
    return [for_terminal(line) for line in lines]


def numbers(found: Comparison) -> str:
    """``2 gained, 1 lost, 0 changed, 5 the same``."""
    return (
        f"{len(found.gained)} gained, {len(found.lost)} lost, {len(found.changed)} changed, "
        f"{found.same} the same"
    )


def _sections(found: Comparison) -> list[tuple[str, list[HitChange]]]:
    return [("gained", found.gained), ("lost", found.lost), ("changed", found.changed)]


def _label(rendered: RenderedQuery) -> str:
    changed = _changed_parameters(rendered)
    hunt = rendered.hunt
    return (hunt.name if hunt.source == "built-in" else hunt.path) + (
        f" with {changed}" if changed else ""
    )


def _changed_parameters(rendered: RenderedQuery) -> str:
    from qakhunt.hunts.parameters import parameters_of

    defaults = {name: p.default for name, p in parameters_of(rendered.hunt).items()}
    return ", ".join(
        f"{name}={to_text(value)}"
        for name, value in rendered.parameters.items()
        if value != defaults[name]
    )


def _hits(count: int) -> str:
    return f"{count} hit" if count == 1 else f"{count} hits"


def _who(hit: Hit) -> str:
    parts = [hit.device or "-", hit.account or "-"]
    if hit.first_seen is not None:
        parts.append(hit.first_seen.short())
    return "  ".join(parts)


def _cell_lines(change: HitChange) -> list[str]:
    return [f"      {name}: {_step(cells.old, cells.new)}" for name, cells in change.cells.items()]


def _step(old: Any, new: Any) -> str:
    """One cell before and after; of two lists, what came and what went."""
    if isinstance(old, list) and isinstance(new, list):
        came = [item for item in new if item not in old]
        went = [item for item in old if item not in new]
        parts = [f"+ {_text(came)}"] * bool(came) + [f"- {_text(went)}"] * bool(went)
        return ", ".join(parts) or "another order"
    return f"{_text(old)} -> {_text(new)}"


def _event_lines(change: HitChange) -> list[str]:
    texts = [f"    {_MARKS[event.counted_by]} {_event(event)}" for event in change.events]
    # A query that puts an event into several bins counts it as often.
    counted = [(text, len(list(same))) for text, same in groupby(texts)]
    lines = [text + (f"  ({times}x)" if times > 1 else "") for text, times in counted[:MOST_EVENTS]]
    if len(counted) > MOST_EVENTS:
        lines.append(f"      and {len(counted) - MOST_EVENTS} more events")
    if not change.events_complete:
        lines.append(f"      {_CUT}")
    return lines


def _event(event: DiffEvent) -> str:
    return "  ".join(_text(cell) for cell in event.cells.values() if cell not in (None, ""))


def _brief(event: DiffEvent) -> str:
    """What was run, where the event says so; else all of it."""
    line = event.cells.get("ProcessCommandLine") or event.cells.get("CommandLine")
    return _text(line) if line else _event(event)


def _text(cell: Any) -> str:
    return cell.short() if isinstance(cell, Instant) else to_text(cell)


def markdown_lines(found: Comparison) -> list[str]:
    """The comparison for a pull request."""
    lines = [
        "| | query | hits |",
        "|---|---|---|",
        f"| old | {for_markdown(_label(found.old.rendered))} | {len(found.old.hits)} |",
        f"| new | {for_markdown(_label(found.new.rendered))} | {len(found.new.hits)} |",
        "",
        f"**{numbers(found)}**",
    ]
    for what, names in (("new", found.columns_added), ("gone", found.columns_removed)):
        if names:
            lines += ["", f"Columns {what}: {', '.join(map(for_markdown, names))}"]
    for words in found.unknown:
        lines += ["", f"Unknown: {for_markdown(words)}"]
    for title, changes in _sections(found):
        if changes:
            lines += [
                "",
                f"#### {title.capitalize()}",
                "",
                "| device | account | first seen | why |",
            ]
            lines.append("|---|---|---|---|")
            lines += [_markdown_row(change) for change in changes[:MOST_HITS]]
        if len(changes) > MOST_HITS:
            lines += ["", f"and {len(changes) - MOST_HITS} more"]
    return lines


def _markdown_row(change: HitChange) -> str:
    hit = change.hit
    first = hit.first_seen.short() if hit.first_seen else ""
    why = [f"{name}: {_step(cells.old, cells.new)}" for name, cells in change.cells.items()]
    events = [e for e in change.events if e.counted_by != "both"] or change.events
    why += [f"{_MARKS[e.counted_by]} {_brief(e)}".strip() for e in events[:MOST_BRIEF]]
    if len(events) > MOST_BRIEF:
        why.append(f"and {len(events) - MOST_BRIEF} more events")
    cells = [hit.device or "", hit.account or "", first]
    reasons = "<br>".join(map(for_markdown, why))
    return f"| {' | '.join(map(for_markdown, cells))} | {reasons} |"


def diff_document(found: Comparison) -> dict[str, Any]:
    """The comparison as ``qakhunt.diff/1``."""
    new = found.new.rendered
    numbers = {title: len(changes) for title, changes in _sections(found)}
    return DiffDocument.of(
        found,
        schema="qakhunt.diff/1",
        old=_query(found.old.rendered),
        new=_query(new),
        product=new.product,
        now=new.now.isoformat(),
        counts=DiffCounts.of(
            found, old=len(found.old.hits), new=len(found.new.hits), **numbers
        ),
        columns=DiffColumns(found.columns_added, found.columns_removed),
        gained=[DiffHit(**hit_document(one.hit), **_events(one)) for one in found.gained],
        lost=[DiffHit(**hit_document(one.hit), **_events(one)) for one in found.lost],
        changed=[_changed(change) for change in found.changed],
    ).plain()  # fmt: skip


def _query(rendered: RenderedQuery) -> DiffQuery:
    return DiffQuery.of(rendered, name=rendered.hunt.name, path=rendered.hunt.path)


def _events(change: HitChange) -> dict[str, Any]:
    events = [DiffEvent.of(event) for event in change.events]
    return {"events": events, "events_complete": change.events_complete}


def _changed(change: HitChange) -> ChangedHit:
    old, new = (HitRecord(**hit_document(hit)) for hit in (change.old, change.new) if hit)
    cells = {name: DiffCell.of(cell) for name, cell in change.cells.items()}
    return ChangedHit(old=old, new=new, cells=cells, **_events(change))
