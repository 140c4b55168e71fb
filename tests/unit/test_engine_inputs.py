"""Recorded events in every form give the same answer; a broken one is named by its line."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qakhunt.core.errors import EventsError
from tests.support.events import FOUR, event, run_on, write_ndjson

pytestmark = pytest.mark.engine

RECORDS = [event(command, ProcessId=number) for number, command in enumerate(FOUR)]


def _lines() -> str:
    return "".join(json.dumps(record) + "\n" for record in RECORDS)


def _csv() -> str:
    names = list(RECORDS[0])
    rows = [",".join(f'"{record[name]}"' for name in names) for record in RECORDS]
    return "\r\n".join([",".join(names), *rows]) + "\r\n"


def _tables() -> dict[str, Any]:
    names = list(RECORDS[0])
    types = {"TimeGenerated": "datetime", "ProcessId": "long"}
    return {
        "tables": [
            {
                "name": "PrimaryResult",
                "columns": [{"name": n, "type": types.get(n, "string")} for n in names],
                "rows": [[record[n] for n in names] for record in RECORDS],
            }
        ]
    }


def _hunting(schema: str, results: str, name: str, kind: str) -> dict[str, Any]:
    rows = [{**r, "Timestamp": r["TimeGenerated"]} for r in RECORDS]
    for row in rows:
        del row["TimeGenerated"]
    types = {"Timestamp": "DateTime", "ProcessId": "Int64"}
    columns = [{name: n, kind: types.get(n, "String")} for n in rows[0]]
    return {schema: columns, results: rows}


FORMS: dict[str, Callable[[], bytes]] = {
    "events.ndjson": lambda: _lines().encode(),
    "events.jsonl": lambda: _lines().replace("\n", "\r\n").encode(),
    "blank-lines.ndjson": lambda: _lines().replace("\n", "\n\n").encode(),
    "bom.ndjson": lambda: _lines().encode("utf-8-sig"),
    "utf16.ndjson": lambda: _lines().encode("utf-16"),
    "events.ndjson.gz": lambda: gzip.compress(_lines().encode()),
    "array.json": lambda: json.dumps(RECORDS).encode(),
    "pretty.json": lambda: json.dumps(RECORDS, indent=2).encode(),
    "lines.json": lambda: _lines().encode(),
    "events.csv": lambda: _csv().encode(),
    "bom.csv": lambda: _csv().encode("utf-8-sig"),
    "events.csv.gz": lambda: gzip.compress(_csv().encode()),
    "log-analytics.json": lambda: json.dumps(_tables()).encode(),
    "graph.json": lambda: json.dumps(_hunting("schema", "results", "name", "type")).encode(),
    "legacy.json": lambda: json.dumps(
        {"Stats": {}, **_hunting("Schema", "Results", "Name", "Type")}
    ).encode(),
}


@pytest.mark.parametrize("product", ["log-analytics", "defender"])
@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_the_same_hit(tmp_path: Path, name: str, product: str) -> None:
    path = tmp_path / name
    path.write_bytes(FORMS[name]())
    result = run_on(path, product=product)
    assert [hit.device for hit in result.hits] == ["ws-1"]
    assert sorted(command.line for command in result.hits[0].commands) == sorted(FOUR)


def test_parquet_folders_and_globs(tmp_path: Path) -> None:
    import duckdb

    source = write_ndjson(tmp_path / "a.ndjson", RECORDS)
    (tmp_path / "deep").mkdir()
    parquet = tmp_path / "deep" / "b.parquet"
    duckdb.execute(f"COPY (FROM read_json('{source}')) TO '{parquet}' (FORMAT parquet)")
    for where in (parquet, tmp_path / "deep", f"{tmp_path}/de*/*.parquet"):
        assert run_on(where).hits[0].total == 4
    assert run_on(tmp_path).hits[0].total == 8


def test_another_table_is_named(tmp_path: Path) -> None:
    path = write_ndjson(tmp_path / "x.ndjson", RECORDS)
    result = run_on(f"DeviceNetworkEvents={path}")
    assert not result.hits
    assert result.verdict.value == "incomplete"
    named = write_ndjson(tmp_path / "DeviceProcessEvents.ndjson", RECORDS)
    assert run_on(named).hits


BROKEN: dict[str, tuple[bytes, int, str]] = {
    "number.ndjson": (b'{"a":1}\n5\n', 2, "expected a JSON object"),
    "cut.ndjson": (b'{"a":1}\n{"a":', 2, "broken JSON"),
    "latin.ndjson": ('{"a":"x"}\n{"a":"\xe9"}\n'.encode("latin-1"), 2, "not UTF-8"),
    "time.ndjson": (b'{"TimeGenerated":"2026-10-01"}\n{"TimeGenerated":"soon"}\n', 2, "datetime"),
    "id.ndjson": (b'{"ProcessId":1}\n\n{"ProcessId":"x"}\n', 3, "ProcessId is a long"),
    "array.json": (b'[\n{"a":1},\n{"a":}\n]', 3, "broken JSON"),
    "fields.csv": (b"a,b\n1,2\n1\n", 3, "expected 2 fields, found 1"),
    "type.csv": (b'ProcessId,b\n1,"x\ny"\nz,1\n', 4, "ProcessId is a long"),
    "header.csv": (b"a,A\n1,2\n", 1, "header"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_record_is_named_by_its_line(tmp_path: Path, name: str) -> None:
    content, line, words = BROKEN[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(EventsError) as problem:
        run_on(path)
    assert words in str(problem.value)
    assert problem.value.location is not None
    assert problem.value.location.line == line


REFUSED: dict[str, tuple[bytes, str]] = {
    "empty.ndjson": (b"", "empty"),
    "text.parquet": (b'{"a":1}\n', "not Parquet"),
    "cut.parquet": (b"PAR1" + b"x" * 100, "cut short"),
    "parquet.ndjson": (b"PAR1" + b"x" * 100, "this is Parquet"),
    "plain.ndjson.gz": (b'{"a":1}\n', "not gzipped"),
    "zipped.ndjson": (gzip.compress(b'{"a":1}\n'), "is gzipped"),
    "cut.ndjson.gz": (gzip.compress(b'{"a":1}\n' * 9999)[:60], "cut short or broken"),
    "utf16.ndjson": ('{"a":1}\n'.encode("utf-16-le"), "UTF-16 without"),
    "notes.txt": (b"x", "not a kind of event file"),
    "error.json": (b'{"error":{"code":"x","message":"y"}}', "an error, not a result"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_is_not_what_it_says_is_refused(tmp_path: Path, name: str) -> None:
    content, words = REFUSED[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(EventsError, match=words) as problem:
        run_on(path)
    assert path.name in str(problem.value)


def test_a_missing_file_an_empty_folder_and_an_idle_glob(tmp_path: Path) -> None:
    for where, words in (
        (tmp_path / "x.ndjson", "no such file"),
        (tmp_path, "no event files"),
        (f"{tmp_path}/*.csv", "no file matches"),
    ):
        with pytest.raises(EventsError, match=words):
            run_on(where)


def test_line_40001_is_found_though_the_query_would_not_reach_it(tmp_path: Path) -> None:
    lines = [json.dumps(event("x")) + "\n"] * 50_000
    lines[40_000] = '{"TimeGenerated": oops}\n'
    path = tmp_path / "big.ndjson"
    path.write_text("".join(lines), encoding="utf-8")
    take = tmp_path / "take.kql"
    take.write_text("DeviceProcessEvents | where TimeGenerated > ago(90d) | take 1", "utf-8")
    with pytest.raises(EventsError) as problem:
        run_on(path, hunt=str(take))
    assert str(problem.value.location) == f"{path}:40001"


def test_a_parquet_column_of_the_wrong_type_is_refused(tmp_path: Path) -> None:
    import duckdb

    path = tmp_path / "x.parquet"
    duckdb.execute(
        f"COPY (SELECT TIMESTAMP '2026-10-01' AS TimeGenerated, 'x1' AS ProcessId) TO '{path}'"
    )
    with pytest.raises(EventsError, match="ProcessId is a long, but holds 'x1'"):
        run_on(path)


@pytest.mark.parametrize(
    "sql_type", ["TIMESTAMP", "TIMESTAMPTZ", "TIMESTAMP_NS", "TIMESTAMP_S", "VARCHAR"]
)
def test_every_parquet_time_type_is_cut_to_the_window(tmp_path: Path, sql_type: str) -> None:
    import duckdb

    path = tmp_path / "x.parquet"
    rows = ", ".join(
        f"('2026-10-{day:02d}T10:00:00Z', '{command}')" for day, command in enumerate(FOUR, 4)
    )
    con = duckdb.connect()
    con.execute("SET TimeZone='UTC'")
    cast = "t" if sql_type == "VARCHAR" else f"CAST(CAST(t AS TIMESTAMPTZ) AS {sql_type})"
    con.execute(
        f"COPY (SELECT {cast} AS TimeGenerated, 'd' AS DeviceName, c AS ProcessCommandLine "
        f"FROM (VALUES {rows}) v(t, c)) TO '{path}' (FORMAT parquet)"
    )
    assert run_on(path).hits[0].total == 4
    assert not run_on(path, window="2026-10-05/2026-11-01").hits
