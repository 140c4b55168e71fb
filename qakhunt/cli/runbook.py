"""``qakhunt runbook``: the job in Azure Automation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from qakhunt.cli import options as o
from qakhunt.cli.options import Panel
from qakhunt.cli.output import print_lines
from qakhunt.core.errors import UsageError
from qakhunt.hunts.catalog import DEFAULT_HUNT
from qakhunt.run.config import read_config
from qakhunt.run.progress import working
from qakhunt.run.request import catalog, read_length, read_now
from qakhunt.run.source import Choice

app = o.new_app(help="Build a runbook for Azure Automation.")

LONGEST_SECONDS = 170 * 60


@app.callback()
def runbook() -> None:
    """Build a runbook for Azure Automation."""


@app.command()
def build(
    out: Annotated[Path, Panel.output("--out", metavar="DIR", help="Folder to create.")],
    hunt: o.HuntNames = None,
    profile: o.ProfileNames = None,
    group: o.GroupName = None,
    all_profiles: o.AllProfiles = False,
    config: o.ConfigPath = None,
    hunts: o.HuntFolders = None,
    now: o.Now = None,
    state: Annotated[
        o.Text,
        Panel.schedule(
            "--state", metavar="URL", help="URL of the blob that holds the job's state."
        ),
    ] = None,
    sink: o.Sinks = None,
    heartbeat: Annotated[
        bool,
        Panel.schedule(
            "--heartbeat/--no-heartbeat", help="Report the outcome of every run to every sink."
        ),
    ] = True,
    every: Annotated[
        str, Panel.schedule("--every", metavar="TIME", help="Interval of the job.")
    ] = "24h",
    repeat_after: Annotated[
        str,
        Panel.schedule(
            "--repeat-after", metavar="TIME", help="Report a persisting finding again after this."
        ),
    ] = "30d",
    deadline: Annotated[
        str,
        Panel.schedule("--deadline", metavar="TIME", help="Stop starting queries after this long."),
    ] = "150m",
    suppressions: o.SuppressionsFile = None,
    wheels: Annotated[
        o.File,
        Panel.output("--wheels", metavar="DIR", help="Take wheels from this folder, not an index."),
    ] = None,
    quiet: o.Quiet = False,
) -> int:
    """Build the runbook, its wheels for Python 3.10, and the steps to deploy it."""
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
            "a runbook needs a configuration",
            hint="'qakhunt config init' writes one; --config PATH names one",
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
            warning = "without --state each run reports every finding, and failed windows are lost"
            print_lines([f"warning: {warning}"], to_stderr=True)
        size = sum(wheel["bytes"] for wheel in manifest["wheels"]) / 1e6
        files = f"runbook.py, {len(manifest['wheels'])} wheels ({size:.0f} MB), manifest.json"
        rest = "main.bicep, deploy.ps1; STEPS.md has the next steps"
        print_lines([f"{out}: {files}, {rest}"], to_stderr=True)
    return 0
