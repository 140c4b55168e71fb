"""The exact wheels for Automation's Python: a closure worked out for its own markers.

``pip download --python-version`` evaluates markers such as ``python_version < "3.11"``
against the Python that runs it, so only the choice of a file is left to pip; which
packages are needed is worked out here, from each wheel's own metadata.
"""

from __future__ import annotations

import email
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qakhunt.errors import QakhuntError
from qakhunt.schedule.runbook.platform_310 import ENVIRONMENT, PLATFORMS, PYTHON

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MOST_ROUNDS = 20


@dataclass(frozen=True)
class Wheel:
    """A wheel file: its project and version, and what it requires there."""

    project: str
    version: str
    path: Path
    requires: tuple[str, ...]


@dataclass
class Source:
    """Where wheels come from: the configured index, or a folder alone."""

    folder: Path | None = None

    @property
    def options(self) -> list[str]:
        """pip's options for it."""
        if self.folder is None:
            return []
        return ["--no-index", "--find-links", str(self.folder)]


@dataclass
class _Need:
    """What is asked of one project so far."""

    specifiers: Any
    extras: set[str] = field(default_factory=set)
    wheel: Wheel | None = None


def closure(own: Wheel, extras: Iterable[str], source: Source, into: Path) -> list[Wheel]:
    """All wheels that ``own`` needs with ``extras``, put into ``into``; by project.

    Raises QakhuntError for a package without a wheel for that platform, and for
    requirements that contradict each other.
    """
    needs: dict[str, _Need] = {}
    _require(own, extras, needs)
    for _ in range(MOST_ROUNDS):
        open_ = {name: need for name, need in needs.items() if _unmet(need)}
        if not open_:
            break
        with tempfile.TemporaryDirectory(prefix="qakhunt-wheels-") as folder:
            for wheel in _download(open_, source, Path(folder)):
                needs[wheel.project].wheel = _placed(wheel, into)
        _again(own, extras, needs)
    else:
        raise QakhuntError(f"the packages' requirements do not settle: {', '.join(open_)}")
    found = sorted((n.wheel for n in needs.values() if n.wheel), key=lambda w: w.project)
    kept = {own.path.name, *(wheel.path.name for wheel in found)}
    for path in into.glob("*.whl"):
        if path.name not in kept:
            path.unlink()  # what only a replaced version wanted
    return found


def read_wheel(path: Path) -> Wheel:
    """A wheel file's own account of itself."""
    with zipfile.ZipFile(path) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(archive.read(name))
    return Wheel(
        _canonical(metadata["Name"]), metadata["Version"], path,
        tuple(metadata.get_all("Requires-Dist", [])),
    )  # fmt: skip


def _again(own: Wheel, extras: Iterable[str], needs: dict[str, _Need]) -> None:
    """Ask anew from the root, so that what a replaced version wanted is forgotten."""
    known = {name: need.wheel for name, need in needs.items()}
    needs.clear()
    _require(own, extras, needs)
    pending = list(needs)
    done: dict[str, frozenset[str]] = {}
    while pending:
        name = pending.pop()
        need = needs[name]
        wheel = known.get(name)
        if wheel is None or not need.specifiers.contains(wheel.version, prereleases=True):
            continue
        need.wheel = wheel
        if done.get(name) == frozenset(need.extras):
            continue
        done[name] = frozenset(need.extras)
        pending += _require(wheel, need.extras, needs)


def _require(wheel: Wheel, extras: Iterable[str], needs: dict[str, _Need]) -> list[str]:
    """Note what a wheel requires on that platform; the projects concerned."""
    from packaging.requirements import Requirement

    concerned = []
    for text in wheel.requires:
        requirement = Requirement(text)
        marker = requirement.marker
        wanted = marker is None or any(
            marker.evaluate({**ENVIRONMENT, "extra": extra}) for extra in ("", *extras)
        )
        if not wanted:
            continue
        name = _canonical(requirement.name)
        need = needs.get(name)
        if need is None:
            needs[name] = _Need(requirement.specifier, set(requirement.extras))
        else:
            need.specifiers &= requirement.specifier
            need.extras |= requirement.extras
        concerned.append(name)
    return concerned


def _unmet(need: _Need) -> bool:
    return need.wheel is None or not need.specifiers.contains(need.wheel.version, prereleases=True)


def _download(needs: dict[str, _Need], source: Source, folder: Path) -> list[Wheel]:
    wanted = [f"{name}{need.specifiers}" for name, need in sorted(needs.items())]
    platforms = [part for tag in PLATFORMS for part in ("--platform", tag)]
    run_pip(
        ["download", "--no-deps", "--only-binary=:all:", "--python-version", PYTHON,
         "--implementation", "cp", *platforms, "--dest", str(folder), *source.options, *wanted],
        f"no wheels for Python {PYTHON} on Linux x86-64",
    )  # fmt: skip
    return [read_wheel(path) for path in sorted(folder.glob("*.whl"))]


def _placed(wheel: Wheel, into: Path) -> Wheel:
    """The wheel in ``into``; another version of the project goes."""
    target = into / wheel.path.name
    for old in into.glob("*.whl"):
        if old.name != target.name and read_wheel(old).project == wheel.project:
            old.unlink()
    shutil.copyfile(wheel.path, target)
    return Wheel(wheel.project, wheel.version, target, wheel.requires)


def run_pip(arguments: Sequence[str], failure: str) -> None:
    """Run this Python's pip. Raises QakhuntError with what pip says last."""
    done = subprocess.run(  # noqa: S603 - pip, with arguments of our own
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode == 0:
        return
    said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    words = said[0].removeprefix("ERROR: ") if said else done.stderr.strip()[-200:]
    raise QakhuntError(
        f"{failure}: {words}",
        hint="pip needs an index, or give a folder of wheels with --wheels",
    )


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
