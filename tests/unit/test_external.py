"""What a query reads from outside: files for addresses, and tables that are given or are not."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from pathlib import Path

import pytest

from qakhunt.__main__ import run
from qakhunt.backends.engine import external
from qakhunt.backends.engine.external import ExternalFiles, read_bytes, shown
from qakhunt.core.errors import EventsError, ExitCode, UsageError
from tests.support.events import event, write_ndjson

ADDRESS = "https://example.org/lists/bad.csv"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("https://a.example/x.csv?sv=1&sig=SECRET", "https://a.example/x.csv"),
        ("https://a.example/x.csv;SECRET", "https://a.example/x.csv"),
        ("https://user:SECRET@a.example/x.csv#SECRET", "https://a.example/x.csv"),
        ("https://a.example/x@2.csv", "https://a.example/x@2.csv"),
    ],
)
def test_what_may_be_a_secret_is_not_shown(address: str, expected: str) -> None:
    assert shown(address) == expected


def test_a_folder_holds_files_by_their_addresses(tmp_path: Path) -> None:
    (tmp_path / "example.org" / "lists").mkdir(parents=True)
    path = tmp_path / "example.org" / "lists" / "bad.csv"
    path.write_text("1.2.3.4\n")
    files = ExternalFiles([str(tmp_path)])
    assert files.find(f"{ADDRESS}?token=1") == path
    assert files.find("https://example.org/lists/other.csv") is None


def test_an_address_reaches_no_file_outside_the_folder(tmp_path: Path) -> None:
    (tmp_path / "secret.csv").write_text("x\n")
    folder = tmp_path / "feeds"
    (folder / "example.org").mkdir(parents=True)
    files = ExternalFiles([str(folder)])
    for path in ("../../secret.csv", "/../../secret.csv", str(tmp_path / "secret.csv")):
        assert files.find(f"https://example.org/{path}") is None


@pytest.mark.parametrize("text", ["list.csv", "=list.csv", f"{ADDRESS}=/nowhere/list.csv"])
def test_a_mapping_that_maps_nothing_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        ExternalFiles([text])


def test_packed_files_are_unpacked(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("only.csv", "a,b\n")
    for name, data in (("a.csv.gz", gzip.compress(b"a,b\n")), ("a.zip", packed.getvalue())):
        (tmp_path / name).write_bytes(data)
        assert read_bytes(tmp_path / name) == b"a,b\n"


def test_a_zip_of_several_files_and_one_too_large_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "two.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", "x")
        archive.writestr("b", "y")
    with pytest.raises(EventsError, match="a zip of 2 files"):
        read_bytes(path)
    monkeypatch.setattr(external, "MOST_BYTES", 1 << 10)
    bomb = tmp_path / "bomb.gz"
    bomb.write_bytes(gzip.compress(b"x" * (1 << 20)))
    with pytest.raises(EventsError, match="holds more than"):
        read_bytes(bomb)


def hunt(tmp_path: Path, query: str) -> list[str]:
    """Arguments that run the query on one event of ws-1."""
    (tmp_path / "q.kql").write_text(query)
    events = write_ndjson(tmp_path / "e.ndjson", [event("net view", SHA1="aa")])
    window = ["--window", "2026-10-01/2026-11-01"]
    return ["run", str(tmp_path / "q.kql"), *window, "--events", str(events), "--json"]


@pytest.mark.engine
def test_a_run_reads_the_file_and_forgets_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    query = f"""let Bad = externaldata (Name: string) ["{ADDRESS}?sig=S3CRET"];
DeviceProcessEvents | where DeviceName in (Bad) | project DeviceName"""
    (tmp_path / "bad.csv").write_text("ws-1\n")
    given = ["--external", f"{ADDRESS}={tmp_path / 'bad.csv'}"]
    assert run([*hunt(tmp_path, query), *given]) == ExitCode.OK
    result = json.loads(capsys.readouterr().out)
    assert [hit["device"] for hit in result["hits"]] == ["ws-1"]
    assert run(hunt(tmp_path, query)) == ExitCode.REJECTED
    said = capsys.readouterr()
    assert f"externaldata reads {ADDRESS}, and no file was given for it" in said.err + said.out
    assert "and no file" in said.err + said.out


@pytest.mark.engine
def test_a_column_that_could_not_be_known_makes_the_verdict_incomplete(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    query = "DeviceProcessEvents | invoke FileProfile() | where GlobalPrevalence < 5"
    assert run(hunt(tmp_path, query)) == ExitCode.INCOMPLETE
    result = json.loads(capsys.readouterr().out)
    assert result["verdict"] == "incomplete"
    assert "GlobalPrevalence could not be known" in json.dumps(result)
    profile = write_ndjson(tmp_path / "p.ndjson", [{"SHA1": "AA", "GlobalPrevalence": 2}])
    given = ["--events", f"FileProfile={profile}"]
    assert run([*hunt(tmp_path, query), *given]) == ExitCode.OK
    assert json.loads(capsys.readouterr().out)["verdict"] == "hits"
