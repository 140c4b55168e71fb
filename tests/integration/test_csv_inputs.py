"""CSV as the portals export it: one reader for --events and for import-events."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qakhunt.backends.engine.inputs import InputOptions
from qakhunt.backends.engine.session import Session
from qakhunt.backends.local import LocalBackend
from qakhunt.backends.recordings.windows_events import import_events
from qakhunt.core.errors import EventsError
from qakhunt.kql.values import Instant, Window
from tests.support.cli import qakhunt
from tests.support.events import FOUR, NOW, event, run_on, write_ndjson

pytestmark = pytest.mark.engine

EVER = Window(Instant.parse("2000-01-01"), Instant.parse("2100-01-01"))
PLAIN = "2026-11-16T13:20:05.0000000Z"


def table(rows: list[list[str]], delimiter: str = ",") -> str:
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=delimiter).writerows(rows)
    return out.getvalue()


def times_of(path: Path, **options: Any) -> tuple[list[str], list[str]]:
    """Every record's time as the engine has it, and the warnings."""
    with Session([str(path)], "log-analytics", options=InputOptions(**options)) as session:
        found = session.ask(
            "DeviceProcessEvents | project TimeGenerated, FileName", now=NOW, window=EVER
        )
        return sorted(row[0].isoformat() for row in found.rows), session.inputs.warnings()


def imported_times(path: Path, **options: Any) -> list[str]:
    out = path.with_suffix(".imported.ndjson")
    import_events([str(path)], out, "ndjson", options=InputOptions(**options))
    return [json.loads(line)["Timestamp"] for line in out.read_text().splitlines()]


def export(folder: Path, times: list[str], heading: str = "Timestamp", **how: str) -> Path:
    path = folder / "export.csv"
    rows = [[heading, "DeviceName", "FileName"], *([t, "ws-1", "net.exe"] for t in times)]
    path.write_text(table(rows, how.get("delimiter", ",")), encoding=how.get("encoding", "utf-8"))
    return path


FORMS = {
    "Nov 16, 2026 1:20:05 PM": PLAIN,
    "Nov 16, 2026, 1:20:05\u202fPM": PLAIN,
    "Nov 6, 2026 12:20:05 AM": "2026-11-06T00:20:05.0000000Z",
    "November 16, 2026 1:20:05.123 pm": "2026-11-16T13:20:05.1230000Z",
    "16 Nov 2026, 13:20:05": PLAIN,
    "11/16/2026, 1:20:05.123 PM": "2026-11-16T13:20:05.1230000Z",
    "11/16/2026, 1:20:05 PM": PLAIN,
    "16/11/2026, 13:20:05": PLAIN,
    "16.11.2026 13:20:05": PLAIN,
    "5.11.2026 13:20": "2026-11-05T13:20:00.0000000Z",
    "11/16/2026 13:20": "2026-11-16T13:20:00.0000000Z",
    "11/11/2026 13:20:05": "2026-11-11T13:20:05.0000000Z",
    "2026/11/16 13:20:05.403": "2026-11-16T13:20:05.4030000Z",
    "2026-11-16 13:20:05.403": "2026-11-16T13:20:05.4030000Z",
    "2026-11-16T13:20:05Z": PLAIN,
    "2026-11-16T15:20:05+02:00": PLAIN,
    "2026-11-16T07:50:05-05:30": PLAIN,
}


@pytest.mark.parametrize("shown", FORMS)
def test_every_form_of_time_is_read_by_both_commands(tmp_path: Path, shown: str) -> None:
    path = export(tmp_path, [shown])
    assert times_of(path)[0] == [FORMS[shown]]
    assert imported_times(path) == [FORMS[shown]]


def test_a_column_of_many_forms_is_read(tmp_path: Path) -> None:
    times = list(FORMS)
    day_first = [t for t in times if t.startswith("16/")]
    path = export(tmp_path, [t for t in times if t not in day_first])
    assert times_of(path)[0] == sorted(FORMS[t] for t in times if t not in day_first)


@pytest.mark.parametrize(
    ("heading", "zone", "hour"),
    [
        ("TimeGenerated [UTC]", "Europe/Berlin", "13"),
        ("TimeGenerated [Local Time]", "Europe/Berlin", "12"),
        ("TimeGenerated [Europe/Berlin]", None, "12"),
        ("TimeGenerated [UTC+02:00]", None, "11"),
        ("TimeGenerated [(UTC-05:00) Eastern Time (US & Canada)]", "America/New_York", "18"),
        ("TimeGenerated", "Asia/Kolkata", "07"),
        ("Timestamp", "Australia/Perth", "05"),
    ],
)
def test_a_heading_states_the_zone_else_the_user_does(
    tmp_path: Path, heading: str, zone: str | None, hour: str
) -> None:
    for shown in ("11/16/2026, 1:20:05.000 PM", "2026-11-16 13:20:05"):
        path = export(tmp_path, [shown], heading)
        found, warnings = times_of(path, time_zone=zone)
        assert found[0][:14] == f"2026-11-16T{hour}:"
        assert warnings == []
        assert imported_times(path, time_zone=zone)[0][:14] == f"2026-11-16T{hour}:"


