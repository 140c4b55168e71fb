"""One episode on one device is one finding, in every place that reports it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

from qakhunt.__main__ import run as qakhunt
from qakhunt.answers.findings import EPISODE_GAP, findings_of
from qakhunt.answers.hits import Hit
from qakhunt.answers.run_document import json_schema, load_result
from qakhunt.hunts.catalog import Catalog
from qakhunt.hunts.model import highest_severity
from qakhunt.kql.values import TICK, Instant, Timespan
from qakhunt.reports.details import ExportOptions
from qakhunt.reports.formats import FORMATS, export_bytes
from qakhunt.run.sample import sample_events
from qakhunt.schedule.findings import (
    FindingState,
    Known,
    ReportedFinding,
    finding_document,
    judge,
    reported_findings,
)
from qakhunt.schedule.store_file import open_file, read_file
from tests.support.findings import NOW, hunt, make_hit, make_result

VERSION_1 = Path(__file__).parents[1] / "support" / "state_version_1.db"
HUNTS = ("qakbot-post-compromise-commands", "qakbot-recon-burst", "qakbot-recon-injected-parent")
BURST = "qakbot-recon-burst"
MONTH = Timespan.parse("30d")
BY_NAME = {hunt().name: hunt(), BURST: Catalog().find(BURST)[0]}


def hit_at(
    first: str, last: str | None = None, *, name: str | None = None, device: str = "ws-01"
) -> Hit:
    made = make_hit(device)
    end = Instant.parse(last) if last else None
    return replace(
        made, hunt=name or made.hunt, first_seen=Instant.parse(first), last_seen=end,
        cells=(device, made.account, [first], 4),
    )  # fmt: skip


def test_an_episode_ends_where_nothing_follows_for_longer_than_the_gap() -> None:
    first = hit_at("2026-10-14T09:00:00Z", "2026-10-14T09:10:00Z")
    end = Instant.parse("2026-10-14T09:10:00Z") + EPISODE_GAP
    inside, outside = replace(first, first_seen=end), replace(first, first_seen=end + TICK)
    assert [f.positions for f in findings_of([inside, first], BY_NAME)] == [(1, 0)]
    apart = findings_of([first, outside], BY_NAME)
    assert [f.positions for f in apart] == [(0,), (1,)]
    # The hunt says that both are the same; in one result they are still told apart.
    assert apart[0].fingerprint == apart[1].fingerprint
    assert apart[0].id != apart[1].id


def test_devices_accounts_and_customers_are_never_one_finding() -> None:
    one = hit_at("2026-10-14T09:00:00Z")
    others = [
        replace(one, device="ws-02"), replace(one, account="b"), replace(one, tenant="other"),
        replace(one, device=None), replace(one, first_seen=None),
    ]  # fmt: skip
    assert len(findings_of([one, *others], BY_NAME)) == 6
    assert len(findings_of([one, replace(one, device="WS-01", hunt=BURST)], BY_NAME)) == 1


def test_the_json_names_each_finding_and_reads_it_back(tmp_path: Path) -> None:
    hits = [hit_at("2026-10-14T09:12:03Z"), hit_at("2026-10-20T00:00:00Z", device="ws-02"),
            hit_at("2026-10-14T09:12:00Z", "2026-10-14T09:13:00Z")]  # fmt: skip
    path = tmp_path / "run.json"
    path.write_bytes(export_bytes(make_result(hits), FORMATS["json"], ExportOptions()))
    document = json.loads(path.read_text())
    jsonschema.validate(document, json_schema())
    first, second = document["findings"]
    assert (first["hits"], first["device"], first["account"]) == ([2, 0], "ws-01", "a.moreau")
    assert first["severity"] == "High"
    assert first["start"].startswith("2026-10-14T09:12:00")
    assert first["end"].startswith("2026-10-14T09:13:00")
    assert (second["hits"], second["hunts"]) == ([1], [hunt().name])
    assert {f["assessment"]["kind"] for f in (first, second)} == {"cannot_tell"}
    again = json.loads(export_bytes(load_result(path), FORMATS["json"], ExportOptions()))
    assert again["findings"] == document["findings"]


def test_the_chat_has_one_line_for_what_several_hunts_find() -> None:
    hits = [hit_at("2026-10-14T09:12:03Z"), hit_at("2026-10-14T09:12:00Z", name=BURST)]
    text = export_bytes(make_result(hits), FORMATS["chat"], ExportOptions()).decode()
    assert text.count("ws-01") == 1
    assert "2 hunts agree" in text


def judged(
    hits: list[Hit], known: dict[str, Known]
) -> tuple[list[ReportedFinding], dict[str, Known]]:
    found = list(
        judge(reported_findings(hits, BY_NAME), known, now=NOW, repeat_after=MONTH)
    )  # fmt: skip
    remembered = {entry.fingerprint: entry for _, entries in found for entry in entries}
    return [finding for finding, _ in found], {**known, **remembered}


def test_a_hunt_that_joins_a_finding_makes_it_grow_and_keeps_its_name() -> None:
    first = hit_at("2026-10-14T09:12:03Z")
    (new,), known = judged([first], {})
    (still,), known = judged([first], known)
    joining = hit_at("2026-10-14T09:12:00Z", name=BURST)
    (grown,), known = judged([first, joining], known)
    (settled,), known = judged([joining, first], known)
    assert [f.state for f in (new, still, grown, settled)] == [
        FindingState.NEW, FindingState.EXISTING, FindingState.CHANGED, FindingState.EXISTING,
    ]  # fmt: skip
    assert {f.fingerprint for f in (new, still, grown, settled)} == {new.fingerprint}
    document = finding_document(grown, run_id="run", now=NOW)
    assert {hunt["name"] for hunt in document["hunts"]} == {hunt().name, BURST}
    assert document["revision"] == 2


def test_a_finding_is_as_severe_as_the_severest_of_its_hunts() -> None:
    mild = replace(hunt(), severity="Low")
    by_name = {mild.name: mild, BURST: replace(BY_NAME[BURST], severity="High")}
    fuller = replace(hit_at("2026-10-14T09:12:03Z"), distinct=9)
    hits = [fuller, hit_at("2026-10-14T09:12:00Z", name=BURST)]
    (finding,) = reported_findings(hits, by_name)
    document = finding_document(finding, run_id="run", now=NOW)
    assert (document["hunt"]["severity"], document["severity"]) == ("Low", "High")
    assert highest_severity([mild, replace(mild, severity="Odd"), replace(mild, severity="")]) == (
        "Low"
    )
    assert highest_severity([replace(mild, severity="")]) == ""


def test_the_parts_of_a_finding_that_came_apart_are_both_reported() -> None:
    early = hit_at("2026-10-14T09:00:00Z", name=BURST)
    late = hit_at("2026-10-14T11:00:00Z", name=BURST)
    whole = hit_at("2026-10-14T09:00:00Z", "2026-10-14T11:00:00Z")
    (one,), known = judged([early, late, whole], {})
    more = make_hit(commands=("net view", "nltest /domain_trusts", "a", "b", "c"))
    grown = [replace(hit, commands=more.commands, distinct=9) for hit in (late, early)]
    parts, _ = judged(grown, known)
    assert [part.state for part in parts] == [FindingState.CHANGED, FindingState.CHANGED]
    assert len({part.id for part in parts}) == 2
    assert one.fingerprint in {part.fingerprint for part in parts}


@pytest.mark.engine
def test_a_state_of_version_1_is_taken_over_and_nothing_known_is_reported_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = tmp_path / "state.db"
    shutil.copy(VERSION_1, state)
    before = read_file(state)
    assert len({entry.reported_as for entry in before.known().values()}) == 3
    before.close()
    events = [path for path in sample_events() if "DeviceProcessEvents" in path]
    arguments = ["run", *HUNTS, "--events", *events, "--state", str(state), "--json", "--quiet"]
    counts = []
    for now in ("2026-11-06T09:00:00Z", "2026-11-07T09:00:00Z"):
        assert qakhunt([*arguments, "--now", now]) == 0
        document = json.loads(capsys.readouterr().out)
        counts.append(document["state"]["findings"])
        assert [set(f["hunts"]) for f in document["findings"]] == [set(HUNTS)]
    assert counts == [{"new": 0, "grown": 0, "again": 0, "known": 1}] * 2
    after = open_file(state, NOW)
    assert len(after.known()) == 3
    after.close()


@pytest.mark.engine
def test_a_new_state_counts_what_several_hunts_find_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state, out = tmp_path / "state.db", tmp_path / "out.ndjson"
    events = [path for path in sample_events() if "DeviceProcessEvents" in path]
    arguments = ["run", *HUNTS, "--events", *events, "--state", str(state), "--quiet",
                 "--sink", f"file:{out}", "--now", "2026-11-05T09:00:00Z"]  # fmt: skip
    assert qakhunt(arguments) == 0
    (told,) = map(json.loads, out.read_text().splitlines())
    assert {hunt["name"] for hunt in told["hunts"]} == set(HUNTS)
    assert (told["news"], told["rows"]) == ("new", 3)
    capsys.readouterr()
    assert qakhunt(["state", "show", str(state), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["findings"] == 1
