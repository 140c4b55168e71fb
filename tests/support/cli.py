"""Running the program as its users do: a process of its own, its output and its code."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Finished:
    """What a run of the program left."""

    code: int
    out: str
    err: str

    @property
    def error_lines(self) -> list[str]:
        """Lines on stderr that begin with ``error:``."""
        return [line for line in self.err.splitlines() if line.startswith("error:")]


def qakhunt(
    *arguments: str, cwd: Path | None = None, env: dict[str, str] | None = None
) -> Finished:
    """Run ``python -m qakhunt`` with the arguments and wait for it."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100", **(env or {})}
    done = subprocess.run(
        [sys.executable, "-m", "qakhunt", *arguments],
        capture_output=True, cwd=cwd, env=environment, timeout=120, check=False,
    )  # fmt: skip
    return Finished(done.returncode, done.stdout.decode(), done.stderr.decode())
