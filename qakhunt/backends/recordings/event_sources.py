"""The files of an import: what is given, in folders and in zips, recognised by content.

A member of a zip is streamed, never written under its own name; what an archive
may expand to is bounded.
"""

from __future__ import annotations

import codecs
import gzip
import io
import zipfile
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, TYPE_CHECKING, Literal, cast

from qakhunt.backends.engine.csv_reader import DELIMITERS
from qakhunt.backends.engine.inputs import (
    BOMS,
    MAX_EXPANDED,
    files_in,
    foreign_file,
    refuse_special,
    too_large,
)
from qakhunt.core.errors import EventsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Kind = Literal["evtx", "json", "xml", "csv"]

SUFFIXES = (".evtx", ".json", ".jsonl", ".ndjson", ".log", ".xml", ".csv", ".zip", ".gz")
"""Endings of the files that are taken from a folder; a file that is named may have any."""

_HEAD = 4096
_EVTX, _ZIP, _GZIP = b"ElfFile\x00", b"PK\x03\x04", b"\x1f\x8b"
_EMPTY_ZIP = b"PK\x05\x06"


@dataclass(frozen=True)
class EventSource:
    """One file, or one member of a zip, that holds events.

    ``name`` is the path as given, with ``!member`` for a member; ``size`` is in
    bytes as stored, for progress.
    """

    name: str
    kind: Kind
    path: Path
    size: int
    member: str | None = None
    limit: int = MAX_EXPANDED

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """The content as UTF-8 text or evtx bytes. Raises EventsError for broken data."""
        try:
            with _raw(self) as stream:
                head = stream.peek(4)[:4]
                encoding = next((name for bom, name in BOMS if head.startswith(bom)), None)
                if encoding == "utf-16":
                    yield cast("IO[bytes]", _Utf8(stream))
                    return
                if encoding:
                    stream.read(3)
                yield stream
        except (zlib.error, EOFError, gzip.BadGzipFile, zipfile.BadZipFile) as problem:
            raise EventsError(
                f"{self.name}: the compressed data is cut short or broken: {problem}"
            ) from None
        except UnicodeError as problem:
            raise EventsError(f"{self.name}: broken UTF-16 text: {problem}") from None
        except OSError as problem:
            raise EventsError(f"cannot read {self.name}: {problem.strerror or problem}") from None


class _ForeignError(EventsError):
    """A file that holds no events; among others it is left out."""


def find_sources(
    inputs: Sequence[str], limit: int = MAX_EXPANDED, *, strict: bool = False
) -> tuple[list[EventSource], list[str]]:
    """All sources that the inputs name, each once, and the files left aside.

    Those are files of folders and members of archives that hold no events. Raises
    EventsError for an input that is missing or holds none, and for all when ``strict``.
    """
    sources: dict[str, EventSource] = {}
    ignored: list[str] = []
    for text in inputs:
        path = Path(text).expanduser()
        if path.is_dir():
            wanted, others = files_in(path, lambda p: p.suffix.lower() in SUFFIXES, _hint())
            ignored += map(str, others)
        elif path.exists():
            refuse_special(path)
            wanted = [path]
        else:
            raise EventsError(f"no such file: {text}")
        for file in wanted:
            try:
                found = _sources_of(file, limit, ignored)
            except _ForeignError:
                if not path.is_dir():
                    raise
                ignored.append(str(file))
                continue
            for source in found:
                sources.setdefault(source.name, source)
    if ignored and strict:
        raise foreign_file(Path(ignored[0]))
    if not sources:
        raise EventsError(f"{ignored[0]}: this is no event log", hint=_hint())
    return list(sources.values()), ignored


def _hint() -> str:
    return f"event files end in {', '.join(SUFFIXES)}"


def _sources_of(path: Path, limit: int, ignored: list[str]) -> list[EventSource]:
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD)
        size = path.stat().st_size
    except OSError as problem:
        raise EventsError(f"cannot read {path}: {problem.strerror or problem}") from None
    if not head:
        raise EventsError(f"{path}: the file is empty")
    if head.startswith((_ZIP, _EMPTY_ZIP)):
        return _members(path, limit, ignored)
    if head.startswith(_GZIP):
        plain = EventSource(str(path), "json", path, size, limit=limit)
        with plain.open() as stream:
            kind = _kind(str(path), stream.read(_HEAD))
        return [EventSource(str(path), kind, path, size, limit=limit)]
    return [EventSource(str(path), _kind(str(path), head), path, size)]


