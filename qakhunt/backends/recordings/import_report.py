"""What an import of Windows events read and left out: warnings, a summary, a document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qakhunt.backends.engine.inputs import ASSUMED_UTC

if TYPE_CHECKING:
    from pathlib import Path

    from qakhunt.backends.recordings.windows_events import ImportAccount


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
