"""``import qakhunt``: the functions of the command line, from Python."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import qakhunt
from qakhunt.__main__ import run as command_line
from qakhunt.answers.ledger import Status
from qakhunt.answers.run_document import run_document
from tests.conftest import ROOT
from tests.support.events import MISSION
from tests.support.hostile import COLUMNS, HOSTILE, result_of

NOTEBOOK = ROOT / "docs" / "examples" / "first-hunt.ipynb"


def test_importing_it_loads_nothing_and_its_names_stay_functions() -> None:
    code = (
        "import sys, qakhunt\n"
        "assert [m for m in sys.modules if m.startswith('qakhunt')] == ['qakhunt'], sys.modules\n"
        "import qakhunt.run.request, qakhunt.hunts.model\n"
        "from qakhunt import hunts, run\n"
        "assert callable(run) and callable(hunts) and qakhunt.run is run\n"
        "from qakhunt.run import request\n"
        "assert len(hunts()) > 5 and set(qakhunt.__all__) < set(dir(qakhunt))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_the_exported_names_are_those_of_its_page() -> None:
    page = (ROOT / "docs" / "reference" / "python.md").read_text(encoding="utf-8")
    exported, _, _ = page.partition("## What the functions give")
    assert sorted(re.findall(r"^## (\w+)$", exported, re.MULTILINE)) == qakhunt.__all__
    assert all(getattr(qakhunt, name).__doc__ for name in qakhunt.__all__)


@pytest.mark.engine
def test_run_gives_what_the_command_prints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same document, but for how long it took."""
    threshold = {"Threshold": 5}
    result = qakhunt.run(MISSION, window="30d", parameters=threshold, now="2026-11-01")
    code = command_line([
        "run", MISSION, "--window", "30d", "--threshold", "5", "--now", "2026-11-01", "--json",
        "--quiet",
    ])  # fmt: skip
    printed = json.loads(capsys.readouterr().out)
    own = json.loads(json.dumps(run_document(result.run_result)))
    assert code == 0
    for part in ("hits", "findings", "hunts", "verdict", "window"):
        assert _timeless(own[part]) == _timeless(printed[part]), part
    assert len(result.findings) == len(printed["findings"]) > 0
    assert result.verdict.value == printed["verdict"]
    assert "HITS" in repr(result)


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _timeless(v) for k, v in value.items() if k not in ("elapsed", "assessment")}
    return [_timeless(each) for each in value] if isinstance(value, list) else value


@pytest.mark.engine
def test_events_of_ones_own_and_values_of_python(tmp_path: Path) -> None:
    from qakhunt.run.sample import sample_events, sample_now

    own = qakhunt.run(
        MISSION, events=[Path(text) for text in sample_events()], now=sample_now().to_datetime(),
        parameters={"QakBotCommands": ["whoami /all", "arp -a"], "Threshold": 1}, context="10m",
    )  # fmt: skip
    assert own.run_result.context is not None
    assert own.run_result.sample is False
    assert {line.profile for line in own.ledger.lines} == {"local"}
    assert own.run_result.rendered[0].parameters["QakBotCommands"] == ["whoami /all", "arp -a"]


MISTAKES: list[tuple[Callable[[], object], str, str]] = [
    (lambda: qakhunt.run("qakbot-post-compromise-comands"), "no hunt named", "did you mean"),
    (lambda: qakhunt.run(events="/no/such.csv"), "no such file", ""),
    (lambda: qakhunt.run(parameters={"Threshhold": 3}), "no parameter named", "Threshold"),
    (lambda: qakhunt.run(parameters={"QakBotCommands": 3}), "expected a list", ""),
    (lambda: qakhunt.run(window="soon"), "not a window", "previous-month"),
    (lambda: qakhunt.run(context="soon"), "expected a time", ""),
    (lambda: qakhunt.run(profile="x"), "there is no configuration", "config init"),
    (lambda: qakhunt.render("qakbot"), "names 6 hunts", "name one"),
    (lambda: qakhunt.render(product="splunk"), "no product named", "log-analytics"),
    (lambda: qakhunt.test(MISSION, select="no such case"), "no test cases", "no such case"),
    (lambda: qakhunt.diff(MISSION), "nothing to compare", "new_parameters"),
]


