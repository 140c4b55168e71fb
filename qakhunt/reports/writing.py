"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from qakhunt.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def whole_file(path: Path, *, force: bool = False) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place when the block ends well.

    Raises OutputError for a folder that is missing, a file that exists (unless
    ``force``) and anything the system refuses.
    """
    check_target(path, force=force)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name[:40]}-", dir=path.parent)
        os.close(handle)
    except OSError as problem:
        raise OutputError(f"cannot write {path}: {problem.strerror or problem}") from None
    temporary = Path(name)
    try:
        yield temporary
        _apply_umask(temporary)
        _settle(temporary, path, force=force)
    except OSError as problem:
        raise OutputError(f"cannot write {path}: {problem.strerror or problem}") from None
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def check_target(path: Path, *, force: bool = False) -> None:
    """Refuse a target that cannot be written, before any work is done for it."""
    if path.is_dir():
        raise OutputError(f"{path} is a folder", hint="give the name of a file")
    if not path.parent.is_dir():
        raise OutputError(f"no such folder: {path.parent}", hint="make the folder first")
    if path.exists() and not force:
        raise OutputError(f"{path} exists", hint="--force replaces it")


def _settle(temporary: Path, path: Path, *, force: bool) -> None:
    with temporary.open("rb") as stream:
        os.fsync(stream.fileno())
    if force or os.name == "nt":
        temporary.replace(path)
        return
    try:
        os.link(temporary, path)  # refuses to replace a file made meanwhile
    except FileExistsError:
        raise OutputError(f"{path} exists", hint="--force replaces it") from None
    except OSError:
        temporary.replace(path)  # a file system without hard links


def _apply_umask(temporary: Path) -> None:
    if os.name != "nt":
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
