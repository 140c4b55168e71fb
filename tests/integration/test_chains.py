"""Published execution chains, S0650's technique list, and stages on one device."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from qakhunt.answers.cells import to_json_line
from qakhunt.hunts.attack import attack
from qakhunt.hunts.catalog import Catalog
from qakhunt.kql.values import Instant, Timespan
from qakhunt.reports.software import coverage_of, lists
from qakhunt.testing.chains import DELIVERY, FILES, chain_sets, chains_of, rows_of
from qakhunt.testing.evaluation import evaluate
from qakhunt.testing.labelled import load_labelled
from tests.conftest import ROOT
from tests.golden.s0650 import CASE_RULES, NOT_COUNTED, RULES, SEQUENCE_RULES, found_by_rules
from tests.support.cli import qakhunt

S0650 = Catalog().find_all(["s0650"])
AT = Instant.parse("2026-10-14T08:00:00Z")


def test_the_held_back_chains_are_those_that_were_committed_before_the_first_hunt_for_them() -> (
    None
):
    data = ROOT / "qakhunt" / "data"
    committed = (data / "chains_held_back.sha256").read_text(encoding="utf-8").split()[0]
    assert hashlib.sha256((data / "chains_held_back.yaml").read_bytes()).hexdigest() == committed


def test_there_are_enough_chains_and_a_third_is_held_back() -> None:
    tuning, held = (chains_of(name) for name in FILES)
    assert len(tuning.chains) + len(held.chains) >= 60
    assert len(held.chains) * 2 == len(tuning.chains)
    assert not tuning.chains.keys() & held.chains.keys()
    assert all(c.source and c.steps for c in (*tuning.chains.values(), *held.chains.values()))


def test_a_chain_is_recorded_as_defender_records_processes() -> None:
    chain = chains_of("chains.yaml").chains["2022-10-11-bb"]
    rows = rows_of("pc1", chain, AT)
    assert [(r["FileName"], r["InitiatingProcessFileName"]) for r in rows] == [
        ("cmd.exe", "explorer.exe"), ("reg.exe", "cmd.exe"), ("wermgr.exe", "reg.exe"),
    ]  # fmt: skip
    assert rows[1]["ProcessCommandLine"] == "reg.exe  diversely\\coercible.dat"
    assert rows[1]["ProcessVersionInfoOriginalFileName"] == "REGSVR32.EXE"
    assert rows[2]["InitiatingProcessFolderPath"] == "c:\\users\\public\\reg.exe"


@pytest.mark.engine
def test_chains_are_found_and_the_held_back_ones_too() -> None:
    """Most by delivery alone, as evidence counts it, and all by some hunt on processes."""
    names = ("delivery-chain", "injection", "persistence", "process-execution")
    hunts = [
        replace(hunt, notes=msgspec.structs.replace(hunt.notes, behaviour=DELIVERY))
        for hunt in Catalog().find_all([f"qakbot-{name}" for name in names])
    ]
    evidence = evaluate(hunts, list(chain_sets()), seed=1, repeats=1, losses=())
    for split in ("tuning", "held-back"):
        shares = evidence[0].recall(split).values()
        assert sum(s.found for s in shares) >= 0.85 * sum(s.tried for s in shares) > 0
        outcomes = [o for e in evidence for o in e.sets if o.source.split == split]
        found = {hit.device for o in outcomes for hit in o.alerts if hit not in o.false_alerts}
        assert len(found) == sum(s.tried for s in shares)


@pytest.mark.engine
def test_the_captured_benign_sets_raise_no_alert_of_any_hunt(shared_data: Path) -> None:
    """Eight seconds: the one look that every hunt of the set takes at real benign records."""
    sets = [one for one in load_labelled(shared_data) if one.label == "benign"]
    evidence = evaluate(S0650, sets, seed=1, repeats=1, losses=())
    assert {o.source.origin for e in evidence for o in e.sets} == {"captured"}
    assert [(e.hunt.name, o.source.name) for e in evidence for o in e.sets if o.alerts] == []


def test_the_list_is_att_and_cks_own_and_every_gap_has_a_reason() -> None:
    listed = coverage_of("s0650", Catalog().all())
    assert (listed.id, listed.version) == ("S0650", attack().version)
    assert len(listed.techniques) == 71
    assert listed.hunted >= 15
    assert [t.id for t in listed.techniques if t.id not in attack().techniques] == []
    assert [t.id for t in listed.techniques if t.gap == "no hunt names it"] == []
    hunted = {t.id for t in listed.techniques if t.hunts}
    entries = lists().software["S0650"].techniques
    assert [t for t, entry in entries.items() if entry.gap and t in hunted] == []


def test_coverage_shows_the_list_beside_the_hunts() -> None:
    shown = qakhunt("hunts", "coverage", "--software", "S0650")
    assert shown.code == 0, shown.err
    assert "QakBot, ATT&CK 18.1:" in shown.out
    told = json.loads(qakhunt("hunts", "coverage", "--software", "S0650", "--json").out)
    by_id = {t["id"]: t for t in told["software"]["techniques"]}
    assert by_id["T1218.011"]["hunts"] == ["qakbot-delivery-chain", "qakbot-follow-up"]
    assert by_id["T1185"] == {
        "id": "T1185", "name": "Browser Session Hijacking", "hunts": [], "table": "none",
        "gap": "web injects happen inside the browser", "closest_public_rule": None,
    }  # fmt: skip
    unknown = qakhunt("hunts", "coverage", "--software", "S1")
    assert unknown.code == 2
    assert "hint: known: S0650" in unknown.err


def test_public_rules_find_fewer_of_the_same_chains() -> None:
    """The numbers of docs/reference/s0650.md; each rule's condition is retold in Python."""
    tuning, held = (found_by_rules(chains_of(name)) for name in FILES)
    assert set(tuning) == set(held) == set(RULES)
    assert len(set().union(*tuning.values())) < 0.85 * len(chains_of(FILES[0]).chains)


