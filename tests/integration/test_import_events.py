"""Windows events in Defender's columns: what comes in, what comes out, what is said of it."""

from __future__ import annotations

import gzip
import json
import re
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qakhunt.backends.engine.inputs import InputOptions
from qakhunt.backends.recordings.event_readers import Broken, read_records
from qakhunt.backends.recordings.event_shapes import Unreadable, read_event
from qakhunt.backends.recordings.event_sources import find_sources
from qakhunt.backends.recordings.process_creation import without_directory
from qakhunt.backends.recordings.windows_events import ImportAccount, import_events
from qakhunt.core.errors import EventsError
from tests.support import windows_events as w
from tests.support.cli import qakhunt

pytestmark = pytest.mark.engine

Row = dict[str, Any]


def imported(path: Path, **options: Any) -> tuple[list[Row], ImportAccount]:
    """What an import of ``path`` writes, and its account."""
    out = path.parent / "imported.ndjson"
    raw_lines = options.pop("raw_lines", False)
    account = import_events(
        [str(path)], out, "ndjson", raw_lines=raw_lines, options=InputOptions(**options)
    )
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()], account


def import_bytes(
    tmp_path: Path, data: bytes, name: str = "events.json", **options: Any
) -> tuple[list[Row], ImportAccount]:
    path = tmp_path / name
    path.write_bytes(data)
    return imported(path, **options)


COMMON = {
    "ActionType": "ProcessCreated",
    "DeviceName": "ws-07.contoso.example",
    "FileName": "net.exe",
    "FolderPath": "C:\\Windows\\System32\\net.exe",
    "ProcessId": 4120,
    "ProcessCommandLine": w.RECORDED,
    "ProcessIntegrityLevel": "Medium",
    "AccountName": "anna",
    "AccountDomain": "contoso",
    "LogonId": 238066,
    "InitiatingProcessId": 3004,
    "InitiatingProcessFileName": "cmd.exe",
    "InitiatingProcessFolderPath": "c:\\windows\\system32\\cmd.exe",
}


@pytest.mark.parametrize("shape", w.SHAPES)
def test_sysmon_of_every_collector_gives_the_same_row(shape: str, tmp_path: Path) -> None:
    rows, account = import_bytes(tmp_path, w.lines(w.SHAPES[shape](1, w.SYSMON)))
    expected = {
        **COMMON,
        "Timestamp": "2026-10-05T08:15:01.1230000Z",
        "SHA1": "ab12",
        "SHA256": "cd34",
        "InitiatingProcessCommandLine": '"cmd.exe" /c list.cmd',
        "InitiatingProcessCreationTime": "2026-10-05T08:12:16.0000000Z",
        "CreatedProcessSessionId": 2,
        "ProcessVersionInfoOriginalFileName": "net.exe",
    }
    assert len(rows) == 1
    assert {name: rows[0].get(name) for name in expected} == expected
    assert account.broken == 0


@pytest.mark.parametrize("shape", w.SHAPES)
def test_4688_of_every_collector_gives_the_same_row(shape: str, tmp_path: Path) -> None:
    rows, account = import_bytes(tmp_path, w.lines(w.SHAPES[shape](4688, w.SECURITY)))
    coarse = {"nxlog": "2026-10-05T08:15:01.0000000Z", "powershell": "2026-10-05T08:15:01.1230000Z"}
    whole = coarse.get(shape, w.WRITTEN)
    expected = {
        **COMMON,
        "Timestamp": whole,
        "AccountSid": "S-1-5-21-1-2-3-1104",
        "ProcessTokenElevation": "TokenElevationTypeLimited",
        "InitiatingProcessAccountName": "anna",
    }
    assert len(rows) == 1
    assert {name: rows[0].get(name) for name in expected} == expected
    assert account.broken == 0


def test_fields_without_a_column_are_kept(tmp_path: Path) -> None:
    rows, _ = import_bytes(tmp_path, w.lines(w.flat(1, {**w.SYSMON, "Novel": "kept"})))
    extra = json.loads(rows[0]["AdditionalFields"])
    assert extra["Novel"] == "kept"
    assert extra["CurrentDirectory"] == "C:\\Users\\anna\\"
    assert extra["IMPHASH"] == "EF56"


