"""Every option that several commands share, each spelled once, by the panel of its help.

``Panel.x`` makes an option that ``--help`` shows under that heading.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from qakhunt.cli import complete

# Typer reads these at run time, where 3.10 knows no "str | None" inside Annotated.
Text = Optional[str]  # noqa: UP045
Texts = Optional[list[str]]  # noqa: UP045
File = Optional[Path]  # noqa: UP045
Files = Optional[list[Path]]  # noqa: UP045
Number = Optional[int]  # noqa: UP045
Seconds = Optional[float]  # noqa: UP045


def new_app(**settings: Any) -> typer.Typer:
    """A group's Typer; completion is installed at the top only."""
    return typer.Typer(rich_markup_mode="rich", add_completion=False, **settings)


class Panel:
    """Headings of ``--help``."""

    target = partial(typer.Option, rich_help_panel="Target")
    events = partial(typer.Option, rich_help_panel="Events")
    parameters = partial(typer.Option, rich_help_panel="Parameters")
    window = partial(typer.Option, rich_help_panel="Window")
    execution = partial(typer.Option, rich_help_panel="Execution")
    context = partial(typer.Option, rich_help_panel="Context")
    output = partial(typer.Option, rich_help_panel="Output")
    schedule = partial(typer.Option, rich_help_panel="Schedule")
    report = partial(typer.Option, rich_help_panel="Report")
    server = partial(typer.Option, rich_help_panel="Server")
    sign_in = partial(typer.Option, rich_help_panel="Sign-in")


# Hunts
HuntNames = Annotated[
    Texts,
    typer.Argument(
        metavar="[HUNT]...", help="Name, id or path of a hunt, or the name of a set.",
        autocompletion=complete.hunts,
    ),
]  # fmt: skip
HuntName = Annotated[
    str,
    typer.Argument(
        metavar="HUNT", help="Name, id or path of a hunt.", autocompletion=complete.hunts
    ),
]
OptionalHuntName = Annotated[
    Text,
    typer.Argument(
        metavar="[HUNT]", help="Name, id or path of a hunt.", autocompletion=complete.hunts
    ),
]
HuntsOrPaths = Annotated[
    Texts,
    typer.Argument(
        metavar="[HUNT|PATH]...", help="Hunts, files or folders; all hunts by default.",
        autocompletion=complete.hunts,
    ),
]  # fmt: skip
HuntFolders = Annotated[
    Files,
    Panel.parameters(
        "--hunts", metavar="DIR", help="Folder of additional hunts; also QAKHUNT_HUNTS."
    ),
]

# Target
BackendName = Annotated[
    Text,
    Panel.target(
        "--backend", metavar="NAME", autocompletion=complete.backends,
        help="Backend to query: local, log-analytics, defender, kusto or replay.",
    ),
]  # fmt: skip
ProfileNames = Annotated[
    Texts,
    Panel.target(
        "--profile", metavar="NAME", autocompletion=complete.profiles,
        help="Profile of the configuration; repeatable.",
    ),
]  # fmt: skip
GroupName = Annotated[
    Text,
    Panel.target(
        "--group", metavar="NAME", help="Group of profiles.", autocompletion=complete.groups
    ),
]
AllProfiles = Annotated[
    bool, Panel.target("--all-profiles", help="Every profile of the configuration.")
]
ConfigPath = Annotated[
    File, Panel.target("--config", metavar="PATH", help="Configuration file; also QAKHUNT_CONFIG.")
]
TrustedHosts = Annotated[
    Texts,
    Panel.target(
        "--trust-host", metavar="HOST",
        help="Also send tokens to this host, which belongs to no known cloud.",
    ),
]  # fmt: skip
RecordingPath = Annotated[
    File, Panel.target("--recording", metavar="DIR", help="Replay the answers of this recording.")
]
OnSource = Annotated[
    bool,
    Panel.target(
        "--on-source", help="Run on the recording's source rows, so that hunts may differ."
    ),
]

# Events
EVENTS_HELP = "Recorded events: a file, a folder or a glob."
Events = Annotated[Texts, Panel.events("--events", metavar="[TABLE=]PATH", help=EVENTS_HELP)]
EventsOrSample = Annotated[
    Texts,
    Panel.events(
        "--events", metavar="[TABLE=]PATH",
        help=f"{EVENTS_HELP} The bundled sample by default.",
    ),
]  # fmt: skip
SourceRowsOf = Annotated[
    File,
    Panel.events("--recording", metavar="DIR", help="Use the source rows of this recording."),
]
External = Annotated[
    Texts,
    Panel.events(
        "--external", metavar="URL=PATH",
        help="File for an address of externaldata, or a folder with host/path; repeatable.",
    ),
]  # fmt: skip
DateOrder = Annotated[
    Text,
    Panel.events(
        "--date-order", metavar="ORDER", autocompletion=complete.one_of("day-first", "month-first"),
        help="day-first or month-first, for ambiguous dates in CSV.",
    ),
]  # fmt: skip
Strict = Annotated[
    bool,
    Panel.events("--strict", help="Reject records without a time and files without events."),
]
MaxExpanded = Annotated[
    Seconds,
    Panel.events(
        "--max-expanded", metavar="GIB", min=0.0,
        help="Most that one compressed file may expand to; 16 by default.",
    ),
]  # fmt: skip
Dialect = Annotated[
    Text,
    Panel.events(
        "--dialect", metavar="PRODUCT", autocompletion=complete.dialects,
        help="Schema and text of the query: log-analytics or defender.",
    ),
]  # fmt: skip
MemoryLimit = Annotated[
    Text,
    Panel.events(
        "--memory-limit", metavar="SIZE",
        help="Most memory for the embedded engine, such as 2GB; a quarter by default.",
    ),
]  # fmt: skip

