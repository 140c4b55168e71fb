"""The HTML report: complete, self-contained, inert, legible, bounded."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import re
import socket
import threading
import time
from dataclasses import replace
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest

from qakhunt.answers.run_document import load_result
from qakhunt.answers.table import Column
from qakhunt.kql.values import Instant
from qakhunt.reports.details import ExportOptions, ReportDetails
from qakhunt.reports.formats import FORMATS, export_bytes
from tests.support.browser import elements, open_page
from tests.support.hostile import BAD, ROWS, hostile, result_of
from tests.support.triage import (
    burst,
    created,
    own_result,
    result_with,
    sample_document,
    sample_result,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from qakhunt.answers.run_result import RunResult

VOID = {"meta", "br"}
# Everything that the templates use; an attacker's element would be another.
OURS = frozenset(
    (
        "html", "head", "meta", "title", "style", "body", "a", "p", "strong", "span", "header",
        "h1", "h2", "h3", "h4", "dl", "div", "dt", "dd", "bdi", "main", "section", "ul", "ol", "li",
        "table", "thead", "tbody", "tr", "th", "td", "caption", "nav", "article", "details",
        "summary", "pre", "code", "svg", "rect", "line", "circle", "text", "tspan", "path", "br",
        "footer",
    )
)  # fmt: skip


def html(result: RunResult, **details: Any) -> str:
    options = ExportOptions(details=ReportDetails(**details))
    return export_bytes(result, FORMATS["html"], options).decode()


class _Reader(HTMLParser):
    """Checks nesting, and keeps elements with their attributes."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.ids: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if dict(attrs).get("id"):
            assert dict(attrs)["id"] not in self.ids, dict(attrs)["id"]
            self.ids.add(dict(attrs)["id"] or "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def read(text: str) -> _Reader:
    reader = _Reader()
    reader.feed(text)
    reader.close()
    assert reader.open == []
    return reader


@pytest.mark.engine
def test_it_holds_what_a_reader_needs() -> None:
    text = html(
        sample_result(), tlp="AMBER", case="IR-7", author="N. Okoro", contact="soc@a.example",
        principal="hunter@a.example", zone=ZoneInfo("Australia/Perth"), made=Instant.parse("2026-11-05T09:03:00Z"),
    )  # fmt: skip
    reader = read(text)
    for words in (
        "TLP:AMBER", "IR-7", "N. Okoro", "soc@a.example", "hunter@a.example", "HITS: 2 hits on 2 devices",
        "synthetic sample", "Coverage", "Recommended next steps", "Consistent with Qakbot, as other loaders are too",
        "2026-10-14 09:12:03.118 UTC", "2026-10-14 17:12:03 AWST", "Process tree", "wermgr.exe (9204)",
        "Not looked at", "not counted by the hunt", "T1069.001", "This is high-fidelity detections",
        "fdf046389ed64d3cce9187764ef2113bcfd522aca0e75c235f60264c291f4f4b",
        "https://security.microsoft.com/machines/v2/", "security.microsoft.com/v2/advanced-hunting?query=",
    ):  # fmt: skip
        assert words in text, words
    document = sample_document()
    assert document["hunts"][0]["query"].splitlines()[4] in text.replace("&#39;", "'").replace(
        "&gt;", ">"
    )
    anchors = {
        a["href"] for tag, a in reader.found if tag == "a" and str(a.get("href")).startswith("#")
    }
    assert {str(anchor)[1:] for anchor in anchors} <= reader.ids


@pytest.mark.engine
def test_it_is_one_file_that_loads_nothing() -> None:
    text = html(sample_result())
    reader = read(text)
    assert {tag for tag, _ in reader.found} <= OURS
    policy = next(
        a["content"] for tag, a in reader.found if a.get("http-equiv") == "Content-Security-Policy"
    )
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert (
        policy
        == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    assert "url(" not in style[1]
    assert "@import" not in style[1]
    for _, attributes in reader.found:
        assert not {"src", "style", "srcset", "onload"} & attributes.keys()
        assert not any(name.startswith("on") for name in attributes)


@pytest.mark.engine
def test_a_keyboard_and_a_screen_reader_find_their_way() -> None:
    reader = read(html(sample_result()))
    tags = [tag for tag, _ in reader.found]
    assert ("html", {"lang": "en"}) in reader.found
    assert {"main", "header", "nav", "footer", "h1"} <= set(tags)
    assert tags.count("h1") == 1
    for tag, attributes in reader.found:
        if tag == "svg":
            assert attributes.get("aria-hidden") == "true" or attributes.get("aria-label")
        if tag == "th":
            assert attributes.get("scope")
        for reference in ("aria-labelledby",):
            if attributes.get(reference):
                assert attributes[reference] in reader.ids
    scrolled = [a for tag, a in reader.found if "scroll" in (a.get("class") or "").split()]
    assert all(a.get("tabindex") == "0" for a in scrolled)


def test_the_first_word_is_the_verdict_and_what_was_not_looked_at() -> None:
    from qakhunt.answers.ledger import Status

    result = result_of([])
    failed = replace(
        result.ledger.lines[0],
        status=Status.FAILED,
        detail="403 <b>no</b>",
        profile="contoso",
        workspace="w-2",
    )
    result.ledger.lines.append(failed)
    text = html(result)
    assert "INCOMPLETE: no hits in what answered" in text
    assert "Coverage is incomplete" in text
    assert "<strong>contoso (w-2)</strong>" in text
    assert "403 &lt;b&gt;no&lt;/b&gt;" in text
    assert text.index("INCOMPLETE") < text.index(">Coverage<") < text.index("contoso (w-2)")


def test_without_context_it_says_so() -> None:
    text = html(result_with(None))
    assert "The events around the hits were not fetched" in text
    assert "Process tree" not in text


def test_the_drawing_is_to_scale() -> None:
    result = result_with([created(0, "arp.exe", "arp -a", 1), created(30, "net.exe", "net share", 2), created(40, "x.exe", "route print", 3)], commands=["arp -a", "net share", "route print"])  # fmt: skip
    text = html(result)
    marks = re.findall(r'<circle class="own" cx="([\d.]+)%" cy="11"', text)
    # 30 minutes before the first command, 90 after it: 2 hours are the whole width.
    assert [float(mark) for mark in marks] == pytest.approx(
        [25, 25 + 100 * 30 / 7200, 25 + 100 * 40 / 7200], abs=0.01
    )


def many(hits: int) -> RunResult:
    base = result_with(burst(), commands=[f"tool.exe /{n} " + "x" * 40 for n in range(9)])
    result = copy.copy(base)
    result.hits = [base.hits[0]] * hits
    assert base.context is not None
    held = base.context.hits[0]
    result.context = copy.copy(base.context)
    result.context.hits = dict.fromkeys(range(50), held)
    return result


def test_two_thousand_hits_are_all_there_and_under_ten_megabytes() -> None:
    started = time.process_time()
    text = html(many(2000))
    assert time.process_time() - started < 30
    assert len(text.encode()) < 10_000_000
    assert len(set(re.findall(r'<article class="(?:hit|short)" id="(hit-\d+)"', text))) == 2000
    assert text.count('<details class="page">') == 20
    assert (
        "1 hit is shown in full above, the most suspicious of each finding; the other 1,999 in"
        in text
    )
    assert "100 hits from number 2 on are folded: open them on screen to print them." in text


def test_long_lines_are_cut_and_say_how_long_they_are() -> None:
    text = html(result_with(burst(["a" * 32_000]), commands=["a" * 32_000]))
    assert "(32,000 characters in all)" in text
    assert "a" * 5001 not in text


@pytest.fixture
def listener() -> Iterator[tuple[int, list[bytes]]]:
    """A port that nobody should call, and what was said to it."""
    heard: list[bytes] = []
    server = socket.create_server(("127.0.0.1", 0))

    def listen() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                heard.append(connection.recv(200) or b"connected")

    threading.Thread(target=listen, daemon=True).start()
    yield server.getsockname()[1], heard
    server.close()


@pytest.mark.engine
def test_hostile_text_is_text(tmp_path: Path) -> None:
    path = tmp_path / "hostile.json"
    path.write_text(json.dumps(hostile(sample_document(), 9)), encoding="utf-8")
    text = html(
        load_result(path), tlp="RED", case=BAD[0], author=BAD[1], contact=BAD[2], principal=BAD[4]
    )
    reader = read(text)
    assert {tag for tag, _ in reader.found} <= OURS
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u200b]", text)
    for tag, attributes in reader.found:
        assert not any(name.startswith("on") for name in attributes)
        if tag == "a":
            assert re.match(
                r"#|https://(security\.microsoft\.com|attack\.mitre\.org)/",
                attributes["href"] or "",
            )


@pytest.mark.engine
def test_a_browser_runs_loads_and_follows_nothing(
    tmp_path: Path, listener: tuple[int, list[bytes]]
) -> None:
    port, heard = listener
    source = tmp_path / "hostile.json"
    source.write_text(json.dumps(hostile(sample_document(), port)), encoding="utf-8")
    page = tmp_path / "report.html"
    page.write_text(html(load_result(source)), encoding="utf-8")
    dom = open_page(page, "--dump-dom", "--virtual-time-budget=3000")
    assert elements(dom) <= OURS
    title = re.search(r"<title>(.*?)</title>", dom)
    assert title is not None
    assert title[1] == "HITS: 2 hits on 2 devices - hunt report"
    assert heard == []


_MEASURE = """<script>
const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
const out = [];
for (const e of document.querySelectorAll('td, p, li, dd, h1, h2, h3, pre, .entity, .assessment')) {
  if (e.closest('.scroll')) continue;
  const r = e.getBoundingClientRect(), p = e.parentElement.getBoundingClientRect();
  if (r.width && (r.right > p.right + 2 || r.left < p.left - 2)) out.push(e.tagName + '.' + e.className);
}
document.title = 'wide=' + wide + ' out=' + out.slice(0, 5).join(',');
</script>"""


@pytest.mark.engine
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_breaks_out_of_its_box(tmp_path: Path, width: int) -> None:
    """Measured in the browser, on a copy whose policy lets our own ruler in."""
    source = tmp_path / "hostile.json"
    source.write_text(json.dumps(hostile(sample_document(), 9)), encoding="utf-8")
    result = load_result(source)
    own = own_result(tuple(Column(f"Column{n}" * 4, "string") for n in range(8)), [(text,) * 8 for text in BAD])  # fmt: skip
    result.rendered += own.rendered
    result.hits += own.hits
    text = html(result)
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    inner = tmp_path / "inner.html"
    inner.write_text(text.replace("</body>", _MEASURE + "</body>"), encoding="utf-8")
    # A window is never narrower than 500 pixels, a frame is.
    page = tmp_path / "page.html"
    page.write_text(
        f"<!doctype html><iframe style='width:{width}px;height:900px;border:0' src='inner.html'></iframe>"
        "<script>onload=()=>{document.title=document.querySelector('iframe').contentDocument.title}</script>",
        encoding="utf-8",
    )
    dom = open_page(
        page,
        "--dump-dom",
        "--allow-file-access-from-files",
        "--virtual-time-budget=5000",
        width=1400,
    )
    title = re.search(r"<title>(.*?)</title>", dom)
    assert title is not None, dom[:400]
    assert title[1] == "wide=0 out="


@pytest.mark.engine
def test_one_episode_prints_on_four_pages(tmp_path: Path) -> None:
    whole = sample_result()
    assert whole.context is not None
    one = replace(
        whole, hits=whole.hits[:1], context=replace(whole.context, hits={0: whole.context.hits[0]})
    )
    page = tmp_path / "report.html"
    page.write_text(html(one), encoding="utf-8")
    paper = tmp_path / "report.pdf"
    open_page(page, "--no-pdf-header-footer", f"--print-to-pdf={paper}")
    data = paper.read_bytes()
    assert data.startswith(b"%PDF")
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", data)) <= 4


@pytest.mark.engine
def test_the_decision_stands_before_the_detail_and_prose_has_no_escapes() -> None:
    text = html(sample_result())
    order = [text.index(words) for words in (
        "HITS: 2 hits", ">Coverage<", ">2 findings<", "Recommended next steps", 'id="hit-1"',
        "How it was asked",
    )]  # fmt: skip
    assert order == sorted(order)
    assert "\\n" not in text
    assert text.count("let QakBotCommands = ") == 1


def test_coverage_is_one_row_per_tenant_with_what_is_missing() -> None:
    from qakhunt.answers.ledger import Status

    result = result_of([])
    line = result.ledger.lines[0]
    lines = [
        replace(line, profile="contoso", tenant="t-1", workspace=f"w-{n}", status=status, detail=detail)
        for n, (status, detail) in enumerate([
            (Status.COMPLETE, ""), (Status.FAILED, "403 no\nsecond line"), (Status.NOT_RUN, "out of time"),
        ])
    ]  # fmt: skip
    result.ledger.lines[:] = [*lines, replace(line, profile="fabrikam", tenant="t-2")]
    for name in ("html", "markdown"):
        text = export_bytes(result, FORMATS[name], ExportOptions()).decode().replace("\\", "")
        section = text[text.index("Coverage</h2>" if name == "html" else "## Coverage") :]
        assert "1 complete, 1 failed, 1 not run" in section
        assert "contoso (t-1)" in section
        assert "403 no second line" in section
        assert section.index("contoso (t-1)") < section.index("fabrikam")
        assert "contoso (w-1)" in section[section.index("Not covered") :]
        assert "Complete the coverage: 2 queries without a complete answer" in text


@pytest.mark.parametrize("columns", [3, 40])
@pytest.mark.parametrize("name", ["html", "markdown", "chat"])
def test_own_columns_are_shown_and_hostile_ones_are_text(name: str, columns: int) -> None:
    names = [BAD[n % len(BAD)][:80] + str(n) for n in range(columns)]
    rows = [tuple([text] * columns) for text in BAD] + [tuple(["plain value"] * columns)]
    result = own_result(tuple(Column(n, "string") for n in names), rows)
    text = export_bytes(result, FORMATS[name], ExportOptions()).decode()
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u200b]", text)
    if name == "html":
        reader = read(text)
        assert {tag for tag, _ in reader.found} <= OURS
        assert not any(key.startswith("on") for _, attrs in reader.found for key in attrs)
        assert text.count("plain value") == columns
        assert ("<dl>" in text[text.index("table-1") :]) == (columns > 8)
    elif name == "chat":
        assert f"own: {len(rows)} rows" in text
        assert len(text) < 10_000
    else:
        assert "plain value" in text


def test_a_hunt_of_ones_own_with_strange_references_makes_no_link() -> None:
    import msgspec

    result = result_of(ROWS[:1])
    rendered = result.rendered[0]
    notes = msgspec.structs.replace(
        rendered.hunt.notes, references=("javascript:alert(1)", "https://ok.example/")
    )
    hunt = replace(rendered.hunt, notes=notes)
    result.rendered = (replace(rendered, hunt=hunt),)
    links = [a.get("href") for tag, a in read(html(result)).found if tag == "a"]
    assert "https://ok.example/" in links
    assert not any(str(link).startswith("javascript") for link in links)
