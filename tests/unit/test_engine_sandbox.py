"""A hostile hunt reads no file, writes none, loads nothing and ends in time."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from qakhunt.backends.engine import limits
from qakhunt.backends.engine.dialect import Unreadable
from qakhunt.backends.engine.session import EngineRefused, EngineTimeout, Session
from qakhunt.core.errors import UsageError
from qakhunt.hunts.window import parse
from qakhunt.kql.values import Instant, Window
from tests.support.events import NOW, OCTOBER, event, write_ndjson

pytestmark = pytest.mark.engine

WINDOW = parse(OCTOBER, NOW)


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    path = write_ndjson(tmp_path / "e.ndjson", [event(f"c{i}") for i in range(3000)])
    with Session([str(path)], "log-analytics") as opened:
        yield opened


def refused(session: Session, query: str) -> str:
    with pytest.raises(EngineRefused) as problem:
        session.ask(query, now=NOW, window=WINDOW)
    return problem.value.message


def test_a_hunt_reads_no_other_file(session: Session, tmp_path: Path) -> None:
    import duckdb

    secret = tmp_path / "secret.parquet"
    duckdb.execute(f"COPY (SELECT 'secret' AS s) TO '{secret}' (FORMAT parquet)")
    csv = tmp_path / "secret.csv"
    csv.write_text("s\nsecret\n", encoding="utf-8")
    for path in (secret, csv, "/etc/passwd", f"{tmp_path}/*.parquet"):
        for query in (
            f"['{path}'] | count",
            f"union DeviceProcessEvents, ['{path}']",
            f"DeviceProcessEvents | join kind=inner (['{path}']) on $left.DeviceName == $right.s",
        ):
            message = refused(session, query)
            assert "no table" in message or "loaded tables only" in message or "support" in message


@pytest.mark.parametrize(
    "query",
    [
        ".drop table DeviceProcessEvents",
        ".set-or-append X <| DeviceProcessEvents",
        ".ingest inline into table X <| 1",
        "externaldata(a:string)['https://example.invalid/x.csv']",
        "cluster('c').database('d').T | count",
        "evaluate python(typeof(*), 'x')",
        "duckdb_settings() | count",
        "read_csv('/etc/passwd')",
        "T | invoke FileProfile()",
        "DeviceProcessEvents | extend x = getenv('HOME')",
        "DeviceProcessEvents | extend x = read_text('/etc/passwd')",
    ],
)
def test_a_hunt_writes_and_loads_nothing(session: Session, query: str) -> None:
    refused(session, query)


@pytest.mark.parametrize(
    "text",
    ["x'; COPY (SELECT 1) TO '{0}'; --", "x') TO '{0}' (FORMAT csv); --", "\\'; ATTACH '{0}'; --"],
)
def test_sql_in_a_literal_is_text(session: Session, tmp_path: Path, text: str) -> None:
    from qakhunt.kql.literal import encode

    target = tmp_path / "written"
    value = encode(text.format(target), "string")
    query = f"DeviceProcessEvents | where DeviceName == {value} or DeviceName has {value} | count"
    assert session.ask(query, now=NOW, window=WINDOW).rows[0] == (0,)
    assert not target.exists()


def test_a_callers_variable_is_no_table(session: Session) -> None:
    stolen = [1, 2, 3]
    assert "no table" in refused(session, "stolen | count")
    assert stolen


def test_a_query_that_takes_too_long_is_stopped(session: Session) -> None:
    query = (
        "let T = DeviceProcessEvents | extend k = 1;\n"
        "T | join kind=inner (T) on k | join kind=inner (T) on k\n"
        "| summarize n = dcount(strcat(ProcessCommandLine, ProcessCommandLine1, DeviceName2))"
    )
    started = time.monotonic()
    with pytest.raises(EngineTimeout, match="longer than"):
        session.ask(query, now=NOW, window=WINDOW, timeout=0.2)
    assert time.monotonic() - started < 20
    assert session.ask("DeviceProcessEvents | count", now=NOW, window=WINDOW).rows == [(3000,)]


def test_temporary_files_are_gone_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    path = write_ndjson(tmp_path / "e.ndjson", [event("x")])
    with Session([str(path)], "log-analytics") as opened:
        opened.ask("DeviceProcessEvents | count", now=NOW, window=WINDOW)
        assert list(folder.iterdir())
    assert not list(folder.iterdir())


WRITING = (
    "SELECT 1) ; COPY (SELECT 1 AS a) TO '{0}' (FORMAT csv, USE_TMP_FILE false); SELECT * FROM (SELECT 1",
    'SELECT 1); CREATE OR REPLACE VIEW "DeviceProcessEvents" AS SELECT 1 AS a; SELECT (1',
    "WITH x AS (COPY (SELECT 1) TO '{0}' (FORMAT csv, USE_TMP_FILE false)) SELECT 1",
    "SELECT 1) UNION ALL (WITH x AS (COPY (SELECT 1) TO '{0}' (USE_TMP_FILE false)) SELECT 1",
    'WITH x AS (INSERT INTO "_rows_DeviceNetworkEvents" VALUES (1) RETURNING 1) SELECT * FROM x',
    "COPY (SELECT 1) TO '{0}' (FORMAT csv, USE_TMP_FILE false)",
    'DROP VIEW "DeviceProcessEvents"',
    'SELECT 1 -- )\n) ; DELETE FROM "_rows_DeviceNetworkEvents"; --',
    "ATTACH '{0}.db'",
    "SET memory_limit='100GB'",
)


@pytest.mark.parametrize("sql", WRITING, ids=range(len(WRITING)))
def test_even_hostile_sql_writes_nothing(tmp_path: Path, sql: str) -> None:
    """The last gate: what the translator might be brought to write one day."""
    import duckdb

    path = tmp_path / "e.parquet"
    duckdb.execute(
        "COPY (SELECT TIMESTAMP '2026-10-05' AS TimeGenerated, 'd' AS DeviceName FROM range(5)) "
        f"TO '{path}' (FORMAT parquet)"
    )
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    with Session([f"DeviceProcessEvents={path}"], "log-analytics") as session:
        session.put("DeviceNetworkEvents", [{"DeviceName": "d"}])
        counts = "union DeviceProcessEvents, DeviceNetworkEvents | count"
        assert session.ask(counts, now=NOW, window=WINDOW).rows == [(6,)]
        with pytest.raises((Unreadable, duckdb.Error)):
            session._select(sql.format(path), {}).fetchall()
        assert session.ask(counts, now=NOW, window=WINDOW).rows == [(6,)]
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before
    assert [file.name for file in tmp_path.iterdir()] == ["e.parquet"]


@pytest.mark.parametrize(
    "table",
    [
        "sqlite_master", "duckdb_tables", "['duckdb_tables()']", "pg_tables", "_rows_DeviceInfo",
        "['information_schema.tables']", "information_schema.tables", "pg_catalog.pg_class",
        "database('information_schema').tables", "database('memory').DeviceProcessEvents",
        "database('system').duckdb_views", "deviceprocessevents", "_s0", "pragma_database_list",
    ],
)  # fmt: skip
def test_the_catalogue_is_no_table(session: Session, table: str) -> None:
    session.put("DeviceInfo", [{"DeviceName": "d"}])
    for query in (
        f"{table} | count",
        f"union DeviceProcessEvents, {table} | count",
        f"DeviceProcessEvents | join kind=inner ({table}) on DeviceName | count",
        f"DeviceProcessEvents | where DeviceName in ({table} | project DeviceName) | count",
        f"let T = {table}; T | count",
        f"print n = toscalar({table} | count)",
    ):
        message = refused(session, query)
        assert any(
            words in message for words in ("no table", "no column", "syntax error", "support")
        ), message


def test_one_hunt_leaves_nothing_to_the_next(session: Session) -> None:
    assert session.ask(
        "let Stolen = DeviceProcessEvents | take 3; Stolen | count", now=NOW, window=WINDOW
    ).rows == [(3,)]
    assert refused(session, "Stolen | count") == "no table named 'Stolen'"


def test_sorted_rows_come_in_their_order(session: Session) -> None:
    query = "DeviceProcessEvents | project c = ProcessCommandLine | sort by c desc"
    found = [row[0] for row in session.ask(query, now=NOW, window=WINDOW).rows]
    assert len(found) == 3000
    assert found == sorted(found, reverse=True)


def chained(operator: str, term: str, many: int) -> str:
    return operator.join(term.format(i) for i in range(many))


T = "DeviceProcessEvents"
TERM = "ProcessCommandLine == 'c{0}'"


@pytest.mark.parametrize(
    ("query", "words"),
    [
        (T + chained("", " | extend c{0} = 1", 1500), "more than 300 operators"),
        (f"{T} | where {chained(' or ', TERM, 3000)}", "more than 400 terms in one expression"),
        (
            f"{T} | where DeviceName in ({chained(', ', chr(39) + '{0}' + chr(39), 20_000)})",
            "words",
        ),
        (f"{T} | where DeviceName == '{'x' * 200_000}'", "characters, more than 200,000"),
        (f"{T} | where {'(' * 300}true{')' * 300}", "more than 50 brackets"),
        (f"{T} | extend d = dynamic({'[' * 300}{']' * 300})", "more than 50 brackets"),
    ],
)
def test_a_query_beyond_a_limit_is_refused_by_name(
    session: Session, query: str, words: str
) -> None:
    started = time.monotonic()
    message = refused(session, query)
    assert message.startswith("the query is too large for the embedded engine, it has ")
    assert words in message
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    "query",
    [
        f"{T} | where {chained(' or ', TERM, limits.MAX_TERMS)} or true",
        f"{T} | where DeviceName in ({chained(', ', chr(39) + '{0}' + chr(39), 5000)}) or true",
        T + chained("", " | where ProcessCommandLine != 'x{0}'", limits.MAX_OPERATORS - 1),
        f"{T} | where {'(' * limits.MAX_DEPTH}true{')' * limits.MAX_DEPTH}",
        f"{T} | where {'tostring(' * 40}DeviceName{')' * 40} == DeviceName",
        f"{T} | where {'strcat(DeviceName, ' * 20}DeviceName{')' * 20} != DeviceName",
        f"{T} | where isnotempty({'toint(' * 20}'7'{')' * 20})",
    ],
)
def test_a_query_within_the_limits_runs(session: Session, query: str) -> None:
    assert session.ask(f"{query} | count", now=NOW, window=WINDOW).rows == [(3000,)]


def test_a_value_that_is_worked_out_once_is_the_same(session: Session) -> None:
    query = (
        "DeviceProcessEvents | take 1 | project t = tostring(tostring(TimeGenerated)), "
        "n = tostring(tostring(tostring(1 + 1))), b = tostring(tostring(1 == 1)), "
        "e = tostring(tostring(tostring(int(null)))), d = strlen(tostring(tostring(1h + 1m))), "
        "i = toint(tostring(toint(tostring(7)))), a = iff(isempty(tostring(tostring(''))), 1, 2)"
    )
    row = session.ask(query, now=NOW, window=WINDOW).rows[0]
    assert row[1:] == ("2", "True", "", 8, 7, 1)
    assert row[0].endswith("Z")
    grouped = (
        "DeviceProcessEvents | summarize n = count(), "
        "s = make_set(tostring(tostring(tostring(AccountName)))) "
        "by x = tostring(tostring(tostring(strlen(tostring(tostring(DeviceName))) > 0)))"
    )
    assert session.ask(grouped, now=NOW, window=WINDOW).rows[0][:2] == ("True", 3000)


SLOW_TO_READ = f"{T} | where DeviceName in (dynamic([{chained(', ', '7{0}', 25_000)}]))"


def test_the_time_limit_covers_the_translation(session: Session) -> None:
    session.ask(f"{T} | count", now=NOW, window=WINDOW)
    started = time.monotonic()
    with pytest.raises(EngineTimeout, match="longer than"):
        session.ask(SLOW_TO_READ, now=NOW, window=WINDOW, timeout=0.1)
    assert time.monotonic() - started < 2
    assert session.ask(f"{T} | count", now=NOW, window=WINDOW).rows == [(3000,)]


def test_a_translation_without_end_is_refused(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_TRANSLATION", 0.3)
    doubled = f"let T0 = {T};" + "".join(f"let T{i + 1} = T{i} | union T{i};" for i in range(40))
    for timeout in (None, 60):
        started = time.monotonic()
        with pytest.raises(EngineRefused, match=r"translating it takes longer than 0\.3 s"):
            session.ask(f"{doubled} T40 | count", now=NOW, window=WINDOW, timeout=timeout)
        assert time.monotonic() - started < 5
    assert session.ask(f"{T} | count", now=NOW, window=WINDOW).rows == [(3000,)]


def test_a_translation_can_be_interrupted(session: Session) -> None:
    session.ask(f"{T} | count", now=NOW, window=WINDOW)
    timer = threading.Timer(0.2, session.interrupt)
    timer.start()
    started = time.monotonic()
    with pytest.raises(EngineTimeout, match="interrupted"):
        session.ask(SLOW_TO_READ, now=NOW, window=WINDOW)
    assert time.monotonic() - started < 2


def test_the_time_limit_covers_the_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_ndjson(tmp_path / "e.ndjson", [event(f"c{i}") for i in range(20_000)])
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    with pytest.raises(EngineTimeout, match=r"reading the events took longer than 0\.01 s"):
        Session([str(path)], "log-analytics", timeout=0.01)
    assert not list(folder.iterdir())


def test_memory_is_limited(tmp_path: Path) -> None:
    limits.limit_memory("40MB")
    try:
        with Session([], "log-analytics") as session:
            query = "range i from 1 to 3000000 step 1 | summarize make_list(strcat('x', i))"
            with pytest.raises(EngineTimeout, match="more memory than 40MB") as problem:
                session.ask(query, now=NOW, window=WINDOW)
            assert "--memory-limit" in str(problem.value.hint)
    finally:
        limits.limit_memory(None)
    with pytest.raises(UsageError, match="no size"):
        limits.limit_memory("'; DROP")


def test_a_range_is_made_row_by_row_and_a_long_one_is_refused() -> None:
    window = Window(Instant.parse("2026-10-01"), Instant.parse("2026-10-02"))
    with Session([], "defender") as session:
        text = "range x from 1 to 9 step 3 | summarize make_list(x)"
        found = session.ask(text, now=window.end, window=window)
        assert found.rows == [([1, 4, 7],)]
        text = "range x from datetime(2026-10-01) to datetime(2026-10-03) step 1d | count"
        assert session.ask(text, now=window.end, window=window).rows == [(3,)]
        text = "range x from 1 to toscalar(print y = 5) step 2 | summarize make_list(x)"
        assert session.ask(text, now=window.end, window=window).rows == [([1, 3, 5],)]
        for bounds in (
            "1 to 4000000000 step 1", "1 to toscalar(print y = 4000000000) step 1",
            "ago(9000d) to now() step 1s",
        ):  # fmt: skip
            with pytest.raises(EngineRefused, match="its range has more than 10,000,000 values"):
                session.ask(f"range x from {bounds} | count", now=window.end, window=window)
