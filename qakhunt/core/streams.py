"""The program's own streams: all that is written arrives, or there is an error.

A reader that has read enough (``| head -1``) ends the output, not the program.
"""

from __future__ import annotations

import io
import os
import select
import sys
from typing import TYPE_CHECKING, Any

from qakhunt.core.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Callable


class Descriptor(io.RawIOBase):
    """Writes to a file descriptor; None is one that was closed before the program began.

    ``failed`` is called once for a fault; whatever is written after one goes nowhere.
    ``lost`` is True from then on, and once nobody reads any more, which is no fault.
    """

    def __init__(self, number: int | None, failed: Callable[[str], None]) -> None:
        super().__init__()
        self._number, self._failed = number, failed
        self.lost = False

    def writable(self) -> bool:
        """Always."""
        return True

    def fileno(self) -> int:
        """The descriptor's number. Raises UnsupportedOperation where it is closed."""
        if self._number is None:
            raise io.UnsupportedOperation("fileno")
        return self._number

    def isatty(self) -> bool:
        """Whether a terminal is at its other end."""
        return self._number is not None and os.isatty(self._number)

    def write(self, data: Any) -> int:
        """Write some of ``data``; how many bytes."""
        size = memoryview(data).nbytes
        if self.lost:
            return size
        if self._number is None:
            return self._fault("it is closed", size)
        try:
            return self._written(self._number, data)
        except BrokenPipeError:
            self.lost = True
        except OSError as problem:
            return self._fault(problem.strerror or str(problem), size)
        return size

    def _written(self, number: int, data: Any) -> int:
        while True:
            try:
                return os.write(number, data)
            except BlockingIOError:
                select.select([], [number], [])

    def _fault(self, why: str, size: int) -> int:
        self.lost = True
        self._failed(why)
        return size


def install() -> None:
    """Put both streams of the process on descriptors of ours. stderr never fails."""
    sys.stdout = _opened(sys.stdout, 1, _refuse)
    sys.stderr = _opened(sys.stderr, 2, lambda _why: None)


def _refuse(why: str) -> None:
    raise OutputError(f"cannot write to standard output: {why}")


def _opened(stream: Any, number: int, failed: Callable[[str], None]) -> Any:
    """A text stream like ``stream``, which is None where its descriptor is closed."""
    if stream is None:
        raw = Descriptor(None, failed)
        return io.TextIOWrapper(io.BufferedWriter(raw), encoding="utf-8", errors="backslashreplace")
    binary = getattr(stream, "buffer", None)
    # A console of Windows, and whatever a caller put in place, stay as they are.
    if type(getattr(binary, "raw", binary)) is not io.FileIO:
        return stream
    stream.flush()
    at_once = number == 2 or stream.isatty() or not hasattr(binary, "raw")
    return io.TextIOWrapper(
        io.BufferedWriter(Descriptor(stream.fileno(), failed)),
        encoding=stream.encoding, errors=stream.errors, line_buffering=at_once,
    )  # fmt: skip


def send_to_stdout(data: bytes) -> None:
    """Write and flush. Raises OutputError where it did not arrive, a reader gone included."""
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
    if getattr(getattr(sys.stdout.buffer, "raw", None), "lost", False):
        raise OutputError("cannot write to standard output: what is written there is lost")
