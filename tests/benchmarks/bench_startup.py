"""Whole processes: ``--version`` and ``render`` beside a minimal Typer program.

Ratios of medians of wall time in the same environment.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.benchmarks.table import Row

if TYPE_CHECKING:
    from collections.abc import Iterator

MINIMAL = """\
import typer
app = typer.Typer()
@app.command()
def hello(name: str = "x") -> None:
    print(name)
@app.command()
def other(name: str = "x") -> None:
    print(name)
if __name__ == "__main__":
    app()
"""
REPEATS = 31


def median(commands: dict[str, list[str]]) -> dict[str, float]:
    """Median seconds per command; the commands take turns, so that noise is shared."""
    # As after an installation: modules are compiled.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(REPEATS):
        for name, command in commands.items():
            started = time.perf_counter()
            subprocess.run(
                command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True,
                env=environment,
            )  # fmt: skip
            times[name].append(time.perf_counter() - started)
    return {name: statistics.median(found) for name, found in times.items()}


def rows() -> Iterator[Row]:
    """Both commands."""
    with tempfile.TemporaryDirectory() as folder:
        minimal = Path(folder) / "minimal.py"
        minimal.write_text(MINIMAL, encoding="utf-8")
        program = [str(Path(sys.executable).with_name("qakhunt"))]
        found = median(
            {
                "minimal": [sys.executable, str(minimal), "hello"],
                "qakhunt --version": [*program, "--version"],
                "qakhunt render": [*program, "render", "-q", "qakbot-post-compromise-commands"],
            }
        )
    base = found.pop("minimal")
    for (name, seconds), aim in zip(found.items(), (1.3, 1.8), strict=True):
        yield Row(name, "a minimal Typer program", seconds, base, seconds / base, aim)
