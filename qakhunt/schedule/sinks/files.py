"""Findings into a file, a folder or standard output, as JSON."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import msgspec

from qakhunt.errors import ConfigError, OutputError
from qakhunt.reports.writing import open_private, whole_file
from qakhunt.schedule.sinks.base import NotTaken, heartbeat_key, to_json
from qakhunt.schedule.store import Message
from qakhunt.streams import send_to_stdout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qakhunt.schedule.sinks.base import Report, Surroundings

_OURS = b'{"schema": "qakhunt.'


class PathSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file or folder; its parent must exist."""

    path: str


class NoSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Nothing to set."""


class _JsonSink:
    def __init__(self, name: str) -> None:
        self.name = name

    def messages(self, report: Report) -> Iterator[Message]:
        """One per finding."""
        for finding in report.findings:
            yield Message(self.name, finding["id"], to_json(finding), findings=(finding["id"],))

    def heartbeat(self, document: dict[str, Any]) -> list[Message]:
        """The document as it is."""
        return [Message(self.name, heartbeat_key(document), to_json(document), "heartbeat")]

    def close(self) -> None:
        """Nothing is held open."""


class FileSink(_JsonSink):
    """JSON lines appended to one file, each whole and on the disk before it counts."""

    def __init__(self, name: str, settings: PathSettings, _: Surroundings) -> None:
        super().__init__(name)
        self._path = Path(settings.path)
        if self._path.is_dir():
            raise ConfigError(f"sink {name}: {self._path} is a folder", hint="use folder: for one")
        if not self._path.parent.is_dir():
            raise ConfigError(f"sink {name}: no such folder: {self._path.parent}")

    def send(self, message: Message) -> None:
        """Append the line."""
        try:
            with open_private(self._path) as stream:
                _mend(stream)
                stream.write(message.payload + b"\n")
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as problem:
            raise NotTaken(
                f"cannot write {self._path}: {problem.strerror or problem}", again=False
            ) from None


def _mend(stream: IO[bytes]) -> None:
    """Take away the half line that a crash left; end a line of somebody else's."""
    size = stream.seek(0, os.SEEK_END)
    if size == 0:
        return
    stream.seek(size - 1)
    if stream.read(1) == b"\n":
        return
    start = _last_line(stream, size)
    stream.seek(start)
    head = stream.read(len(_OURS))
    if head == _OURS[: len(head)]:
        stream.truncate(start)
    else:
        stream.seek(0, os.SEEK_END)
        stream.write(b"\n")


def _last_line(stream: IO[bytes], size: int) -> int:
    """Where the unfinished last line begins."""
    end = size
    while end > 0:
        start = max(0, end - 65_536)
        stream.seek(start)
        found = stream.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


class FolderSink(_JsonSink):
    """One file per finding, named by its id; sending one again replaces it by itself."""

    def __init__(self, name: str, settings: PathSettings, _: Surroundings) -> None:
        super().__init__(name)
        self._folder = Path(settings.path)
        if not self._folder.is_dir():
            raise ConfigError(f"sink {name}: no such folder: {self._folder}")

    def send(self, message: Message) -> None:
        """Write the file, whole or not at all."""
        stem = "heartbeat" if message.kind == "heartbeat" else message.key
        try:
            with whole_file(self._folder / f"{stem}.json", force=True) as path:
                path.write_bytes(message.payload + b"\n")
        except OutputError as problem:
            raise NotTaken(problem.message, again=False) from None


class StdoutSink(_JsonSink):
    """JSON lines on standard output."""

    def __init__(self, name: str, _settings: NoSettings, _: Surroundings) -> None:
        super().__init__(name)

    def send(self, message: Message) -> None:
        """Write the line and flush it."""
        try:
            send_to_stdout(message.payload + b"\n")
        except OutputError as problem:
            raise NotTaken(problem.message, again=False) from None
