"""``qakhunt diff``: what a change gains, what it loses, and by which events."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from qakhunt.cli import options as o
from qakhunt.cli import proving_options as p
from qakhunt.cli.options import new_app
from qakhunt.cli.request import catalog
from qakhunt.core.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from qakhunt.testing.compare import Comparison

app = new_app()

FORMATS = ("text", "markdown", "json")

SideName = "A hunt's name, id, path or git revision (HEAD~1:queries/x.yaml)."
Old = Annotated[str, typer.Argument(metavar="OLD", help=SideName)]
New = Annotated[
    Optional[str],  # noqa: UP045 - typer reads it at run time on 3.10
    typer.Argument(metavar="[NEW]", help="The same; none: OLD with the values of --set-new."),
]
SetOld = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--set-old", metavar="NAME=VALUE", help="A parameter's value on the old side."),
]
SetNew = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--set-new", metavar="NAME=VALUE", help="A parameter's value on the new side."),
]
FormatName = Annotated[
    str, typer.Option("--format", metavar="NAME", help="text, markdown or json.")
]
Out = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--out", metavar="PATH", help="Write to a file."),
]


@app.command()
def diff(
    old: Old,
    new: New = None,
    events: p.Events = None,
    recording: p.RecordingPath = None,
    set_: o.Settings = None,
    set_old: SetOld = None,
    set_new: SetNew = None,
    window: p.WindowText = None,
    now: o.Now = None,
    dialect: o.Dialect = None,
    time_zone: o.TimeZone = None,
    hunts: o.HuntFolders = None,
    format_: FormatName = "text",
    as_json: o.AsJson = False,
    out: Out = None,
    force: o.Force = False,
    quiet: o.Quiet = False,
) -> int:
    """Compare two queries on the same events: hits gained, lost and changed, and why.

    Exit code 0: the same; 10: different; 4: the records cannot tell.
    """
    from qakhunt.core.writing import check_target
    from qakhunt.testing.compare import compare
    from qakhunt.testing.records import find_hunt

    format_ = "json" if as_json else format_
    if format_ not in FORMATS:
        raise UsageError(f"no format named {format_!r}", hint=", ".join(FORMATS))
    if new is None and not set_new and not set_old:
        raise UsageError("nothing to compare", hint="name a second hunt, or give --set-new")
    if out is not None:
        check_target(out, force=force)
    known = catalog(hunts or ())
    before, after = find_hunt(old, known), find_hunt(new or old, known)
    with p.open_stage(
        events or (), recording, (before, after), window=window, now=now, dialect=dialect,
        zone=time_zone, quiet=quiet,
    ) as stage:  # fmt: skip
        shared = list(set_ or ())
        one = stage.render(before, p.read_values([*shared, *(set_old or ())]))
        other = stage.render(after, p.read_values([*shared, *(set_new or ())]))
        found = compare(one, other, stage.records.ask)
        doubts = [*stage.records.unknown(one), *stage.records.unknown(other)]
        found.unknown += dict.fromkeys(doubts)
        if not quiet:
            print(f"{stage.rows} events, {other.window}", file=sys.stderr)
    _write(_text(found, format_), out, force=force)
    if found.unknown:
        return ExitCode.INCOMPLETE
    return ExitCode.HITS if found.differs else ExitCode.OK


def _text(found: Comparison, format_: str) -> str:
    from qakhunt.core.safe_text import for_json
    from qakhunt.testing import compare_report

    if format_ == "json":
        document = compare_report.diff_document(found)
        return for_json(json.dumps(document, ensure_ascii=False, indent=2)) + "\n"
    is_text = format_ == "text"
    lines = compare_report.text_lines if is_text else compare_report.markdown_lines
    return "\n".join(lines(found)) + "\n"


def _write(text: str, out: Path | None, *, force: bool) -> None:
    from qakhunt.core.writing import whole_file

    if out is None:
        sys.stdout.write(text)
        return
    with whole_file(out, force=force) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
