"""Azure Automation on this machine: a fresh Python 3.10, its limits and its variables.

The child gets what a cloud job gets: the bundle's wheels and nothing else, the managed
identity's environment, 400 MB of address space, and no right to start a process.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

MEGABYTE = 1024 * 1024
ADDRESS_SPACE = 400 * MEGABYTE
_NO_PROCESSES = """
import atexit, os, sys

def tell_peak():
    # Not getrusage: its figure begins with what the parent had when it forked.
    status = open("/proc/self/status").read()
    peak = status.split("VmHWM:")[1].split()[0]
    with open(os.environ["TEST_PEAK_FILE"], "w") as stream:
        stream.write(peak)

atexit.register(tell_peak)

def refuse(event, _arguments):
    if event in ("subprocess.Popen", "os.system", "os.exec", "os.fork", "os.posix_spawn"):
        raise PermissionError(f"Automation starts no process: {event}")

sys.addaudithook(refuse)
"""
_ASSETS = """
import json, os

class AutomationAssetNotFound(Exception):
    pass

def get_automation_variable(name):
    variables = json.loads(os.environ["TEST_AUTOMATION_VARIABLES"])
    if name not in variables:
        raise AutomationAssetNotFound("The variable asset was not found.")
    return variables[name]
"""


def python310() -> Path | None:
    """A CPython 3.10, or None where there is none."""
    named = os.environ.get("QAKHUNT_PYTHON310")
    found = shutil.which("python3.10")
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    pyenv = sorted((root / "versions").glob("3.10.*/bin/python3.10"))
    places = [Path(p) for p in (named, found, *pyenv) if p]
    for place in places:
        works = subprocess.run([place, "-c", "import sqlite3, ssl"], capture_output=True)
        if works.returncode == 0:
            return place
    return None


@dataclass(frozen=True)
class Ended:
    """How a job ended; ``peak`` is its largest resident size in MB."""

    code: int
    output: str
    errors: str
    peak: float

    @property
    def last_line(self) -> str:
        return self.errors.strip().splitlines()[-1] if self.errors.strip() else ""


class Automation:
    """An environment with only the bundle's wheels."""

    def __init__(self, bundle: Path, folder: Path) -> None:
        python = python310()
        assert python is not None
        self._bundle = bundle
        self._folder = folder
        subprocess.run([python, "-m", "venv", "--without-pip", folder / "venv"], check=True)
        self.python = folder / "venv" / "bin" / "python"
        site = next((folder / "venv" / "lib").glob("python3.10/site-packages"))
        wheels = sorted((bundle / "wheels").glob("*.whl"))
        subprocess.run(
            [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--no-index", "--no-deps",
             "--only-binary", ":all:", "--no-python-downloads", "--python-version", "3.10",
             "--python-platform", "x86_64-manylinux_2_28", "--target", site, *wheels],
            check=True,
        )  # fmt: skip
        (site / "sitecustomize.py").write_text(_NO_PROCESSES)
        (site / "automationassets.py").write_text(_ASSETS)

    def run(
        self, arguments: Sequence[str], environment: Mapping[str, str],
        variables: Mapping[str, str] = {}, seconds: float = 120,
    ) -> Ended:  # fmt: skip
        """Start the runbook as Automation does and wait for its end."""
        child_environment = {
            "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": str(self._folder),
            "TEST_AUTOMATION_VARIABLES": json.dumps(dict(variables)),
            "TEST_PEAK_FILE": str(self._folder / "peak"), **environment,
        }  # fmt: skip

        def bound() -> None:
            resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))

        done = subprocess.run(
            [self.python, self._bundle / "runbook.py", *arguments], env=child_environment,
            capture_output=True, text=True, cwd=self._folder, preexec_fn=bound, timeout=seconds,
        )  # fmt: skip
        peak = int((self._folder / "peak").read_text()) / 1024
        return Ended(done.returncode, done.stdout, done.stderr, peak)
