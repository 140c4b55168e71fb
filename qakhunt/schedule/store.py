"""The state of scheduled runs: one SQLite file, each change whole or not at all.

What a run learnt and what it has to deliver are written in one transaction, so a
crash at any point leaves the state before or after it. Whoever opens the state holds
it alone until it is closed.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from qakhunt.core.errors import StateError
from qakhunt.kql.values import Instant, Timespan, Window
from qakhunt.schedule.coverage import BacklogWindow, Coverage, CoverageKey, Lost
from qakhunt.schedule.findings import Known

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

VERSION = 2
APPLICATION_ID = 0x71616B68  # "qakh"
# Before version 2 each hunt had findings of its own.
_TO_VERSION_2 = """
ALTER TABLE finding ADD COLUMN reported_as TEXT NOT NULL DEFAULT '';
UPDATE finding SET reported_as = fingerprint;
PRAGMA user_version = 2
"""
_OPEN_HINT = "its folder must exist and be writable"
KEY = "hunt_hash = ? AND product = ? AND customer = ? AND workspace = ?"


@dataclass(frozen=True)
class Message:
    """What one sink is to be sent: ``key`` is its idempotency key, ``payload`` the bytes.

    ``kind`` is ``findings`` or ``heartbeat``; ``findings`` are the ids that it carries.
    """

    sink: str
    key: str
    payload: bytes
    kind: str = "findings"
    findings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pending:
    """A message that no receiver has confirmed; ``attempts`` counts earlier runs' too."""

    id: int
    sink: str
    key: str
    kind: str
    created: Instant
    attempts: int
    detail: str


@dataclass(frozen=True)
class RunRecord:
    """A run as the state remembers it; ``finished`` is None for one that never ended."""

    id: str
    started: Instant
    finished: Instant | None
    verdict: str | None
    summary: dict[str, Any]


