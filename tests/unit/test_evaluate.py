"""Evidence: what labelled sets are, what is measured on them, and where it is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from qakhunt.answers.cells import to_json_line
from qakhunt.core.errors import UsageError
from qakhunt.hunts.catalog import Catalog
from qakhunt.hunts.command_catalogue import RENDERINGS
from qakhunt.hunts.loading import load_hunt
from qakhunt.kql.values import Instant, Timespan
from qakhunt.testing.evaluation import HuntEvidence, evaluate
from qakhunt.testing.evidence import (
    document,
    evidence_of,
    is_of,
    joined,
    markdown,
    recall_of,
    replace_block,
)
from qakhunt.testing.generator import generate
from qakhunt.testing.labelled import Burst, LabelledSet, load_labelled
from qakhunt.testing.statistics import Share
from tests.conftest import ROOT
from tests.support.cli import qakhunt

NOW = Instant.parse("2026-11-24T00:00:00Z")
START = Instant.parse("2026-10-05T10:00:00Z")
QAKBOT = [hunt.name for hunt in Catalog().find_all(["qakbot"])]

# Fires on two distinct command lines of a device.
TWO = """
DeviceProcessEvents
| where TimeGenerated > ago(30d)
| summarize Commands = make_set(ProcessCommandLine), FirstSeen = min(TimeGenerated), LastSeen = max(TimeGenerated) by DeviceName
| where array_length(Commands) >= 2
"""


def two(folder: Path) -> Any:
    path = folder / "two.kql"
    path.write_text(TWO, encoding="utf-8")
    return load_hunt(path)


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
        bursts=bursts if label == "qakbot" else (), **more,
    )  # fmt: skip


def measured(folder: Path, *sets: LabelledSet, repeats: int = 40) -> HuntEvidence:
    return evaluate([two(folder)], sets, seed=1, repeats=repeats, losses=(0, 50, 100))[0]


@pytest.mark.engine
def test_recall_precision_loss_and_time(tmp_path: Path) -> None:
    found = rows("a", 0, 7, 9) + rows("b", 0)
    one = measured(
        tmp_path,
        labelled("positive", "qakbot", found, rendering="direct"),
        labelled("quiet", "benign", rows("c", 5)),
        labelled("loud", "benign", rows("d", 5, 6)),
        labelled("other", "unrelated", rows("e", 5, 6) + rows("f", 1, 2)),
    )
    assert one.recall() == {("direct", "captured"): Share(1, 2)}
    assert one.precision() == Share(1, 4)
    assert (one.false_alerts("benign"), one.false_alerts("unrelated")) == (1, 2)
    assert one.losses["direct", "captured", 0] == Share(40, 80)
    assert one.losses["direct", "captured", 100] == Share(0, 80)
    # Three events, each kept half the time: two or more of three are kept half the time.
    assert 10 <= one.losses["direct", "captured", 50].found <= 30
    assert one.time_to_detection() == {"direct": (7.0, 7.0)}


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
    assert one.false_alerts("benign") == 1


@pytest.mark.engine
def test_another_behaviour_is_not_judged(tmp_path: Path) -> None:
    other = labelled("other", "qakbot", rows("a", 0, 1), behaviour="exclusions")
    one = measured(tmp_path, labelled("quiet", "benign", rows("c", 5)), other)
    assert one.recall() == {}
    assert one.precision() == Share(0, 0)
    assert [outcome.name for outcome in one.sets] == ["quiet"]


def test_the_generator_draws_the_same_from_one_seed_and_other_from_another() -> None:
    one, again, other = generate(1, 2), generate(1, 2), generate(2, 2)
    assert one == again
    assert [s.name for s in one] == [s.name for s in other]
    assert one != other


def test_the_generator_hides_every_rendering_in_the_background() -> None:
    background = rows("real", *range(300))
    sets = [s for s in generate(1, 3, background) if s.behaviour == "discovery" and s.bursts]
    assert [s.rendering for s in sets] == list(RENDERINGS)
    for one in sets:
        assert len(one.bursts) == 3
        for burst in one.bursts:
            lines = [r["ProcessCommandLine"] for r in one.rows if r["DeviceName"] == burst.device]
            assert sum(line.startswith("command") for line in lines) == 120
            assert burst.end.since(burst.start).seconds < 120
        assert list(one.rows) == sorted(one.rows, key=lambda row: row["Timestamp"].ticks)


def test_administrators_run_every_choice_of_three() -> None:
    sets = [s for s in generate(1, 1) if s.name.startswith("modelled, three")]
    assert len(sets) == 3
    for one in sets:
        assert len({row["DeviceName"] for row in one.rows}) == 364


@pytest.mark.engine
def test_the_burst_hunt_meets_its_aims_on_a_seed_of_its_own() -> None:
    """Another seed than that of the recorded evidence, so that nothing is tuned to it."""
    sets = generate(20261124, 4)
    (one,) = evaluate(Catalog().find("qakbot-recon-burst"), sets, seed=7, repeats=4, losses=(40,))
    assert all(share.found == share.tried for share in one.recall().values())
    assert {rendering for rendering, _ in one.recall()} == set(RENDERINGS)
    assert [a for s in one.sets for a in s.alerts if not a.true] == []
    lost = one.losses["direct", "generated", 40]
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


def some_document() -> dict[str, Any]:
    loaded = [evidence_of(hunt) for hunt in Catalog().find_all(["qakbot"])]
    return joined([part for part in loaded if part])


@pytest.mark.parametrize("name", QAKBOT)
def test_every_hunt_of_the_set_has_evidence_of_its_text_as_it_stands(name: str) -> None:
    (hunt,) = Catalog().find(name)
    found = evidence_of(hunt)
    assert found is not None, "run 'qakhunt evaluate --record'"
    assert is_of(found, hunt), "its query changed since: run 'qakhunt evaluate --record'"
    assert found["hunts"][0]["limits"] == list(hunt.notes.limits)


def test_the_readmes_table_is_the_recorded_evidence() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert replace_block(readme, markdown(some_document())) == readme


def test_recorded_aims_of_the_burst_hunt() -> None:
    """What the README may say of it; a change of the data or the hunt shows here."""
    found = evidence_of(Catalog().find("qakbot-recon-burst")[0])
    assert found is not None
    hunt = found["hunts"][0]
    assert {name: share.value for name, share in recall_of(hunt).items()} == dict.fromkeys(
        sorted(RENDERINGS), 1.0
    )
    assert (recall_of(hunt, loss=40)["direct"].value or 0) >= 0.95
    assert [s["name"] for s in hunt["sets"] if s["false_alerts"]] == []


def test_a_page_without_a_place_for_the_table() -> None:
    with pytest.raises(UsageError, match="no place for the evidence"):
        replace_block("# A page\n", "table")


@pytest.mark.engine
def test_the_command_measures_what_it_wrote(tmp_path: Path) -> None:
    two(tmp_path)
    sets = tmp_path / "sets"
    wrote = qakhunt("evaluate", "--generated", "1", "--write-sets", str(sets))
    assert wrote.code == 0, wrote.err
    done = qakhunt(
        "evaluate", str(tmp_path / "two.kql"), "--labelled", str(sets), "--generated", "0",
        "--repeats", "1", "--now", "2026-11-24", "--json", "--record",
    )  # fmt: skip
    assert done.code == 0, done.err
    whole = json.loads(done.out)
    assert whole["schema"] == "qakhunt.evaluate/1"
    assert whole["date"] == "2026-11-24"
    recall = recall_of(whole["hunts"][0])
    assert {name: (share.found, share.tried) for name, share in recall.items()} == dict.fromkeys(
        RENDERINGS, (1, 1)
    )
    recorded = json.loads((tmp_path / "evidence" / "two.json").read_text(encoding="utf-8"))
    assert recorded["hunts"] == whole["hunts"]
    shown = qakhunt("hunts", "show", str(tmp_path / "two.kql"))
    assert "measured 2026-11-24" in shown.out
    nothing = qakhunt("evaluate", "--generated", "0")
    assert (nothing.code, len(nothing.error_lines)) == (2, 1)


@pytest.mark.engine
def test_a_document_names_its_data(tmp_path: Path) -> None:
    sets = [labelled("positive", "qakbot", rows("a", 0, 7), rendering="direct")]
    evidence = evaluate([two(tmp_path)], sets, seed=3, repeats=2, losses=(50,))
    whole = document(evidence, sets, now=NOW, seed=3, repeats=2)
    assert (whole["seed"], whole["data"][0]["name"], whole["data"][0]["bursts"]) == (
        3,
        "positive",
        1,
    )
    text = markdown(whole)
    assert "| `two` | 100 % | - |" in text
    assert "Measured 2026-11-24" in text
    assert "positive (a test)" in text