def _members(path: Path, limit: int, ignored: list[str]) -> list[EventSource]:
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError) as problem:
        raise EventsError(f"{path}: the zip is cut short or broken: {problem}") from None
    found = []
    with archive:
        members = [info for info in archive.infolist() if not info.is_dir()]
        declared = sum(info.file_size for info in members)
        if declared > limit:
            raise too_large(str(path), limit)
        for info in members:
            name = f"{path}!{info.filename}"
            _check_member(info, name)
            source = EventSource(name, "json", path, info.compress_size, info.filename, limit)
            with source.open() as stream:
                head = stream.read(_HEAD)
            if head.startswith(_ZIP):
                raise EventsError(f"{name}: a zip inside a zip is not read", hint="unpack it first")
            try:
                kind = _kind(name, head)
            except _ForeignError:
                ignored.append(name)
                continue
            found.append(EventSource(name, kind, path, info.compress_size, info.filename, limit))
    if not found:
        raise EventsError(f"{path}: the zip holds no events")
    return found


def _check_member(info: zipfile.ZipInfo, name: str) -> None:
    if info.flag_bits & 0x1:
        raise EventsError(f"{name}: the zip is encrypted", hint="unpack it with its password first")
    parts = {*PurePosixPath(info.filename).parts, *PureWindowsPath(info.filename).parts}
    rooted = info.filename.startswith(("/", "\\")) or PureWindowsPath(info.filename).drive
    if ".." in parts or rooted:
        raise EventsError(
            f"{name}: its path climbs out of the archive",
            hint="do not trust where this zip came from",
        )


def _kind(name: str, head: bytes) -> Kind:
    """What the content is, by its first bytes."""
    if head.startswith(_EVTX):
        return "evtx"
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = head[: len(head) & ~1].decode("utf-16", "replace")
    else:
        text = head.decode("utf-8-sig", "replace")
    text = text.lstrip()
    if text.startswith(("{", "[", "Record ")):
        return "json"
    if text.startswith("<") and "<Event" in text:
        return "xml"
    first = text.partition("\n")[0]
    if any(d in first for d in DELIMITERS) and any(
        word in first for word in ("Timestamp", "TimeGenerated", "DeviceName")
    ):
        return "csv"
    raise _ForeignError(
        f"{name}: this is no event log",
        hint="evtx, JSON or XML events, and Defender's CSV export are read, also in zip and gz",
    )


@contextmanager
def _raw(source: EventSource) -> Iterator[io.BufferedReader]:
    if source.member is not None:
        with zipfile.ZipFile(source.path) as archive, archive.open(source.member) as member:
            yield _bounded(member, source)
        return
    with source.path.open("rb") as stream:
        if stream.read(2) == _GZIP:
            stream.seek(0)
            with gzip.open(stream) as unpacked:
                yield _bounded(cast("IO[bytes]", unpacked), source)
            return
        stream.seek(0)
        yield stream


def _bounded(stream: IO[bytes], source: EventSource) -> io.BufferedReader:
    return io.BufferedReader(_Bounded(stream, source), 1 << 16)


class _Bounded(io.RawIOBase):
    """Stops a stream that expands beyond its limit, whatever its header claims."""

    def __init__(self, stream: IO[bytes], source: EventSource) -> None:
        self.stream, self.source, self.left = stream, source, source.limit

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self.stream.read(len(buffer))
        self.left -= len(data)
        if self.left < 0:
            raise too_large(self.source.name, self.source.limit)
        buffer[: len(data)] = data
        return len(data)


class _Utf8:
    """A UTF-16 stream read as UTF-8, by lines or by size."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.text = io.TextIOWrapper(stream, encoding="utf-16", newline="\n")

    def __iter__(self) -> Iterator[bytes]:
        return (line.encode("utf-8", "surrogatepass") for line in self.text)

    def read(self, size: int = -1) -> bytes:
        return self.text.read(size).encode("utf-8", "surrogatepass")
