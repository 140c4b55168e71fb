"""Finding the files of recorded events and telling what each one is.

An input is ``path`` or ``TABLE=path``: a file, a folder or a glob. Text files may
be gzipped, have a BOM, or be UTF-16; what a file is, is checked before it is read.
What is left out on the way is accounted for.
"""

from __future__ import annotations

import codecs
import glob
import gzip
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal

from qakhunt.core.errors import EventsError
from qakhunt.kql.schema import PRODUCTS, tables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

DEFAULT_TABLE = "DeviceProcessEvents"

FORMATS = {
    ".ndjson": "ndjson", ".jsonl": "ndjson", ".json": "json",
    ".csv": "csv", ".parquet": "parquet",
}  # fmt: skip
"""Suffix -> format; text formats may carry ``.gz`` behind it."""

MAX_EXPANDED = 16 << 30
"""Bytes that one compressed file may expand to."""

ASSUMED_UTC = "{}: its times name no zone and were read as UTC; --time-zone says otherwise"

_GZIP_MAGIC = b"\x1f\x8b"
_PARQUET_MAGIC = b"PAR1"
BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CHUNK = 1 << 20


@dataclass(frozen=True)
class InputOptions:
    """How event files are read.

    ``time_zone`` (IANA) is that of times in CSV that name none: without it they are
    read as UTC. ``date_order`` settles dates that do not tell. ``strict`` refuses
    records and files that are left out otherwise; ``max_expanded`` is in bytes.
    """

    time_zone: str | None = None
    date_order: Literal["day-first", "month-first"] | None = None
    strict: bool = False
    max_expanded: int = MAX_EXPANDED


@dataclass
class InputAccount:
    """What was left out of the inputs, and what was taken for granted, by file."""

    without_time: dict[str, int] = field(default_factory=dict)
    foreign: list[str] = field(default_factory=list)
    assumed_utc: list[str] = field(default_factory=list)

    @property
    def skipped(self) -> str:
        """Why an answer from these records is not the whole answer; empty where it is."""
        return "; ".join(
            f"{name}: {count:,} records without a time were left out"
            for name, count in self.without_time.items()
        )

    def warnings(self) -> list[str]:
        """What the user has to know."""
        found = [self.skipped] if self.without_time else []
        if self.foreign:
            shown = ", ".join(self.foreign[:5])
            more = f" and {len(self.foreign) - 5} more" if len(self.foreign) > 5 else ""
            found.append(f"files that hold no events were left out: {shown}{more}")
        return found + self.assumptions()

    def assumptions(self) -> list[str]:
        """What was taken for granted: it is among the warnings."""
        return [ASSUMED_UTC.format(name) for name in self.assumed_utc]


@dataclass(frozen=True)
class EventFile:
    """One file of records of one table, in one of ``FORMATS``.

    ``named`` says that the user named the table; ``found`` that the file was found in
    a folder.
    """

    table: str
    path: Path
    format: str
    named: bool = False
    found: bool = False

    @property
    def gzipped(self) -> bool:
        """Whether the file's name says that it is gzipped."""
        return self.path.suffix.lower() == ".gz"


def find_files(
    inputs: Iterable[str], account: InputAccount | None = None, *, strict: bool = False
) -> list[EventFile]:
    """All files that the inputs name, in order, each once.

    Files of a folder that are of another kind go to ``account``. Raises EventsError for
    an input that names none or a file of another kind, and for all when ``strict``.
    """
    found: dict[tuple[str, Path], EventFile] = {}
    for text in inputs:
        table, path_text = _split(text)
        paths, foreign = _expand(path_text)
        if foreign and strict:
            raise foreign_file(foreign[0])
        if account is not None:
            account.foreign += map(str, foreign)
        is_folder = Path(path_text).expanduser().is_dir()
        for path in paths:
            file = EventFile(
                table or _table_of(path), path, _format_of(path), table is not None, is_folder
            )
            check_content(file)
            found.setdefault((file.table, path), file)
    return list(found.values())