@pytest.mark.parametrize(
    "text",
    [
        json.dumps([w.flat(1, w.SYSMON), w.flat(4688, w.SECURITY)]),
        json.dumps([w.flat(1, w.SYSMON), w.flat(4688, w.SECURITY)], indent=2),
        f"Record 1\n{json.dumps(w.evtx_dump(1, w.SYSMON), indent=2)}\n"
        f"Record 2\n{json.dumps(w.evtx_dump(4688, w.SECURITY), indent=2)}\n",
        w.xml_event(1, w.SYSMON) + "\n" + w.xml_event(4688, w.SECURITY),
        f"<Events>{w.xml_event(1, w.SYSMON)}\n{w.xml_event(4688, w.SECURITY)}</Events>",
    ],
    ids=["array", "indented array", "evtx_dump records", "XML lines", "XML document"],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_other_layouts_and_encodings(text: str, encoding: str, tmp_path: Path) -> None:
    rows, account = import_bytes(tmp_path, text.encode(encoding))
    assert (account.process_creations, account.broken) == (2, 0)
    assert [row["ProcessCommandLine"] for row in rows] == [w.RECORDED]


def test_raw_command_lines_keep_the_directory(tmp_path: Path) -> None:
    rows, _ = import_bytes(tmp_path, w.lines(w.flat(1, w.SYSMON)), raw_lines=True)
    assert rows[0]["ProcessCommandLine"] == w.LINE
    assert rows[0]["InitiatingProcessCommandLine"] == w.SYSMON["ParentCommandLine"]


@pytest.mark.parametrize(
    ("line", "path", "expected"),
    [
        ("C:\\Windows\\system32\\net1 share", "", "net1 share"),
        ('"C:\\Windows\\system32\\cmd.exe" ', "", '"cmd.exe" '),
        ("\\??\\C:\\Windows\\system32\\conhost.exe 0xffffffff -ForceV1", "", "conhost.exe 0xffffffff -ForceV1"),
        ("C:\\Program Files\\A B\\agent.exe -x", "C:\\Program Files\\A B\\agent.exe", "agent.exe -x"),
        ("c:/tools/net.exe view", "", "net.exe view"),
        ("\\\\server\\share\\tool.exe", "", "tool.exe"),
        ("cmd /c C:\\Windows\\net.exe view", "", "cmd /c C:\\Windows\\net.exe view"),
        ("net.exe/c C:\\x", "", "net.exe/c C:\\x"),
        ("", "", ""),
    ],
)  # fmt: skip
def test_the_first_words_directory_goes(line: str, path: str, expected: str) -> None:
    assert without_directory(line, path) == expected


@given(st.text(alphabet=st.sampled_from('ab \\"/:?.\t\n%'), max_size=40))
def test_stripping_leaves_the_arguments_alone(line: str) -> None:
    stripped = without_directory(line)
    assert line.endswith(stripped.removeprefix('"'))
    assert "\\" in line[: len(line) - len(stripped) + 1] or "/" in line or stripped == line


def test_a_chain_by_guid_and_one_by_id(tmp_path: Path) -> None:
    child = {
        **w.SYSMON, "ProcessGuid": "{5770385f-5c85-6ac3-0201-000000000700}", "ProcessId": "4200",
        "UtcTime": "2026-10-05 08:15:01.150", "Image": "C:\\Windows\\System32\\net1.exe",
        "CommandLine": "C:\\Windows\\system32\\net1  localgroup", "ParentProcessId": "4120",
        "ParentProcessGuid": w.SYSMON["ProcessGuid"], "ParentImage": w.SYSMON["Image"],
        "ParentCommandLine": w.LINE,
    }  # fmt: skip
    by_guid, _ = import_bytes(tmp_path, w.lines(w.flat(1, child), w.flat(1, w.SYSMON)), "a.json")
    security_child = {
        **w.SECURITY, "NewProcessId": "0x1068", "ProcessId": "0x1018",
        "NewProcessName": "C:\\Windows\\System32\\net1.exe", "CommandLine": "net1  localgroup",
        "ParentProcessName": w.SECURITY["NewProcessName"],
    }  # fmt: skip
    reused = {
        **w.SECURITY, "NewProcessName": "C:\\Windows\\System32\\old.exe", "CommandLine": "old.exe",
    }  # fmt: skip
    by_id, account = import_bytes(
        tmp_path,
        w.lines(
            {**w.flat(4688, reused), "TimeCreated": "2026-10-05T07:00:00Z"},
            w.flat(4688, w.SECURITY),
            w.flat(4688, security_child),
        ),
        "b.json",
    )
    for rows in (by_guid, by_id):
        net1 = next(row for row in rows if row["FileName"] == "net1.exe")
        assert net1["InitiatingProcessCommandLine"] == w.RECORDED
        assert net1["InitiatingProcessParentId"] == 3004
        assert net1["InitiatingProcessParentFileName"] == "cmd.exe"
        net = next(row for row in rows if row["FileName"] == "net.exe")
        assert net1["InitiatingProcessCreationTime"] == net["ProcessCreationTime"]
    assert account.table.orphans == 2


def test_duplicates_and_twins_are_one_process(tmp_path: Path) -> None:
    events = w.lines(w.flat(1, w.SYSMON), w.flat(4688, w.SECURITY), w.flat(1, w.SYSMON))
    rows, account = import_bytes(tmp_path, events)
    assert len(rows) == 1
    assert rows[0]["AccountSid"] == "S-1-5-21-1-2-3-1104"
    assert (account.table.repeated, account.table.twins) == (1, 1)


def test_a_log_in_local_time_is_put_right_by_sysmons(tmp_path: Path) -> None:
    """Some captures write local time with a Z; Sysmon's own time tells by how much."""
    local = "2026-10-05T01:15:01.123Z"
    other = {
        **w.SECURITY,
        "NewProcessId": "0x2000",
        "NewProcessName": "C:\\x.exe",
        "CommandLine": "x",
    }
    events = w.lines(
        {**w.flat(1, w.SYSMON), "TimeCreated": local}, {**w.flat(4688, other), "TimeCreated": local}
    )
    rows, account = import_bytes(tmp_path, events)
    assert {row["Timestamp"] for row in rows} == {"2026-10-05T08:15:01.1230000Z"}
    assert [shift.seconds for shift in account.table.shifts] == [7 * 3600]


def test_a_clock_that_is_set_back(tmp_path: Path) -> None:
    """The parent began an hour 'after' its child; the log's order still tells."""
    times = ["2026-10-05T09:00:00Z", "2026-10-05T09:00:01Z", "2026-10-05T08:00:00Z"]
    ids = [("0x10", "0x1", "a.exe"), ("0x20", "0x10", "b.exe"), ("0x30", "0x20", "c.exe")]
    events = []
    for number, (at, (new, creator, name)) in enumerate(zip(times, ids, strict=True)):
        data = {
            **w.SECURITY, "NewProcessId": new, "ProcessId": creator, "NewProcessName": f"C:\\{name}",
            "CommandLine": name, "ParentProcessName": "",
        }  # fmt: skip
        events.append({**w.flat(4688, data), "TimeCreated": at, "RecordNumber": 70 + number})
    rows, account = import_bytes(tmp_path, w.lines(*events))
    assert account.table.jumps == ("ws-07.contoso.example",)
    parents = {row["FileName"]: row["InitiatingProcessCommandLine"] for row in rows}
    assert parents == {"a.exe": "", "b.exe": "a.exe", "c.exe": "b.exe"}


def test_other_events_are_counted(tmp_path: Path) -> None:
    _, account = import_bytes(
        tmp_path,
        w.lines(
            w.flat(1, w.SYSMON), w.winlogbeat(4624, {}), w.evtx_dump(4624, {}), w.flat(4104, {}),
        ),
    )  # fmt: skip
    assert account.records == 4
    assert account.other == {("Security", 4624): 2, ("Security", 4104): 1}


def test_old_winlogbeat_events_without_data_are_counted_too(tmp_path: Path) -> None:
    other = {
        "@timestamp": w.WRITTEN,
        "event_id": 1102,
        "log_name": "Security",
        "user_data": {"x": 1},
    }
    _, account = import_bytes(tmp_path, w.lines(w.flat(1, w.SYSMON), other))
    assert (account.other, account.broken) == ({("Security", 1102): 1}, 0)


def test_what_is_in_defenders_columns_already_is_said(tmp_path: Path) -> None:
    row = {"Timestamp": w.WRITTEN, "FileName": "net.exe", "InitiatingProcessFileName": "cmd.exe"}
    with pytest.raises(EventsError) as refused:
        import_bytes(tmp_path, w.lines(row), strict=True)
    assert "give the file to --events" in str(refused.value)


BROKEN = b'{"EventID": 1, "Channel": \n'


def test_broken_records_are_counted_and_named(tmp_path: Path) -> None:
    good = w.lines(w.flat(1, w.SYSMON))
    no_time = {**w.flat(4688, w.SECURITY), "TimeCreated": "yesterday"}
    data = good + BROKEN + b"\xff\xfe\xfa{}\n[1]\n" + b'{"hello": "world"}\n' + w.lines(no_time)
    rows, account = import_bytes(tmp_path, data)
    assert len(rows) == 1
    assert account.broken == 5
    assert [record.place for record in account.broken_records] == [2, 3, 4, 5, 6]
    with pytest.raises(EventsError) as stopped:
        import_bytes(tmp_path, data, strict=True)
    assert stopped.value.location is not None
    assert stopped.value.location.line == 2


@settings(deadline=None)
@given(
    st.lists(st.binary(max_size=60).map(lambda b: b.replace(b"\n", b" ")), min_size=1, max_size=8)
)
def test_any_bytes_between_good_records_only_cost_themselves(noise: list[bytes]) -> None:
    good = w.lines(w.flat(1, w.SYSMON))
    data = good + b"\n".join(noise) + b"\n" + w.lines(w.flat(4688, w.SECURITY))
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        file.write(data)
        file.flush()
        (source,), _ = find_sources([file.name])
        found = []
        for place, record in read_records(source):
            try:
                if not isinstance(record, Broken):
                    found.append((place, read_event(record).id))
            except Unreadable:
                continue
    assert (1, 1) in found
    assert (len(noise) + 2, 4688) in found


def test_4688_without_command_line_is_counted_and_explained(tmp_path: Path) -> None:
    bare = {k: v for k, v in w.SECURITY.items() if k != "CommandLine"}
    path = tmp_path / "events.json"
    path.write_bytes(w.lines(w.flat(4688, bare), w.flat(4688, {**bare, "NewProcessId": "0x44"})))
    done = qakhunt("import-events", str(path), "--out", str(tmp_path / "o.parquet"))
    assert done.code == 0
    warnings = [line for line in done.err.splitlines() if line.startswith("warning:")]
    assert len(warnings) == 1
    assert "2 process creations (4688) have no command line" in warnings[0]
    assert "Include command line in process creation events" in warnings[0]


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def test_zip_and_gzip_and_folders(tmp_path: Path) -> None:
    events = w.lines(w.flat(1, w.SYSMON))
    folder = tmp_path / "captures"
    folder.mkdir()
    zipped(
        folder / "a.zip",
        {"deep/one.json": events, "two.xml": w.xml_event(4688, w.SECURITY).encode()},
    )
    (folder / "b.json.gz").write_bytes(gzip.compress(events))
    (folder / "readme.pdf").write_bytes(b"%PDF")
    rows, account = imported(folder)
    assert len(rows) == 1
    assert (account.sources, account.process_creations) == (3, 3)
    assert account.ignored_files == [str(folder / "readme.pdf")]


def test_a_bad_file_ends_the_command_with_one_error(tmp_path: Path) -> None:
    path = zipped(tmp_path / "events.zip", {"../a.json": b"{}"})
    done = qakhunt("import-events", str(path), "--out", str(tmp_path / "o.parquet"))
    assert (done.code, len(done.error_lines)) == (2, 1)
    assert "Traceback" not in done.err
    assert [entry.name for entry in tmp_path.iterdir()] == ["events.zip"]


def encrypted(path: Path) -> Path:
    """A zip whose member says that it is encrypted."""
    zipped(path, {"a.json": b"{}"})
    data = bytearray(path.read_bytes())
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: p.write_bytes(b"\x89PNG\r\n\x1a\n\x00"), "this is no event log"),
        (lambda p: p.write_bytes(b""), "the file is empty"),
        (lambda p: p.write_bytes(b"PK\x03\x04broken"), "the zip is cut short or broken"),
        (lambda p: zipped(p, {"in.zip": b"PK\x03\x04"}), "a zip inside a zip"),
        (lambda p: zipped(p, {"../../etc/a.json": b"{}"}), "climbs out of the archive"),
        (lambda p: zipped(p, {"C:\\a.json": b"{}"}), "climbs out of the archive"),
        (lambda p: zipped(p, {}), "the zip holds no events"),
        (encrypted, "the zip is encrypted"),
        (lambda p: p.write_bytes(gzip.compress(w.lines(w.flat(1, w.SYSMON)) * 2000)[:-20]), "cut short or broken"),
        (lambda p: p.write_bytes(w.lines(w.flat(4624, {}))), "no process creation among 1 records"),
        (lambda p: p.write_bytes(b"ElfFile\x00" + bytes(300)), "not a whole event log"),
    ],
)  # fmt: skip
def test_bad_files_get_one_clear_error(make: Any, words: str, tmp_path: Path) -> None:
    path = tmp_path / "events.zip"
    make(path)
    with pytest.raises(EventsError, match=re.escape(words)) as refused:
        imported(path)
    assert str(path) in str(refused.value) or "no process creation" in str(refused.value)
    assert not (tmp_path / "imported.ndjson").exists()


