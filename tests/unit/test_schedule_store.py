"""The state: whole or not at all, one run at a time, and never silently emptied."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qakhunt.core.errors import ExitCode, StateBusyError, StateError
from qakhunt.kql.values import Instant, Timespan, Window
from qakhunt.schedule.coverage import BacklogWindow, Coverage, CoverageKey, Lost, union
from qakhunt.schedule.store import Message, RunRecord, Store, connect
from qakhunt.schedule.store_file import open_file
from tests.support import crash_points

NOW = Instant.parse("2026-11-05T09:00:00Z")

INSTANTS = st.integers(0, 10**15).map(Instant)
WINDOWS = st.tuples(INSTANTS, st.integers(1, 10**12)).map(
    lambda pair: Window(pair[0], Instant(pair[0].ticks + pair[1]))
)
COVERAGES = st.builds(
    Coverage,
    key=st.builds(CoverageKey, st.text(), st.text(), st.text(), st.text()),
    hunt=st.text(),
    covered=st.lists(WINDOWS, max_size=4).map(union),
    backlog=st.lists(
        st.builds(BacklogWindow, WINDOWS, INSTANTS, st.integers(0, 99), st.text()),
        max_size=3, unique_by=lambda owed: owed.window,
    ).map(lambda backlog: tuple(sorted(backlog, key=lambda o: (o.window.start, -o.window.end.ticks)))),
    lost=st.lists(st.builds(Lost, WINDOWS, INSTANTS), max_size=1).map(tuple),
    begun=st.none() | INSTANTS,
    reread=st.none() | INSTANTS,
    asked=st.none() | INSTANTS,
)  # fmt: skip


def in_memory() -> Store:
    store = Store(connect(None, "memory"), "memory")
    store.begin("run", NOW)
    return store


def record(run_id: str = "run") -> RunRecord:
    return RunRecord(run_id, NOW, NOW, "clean", {})


@settings(max_examples=60, deadline=None)
@given(st.lists(COVERAGES, max_size=3, unique_by=lambda c: c.key))
def test_what_is_written_is_read_back(coverages: list[Coverage]) -> None:
    with contextlib.closing(in_memory()) as store:
        store.commit(record(), coverages, [], [])
        store.commit(record(), coverages, [], [])  # writing twice changes nothing
        assert {c.key: c for c in store.coverages()} == {c.key: c for c in coverages}


def test_two_runs_cannot_hold_it_at_once(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with contextlib.closing(open_file(path, NOW)):
        with pytest.raises(StateBusyError) as caught:
            open_file(path, NOW)
        assert caught.value.exit_code == ExitCode.NOTHING_ANSWERED
    open_file(path, NOW).close()


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: b"\0" * len(data),
        lambda data: data[:100] + b"\xff" * 8000 + data[8100:],
        lambda data: b"\x93" + data[1:],
    ],
    ids=["cut", "zeroed", "overwritten", "head"],
)
def test_a_damaged_file_is_kept_aside_and_reported(tmp_path: Path, damage: object) -> None:
    path = tmp_path / "state.db"
    with contextlib.closing(open_file(path, NOW)) as store:
        store.begin("run", NOW)
        crash_points.commit(store)
    damaged = damage(path.read_bytes())  # type: ignore[operator]
    path.write_bytes(damaged)
    with contextlib.closing(open_file(path, NOW)) as store:
        assert "damaged" in store.warnings[0]
        assert store.backlog_unknown == "the state was damaged"
        assert store.coverages() == []
    kept = list(tmp_path.glob("state.db.damaged-*"))
    assert [k.read_bytes() for k in kept if "journal" not in k.name] == [damaged]


def test_an_emptied_file_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.touch()
    with contextlib.closing(open_file(path, NOW)) as store:
        assert "empty" in store.warnings[0]
        assert store.backlog_unknown


def test_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    open_file(path, NOW).close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    before = path.read_bytes()
    with pytest.raises(StateError, match="newer qakhunt"):
        open_file(path, NOW)
    assert path.read_bytes() == before


def test_files_of_others_are_refused_and_left_alone(tmp_path: Path) -> None:
    text = tmp_path / "config.toml"
    text.write_text("[profiles]\n")
    with pytest.raises(StateError, match="text file"):
        open_file(text, NOW)
    assert text.read_text() == "[profiles]\n"
    other = tmp_path / "other.db"
    with contextlib.closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE theirs(x)")
    with pytest.raises(StateError, match="another program"):
        open_file(other, NOW)
    with pytest.raises(StateError, match="folder"):
        open_file(tmp_path, NOW)


def test_folders_that_are_missing_or_read_only_are_one_error(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="cannot hold"):
        open_file(tmp_path / "no" / "state.db", NOW)
    if Path("/proc").is_dir():
        with pytest.raises(StateError, match="cannot hold"):
            open_file(Path("/proc/state.db"), NOW)


def test_a_full_disk_leaves_the_state_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with contextlib.closing(open_file(path, NOW)) as store:
        store.begin("run", NOW)
        pages = store._rows("PRAGMA page_count")[0][0]
        store._rows(f"PRAGMA max_page_count = {pages}")
        big = [Message("sink", str(n), b"x" * 5000) for n in range(20)]
        with pytest.raises(StateError, match="full"):
            store.commit(record(), [], [], big)
        assert store.pending() == []
        assert store.runs()[0].finished is None


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is full")
def test_a_state_that_cannot_be_made_says_why() -> None:
    with pytest.raises(StateError, match="cannot use the state") as caught:
        connect(Path("/dev/full"), "state.db")
    assert "rollback" not in caught.value.message


def test_a_heartbeat_takes_the_place_of_an_undelivered_one() -> None:
    with contextlib.closing(in_memory()) as store:
        finding = Message("sink", "finding", b"1")
        store.commit(record(), [], [], [finding, Message("sink", "beat-1", b"2", "heartbeat")])
        later = RunRecord("run", NOW, Instant(NOW.ticks + 1), "clean", {})
        store.commit(later, [], [], [Message("sink", "beat-2", b"3", "heartbeat")])
        assert [p.key for p in store.pending()] == ["finding", "beat-2"]


def test_delivered_messages_are_not_queued_again_and_forget_their_content() -> None:
    with contextlib.closing(in_memory()) as store:
        message = Message("sink", "id-1", b"device and command text")
        store.commit(record(), [], [], [message])
        store.delivered(store.pending()[0], NOW, 1)
        store.commit(record(), [], [], [message])
        assert store.pending() == []
        assert store._rows("SELECT count(*) FROM outbox WHERE payload IS NOT NULL") == [(0,)]


def test_reset_and_prune_forget_what_they_say() -> None:
    with contextlib.closing(in_memory()) as store:
        crash_points.commit(store)
        assert store.reset(customer="somebody else") == {"coverage": 0}
        done = store.reset(hunt="hunt", findings=True, deliveries=True)
        assert done == {"coverage": 1, "findings": 1, "deliveries": 3}
        assert store._rows("SELECT count(*) FROM covered") == [(0,)]
        crash_points.commit(store)
        later = NOW + Timespan.parse("10d")
        assert store.prune(later, Timespan.parse("30d"))["findings"] == 0
        assert store.prune(later, Timespan.parse("5d"))["findings"] == 1


@pytest.mark.parametrize("mask", [0, 0o022])
def test_the_state_and_what_lies_beside_it_are_their_owners_alone(
    tmp_path: Path, mask: int
) -> None:
    path = tmp_path / "state.db"
    before = os.umask(mask)
    try:
        store = open_file(path, NOW)
        with contextlib.closing(store):
            store.begin("run", NOW)
            modes = {p.name: p.stat().st_mode & 0o777 for p in tmp_path.iterdir()}
        path.write_bytes(b"SQLite format 3\0" + b"x" * 5000)
        open_file(path, NOW).close()
    finally:
        os.umask(before)
    assert set(modes.values()) == {0o600}
    assert {"state.db", "state.db.lock"} <= set(modes)
    assert len(list(tmp_path.glob("state.db.damaged-*"))) == 1
    assert {p.stat().st_mode & 0o777 for p in tmp_path.iterdir()} == {0o600}
