"""Importing Windows events as DeviceProcessEvents: what was read, and the account of it."""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qakhunt.backends.engine.csv_reader import NAMED_BROKEN
from qakhunt.backends.engine.inputs import ASSUMED_UTC, InputOptions
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


def warnings_of(account: ImportAccount) -> list[str]:
    """What the user has to know about what was read."""
    found = [f"{b.source}:{b.place}: {b.why}; left out" for b in account.broken_records]
    more = account.broken - len(account.broken_records)
    if more > 0:
        found.append(f"{more:,} more broken records left out")
    if account.without_line:
        found.append(
            f"{account.without_line:,} process creations (4688) have no command line: switch on "
            "'Include command line in process creation events' (Administrative Templates > "
            "System > Audit Process Creation)"
        )
    if account.without_time:
        found.append(f"{account.without_time:,} rows without a time left out")
    if account.ignored_files:
        shown = ", ".join(account.ignored_files[:5])
        more = len(account.ignored_files) - 5
        found.append(
            f"files that hold no events left out: {shown}{f' and {more} more' if more > 0 else ''}"
        )
    found += [ASSUMED_UTC.format(name) for name in account.assumed_utc]
    for shift in account.table.shifts:
        found.append(
            f"{shift.source}: the log of {shift.device} is not in UTC; "
            f"{shift.seconds / 3600:+g} h were added, by Sysmon's own time"
        )
    for device in account.table.jumps:
        found.append(
            f"the clock of {device} was set back while it was recorded; "
            "its processes are taken in the order of the log"
        )
    return found


def summary_of(account: ImportAccount, out: Path) -> list[str]:
    """The account in a few lines."""
    table = account.table
    lines = [
        f"{out}: {table.rows:,} process events of {table.devices:,} devices, "
        f"from {account.records:,} records of {account.sources:,} files"
    ]
    if table.repeated or table.twins:
        lines.append(
            f"duplicates left out: {table.repeated:,} recorded twice, "
            f"{table.twins:,} Security 4688 beside the Sysmon 1 of the same process"
        )
    if table.orphans:
        lines.append(f"{table.orphans:,} processes have a parent that is not recorded")
    if account.other:
        shown = ", ".join(
            f"{log} {n} ({count:,})" for (log, n), count in account.other.most_common(5)
        )
        more = "" if len(account.other) <= 5 else f" and {len(account.other) - 5} kinds more"
        lines.append(f"{account.other.total():,} other events are not imported: {shown}{more}")
    return lines


def document_of(account: ImportAccount, out: Path) -> dict[str, Any]:
    """The whole account for programs."""
    table = account.table
    return {
        "schema": "qakhunt.import/1",
        "out": str(out),
        "sources": account.sources,
        "records": account.records,
        "process_creations": account.process_creations,
        "rows": table.rows,
        "devices": table.devices,
        "repeated": table.repeated,
        "twins": table.twins,
        "orphans": table.orphans,
        "without_command_line": account.without_line,
        "without_time": account.without_time,
        "assumed_utc": account.assumed_utc,
        "broken": account.broken,
        "broken_records": [
            {"source": b.source, "place": b.place, "why": b.why} for b in account.broken_records
        ],
        "clock_shifts": [
            {"device": s.device, "source": s.source, "seconds": s.seconds} for s in table.shifts
        ],
        "clock_jumps": list(table.jumps),
        "other_events": [
            {"log": log, "id": number, "count": count}
            for (log, number), count in account.other.most_common()
        ],
        "ignored_files": account.ignored_files,
    }
