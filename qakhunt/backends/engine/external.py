"""Files that stand for the addresses of ``externaldata``: given, never fetched."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from qakhunt.core.errors import EventsError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MOST_BYTES = 512 << 20
"""Bytes that one file may hold or expand to."""

_SEPARATORS = {"csv": ",", "tsv": "\t", "tsve": "\t", "psv": "|", "scsv": ";", "ssv": ";",
               "sohsv": "\x01"}  # fmt: skip
FORMATS = (*_SEPARATORS, "txt", "raw", "json", "multijson")
_SUFFIXES = {"jsonl": "json", "ndjson": "json", "log": "txt", "dat": "csv", "intel": "txt"}


class ExternalFiles:
    """Address -> file: ``URL=PATH`` each, or a folder with ``host/path`` of the addresses."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._paths: dict[str, Path] = {}
        self._folders: list[Path] = []
        for text in texts:
            address, equals, path = text.rpartition("=")
            if Path(text).is_dir():
                self._folders.append(Path(text))
            elif not equals or "://" not in address:
                raise UsageError(
                    f"--external {text!r}: neither URL=PATH nor a folder",
                    hint="such as --external https://example.org/list.csv=list.csv",
                )
            elif not Path(path).is_file():
                raise UsageError(f"--external {address}: no such file: {path}")
            else:
                self._paths[address] = Path(path)

    def find(self, address: str) -> Path | None:
        """The file of an address, whose signature (``?...``, ``;...``) need not be the same."""
        plain = shown(address)
        for known, path in self._paths.items():
            if known in (address, plain) or shown(known) == plain:
                return path
        parts = urlsplit(plain)
        for folder in self._folders:
            path = folder / parts.netloc / parts.path.lstrip("/")
            if path.is_file() and path.resolve().is_relative_to(folder.resolve()):
                return path
        return None


_given = ExternalFiles()


def give_external(texts: Sequence[str] | None) -> None:
    """Let the engine read these files in place of addresses in this process."""
    global _given
    _given = ExternalFiles(texts or ())


def external_files() -> ExternalFiles:
    """What ``give_external`` was given last."""
    return _given


def shown(address: str) -> str:
    """An address without what may be its secret: user, query, and what follows a semicolon."""
    head = address.partition(";")[0].partition("?")[0].partition("#")[0]
    scheme, mark, rest = head.partition("://")
    return f"{scheme}{mark}{rest.rpartition('@')[2] if '@' in rest.partition('/')[0] else rest}"


def read_bytes(path: Path) -> bytes:
    """The file, unpacked where it is gzipped or the one member of a zip. Raises EventsError."""
    try:
        with path.open("rb") as stream:
            data = stream.read(MOST_BYTES + 1)
        if data.startswith(b"\x1f\x8b"):
            with gzip.open(io.BytesIO(data)) as packed:
                data = packed.read(MOST_BYTES + 1)
        elif data.startswith(b"PK\x03\x04"):
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                members = [one for one in archive.infolist() if not one.is_dir()]
                if len(members) != 1:
                    raise EventsError(f"{path}: a zip of {len(members)} files, not of one")
                with archive.open(members[0]) as packed:
                    data = packed.read(MOST_BYTES + 1)
    except (OSError, EOFError, zipfile.BadZipFile) as problem:
        raise EventsError(f"cannot read {path}: {problem}") from None
    if len(data) > MOST_BYTES:
        raise EventsError(f"{path}: holds more than {MOST_BYTES >> 20} MiB")
    return data


def format_of(address: str) -> str:
    """The format that the address's ending says; CSV where it says none."""
    endings = shown(address).rpartition("/")[2].lower().split(".")[1:]
    named = [_SUFFIXES.get(one, one) for one in endings if one not in ("gz", "zip")]
    return named[-1] if named and named[-1] in FORMATS else "csv"


def rows(data: bytes, kind: str, columns: Sequence[str]) -> list[list[str | None]]:
    """The records as texts, one cell a column. Raises ValueError for what is no such file."""
    text = data.decode(
        "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig", "replace"
    )
    width = len(columns)
    if kind == "raw":
        found: Iterable[Sequence[str | None]] = [[text]]
    elif kind == "txt":
        found = [[line] for line in text.splitlines()]
    elif kind in ("json", "multijson"):
        found = [[_text(one.get(name)) for name in columns] for one in _objects(text)]
    else:
        csv.field_size_limit(MOST_BYTES)
        try:
            found = [
                row for row in csv.reader(io.StringIO(text, ""), delimiter=_SEPARATORS[kind]) if row
            ]
        except csv.Error as problem:
            raise ValueError(str(problem)) from None
    return [[*row, *[None] * (width - len(row))][:width] for row in found]


def _objects(text: str) -> list[dict[str, Any]]:
    try:
        whole = json.loads(text)
        found = whole if isinstance(whole, list) else [whole]
    except json.JSONDecodeError:
        found = [json.loads(line) for line in text.splitlines() if line.strip()]
    return [one for one in found if isinstance(one, dict)]


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value)
