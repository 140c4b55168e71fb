"""A recording on disk: a folder that appears whole or not at all, and is checked when read.

manifest.json            what was asked, what answered, every file's SHA-256
hunts/NAME.yaml          the hunts as they were
answers/0001.json.gz     one answer's rows, as Log Analytics writes them
source/TABLE-0001.parquet  records that the hunts looked at, where asked for
"""

from __future__ import annotations

import gzip
import itertools
import shutil
import tempfile
import threading
import zlib
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from qakhunt.answers import wire_log_analytics
from qakhunt.answers.cells import WireError
from qakhunt.backends.recordings.manifest import NAME, ListedFile, Manifest, decode, encode
from qakhunt.core.errors import OutputError, RecordingError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qakhunt.answers.table import ResultTable

LARGEST_ANSWER = 1 << 30
"""Bytes of one decompressed answer."""
_BLOCK = 1 << 20


class RecordingWriter:
    """Collects the files of one recording; safe from several threads."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: list[ListedFile] = []
        self._lock = threading.Lock()
        self._numbers = {"answers": 0, "source": 0}
        for part in ("hunts", "answers", "source"):
            (folder / part).mkdir(mode=0o700)

    def answer(self, table: ResultTable) -> str:
        """Keep an answer's rows; gives the file's name."""
        name = self._next("answers", "{:04d}.json.gz")
        body = gzip.compress(wire_log_analytics.encode(table), 6, mtime=0)
        self._write(name, body)
        return name

    def source(self, name: str, table: ResultTable) -> str:
        """Keep records of the table ``name``; gives the file's name."""
        from qakhunt.backends.engine.parquet import write_records

        file = self._next("source", name + "-{:04d}.parquet")
        target = self.folder / file
        write_records(table, target)
        self._listed(file, target.stat().st_size, _hash_of(target))
        return file

    def hunt(self, name: str, data: bytes) -> str:
        """Keep a hunt's own file under its own name; gives the file's name."""
        digest = sha256(data).hexdigest()
        for number in itertools.count():
            file = f"hunts/{number}/{name}" if number else f"hunts/{name}"
            there = next((listed for listed in self._files if listed.path == file), None)
            if there is None:
                (self.folder / file).parent.mkdir(mode=0o700, exist_ok=True)
                self._write(file, data)
                return file
            if there.sha256 == digest:
                return file
        raise AssertionError

    def _next(self, part: str, pattern: str) -> str:
        with self._lock:
            self._numbers[part] += 1
            return f"{part}/{pattern.format(self._numbers[part])}"

    def _write(self, name: str, data: bytes) -> None:
        (self.folder / name).write_bytes(data)
        self._listed(name, len(data), sha256(data).hexdigest())

    def _listed(self, name: str, length: int, digest: str) -> None:
        (self.folder / name).chmod(0o600)
        with self._lock:
            self._files.append(ListedFile(name, length, digest))

    @property
    def files(self) -> tuple[ListedFile, ...]:
        """All files so far, by name."""
        return tuple(sorted(self._files, key=lambda file: file.path))

    def finish(self, manifest: Manifest) -> None:
        """Write the manifest, last."""
        target = self.folder / NAME
        target.write_bytes(encode(manifest))
        target.chmod(0o600)


@contextmanager
def new_recording(path: Path, *, private: bool, force: bool) -> Iterator[RecordingWriter]:
    """A writer whose folder takes ``path``'s place when the block ends well.

    It is for its owner alone, whatever the umask. ``private`` says that it holds people's
    real names, see ``check_place``. Raises OutputError for what cannot be written.
    """
    check_place(path, private=private, force=force)
    try:
        made = Path(tempfile.mkdtemp(prefix=f".{path.name[:40]}-", dir=path.parent))
        try:
            yield RecordingWriter(made)
            _take_place(made, path)
        finally:
            shutil.rmtree(made, ignore_errors=True)
    except OSError as problem:
        raise OutputError(f"cannot write {path}: {problem.strerror or problem}") from None


def check_place(path: Path, *, private: bool, force: bool) -> None:
    """Refuse, before any work, a place where the recording must not or cannot stand."""
    if not path.parent.is_dir():
        raise OutputError(f"no such folder: {path.parent}", hint="make the folder first")
    if path.exists():
        known = path.is_dir() and ((path / NAME).is_file() or not any(path.iterdir()))
        if not known:
            raise OutputError(f"{path} exists and is not a recording")
        if not force and any(path.iterdir()):
            raise OutputError(f"{path} exists", hint="--force replaces it")
    tree = next((p for p in path.absolute().parents if (p / ".git").exists()), None)
    if private and tree and not force:
        raise OutputError(
            f"{path} is inside the git work tree {tree}, and would hold people's real names",
            hint="record it elsewhere, leave out --keep-names, or insist with --force",
        )


def _take_place(made: Path, path: Path) -> None:
    old = None
    if path.exists():
        old = made.with_name(made.name + "-old")
        path.rename(old)
    made.rename(path)
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)


class Recording:
    """A recording that was read and found whole."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder, self.manifest = folder, manifest

    @classmethod
    def open(cls, folder: Path) -> Recording:
        """Read the manifest and check every file. Raises RecordingError, the file named."""
        path = folder / NAME
        if not folder.is_dir():
            raise RecordingError(f"no such recording: {folder}", hint="it is a folder")
        try:
            manifest = decode(path.read_bytes(), path)
        except FileNotFoundError:
            raise RecordingError(f"{folder}: not a recording: it has no {NAME}") from None
        except OSError as problem:
            raise RecordingError(f"cannot read {path}: {problem.strerror or problem}") from None
        for listed in manifest.files:
            _check(folder / listed.path, listed)
        known = {listed.path for listed in manifest.files}
        used = [a.file for a in manifest.answers] + [s.file for s in manifest.source]
        for name in [*used, *(hunt.file for hunt in manifest.hunts)]:
            if name is not None and name not in known:
                raise RecordingError(f"{path}: {name} is not among its files")
        return cls(folder, manifest)

    def path(self, name: str) -> Path:
        """The place of a file that the manifest names."""
        return self.folder / name

    def answer(self, name: str) -> ResultTable:
        """The rows of one answer. Raises RecordingError."""
        path = self.path(name)
        try:
            with gzip.open(path, "rb") as stream:
                body = stream.read(LARGEST_ANSWER + 1)
            if len(body) > LARGEST_ANSWER:
                raise RecordingError(f"{path}: the answer is too large")
            return wire_log_analytics.decode(body).table
        except (OSError, EOFError, zlib.error, WireError) as problem:
            raise RecordingError(f"{path}: not a whole answer: {problem}") from None


def _check(path: Path, listed: ListedFile) -> None:
    try:
        if path.is_symlink():
            raise RecordingError(f"{path}: a link, where a recording has files of its own")
        length = path.stat().st_size
        if length != listed.bytes:
            raise RecordingError(
                f"{path}: it has {length:,} bytes, and had {listed.bytes:,} when it was recorded"
            )
        if _hash_of(path) != listed.sha256:
            raise RecordingError(f"{path}: it was changed since it was recorded")
    except FileNotFoundError:
        raise RecordingError(f"{path}: the file is missing from the recording") from None
    except OSError as problem:
        raise RecordingError(f"cannot read {path}: {problem.strerror or problem}") from None


def _hash_of(path: Path) -> str:
    digest = sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
