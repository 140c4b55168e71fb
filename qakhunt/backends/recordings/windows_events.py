"""Importing Windows events as DeviceProcessEvents: what was read, and the account of it."""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from qakhunt.backends.engine.csv_reader import NAMED_BROKEN
from qakhunt.backends.engine.inputs import InputOptions
from qakhunt.backends.recordings.event_readers import Broken, read_records
from qakhunt.backends.recordings.event_shapes import Unreadable, read_event
from qakhunt.backends.recordings.event_sources import find_sources
from qakhunt.backends.recordings.process_creation import creation_of
from qakhunt.backends.recordings.process_table import ProcessTable, TableAccount
from qakhunt.core.errors import EventsError, SourceLocation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from qakhunt.backends.recordings.event_sources import EventSource

    Progress = Callable[[str, int, int], None]

FORMATS = {".parquet": "parquet", ".ndjson": "ndjson", ".jsonl": "ndjson"}
"""Suffix of the output -> format."""

_EVERY = 20_000


@dataclass(frozen=True)
class BrokenRecord:
    """A record that was left out: where and why. ``place`` is a line or record number."""

    source: str
    place: int
    why: str


@dataclass
class ImportAccount:
    """Everything that was read and what became of it.

    ``other`` counts events that are no process creations, by log and id;
    ``without_line`` are 4688 events that carry no command line, ``without_time`` rows of
    an export that were left out, ``assumed_utc`` exports whose times name no zone.
    """

    sources: int = 0
    records: int = 0
    process_creations: int = 0
    other: Counter[tuple[str, int]] = field(default_factory=Counter)
    broken: int = 0
    broken_records: list[BrokenRecord] = field(default_factory=list)
    without_line: int = 0
    without_time: int = 0
    assumed_utc: list[str] = field(default_factory=list)
    ignored_files: list[str] = field(default_factory=list)
    table: TableAccount = field(default_factory=TableAccount)


def import_events(
    inputs: Sequence[str],
    out: Path,
    kind: str,
    *,
    raw_lines: bool = False,
    options: InputOptions | None = None,
    progress: Progress | None = None,
) -> ImportAccount:
    """Write the process creations of ``inputs`` to ``out`` as ``parquet`` or ``ndjson``.

    ``progress`` receives the source's name, records and bytes read so far. Raises
    EventsError for an input that cannot be used and, when ``options.strict``, for the
    first broken record or foreign file; nothing is written then.
    """
    options = options or InputOptions()
    sources, ignored = find_sources(inputs, options.max_expanded, strict=options.strict)
    account = ImportAccount(sources=len(sources), ignored_files=ignored)
    with tempfile.TemporaryDirectory(prefix="qakhunt-") as folder:
        table = ProcessTable(Path(folder))
        try:
            reader = _Reader(table, account, options, raw_lines=raw_lines, progress=progress)
            for source in sources:
                reader.read(source)
            if not account.process_creations:
                raise EventsError(_nothing(account), hint="Sysmon 1 and Security 4688 are imported")
            account.table = table.resolve()
            table.write(out, kind)
        finally:
            table.close()
    return account


def _nothing(account: ImportAccount) -> str:
    kinds = ", ".join(f"{log} {number}" for (log, number), _ in account.other.most_common(3))
    found = f"; it is {kinds} and the like" if kinds else ""
    broken = f", {account.broken} of them broken" if account.broken else ""
    return f"no process creation among {account.records} records{broken}{found}"


class _Reader:
    def __init__(
        self,
        table: ProcessTable,
        account: ImportAccount,
        options: InputOptions,
        *,
        raw_lines: bool,
        progress: Progress | None,
    ) -> None:
        self.table, self.account, self.options = table, account, options
        self.raw_lines, self.progress = raw_lines, progress
        self.bytes_done = 0

    def read(self, source: EventSource) -> None:
        if source.kind == "csv":
            self._read_rows(source)
        else:
            self._read_events(source)
        self.bytes_done += source.size
        self._tell(source)

    def _tell(self, source: EventSource) -> None:
        if self.progress:
            self.progress(source.name, self.account.records, self.bytes_done)

    def _read_events(self, source: EventSource) -> None:
        account, other = self.account, self.account.other
        for place, record in read_records(source):
            account.records += 1
            if account.records % _EVERY == 0:
                self._tell(source)
            if isinstance(record, Broken):
                self._broken(source, place, record.why)
                continue
            try:
                event = read_event(record)
                if not event.is_process_creation:
                    other[event.log, event.id] += 1
                    continue
                creation = creation_of(event, source.name, place, raw_lines=self.raw_lines)
            except Unreadable as problem:
                self._broken(source, place, str(problem))
                continue
            account.process_creations += 1
            if not creation.line:
                account.without_line += 1
            self.table.add(creation)

    def _read_rows(self, source: EventSource) -> None:
        account, found = self.account, self.table.add_export(source, self.options)
        account.records += found.records
        account.process_creations += found.kept
        account.without_time += found.without_time
        if found.assumed_utc:
            account.assumed_utc.append(source.name)
        for place, why in found.broken:
            self._broken(source, place, why)
        account.broken += found.broken_rows - len(found.broken)

    def _broken(self, source: EventSource, place: int, why: str) -> None:
        if self.options.strict:
            raise EventsError(
                why, location=SourceLocation(source.name, place),
                hint="without --strict it is counted and left out",
            )  # fmt: skip
        self.account.broken += 1
        if len(self.account.broken_records) < NAMED_BROKEN:
            self.account.broken_records.append(BrokenRecord(source.name, place, why))
