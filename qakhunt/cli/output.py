"""Where a run's result goes: the screen, a pipe or a file."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from qakhunt.core.errors import UsageError
from qakhunt.core.safe_text import lines_for_terminal

if TYPE_CHECKING:
    from pathlib import Path

    from qakhunt.answers.run_result import RunResult
    from qakhunt.reports.details import ReportDetails
    from qakhunt.reports.formats import Format

TABLE = "table"


@dataclass(frozen=True)
class Output:
    """A checked choice: ``format`` is None for the table on the screen."""

    format: Format | None
    path: Path | None
    csv_raw: bool
    force: bool
    quiet: bool
    details: ReportDetails | None = None

    @classmethod
    def of(
        cls,
        name: str | None,
        path: Path | None,
        *,
        as_json: bool,
        csv_raw: bool,
        force: bool,
        quiet: bool,
    ) -> Output:
        """Read the options and refuse, before any work, what cannot be written."""
        from qakhunt.core.writing import check_target
        from qakhunt.reports.formats import format_named, format_of

        if as_json:
            if name not in (None, "json"):
                raise UsageError(f"--json and --format {name} exclude each other")
            name = "json"
        if path is not None:
            if name == TABLE:
                raise UsageError(
                    "the table is for the screen", hint="name another --format for a file"
                )
            check_target(path, force=force)
        chosen: Format | None = None
        if path is not None:
            chosen = format_named(name) if name else format_of(path)
        elif name not in (None, TABLE):
            chosen = format_named(name)
        if chosen and chosen.name == "parquet":
            from qakhunt.backends.engine.session import require_engine

            require_engine()
        screen = path is None and sys.stdout.isatty()
        if chosen and screen and (not chosen.text or chosen.name == "html"):
            raise UsageError(f"{chosen.name} is not for a terminal", hint="write it with --out")
        return cls(chosen, path, csv_raw, force, quiet)


def present(result: RunResult, output: Output, *, suppressed: bool = False) -> None:
    """Write the export, or show the table; a file's account goes to stderr."""
    from rich.console import Console

    if output.format is None:
        from qakhunt.reports.console import show

        show(result, Console(highlight=False), suppressed=suppressed)
        return
    _export(result, output.format, output)
    if not output.quiet:
        from qakhunt.reports.console import show_account

        show_account(result, Console(stderr=True, highlight=False))


def in_zone(output: Output, zone: str | None) -> Output:
    """The same output, with local times of ``zone`` beside UTC where a report has times."""
    if zone is None or output.format is None:
        return output
    from qakhunt.cli.request import read_zone
    from qakhunt.reports.details import ReportDetails

    return replace(output, details=ReportDetails(zone=read_zone(zone)))


def write_export(result: RunResult, output: Output, details: ReportDetails | None = None) -> None:
    """Write the chosen export to its file, else to stdout."""
    if output.format is not None:
        _export(result, output.format, output, details)


def _export(
    result: RunResult, format_: Format, output: Output, details: ReportDetails | None = None
) -> None:
    from qakhunt.core.writing import whole_file
    from qakhunt.reports.details import ExportOptions, ReportDetails
    from qakhunt.reports.formats import export_bytes

    chosen = details or output.details or ReportDetails()
    options = ExportOptions(csv_raw=output.csv_raw, details=chosen)
    if output.path is not None:
        with whole_file(output.path, force=output.force) as temporary, temporary.open("wb") as out:
            format_.write(result, out, options)
        return
    data = export_bytes(result, format_, options)
    if sys.stdout.isatty():
        sys.stdout.write(lines_for_terminal(data.decode("utf-8", "replace")))
        return
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
