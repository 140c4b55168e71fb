"""Comparison, sweep and mutants: what a change does, told by the events."""

from __future__ import annotations

import json
import multiprocessing
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from qakhunt.__main__ import run
from qakhunt.core.errors import EngineError
from qakhunt.hunts.catalog import Catalog
from qakhunt.testing import mutation
from qakhunt.testing.cases import load_suite
from qakhunt.testing.mutation import mutants, mutate
from qakhunt.testing.sweep import values_of
from tests.support.events import FOUR, MISSION, event, write_ndjson

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.engine

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def events(tmp_path: Path) -> Path:
    """One device over the threshold, one at it, one that only ignoring case finds."""
    records = [event(line, DeviceName="over", ProcessId=i) for i, line in enumerate(FOUR)]
    records += [event(line, DeviceName="at") for line in FOUR[:3]]
    records += [event(line.upper(), DeviceName="upper") for line in FOUR]
    return write_ndjson(tmp_path / "events.ndjson", records)


@pytest.fixture
def changed(tmp_path: Path) -> Callable[..., Path]:
    def change(old: str, new: str) -> Path:
        text = Path(Catalog().find(MISSION)[0].path).read_text(encoding="utf-8")
        assert old in text
        path = tmp_path / "changed.yaml"
        path.write_text(text.replace(old, new), encoding="utf-8")
        return path

    return change


def diff(capsys: Capture, *arguments: object) -> tuple[int, dict[str, Any]]:
    code = run(["diff", *map(str, arguments), "--json"])
    return code, json.loads(capsys.readouterr().out)


def lines(hit: dict[str, Any]) -> list[tuple[str, str]]:
    return [(e["counted_by"], e["cells"]["ProcessCommandLine"]) for e in hit["events"]]


def test_the_same_query_is_the_same(events: Path, capsys: Capture) -> None:
    code, document = diff(capsys, MISSION, MISSION, "--events", events)
    assert code == 0
    assert not document["differs"]
    assert document["counts"]["same"] == 1


def test_another_operator_gains_a_hit_by_events_that_only_it_counts(
    events: Path, changed: Callable[..., Path], capsys: Capture
) -> None:
    path = changed("in (QakBotCommands)", "in~ (QakBotCommands)")
    code, document = diff(capsys, MISSION, path, "--events", events)
    assert code == 10
    assert document["schema"] == "qakhunt.diff/1"
    assert document["counts"] == {
        "old": 1, "new": 2, "gained": 1, "lost": 0, "changed": 0, "same": 1,
    }  # fmt: skip
    (gained,) = document["gained"]
    assert gained["device"] == "upper"
    assert sorted(lines(gained)) == sorted(("new", line.upper()) for line in FOUR)


def test_a_hunt_that_filters_on_time_itself_looks_no_further(
    events: Path, tmp_path: Path, capsys: Capture
) -> None:
    """The events reach back further than it looks."""
    old = event("whoami", DeviceName="over", TimeGenerated="2026-05-01T00:00:00Z")
    write_ndjson(tmp_path / "old.ndjson", [old])
    for name, least in (("one", 1), ("two", 9)):
        (tmp_path / f"{name}.kql").write_text(
            "DeviceProcessEvents | where TimeGenerated > ago(30d)"
            f" | summarize n = count() by DeviceName | where n > {least}"
        )
    sides = tmp_path / "one.kql", tmp_path / "two.kql"
    inputs = ("--events", events, "--events", tmp_path / "old.ndjson")
    code, document = diff(capsys, *sides, *inputs)
    assert code == 10
    assert document["counts"]["lost"] == 3
    assert run(["diff", *map(str, [*sides, *inputs]), "--window", "2026-04-01/2026-11-01"]) == 10
    assert "3 lost" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [("1", "true", 10), ("dynamic([1])", "dynamic([true])", 10), ("real(nan)", "real(nan)", 0)],
)
def test_values_are_compared_by_kind(
    events: Path, tmp_path: Path, capsys: Capture, old: str, new: str, code: int
) -> None:
    for name, value in (("old", old), ("new", new)):
        (tmp_path / f"{name}.kql").write_text(
            "DeviceProcessEvents | where TimeGenerated > datetime(2026-01-01)"
            f" | summarize n = count() by DeviceName | extend x = {value}"
        )
    now = ("--now", "2026-11-05T00:00:00Z")
    sides = tmp_path / "old.kql", tmp_path / "new.kql"
    found, document = diff(capsys, *sides, "--events", events, *now)
    assert (found, document["differs"]) == (code, code == 10)


