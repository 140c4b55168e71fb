"""The tutorials, carried out as a reader would: every command, its exit code and its output.

Half a minute each. What it buys: a tutorial cannot say what the program does not do.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.golden.walkthrough import TUTORIALS, carried_out, steady

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.engine
@pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash")
@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_a_tutorial_is_what_happens(page: Path) -> None:
    text, problems = carried_out(page)
    assert problems == []
    assert steady(text) == steady(page.read_text(encoding="utf-8"))
