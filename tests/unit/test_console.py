"""The screen: readable narrow and wide, silent to hostile text."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from qakhunt.reports.console import show
from tests.support.events import FOUR, event, run_on, write_ndjson
from tests.unit.test_formats import HOSTILE, result_of

pytestmark = pytest.mark.engine


def screen(result: object, width: int, color: bool = False) -> str:
    out = io.StringIO()
    console = Console(
        file=out, width=width, highlight=False, force_terminal=color, no_color=not color,
        color_system="truecolor" if color else None,
    )  # fmt: skip
    show(result, console)  # type: ignore[arg-type]
    return out.getvalue()


@pytest.mark.parametrize("width", [40, 80, 120, 200])
def test_every_width_shows_what_an_analyst_acts_on(tmp_path: Path, width: int) -> None:
    records = [event(c, DeviceName="ws-1", TenantId="w-1") for c in FOUR]
    text = screen(run_on(write_ndjson(tmp_path / "e.ndjson", records)), width)
    flat = "".join(text.split())
    for wanted in ("ws-1", "ann", "w-1", "2026-10-0510:00:00", "netview", "T1018", "HITS:1hit"):
        assert wanted in flat
    assert all(len(line) <= width for line in text.splitlines())


@pytest.mark.parametrize("width", [60, 140])
@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_is_shown_escaped_and_whole(text: str, width: int) -> None:
    from qakhunt.reports.safe import for_terminal

    row = (text, text, 1, 1.0, None, True, None, None, None, [text], 1, "")
    shown = screen(result_of([row]), width)
    assert "\x1b" not in shown
    assert not any(ord(c) < 32 and c != "\n" for c in shown)
    if len(text) < 100:
        assert "".join(for_terminal(text).split()) in "".join(shown.split())


def test_markup_of_theirs_gives_no_style() -> None:
    row = (
        "[bold red]x[/]",
        "[link=http://e]y[/link]",
        1,
        1.0,
        None,
        True,
        None,
        None,
        None,
        ["[u]z"],
        1,
        "",
    )
    shown = screen(result_of([row]), 140, color=True)
    assert "[bold red]x[/]" in shown
    assert "\x1b]8" not in shown
