"""A hostile hunt reads no file, writes none, loads nothing and ends in time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from qakhunt.engine.session import EngineRefused, EngineTimeout, Session
from qakhunt.hunts.window import parse
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