class Store:
    """The open state. Every method raises StateError where the file does not allow it.

    ``warnings`` says what was found when it was opened; ``backlog_unknown``, why it is
    not known what earlier runs did not answer.
    """

    def __init__(self, connection: sqlite3.Connection, name: str) -> None:
        self.name = name
        self.warnings: list[str] = []
        self.backlog_unknown = ""
        self._connection = connection
        self._saved: Callable[[], None] = lambda: None
        self._confirmed: Callable[[dict[str, Any]], None] | None = None
        self._closing = contextlib.ExitStack()

    def on_change(self, action: Callable[[], None]) -> None:
        """Do this after each change: a state that lives elsewhere is sent there."""
        self._saved = action

    def on_confirmation(self, action: Callable[[dict[str, Any]], None]) -> None:
        """Do this instead when a delivery is confirmed: note it, small, elsewhere."""
        self._confirmed = action

    def on_close(self, action: Callable[[], None]) -> None:
        """Do this when the state is closed; the latest first."""
        self._closing.callback(action)

    def close(self) -> None:
        """Close the file and let other runs have it."""
        self._connection.close()
        self._closing.close()

    # Runs

    def begin(self, run_id: str, now: Instant) -> list[RunRecord]:
        """Note that a run starts; the runs before it that never ended."""
        unfinished = [run for run in self.runs() if run.finished is None]
        with self._change() as sql:
            sql("DELETE FROM run WHERE finished IS NULL")
            sql("INSERT INTO run(id, started) VALUES(?, ?)", run_id, now.ticks)
        return unfinished

    def runs(self, most: int = 100) -> list[RunRecord]:
        """The latest runs, newest first."""
        rows = self._rows(
            "SELECT id, started, finished, verdict, summary FROM run ORDER BY started DESC LIMIT ?",
            most,
        )
        return [
            RunRecord(
                id_, Instant(started), instant(finished), verdict, json.loads(summary or "{}")
            )
            for id_, started, finished, verdict, summary in rows
        ]

    def commit(
        self, run: RunRecord, coverages: Iterable[Coverage], known: Iterable[Known],
        messages: Iterable[Message],
    ) -> None:  # fmt: skip
        """All that a run learnt and has to deliver, in one transaction."""
        finished = run.finished or run.started
        with self._change() as sql:
            for coverage in coverages:
                write_coverage(sql, coverage)
            for finding in known:
                write_known(sql, finding)
            for message in messages:
                write_message(sql, message, finished)
            sql(
                "UPDATE run SET finished = ?, verdict = ?, summary = ? WHERE id = ?",
                finished.ticks, run.verdict, json.dumps(run.summary), run.id,
            )  # fmt: skip
            sql(
                "DELETE FROM run WHERE id NOT IN "
                "(SELECT id FROM run ORDER BY started DESC LIMIT 1000)"
            )

    # Coverage

    def coverage(self, key: CoverageKey) -> Coverage:
        """The account of one key, empty where it was never asked."""
        found = self._coverages(
            f"WHERE {KEY}",
            key.hunt_hash, key.product, key.customer, key.workspace,
        )  # fmt: skip
        return found[0] if found else Coverage(key)

    def coverages(self) -> list[Coverage]:
        """Every account, by hunt, customer and workspace."""
        return self._coverages("ORDER BY hunt, customer, workspace, product, hunt_hash")

    def _coverages(self, where: str, *values: Any) -> list[Coverage]:
        rows = self._rows(
            "SELECT id, hunt_hash, product, customer, workspace, hunt, begun, reread, asked "  # noqa: S608 - fixed texts of this class
            f"FROM coverage {where}", *values
        )  # fmt: skip
        return [self._coverage(*row) for row in rows]

    def _coverage(
        self, id_: int, hunt_hash: str, product: str, customer: str, workspace: str, hunt: str,
        begun: int | None, reread: int | None, asked: int | None,
    ) -> Coverage:  # fmt: skip
        covered = self._rows(
            'SELECT start, "end" FROM covered WHERE coverage = ? ORDER BY start', id_
        )
        backlog = self._rows(
            'SELECT start, "end", since, attempts, reason FROM owed WHERE coverage = ? '
            'ORDER BY start, "end" DESC', id_
        )  # fmt: skip
        lost = self._rows(
            'SELECT start, "end", found FROM lost WHERE coverage = ? ORDER BY found', id_
        )
        return Coverage(
            CoverageKey(hunt_hash, product, customer, workspace), hunt,
            covered=tuple(window(*row) for row in covered),
            backlog=tuple(
                BacklogWindow(window(a, b), Instant(since), n, why)
                for a, b, since, n, why in backlog
            ),
            lost=tuple(Lost(window(a, b), Instant(found)) for a, b, found in lost),
            begun=instant(begun), reread=instant(reread), asked=instant(asked),
        )  # fmt: skip

    # Findings

    def known(self, fingerprints: Sequence[str] | None = None) -> dict[str, Known]:
        """What was reported, by the fingerprint of each hit; all of it without a list."""
        ((version,),) = self._rows("PRAGMA user_version")
        # A state that is only looked at is not brought to this version.
        name = "reported_as" if version >= VERSION else "fingerprint"
        rows = self._rows(
            "SELECT fingerprint, hunt, customer, first_reported, last_reported, last_seen, "  # noqa: S608
            f"revision, size, marks, {name} FROM finding"
        )
        wanted = None if fingerprints is None else set(fingerprints)
        return {
            row[0]: Known(
                row[0], row[1], row[2], Instant(row[3]), Instant(row[4]), Instant(row[5]),
                row[6], row[7], frozenset(row[8].split()), row[9],
            )
            for row in rows
            if wanted is None or row[0] in wanted
        }  # fmt: skip

    # Deliveries

    def pending(self, sink: str | None = None) -> list[Pending]:
        """Messages that nobody confirmed, oldest first."""
        rows = self._rows(
            "SELECT id, sink, key, kind, created, attempts, detail FROM outbox "
            "WHERE delivered IS NULL AND (sink = ? OR ? IS NULL) ORDER BY id", sink, sink
        )  # fmt: skip
        return [
            Pending(id_, name, key, kind, Instant(created), attempts, detail)
            for id_, name, key, kind, created, attempts, detail in rows
        ]

    def message(self, pending: Pending) -> Message:
        """The message with its content."""
        ((findings, payload),) = self._rows(
            "SELECT findings, payload FROM outbox WHERE id = ?", pending.id
        )
        return Message(
            pending.sink, pending.key, payload, pending.kind, tuple(json.loads(findings))
        )

    def delivered(self, pending: Pending, now: Instant, attempts: int) -> None:
        """The receiver confirmed it; its content is forgotten, its key is not."""
        note = {
            "sink": pending.sink, "key": pending.key, "at": now.ticks,
            "attempts": pending.attempts + attempts,
        }  # fmt: skip
        with self._change(noted=bool(self._confirmed)) as sql:
            write_confirmation(sql, note)
        if self._confirmed:
            self._confirmed(note)

    def confirm(self, notes: Iterable[dict[str, Any]]) -> None:
        """Take over confirmations that an earlier run noted elsewhere."""
        with self._change() as sql:
            for note in notes:
                write_confirmation(sql, note)

    def not_delivered(self, pending: Pending, detail: str, attempts: int) -> None:
        """It stays pending, with the reason."""
        with self._change() as sql:
            sql(
                "UPDATE outbox SET attempts = ?, detail = ? WHERE id = ?",
                pending.attempts + attempts, detail, pending.id,
            )  # fmt: skip

    def deliveries(self) -> list[tuple[str, int, int]]:
        """Sink, confirmed and pending messages, by sink."""
        rows = self._rows(
            "SELECT sink, count(delivered), count(*) - count(delivered) FROM outbox "
            "GROUP BY sink ORDER BY sink"
        )
        return [(sink, done, open_) for sink, done, open_ in rows]

    # Upkeep

    def reset(
        self, *, hunt: str | None = None, customer: str | None = None, findings: bool = False,
        deliveries: bool = False, coverage: bool = True,
    ) -> dict[str, int]:  # fmt: skip
        """Forget coverage, and findings or pending deliveries if asked; how many of each.

        ``hunt`` and ``customer`` narrow coverage and findings.
        """
        same = "(hunt = ? OR ? IS NULL) AND (customer = ? OR ? IS NULL)"
        values = (hunt, hunt, customer, customer)
        done: dict[str, int] = {}
        with self._change() as sql:
            if coverage:
                done["coverage"] = sql(f"DELETE FROM coverage WHERE {same}", *values)  # noqa: S608
            if findings:
                done["findings"] = sql(f"DELETE FROM finding WHERE {same}", *values)  # noqa: S608
            if deliveries:
                done["deliveries"] = sql("DELETE FROM outbox WHERE delivered IS NULL")
        return done

    def prune(self, now: Instant, older: Timespan) -> dict[str, int]:
        """Forget what is older than that: runs, findings not seen, coverage not asked."""
        limit = (now - older).ticks
        with self._change() as sql:
            done = {
                "runs": sql("DELETE FROM run WHERE finished < ?", limit),
                "findings": sql("DELETE FROM finding WHERE last_seen < ?", limit),
                "coverage": sql("DELETE FROM coverage WHERE asked < ?", limit),
                "lost": sql("DELETE FROM lost WHERE found < ?", limit),
                "deliveries": sql("DELETE FROM outbox WHERE delivered < ?", limit),
            }
        with self._state_errors():
            self._connection.execute("VACUUM")
        self._saved()
        return done

    # The file

    @contextlib.contextmanager
    def _change(self, *, noted: bool = False) -> Iterator[Callable[..., int]]:
        def sql(text: str, *values: Any) -> int:
            return self._connection.execute(text, values).rowcount

        with self._state_errors():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield sql
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
        if not noted:
            self._saved()

    def _rows(self, text: str, *values: Any) -> list[Any]:
        with self._state_errors():
            return self._connection.execute(text, values).fetchall()

    @contextlib.contextmanager
    def _state_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as problem:
            raise StateError(f"the state {self.name} cannot be used: {problem}") from None