# Parameters
Commands = Annotated[
    Texts,
    Panel.parameters(
        "--command", metavar="TEXT", help="Search for this command instead of the hunt's list."
    ),
]
CommandsFile = Annotated[
    File,
    Panel.parameters(
        "--commands", metavar="FILE", help="Search for the commands in this file, one per line."
    ),
]
AddedCommands = Annotated[
    Texts, Panel.parameters("--add-command", metavar="TEXT", help="Also search for this command.")
]
Threshold = Annotated[
    Number,
    Panel.parameters(
        "--threshold", metavar="N", help="Report more than N distinct commands as a hit."
    ),
]
Settings = Annotated[
    Texts, Panel.parameters("--set", metavar="NAME=VALUE", help="Value of any hunt parameter.")
]

# Window
WindowText = Annotated[
    str,
    Panel.window(
        "--window", metavar="WINDOW",
        autocompletion=complete.one_of("published", "previous-month", "7d", "30d"),
        help="published, previous-month, a length such as 30d or 12h, or "
        "START/END such as 2026-10-01/2026-11-01.",
    ),
]  # fmt: skip
WindowOfEvents = Annotated[
    Text,
    Panel.window(
        "--window", metavar="WINDOW",
        autocompletion=complete.one_of("published", "previous-month", "7d", "30d"),
        help="published, previous-month, 30d or START/END; all of the events by default.",
    ),
]  # fmt: skip
TimeZone = Annotated[
    Text,
    Panel.window(
        "--time-zone", metavar="ZONE", help="Time zone of calendar days, such as Australia/Perth."
    ),
]
TimeZoneOfEvents = Annotated[
    Text,
    Panel.window(
        "--time-zone", metavar="ZONE",
        help="Time zone of calendar days, and of CSV times without one, such as Australia/Perth.",
    ),
]  # fmt: skip
Now = Annotated[
    Text, Panel.window("--now", metavar="INSTANT", help="Use this time as the current time.")
]

# Execution
Timeout = Annotated[
    Seconds,
    Panel.execution(
        "--timeout", metavar="SECONDS", min=0.001,
        help="Stop a query, or loading the events, after this long.",
    ),
]  # fmt: skip
Deadline = Annotated[
    Text,
    Panel.execution(
        "--deadline", metavar="TIME", help="Stop starting queries after this long, such as 150m."
    ),
]
Slice = Annotated[
    Text,
    Panel.execution(
        "--slice", metavar="SLICES", autocompletion=complete.one_of("auto", "1d", "devices:8"),
        help="Query in slices of time (1d) or of devices (devices:8), where that gives exactly "
        "the same result; auto slices only what is too large for one answer.",
    ),
]  # fmt: skip

# Context
Around = Annotated[
    Text,
    Panel.context(
        "--context", metavar="TIME", help="Collect events around each hit, such as 30m or 2h."
    ),
]
ContextHits = Annotated[
    int,
    Panel.context("--context-hits", metavar="N", min=1, help="Collect them for the first N hits."),
]

# Output
FormatName = Annotated[
    Text,
    Panel.output(
        "--format", metavar="NAME", autocompletion=complete.formats,
        help="table, json, ndjson, csv, parquet, markdown, html, chat, navigator or ocsf.",
    ),
]  # fmt: skip
Out = Annotated[
    File, Panel.output("--out", metavar="PATH", help="Write to a file; its suffix sets the format.")
]
AsJson = Annotated[bool, Panel.output("--json", help="Print JSON.")]
Force = Annotated[bool, Panel.output("--force", help="Overwrite existing files.")]
Quiet = Annotated[bool, Panel.output("--quiet", "-q", help="Print only the result and errors.")]
Verbose = Annotated[
    bool, Panel.output("--verbose", "-v", help="Report each answer and wait on stderr.")
]


def text_format(*names: str) -> Any:
    """A ``--format`` of a command with formats of its own."""
    return Panel.output(
        "--format", metavar="NAME", help=f"{', '.join(names[:-1])} or {names[-1]}.",
        autocompletion=complete.one_of(*names),
    )  # fmt: skip


# Schedule
Sinks = Annotated[
    Texts,
    Panel.schedule(
        "--sink", metavar="SINK", autocompletion=complete.sinks,
        help="Send findings to a sink of the configuration, or to KIND:ADDRESS with the kind "
        "file, webhook, teams, log-analytics, sentinel-incident or smtp, or to stdout; "
        "repeatable.",
    ),
]  # fmt: skip
SuppressionsFile = Annotated[
    File,
    Panel.schedule(
        "--suppressions", metavar="FILE", help="Hide findings that this file suppresses."
    ),
]

# Report
ResultFile = Annotated[
    Path, typer.Argument(metavar="RESULT.json", help="Saved output of 'qakhunt run --json'.")
]
Cloud = Annotated[
    Text,
    Panel.report(
        "--cloud", metavar="NAME", autocompletion=complete.clouds,
        help="Cloud of the portals that links open; the profile's by default.",
    ),
]  # fmt: skip
WorkspaceResources = Annotated[
    Texts,
    Panel.report(
        "--workspace-resource", metavar="[GUID=]ID",
        help="Azure resource id of a workspace, for links to Logs; the profile's by default.",
    ),
]  # fmt: skip