def test_a_bomb_stops_at_its_bound_whatever_its_header_says(tmp_path: Path) -> None:
    path = zipped(tmp_path / "bomb.zip", {"a.json": b'{"EventID": 3}\n' * 400_000})
    with pytest.raises(EventsError, match="expands to more than"):
        imported(path, max_expanded=1 << 20)
    lying = bytearray(path.read_bytes())
    at = lying.index(b"PK\x01\x02") + 24
    lying[at : at + 4] = (1000).to_bytes(4, "little")
    path.write_bytes(lying)
    with pytest.raises(EventsError):
        imported(path, max_expanded=1 << 20)


def test_defenders_own_csv_export(tmp_path: Path) -> None:
    text = (
        "Timestamp,DeviceName,FileName,ProcessCommandLine,ProcessId,Score\r\n"
        '"Oct 5, 2026 8:15:01 AM",ws-07,net.exe,"net  view ""a\r\nb""",12,7\r\n'
        "2026-10-05T08:15:01.1234567Z,ws-07,net.exe,net view,13,\r\n"
        "2026-10-05T08:15:01.1234567Z,ws-07,net.exe,net view,13,\r\n"
        "never,ws-07,net.exe,net view,14,\r\n"
        "2026-10-05T08:15:01Z,ws-07\r\n"
    )
    rows, account = import_bytes(tmp_path, text.encode("utf-8-sig"), "export.csv")
    assert [row["Timestamp"] for row in rows] == ["2026-10-05T08:15:01.0000000Z", w.WRITTEN]
    assert rows[0]["ProcessCommandLine"] == 'net  view "a\r\nb"'
    assert json.loads(rows[0]["AdditionalFields"]) == {"Score": "7"}
    assert [record.place for record in account.broken_records] == [6, 7]
    assert account.table.repeated == 1


