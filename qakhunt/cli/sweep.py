"""``qakhunt sweep``: where a threshold should stand, seen on recorded events."""

from __future__ import annotations

import json
import shutil
import sys
from typing import TYPE_CHECKING

from qakhunt.cli import options as o
from qakhunt.cli import proving_options as p
from qakhunt.cli.request import catalog
from qakhunt.core.errors import ExitCode, UsageError
from qakhunt.core.safe_text import for_terminal

if TYPE_CHECKING:
    from collections.abc import Sequence

app = o.new_app()


@app.command()
def sweep(
    hunt: o.HuntName,
    set_: o.Settings = None,
    events: p.Events = None,
    recording: p.RecordingPath = None,
    window: p.WindowText = None,
    now: o.Now = None,
    dialect: o.Dialect = None,
    time_zone: o.TimeZone = None,
    hunts: o.HuntFolders = None,
    as_json: o.AsJson = False,
    quiet: o.Quiet = False,
) -> int:
    """Count a hunt's hits for each value of a parameter: --set Threshold=1..10."""
    from qakhunt.testing.records import find_hunt
    from qakhunt.testing.sweep import sweep as run_sweep
    from qakhunt.testing.sweep import sweep_document, sweep_lines, values_of

    found = find_hunt(hunt, catalog(hunts or ()))
    name, text, fixed = _swept(set_ or ())
    values = values_of(found, name, text)
    with p.open_stage(
        events or (), recording, (found,), window=window, now=now, dialect=dialect, zone=time_zone,
        quiet=quiet or as_json,
    ) as stage:  # fmt: skip
        points = run_sweep(
            found, name, values, lambda more: stage.render(found, {**fixed, **more}),
            stage.records.ask,
        )  # fmt: skip
        doubts = stage.records.unknown(stage.render(found, {**fixed, name: values[0]}))
        if not quiet and not as_json:
            print(f"{stage.rows} events, {stage.window}", file=sys.stderr)
    for doubt in doubts:
        print(f"warning: {for_terminal(doubt)}", file=sys.stderr)
    if as_json:
        print(json.dumps(sweep_document(found, name, points), indent=2))
    else:
        bar = "\u2588" if (sys.stdout.encoding or "").lower().startswith("utf") else "#"
        print("\n".join(sweep_lines(name, points, shutil.get_terminal_size().columns, bar)))
    return ExitCode.INCOMPLETE if doubts else ExitCode.OK


def _swept(settings: Sequence[str]) -> tuple[str, str, dict[str, str]]:
    """The one setting that names several values, and the others."""
    from qakhunt.testing.sweep import is_range

    values = p.read_values(settings)
    ranges = {name: text for name, text in values.items() if ".." in text}
    ranges = ranges or {name: text for name, text in values.items() if is_range(text)}
    if len(ranges) != 1:
        raise UsageError(
            "sweep needs one parameter with several values",
            hint="--set Threshold=1..10, or --set Burst=5m..30m..5m",
        )
    name, text = next(iter(ranges.items()))
    return name, text, {other: value for other, value in values.items() if other != name}
