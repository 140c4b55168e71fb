"""One row per export format: its name, its suffix and the function that writes it.

Every format shows the same cells; test_formats.py compares them one by one.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from importlib import import_module
from typing import IO, TYPE_CHECKING, Any

from qakhunt.answers.cells import to_text
from qakhunt.answers.ledger import Verdict, target_label
from qakhunt.answers.run_document import hit_document, run_document
from qakhunt.answers.run_result import by_tenant
from qakhunt.answers.table import Column, ResultTable, unique_names
from qakhunt.core.errors import OutputError, UsageError, nearest
from qakhunt.core.safe_text import for_csv, for_json, for_spreadsheet
from qakhunt.core.writing import check_target, whole_file
from qakhunt.kql.values import Instant
from qakhunt.reports.details import ExportOptions
from qakhunt.triage.hit_report import hit_reports

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pandas
    import polars
    import pyarrow

    from qakhunt.answers.run_result import RunResult
    from qakhunt.reports.details import ReportDetails

    Writer = Callable[["RunResult", IO[bytes], "ExportOptions"], None]


LEADING = ("hunt", "profile", "tenant", "workspace")


def flat_table(result: RunResult) -> ResultTable:
    """``hunt profile tenant workspace``, then every result column of every hunt.

    A column of several hunts stands once where its type is the same; a hunt that
    lacks it has null there. Without hits the columns are still there.
    """
    positions: dict[tuple[str, str, int], int] = {}
    own: list[Column] = []
    for columns in [*result.columns.values(), *(hit.columns for hit in result.hits)]:
        for key in _keys(columns):
            if key not in positions:
                positions[key] = len(own)
                own.append(Column(key[0], key[1]))
    names = unique_names([*LEADING, *(column.name for column in own)])
    lead = [Column(name, "string") for name in LEADING]
    shown = [
        Column(name, column.kql_type) for name, column in zip(names, [*lead, *own], strict=True)
    ]
    rows = []
    for hit in result.hits:
        cells: list[object] = [None] * len(own)
        for key, cell in zip(_keys(hit.columns), hit.cells, strict=True):
            cells[positions[key]] = cell
        rows.append((hit.hunt, hit.profile, hit.tenant, hit.workspace, *cells))
    return ResultTable(tuple(shown), rows)


def _keys(columns: tuple[Column, ...]) -> list[tuple[str, str, int]]:
    """Name, type and how many columns of that name came before, per column."""
    seen: dict[str, int] = {}
    keys = []
    for column in columns:
        count = seen.get(column.name, 0)
        seen[column.name] = count + 1
        keys.append((column.name, column.kql_type, count))
    return keys


_UNGUARDED = ("bool", "int", "long", "real", "decimal", "datetime")


@dataclass(frozen=True)
class Format:
    """An export format; ``text`` says that it may be shown on a terminal."""

    name: str
    suffixes: tuple[str, ...]
    write: Writer
    text: bool = True


def write_json(result: RunResult, out: IO[bytes], _: ExportOptions) -> None:
    """The whole run, ``qakhunt.run/1``."""
    assessments = {d.number: d.assessment for d in hit_reports(result)}
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


def _writer(module: str, about: str) -> Writer:
    """The writer of a module that is loaded when it is first used; ``about`` is its entry."""

    def write(result: RunResult, out: IO[bytes], options: ExportOptions) -> None:
        import_module(f"qakhunt.reports.{module}").write(result, out, options)

    write.__doc__ = about
    return write


def write_parquet(result: RunResult, out: IO[bytes], _: ExportOptions) -> None:
    """Typed columns; datetimes at 100 ns in nanoseconds, dynamic as JSON text."""
    from qakhunt.backends.engine.parquet import parquet_bytes

    out.write(parquet_bytes(flat_table(result)))


_OCSF = "One finding a line, as Detection Finding of OCSF 1.8.0; the run's ledger is not in it."

FORMATS: dict[str, Format] = {
    format_.name: format_
    for format_ in (
        Format("json", (".json",), write_json),
        Format("ndjson", (".ndjson", ".jsonl"), write_ndjson),
        Format("csv", (".csv",), write_csv),
        Format("markdown", (".md", ".markdown"), _writer("markdown_report", "The report.")),
        Format("html", (".html", ".htm"), _writer("html_report", "The report, as one file.")),
        Format("chat", (".txt",), _writer("chat", "A few lines for a message.")),
        Format("navigator", (), _writer("navigator", "Seen techniques, as an ATT&CK layer.")),
        Format("ocsf", (), _writer("ocsf", _OCSF)),
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


_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


def write_parts(
    result: RunResult,
    format_: Format,
    folder: Path,
    stem: str,
    details: ReportDetails,
    *,
    clean: bool,
    force: bool,
) -> tuple[list[Path], int]:
    """Write one file per customer into a folder, named by its profile and its tenant.

    Returns their paths, and how many clean customers were left out: ``clean`` writes one for
    each of these, too. Raises OutputError.
    """
    if not folder.is_dir():
        raise OutputError(f"no such folder: {folder}", hint="make the folder first")
    customers = by_tenant(result)
    parts: dict[Path, tuple[str, RunResult]] = {}
    for number, (whose, part) in enumerate(customers.items(), 1):
        if part.verdict is Verdict.CLEAN and not clean:
            continue
        profiles = list(dict.fromkeys(line.profile for line in part.ledger.lines))
        # The first profiles alone: a file's name has an end.
        label = target_label(", ".join(profiles[:3]) or "-", whose, None)
        name = f"{stem}-{_UNSAFE.sub('_', label).strip('_')}"
        path = folder / f"{name}{_suffix(format_)}"
        if path in parts:  # two names that differ in what a file name cannot hold
            path = folder / f"{name}-{number}{_suffix(format_)}"
        parts[path] = (label, part)
    for path in parts:
        check_target(path, force=force)
    for path, (label, part) in parts.items():
        own = ExportOptions(details=replace(details, tenant=label))
        with whole_file(path, force=force) as temporary, temporary.open("wb") as stream:
            format_.write(part, stream, own)
    return list(parts), len(customers) - len(parts)


def _suffix(format_: Format) -> str:
    return format_.suffixes[0] if format_.suffixes else f".{format_.name}.json"


_EPOCH = Instant.parse("1970-01-01").ticks
_NANOSECONDS = range(-(2**63) + 1, 2**63)
_TYPES = {"bool": "bool_", "int": "int32", "long": "int64", "real": "float64"}


def arrow_table(result: RunResult) -> pyarrow.Table:
    """The flat table of the hits, typed; a name that occurs twice has a number behind it."""
    arrow = _library("pyarrow", "arrow")
    table = flat_table(result)
    columns = [
        _column(arrow, column.kql_type, [row[at] for row in table.rows])
        for at, column in enumerate(table.columns)
    ]
    return arrow.table(columns, names=table.names)


def _column(arrow: Any, kind: str, cells: list[Any]) -> Any:
    if kind == "datetime":
        ticks = [None if cell is None else cell.ticks - _EPOCH for cell in cells]
        fine = all(tick is None or tick * 100 in _NANOSECONDS for tick in ticks)
        values = [tick and (tick * 100 if fine else tick // 10) for tick in ticks]
        return arrow.array(values, arrow.timestamp("ns" if fine else "us", "UTC"))
    if kind in _TYPES:
        return arrow.array(cells, getattr(arrow, _TYPES[kind])())
    # A lone surrogate of a hostile name is no UTF-8.
    texts = [None if cell is None else _encodable(to_text(cell)) for cell in cells]
    return arrow.array(texts, arrow.string())


def _encodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def pandas_frame(result: RunResult) -> pandas.DataFrame:
    """The Arrow table in pandas' own types."""
    _library("pandas", "pandas")
    return arrow_table(result).to_pandas()  # Arrow imports pandas itself


def polars_frame(result: RunResult) -> polars.DataFrame:
    """The Arrow table in Polars' own types."""
    library = _library("polars", "polars")
    frame: polars.DataFrame = library.from_arrow(arrow_table(result))
    return frame


def _library(name: str, extra: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        raise UsageError(
            f"{name} is not installed", hint=f"pip install 'qakhunt[{extra}]'"
        ) from None
