"""One row per export format: its name, its suffix and the function that writes it.

Every format shows the same cells; test_formats.py compares them one by one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING

from qakhunt.answers.plain import to_text
from qakhunt.answers.run_document import hit_document, run_document
from qakhunt.core.errors import UsageError, nearest
from qakhunt.core.safe_text import for_csv, for_json, for_spreadsheet
from qakhunt.reports.details import ReportDetails
from qakhunt.reports.flat import flat_table
from qakhunt.triage.dossier import dossiers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from qakhunt.answers.run_result import RunResult

    Writer = Callable[["RunResult", IO[bytes], "ExportOptions"], None]

_UNGUARDED = ("bool", "int", "long", "real", "decimal", "datetime")


@dataclass(frozen=True)
class ExportOptions:
    """What a user may choose of an export; ``csv_raw`` keeps CSV cells as they are.

    ``details`` is what a report says of itself.
    """

    csv_raw: bool = False
    details: ReportDetails = field(default_factory=ReportDetails)


@dataclass(frozen=True)
class Format:
    """An export format; ``text`` says that it may be shown on a terminal."""

    name: str
    suffixes: tuple[str, ...]
    write: Writer
    text: bool = True


def write_json(result: RunResult, out: IO[bytes], _: ExportOptions) -> None:
    """The whole run, ``qakhunt.run/1``."""
    assessments = {d.number: d.assessment for d in dossiers(result)}
    text = json.dumps(run_document(result, assessments), ensure_ascii=False, indent=2)
    out.write(for_json(text).encode() + b"\n")


def write_ndjson(result: RunResult, out: IO[bytes], _: ExportOptions) -> None:
    """One hit a line, as in ``hits[]`` of the JSON; the run's account is not in it."""
    for hit in result.hits:
        out.write(for_json(json.dumps(hit_document(hit), ensure_ascii=False)).encode() + b"\n")


def write_csv(result: RunResult, out: IO[bytes], options: ExportOptions) -> None:
    """All cells quoted, null as an empty unquoted cell, CRLF, UTF-8.

    Text that a spreadsheet would take for a formula gets an apostrophe in front, and
    control characters are shown escaped, in headings, too: data can name a column.
    """
    table = flat_table(result)
    shown = (lambda text: text) if options.csv_raw else _harmless
    out.write(_csv_line([_quoted(shown(column.name)) for column in table.columns]))
    guarded = [column.kql_type not in _UNGUARDED for column in table.columns]
    for row in table.rows:
        cells = []
        for cell, guard in zip(row, guarded, strict=True):
            text = to_text(cell)
            cells.append("" if cell is None else _quoted(shown(text) if guard else text))
        out.write(_csv_line(cells))


def _harmless(text: str) -> str:
    return for_csv(for_spreadsheet(text))


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _csv_line(cells: list[str]) -> bytes:
    return (",".join(cells) + "\r\n").encode("utf-8", "surrogatepass")


def write_markdown(result: RunResult, out: IO[bytes], options: ExportOptions) -> None:
    """The report as Markdown, with every cell of the result."""
    from qakhunt.reports import markdown_report

    markdown_report.write_markdown(result, out, options)


def write_chat(result: RunResult, out: IO[bytes], options: ExportOptions) -> None:
    """A few lines of plain text for a chat."""
    from qakhunt.reports import chat

    chat.write_chat(result, out, options)


def write_navigator(result: RunResult, out: IO[bytes], options: ExportOptions) -> None:
    """An ATT&CK Navigator layer of what was observed."""
    from qakhunt.reports import navigator

    navigator.write_navigator(result, out, options)


def write_parquet(result: RunResult, out: IO[bytes], _: ExportOptions) -> None:
    """Typed columns; datetimes at 100 ns in nanoseconds, dynamic as JSON text."""
    from qakhunt.backends.engine.parquet import parquet_bytes

    out.write(parquet_bytes(flat_table(result)))


def write_html(result: RunResult, out: IO[bytes], options: ExportOptions) -> None:
    """The report as one self-contained HTML file."""
    from qakhunt.reports import html_report

    html_report.write_html(result, out, options)


FORMATS: dict[str, Format] = {
    format_.name: format_
    for format_ in (
        Format("json", (".json",), write_json),
        Format("ndjson", (".ndjson", ".jsonl"), write_ndjson),
        Format("csv", (".csv",), write_csv),
        Format("markdown", (".md", ".markdown"), write_markdown),
        Format("html", (".html", ".htm"), write_html),
        Format("chat", (".txt",), write_chat),
        Format("navigator", (), write_navigator),
        Format("parquet", (".parquet",), write_parquet, text=False),
    )
}


def format_named(name: str) -> Format:
    """The format of that name. Raises UsageError with the nearest."""
    if name not in FORMATS:
        known = ["table", *FORMATS]
        raise UsageError(
            f"no format named {name!r}", hint=nearest(name, known) or f"formats: {', '.join(known)}"
        )
    return FORMATS[name]


def format_of(path: Path) -> Format:
    """The format that a file's suffix stands for. Raises UsageError for an unknown one."""
    suffix = path.suffix.lower()
    for format_ in FORMATS.values():
        if suffix in format_.suffixes:
            return format_
    known = ", ".join(suffix for format_ in FORMATS.values() for suffix in format_.suffixes)
    raise UsageError(
        f"{path}: no format has the suffix {suffix!r}",
        hint=f"use one of {known}, or name one with --format",
    )


def export_bytes(result: RunResult, format_: Format, options: ExportOptions) -> bytes:
    """The export in memory, for a pipe or a terminal."""
    import io

    buffer = io.BytesIO()
    format_.write(result, buffer, options)
    return buffer.getvalue()
