"""The command 'evaluate'."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from qakhunt.hunts.command_catalogue import RENDERINGS
from qakhunt.testing.evidence import recall_of
from qakhunt.testing.generator import recipes
from tests.support.cli import qakhunt
from tests.support.labelled import two


@pytest.mark.engine
def test_the_command_measures_what_it_wrote(tmp_path: Path) -> None:
    two(tmp_path)
    sets = tmp_path / "sets"
    wrote = qakhunt("evaluate", "--generated", "1", "--write-sets", str(sets))
    assert wrote.code == 0, wrote.err
    manifest = sets / "manifest.yaml"
    listed = yaml.safe_load(manifest.read_text(encoding="utf-8"))["sets"]
    few = [s for s in listed if s["label"] == "qakbot" and s.get("behaviour") == "discovery"]
    manifest.write_text(yaml.safe_dump({"sets": few}), encoding="utf-8")
    done = qakhunt(
        "evaluate", str(tmp_path / "two.kql"), "--labelled", str(sets), "--generated", "0",
        "--repeats", "1", "--now", "2026-11-24", "--json", "--record",
    )  # fmt: skip
    assert done.code == 0, done.err
    whole = json.loads(done.out)
    assert whole["schema"] == "qakhunt.evaluate/3"
    assert whole["date"] == "2026-11-24"
    recall = recall_of(whole["hunts"][0])
    assert {name: (share.found, share.tried) for name, share in recall.items()} == dict.fromkeys(
        RENDERINGS, (1, 1)
    )
    assert sum(s.tried for s in recall_of(whole["hunts"][0], split="held-back").values()) == len(
        recipes("held_back.yaml").qakbot
    )
    shown = qakhunt(
        "evaluate", str(tmp_path / "two.kql"), "--labelled", str(sets), "--generated", "0",
        "--repeats", "1", "--now", "2026-11-24", "--quiet",
    )  # fmt: skip
    assert shown.code == 0, shown.err
    tuned, _, hidden = shown.out.rpartition("  held back ")
    assert "for tuning" in tuned
    assert "conhost" in hidden
    assert "false alert in held back" not in shown.out
    recorded = json.loads((tmp_path / "evidence" / "two.json").read_text(encoding="utf-8"))
    assert recorded["hunts"] == whole["hunts"]
    shown = qakhunt("hunts", "show", str(tmp_path / "two.kql"))
    assert "measured 2026-11-24" in shown.out
    nothing = qakhunt("evaluate", "--generated", "0")
    assert (nothing.code, len(nothing.error_lines)) == (2, 1)
