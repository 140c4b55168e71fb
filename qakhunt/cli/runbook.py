"""``qakhunt runbook``: the job in Azure Automation."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

from qakhunt.cli import options as o
from qakhunt.cli.profiles import (
    AllProfiles,
    Choice,
    ConfigPath,
    GroupName,
    ProfileNames,
    read_config,
)
from qakhunt.cli.progress import working
from qakhunt.cli.request import catalog, read_now
from qakhunt.cli.scheduled import SuppressionsFile, read_length
from qakhunt.core.errors import UsageError
from qakhunt.hunts.catalog import DEFAULT_HUNT

app = o.new_app(help="Make what Azure Automation needs.")


LONGEST_SECONDS = 170 * 60
Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder to make.")]
State = Annotated[
    Optional[str],  # noqa: UP045 - typer reads it at run time on 3.10
    typer.Option("--state", metavar="URL", help="The URL of the blob that the job remembers in."),
]
Wheels = Annotated[
    Optional[Path],  # noqa: UP045 - typer reads it at run time on 3.10
    typer.Option("--wheels", metavar="DIR", help="Take wheels from this folder, no index."),
]


@app.callback()
def runbook() -> None:
    """Make what Azure Automation needs."""


@app.command()
def build(
    out: Out,
    hunt: o.HuntNames = None,
    config: ConfigPath = None,
    profile: ProfileNames = None,
    group: GroupName = None,
    all_profiles: AllProfiles = False,
    hunts: o.HuntFolders = None,
    state: State = None,
    sink: Annotated[
        Optional[list[str]],  # noqa: UP045 - typer reads it at run time on 3.10
        typer.Option(
            "--sink", metavar="NAME|KIND:ADDRESS", help="Send findings there. Repeatable."
        ),
    ] = None,
    heartbeat: Annotated[
        bool, typer.Option("--heartbeat/--no-heartbeat", help="Send every sink a word of each run.")
    ] = True,
    every: Annotated[
        str, typer.Option("--every", metavar="TIME", help="How often the job is to run.")
    ] = "24h",
    repeat_after: Annotated[
        str, typer.Option("--repeat-after", metavar="TIME", help="Report what stays after this.")
    ] = "30d",
    deadline: Annotated[
        str, typer.Option("--deadline", metavar="TIME", help="Ask nothing more after this long.")
    ] = "150m",
    suppressions: SuppressionsFile = None,
    wheels: Wheels = None,
    now: o.Now = None,
    quiet: o.Quiet = False,
) -> int:
    """Make the runbook, its wheels for Python 3.10, and the steps to put it in place."""
    from qakhunt.schedule.runbook.build import build as build_bundle
    from qakhunt.schedule.runbook.payload import Job

    for option, text in (
        ("--every", every),
        ("--repeat-after", repeat_after),
        ("--deadline", deadline),
    ):
        read_length(option, text)
    if read_length("--deadline", deadline).seconds > LONGEST_SECONDS:
        raise UsageError(
            f"--deadline {deadline}: Automation stops a job after three hours",
            hint="leave time for what is under way, such as 150m",
        )
    settings = read_config(config)
    if settings is None:
        raise UsageError(
            "a runbook needs a configuration", hint="--config PATH; config.example.toml shows one"
        )
    if wheels is not None and not wheels.is_dir():
        raise UsageError(f"no such folder of wheels: {wheels}")
    choice = Choice(profile or (), group, all_profiles)
    everything = all_profiles or (not choice and settings.file.default_profile is None)
    chosen = settings.select(choice.names, choice.group, everything=everything)
    names = hunt or [name for p in chosen for name in settings.profiles[p].hunts] or [DEFAULT_HUNT]
    job = Job(
        profiles=chosen, hunts=catalog(hunts or ()).find_all(list(dict.fromkeys(names))),
        state=state, sinks=tuple(sink or ()), heartbeat=heartbeat and bool(sink), every=every,
        repeat_after=repeat_after, deadline=deadline, suppressions=suppressions,
    )  # fmt: skip
    with working("building the runbook", quiet=quiet) as say:
        manifest = build_bundle(settings, job, out, wheels, now=read_now(now), say=say)
    if not quiet:
        if state is None:
            print(
                "warning: without --state each run reports everything anew, and a window that "
                "failed is not made up for",
                file=sys.stderr,
            )
        size = sum(wheel["bytes"] for wheel in manifest["wheels"]) / 1e6
        print(
            f"{out}: runbook.py, {len(manifest['wheels'])} wheels ({size:.0f} MB), manifest.json, "
            "main.bicep, deploy.ps1; STEPS.md says how to go on",
            file=sys.stderr,
        )
    return 0