def test_a_zone_moves_local_times_over_the_change_of_the_clocks(tmp_path: Path) -> None:
    path = export(tmp_path, ["10/24/2026, 1:00:00 PM", "10/26/2026, 1:00:00 PM"])
    found, _ = times_of(path, time_zone="Europe/Berlin")
    assert [t[:13] for t in found] == ["2026-10-24T11", "2026-10-26T12"]


def test_a_time_with_a_zone_of_its_own_keeps_it(tmp_path: Path) -> None:
    path = export(tmp_path, ["2026-11-16T13:20:05Z", "2026-11-16T13:20:05"])
    found, _ = times_of(path, time_zone="Europe/Berlin")
    assert [t[11:13] for t in found] == ["12", "13"]


def test_the_assumed_zone_is_announced(tmp_path: Path) -> None:
    words = "its times name no zone and were read as UTC"
    assert words in times_of(export(tmp_path, ["2026-11-16 13:20:05"]))[1][0]
    assert (
        words in times_of(export(tmp_path, ["Nov 6, 2026 1:20 PM"], "Timestamp [Local Time]"))[1][0]
    )
    assert times_of(export(tmp_path, ["2026-11-16 13:20:05Z"]))[1] == []
    path = export(tmp_path, ["Oct 5, 2026 1:20:05 PM"])
    for more in ([], ["--json"]):
        assert words in " ".join(qakhunt("run", "--events", str(path), *more).err.split())
    out = str(tmp_path / "o.parquet")
    assert words in qakhunt("import-events", str(path), "--out", out).err
    document = json.loads(qakhunt("run", "--events", str(path), "--json").out)
    assert any(words in warning for warning in document["warnings"])
    told = qakhunt("run", "--events", str(path), "--time-zone", "Europe/Berlin", "--json")
    assert words not in told.out + told.err


@pytest.mark.parametrize(
    ("times", "words"),
    [
        (["11/5/2026 1:20:05 PM"], "'11/5/2026 1:20:05 PM' may have the day or the month first"),
        (["11/11/2026 13:20", "05-11-2026 13:20"], "may have the day or the month first"),
        (["11/16/2026 13:20", "16/11/2026 13:20"], "the day first and with the month first"),
    ],
)
def test_an_ambiguous_column_is_refused_with_the_way_out(
    tmp_path: Path, times: list[str], words: str
) -> None:
    path = export(tmp_path, times)
    done = qakhunt("run", "--events", str(path))
    assert (done.code, done.out) == (2, "")
    assert len(done.error_lines) == 1
    assert words in done.error_lines[0]
    assert "column Timestamp" in done.error_lines[0]
    assert "--date-order day-first" in done.err
    with pytest.raises(EventsError, match="first"):
        imported_times(path)


def test_the_users_word_settles_the_order(tmp_path: Path) -> None:
    path = export(tmp_path, ["11/5/2026 1:20:05 PM"])
    assert times_of(path, date_order="day-first")[0][0][:10] == "2026-05-11"
    assert times_of(path, date_order="month-first")[0][0][:10] == "2026-11-05"
    assert imported_times(path, date_order="day-first")[0][:10] == "2026-05-11"
    wrong = qakhunt("run", "--events", str(path), "--date-order", "dmy")
    assert (wrong.code, "day-first or month-first" in wrong.err) == (2, True)


def test_one_telling_date_settles_the_column(tmp_path: Path) -> None:
    path = export(tmp_path, ["11/5/2026 13:20"] * 3000 + ["11/16/2026 13:20"])
    assert {t[:7] for t in times_of(path)[0]} == {"2026-11"}
    path = export(tmp_path, ["11/5/2026 13:20"] * 3000 + ["16/5/2026 13:20"])
    assert {t[:7] for t in times_of(path)[0]} == {"2026-05"}


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("packed", [False, True])
def test_delimiters_encodings_and_gzip(
    tmp_path: Path, delimiter: str, encoding: str, packed: bool
) -> None:
    path = tmp_path / ("export.csv.gz" if packed else "export.csv")
    rows = [
        ["Timestamp", "DeviceName", "AccountName", "FileName", "ProcessCommandLine", "Score"],
        *(
            ["Oct 5, 2026 8:15:01 AM", "ws-1", "änn", "net.exe", command + ' a,b;c\t"d"\r\ne', "7"]
            for command in FOUR
        ),
    ]
    data = table(rows, delimiter).encode(encoding)
    path.write_bytes(gzip.compress(data) if packed else data)
    with Session([str(path)], "defender") as session:
        query = "DeviceProcessEvents | project AccountName, ProcessCommandLine, Score"
        found = session.ask(query, now=NOW, window=EVER).rows
    expected = sorted((row[2], row[4], row[5]) for row in rows[1:])
    assert sorted(map(tuple, found)) == expected
    out = tmp_path / "o.ndjson"
    import_events([str(path)], out, "ndjson")
    records = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    assert sorted(
        (r["AccountName"], r["ProcessCommandLine"], json.loads(r["AdditionalFields"])["Score"])
        for r in records
    ) == expected  # fmt: skip


