"""Redaction: no planted name survives, and what matched before matches after."""

from __future__ import annotations

import gzip
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qakhunt.answers.ledger import Target
from qakhunt.answers.table import Column, ResultTable
from qakhunt.backends.local import LocalBackend
from qakhunt.backends.recordings.pseudonyms import Pseudonyms, load_key
from qakhunt.backends.recordings.redact import WORD, Redactor, literal_words, vocabulary
from qakhunt.backends.recordings.store import Recording, new_recording
from qakhunt.backends.replay import RecordedRows
from qakhunt.hunts.catalog import Catalog
from qakhunt.hunts.render import render
from qakhunt.run.execution import execute
from qakhunt.run.plan import PlanLine
from qakhunt.run.recorder import Recorder, fetch_source_rows
from tests.support.bursts import NOW, WINDOW, burst_events, write_events

if TYPE_CHECKING:
    from pathlib import Path

    from qakhunt.answers.hits import Hit

KEY = b"0123456789abcdef0123456789abcdef"

# Everything that says who: planted in columns and, in other spellings, in command lines.
PLANTED = [
    "zeppelin", "ornithopter", "quokkabank", "murgatroyd", "hunter2x", "Sommer2024", "Pa55wort",
    "gertrude", "esmeralda", "fitzwilliam", "10.77.66.55", "203.0.113.99", "2001:470:1::beef",
    "S-1-5-21-1111111111-2222222222-3333333333-4444", "quokkabank.example", "xyzzy",
    "aaaaaaaa-1111-4222-8333-bbbbbbbbbbbb", "cccccccc-1111-4222-8333-dddddddddddd", "acmeprofile",
]  # fmt: skip
HUNTS = (
    "qakbot-post-compromise-commands", "qakbot-post-compromise-commands-any", "qakbot-recon-burst",
)  # fmt: skip
TARGET = Target(
    "acmeprofile", "aaaaaaaa-1111-4222-8333-bbbbbbbbbbbb", "cccccccc-1111-4222-8333-dddddddddddd"
)


@pytest.fixture
def redactor() -> Redactor:
    return Redactor(Pseudonyms(KEY))


def planted_events() -> list[dict[str, Any]]:
    """Bursts whose devices, accounts and command lines name people, places and passwords."""
    events = burst_events(noise=50)
    for number, event in enumerate(events):
        device = event["DeviceName"]
        if device:
            event["DeviceName"] = f"ZEPPELIN-{device.split('.')[0]}.quokkabank.example"
        event["AccountName"] = f"{('gertrude', 'Esmeralda')[number % 2]}.fitzwilliam"
        event["AccountDomain"] = "QUOKKABANK"
        event["AccountSid"] = "S-1-5-21-1111111111-2222222222-3333333333-4444"
        event["TenantId"] = TARGET.workspace
        event["InitiatingProcessCommandLine"] = (
            f"C:\\Users\\gertrude.fitzwilliam\\xyzzy.exe /p:Pa55wort 10.77.66.55 {number}"
        )
        event["InitiatingProcessFolderPath"] = (
            "C:\\Users\\Esmeralda\\AppData\\Local\\Temp\\xyzzy.exe"
        )
        event["AdditionalFields"] = '{"who": "murgatroyd", "where": "ornithopter"}'
    for line in (
        "net user gertrude Sommer2024 /add /domain",
        '"net.exe" use \\\\zeppelin-ws.quokkabank.example\\ipc$ hunter2x /user:QUOKKABANK\\Esmeralda',
        "ping -n 1 203.0.113.99 & ping 2001:470:1::beef",
        "cmdkey /add:ornithopter /user:murgatroyd /pass:Pa55wort",
        "whoami /user /sid S-1-5-21-1111111111-2222222222-3333333333-4444",
        "powershell -c Get-ADUser GERTRUDE.FITZWILLIAM@quokkabank.example",
    ):
        events.append({**events[0], "FileName": "cmd.exe", "ProcessCommandLine": line})
    return events


def everything_in(folder: Path) -> list[tuple[str, str]]:
    """Every file of the recording as text, decompressed; Parquet cell by cell."""
    import duckdb

    found = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
        found.append((path.name, data.decode("utf-8", "replace")))
        found.append((path.name, data.decode("utf-16-le", "replace")))
        if path.suffix == ".parquet":
            rows = duckdb.connect().execute(f"SELECT * FROM '{path}'").fetchall()
            found.append((path.name, repr(rows)))
        found.append((path.name, str(path)))
    return found


