"""``record`` and ``run --recording`` as a user meets them, on the bundled sample."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.cli import Finished, qakhunt

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    made = qakhunt("record", "--out", "r", "--key", "key", "--source-rows", cwd=folder)
    assert (made.code, made.out) == (0, "r\n")
    assert "HITS: 2 hits" in made.err
    return folder / "r"


def replay(recording: Path, *options: str) -> Finished:
    return qakhunt("run", "--recording", str(recording), *options)


def test_a_replay_says_what_the_run_said_under_other_names(recording: Path) -> None:
    live = json.loads(qakhunt("run", "--json").out)
    told = replay(recording, "--backend", "replay", "--json")
    again = json.loads(told.out)
    assert told.code == 0
    assert again["verdict"] == live["verdict"] == "hits"
    assert [hit["commands"] for hit in again["hits"]] == [hit["commands"] for hit in live["hits"]]
    assert [entry["status"] for entry in again["ledger"]] == ["complete"]
    for hit, other in zip(live["hits"], again["hits"], strict=True):
        assert hit["device"] != other["device"]
        assert hit["device"].split(".")[0] not in told.out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--threshold", "4"], "Threshold is '4', and was '3'"),
        (["--window", "2026-10-01/2026-10-05"], "its window is 2026-10-01T00:00:00Z/2026-10-05"),
        (["qakbot-recon-burst"], "qakbot-recon-burst was not recorded"),
        (["--add-command", "hostname"], "QakBotCommands is "),
    ],
)
def test_anything_else_is_refused_and_the_rows_are_offered(
    options: list[str], words: str, recording: Path
) -> None:
    told = replay(recording, *options)
    assert told.code == 2
    assert len(told.error_lines) == 1
    assert words in told.error_lines[0]
    assert "--on-source" in told.err
    assert not told.out


def test_changed_hunts_run_on_the_rows(recording: Path) -> None:
    fewer = json.loads(replay(recording, "--threshold", "4", "--on-source", "--json").out)
    assert (fewer["verdict"], len(fewer["hits"])) == ("hits", 1)
    other = json.loads(replay(recording, "qakbot-recon-burst", "--on-source", "--json").out)
    assert other["verdict"] == "hits"
    outside = replay(recording, "--add-command", "svchost", "--on-source", "--fail-on-hits")
    assert outside.code == 14
    assert "outside the recorded filter" in " ".join(outside.out.split())


def test_a_changed_file_of_the_hunt_is_told_by_its_line(recording: Path, tmp_path: Path) -> None:
    text = (recording / "hunts" / "qakbot-post-compromise-commands.yaml").read_text("utf-8")
    changed = tmp_path / "qakbot-post-compromise-commands.yaml"
    changed.write_text(text.replace("ProcessCommandLine in (", "ProcessCommandLine in~ ("), "utf-8")
    told = replay(recording, str(changed))
    assert told.code == 2
    assert "line 7 of its query" in told.error_lines[0]
    assert replay(recording, str(changed), "--on-source").code == 4


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["run", "--backend", "replay"], "needs a recording"),
        (["run", "--recording", "nowhere"], "no such recording"),
        (["run", "--recording", "r", "--now", "2027-01-01"], "--now is not for a recording"),
        (["run", "--recording", "r", "--slice", "1d"], "--slice is not for a recording"),
        (["run", "--recording", "r", "--timeout", "1"], "--timeout is not for a recording"),
        (["run", "--recording", "r", "--set", "Treshold=3"], "no parameter named 'Treshold'"),
        (["record", "--out", "r", "--key", "key"], "r exists"),
        (["record", "--out", "x", "--keep-names", "--key", "key"], "--keep-names makes none"),
        (["record", "--out", "x", "--key", "r/manifest.json"], "not a key"),
        (["record", "--out", "x", "nonsense", "--key", "key"], "no hunt named"),
    ],
)
def test_bad_input_is_one_clear_error(options: list[str], words: str, recording: Path) -> None:
    told = qakhunt(*options, cwd=recording.parent)
    assert told.code == 2
    assert len(told.error_lines) == 1
    assert words in told.error_lines[0]
    assert "Traceback" not in told.err
    assert not (recording.parent / "x").exists()


def test_a_damaged_recording_is_refused_by_file(recording: Path, tmp_path: Path) -> None:
    import shutil

    copy = Path(shutil.copytree(recording, tmp_path / "copy"))
    path = next((copy / "source").iterdir())
    path.write_bytes(path.read_bytes()[:-9] + b"tampered!")
    told = replay(copy)
    assert told.code == 2
    assert path.name in told.error_lines[0]


def test_what_nothing_answered_is_not_kept(tmp_path: Path) -> None:
    (tmp_path / "bad.kql").write_text(
        "DeviceProcessEvents | where TimeGenerated > ago(1d) | wher x"
    )
    told = qakhunt("record", "bad.kql", "--out", "x", "--key", "key", cwd=tmp_path)
    assert told.code == 5
    assert told.error_lines
    assert not (tmp_path / "x").exists()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording ``r`` of a hunt without parameters, beside the hunt."""
    folder = tmp_path_factory.mktemp("plain")
    (folder / "plain.kql").write_text(
        "DeviceProcessEvents\n| where TimeGenerated > ago(30d)\n| where FileName == 'whoami.exe'\n"
    )
    options = ["--out", "r", "--key", "key", "--source-rows"]
    assert qakhunt("record", "plain.kql", *options, cwd=folder).code == 0
    return folder


@pytest.mark.parametrize("rest", [[], ["--on-source"], ["plain.kql"], ["plain.kql", "--on-source"]])
def test_an_option_that_no_recorded_hunt_takes_is_refused(plain: Path, rest: list[str]) -> None:
    option = "--threshold" if rest else "--add-command"
    told = qakhunt("run", *rest, "--recording", "r", option, "5", cwd=plain)
    assert told.code == 2
    assert len(told.error_lines) == 1
    assert "plain has no parameter for --" in told.error_lines[0]
    assert not told.out