_CELL = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\x00\r"))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(_CELL, _CELL), min_size=1, max_size=5), st.sampled_from(",;\t"))
def test_any_text_in_cells_is_read_back(cells: list[tuple[str, str]], delimiter: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.csv"
        rows = [
            ["Timestamp", "FileName", "ProcessCommandLine"],
            *(["2026-10-05T10:00:00Z", a, b] for a, b in cells),
        ]
        path.write_bytes(table(rows, delimiter).encode())
        with Session([str(path)], "defender") as session:
            query = "DeviceProcessEvents | project FileName, ProcessCommandLine"
            found = session.ask(query, now=NOW, window=EVER).rows
    assert sorted(map(tuple, found)) == sorted(cells)


def test_rows_without_a_time_are_left_out_and_no_answer_is_clean(tmp_path: Path) -> None:
    csv_path = export(tmp_path, ["2026-10-05T10:00:00Z", "", "2026-10-05T11:00:00Z", ""])
    ndjson = write_ndjson(
        tmp_path / "e.ndjson", [event("x"), {"DeviceName": "b"}, event("y", TimeGenerated=None)]
    )
    parquet = tmp_path / "e.parquet"
    import duckdb

    duckdb.execute(
        f"COPY (SELECT TIMESTAMP '2026-10-05' AS TimeGenerated, 'a' AS DeviceName "
        f"UNION ALL SELECT NULL, 'b' UNION ALL SELECT NULL, 'b') TO '{parquet}'"
    )
    for path, count in ((csv_path, 2), (ndjson, 2), (parquet, 2)):
        words = f"{path}: {count} records without a time were left out"
        result = run_on(path)
        assert result.verdict.value == "incomplete"
        assert result.warnings[-1] == words
        assert [line.detail for line in result.ledger.lines] == [words]
        with pytest.raises(EventsError, match=f"{path}: records without a time: {count}"):
            LocalBackend([str(path)], now=NOW, options=InputOptions(strict=True))
    arguments = ("run", "--events", str(csv_path), "--window", "2026-10-01/2026-11-01", "--json")
    done, strict = qakhunt(*arguments), qakhunt(*arguments, "--strict")
    assert done.code == 4
    document = json.loads(done.out)
    assert document["verdict"] == "incomplete"
    assert f"{csv_path}: 2 records without a time were left out" in document["warnings"]
    assert (strict.code, strict.out, len(strict.error_lines)) == (2, "", 1)


def test_import_counts_rows_without_a_time(tmp_path: Path) -> None:
    path = export(tmp_path, ["2026-10-05T10:00:00Z", "", "soon"])
    out = tmp_path / "o.ndjson"
    done = qakhunt("import-events", str(path), "--out", str(out), "--json")
    assert done.code == 0
    document = json.loads(done.out)
    assert (document["rows"], document["without_time"], document["broken"]) == (1, 1, 1)
    assert document["broken_records"] == [
        {"source": str(path), "place": 4, "why": "column Timestamp is a datetime, but holds 'soon'"}
    ]
    assert "1 rows without a time left out" in done.err
    strict = qakhunt("import-events", str(path), "--out", str(tmp_path / "p.ndjson"), "--strict")
    assert (strict.code, (tmp_path / "p.ndjson").exists()) == (2, False)


def test_lines_of_both_products_in_one_file_are_all_in_their_window(tmp_path: Path) -> None:
    records = [event(command) for command in FOUR]
    for record in records[2:]:
        record["Timestamp"] = record.pop("TimeGenerated")
    path = write_ndjson(tmp_path / "mixed.ndjson", records)
    for product in ("log-analytics", "defender"):
        assert run_on(path, product=product).hits[0].total == 4


def test_foreign_files_are_left_out_counted_and_named(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    write_ndjson(folder / "a.ndjson", [event(command) for command in FOUR])
    (folder / "notes.txt").write_text("x")
    (folder / "config.json").write_text('{"version": 1}')
    (folder / "people.csv").write_text("name,age\nann,7\n")
    os.mkfifo(folder / "pipe.ndjson")
    arguments = ("run", "--events", str(folder), "--window", "2026-10-01/2026-11-01")
    done = qakhunt(*arguments, "--json")
    assert done.code == 0
    document = json.loads(done.out)
    assert len(document["hits"]) == 1
    (told,) = [text for text in document["warnings"] if "hold no events" in text]
    for name in ("notes.txt", "config.json", "people.csv", "pipe.ndjson"):
        assert str(folder / name) in told
    strict = qakhunt(*arguments, "--strict")
    assert (strict.code, strict.out) == (2, "")
    assert "this holds no events" in strict.error_lines[0]


def test_foreign_members_of_an_archive_are_left_out_by_an_import(tmp_path: Path) -> None:
    path = tmp_path / "logs.zip"
    good = table([["Timestamp", "DeviceName", "FileName"], ["2026-10-05T10:00:00Z", "d", "a.exe"]])
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.csv", good)
        archive.writestr("readme.md", "hello")
        archive.writestr("people.csv", "name,age\nann,7\n")
    out = tmp_path / "o.ndjson"
    done = qakhunt("import-events", str(path), "--out", str(out), "--json")
    assert done.code == 0
    assert json.loads(done.out)["ignored_files"] == [f"{path}!readme.md", f"{path}!people.csv"]
    assert "files that hold no events left out" in done.err
    strict = qakhunt("import-events", str(path), "--out", str(out), "--force", "--strict")
    assert (strict.code, "readme.md" in strict.error_lines[0]) == (2, True)


SPECIAL: dict[str, tuple[bytes, str]] = {
    "deep.ndjson": (b'{"TimeGenerated":"2026-10-05","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n", "nested too deeply"),
    "deep.json": (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
    "deep-object.json": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested too deeply"),
    "key.ndjson": (b'{"TimeGenerated":"2026-10-05","":1}\n', "a record has an empty key"),
    "key.json": (b'[{"TimeGenerated":"2026-10-05","":1}]', "a record has an empty key"),
    "case.ndjson": (b'{"TimeGenerated":"2026-10-05","b":1,"B":1}\n', "differ only in case"),
    "key.csv": (b"TimeGenerated,\n2026-10-05,\n", "column 2 has no name"),
}  # fmt: skip


@pytest.mark.parametrize("name", SPECIAL)
def test_hostile_inputs_are_one_error(tmp_path: Path, name: str) -> None:
    content, words = SPECIAL[name]
    path = tmp_path / name
    path.write_bytes(content)
    done = qakhunt("run", "--events", str(path))
    assert (done.code, done.out, len(done.error_lines)) == (2, "", 1)
    assert words in done.error_lines[0]
    assert "Traceback" not in done.err
    if not name.endswith(".csv"):
        with pytest.raises(EventsError, match="no process creation among"):
            import_events([str(path)], tmp_path / "o.ndjson", "ndjson")


def test_three_hundred_brackets_are_a_value(tmp_path: Path) -> None:
    path = write_ndjson(tmp_path / "e.ndjson", [event(c) for c in FOUR])
    text = path.read_text().replace('"DeviceId"', '"x": ' + "[" * 300 + "]" * 300 + ', "DeviceId"')
    path.write_text(text)
    assert run_on(path).hits[0].total == 4


def test_a_pipe_and_a_device_are_refused_at_once(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.ndjson"
    os.mkfifo(pipe)
    (tmp_path / "zero.csv").symlink_to("/dev/zero")
    words = "this is a pipe, a device or a socket, not a file of events"
    for path in (pipe, tmp_path / "zero.csv", Path("/dev/null")):
        with pytest.raises(EventsError, match=words):
            LocalBackend([str(path)], now=NOW)
        with pytest.raises(EventsError, match=words):
            import_events([str(path)], tmp_path / "o.ndjson", "ndjson")
    done = qakhunt("run", "--events", str(pipe))
    assert (done.code, done.out, done.error_lines) == (2, "", [f"error: {pipe}: {words}"])


@pytest.mark.parametrize("name", ["bomb.ndjson.gz", "bomb.csv.gz"])
def test_a_bomb_stops_at_its_bound(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(b"\n" * (4 << 20)))
    with pytest.raises(EventsError, match="expands to more than") as problem:
        LocalBackend([str(path)], now=NOW, options=InputOptions(max_expanded=1 << 20))
    assert "--max-expanded" in (problem.value.hint or "")
    done = qakhunt("run", "--events", str(path), "--max-expanded", "0.001")
    assert (done.code, len(done.error_lines)) == (2, 1)
