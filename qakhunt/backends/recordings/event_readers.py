"""Records out of one source, one after the other, in flat memory.

A record is decoded JSON (an object), or the XML of one event; each comes with its
line, or its record number in an evtx. What cannot be read comes as ``Broken``.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from qakhunt.core.errors import EventsError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qakhunt.backends.recordings.event_sources import EventSource

MAX_RECORD = 16 << 20
"""Bytes of one record; Windows' own limit for an event is 64 KiB."""

_CHUNK = 1 << 18
_EVTX_HEADER, _EVTX_CHUNK = 4096, 65536
_BETWEEN = re.compile(r"(?:[\s,\[\]]+|Record \d+)*")
_NEXT_OBJECT = re.compile(r"\n[ \t\[]*(?=\{)")
_XML_EVENT = re.compile(rb"<Event[\s>].*?</Event>", re.DOTALL)


@dataclass(frozen=True)
class Broken:
    """A record that cannot be read, and why."""

    why: str


def read_records(source: EventSource) -> Iterator[tuple[int, Any]]:
    """Line or record number, and the record.

    The record is a line of JSON (bytes, not yet decoded), a decoded object, the
    XML of an event (bytes that begin with ``<``), or Broken.
    """
    if source.kind == "evtx":
        yield from _evtx(source)
        return
    with source.open() as stream:
        if source.kind == "xml":
            yield from _xml_events(stream)
        else:
            yield from _json_records(stream)


def _json_records(stream: IO[bytes]) -> Iterator[tuple[int, Any]]:
    """One object a line where the first line is one; else values one after the other."""
    lines = iter(stream)
    number = 0
    first = b""
    for line in lines:
        number += 1
        if line.strip():
            first = line
            break
    if not _is_object(first):
        yield from _Values(first, number, lines)
        return
    yield number, first
    for line in lines:
        number += 1
        if len(line) > MAX_RECORD:
            yield number, Broken(f"longer than {MAX_RECORD >> 20} MiB")
        elif len(line) > 2:
            yield number, line
        elif line.strip():
            yield number, Broken("not a JSON object")


def _is_object(line: bytes) -> bool:
    if not line.lstrip().startswith(b"{"):
        return False
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        # A broken first line of many is no reason to read the file another way.
        return line.rstrip().endswith(b"}")


class _Values:
    """JSON values one after the other, whatever stands between them.

    After a broken one reading goes on at the next line that opens an object.
    """

    def __init__(self, first: bytes, number: int, lines: Iterator[bytes]) -> None:
        self.lines = lines
        self.text, self.at, self.line = first.decode("utf-8", "replace"), 0, number
        self.ended = False
        self.decoder = json.JSONDecoder()

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        while True:
            self._move_to(_BETWEEN.match(self.text, self.at).end())  # type: ignore[union-attr]
            if self.at == len(self.text):
                if self.ended:
                    return
                self._read_on()
                continue
            try:
                value, end = self.decoder.raw_decode(self.text, self.at)
            except (ValueError, RecursionError) as problem:
                if self._is_unfinished(problem):
                    self._read_on()
                    continue
                yield self.line, Broken(getattr(problem, "msg", "nested too deeply"))
                following = _NEXT_OBJECT.search(self.text, self.at + 1)
                self._move_to(following.end() if following else len(self.text))
            else:
                yield self.line, value if isinstance(value, dict) else Broken("not a JSON object")
                self._move_to(end)

    def _move_to(self, end: int) -> None:
        self.line += self.text.count("\n", self.at, end)
        self.at = end

    def _is_unfinished(self, problem: Exception) -> bool:
        if self.ended or len(self.text) - self.at > MAX_RECORD:
            return False
        if not isinstance(problem, json.JSONDecodeError):
            return False
        return problem.msg.startswith("Unterminated") or problem.pos >= len(self.text.rstrip()) - 8

    def _read_on(self) -> None:
        parts, size = [self.text[self.at :]], 0
        self.ended = True
        for line in self.lines:
            parts.append(line.decode("utf-8", "replace"))
            size += len(line)
            if size >= _CHUNK:
                self.ended = False
                break
        self.text, self.at = "".join(parts), 0


def _xml_events(stream: IO[bytes]) -> Iterator[tuple[int, Any]]:
    """The text of every ``<Event>`` element."""
    held, line = b"", 1
    while True:
        chunk = stream.read(_CHUNK)
        held += chunk
        end = 0
        for match in _XML_EVENT.finditer(held):
            line += held.count(b"\n", end, match.start())
            yield line, match[0]
            line += held.count(b"\n", match.start(), match.end())
            end = match.end()
        held = held[end:]
        if not chunk or len(held) > MAX_RECORD:
            if b"<Event" in held.replace(b"<Events", b""):
                yield line, Broken("an <Event> without an end")
            if not chunk:
                return
            held = b""


def _evtx(source: EventSource) -> Iterator[tuple[int, Any]]:
    parser_type = _evtx_parser()
    with _as_file(source) as path:
        try:
            records = parser_type(str(path), 1).records_json()
        except (OSError, RuntimeError) as problem:
            raise EventsError(f"{source.name}: not a whole event log: {problem}") from None
        number = 0
        while True:
            try:
                record = next(records)
            except StopIteration:
                break
            except (RuntimeError, OSError) as problem:
                number += 1
                yield number, Broken(str(problem))
                continue
            number = record["event_record_id"]
            yield number, record["data"].encode()
        missing = _missing_chunks(path)
        if missing:
            yield (
                number + 1,
                Broken(f"the file is cut short: {missing} chunks of 64 KiB are missing"),
            )


def _evtx_parser() -> Any:
    try:
        from evtx import PyEvtxParser
    except ImportError:
        raise EventsError(
            "reading .evtx needs the package 'evtx'", hint="pip install 'qakhunt[evtx]'"
        ) from None
    return PyEvtxParser


def _missing_chunks(path: Path) -> int:
    """Chunks that the header counts and the file lacks."""
    with path.open("rb") as stream:
        header = stream.read(44)
    counted = int.from_bytes(header[42:44], "little")
    have = (path.stat().st_size - _EVTX_HEADER) // _EVTX_CHUNK
    return max(0, counted - have)


@contextmanager
def _as_file(source: EventSource) -> Iterator[Path]:
    """An evtx is read by place, so one out of an archive is unpacked under a name of ours."""
    if source.member is None and source.path.suffix.lower() != ".gz":
        yield source.path
        return
    with tempfile.TemporaryDirectory(prefix="qakhunt-") as folder:
        path = Path(folder) / "log.evtx"
        with source.open() as stream, path.open("wb") as out:
            shutil.copyfileobj(stream, out)
        yield path
