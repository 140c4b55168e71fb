"""Triage and report on the command line, as their users run them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from qakhunt.reports.triage_console import show_triage
from qakhunt.triage.hit_report import hit_reports
from tests.support.cli import qakhunt
from tests.support.events import FOUR, event, write_ndjson
from tests.support.hostile import BAD, hostile
from tests.support.triage import (
    burst,
    hit_report_of,
    own_result,
    result_with,
    sample_document,
    sample_json,
    sample_result,
)

if TYPE_CHECKING:
    from qakhunt.answers.run_result import RunResult

pytestmark = pytest.mark.engine


def shown(result: RunResult, *, full: bool = False, width: int = 80) -> str:
    import io

    stream = io.StringIO()
    found = hit_reports(result)
    show_triage(
        found[:1] if full else found, Console(file=stream, width=width, highlight=False), full=full
    )
    return stream.getvalue()


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    path = tmp_path / "result.json"
    path.write_text(sample_json(), encoding="utf-8")
    return path


def test_eighty_columns_hold_everything() -> None:
    text = shown(sample_result())
    assert max(map(len, text.splitlines())) <= 80
    for words in (
        "Hit 1  ws-fin-042.contoso.example", "Consistent with Qakbot, as other loaders are too",
        "Not looked at:", "Commands", "+53.86 s  *  cmd /c set", "Timeline", "+54.34 s  o process",
        "5 events of other processes in 19 min", "Process tree", "wermgr.exe (9204)  [issued the commands]",
        "├─ * net view", "How rare", "Resembles inventory",
    ):  # fmt: skip
        assert words in text, words


def test_one_hit_in_full_has_its_entities_and_nothing_folded() -> None:
    text = shown(sample_result(), full=True)
    assert "of other processes" not in text
    assert "Entities" in text
    assert '| where RemoteIP == "192.0.2.191"' in text


def test_links_are_hyperlinks_where_the_terminal_has_them() -> None:
    import io

    stream = io.StringIO()
    console = Console(
        file=stream, width=80, force_terminal=True, color_system="truecolor", legacy_windows=False
    )
    show_triage(hit_reports(sample_result())[:1], console, full=True)
    text = stream.getvalue()
    assert re.search(
        r"\x1b]8;[^;]*;https://security\.microsoft\.com/machines/v2/[0-9a-f]{40}/overview\x1b", text
    )
    assert "https://attack.mitre.org/techniques/T1018/" in text
    assert "https://" not in shown(sample_result(), full=True)


def test_hostile_text_moves_no_cursor(tmp_path: Path) -> None:
    from qakhunt.answers.run_document import load_result

    path = tmp_path / "hostile.json"
    path.write_text(json.dumps(hostile(sample_document(), 9)), encoding="utf-8")
    for full in (False, True):
        text = shown(load_result(path), full=full)
        assert not re.search(
            "[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", text
        )
        assert max(map(len, text.splitlines()[:40])) <= 80


def test_a_hit_without_commands_shows_its_own_columns() -> None:
    from qakhunt.answers.table import Column

    result = own_result((Column("Verb", "string"), Column("N", "long")), [("x\x1b[1m", 7)])
    text = shown(result)
    assert "Verb  x\\x1b[1m" in text
    assert "N     7" in text


def test_very_many_hits_are_told_in_a_line_each() -> None:
    from dataclasses import replace

    result = result_with(None)
    text = shown(replace(result, hits=result.hits * 200))
    assert "175 further hits, one line each" in text
    assert text.count("pc1.example") == 200


def test_a_long_command_says_how_long_it_is() -> None:
    text = shown(result_with(burst(["a" * 32_000]), commands=["a" * 32_000]))
    assert "(32,000 characters)" in text
    assert len(text) < 8000
    assert (
        hit_report_of(burst(["a" * 32_000]), commands=["a" * 32_000]).commands[0].command.line
        == "a" * 32_000
    )


def test_the_program_triages_a_saved_result(sample: Path) -> None:
    done = qakhunt("triage", str(sample))
    assert done.code == 0
    assert done.err == ""
    assert "\x1b" not in done.out
    assert done.out.count("Process tree") == 2
    assert "HITS: 2 hits on 2 devices" in done.out
    assert "context: 9 queries: 9 complete" in done.out
    one = qakhunt("triage", str(sample), "--hit", "2")
    assert "Hit 2  srv-inv-01.tailspin.example" in one.out
    assert "Hit 1" not in one.out


def test_the_samples_context_is_fetched_where_it_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "bare.json"
    path.write_text(qakhunt("run", "--json", "-q").out, encoding="utf-8")
    assert "context" not in json.loads(path.read_text(encoding="utf-8"))
    done = qakhunt("triage", str(path), "--hit", "1")
    assert done.code == 0
    assert "Process tree" in done.out


def test_a_result_without_context_says_how_to_get_it(tmp_path: Path) -> None:
    events = write_ndjson(tmp_path / "DeviceProcessEvents.ndjson", [event(line) for line in FOUR])
    run = ("run", "--events", str(events), "--window", "2026-10-01/2026-11-01")
    path = tmp_path / "r.json"
    path.write_text(qakhunt(*run, "--json", "-q").out, encoding="utf-8")
    done = qakhunt("triage", str(path))
    assert done.code == 0
    assert "what surrounded the hit: it was not asked for" in done.out
    assert "hint: what surrounded the hits was not recorded" in done.err
    refused = qakhunt("triage", str(path), "--context", "30m")
    assert refused.code == 2
    assert "name them with --events" in refused.err
    given = qakhunt("triage", str(path), "--events", str(events))
    assert given.code == 0
    assert "Timeline" in given.out
    kept = qakhunt(
        "triage", str(path), "--events", str(events), "--out", str(tmp_path / "with.json")
    )
    assert kept.code == 0
    assert json.loads((tmp_path / "with.json").read_text(encoding="utf-8"))["context"]["hits"]


def test_run_collects_context_for_its_exports(tmp_path: Path) -> None:
    done = qakhunt(
        "run", "--context", "30m", "--context-hits", "1", "--out", str(tmp_path / "r.html")
    )
    assert done.code == 0
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Process tree" in text
    assert "what surrounded 1 hit was not asked for, only hit 1" in text
    assert "context: 10 queries: 9 complete, 1 not run" in done.err


def test_reports_are_made_of_saved_results(sample: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    arguments = ("report", str(sample), "--out", str(page), "--tlp", "amber+strict", "--case", "IR-7",
                 "--time-zone", "Australia/Perth", "--workspace-resource",
                 "/subscriptions/s/resourceGroups/r/providers/Microsoft.OperationalInsights/workspaces/soc")  # fmt: skip
    assert qakhunt(*arguments).code == 0
    text = page.read_text(encoding="utf-8")
    assert "TLP:AMBER+STRICT" in text
    assert "AWST" in text
    assert "https://portal.azure.com/#/blade/" in text
    again = qakhunt(*arguments)
    assert (again.code, again.error_lines) == (2, [f"error: {page} exists"])
    chat = qakhunt("report", str(sample), "--format", "chat")
    assert chat.out.startswith("HITS: 2 hits on 2 devices\n")
    layer = qakhunt("report", str(sample), "--format", "navigator")
    assert json.loads(layer.out)["versions"]["layer"] == "4.5"
    piped = qakhunt("report", str(sample))
    assert piped.out.startswith("<!doctype html>")


def test_a_report_for_each_customer(sample: Path, tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    missing = qakhunt("report", str(sample), "--split", "tenant", "--out", str(folder))
    assert missing.code == 2
    folder.mkdir()
    done = qakhunt("report", str(sample), "--split", "tenant", "--out", str(folder))
    assert done.out.split() == [str(folder / "result-sample.html")]
    assert qakhunt("report", str(sample), "--split", "tenant").code == 2
    assert qakhunt("report", str(sample), "--split", "device", "--out", str(folder)).code == 2


def test_a_customers_file_carries_the_profile_and_clean_ones_make_none(
    sample: Path, tmp_path: Path
) -> None:
    document = json.loads(sample.read_text(encoding="utf-8"))
    found, tenant = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
    for entry in (*document["ledger"], *document["hits"]):
        entry |= {"profile": "contoso", "tenant": found}
    document["ledger"].append({**document["ledger"][0], "profile": "fabrikam", "tenant": tenant})
    path = tmp_path / "r.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    split = ("report", str(path), "--split", "tenant", "--format", "chat", "--out", str(tmp_path))
    done = qakhunt(*split)
    assert done.out.split() == [str(tmp_path / f"r-contoso_{found}.txt")]
    assert "no file for 1 clean customer; --clean writes one for each" in done.err
    both = qakhunt(*split, "--clean", "--force")
    assert both.out.split()[1] == str(tmp_path / f"r-fabrikam_{tenant}.txt")


def test_coverage_is_a_table_and_a_layer(tmp_path: Path) -> None:
    table = qakhunt("hunts", "coverage")
    assert "T1016" in table.out
    assert "System Network Configuration Discovery" in table.out
    layer = tmp_path / "layer.json"
    assert qakhunt("hunts", "coverage", "--out", str(layer)).code == 0
    assert json.loads(layer.read_text(encoding="utf-8"))["domain"] == "enterprise-attack"
    assert qakhunt("hunts", "coverage", "--format", "xml").code == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("triage", "none.json"), "no such file: none.json"),
        (("triage", "{r}", "--hit", "3"), "--hit 3: the result has 2 hits"),
        (("triage", "{r}", "--context", "soon"), "expected a time such as 30m or 2h"),
        (("triage", "{r}", "--context", "3d"), "up to a day"),
        (("triage", "{r}", "--hit", "1", "--json"), "--hit is for the screen"),
        (("triage", "{r}", "--cloud", "moon"), "no cloud named 'moon'"),
        (("report", "{r}", "--tlp", "ambr"), "no such level"),
        (("report", "{r}", "--format", "table"), "a report is no table"),
        (("report", "{r}", "--format", "htm"), "no format named 'htm'"),
        (("report", "{r}", "--time-zone", "Mars/Base"), "no time zone named"),
        (("report", "{r}", "--workspace-resource", "x"), "not the resource id of a workspace"),
        (("report", "{r}", "--out", "nowhere/x.html"), "no such folder"),
        (("report", "{r}", "--out", "x.docx"), "no format has the suffix"),
        (("run", "--context", "-5m"), "expected"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    sample: Path, arguments: tuple[str, ...], words: str
) -> None:
    done = qakhunt(*(text.replace("{r}", str(sample)) for text in arguments), cwd=sample.parent)
    assert done.code == 2
    assert len(done.error_lines) == 1
    assert words in done.error_lines[0]
    assert "Traceback" not in done.err
    assert done.out == ""


def test_bad_text_is_really_bad() -> None:
    assert any("<script>" in text for text in BAD)
