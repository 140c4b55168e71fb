"""The JSON that programs read keeps to the shipped schemas."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

import qakhunt.data
from qakhunt.__main__ import run
from qakhunt.testing.contracts import DOCUMENTS, schema_of
from tests.support.events import FOUR, MISSION, event, write_ndjson

FOLDER = Path(qakhunt.data.__path__[0])


@pytest.mark.parametrize("name", sorted(DOCUMENTS))
def test_the_shipped_schema_is_the_models_own(name: str) -> None:
    shipped = json.loads((FOLDER / f"{name}.schema.json").read_text(encoding="utf-8"))
    assert shipped == json.loads(json.dumps(schema_of(name)))


@pytest.mark.engine
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("test", ["test", MISSION, "-k", "fire"]),
        ("test", ["test", "{cases}"]),
        ("lint", ["hunts", "lint", MISSION]),
        ("diff", ["diff", MISSION, "--set-new", "Threshold=2", "--events", "{events}"]),
        ("diff", ["diff", MISSION, "{changed}", "--set", "Threshold=2", "--events", "{events}"]),
        ("sweep", ["sweep", MISSION, "--set", "Threshold=2..3", "--events", "{events}"]),
        ("mutate", ["test", "{cases_that_pass}", "--mutate"]),
    ],
)
def test_the_output_keeps_to_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, arguments: list[str]
) -> None:
    from qakhunt.hunts.catalog import Catalog

    text = Path(Catalog().find(MISSION)[0].path).read_text(encoding="utf-8")
    (tmp_path / "tests").mkdir()
    (tmp_path / "it.yaml").write_text(text.replace("'net view', ", ""), encoding="utf-8")
    (tmp_path / "tests" / "it.yaml").write_text("cases: [{name: a, expect: {count: 1}}]")
    small = "name: s\nquery: |\n  DeviceProcessEvents | where TimeGenerated > ago(1d)\n"
    (tmp_path / "small.yaml").write_text(small, encoding="utf-8")
    (tmp_path / "tests" / "small.yaml").write_text("cases: [{name: a, expect: {none: true}}]")
    records = [event(line) for line in FOUR] + [event(x, DeviceName="b") for x in FOUR[1:]]
    places = {
        "events": write_ndjson(tmp_path / "e.ndjson", records),
        "changed": tmp_path / "it.yaml",
        "cases": tmp_path / "tests" / "it.yaml",
        "cases_that_pass": tmp_path / "tests" / "small.yaml",
    }
    run([argument.format(**places) for argument in arguments] + ["--json"])
    document = msgspec.json.decode(capsys.readouterr().out)
    msgspec.convert(document, DOCUMENTS[name])
