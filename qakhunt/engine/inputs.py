"""Finding the files of recorded events and telling what each one is.

An input is ``path`` or ``TABLE=path``: a file, a folder or a glob. Text files may
be gzipped, have a BOM, or be UTF-16; what a file is, is checked before it is read.
"""

from __future__ import annotations

import codecs
import glob
import gzip
import shutil
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from qakhunt.errors import EventsError
from qakhunt.kql.schema import tables

if TYPE_CHECKING:
    from collections.abc import Iterable

DEFAULT_TABLE = "DeviceProcessEvents"

FORMATS = {
    ".ndjson": "ndjson", ".jsonl": "ndjson", ".json": "json",
    ".csv": "csv", ".parquet": "parquet",
}  # fmt: skip
"""Suffix -> format; text formats may carry ``.gz`` behind it."""

_GZIP_MAGIC = b"\x1f\x8b"
_PARQUET_MAGIC = b"PAR1"
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CHUNK = 1 << 20


@dataclass(frozen=True)
class EventFile:
    """One file of records of one table, in one of ``FORMATS``."""

    table: str
    path: Path
    format: str

    @property
    def gzipped(self) -> bool:
        """Whether the file's name says that it is gzipped."""
        return self.path.suffix.lower() == ".gz"


def find_files(inputs: Iterable[str]) -> list[EventFile]:
    """All files that the inputs name, in order, each once.

    Raises EventsError for an input that names none or a file of another kind.
    """
    found: dict[tuple[str, Path], EventFile] = {}
    for text in inputs:
        table, path_text = _split(text)
        for path in _expand(path_text):
            file = EventFile(table or _table_of(path), path, _format_of(path))
            check_content(file)
            found.setdefault((file.table, path), file)
    return list(found.values())


def _split(text: str) -> tuple[str | None, str]:
    name, equals, rest = text.partition("=")
    if equals and name.isidentifier() and not Path(text).exists():
        return name, rest
    return None, text


def _expand(text: str) -> list[Path]:
    path = Path(text).expanduser()
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file() and _suffix(p) in FORMATS)
        if not files:
            raise EventsError(f"{path}: no event files in this folder", hint=_hint())
        return files
    if path.exists():
        return [path]
    if glob.has_magic(text):
        names = glob.glob(str(path), recursive=True)  # noqa: PTH207 - absolute patterns too
        files = sorted(found for found in map(Path, names) if found.is_file())
        if files:
            return files
        raise EventsError(f"{text}: no file matches")
    raise EventsError(f"no such file: {text}")


def _suffix(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _format_of(path: Path) -> str:
    kind = FORMATS.get(_suffix(path))
    if kind is None:
        raise EventsError(f"{path}: not a kind of event file that is known", hint=_hint())
    return kind


def _hint() -> str:
    return f"event files end in {', '.join(FORMATS)}; text also in .gz"


def _table_of(path: Path) -> str:
    """A file called after a known table holds that table."""
    stem = path.name.split(".")[0]
    known = stem in tables("defender") or stem in tables("log-analytics")
    return stem if known else DEFAULT_TABLE


def check_content(file: EventFile) -> None:
    """Refuse a file that is plainly not what its name says."""
    path = file.path
    try:
        with path.open("rb") as stream:
            head = stream.read(4096)
            tail = _tail(stream)
    except OSError as problem:
        raise EventsError(f"cannot read {path}: {problem.strerror or problem}") from None
    if not head:
        raise EventsError(f"{path}: the file is empty")
    is_gzip = head.startswith(_GZIP_MAGIC)
    if file.gzipped != is_gzip:
        what = "is gzipped, but" if is_gzip else "is not gzipped, though"
        ending = "does not end" if is_gzip else "ends"
        raise EventsError(f"{path}: the file {what} its name {ending} in .gz")
    if file.format == "parquet":
        if not head.startswith(_PARQUET_MAGIC):
            raise EventsError(f"{path}: this is not Parquet{_guess(head)}")
        if tail != _PARQUET_MAGIC:
            raise EventsError(f"{path}: the Parquet file is cut short: it has no footer")
    elif head.startswith(_PARQUET_MAGIC):
        raise EventsError(f"{path}: this is Parquet, not {file.format}", hint="name it .parquet")


def _tail(stream: IO[bytes]) -> bytes:
    stream.seek(0, 2)
    if stream.tell() < 12:
        return b""
    stream.seek(-4, 2)
    return stream.read(4)


def _guess(head: bytes) -> str:
    start = head.lstrip()[:1]
    return "; it looks like JSON text" if start in (b"{", b"[") else ""


def plain_utf8(file: EventFile, folder: Path) -> Path:
    """A path to the file's text as UTF-8 without BOM; a copy only where it must be.

    Raises EventsError for text of another encoding or a cut gzip.
    """
    try:
        with _opened(file) as stream:
            head = stream.read(4)
            encoding = next((name for bom, name in _BOMS if head.startswith(bom)), None)
            if encoding is None and head[1:2] == b"\x00":
                raise EventsError(
                    f"{file.path}: this looks like UTF-16 without a byte order mark",
                    hint="save it as UTF-8",
                )
        if encoding is None and not file.gzipped:
            return file.path
        copy = folder / f"text-{len(list(folder.iterdir()))}.txt"
        with _opened(file) as stream, copy.open("wb") as out:
            if encoding == "utf-16":
                reader = codecs.getreader("utf-16")(stream)
                while chunk := reader.read(_CHUNK):
                    out.write(chunk.encode("utf-8"))
            else:
                stream.seek(3 if encoding else 0)
                shutil.copyfileobj(stream, out, _CHUNK)
    except (EOFError, zlib.error, gzip.BadGzipFile) as problem:
        raise EventsError(f"{file.path}: the gzip data is cut short or broken: {problem}") from None
    except UnicodeError as problem:
        raise EventsError(f"{file.path}: broken UTF-16 text: {problem}") from None
    return copy


def _opened(file: EventFile) -> IO[bytes]:
    if file.gzipped:
        return gzip.open(file.path, "rb")  # type: ignore[return-value]
    return file.path.open("rb")