def test_the_public_rule_of_each_hunted_technique_is_counted_or_the_reason_is_given() -> None:
    counted = {
        *RULES,
        *SEQUENCE_RULES,
        *NOT_COUNTED,
        *(r for of in CASE_RULES.values() for r in of),
    }
    techniques = coverage_of("s0650", Catalog().all()).techniques
    named = {t.id: (t.closest or "").split(", ") for t in techniques if t.hunts}
    # A name of the page may have a prefix alone, or words of what was counted behind it.
    known = {rule.partition(" (")[0].rpartition(" ")[2] for rule in counted}
    assert {
        t: n for t, names in named.items() for n in names if n.split(" ")[-1] not in known
    } == {}


def story(folder: Path) -> Path:
    """A chain, then twenty minutes later the burst of the process that it injected."""
    rows = rows_of("pc1.example", chains_of("chains.yaml").chains["2022-10-11-bb"], AT)
    host = rows[-1]
    made: list[dict[str, Any]] = list(rows)
    for number, line in enumerate(
        ["net view", "cmd /c set", "arp -a", "ipconfig /all", "whoami /all"]
    ):
        at = AT + Timespan.parse(f"{1200 + number}s")
        made.append(
            {
                **host, "Timestamp": at, "ProcessCreationTime": at, "ProcessId": 9000 + number,
                "FileName": f"{line.split()[0]}.exe", "ProcessCommandLine": line,
                "AccountName": "SYSTEM", "InitiatingProcessFileName": "wermgr.exe",
                "InitiatingProcessCommandLine": "wermgr.exe",
                "InitiatingProcessId": host["ProcessId"],
            }
        )  # fmt: skip
    path = folder / "DeviceProcessEvents.ndjson"
    path.write_text("".join(f"{to_json_line(row)}\n" for row in made), encoding="utf-8")
    return path


@pytest.mark.engine
def test_triage_joins_what_hunts_saw_on_one_device_across_accounts(tmp_path: Path) -> None:
    result = tmp_path / "r.json"
    done = qakhunt(
        "run", "qakbot-delivery-chain", "qakbot-recon-burst", "--backend", "local", "--events",
        str(story(tmp_path)), "--window", "2026-10-13/2026-10-16", "--now", "2026-11-05",
        "--out", str(result), "--quiet",
    )  # fmt: skip
    assert done.code == 0, done.err
    shown = qakhunt("triage", str(result), "--quiet")
    assert shown.code == 0, shown.err
    assert shown.out.count("On this device") == 2
    assert "steps on this device within a day: library loaded as delivery chains do" in " ".join(
        shown.out.split()
    )
    assert "+19 m 58 s    hit 2  burst of discovery commands" in shown.out
    assert shown.out.count("Consistent with Qakbot") == 2
    for name in ("r.md", "r.html"):
        report = tmp_path / name
        assert qakhunt("report", str(result), "--out", str(report), "--quiet").code == 0
        assert report.read_text(encoding="utf-8").count("On this device, within a day") == 2