@pytest.mark.engine
def test_no_planted_name_is_in_any_byte_and_the_hits_are_the_same(tmp_path: Path) -> None:
    source = write_events(tmp_path, planted_events())
    in_clear = (tmp_path / "DeviceProcessEvents.ndjson").read_text() + repr(TARGET)
    assert not [name for name in PLANTED if name.casefold() not in in_clear.casefold()]
    backend = LocalBackend([source], now=NOW)
    hunts = [h for name in HUNTS for h in Catalog().find(name)]
    context = Catalog().find("context-device-timeline")[0]
    plan = [PlanLine(render(h, now=NOW, window=WINDOW), backend, TARGET) for h in hunts]
    wanted = {"Devices": ["zeppelin-ws-001.quokkabank.example"]}
    plan.append(
        PlanLine(render(context, now=NOW, window=WINDOW, parameters=wanted), backend, TARGET)
    )
    folder = tmp_path / "recording"
    redactor = Redactor(Pseudonyms(KEY), literal_words(line.rendered.hunt.query for line in plan))
    with new_recording(folder, private=False, force=False) as writer:
        recorder = Recorder(writer, redactor)
        recorded_plan = recorder.plan(plan)
        live = execute(recorded_plan)
        assert not fetch_source_rows(recorder, recorded_plan)
        writer.finish(recorder.manifest(plan, live))
    backend.close()

    for name, text in everything_in(folder):
        folded = text.casefold()
        for planted in PLANTED:
            assert planted.casefold() not in folded, f"{planted} in {name}"

    recording = Recording.open(folder)
    (origin,) = {line.origin for line in recording.manifest.plan}
    rows = RecordedRows(recording, "log-analytics", NOW)
    again = execute([PlanLine(line.rendered, rows, origin) for line in plan[:-1]])
    rows.close()
    before = [hit for hit in live.hits if hit.hunt != context.name]
    assert len(before) > 20
    assert sorted(map(shape, again.hits)) == sorted(map(shape, before))
    # One device and one account stay one, by whatever name.
    pairs = {
        (a.device, b.device) for a, b in zip(in_order(before), in_order(again.hits), strict=True)
    }
    assert len({old for old, _ in pairs}) == len({new for _, new in pairs}) == len(pairs)


def shape(hit: Hit) -> tuple[Any, ...]:
    """What a hit says, without who."""
    commands = sorted((c.family or "", len(WORD.findall(c.line))) for c in hit.commands)
    first = hit.first_seen.ticks if hit.first_seen else 0
    return (hit.hunt, hit.total or 0, hit.distinct or 0, first, commands)


def in_order(hits: list[Hit]) -> list[Hit]:
    return sorted(hits, key=shape)


@pytest.mark.parametrize(
    "line",
    [
        "whoami /all", "ipconfig  /all", '"net.exe" view /all', "cmd /c set", "who^ami /all",
        "nslookup -querytype=ALL -timeout=12 _ldap._tcp.dc._msdcs.WORKGROUP",
        "cmd.exe /c net localgroup > C:\\Windows\\Temp\\1.txt 2>&1", "route print -4",
        "net1 localgroup administrators", "netstat -nao", "nltest.exe /domain_trusts /all_trusts",
        "ping -n 1 127.0.0.1",
    ],
)  # fmt: skip
def test_what_says_nothing_of_anyone_stays_as_it_is(line: str, redactor: Redactor) -> None:
    assert redactor.text(line) == line


def test_equal_stays_equal_and_case_apart(redactor: Redactor) -> None:
    lower, upper, title, mixed = (
        redactor.text(name) for name in ("zeppelin", "ZEPPELIN", "Zeppelin", "zEppelin")
    )
    assert len({lower, upper, title, mixed}) == 4
    assert len({t.casefold() for t in (lower, upper, title, mixed)}) == 1
    assert redactor.name("zeppelin") == lower
    assert redactor.text("net use \\\\zeppelin\\c$").split("\\")[2] == lower
    other = Redactor(Pseudonyms(b"x" * 32))
    assert other.text("zeppelin") != lower
    assert other.key_id != redactor.key_id


def test_shapes_keep_their_shape(redactor: Redactor) -> None:
    import ipaddress
    import uuid

    private, public, six = (
        redactor.text(a) for a in ("192.168.3.4", "8.8.8.8", "2a00:1450:4001::200e")
    )
    assert ipaddress.ip_address(private).is_private
    assert ipaddress.ip_address(public) != ipaddress.ip_address("8.8.8.8")
    assert ipaddress.ip_address(six).version == 6
    assert redactor.text("127.0.0.1 ::1 0.0.0.0") == "127.0.0.1 ::1 0.0.0.0"
    assert uuid.UUID(redactor.text("aaaaaaaa-1111-4222-8333-bbbbbbbbbbbb"))
    first, second = (redactor.text(f"S-1-5-21-1-2-3-{n}") for n in (500, 1104))
    assert first.rpartition("-")[0] == second.rpartition("-")[0]
    assert first.endswith("-500")
    assert redactor.text("S-1-5-18 S-1-5-32-544") == "S-1-5-18 S-1-5-32-544"
    assert re.fullmatch(r"[0-9a-f]{40}", redactor.text("da39a3ee5e6b4b0d3255bfef95601890afd80709"))