@pytest.mark.engine
@pytest.mark.parametrize(("call", "message", "hint"), MISTAKES, ids=[m for _, m, _ in MISTAKES])
def test_a_mistake_says_what_is_wrong(
    call: Callable[[], object], message: str, hint: str,
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(qakhunt.QakhuntError) as problem:
        call()
    assert message in problem.value.message
    assert hint in (problem.value.hint or "")


@pytest.mark.engine
def test_an_interrupt_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    from qakhunt.run import hunting
    from qakhunt.run.execution import execute

    monkeypatch.setattr(
        hunting, "execute", lambda *given: replace(execute(*given), interrupted=True)
    )
    with pytest.raises(KeyboardInterrupt):
        qakhunt.run(MISSION)


def test_render_gives_the_text_and_its_warnings() -> None:
    rendered = qakhunt.render(MISSION, product="defender", parameters={"Threshold": 99})
    assert "Timestamp" in rendered.text
    assert any("can never be found" in warning for warning in rendered.warnings)


@pytest.mark.engine
def test_the_notebook_runs() -> None:
    """Cell by cell in this process; .ci/package runs it in a kernel, for forty packages more."""
    shown: list[Any] = []
    names: dict[str, Any] = {"print": lambda *values: shown.extend(map(str, values))}
    for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]:
        is_pandas = "pandas" in cell["metadata"].get("tags", ())
        if cell["cell_type"] != "code" or (is_pandas and not find_spec("pandas")):
            continue
        assert not cell["outputs"], "kept without outputs"
        tree = ast.parse("".join(cell["source"]))
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, cell["id"], "exec"), names)
        if isinstance(last, ast.Expr):
            shown.append(eval(compile(ast.Expression(last.value), cell["id"], "eval"), names))
    assert "ws-fin-042.contoso.example" in shown[0]._repr_html_()
    assert "hits" in shown
    lists = [each for each in shown if isinstance(each, list)]
    assert lists == [[("srv-inv-01.tailspin.example", 4)]]
    assert any(str(each).startswith("Counter({'passed'") for each in shown)


class Tags(HTMLParser):
    """The elements and attributes of a piece of HTML, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.text += data


def shown(text: str) -> tuple[str, Tags]:
    """The HTML of a result all of whose texts are ``text``."""
    filled = tuple(text if c.kql_type == "string" else None for c in COLUMNS)
    made = result_of([filled])
    line = replace(made.ledger.lines[0], status=Status.FAILED, detail=text, hint=text)
    hits = [replace(hit, profile=text, tenant=text, account=text) for hit in made.hits]
    own = [replace(hit, hunt=text) for hit in made.hits]
    ledger = replace(made.ledger, lines=[line])
    result = replace(made, hits=[*hits, *own], ledger=ledger, warnings=[text])
    html = qakhunt.Result(result)._repr_html_()
    parsed = Tags()
    parsed.feed(html)
    parsed.close()
    return html, parsed


@settings(max_examples=60)
@given(st.one_of(st.sampled_from(HOSTILE), st.text(min_size=1, max_size=80)))
def test_nothing_of_an_attacker_acts_in_a_notebook(text: str) -> None:
    html, parsed = shown(text)
    assert parsed.tags <= {
        "div", "p", "strong", "br", "ul", "li", "table", "thead", "tbody", "tr", "th", "td",
        "caption",
    }  # fmt: skip
    assert parsed.attributes == {"class"}
    # MathJax would typeset what stands between dollars.
    assert 'class="qakhunt mathjax_ignore tex2jax_ignore"' in html
    assert not re.search(
        "[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]", html
    )
    assert "INCOMPLETE" in html or "FAILED" in html


def test_hostile_text_is_shown_not_dropped() -> None:
    _, parsed = shown("<img src=x onerror=alert(1)>&\x1b[2J")
    assert "<img src=x onerror=alert(1)>&\\x1b[2J" in parsed.text
