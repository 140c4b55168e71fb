"""A recording on disk: whole or not at all, checked when read, named when broken."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from qakhunt.answers.ledger import Target
from qakhunt.answers.table import Column, ResultTable
from qakhunt.backends.recordings.manifest import (
    NAME,
    Manifest,
    RecordedAnswer,
    RecordedHunt,
    RecordedLine,
    Span,
    encode,
)
from qakhunt.backends.recordings.store import Recording, check_place, new_recording
from qakhunt.core.errors import OutputError, RecordingError
from qakhunt.kql.values import Instant
from tests.support.everything import EVERYTHING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SPAN = Span("2026-10-01T00:00:00.0000000Z", "2026-10-02T00:00:00.0000000Z")
ORIGIN = Target("p", "t", "w")


def make(path: Path, *, private: bool = False, force: bool = False) -> Path:
    """A small recording with one hunt and one answer."""
    with new_recording(path, private=private, force=force) as writer:
        hunt_file = writer.hunt("a.kql", b"DeviceProcessEvents")
        answer_file = writer.answer(EVERYTHING)
        hunt = RecordedHunt("a", "log-analytics", hunt_file, "q", "h", "q", SPAN, {})
        answer = RecordedAnswer(
            ORIGIN, "log-analytics", SPAN, "q", "h", "h", "complete", answer_file, len(EVERYTHING)
        )
        writer.finish(
            Manifest(
                "qakhunt.recording/1", SPAN.start, SPAN, False, (hunt,),
                (RecordedLine(0, "local", ORIGIN),), (answer,), [], writer.files,
            )
        )  # fmt: skip
    return path


def test_every_cell_of_every_type_comes_back(tmp_path: Path) -> None:
    recording = Recording.open(make(tmp_path / "r"))
    (answer,) = recording.manifest.answers
    table = recording.answer(str(answer.file))
    assert table.columns == EVERYTHING.columns
    assert repr(table.rows) == repr(EVERYTHING.rows)


def test_the_same_recording_is_the_same_bytes(tmp_path: Path) -> None:
    one, other = make(tmp_path / "a"), make(tmp_path / "b")
    for path in one.rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (other / path.relative_to(one)).read_bytes()


def test_it_can_be_moved(tmp_path: Path) -> None:
    moved = make(tmp_path / "r").rename(tmp_path / "elsewhere")
    assert Recording.open(moved).manifest.answers


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def link(path: Path) -> None:
    other = path.with_name("other")
    path.rename(other)
    path.symlink_to(other)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        (name, damage)
        for name in ("answers/0001.json.gz", "hunts/a.kql", NAME)
        for damage in (flip, cut, empty, link)
        if (name, damage) != (NAME, link)
    ],
)
def test_a_damaged_file_is_refused_by_name(
    name: str, damage: Callable[[Path], None], tmp_path: Path
) -> None:
    folder = make(tmp_path / "r")
    damage(folder / name)
    with pytest.raises(RecordingError, match=name.replace(".", r"\.")):
        Recording.open(folder)


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    folder = make(tmp_path / "r")
    (folder / "answers" / "0001.json.gz").unlink()
    with pytest.raises(RecordingError, match="0001"):
        Recording.open(folder)
    (folder / NAME).unlink()
    with pytest.raises(RecordingError, match="has no manifest"):
        Recording.open(folder)
    with pytest.raises(RecordingError, match="no such recording"):
        Recording.open(tmp_path / "nowhere")


def test_a_newer_schema_is_refused_and_an_edit_of_the_manifest_too(tmp_path: Path) -> None:
    folder = make(tmp_path / "r")
    path = folder / NAME
    plain = json.loads(path.read_text())
    path.write_text(json.dumps({**plain, "schema": "qakhunt.recording/2"}))
    with pytest.raises(RecordingError, match="qakhunt.recording/2") as raised:
        Recording.open(folder)
    assert raised.value.hint == "a newer qakhunt reads it"
    answers = [{**plain["answers"][0], "status": "complete", "rows": 0}]
    path.write_text(json.dumps({**plain, "answers": answers}))
    with pytest.raises(RecordingError, match="changed or damaged"):
        Recording.open(folder)
    path.write_text("[]")
    with pytest.raises(RecordingError, match="not the manifest"):
        Recording.open(folder)


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "answers/../../x", "C:\\x", ""])
def test_a_manifest_cannot_name_files_outside(name: str, tmp_path: Path) -> None:
    folder = make(tmp_path / "r")
    manifest = Recording.open(folder).manifest
    files = tuple(msgspec_replace(file, path=name) for file in manifest.files)
    (folder / NAME).write_bytes(encode(msgspec_replace(manifest, files=files)))
    with pytest.raises(RecordingError, match="outside the recording"):
        Recording.open(folder)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"now": "bad"}, "bad"),
        ({"plan": ()}, "its plan is empty"),
        ({"plan": (RecordedLine(99, "local", Target("p")),)}, "its plan names hunt 99 of 1"),
        ({"plan": (RecordedLine(-1, "local", Target("p")),)}, "its plan names hunt -1 of 1"),
        ({"window": Span("2026-10-02", "2026-10-01")}, "not a whole manifest"),
    ],
)
def test_a_manifest_that_is_well_signed_nonsense_is_refused(
    changes: dict[str, Any], words: str, tmp_path: Path
) -> None:
    folder = make(tmp_path / "r")
    manifest = Recording.open(folder).manifest
    (folder / NAME).write_bytes(encode(msgspec_replace(manifest, **changes)))
    with pytest.raises(RecordingError, match=words):
        Recording.open(folder)


def msgspec_replace(value: Any, **changes: Any) -> Any:
    import msgspec

    return msgspec.structs.replace(value, **changes)


def test_what_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with new_recording(tmp_path / "r", private=False, force=False) as writer:
            writer.answer(EVERYTHING)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_recording_is_replaced_whole_and_only_when_insisted(tmp_path: Path) -> None:
    path = make(tmp_path / "r")
    with pytest.raises(OutputError, match="exists"):
        make(path)
    (path / "answers" / "left-over").write_text("x")
    make(path, force=True)
    assert not (path / "answers" / "left-over").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["r"]
    other = tmp_path / "precious"
    other.mkdir()
    (other / "thesis.txt").write_text("x")
    with pytest.raises(OutputError, match="not a recording"):
        make(other, force=True)
    with pytest.raises(OutputError, match="no such folder"):
        make(tmp_path / "no" / "where")


def test_real_names_are_for_the_owner_and_out_of_git(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path / "tree")], check=True)
    inside = tmp_path / "tree" / "deep" / "r"
    inside.parent.mkdir()
    with pytest.raises(OutputError, match="git work tree"):
        check_place(inside, private=True, force=False)
    check_place(inside, private=False, force=False)
    check_place(inside, private=True, force=True)


@pytest.mark.parametrize("mask", [0, 0o022, 0o077])
def test_every_recording_is_its_owners_alone(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        folder = make(tmp_path / "r")
    finally:
        os.umask(before)
    modes = {p.is_dir(): p.stat().st_mode & 0o777 for p in [folder, *folder.rglob("*")]}
    assert modes == {True: 0o700, False: 0o600}


def test_an_empty_answer_keeps_its_columns(tmp_path: Path) -> None:
    nothing = ResultTable((Column("When", "datetime"),), [])
    with new_recording(tmp_path / "r", private=False, force=False) as writer:
        name = writer.answer(nothing)
        recording = Recording(writer.folder, None)  # type: ignore[arg-type]
        assert recording.answer(name).columns == nothing.columns
    assert Instant.parse(SPAN.start) < Instant.parse(SPAN.end)
