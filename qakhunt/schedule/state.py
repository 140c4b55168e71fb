"""The state as its users see it: opened by name, as a document, and whether it is well."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qakhunt.kql.values import Timespan
from qakhunt.schedule.azure_blob import is_blob_url
from qakhunt.schedule.store_file import open_file, read_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qakhunt.kql.values import Instant
    from qakhunt.schedule.coverage import Coverage
    from qakhunt.schedule.sinks.base import SinkContext
    from qakhunt.schedule.store import Store

CURRENT_DAYS = 7
"""Coverage that no run asked for lately belongs to a hunt or customer that is gone."""


def open_state(text: str, now: Instant, context: SinkContext, *, create: bool = True) -> Store:
    """The state at a path or a blob's URL, held until it is closed."""
    if is_blob_url(text):
        from qakhunt.schedule.store_blob import open_blob

        return open_blob(
            text, now, environment=context.environment, credential=context.credential,
            verify=context.verify, create=create,
        )  # fmt: skip
    return open_file(Path(text), now, create=create)


def read_state(text: str, context: SinkContext) -> Store:
    """The state at a path or a blob's URL, to look at while a run may hold it."""
    if is_blob_url(text):
        from qakhunt.schedule.store_blob import read_blob

        return read_blob(
            text, environment=context.environment, credential=context.credential,
            verify=context.verify,
        )  # fmt: skip
    return read_file(Path(text))


def state_document(store: Store) -> dict[str, Any]:
    """``qakhunt.state/1``: the state as plain JSON values."""

    def moment(instant: Instant | None) -> str | None:
        return instant.isoformat() if instant else None

    return {
        "schema": "qakhunt.state/1",
        "state": store.name,
        "warnings": store.warnings,
        "runs": [
            {"id": run.id, "started": moment(run.started), "finished": moment(run.finished),
             "verdict": run.verdict, **run.summary}
            for run in store.runs(20)
        ],
        "coverage": [
            {
                "hunt": entry.hunt, "hunt_hash": entry.key.hunt_hash,
                "product": entry.key.product, "customer": entry.key.customer,
                "workspace": entry.key.workspace or None, "watermark": moment(entry.watermark),
                "asked": moment(entry.asked),
                "owed": [
                    {"start": moment(o_.window.start), "end": moment(o_.window.end),
                     "since": moment(o_.since), "attempts": o_.attempts, "reason": o_.reason}
                    for o_ in entry.backlog
                ],
                "lost": [
                    {"start": moment(lost.window.start), "end": moment(lost.window.end),
                     "found": moment(lost.found)}
                    for lost in entry.lost
                ],
            }
            for entry in store.coverages()
        ],
        "findings": len({known.reported_as for known in store.known().values()}),
        "deliveries": [
            {"sink": sink, "delivered": delivered, "pending": pending}
            for sink, delivered, pending in store.deliveries()
        ],
        "pending": [
            {"sink": p.sink, "key": p.key, "kind": p.kind,
             "since": moment(p.created), "attempts": p.attempts, "detail": p.detail}
            for p in store.pending()
        ],
    }  # fmt: skip


def problems_of(store: Store, now: Instant, age: Timespan) -> list[str]:
    """What keeps the state from being well, one sentence each.

    Coverage that no run asked for within a week belongs to a hunt or customer that is
    gone; the run's own age tells when all of them stopped.
    """
    oldest = now - age
    ended = [run for run in store.runs() if run.finished is not None]
    problems = list(store.warnings)
    if not ended:
        problems.append("no run came to its end yet")
    elif ended[0].started < oldest:
        problems.append(f"the last run that came to its end began at {ended[0].started}")
    week = Timespan.parse(f"{CURRENT_DAYS}d")
    for entry in _current(store.coverages()):
        if entry.asked is None or now.since(entry.asked) > max(week, age):
            continue
        if entry.watermark is None or entry.watermark < oldest:
            label = entry.key.workspace or entry.key.customer
            reached = entry.watermark or "never"
            problems.append(
                f"{entry.hunt} on {label} ({entry.key.product}): complete until {reached}"
            )
    for pending in store.pending():
        if pending.created < oldest:
            problems.append(f"{pending.sink}: {pending.key} waits since {pending.created}")
    return problems


def _current(coverages: Sequence[Coverage]) -> list[Coverage]:
    """Without those of a hunt's earlier text or parameters on the same workspace."""
    latest: dict[tuple[str, ...], Coverage] = {}
    for entry in coverages:
        key = (entry.hunt, entry.key.product, entry.key.customer, entry.key.workspace)
        if key not in latest or _asked(entry) > _asked(latest[key]):
            latest[key] = entry
    return list(latest.values())


def _asked(entry: Coverage) -> int:
    return entry.asked.ticks if entry.asked else 0
