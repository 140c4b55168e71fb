"""Where a command's result goes: the screen, a pipe or a file."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qakhunt.core.errors import UsageError, nearest
from qakhunt.core.safe_text import for_json, for_terminal, lines_for_terminal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from rich.console import Console

    from qakhunt.answers.run_result import RunResult
    from qakhunt.reports.details import ReportDetails
    from qakhunt.reports.formats import Format

TABLE = "table"


def json_text(document: Any) -> str:
    """A document as JSON to read, safe on a terminal."""
    return for_json(json.dumps(document, ensure_ascii=False, indent=2)) + "\n"


def print_json(document: Any) -> None:
    """Print a document."""
    sys.stdout.write(json_text(document))


def print_lines(lines: Iterable[str], *, to_stderr: bool = False) -> None:
    """Print lines of text, each safe on a terminal."""
    for line in lines:
        print(for_terminal(line), file=sys.stderr if to_stderr else sys.stdout)


def write_text(text: str, out: Path | None, *, force: bool, private: bool = True) -> None:
    """Write a text to a file, whole or not at all, else to stdout."""
    from qakhunt.core.writing import whole_file

    if out is None:
        sys.stdout.write(text)
        return
    with whole_file(out, force=force, private=private) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def chosen_format(name: str | None, known: Sequence[str], *, as_json: bool) -> str:
    """One of a command's formats, the first by default. Raises UsageError."""
    if as_json and name not in (None, known[0], "json"):
        raise UsageError(f"--json and --format {name} exclude each other")
    chosen = "json" if as_json else name or known[0]
    if chosen not in known:
        raise UsageError(
            f"no format named {chosen!r}", hint=nearest(chosen, known) or ", ".join(known)
        )
    return chosen


def screen(*, to_stderr: bool = False) -> Console:
    """A console that prints text as it is: no markup, no guessed colours."""
    from rich.console import Console

    return Console(stderr=to_stderr, highlight=False, markup=False)


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
    from qakhunt.reports.console import show, show_account

    if output.format is None:
        show(result, screen(), suppressed=suppressed)
        return
    _export(result, output.format, output)
    if not output.quiet:
        show_account(result, screen(to_stderr=True))


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
