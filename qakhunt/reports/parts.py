"""A report in parts: one file per customer."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from qakhunt.answers.ledger import Verdict, target_label
from qakhunt.answers.run_result import by_tenant
from qakhunt.core.errors import OutputError
from qakhunt.core.writing import check_target, whole_file
from qakhunt.reports.details import ExportOptions

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
        label = target_label(", ".join(_profiles(part)) or "-", whose, None)
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


def _profiles(part: RunResult) -> list[str]:
    """The first profiles of a customer: a file's name has an end."""
    return list(dict.fromkeys(line.profile for line in part.ledger.lines))[:3]


def _suffix(format_: Format) -> str:
    return format_.suffixes[0] if format_.suffixes else f".{format_.name}.json"