def test_one_entry_less_changes_or_loses_hits(
    events: Path, changed: Callable[..., Path], capsys: Capture
) -> None:
    path = changed("'net view', ", "")
    code, document = diff(capsys, MISSION, path, "--set", "Threshold=2", "--events", events)
    assert code == 10
    assert [hit["device"] for hit in document["lost"]] == ["at"]
    (only,) = document["changed"]
    assert only["old"]["device"] == "over"
    assert only["cells"]["TotalUniqueCommandsFound"] == {"old": 4, "new": 3}
    assert ("old", "net view") in lines(only)
    assert sum(who == "both" for who, _ in lines(only)) == 3


def test_a_parameter_set_is_a_side(events: Path, capsys: Capture) -> None:
    code, document = diff(capsys, MISSION, "--set-new", "Threshold=2", "--events", events)
    assert code == 10
    assert [hit["device"] for hit in document["gained"]] == ["at"]
    assert {who for who, _ in lines(document["gained"][0])} == {"both"}
    assert document["new"]["parameters"]["Threshold"] == 2


def test_a_column_more_is_a_difference_of_its_own(
    events: Path, changed: Callable[..., Path], capsys: Capture
) -> None:
    path = changed("LastSeen = max", "Latest = max")
    code, document = diff(capsys, MISSION, path, "--events", events)
    assert code == 10
    assert document["columns"] == {"added": ["Latest"], "removed": ["LastSeen"]}
    assert document["counts"]["same"] == 1


def test_hunts_without_an_aggregation_have_their_rows_for_events(
    tmp_path: Path, events: Path, capsys: Capture
) -> None:
    query = "DeviceProcessEvents | where TimeGenerated > ago(30d) | where ProcessCommandLine {}"
    for name, test in (("a", "== 'net view'"), ("b", "=~ 'net view'")):
        (tmp_path / f"{name}.kql").write_text(query.format(test), encoding="utf-8")
    code, document = diff(capsys, tmp_path / "a.kql", tmp_path / "b.kql", "--events", events)
    assert code == 10
    assert [hit["device"] for hit in document["gained"]] == ["upper"]
    assert lines(document["gained"][0]) == [("new", "NET VIEW")]


