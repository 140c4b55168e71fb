"""A recording carries what surrounded the hits, under pseudonyms too."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.cli import qakhunt
from tests.support.triage import sample_document

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.engine


def replayed(folder: Path) -> dict[str, Any]:
    done = qakhunt(
        "run", "--backend", "replay", "--recording", str(folder), "--context", "30m", "--json", "-q"
    )
    assert done.code == 0, done.err
    document: dict[str, Any] = json.loads(done.out)
    return document


def gist(document: dict[str, Any]) -> list[Any]:
    """What the context says, without names."""
    return [
        (
            [(t["table"], t["status"], t["found"], t["kept"]) for t in held["tables"]],
            len(held["ancestors"]),
            [(c["kind"], c["devices"], c["days"]) for c in held["rarity"]["counts"]],
            held["assessment"]["kind"],
        )
        for held in document["context"]["hits"]
    ]


@pytest.mark.parametrize("names", ["kept", "pseudonyms"])
def test_a_recording_replays_the_context(tmp_path: Path, names: str) -> None:
    folder = tmp_path / "recording"
    how = ["--keep-names"] if names == "kept" else ["--key", str(tmp_path / "key")]
    done = qakhunt(
        "record", "qakbot-post-compromise-commands", "--context", "30m", *how, "--out", str(folder)
    )
    assert done.code == 0, done.err
    document = replayed(folder)
    assert gist(document) == gist(sample_document())
    assert all(line["status"] == "complete" for line in document["ledger"])
    text = json.dumps(document)
    for name in ("ws-fin-042", "moreau", "pelican", "Claim_4471", "192.0.2.191", "invagent"):
        assert (name in text) == (names == "kept"), name


def test_a_recording_without_context_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "recording"
    done = qakhunt(
        "record", "qakbot-post-compromise-commands", "--keep-names", "--out", str(folder)
    )
    assert done.code == 0, done.err
    document = replayed(folder)
    assert document["verdict"] == "hits"
    failed = [line for line in document["ledger"] if line["status"] == "failed"]
    assert {line["purpose"] for line in failed} == {"context"}
    assert "holds no answer to this question" in failed[0]["detail"]
