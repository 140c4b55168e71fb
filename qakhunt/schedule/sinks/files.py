"""Findings into a file or to standard output, as JSON lines."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, TYPE_CHECKING

import msgspec

from qakhunt.core.errors import ConfigError, OutputError
from qakhunt.core.streams import send_to_stdout
from qakhunt.core.writing import open_private
from qakhunt.schedule.sinks.base import NotTaken, Sink, SinkContext, SinkKind

if TYPE_CHECKING:
    from qakhunt.schedule.store import Message

_OURS = b'{"schema": "qakhunt.'


class FileSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file; its folder must exist."""

    path: str


class StdoutSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Nothing to set."""


class FileSink(Sink):
    """JSON lines appended to one file, each whole and on the disk before it counts."""

    def __init__(self, name: str, settings: FileSettings, _: SinkContext) -> None:
        super().__init__(name)
        self._path = Path(settings.path)
        if self._path.is_dir():
            raise ConfigError(
                f"sink {name}: {self._path} is a folder", hint="give the name of a file in it"
            )
        if not self._path.parent.is_dir():
            raise ConfigError(f"sink {name}: no such folder: {self._path.parent}")

    def send(self, message: Message) -> None:
        """Append the line."""
        try:
            with open_private(self._path) as stream:
                _repair(stream)
                stream.write(message.payload + b"\n")
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as problem:
            raise NotTaken(
                f"cannot write {self._path}: {problem.strerror or problem}", again=False
            ) from None


class StdoutSink(Sink):
    """JSON lines on standard output."""

    def __init__(self, name: str, _settings: StdoutSettings, _: SinkContext) -> None:
        super().__init__(name)

    def send(self, message: Message) -> None:
        """Write the line and flush it."""
        try:
            send_to_stdout(message.payload + b"\n")
        except OutputError as problem:
            raise NotTaken(problem.message, again=False) from None


def _repair(stream: IO[bytes]) -> None:
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


FILE = SinkKind(
    "file", "file:PATH", lambda address: {"path": address}, FileSettings, FileSink,
    not_in_automation="a file does not outlive the job",
)  # fmt: skip
STDOUT = SinkKind(
    "stdout", "stdout", lambda address: {"address": address} if address else {},
    StdoutSettings, StdoutSink, not_in_automation="the job stream is no place for findings",
)  # fmt: skip
