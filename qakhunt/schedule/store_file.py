"""The state as a local file, held by one run at a time.

The lock is the operating system's, on a file beside the state, so a killed run
leaves none behind.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import string
from typing import IO, TYPE_CHECKING

from qakhunt.core.errors import StateBusyError, StateError
from qakhunt.core.writing import open_private
from qakhunt.schedule.store import Store, connect

if TYPE_CHECKING:
    from pathlib import Path

    from qakhunt.kql.values import Instant


def open_file(path: Path, now: Instant, *, create: bool = True) -> Store:
    """Open and hold the state in ``path``.

    A damaged file is kept aside under another name and reported in ``warnings``.
    Raises StateBusyError while another run holds it, StateError for a file that is
    not usable, and for a missing one unless ``create``.
    """
    if not create and not path.exists():
        raise StateError(f"no such state: {path}", hint="'qakhunt run --state' makes it")
    if path.is_dir():
        raise StateError(f"{path} is a folder", hint="give the name of a file in it")
    lock = _lock(path)
    try:
        store = open_unlocked(path, str(path), now)
    except BaseException:
        lock.close()
        raise
    store.on_close(lock.close)
    return store


def read_file(path: Path, name: str | None = None) -> Store:
    """The state in ``path`` to look at, also while a run holds it; nothing is changed.

    Raises StateError for a missing, foreign or damaged file.
    """
    shown = name or str(path)
    if not path.exists():
        raise StateError(f"no such state: {shown}", hint="'qakhunt run --state' makes it")
    if path.is_dir():
        raise StateError(f"{path} is a folder", hint="give the name of a file in it")
    _refuse_text(path, shown)
    if path.stat().st_size == 0:
        raise StateError(f"the state {shown} is an empty file")
    try:
        return Store(connect(path, shown, read_only=True), shown)
    except sqlite3.DatabaseError as problem:
        raise StateError(
            f"the state {shown} is damaged ({problem})",
            hint="the next run keeps it aside and begins a new one",
        ) from None


def in_memory() -> Store:
    """A state that lasts as long as the run, for runs that keep none."""
    return Store(connect(None, "in memory"), "in memory")


def open_unlocked(path: Path, name: str, now: Instant) -> Store:
    """As ``open_file``, for a caller that holds the state already."""
    _refuse_text(path, name)
    empty = path.exists() and path.stat().st_size == 0
    try:
        store = Store(_connect(path, name), name)
    except sqlite3.DatabaseError as problem:
        kept = _keep_aside(path, now)
        store = Store(_connect(path, name), name)
        store.warnings.append(
            f"the state {name} was damaged ({problem}); it is kept as {kept.name} and a new one "
            "was begun: what was in the backlog or undelivered before is unknown, and findings are "
            "reported anew"
        )
        store.backlog_unknown = "the state was damaged"
        return store
    if empty:
        store.backlog_unknown = "the state was an empty file"
        store.warnings.append(f"the state {name} was an empty file; a new one was begun in it")
    return store


def _connect(path: Path, name: str) -> sqlite3.Connection:
    """A connection; a file that is made is its owner's alone, and so is its journal."""
    with contextlib.suppress(OSError):  # SQLite tells it better
        path.touch(mode=0o600)
    return connect(path, name)


def _refuse_text(path: Path, name: str) -> None:
    """A text file is somebody's mistake, not a damaged state."""
    try:
        with path.open("rb") as stream:
            head = stream.read(512)
    except FileNotFoundError:
        return
    except OSError as problem:
        raise StateError(f"cannot read {name}: {problem.strerror or problem}") from None
    if head.startswith(b"SQLite format 3\0") or not head:
        return
    if all(byte in string.printable.encode() for byte in head):
        raise StateError(
            f"{name} is a text file, not a state", hint="give --state a file of its own"
        )


def _keep_aside(path: Path, now: Instant) -> Path:
    stamp = now.isoformat()[:19].replace(":", "").replace("-", "")
    kept = path.with_name(f"{path.name}.damaged-{stamp}")
    number = 1
    while kept.exists():
        number += 1
        kept = path.with_name(f"{path.name}.damaged-{stamp}-{number}")
    try:
        path.rename(kept)
        journal = path.with_name(path.name + "-journal")
        if journal.exists():
            journal.rename(kept.with_name(kept.name + "-journal"))
    except OSError as problem:
        raise StateError(
            f"the damaged state {path} cannot be kept aside: {problem.strerror or problem}"
        ) from None
    return kept


def _lock(path: Path) -> IO[bytes]:
    lock = path.with_name(path.name + ".lock")
    try:
        stream = open_private(lock)
    except OSError as problem:
        raise StateError(
            f"cannot hold the state {path}: {problem.strerror or problem}",
            hint="its folder must exist and be writable",
        ) from None
    try:
        _lock_stream(stream)
    except OSError:
        stream.close()
        raise StateBusyError(
            f"another run holds the state {path}",
            hint="it was not looked at; the next run makes up for it",
        ) from None
    return stream


def _lock_stream(stream: IO[bytes]) -> None:
    if os.name == "nt":
        import msvcrt

        stream.seek(0)
        msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        return
    import fcntl

    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