def test_a_git_revision_is_a_side(
    tmp_path: Path, events: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def git(*arguments: str) -> None:
        subprocess.run(
            ["git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments],
            cwd=tmp_path, check=True, capture_output=True,
        )  # fmt: skip

    text = Path(Catalog().find(MISSION)[0].path).read_text(encoding="utf-8")
    path = tmp_path / "queries" / "x.yaml"
    path.parent.mkdir()
    path.write_text(text, encoding="utf-8")
    git("init", "-q")
    git("add", "queries")
    git("commit", "-qm", "one")
    path.write_text(text.replace("let Threshold = 3", "let Threshold = 2"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    code, document = diff(capsys, "HEAD:queries/x.yaml", "queries/x.yaml", "--events", events)
    assert code == 10
    assert [hit["device"] for hit in document["gained"]] == ["at"]
    assert document["old"]["path"] == "HEAD:queries/x.yaml"
    assert run(["diff", "HEAD:nothing.yaml", "queries/x.yaml", "--events", str(events)]) == 2
    assert "HEAD:nothing.yaml" in capsys.readouterr().err
    assert run(["diff", "--events", str(events), "--", "--output=x:y", "queries/x.yaml"]) == 2
    assert not (tmp_path / "x:y").exists()


def test_text_and_markdown_show_hostile_text_harmless(tmp_path: Path, capsys: Capture) -> None:
    name = "pc\x1b[31m<img src=x>|`"
    path = write_ndjson(tmp_path / "e.ndjson", [event(line, DeviceName=name) for line in FOUR[:3]])
    for format_ in ("text", "markdown"):
        arguments = ["diff", MISSION, "--set-new", "Threshold=2", "--events", str(path)]
        assert run([*arguments, "--format", format_]) == 10
        out = capsys.readouterr().out
        assert "\x1b" not in out
        assert "1 gained" in out
    assert "<img" not in out.replace("\\<", "")
    assert "\\|" in out


def test_records_that_cannot_tell_are_no_sameness(
    events: Path, tmp_path: Path, capsys: Capture
) -> None:
    empty = ["--events", str(events), "--window", "2020-01-01/2020-02-01"]
    code, document = diff(capsys, MISSION, MISSION, *empty)
    assert code == 4
    assert "no record of DeviceProcessEvents" in document["unknown"][0]
    assert run(["sweep", MISSION, "--set", "Threshold=1..2", *empty]) == 4
    assert "no record of DeviceProcessEvents" in capsys.readouterr().err
    query = "union DeviceProcessEvents, DeviceFileEvents | where TimeGenerated > ago(30d) | count"
    for name in ("a", "b"):
        (tmp_path / f"{name}.kql").write_text(query, encoding="utf-8")
    code, document = diff(capsys, tmp_path / "a.kql", tmp_path / "b.kql", "--events", events)
    assert code == 4
    assert "DeviceFileEvents" in document["unknown"][0]


@pytest.fixture
def recording(events: Path, tmp_path: Path, capsys: Capture) -> Path:
    path = tmp_path / "recording"
    code = run([
        "record", MISSION, "--events", str(events), "--now", "2026-11-05T09:00:00Z",
        "--window", "2026-10-01/2026-11-01", "--source-rows", "--out", str(path),
        "--key", str(tmp_path / "key"),
    ])  # fmt: skip
    assert code == 0
    capsys.readouterr()
    return path


def test_a_recording_tells_what_its_filter_let_through(
    recording: Path, changed: Callable[..., Path], capsys: Capture
) -> None:
    code, document = diff(capsys, MISSION, MISSION, "--recording", recording)
    assert code == 0
    assert document["counts"]["same"] == 1
    assert document["now"] == "2026-11-05T09:00:00.0000000Z"
    arguments = (MISSION, "--set-new", "Threshold=2", "--recording", recording)
    code, document = diff(capsys, *arguments)
    assert code == 10
    assert document["counts"]["gained"] == 1
    assert document["unknown"] == []
    path = changed("in (QakBotCommands)", "in~ (QakBotCommands)")
    code, document = diff(capsys, MISSION, path, "--recording", recording)
    assert code == 4
    assert "outside the recorded filter" in document["unknown"][0]
    assert run(["sweep", MISSION, "--set", "Threshold=2..3", "--recording", str(recording)]) == 0


def test_a_recording_and_other_records_exclude_each_other(
    recording: Path, events: Path, capsys: Capture
) -> None:
    arguments = ["diff", MISSION, MISSION, "--recording", str(recording)]
    assert run([*arguments, "--events", str(events)]) == 2
    assert "exclude each other" in capsys.readouterr().err
    assert run([*arguments, "--dialect", "defender"]) == 2
    assert "no source rows of defender" in capsys.readouterr().err


def test_nothing_to_compare_is_a_mistake(capsys: Capture) -> None:
    assert run(["diff", MISSION]) == 2
    assert "nothing to compare" in capsys.readouterr().err


def test_sweep_counts_hits_for_each_value(events: Path, capsys: Capture) -> None:
    arguments = ["sweep", MISSION, "--set", "Threshold=1..5", "--events", str(events)]
    assert run([*arguments, "--json"]) == 0
    points = json.loads(capsys.readouterr().out)["points"]
    assert [(p["value"], p["hits"]) for p in points] == [(1, 2), (2, 2), (3, 1), (4, 0), (5, 0)]
    assert [p["value"] for p in points if p["is_default"]] == [3]
    assert run(arguments) == 0
    rows = capsys.readouterr().out.splitlines()
    bars = [row.count("\u2588") + row.count("#") for row in rows[1:]]
    assert bars[0] == bars[1] > bars[2] > 0
    assert bars[3:] == [0, 0]
    assert rows[3].endswith("(own)")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1..4", [1, 2, 3, 4]),
        ("0..10..5", [0, 5, 10]),
        ("3,1", [3, 1]),
        ("4..1", None),
        ("1..x", None),
        ("0..99999", None),
    ],
)
def test_what_a_sweep_can_name(text: str, expected: list[int] | None) -> None:
    from qakhunt.core.errors import UsageError

    hunt = Catalog().find(MISSION)[0]
    if expected is None:
        with pytest.raises(UsageError):
            values_of(hunt, "Threshold", text)
    else:
        assert values_of(hunt, "Threshold", text) == expected


HUNT = """\
name: Small
query: |
  let Names = dynamic(["a", "b"]);
  let Least = 2;
  let Start = ago(1d);
  let End = now();
  DeviceProcessEvents
  | where TimeGenerated >= Start and TimeGenerated < End
  | where FileName in (Names)
  | summarize Total = count() by DeviceName, AccountName
  | where Total >= Least
qakhunt:
  window: {start: Start, end: End}
"""
STRONG = """\
fill: {DeviceProcessEvents: {DeviceName: x, AccountName: y}}
cases:
  - name: two fire
    tables: {DeviceProcessEvents: [each: {FileName: [a, b, c, B]}]}
    expect: {rows: [{DeviceName: x, AccountName: y, Total: 2}]}
  - {name: one is silent, tables: {DeviceProcessEvents: [FileName: a]}, expect: {none: true}}
  - name: devices and accounts stand alone
    tables:
      DeviceProcessEvents:
        - {FileName: a}
        - {FileName: a, DeviceName: z}
        - {FileName: a, AccountName: z}
    expect: {none: true}
  - name: the start is in, the end is not
    tables:
      DeviceProcessEvents:
        - {FileName: a, TimeGenerated: start-1s}
        - {FileName: a, TimeGenerated: start}
        - {FileName: a, TimeGenerated: end-1s}
        - {FileName: a, TimeGenerated: end}
    expect: {rows: [{Total: 2}]}
"""


@pytest.fixture
def small(tmp_path: Path) -> Callable[[str], Path]:
    def write(cases: str) -> Path:
        (tmp_path / "tests").mkdir(exist_ok=True)
        (tmp_path / "small.yaml").write_text(HUNT, encoding="utf-8")
        path = tmp_path / "tests" / "small.yaml"
        path.write_text(cases, encoding="utf-8")
        return path

    return write


def test_mutants_are_of_every_kind(small: Callable[[str], Path]) -> None:
    suite = load_suite(small(STRONG), Catalog())
    words = [mutant.description for mutant in mutants(suite.hunt)]
    for expected in (
        'entry "a" dropped', "2 -> 3", "2 -> 1", ">= -> > in", "and -> or", "in -> in~",
        "filter dropped: | where FileName", "grouping by DeviceName dropped",
        "the window begins a second earlier", "the window ends a second later",
    ):  # fmt: skip
        assert any(expected in text for text in words), expected
    lines = {mutant.location.line for mutant in mutants(suite.hunt)}
    assert lines == {3, 4, 5, 6, 8, 9, 10, 11}


def test_strong_cases_kill_every_mutant_and_weak_ones_do_not(
    small: Callable[[str], Path], capsys: Capture
) -> None:
    strong = mutate(load_suite(small(STRONG), Catalog()))
    assert [fate.mutant.description for fate in strong.results if fate.is_gap] == []
    weak = STRONG.partition("  - {name: one is silent")[0]
    path = small(weak)
    assert run(["test", str(path), "--mutate"]) == 1
    out = capsys.readouterr().out
    survivors = [line for line in out.splitlines() if line.startswith("SURVIVED")]
    assert any("2 -> 1 in let Least = 2" in line or "2 -> 1 in" in line for line in survivors)
    assert all("small.yaml:" in line for line in survivors)
    assert any("the window begins a second earlier" in line for line in survivors)


def test_several_processes_find_what_one_finds(
    small: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    suite = load_suite(small(STRONG.partition("  - {name: one is silent")[0]), Catalog())
    alone = mutate(suite)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(mutation, "WORTH_A_PROCESS", 1)
    shared = mutate(suite)
    assert [(f.mutant, f.is_gap) for f in shared.results] == [
        (f.mutant, f.is_gap) for f in alone.results
    ]
    assert {f.is_gap for f in shared.results} == {True, False}
    interrupted = mutation.killing_cases(suite, mutants(suite.hunt))
    next(interrupted)
    assert list(temporary.iterdir())
    interrupted.close()
    assert not list(temporary.iterdir())


def test_a_case_that_cannot_run_kills_no_mutant(
    small: Callable[[str], Path], capsys: Capture
) -> None:
    path = small("cases:\n  - {name: it, products: [defender], expect: {none: true}}\n")
    hunt = path.parent.parent / "small.yaml"
    hunt.write_text(HUNT.replace("DeviceProcessEvents", "Syslog"), encoding="utf-8")
    assert run(["test", str(path), "--mutate"]) == 1
    assert " 0 killed, 0 explained, " in capsys.readouterr().out
    assert run(["test", str(path)]) == 1
    told = capsys.readouterr()
    assert "1 skipped" in told.out
    assert "error: no case could run" in told.err


def test_a_worker_that_dies_is_no_verdict(
    small: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = load_suite(small(STRONG), Catalog())
    monkeypatch.setattr(mutation, "WORTH_A_PROCESS", 1)
    found = mutation.killing_cases(suite, mutants(suite.hunt))
    next(found)
    for child in multiprocessing.active_children():
        child.kill()
    with pytest.raises(EngineError, match="ended"):
        list(found)
    assert not multiprocessing.active_children()


def test_an_explained_survivor_passes_and_an_idle_explanation_does_not(
    small: Callable[[str], Path], capsys: Capture
) -> None:
    weak = STRONG.replace("        - {FileName: a, TimeGenerated: end}\n", "")
    found = mutate(load_suite(small(weak), Catalog()))
    gaps = [fate.mutant.description for fate in found.results if fate.is_gap]
    assert "the window ends a second later" in gaps
    entries = [{"mutant": name, "reason": "nothing comes later"} for name in gaps]
    assert run(["test", str(small(weak + f"survivors: {json.dumps(entries)}\n")), "--mutate"]) == 0
    assert "nothing comes later" in capsys.readouterr().out
    every = [{"mutant": "*", "reason": "all of them"}]
    assert run(["test", str(small(weak + f"survivors: {json.dumps(every)}\n")), "--mutate"]) == 0
    idle = STRONG + "survivors:\n  - {mutant: grouping by DeviceName dropped, reason: why}\n"
    assert run(["test", str(small(idle)), "--mutate"]) == 1
    assert "no survivor is called" in capsys.readouterr().out


def test_no_change_to_the_published_rule_goes_unnoticed(capsys: Capture) -> None:
    assert run(["test", MISSION, "--mutate", "--json"]) == 0
    (hunt,) = json.loads(capsys.readouterr().out)["hunts"]
    assert len(hunt["mutants"]) > 20
    assert all(m["killed_by"] or m["explained"] for m in hunt["mutants"])
