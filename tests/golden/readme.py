"""The parts of the README that the program writes itself: help and the picture.

`python -m tests.golden.refresh` puts them in place; a test compares them.
"""

from __future__ import annotations

import io
import os
import re
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
SCREEN = ROOT / ".github" / "screen.svg"

_BLOCK = re.compile(r"(<!-- help: ([a-z -]+) -->\n)(.*?)(<!-- /help -->)", re.DOTALL)


def with_help(text: str) -> str:
    """The README's text with every help block as the program prints it."""

    def block(match: re.Match[str]) -> str:
        name = match[2]
        return (
            f"{match[1]}<details>\n<summary><code>qakhunt {name} --help</code></summary>\n\n"
            f"```\n{help_of(name)}```\n\n</details>\n{match[4]}"
        )

    return _BLOCK.sub(block, text)


def help_of(name: str) -> str:
    """What ``qakhunt NAME --help`` prints, 80 columns wide."""
    from qakhunt.__main__ import run

    out = io.StringIO()
    with mock.patch("sys.stdout", out), mock.patch.dict(os.environ, {"COLUMNS": "80"}):
        run([*name.split(), "--help"])
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def screen() -> str:
    """The Qakbot hunt on the sample, as a terminal 136 columns wide shows it."""
    from rich.console import Console

    from qakhunt.answers.ledger import Target
    from qakhunt.backends.local import LocalBackend
    from qakhunt.hunts.catalog import Catalog
    from qakhunt.hunts.render import render
    from qakhunt.reports.console import show
    from qakhunt.run.execution import execute
    from qakhunt.run.plan import PlanLine
    from qakhunt.run.sample import sample_events, sample_now

    now = sample_now()
    backend = LocalBackend(sample_events(), now=now)
    rendered = render(Catalog().find("qakbot-post-compromise-commands")[0], now=now)
    result = execute([PlanLine(rendered, backend, Target("sample"))])
    backend.close()
    result.sample = True
    console = Console(
        record=True, width=136, file=io.StringIO(), force_terminal=True, highlight=False,
        color_system="truecolor", _environ={},
    )  # fmt: skip
    console.print("[bold]$[/bold] qakhunt run", highlight=False)
    show(result, console)
    return console.export_svg(title="qakhunt", unique_id="qakhunt")
