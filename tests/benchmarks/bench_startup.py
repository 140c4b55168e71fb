"""Whole processes: ``--version`` and ``render`` beside a minimal Typer program.

    python -m tests.benchmarks.bench_startup

Prints ratios of medians in the same environment. Aims: 1.3 and 1.8.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

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


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        minimal = Path(folder) / "minimal.py"
        minimal.write_text(MINIMAL, encoding="utf-8")
        program = [str(Path(sys.executable).with_name("qakhunt"))]
        found = median(
            {
                "minimal": [sys.executable, str(minimal), "hello"],
                "--version": [*program, "--version"],
                "render": [*program, "render", "-q", "qakbot-post-compromise-commands"],
            }
        )
    base = found.pop("minimal")
    print(f"minimal Typer program: {base * 1000:.0f} ms")
    for name, seconds in found.items():
        print(f"qakhunt {name}: {seconds * 1000:.0f} ms, ratio {seconds / base:.2f}")


if __name__ == "__main__":
    main()