def _split(text: str) -> tuple[str | None, str]:
    name, equals, rest = text.partition("=")
    if equals and name.isidentifier() and not Path(text).exists():
        return name, rest
    return None, text


def foreign_file(path: Path) -> EventsError:
    """A file that holds no events, among others that do."""
    return EventsError(
        f"{path}: this holds no events", hint="without --strict it is counted and left out"
    )


def _expand(text: str) -> tuple[list[Path], list[Path]]:
    """The files of events, and those of another kind in a folder."""
    path = Path(text).expanduser()
    if path.is_dir():
        return files_in(path, lambda file: _suffix(file) in FORMATS, _hint())
    if path.exists():
        refuse_special(path)
        return [path], []
    if glob.has_magic(text):
        names = glob.glob(str(path), recursive=True)  # noqa: PTH207 - absolute patterns too
        files = sorted(found for found in map(Path, names) if found.is_file())
        if files:
            return files, []
        raise EventsError(f"{text}: no file matches")
    raise EventsError(f"no such file: {text}")


def files_in(
    folder: Path, belongs: Callable[[Path], bool], hint: str
) -> tuple[list[Path], list[Path]]:
    """The files of a folder that belong, and the others. Raises EventsError where none does."""
    every = sorted(path for path in folder.rglob("*") if not path.is_dir())
    files = [path for path in every if path.is_file() and belongs(path)]
    if not files:
        raise EventsError(f"{folder}: no event files in this folder", hint=hint)
    return files, [path for path in every if path not in set(files)]


def refuse_special(path: Path) -> None:
    """Refuse what is no regular file: reading a pipe or a device may never end."""
    if not path.is_file():
        raise EventsError(
            f"{path}: this is a pipe, a device or a socket, not a file of events",
            hint="write what it gives to a file first",
        )


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
    known = any(stem in tables(product) for product in PRODUCTS)
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


def plain_utf8(file: EventFile, folder: Path, limit: int = MAX_EXPANDED) -> Path:
    """A path to the file's text as UTF-8 without BOM; a copy only where it must be.

    Raises EventsError for text of another encoding, a cut gzip, or one that expands to
    more than ``limit`` bytes.
    """
    try:
        with _opened(file) as stream:
            head = stream.read(4)
            encoding = next((name for bom, name in BOMS if head.startswith(bom)), None)
            if encoding is None and head[1:2] == b"\x00":
                raise EventsError(
                    f"{file.path}: this looks like UTF-16 without a byte order mark",
                    hint="save it as UTF-8",
                )
        if encoding is None and not file.gzipped:
            return file.path
        copy = folder / f"text-{len(list(folder.iterdir()))}.txt"
        with _opened(file) as stream, copy.open("wb") as out:
            for chunk in _chunks(stream, encoding):
                if file.gzipped and stream.tell() > limit:
                    raise too_large(str(file.path), limit)
                out.write(chunk)
    except (EOFError, zlib.error, gzip.BadGzipFile) as problem:
        raise EventsError(f"{file.path}: the gzip data is cut short or broken: {problem}") from None
    except UnicodeError as problem:
        raise EventsError(f"{file.path}: broken UTF-16 text: {problem}") from None
    except OSError as problem:
        raise EventsError(f"cannot unpack {file.path}: {problem.strerror or problem}") from None
    return copy


def too_large(name: str, limit: int) -> EventsError:
    """A compressed file that expands beyond its limit."""
    return EventsError(
        f"{name}: expands to more than {limit / (1 << 30):g} GiB",
        hint="raise --max-expanded if you trust it",
    )


def _chunks(stream: IO[bytes], encoding: str | None) -> Iterator[bytes]:
    if encoding == "utf-16":
        reader = codecs.getreader("utf-16")(stream)
        while text := reader.read(_CHUNK):
            yield text.encode("utf-8")
        return
    stream.seek(3 if encoding else 0)
    while chunk := stream.read(_CHUNK):
        yield chunk


def _opened(file: EventFile) -> IO[bytes]:
    if file.gzipped:
        return gzip.open(file.path, "rb")  # type: ignore[return-value]
    return file.path.open("rb")
