"""``qakhunt diff`` and ``sweep``: queries compared on the same recorded events."""

from __future__ import annotations

import shutil
import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from qakhunt.cli import complete
from qakhunt.cli import options as o
from qakhunt.cli.options import Panel
from qakhunt.cli.output import chosen_format, json_text, print_json, print_lines, write_text
from qakhunt.core.errors import ExitCode, UsageError
from qakhunt.run.progress import working
from qakhunt.run.request import catalog, read_now, read_product, read_values, read_zone

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from qakhunt.hunts.model import Hunt
    from qakhunt.testing.compare import Comparison
    from qakhunt.testing.records import Stage

FORMATS = ("text", "markdown", "json")
VERSION = "Name, id, path or git revision (HEAD~1:queries/x.yaml) of a hunt"


def diff(
    old: Annotated[
        str, typer.Argument(metavar="OLD", help=f"{VERSION}.", autocompletion=complete.hunts)
    ],
    new: Annotated[
        o.Text,
        typer.Argument(
            metavar="[NEW]", help=f"{VERSION}; OLD with --set-new by default.",
            autocompletion=complete.hunts,
        ),
    ] = None,
    events: o.EventsOrSample = None,
    external: o.External = None,
    recording: o.SourceRowsOf = None,
    dialect: o.Dialect = None,
    set_: o.Settings = None,
    set_old: Annotated[
        o.Texts,
        Panel.parameters("--set-old", metavar="NAME=VALUE", help="Value of a parameter of OLD."),
    ] = None,
    set_new: Annotated[
        o.Texts,
        Panel.parameters("--set-new", metavar="NAME=VALUE", help="Value of a parameter of NEW."),
    ] = None,
    hunts: o.HuntFolders = None,
    window: o.WindowOfEvents = None,
    time_zone: o.TimeZone = None,
    now: o.Now = None,
    format_: Annotated[str, o.text_format(*FORMATS)] = "text",
    as_json: o.AsJson = False,
    out: o.Out = None,
    force: o.Force = False,
    quiet: o.Quiet = False,
) -> int:  # fmt: skip
    """Compare two queries on the same events: hits gained, lost and changed, and why.

    Exit code 0: the same; 10: different; 4: the records cannot tell.
    """
    from qakhunt.backends.engine.external import give_external
    from qakhunt.core.writing import check_target
    from qakhunt.testing.records import find_hunt

    give_external(external)
    format_ = chosen_format(format_, FORMATS, as_json=as_json)
    if new is None and not set_new and not set_old:
        raise UsageError("nothing to compare", hint="name a second hunt, or give --set-new")
    if out is not None:
        check_target(out, force=force)
    known = catalog(hunts or ())
    before, after = find_hunt(old, known), find_hunt(new or old, known)
    with _staged(
        events or (), recording, (before, after), window=window, now=now, dialect=dialect,
        zone=time_zone, quiet=quiet,
    ) as stage:  # fmt: skip
        shared = list(set_ or ())
        one = stage.render(before, read_values([*shared, *(set_old or ())]))
        other = stage.render(after, read_values([*shared, *(set_new or ())]))
        found = stage.compare(one, other)
        if not quiet:
            print_lines([f"{stage.rows} events, {other.window}"], to_stderr=True)
    write_text(_text(found, format_), out, force=force)
    if found.unknown:
        return ExitCode.INCOMPLETE
    return ExitCode.HITS if found.differs else ExitCode.OK


def _text(found: Comparison, format_: str) -> str:
    from qakhunt.testing import compare_report

    if format_ == "json":
        return json_text(compare_report.diff_document(found))
    is_text = format_ == "text"
    lines = compare_report.text_lines if is_text else compare_report.markdown_lines
    return "\n".join(lines(found)) + "\n"


def sweep(
    hunt: o.HuntName,
    events: o.EventsOrSample = None,
    external: o.External = None,
    recording: o.SourceRowsOf = None,
    dialect: o.Dialect = None,
    set_: o.Settings = None,
    hunts: o.HuntFolders = None,
    window: o.WindowOfEvents = None,
    time_zone: o.TimeZone = None,
    now: o.Now = None,
    as_json: o.AsJson = False,
    quiet: o.Quiet = False,
) -> int:
    """Count a hunt's hits for each value of a parameter, such as --set Threshold=1..10."""
    from qakhunt.backends.engine.external import give_external
    from qakhunt.testing.records import find_hunt
    from qakhunt.testing.sweep import sweep as run_sweep
    from qakhunt.testing.sweep import sweep_document, sweep_lines, values_of

    give_external(external)
    found = find_hunt(hunt, catalog(hunts or ()))
    name, text, fixed = _swept(set_ or ())
    values = values_of(found, name, text)
    with _staged(
        events or (), recording, (found,), window=window, now=now, dialect=dialect, zone=time_zone,
        quiet=quiet or as_json,
    ) as stage:  # fmt: skip
        points = run_sweep(
            found, name, values, lambda more: stage.render(found, {**fixed, **more}),
            stage.records.ask,
        )  # fmt: skip
        unknown = stage.records.unknown(stage.render(found, {**fixed, name: values[0]}))
        if not quiet and not as_json:
            print_lines([f"{stage.rows} events, {stage.window}"], to_stderr=True)
    print_lines((f"warning: {text}" for text in unknown), to_stderr=True)
    if as_json:
        print_json(sweep_document(found, name, points))
    else:
        bar = "\u2588" if (sys.stdout.encoding or "").lower().startswith("utf") else "#"
        print("\n".join(sweep_lines(name, points, shutil.get_terminal_size().columns, bar)))
    return ExitCode.INCOMPLETE if unknown else ExitCode.OK


def _swept(settings: Sequence[str]) -> tuple[str, str, dict[str, str]]:
    """The one setting that names several values, and the others."""
    from qakhunt.testing.sweep import is_range

    values = read_values(settings)
    ranges = {name: text for name, text in values.items() if ".." in text}
    ranges = ranges or {name: text for name, text in values.items() if is_range(text)}
    if len(ranges) != 1:
        raise UsageError(
            "sweep needs one parameter with several values",
            hint="--set Threshold=1..10, or --set Burst=5m..30m..5m",
        )
    name, text = next(iter(ranges.items()))
    return name, text, {other: value for other, value in values.items() if other != name}


@contextmanager
def _staged(
    events: Sequence[str],
    recording: Path | None,
    hunts: Sequence[Hunt],
    *,
    window: str | None,
    now: str | None,
    dialect: str | None,
    zone: str | None,
    quiet: bool,
) -> Iterator[Stage]:
    """The stage of the options as given; the bundled sample by default."""
    from qakhunt.run.sample import sample_events
    from qakhunt.testing.records import open_stage

    if recording is not None and (events or now):
        other = "--events" if events else "--now"
        raise UsageError(f"--recording and {other} exclude each other")
    zone_of_days = read_zone(zone)
    with ExitStack() as stack:
        with working("loading events", quiet=quiet):
            stage = stack.enter_context(open_stage(
                events or sample_events(), hunts, recording=recording, window=window,
                product=read_product(dialect) if dialect else None,
                now=read_now(now) if now else None, zone=zone_of_days,
            ))  # fmt: skip
        yield stage
