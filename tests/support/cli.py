"""Running the program as its users do: a process of its own, its output and its code."""

from __future__ import annotations

import atexit
import functools
import json
import os
import select
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parents[2]
SECONDS = 120


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
    """Run the program with the arguments in a process of its own and wait for it."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100", **(env or {})}
    if hasattr(os, "fork") and sys.platform == "linux":
        return _warm().run(arguments, cwd or Path.cwd(), environment)
    done = subprocess.run(
        [sys.executable, "-m", "qakhunt", *arguments],
        capture_output=True, cwd=cwd, env=environment, timeout=SECONDS, check=False,
    )  # fmt: skip
    return Finished(done.returncode, done.stdout.decode(), done.stderr.decode())


class _Warm:
    """The process of tests/support/warm.py; one run at a time, others wait."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.warm"], cwd=ROOT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100"},
        )  # fmt: skip
        self._lock = threading.Lock()
        assert self._answer() == "ready"
        atexit.register(self._process.communicate)

    def run(self, arguments: Sequence[str], cwd: Path, env: dict[str, str]) -> Finished:
        with self._lock, tempfile.TemporaryDirectory() as folder:
            out, err = Path(folder, "out"), Path(folder, "err")
            out.touch()
            err.touch()
            request = {
                "arguments": arguments, "cwd": str(cwd), "env": env, "out": str(out),
                "err": str(err),
            }  # fmt: skip
            assert self._process.stdin
            print(json.dumps(request), file=self._process.stdin, flush=True)
            code = int(self._answer())
            return Finished(code, out.read_bytes().decode(), err.read_bytes().decode())

    def _answer(self) -> str:
        assert self._process.stdout
        if not select.select([self._process.stdout], [], [], SECONDS)[0]:
            raise TimeoutError(f"the program took longer than {SECONDS} s")
        return self._process.stdout.readline().strip()


@functools.cache
def _warm() -> _Warm:
    return _Warm()
