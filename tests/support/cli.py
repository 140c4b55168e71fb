"""Running the program as its users do: a process of its own, its output and its code."""

from __future__ import annotations

import atexit
import contextlib
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


def on_terminal(*arguments: str, columns: int, env: dict[str, str] | None = None) -> str:
    """What a terminal of that width receives from the program."""
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", **(env or {}),
        "COLUMNS": str(columns),
    }  # fmt: skip
    keeper, terminal = os.openpty()
    received = bytearray()

    def listen() -> None:
        with contextlib.suppress(OSError):  # how Linux says that nobody has the terminal open
            while data := os.read(keeper, 65536):
                received.extend(data)

    listener = threading.Thread(target=listen)
    listener.start()
    _warm().run_on(arguments, Path.cwd(), environment, (os.ttyname(terminal),) * 3)
    os.close(terminal)
    listener.join()
    os.close(keeper)
    return received.decode()


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
        with tempfile.TemporaryDirectory() as folder:
            out, err = Path(folder, "out"), Path(folder, "err")
            out.touch()
            err.touch()
            code = self.run_on(arguments, cwd, env, (os.devnull, str(out), str(err)))
            return Finished(code, out.read_bytes().decode(), err.read_bytes().decode())

    def run_on(
        self, arguments: Sequence[str], cwd: Path, env: dict[str, str], files: tuple[str, str, str]
    ) -> int:
        """The exit code; the files are what the program has for stdin, stdout and stderr."""
        request = {"arguments": arguments, "cwd": str(cwd), "env": env}
        request |= dict(zip(("in", "out", "err"), files, strict=True))
        with self._lock:
            assert self._process.stdin
            print(json.dumps(request), file=self._process.stdin, flush=True)
            return int(self._answer())

    def _answer(self) -> str:
        assert self._process.stdout
        if not select.select([self._process.stdout], [], [], SECONDS)[0]:
            raise TimeoutError(f"the program took longer than {SECONDS} s")
        return self._process.stdout.readline().strip()


@functools.cache
def _warm() -> _Warm:
    return _Warm()
