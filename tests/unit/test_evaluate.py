"""Evidence: what labelled sets are, what is measured on them, and where it is written."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from math import comb
from pathlib import Path
from typing import Any

import pytest

from qakhunt.answers.cells import to_json_line
from qakhunt.core.errors import UsageError
from qakhunt.hunts.catalog import Catalog
from qakhunt.hunts.command_catalogue import RENDERINGS, families
from qakhunt.kql.values import Instant, Timespan
from qakhunt.testing.confusion import Judged
from qakhunt.testing.evaluation import HuntEvidence, Raised, Share, evaluate
from qakhunt.testing.evidence import (
    document,
    evidence_of,
    is_of,
    kin_of,
    markdown,
    raised_of,
    recall_of,
    words_of,
)
from qakhunt.testing.generator import generate, held_back, recipes
from qakhunt.testing.labelled import Burst, LabelledSet, load_labelled
from tests.conftest import ROOT
from tests.golden.refresh import with_evidence
from tests.support.labelled import two

NOW = Instant.parse("2026-11-24T00:00:00Z")
START = Instant.parse("2026-10-05T10:00:00Z")
QAKBOT = [hunt.name for hunt in Catalog().find_all(["qakbot", "s0650"])]


def rows(device: str, *seconds: float) -> list[dict[str, Any]]:
    """A row at each of the times, each with a command of its own."""
    return [
        {
            "Timestamp": START + Timespan(round(at * 10_000_000)), "DeviceName": device,
            "DeviceId": device, "ProcessCommandLine": f"command {at}", "FileName": "x.exe",
        }
        for at in seconds
    ]  # fmt: skip


def labelled(name: str, label: str, found: list[dict[str, Any]], **more: Any) -> LabelledSet:
    devices = dict.fromkeys(row["DeviceName"] for row in found)
    bursts = tuple(
        Burst(d, min(times), max(times))
        for d in devices
        for times in [[r["Timestamp"] for r in found if r["DeviceName"] == d]]
    )
    return LabelledSet(
        name, label, "captured", "a test", found,  # type: ignore[arg-type]
        bursts=bursts if label in ("qakbot", "kin") else (), **more,
    )  # fmt: skip


def measured(folder: Path, *sets: LabelledSet, repeats: int = 40) -> HuntEvidence:
    return evaluate([two(folder)], sets, seed=1, repeats=repeats, losses=(0, 50, 100))[0]


@pytest.mark.engine
def test_recall_false_alerts_loss_and_time(tmp_path: Path) -> None:
    found = rows("a", 0, 7, 9) + rows("b", 0)
    one = measured(
        tmp_path,
        labelled("positive", "qakbot", found, rendering="direct"),
        labelled("quiet", "benign", rows("c", 5)),
        labelled("loud", "benign", rows("d", 5, 6)),
        labelled("other", "unrelated", rows("e", 5, 6) + rows("f", 1, 2)),
    )
    assert one.recall() == {("direct", "captured"): Share(1, 2)}
    assert one.raised() == {
        ("tuning", "benign", "captured"): Raised(2, 1, 1),
        ("tuning", "unrelated", "captured"): Raised(1, 1, 2),
    }
    assert one.losses["direct", "captured", 0] == Share(40, 80)
    assert one.losses["direct", "captured", 100] == Share(0, 80)
    # Three events, each kept half the time: two or more of three are kept half the time.
    assert 10 <= one.losses["direct", "captured", 50].found <= 30
    assert one.seconds == {("direct", "captured"): [7.0]}


@pytest.mark.engine
def test_what_is_held_back_and_what_is_kin_stand_apart(tmp_path: Path) -> None:
    sets = [
        labelled("tuned", "qakbot", rows("a", 0, 7) + rows("b", 0, 7), rendering="direct"),
        labelled("kin", "kin", rows("k", 0, 1) + rows("l", 0), malware="IcedID"),
        labelled("quiet", "benign", rows("c", 9)),
        labelled("hidden", "qakbot", rows("d", 0), rendering="direct", split="held-back"),
        labelled("hidden kin", "kin", rows("m", 0, 1), malware="Pikabot", split="held-back"),
        labelled("hidden loud", "benign", rows("e", 5, 6), split="held-back", about="secret"),
    ]
    evidence = evaluate([two(tmp_path)], sets, seed=1, repeats=2, losses=(50,))
    one = evidence[0]
    assert one.recall() == {("direct", "captured"): Share(2, 2)}
    assert one.recall("held-back") == {("direct", "captured"): Share(0, 1)}
    assert one.kin() == {("IcedID", "captured"): Share(1, 2)}
    assert one.kin("held-back") == {("Pikabot", "captured"): Share(1, 1)}
    # An alert on kin is neither a find of Qakbot nor a false alert.
    assert one.raised()["tuning", "benign", "captured"] == Raised(1, 0, 0)
    assert one.raised()["held-back", "benign", "captured"] == Raised(1, 1, 1)
    assert one.losses == {
        ("direct", "captured", 50): Share(one.losses["direct", "captured", 50].found, 4)
    }
    whole = document(evidence, sets, now=NOW, seed=1, repeats=2)
    hunt = whole["hunts"][0]
    assert recall_of(hunt, split="held-back") == {"direct": Share(0, 1)}
    assert kin_of(hunt, split="held-back") == {"Pikabot": Share(1, 1)}
    assert raised_of(hunt, "benign", split="held-back") == Share(1, 1)
    # What was held back is counted; what it holds, and which of it alerted, is not told.
    assert {s["name"] for s in hunt["sets"]} == {"tuned", "kin", "quiet"}
    assert "command 5" not in json.dumps(whole)
    assert "secret" not in json.dumps(whole)
    text = markdown(whole)
    assert "| `two` | for tuning | captured | 2 of 2 | - |" in text
    assert "| `two` | held back | captured | 0 of 1 | - | - | - | - | - | 1 of 1 | 1 of 1 |" in text


@pytest.mark.engine
def test_only_captured_bursts_get_an_interval(tmp_path: Path) -> None:
    """A copy of a modelled burst is no new evidence."""
    found = rows("a", 0, 7)
    sets = [labelled("seen", "qakbot", found, rendering="direct")]
    for origin in ("modelled", "reconstructed"):
        one = labelled(origin, "qakbot", found, rendering="direct")
        sets.append(replace(one, origin=origin))
    evidence = evaluate([two(tmp_path)], sets, seed=1, repeats=3, losses=(50,))
    hunt = document(evidence, sets, now=NOW, seed=1, repeats=3)["hunts"][0]
    assert {entry["origin"]: "low" in entry for entry in hunt["recall"]} == {
        "captured": True, "modelled": False, "reconstructed": False,
    }  # fmt: skip
    assert not [entry for entry in hunt["loss"] if "low" in entry]
    assert {e["origin"] for e in hunt["seconds_to_detection"]} == {
        "captured", "modelled", "reconstructed",
    }  # fmt: skip


@pytest.mark.engine
def test_an_alert_beside_the_burst_is_no_find(tmp_path: Path) -> None:
    """The device did two things; only one of them is what is looked for."""
    early, late = rows("a", 0, 1), rows("a", 2_000_000, 2_000_001)
    burst = Burst("a", late[0]["Timestamp"], late[1]["Timestamp"])
    one = LabelledSet(
        "mixed", "qakbot", "captured", "a test", early + late, "direct", bursts=(burst,)
    )
    evidence = measured(tmp_path, one, repeats=1)
    assert evidence.recall() == {("direct", "captured"): Share(1, 1)}
    beside = LabelledSet(
        "beside", "qakbot", "captured", "a test", early + late[:1], "direct", bursts=(burst,)
    )
    assert measured(tmp_path, beside, repeats=1).recall() == {("direct", "captured"): Share(1, 1)}
    quiet = LabelledSet(
        "quiet", "qakbot", "captured", "a test", late[:1], "direct", bursts=(burst,)
    )
    assert measured(tmp_path, quiet, repeats=1).recall() == {("direct", "captured"): Share(0, 1)}


@pytest.mark.engine
def test_a_set_longer_than_the_lookback_is_asked_in_windows(tmp_path: Path) -> None:
    month = 31 * 86_400
    one = measured(
        tmp_path, labelled("long", "benign", rows("a", 0, month, 2 * month, 2 * month + 5))
    )
    assert [len(s.false_alerts) for s in one.sets if s.source.label == "benign"] == [1]


@pytest.mark.engine
def test_another_behaviour_is_not_judged(tmp_path: Path) -> None:
    other = labelled("other", "qakbot", rows("a", 0, 1), behaviour="exclusions")
    one = measured(tmp_path, labelled("quiet", "benign", rows("c", 5)), other)
    assert one.recall() == {}
    assert one.kin() == {}
    assert [outcome.source.name for outcome in one.sets] == ["quiet"]


def test_the_generator_draws_the_same_from_one_seed_and_other_from_another() -> None:
    one, again, other = generate(1, 2), generate(1, 2), generate(2, 2)
    assert one == again
    assert [s.name for s in one] == [s.name for s in other]
    assert one != other


def test_the_generator_hides_every_rendering_in_the_background() -> None:
    background = rows("real", *range(300))
    sets = [
        s for s in generate(1, 3, background) if s.behaviour == "discovery" and s.label == "qakbot"
    ]
    assert [s.rendering for s in sets] == list(RENDERINGS)
    for one in sets:
        assert len(one.bursts) == 3
        for burst in one.bursts:
            lines = [r["ProcessCommandLine"] for r in one.rows if r["DeviceName"] == burst.device]
            assert sum(line.startswith("command") for line in lines) == 120
            assert burst.end.since(burst.start).seconds < 120
        assert list(one.rows) == sorted(one.rows, key=lambda row: row["Timestamp"].ticks)


def test_the_held_back_file_is_the_one_that_was_committed_before_any_tuning() -> None:
    data = ROOT / "qakhunt" / "data"
    committed = (data / "held_back.sha256").read_text(encoding="utf-8").split()[0]
    assert hashlib.sha256((data / "held_back.yaml").read_bytes()).hexdigest() == committed


def test_the_held_back_part_is_large_enough_and_other_than_the_part_for_tuning() -> None:
    data, tuning = recipes("held_back.yaml"), recipes()
    assert (data.split, tuning.split) == ("held-back", "tuning")
    assert len(data.benign) >= 40
    assert len(data.qakbot) >= 40
    assert len(data.kin) >= 12
    assert sum(1 for program in tuning.benign.values() if program.source) >= 20
    assert len(tuning.kin) >= 10
    for part in (data.benign, data.kin, data.orders):
        assert all(one.source and one.basis for one in part.values())
    assert not {p.steps for p in data.benign.values()} & {p.steps for p in tuning.benign.values()}
    assert not {k.steps for k in data.kin.values()} & {
        k.steps for name, k in tuning.kin.items() if name != "pikabot"
    }
    sets = held_back()
    assert sets == held_back()
    assert {one.split for one in sets} == {"held-back"}
    assert {one.origin for one in sets} == {"modelled"}
    assert {"conhost", "forfiles", "issuers", "renamed", "start", "task"} <= {
        one.rendering for one in sets
    }


def test_a_held_back_burst_looks_as_its_way_of_starting_makes_it() -> None:
    by_rendering = {s.rendering: s.rows for s in held_back() if s.label == "qakbot"}
    forfiles = [
        r for r in by_rendering["forfiles"] if r["InitiatingProcessFileName"] == "forfiles.exe"
    ]
    assert {r["FileName"] for r in forfiles} == {"cmd.exe"}
    assert all(r["ProcessCommandLine"].startswith("/c ") for r in forfiles)
    issued = [r for r in by_rendering["issuers"] if r["FileName"] == "ipconfig.exe"]
    hosts = {(r["DeviceName"], r["InitiatingProcessId"]) for r in by_rendering["issuers"]}
    assert len(hosts) > 8 * len(issued)
    renamed = {r.get("ProcessVersionInfoOriginalFileName") for r in by_rendering["renamed"]}
    assert {"whoami.exe", "net.exe", "nltestrk.exe"} <= renamed
    assert not [r for r in by_rendering["renamed"] if r["FileName"] in ("whoami.exe", "net.exe")]
    assert {r["AccountName"] for r in by_rendering["task"]} == {"system"}


def test_administrators_run_every_choice_of_three() -> None:
    sets = [s for s in generate(1, 1) if s.name.startswith("modelled, three")]
    assert len(sets) == 3
    for one in sets:
        assert len({row["DeviceName"] for row in one.rows}) == comb(len(families().families), 3)


@pytest.mark.engine
def test_the_burst_hunt_meets_its_aims_on_a_seed_of_its_own() -> None:
    """Another seed than that of the recorded evidence, so that nothing is tuned to it."""
    sets = generate(20261124, 4)
    (one,) = evaluate(Catalog().find("qakbot-recon-burst"), sets, seed=7, repeats=4, losses=(40,))
    assert all(share.found == share.tried for share in one.recall().values())
    assert {rendering for rendering, _ in one.recall()} == set(RENDERINGS)
    assert not [s.source.name for s in one.sets if s.source.label == "benign" and s.alerts]
    lost = one.losses["direct", "modelled", 40]
    assert lost.found >= 0.9 * lost.tried


def folder_with(tmp_path: Path, manifest: str) -> Path:
    (tmp_path / "rows.ndjson").write_text(
        "".join(to_json_line(row) + "\n" for row in rows("a", 1, 2)), encoding="utf-8"
    )
    (tmp_path / "manifest.yaml").write_text(manifest, encoding="utf-8")
    return tmp_path


ENTRY = "sets:\n  - {name: s, label: %s, source: a test, files: [%s]%s}\n"


@pytest.mark.engine
def test_a_manifest_of_ones_own(tmp_path: Path) -> None:
    text = ENTRY % (
        "qakbot",
        "rows.ndjson",
        ', rendering: cmd, bursts: [{device: A, start: "2026-10-05T10:00:02Z"}]',
    )
    (one,) = load_labelled(folder_with(tmp_path, text))
    assert (one.rendering, len(one.rows), one.bursts[0].device) == ("cmd", 2, "a")
    assert one.bursts[0].start == START + Timespan.parse("2s")
    assert len(one.files["rows.ndjson"]) == 64


@pytest.mark.parametrize(
    ("text", "words", "line"),
    [
        (ENTRY % ("benign", "rows.ndjson, gone.ndjson", ""), "no such file: gone.ndjson", 2),
        (ENTRY % ("benign", "../rows.ndjson", ""), "lies outside", 2),
        (ENTRY % ("evil", "rows.ndjson", ""), "label", 2),
        (ENTRY % ("benign", "rows.ndjson", ", extra: 1"), "unknown key 'extra'", 2),
        ("sets: 3\n", "sets", 1),
        ("sets: [\n", "broken YAML", 2),
    ],
)
def test_a_manifest_that_is_wrong(text: str, words: str, line: int, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        load_labelled(folder_with(tmp_path, text))
    assert words in str(refused.value)
    assert refused.value.location is not None
    assert refused.value.location.line == line


def test_a_folder_without_a_manifest_or_anything_known(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has no manifest\.yaml"):
        load_labelled(tmp_path)
    with pytest.raises(UsageError, match="no such folder"):
        load_labelled(tmp_path / "gone")


@pytest.mark.engine
def test_public_sets_are_known_by_name(shared_data: Path) -> None:
    pytest.importorskip("evtx")
    sets = {one.name: one for one in load_labelled(shared_data)}
    assert len(sets["reconstructed, direct"].bursts) == 11
    assert len(sets["Defender rows of a test tenant"].rows) == 200
    assert sets["Seatbelt, group user"].label == "unrelated"
    assert {one.origin for one in sets.values()} == {"captured", "reconstructed"}


@pytest.mark.parametrize(
    ("share", "low", "high"),
    [(Share(11, 11), 0.741, 1.0), (Share(0, 10), 0.0, 0.278), (Share(5, 10), 0.237, 0.763)],
)
def test_wilsons_interval(share: Share, low: float, high: float) -> None:
    assert share.interval == pytest.approx((low, high), abs=5e-4)


@pytest.mark.parametrize("name", QAKBOT)
def test_every_hunt_of_the_set_has_evidence_of_its_text_as_it_stands(name: str) -> None:
    (hunt,) = Catalog().find(name)
    found = evidence_of(hunt)
    assert found is not None, "run 'qakhunt evaluate --record'"
    assert is_of(found, hunt), "its query changed since: run 'qakhunt evaluate --record'"
    assert found["hunts"][0]["limits"] == list(hunt.notes.limits)


def test_the_documented_table_is_the_recorded_evidence() -> None:
    page = (ROOT / "docs" / "explanation" / "evidence.md").read_text(encoding="utf-8")
    assert "<!-- evidence -->" in page
    assert with_evidence(page) == page


def test_recorded_aims_of_the_burst_hunt() -> None:
    """What the documentation may say of it; a change of the data or the hunt shows here."""
    found = evidence_of(Catalog().find("qakbot-recon-burst")[0])
    assert found is not None
    hunt = found["hunts"][0]
    assert {name: share.value for name, share in recall_of(hunt).items()} == dict.fromkeys(
        sorted(RENDERINGS), 1.0
    )
    assert (recall_of(hunt, loss=40)["direct"].value or 0) >= 0.95
    assert [s["name"] for s in hunt["sets"] if s["false_alerts"]] == []
    bursts = recall_of(hunt, split="held-back").values()
    kin = kin_of(hunt, split="held-back").values()
    for shares, aim in ((bursts, 0.97), (kin, 0.75)):
        assert sum(s.found for s in shares) >= aim * sum(s.tried for s in shares) > 0
    alerted = raised_of(hunt, "benign", split="held-back")
    assert alerted.found <= 2 * alerted.tried / 40


@pytest.mark.engine
def test_a_document_names_its_data(tmp_path: Path) -> None:
    sets = [labelled("positive", "qakbot", rows("a", 0, 7), rendering="direct")]
    evidence = evaluate([two(tmp_path)], sets, seed=3, repeats=2, losses=(50,), triage=True)
    assert evidence[0].judged == []  # it has no thresholds to lower
    loader, unclear = "consistent_with_loader_discovery", "cannot_tell"
    evidence[0].judged = [
        Judged("held-back", "kin", "modelled", False, False, {loader: 1, unclear: 1}),
        Judged("held-back", "kin", "modelled", False, True, {loader: 2}),
        Judged("held-back", "kin", "modelled", True, True, {loader: 9}),
        Judged("tuning", "benign", "modelled", True, True, {unclear: 3}),
    ]
    whole = document(evidence, sets, now=NOW, seed=3, repeats=2)
    assert (whole["seed"], whole["data"][0]["name"], whole["data"][0]["bursts"]) == (
        3,
        "positive",
        1,
    )
    text = markdown(whole)
    assert "| `two` | for tuning | captured | 1 of 1 | - |" in text
    assert "Measured 2026-11-24" in text
    assert "positive (a test)" in text
    assert (
        "| `two` | held back | modelled | other malware | published | - | 1 / 2 | 1 / 0 |" in text
    )
    assert "| `two` | for tuning | modelled | administration | lowered | - | - | 0 / 3 |" in text
    said = "triage takes for malware, of alerts on other malware (modelled): 2 of 2 with context, 1 of 2 without context"
    assert any(said in line for line in words_of(whole))