def test_columns_that_are_not_listed_are_left_out(redactor: Redactor) -> None:
    columns = (Column("DeviceName", "string"), Column("Notes", "string"), Column("N", "long"))
    table = ResultTable(columns, [("zeppelin", "gertrude", 3)])
    redacted, left_out = redactor.table(table, "T | summarize N = count() by DeviceName")
    assert redacted.names == ["DeviceName", "N"]
    assert left_out == ["Notes"]
    assert redacted.rows == [(redactor.name("zeppelin"), 3)]


def test_a_word_that_is_someones_name_is_one_in_the_same_rows_command_lines(
    redactor: Redactor,
) -> None:
    columns = (Column("AccountName", "string"), Column("ProcessCommandLine", "string"))
    table = ResultTable(columns, [("report", "net user report /add"), ("net", "net view")])
    redacted, _ = redactor.table(table, "")
    lines = [row[1] for row in redacted.rows]
    assert "report" not in lines[0]
    # Without the programs' own words nothing would match any more.
    assert lines[1] == "net view"


def test_what_a_query_was_given_is_redacted_and_what_the_hunt_says_is_not() -> None:
    hunt = Catalog().find("context-device-timeline")[0]
    given = {"Devices": ["zeppelin.quokkabank.example"]}
    rendered = render(hunt, now=NOW, window=WINDOW, parameters=given)
    redactor = Redactor(Pseudonyms(KEY), literal_words([hunt.query]))
    text = redactor.query(rendered.text)
    redacted = {name: redactor.value(value) for name, value in given.items()}
    assert text == render(hunt, now=NOW, window=WINDOW, parameters=redacted).text
    assert "zeppelin" not in text
    untouched = render(hunt, now=NOW, window=WINDOW)
    assert redactor.query(untouched.text) == untouched.text


def test_words_of_an_error_are_read_and_its_names_are_not(redactor: Redactor) -> None:
    redactor.identifier("acmeprofile")
    said = redactor.sentence("no permission in acmeprofile for 'gertrude' and eve@x.example")
    assert said.startswith("no permission in ")
    assert not {"acmeprofile", "gertrude", "eve"} & set(re.findall(r"\w+", said))


names = st.text(min_size=1, max_size=40)


@settings(max_examples=300, deadline=None)
@given(text=names)
def test_separators_stay_where_they_are(text: str) -> None:
    redactor = Redactor(Pseudonyms(KEY))
    redacted = redactor.text(text)
    assert redactor.text(text) == redacted
    if not re.search(r"[:.-]", text):
        assert WORD.split(redacted) == WORD.split(text)


@settings(max_examples=300, deadline=None)
@given(
    name=st.from_regex(r"[a-z]{2,12}[0-9]{0,4}", fullmatch=True).filter(
        lambda word: word not in vocabulary()
    ),
    before=st.sampled_from(
        ["", "net user ", "/user:", "\\\\", '"', "-p ", "%", "C:\\Users\\", "="]
    ),
    after=st.sampled_from(["", " /add", "\\c$", '"', "@x.example", "!", ";", ".exe"]),
)
def test_no_name_comes_through_wherever_it_stands(name: str, before: str, after: str) -> None:
    redactor = Redactor(Pseudonyms(KEY))
    for spelled in (name, name.upper(), name.title()):
        redacted = redactor.text(before + spelled + after)
        words = re.findall("[a-z0-9]+", redacted.casefold())
        # A short name may stand inside a pseudonym's letters by chance, never as a word.
        assert name not in (words if len(name) < 6 else redacted.casefold())


def test_a_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "recording.key"
    key = load_key(path)
    assert load_key(path) == key
    assert len(key) == 32
    assert path.stat().st_mode & 0o077 == 0


def test_a_broken_key_is_one_clear_error(tmp_path: Path) -> None:
    from qakhunt.core.errors import UsageError

    for text in ("", "zz", "abcd"):
        path = tmp_path / "key"
        path.write_text(text)
        with pytest.raises(UsageError, match="key"):
            load_key(path)


def test_no_first_name_is_vocabulary() -> None:
    common = """
        anna ben bill bob carl chris claire dan david drew emma eric eve faith frank gene grace
        grant hank heather hope ivy jack james jan jay jean jim john josh joy karl ken kim lee
        liam lily luke marc mark mary max may mia mike miles nick noah olga oscar pat paul pete
        ray rex rich rob rose roy ruth sam sandy sara sean sky sofia steve sue ted tim tom tony
        una victor violet wade will yuri zoe
    """
    assert not vocabulary() & set(common.split())


def test_rows_are_not_changed_in_place(redactor: Redactor) -> None:
    table = ResultTable((Column("DeviceName", "string"),), [("zeppelin",)])
    redactor.table(table, "")
    assert table.rows == [("zeppelin",)]
    assert replace(table) == table
