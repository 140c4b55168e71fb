"""The README and the picture on it, which the program draws itself.

`python -m tests.golden.refresh` puts the picture in place; a test compares it.
"""

from __future__ import annotations

import io
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
SCREEN = ROOT / ".github" / "screen.svg"


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