# The file's tables, and opening it


def connect(path: Path | None, name: str, *, read_only: bool = False) -> sqlite3.Connection:
    """A connection to the state file, made if missing; None is a state in memory.

    ``read_only`` changes nothing and waits for nobody, so the file must exist. Raises
    StateError for a file of a newer version or of another program, and
    sqlite3.DatabaseError for a damaged one.
    """
    try:
        place = f"{path.resolve().as_uri()}?mode=ro" if path and read_only else path or ":memory:"
        connection = sqlite3.connect(
            place, uri=read_only, isolation_level=None, timeout=5, check_same_thread=False
        )
    except sqlite3.OperationalError as problem:
        raise StateError(f"cannot open the state {name}: {problem}", hint=_OPEN_HINT) from None
    try:
        _prepare(connection, name, read_only=read_only)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, name: str, *, read_only: bool) -> None:
    try:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = FULL")
        (owner,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if tables == 0 and owner == 0:
            marks = f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION}"
            schema = files("qakhunt").joinpath("data/state.sql").read_text(encoding="utf-8")
            _at_once(connection, schema + marks)
            return
    except sqlite3.OperationalError as problem:
        raise StateError(f"cannot use the state {name}: {problem}", hint=_OPEN_HINT) from None
    if owner != APPLICATION_ID:
        raise StateError(
            f"{name} is another program's database", hint="give --state a file of its own"
        )
    if version > VERSION:
        raise StateError(
            f"the state {name} was written by a newer qakhunt (version {version}; this one "
            f"knows {VERSION})", hint="update qakhunt here; the state was left as it is",
        )  # fmt: skip
    problems = [row[0] for row in connection.execute("PRAGMA integrity_check(3)")]
    if problems != ["ok"]:
        raise sqlite3.DatabaseError("; ".join(problems))
    if version < VERSION and not read_only:
        _at_once(connection, _TO_VERSION_2)


def _at_once(connection: sqlite3.Connection, statements: str) -> None:
    """Run all of the statements, or none of them."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement in statements.split(";"):
            connection.execute(statement)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite has rolled back where the disk is full
            connection.execute("ROLLBACK")
        raise


# Rows from values, and back


def instant(ticks: int | None) -> Instant | None:
    return None if ticks is None else Instant(ticks)


def window(start: int, end: int) -> Window:
    return Window(Instant(start), Instant(end))


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
    for entry in coverage.backlog:
        sql(
            f"INSERT INTO owed VALUES({of}, ?, ?, ?, ?, ?)", *names, entry.window.start.ticks,
            entry.window.end.ticks, entry.since.ticks, entry.attempts, entry.reason,
        )  # fmt: skip
    for lost in coverage.lost:
        sql(
            f"INSERT INTO lost VALUES({of}, ?, ?, ?)", *names, lost.window.start.ticks,
            lost.window.end.ticks, lost.found.ticks,
        )  # fmt: skip


def write_known(sql: Callable[..., int], known: Known) -> None:
    sql(
        "INSERT OR REPLACE INTO finding VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        known.fingerprint, known.hunt, known.customer, known.first_reported.ticks,
        known.last_reported.ticks, known.last_seen.ticks, known.revision, known.size,
        " ".join(sorted(known.marks)), known.reported_as or known.fingerprint,
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
