"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING

from qakhunt.core.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def whole_file(
    path: Path, *, force: bool = False, named: bool = False, private: bool = True
) -> Iterator[Path]:
    """A temporary path that takes ``path``'s place when the block ends well.

    Where the system can (Linux), the file has no name until it is whole, so that
    even a killed process leaves nothing; ``named`` gives it one beside ``path``, for
    a writer like DuckDB that makes files beside its own. ``private`` is for the owner
    alone, whatever the umask; without it the umask rules. Raises OutputError for a
    folder that is missing, a file that exists (unless ``force``) and anything the
    system refuses. What is replaced keeps its mode, and a link its place.
    """
    check_target(path, force=force)
    path = path.resolve() if path.is_symlink() else path
    mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else _new_mode(private=private)
    try:
        handle = None if named else _nameless(path.parent)
        if handle is not None:
            with _closing(handle):
                yield Path(f"/proc/self/fd/{handle}")
                os.fchmod(handle, mode)
                os.fsync(handle)
                _name_handle(handle, path, force=force)
            return
        with _named(path) as temporary:
            yield temporary
            if os.name != "nt":
                temporary.chmod(mode)
            _settle(temporary, path, force=force)
    except OSError as problem:
        raise OutputError(f"cannot write {path}: {problem.strerror or problem}") from None


def open_private(path: Path) -> IO[bytes]:
    """``path`` opened to append and to read; made, for its owner alone, where it is missing."""
    return open(path, "a+b", opener=lambda name, flags: os.open(name, flags, 0o600))


def _nameless(folder: Path) -> int | None:
    """An open file in ``folder`` that has no name, or None where there is no such thing."""
    flag = getattr(os, "O_TMPFILE", None)
    if flag is None:
        return None
    try:
        handle = os.open(folder, flag | os.O_RDWR, 0o600)
    except OSError:
        return None
    if not Path(f"/proc/self/fd/{handle}").exists():
        os.close(handle)
        return None
    return handle


@contextlib.contextmanager
def _closing(handle: int) -> Iterator[None]:
    try:
        yield
    finally:
        os.close(handle)


def _name_handle(handle: int, path: Path, *, force: bool) -> None:
    if not force:
        _link(handle, path)
        return
    temporary = path.with_name(f".{path.name[:40]}-{os.getpid()}-{handle}")
    _link(handle, temporary)  # whole already: only its name is yet to come
    temporary.replace(path)


def _link(handle: int, path: Path) -> None:
    try:
        # Any descriptor as src_dir_fd makes this linkat(2), which follows the link.
        os.link(f"/proc/self/fd/{handle}", path, src_dir_fd=handle)
    except FileExistsError:
        raise OutputError(f"{path} exists", hint="--force replaces it") from None


@contextlib.contextmanager
def _named(path: Path) -> Iterator[Path]:
    handle, name = tempfile.mkstemp(prefix=f".{path.name[:40]}-", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def check_target(path: Path, *, force: bool = False) -> None:
    """Refuse a target that cannot be written, before any work is done for it."""
    if path.is_dir():
        raise OutputError(f"{path} is a folder", hint="give the name of a file")
    if not path.parent.is_dir():
        raise OutputError(f"no such folder: {path.parent}", hint="make the folder first")
    if path.exists() and not path.is_file():
        raise OutputError(f"{path} is not a regular file", hint="a file would take its place")
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


def _new_mode(*, private: bool) -> int:
    if private:
        return 0o600
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
