"""A report in parts: one file per customer."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from qakhunt.core.errors import OutputError
from qakhunt.core.writing import check_target, whole_file
from qakhunt.reports.formats import ExportOptions
from qakhunt.reports.split import by_tenant

if TYPE_CHECKING:
    from pathlib import Path

    from qakhunt.answers.run_result import RunResult
    from qakhunt.reports.details import ReportDetails
    from qakhunt.reports.formats import Format

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


def write_parts(
    result: RunResult,
    format_: Format,
    folder: Path,
    stem: str,
    details: ReportDetails,
    *,
    force: bool,
) -> list[Path]:
    """Write one file per customer into a folder; their paths. Raises OutputError."""
    if not folder.is_dir():
        raise OutputError(f"no such folder: {folder}", hint="make the folder first")
    parts: dict[Path, tuple[str, RunResult]] = {}
    for number, (whose, part) in enumerate(by_tenant(result).items(), 1):
        name = f"{stem}-{_UNSAFE.sub('_', whose)}"
        path = folder / f"{name}{_suffix(format_)}"
        if path in parts:  # two names that differ in what a file name cannot hold
            path = folder / f"{name}-{number}{_suffix(format_)}"
        parts[path] = (whose, part)
    for path in parts:
        check_target(path, force=force)
    for path, (whose, part) in parts.items():
        own = ExportOptions(details=replace(details, tenant=whose))
        with whole_file(path, force=force) as temporary, temporary.open("wb") as stream:
            format_.write(part, stream, own)
    return list(parts)


def _suffix(format_: Format) -> str:
    return format_.suffixes[0] if format_.suffixes else f".{format_.name}.json"
