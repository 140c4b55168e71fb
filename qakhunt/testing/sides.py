"""One side of a comparison: a hunt by name, id, path or git revision."""

from __future__ import annotations

import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from qakhunt.core.errors import UsageError
from qakhunt.hunts.loading import load_hunt

if TYPE_CHECKING:
    from qakhunt.hunts.catalog import Catalog
    from qakhunt.hunts.model import Hunt

_GIT_SECONDS = 30


def find_hunt(text: str, catalog: Catalog) -> Hunt:
    """The one hunt that ``text`` names; ``REV:PATH`` takes the file as of a revision.

    Raises UsageError where it names none or several.
    """
    revision, colon, path = text.partition(":")
    is_revision = colon and len(revision) > 1 and not Path(text).exists()
    if is_revision and path:
        return _from_git(revision, path)
    found = catalog.find(text)
    if len(found) != 1:
        names = ", ".join(hunt.name for hunt in found)
        raise UsageError(f"{text!r} names {len(found)} hunts: {names}", hint="name one of them")
    return found[0]


def _from_git(revision: str, path: str) -> Hunt:
    label = f"{revision}:{path}"
    data = _show(label)
    with tempfile.TemporaryDirectory(prefix="qakhunt-") as folder:
        copy = Path(folder) / PurePosixPath(path).name
        copy.write_bytes(data)
        try:
            hunt = load_hunt(copy)
        except Exception as problem:
            location = getattr(problem, "location", None)
            if location is not None:
                problem.location = replace(location, path=label)  # type: ignore[attr-defined]
            raise
    return replace(hunt, path=label, place=replace(hunt.place, path=label), source="git")


def _show(label: str) -> bytes:
    command = ["git", "show", "--no-textconv", "--end-of-options", label]
    try:
        done = subprocess.run(  # noqa: S603 - a fixed program, no shell; the label is no option
            command, capture_output=True, check=False, timeout=_GIT_SECONDS
        )
    except FileNotFoundError:
        raise UsageError(f"{label}: git is not installed") from None
    except subprocess.TimeoutExpired:
        raise UsageError(f"{label}: git did not answer in {_GIT_SECONDS} s") from None
    if done.returncode:
        words = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise UsageError(f"{label}: {words[-1] if words else 'git failed'}")
    return done.stdout