def test_the_public_captures_import(shared_data: Path, tmp_path: Path) -> None:
    pytest.importorskip("evtx")
    out = tmp_path / "events.parquet"
    done = qakhunt(
        "import-events", str(shared_data / "windows-events"), "--out", str(out), "--json"
    )
    assert done.code == 0, done.err
    document = json.loads(done.out)
    assert (document["records"], document["process_creations"]) == (5874, 96)
    assert document["rows"] + document["twins"] + document["repeated"] == 96
    assert (document["broken"], document["without_command_line"]) == (0, 0)
    assert sum(kind["count"] for kind in document["other_events"]) == 5874 - 96
    hunted = qakhunt("run", "--events", str(out), "--window", "2020-01-01/2022-01-01", "--json")
    assert json.loads(hunted.out)["verdict"] == "clean"


def test_one_import_replaces_another_only_by_force(tmp_path: Path) -> None:
    path, out = tmp_path / "e.json", tmp_path / "o.ndjson"
    path.write_bytes(w.lines(w.flat(1, w.SYSMON)))
    assert qakhunt("import-events", str(path), "--out", str(out)).code == 0
    refused = qakhunt("import-events", str(path), "--out", str(out))
    assert (refused.code, "--force" in refused.err) == (2, True)
    assert qakhunt("import-events", str(path), "--out", str(out), "--force").code == 0
    other = qakhunt("import-events", str(path), "--out", str(tmp_path / "o.xlsx"))
    assert (other.code, ".parquet" in other.err) == (2, True)
