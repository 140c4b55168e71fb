"""The state's file: its tables, and opening it."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from qakhunt.core.errors import StateError

if TYPE_CHECKING:
    from pathlib import Path

VERSION = 1
APPLICATION_ID = 0x71616B68  # "qakh"
_SCHEMA = """
CREATE TABLE run(
  id TEXT PRIMARY KEY, started INTEGER NOT NULL, finished INTEGER, verdict TEXT, summary TEXT);
CREATE TABLE coverage(
  id INTEGER PRIMARY KEY, hunt_hash TEXT NOT NULL, product TEXT NOT NULL,
  customer TEXT NOT NULL, workspace TEXT NOT NULL, hunt TEXT NOT NULL,
  begun INTEGER, reread INTEGER, asked INTEGER,
  UNIQUE(hunt_hash, product, customer, workspace));
CREATE TABLE covered(
  coverage INTEGER NOT NULL REFERENCES coverage ON DELETE CASCADE,
  start INTEGER NOT NULL, "end" INTEGER NOT NULL);
CREATE TABLE owed(
  coverage INTEGER NOT NULL REFERENCES coverage ON DELETE CASCADE,
  start INTEGER NOT NULL, "end" INTEGER NOT NULL,
  since INTEGER NOT NULL, attempts INTEGER NOT NULL, reason TEXT NOT NULL);
CREATE TABLE lost(
  coverage INTEGER NOT NULL REFERENCES coverage ON DELETE CASCADE,
  start INTEGER NOT NULL, "end" INTEGER NOT NULL, found INTEGER NOT NULL);
CREATE TABLE finding(
  fingerprint TEXT PRIMARY KEY, hunt TEXT NOT NULL, customer TEXT NOT NULL,
  first_reported INTEGER NOT NULL, last_reported INTEGER NOT NULL, last_seen INTEGER NOT NULL,
  revision INTEGER NOT NULL, size INTEGER NOT NULL, marks TEXT NOT NULL);
CREATE TABLE outbox(
  id INTEGER PRIMARY KEY, sink TEXT NOT NULL, key TEXT NOT NULL, kind TEXT NOT NULL,
  findings TEXT NOT NULL, payload BLOB, created INTEGER NOT NULL, delivered INTEGER,
  attempts INTEGER NOT NULL DEFAULT 0, detail TEXT NOT NULL DEFAULT '',
  UNIQUE(sink, key));
"""


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
        _prepare(connection, name)
    except BaseException:
        connection.close()
        raise
    return connection


_OPEN_HINT = "its folder must exist and be writable"


def _prepare(connection: sqlite3.Connection, name: str) -> None:
    try:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = FULL")
        (owner,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if tables == 0 and owner == 0:
            connection.execute("BEGIN IMMEDIATE")
            for statement in _SCHEMA.split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
            connection.execute("COMMIT")
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
