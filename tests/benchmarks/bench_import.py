"""Import of Windows events beside a bare ``json.loads`` loop over the same lines."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from qakhunt.backends.recordings.event_shapes import Unreadable, read_event
from qakhunt.backends.recordings.windows_events import import_events
from tests.benchmarks.table import Row, beside
from tests.support.windows_events import SECURITY, SYSMON, flat

if TYPE_CHECKING:
    from collections.abc import Iterator

LINES = 200_000


def rows(names: list[str]) -> Iterator[Row]:
    """The named files as captured and their process creations alone; without a name,
    a made-up capture of which one event in ten creates a process."""
    lines = [line for name in names for line in Path(name).read_bytes().splitlines()]
    lines = lines or list(_made_up())
    creations = [line for line in lines if _is_creation(line)]
    with tempfile.TemporaryDirectory(prefix="qakhunt-bench-") as folder:
        for title, chosen in (("as captured", lines), ("process creations", creations)):
            if chosen:
                yield _measure(f"import Windows events, {title}", _repeated(chosen), Path(folder))


def _made_up() -> Iterator[bytes]:
    other = flat(
        10, {"SourceImage": "C:\\a.exe", "TargetImage": "C:\\b.exe", "CallTrace": "x" * 300}
    )
    for n in range(100):
        created = flat(1, SYSMON) if n % 20 else flat(4688, SECURITY)
        yield json.dumps(other if n % 10 else created).replace('": ', '":').encode()


def _is_creation(line: bytes) -> bool:
    try:
        return read_event(line).is_process_creation
    except Unreadable:
        return False


def _repeated(lines: list[bytes]) -> list[bytes]:
    """LINES lines; each round has a host of its own, so that none is a duplicate."""
    rounds = -(-LINES // len(lines))
    return [
        line.replace(b'"Hostname":"', b'"Hostname":"h%d-' % n)
        for n in range(rounds)
        for line in lines
    ][:LINES]


def _measure(title: str, lines: list[bytes], folder: Path) -> Row:
    path = folder / "events.json"
    path.write_bytes(b"\n".join(lines) + b"\n")

    def bare() -> None:
        with path.open("rb") as stream:
            for line in stream:
                json.loads(line)

    def ours() -> None:
        import_events([str(path)], folder / "out.parquet", "parquet")

    note = f"{len(lines):,} lines"
    return beside(title, ours, "json.loads of each line", bare, aim=3.0, note=note, repeats=3)
