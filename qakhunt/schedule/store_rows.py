"""Rows of the state's tables from values, and back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from qakhunt.kql.values import Instant, Window

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from qakhunt.schedule.coverage import Coverage
    from qakhunt.schedule.findings import Known
    from qakhunt.schedule.store import Message


def instant(ticks: int | None) -> Instant | None:
    return None if ticks is None else Instant(ticks)


def window(start: int, end: int) -> Window:
    return Window(Instant(start), Instant(end))


KEY = "hunt_hash = ? AND product = ? AND customer = ? AND workspace = ?"


def _ticks(moment: Instant | None) -> int | None:
    return None if moment is None else moment.ticks


def write_coverage(sql: Callable[..., int], coverage: Coverage) -> None:
    key = coverage.key
    names = (key.hunt_hash, key.product, key.customer, key.workspace)
    sql(f"DELETE FROM coverage WHERE {KEY}", *names)  # noqa: S608 - a text of this module
    sql(
        "INSERT INTO coverage(hunt_hash, product, customer, workspace, hunt, begun, reread, asked) "
        "VALUES(?, ?, ?, ?, ?, ?, ?, ?)", *names, coverage.hunt,
        _ticks(coverage.begun), _ticks(coverage.reread), _ticks(coverage.asked),
    )  # fmt: skip
    of = f"(SELECT id FROM coverage WHERE {KEY})"  # noqa: S608
    for window in coverage.covered:
        sql(f"INSERT INTO covered VALUES({of}, ?, ?)", *names, window.start.ticks, window.end.ticks)
    for owed in coverage.owed:
        sql(
            f"INSERT INTO owed VALUES({of}, ?, ?, ?, ?, ?)", *names, owed.window.start.ticks,
            owed.window.end.ticks, owed.since.ticks, owed.attempts, owed.reason,
        )  # fmt: skip
    for lost in coverage.lost:
        sql(
            f"INSERT INTO lost VALUES({of}, ?, ?, ?)", *names, lost.window.start.ticks,
            lost.window.end.ticks, lost.found.ticks,
        )  # fmt: skip


def write_known(sql: Callable[..., int], known: Known) -> None:
    sql(
        "INSERT OR REPLACE INTO finding VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?)",
        known.fingerprint, known.hunt, known.customer, known.first_reported.ticks,
        known.last_reported.ticks, known.last_seen.ticks, known.revision, known.size,
        " ".join(sorted(known.marks)),
    )  # fmt: skip


def write_confirmation(sql: Callable[..., int], note: Mapping[str, Any]) -> None:
    sql(
        "UPDATE outbox SET delivered = ?, payload = NULL, attempts = ?, detail = '' "
        "WHERE sink = ? AND key = ? AND delivered IS NULL",
        note["at"], note["attempts"], note["sink"], note["key"],
    )  # fmt: skip


def write_message(sql: Callable[..., int], message: Message, now: Instant) -> None:
    """A heartbeat takes the place of one that was not delivered: only the latest counts."""
    if message.kind == "heartbeat":
        sql(
            "DELETE FROM outbox WHERE sink = ? AND kind = 'heartbeat' AND delivered IS NULL "
            "AND created < ?", message.sink, now.ticks,
        )  # fmt: skip
    sql(
        "INSERT OR IGNORE INTO outbox(sink, key, kind, findings, payload, created) "
        "VALUES(?, ?, ?, ?, ?, ?)", message.sink, message.key, message.kind,
        json.dumps(message.findings), message.payload, now.ticks,
    )  # fmt: skip
