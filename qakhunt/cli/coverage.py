"""``qakhunt hunts coverage``: techniques that the hunts look for, and those they do not."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from qakhunt.core.errors import UsageError, nearest
from qakhunt.core.safe_text import for_json, for_terminal
from qakhunt.hunts.command_catalogue import families
from qakhunt.reports.navigator import coverage_layer, layer_text, techniques_of
from qakhunt.triage.hit_report import technique

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from qakhunt.hunts.model import Hunt

FORMATS = ("table", "json", "navigator")


def show_coverage(hunts: Sequence[Hunt], format_: str, out: Path | None, *, force: bool) -> None:
    """Print or write the coverage. Raises UsageError for an unknown format."""
    from qakhunt.core.writing import whole_file

    if format_ not in FORMATS:
        raise UsageError(
            f"no format named {format_!r}", hint=nearest(format_, FORMATS) or ", ".join(FORMATS)
        )
    if out is not None and format_ == "table":
        format_ = "navigator"
    if format_ == "table":
        _table(hunts)
        return
    text = layer_text(coverage_layer(hunts)) if format_ == "navigator" else _json(hunts)
    if out is None:
        sys.stdout.write(text)
        return
    with whole_file(out, force=force, private=False) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def _json(hunts: Sequence[Hunt]) -> str:
    document: dict[str, Any] = {
        "schema": "qakhunt.coverage/1",
        "techniques": [
            {"id": identifier, "name": technique(identifier).name, "hunts": names}
            for identifier, names in techniques_of(hunts).items()
        ],
    }
    return for_json(json.dumps(document, ensure_ascii=False, indent=2)) + "\n"


def _table(hunts: Sequence[Hunt]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from qakhunt.triage.words import count

    found = techniques_of(hunts)
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("Technique", no_wrap=True)
    table.add_column("Name", overflow="fold")
    table.add_column("Hunts", overflow="fold")
    for identifier, names in found.items():
        cells = (identifier, technique(identifier).name, "\n".join(map(for_terminal, names)))
        table.add_row(*map(Text, cells))
    console = Console()
    console.print(table)
    known = families().families.values()
    absent = sorted({t for family in known for t in family.techniques} - found.keys())
    looking = sum(bool(hunt.techniques) for hunt in hunts)
    console.print(
        f"{count(len(found), 'technique')}, {count(looking, 'hunt')}", highlight=False, markup=False
    )
    if absent:
        console.print(
            "known discovery commands, but no hunt looks for: " + ", ".join(absent), markup=False,
            highlight=False,
        )  # fmt: skip
