"""``qakhunt import-events``: Windows events as recorded process events."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from qakhunt.backends.engine.inputs import ASSUMED_UTC
from qakhunt.cli import options as o
from qakhunt.cli.request import read_input_options
from qakhunt.core.errors import UsageError
from qakhunt.core.safe_text import for_json, for_terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from qakhunt.backends.recordings.windows_events import ImportAccount

app = o.new_app()

Inputs = Annotated[
    list[str],
    typer.Argument(
        metavar="FILE|DIR ...",
        help="Event logs: evtx, JSON, XML, Defender's CSV; zipped too.",
    ),
]
Out = Annotated[
    Path, typer.Option("--out", metavar="PATH", help="Where to write: .parquet or .ndjson.")
]


@app.command()
def import_events(
    inputs: Inputs,
    out: Out,
    raw_command_lines: Annotated[
        bool,
        typer.Option(
            "--raw-command-lines", help="Keep the directory of a command line's first word."
        ),
    ] = False,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", help="Stop at the first record that cannot be read and at other files."
        ),
    ] = False,
    max_expanded: o.MaxExpanded = 16,
    time_zone: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--time-zone", metavar="ZONE", help="Of times in CSV that name no zone."),
    ] = None,
    date_order: o.DateOrder = None,
    force: o.Force = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the account as JSON.")] = False,
    quiet: o.Quiet = False,
) -> None:
    """Import process creations (Sysmon 1, Security 4688) as DeviceProcessEvents."""
    from qakhunt.backends.recordings import windows_events as w
    from qakhunt.core.writing import whole_file

    kind = w.FORMATS.get(out.suffix.lower())
    if kind is None:
        raise UsageError(
            f"--out {out}: not a kind of file that is written",
            hint=f"its name ends in {', '.join(w.FORMATS)}",
        )
    options = read_input_options(time_zone, date_order, max_expanded, strict=strict)
    with (
        whole_file(out, force=force, named=True) as temporary,
        _telling(quiet=quiet or as_json) as tell,
    ):
        account = w.import_events(
            inputs, temporary, kind, raw_lines=raw_command_lines, options=options, progress=tell,
        )  # fmt: skip
    for warning in warnings_of(account):
        print(f"warning: {for_terminal(warning)}", file=sys.stderr)
    if as_json:
        print(for_json(json.dumps(document_of(account, out), ensure_ascii=False, indent=2)))
    elif not quiet:
        print("\n".join(for_terminal(line) for line in summary_of(account, out)), file=sys.stderr)


@contextmanager
def _telling(*, quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """A line on a terminal that says which file is read and how far."""
    from qakhunt.cli.progress import working

    with working("reading events", quiet=quiet) as say:

        def tell(name: str, records: int, done: int) -> None:
            say(f"{for_terminal(name)}: {records:,} records, {done / 1e6:,.0f} MB of input read")

        yield tell


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
