"""Reports for tickets, chats, spreadsheets and the Navigator, and the split per customer."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qakhunt.answers.hits import hits_of
from qakhunt.answers.ledger import DeliveryLine, Ledger, Target, Verdict
from qakhunt.answers.run_result import by_tenant
from qakhunt.answers.table import ResultTable
from qakhunt.hunts.catalog import Catalog
from qakhunt.kql.values import Window
from qakhunt.reports.chat import plain
from qakhunt.reports.details import ExportOptions, ReportDetails
from qakhunt.reports.formats import FORMATS, export_bytes
from qakhunt.reports.markdown_report import _fenced
from qakhunt.reports.navigator import coverage_layer, techniques_of
from tests.support.cli import ROOT
from tests.support.hostile import ROWS, result_of
from tests.support.triage import COLUMNS, burst, result_with, sample_result

if TYPE_CHECKING:
    from qakhunt.answers.run_result import RunResult

LAYER = json.loads(
    (ROOT / "tests" / "support" / "navigator_layer.schema.json").read_text(encoding="utf-8")
)


def exported(result: RunResult, name: str, **details: Any) -> str:
    options = ExportOptions(details=ReportDetails(**details))
    return export_bytes(result, FORMATS[name], options).decode()


# Markdown


@pytest.mark.engine
def test_markdown_holds_what_the_html_holds() -> None:
    text = exported(sample_result(), "markdown", tlp="GREEN", case="IR-7")
    for words in (
        "**TLP:GREEN**", r"Case: IR\-7", "Consistent with Qakbot", "not looked at:", "| Offset | Command |",
        "T1069\\.001 Permission Groups Discovery", "`-", "wermgr.exe (9204)", "+53.86 s", "How rare",
        "```kusto", "## Recommended next steps", "## Coverage", "## 2 findings", "## Result", "## How it was asked", "synthetic",
    ):  # fmt: skip
        assert words in text.replace("└─ ", "`-"), words


@given(st.lists(st.text(), max_size=6))
def test_a_fence_cannot_be_closed_by_what_it_holds(lines: list[str]) -> None:
    from markdown_it import MarkdownIt

    text = "\n".join(_fenced(lines)) + "\n\nafter\n"
    tokens = [token.type for token in MarkdownIt("commonmark", {"html": True}).parse(text)]
    assert tokens == ["fence", "paragraph_open", "inline", "paragraph_close"]


def test_markdown_cuts_what_stands_whole_in_the_result() -> None:
    text = exported(result_with(None, commands=["a" * 32_000]), "markdown")
    assert "32,000 characters, whole in the result below" in text.replace("\\", "")
    assert "a" * 32_000 in text


# Chat


@pytest.mark.engine
def test_the_chat_text_is_short_and_names_the_worst_first() -> None:
    result = sample_result()
    turned = replace(result, hits=result.hits[::-1], context=None)
    lines = exported(turned, "chat", tlp="RED").splitlines()
    assert lines[:3] == [
        "TLP:RED",
        "HITS: 2 hits on 2 devices",
        "(the bundled sample: synthetic events)",
    ]
    assert lines[3].startswith("2. ws-fin-042.contoso.example (a.moreau), 2026-10-14 09:12:03 UTC")
    assert len(lines) < 9


def test_hunts_with_windows_of_their_own_are_not_given_one() -> None:
    result = result_with(None)
    one = result.rendered[0]
    other = replace(one, window=Window(one.window.start, one.now))
    both = replace(result, rendered=(one, other))
    assert "each its own window" in exported(both, "chat")
    assert "each hunt in its own window" in exported(both, "navigator")
    assert "each hunt&#39;s own, under Coverage" in exported(both, "html").replace("'", "&#39;")
    assert "each its own window" not in exported(result, "chat")


def test_the_chat_text_of_many_hits_counts_the_rest() -> None:
    result = result_with(None)
    hits = [replace(hit, device=f"pc{n}") for n in range(30) for hit in result.hits]
    text = exported(replace(result, hits=hits), "chat")
    assert "... and 22 further findings" in text
    assert len(text) < 2500


def test_the_chat_text_carries_the_run_s_warnings() -> None:
    result = replace(result_with(None), warnings=["the window is not over <yet>"] * 20)
    lines = exported(result, "chat").splitlines()
    assert lines.count("warning: the window is not over \u2039yet\u203a") == 8
    assert "... and 12 further warnings" in lines


@given(st.text())
def test_no_chat_finds_a_mention_or_a_link(text: str) -> None:
    shown = plain(text)
    assert not set("@<>`") & set(shown)
    assert "](" not in shown
    assert "://" not in shown


# ATT&CK Navigator


@pytest.mark.engine
def test_the_layer_of_a_run_is_what_navigator_reads() -> None:
    document = json.loads(exported(sample_result(), "navigator"))
    jsonschema.Draft202012Validator(LAYER).validate(document)
    scores = {entry["techniqueID"]: entry["score"] for entry in document["techniques"]}
    assert scores == {"T1016": 2, "T1018": 1, "T1033": 1, "T1069.001": 1, "T1082": 1, "T1135": 2}
    assert document["gradient"]["maxValue"] == 2
    assert document["gradient"]["minValue"] < document["gradient"]["maxValue"]


@pytest.mark.parametrize("result", [result_of([]), result_of(ROWS)])
def test_any_layer_is_what_navigator_reads(result: RunResult) -> None:
    document = json.loads(exported(result, "navigator"))
    jsonschema.Draft202012Validator(LAYER).validate(document)


def test_the_layer_of_the_hunts_counts_hunts() -> None:
    hunts = Catalog().all()
    document = coverage_layer(hunts)
    jsonschema.Draft202012Validator(LAYER).validate(document)
    named = techniques_of(hunts)
    assert "qakbot-post-compromise-commands" in named["T1016"]
    scores = {entry["techniqueID"]: entry["score"] for entry in document["techniques"]}
    assert scores == {identifier: len(names) for identifier, names in named.items()}


# One file per customer


TENANTS = ("aaaaaaaa-1111-4111-8111-111111111111", "bbbbbbbb-2222-4222-8222-222222222222")


def two_customers() -> RunResult:
    parts = [
        result_with(
            burst(DeviceName=f"pc-{name}.example", AccountName=f"user-{name}"),
            device=f"pc-{name}.example", account=f"user-{name}", target=Target(f"profile-{name}", tenant, f"ws-{name}"),
        )
        for name, tenant in zip(("red", "blue"), TENANTS, strict=True)
    ]  # fmt: skip
    red, blue = parts
    assert red.context is not None
    assert blue.context is not None
    context = replace(red.context, hits={0: red.context.hits[0], 1: blue.context.hits[0]})
    hidden = [replace(hit, account=f"vouched-{hit.account}") for hit in red.hits + blue.hits]
    return replace(
        red, hits=red.hits + blue.hits, known=frozenset([1]), suppressed=2, suppressed_hits=hidden,
        deliveries=[DeliveryLine("webhook profile-blue", 1, 1)], state={"path": "profile-red"}, ledger=Ledger(red.ledger.lines + blue.ledger.lines),
        context=context, warnings=["profile-blue: copies of an event", "the window is not over"],
    )  # fmt: skip


@pytest.mark.parametrize("name", [name for name, f in FORMATS.items() if f.text])
def test_a_customers_file_names_no_other(name: str) -> None:
    parts = by_tenant(two_customers())
    assert list(parts) == list(TENANTS)
    for own, other, strange in (("red", "blue", TENANTS[1]), ("blue", "red", TENANTS[0])):
        whose = TENANTS[0] if own == "red" else TENANTS[1]
        text = exported(parts[whose], name, tenant=whose).replace("\\", "")
        for secret in (f"pc-{other}", f"user-{other}", f"profile-{other}", f"ws-{other}", strange):
            assert secret not in text, (name, secret)
        if name != "navigator":
            assert f"pc-{own}" in text
    assert [part.suppressed for part in parts.values()] == [1, 1]
    assert [part.known for part in parts.values()] == [frozenset(), frozenset([0])]
    assert parts[TENANTS[0]].warnings == ["the window is not over"]
    assert parts[TENANTS[1]].warnings == [
        "profile-blue: copies of an event",
        "the window is not over",
    ]


def test_a_customers_verdict_is_its_own() -> None:
    from qakhunt.answers.ledger import Status

    result = two_customers()
    result.ledger.lines[1] = replace(result.ledger.lines[1], status=Status.FAILED)
    red, blue = by_tenant(result).values()
    assert (red.verdict, blue.verdict) == (Verdict.HITS, Verdict.FAILED)
    assert blue.context is not None
    assert list(blue.context.hits) == [0]


def test_the_customer_is_the_profiles_never_a_columns() -> None:
    """``TenantId`` in a row is a workspace; two of them are no two customers."""
    result = result_with(None, target=Target("p", TENANTS[0]))
    rendered = result.rendered[0]
    rows = [("pc", "amy", workspace, 4, ["arp -a"], None, None, 4) for workspace in ("w1", "w2")]
    hits = hits_of(rendered.hunt, Target("p", TENANTS[0]), ResultTable(COLUMNS, rows))
    assert list(by_tenant(replace(result, hits=hits))) == [TENANTS[0]]


# Spreadsheets


def test_libreoffice_reads_the_csv_as_it_is(tmp_path: Path) -> None:
    office = shutil.which("soffice") or shutil.which("libreoffice")
    if office is None:
        pytest.skip("LibreOffice is not here")
    rows = [row for row in ROWS if not any(isinstance(c, str) and len(c) > 30_000 for c in row)]
    source = tmp_path / "out.csv"
    source.write_text(exported(result_of(rows), "csv"), encoding="utf-8", newline="")
    subprocess.run(
        [office, "--headless", f"-env:UserInstallation=file://{tmp_path}/profile", "--convert-to",
         "xlsx:Calc MS Excel 2007 XML", "--outdir", str(tmp_path), str(source)],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    import zipfile

    book = zipfile.ZipFile(tmp_path / "out.xlsx")
    sheet = book.read("xl/worksheets/sheet1.xml").decode()
    assert "<f" not in sheet  # no cell became a formula
    assert sheet.count("<row ") == len(rows) + 1
    shared = book.read("xl/sharedStrings.xml").decode()
    assert "calc" in re.sub(r"<[^>]*>", "", shared)
    names = next(csv.reader(io.StringIO(source.read_text(encoding="utf-8"))))
    assert "CommandLineList" in names
