"""Options that several commands share, each spelled once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer


def new_app(**settings: Any) -> typer.Typer:
    """A command's or group's Typer: plain help, and completion only at the top."""
    return typer.Typer(rich_markup_mode=None, add_completion=False, **settings)


HuntNames = Annotated[
    Optional[list[str]],  # noqa: UP045 - typer reads it at run time on 3.10
    typer.Argument(metavar="[HUNT]...", help="A hunt's name, id or path, or a named set."),
]
HuntName = Annotated[str, typer.Argument(metavar="HUNT", help="A hunt's name, id or path.")]
OptionalHuntName = Annotated[
    Optional[str],  # noqa: UP045
    typer.Argument(metavar="[HUNT]", help="A hunt's name, id or path."),
]
HuntFolders = Annotated[
    Optional[list[Path]],  # noqa: UP045
    typer.Option(
        "--hunts", metavar="DIR", help="A folder of hunts of your own; also QAKHUNT_HUNTS."
    ),
]
Commands = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(
        "--command", metavar="TEXT", help="Look for this command instead of the hunt's list."
    ),
]
CommandsFile = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        "--commands", metavar="FILE", help="Look for the commands in this file, one a line."
    ),
]
AddedCommands = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--add-command", metavar="TEXT", help="Look for this command as well."),
]
Threshold = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option("--threshold", metavar="N", help="A hit needs more than N distinct commands."),
]
Settings = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--set", metavar="NAME=VALUE", help="Give any parameter of a hunt a value."),
]
WindowText = Annotated[
    str,
    typer.Option(
        "--window",
        metavar="WINDOW",
        help="published, previous-month, 30d, 12h or START/END (2026-10-01/2026-11-01).",
    ),
]
TimeZone = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--time-zone", metavar="ZONE", help="Where calendar days begin, such as Australia/Perth."
    ),
]
TimeZoneOfEvents = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--time-zone",
        metavar="ZONE",
        help="Where calendar days begin, and of times in CSV that name no zone: Australia/Perth.",
    ),
]
DateOrder = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--date-order", metavar="ORDER",
        help="day-first or month-first, for dates in CSV that do not tell.",
    ),
]  # fmt: skip
Strict = Annotated[
    bool,
    typer.Option("--strict", help="Refuse records without a time and files that hold no events."),
]
MaxExpanded = Annotated[
    float,
    typer.Option(
        "--max-expanded", metavar="GIB", min=0.0, help="What one compressed file may expand to."
    ),
]
Now = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--now", metavar="INSTANT", help="Take this instant for now."),
]
Dialect = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--dialect", metavar="PRODUCT", help="log-analytics or defender."),
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print the result and errors, nothing else.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, the same as --format json.")]
Force = Annotated[bool, typer.Option("--force", help="Replace a file that exists.")]
