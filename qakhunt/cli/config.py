"""``qakhunt config`` and ``doctor``: the configuration, and whether it works."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from qakhunt.cli import complete
from qakhunt.cli import options as o
from qakhunt.cli.options import Panel
from qakhunt.cli.output import print_json, print_lines, screen, write_text
from qakhunt.core.errors import ExitCode, QakhuntError, UsageError
from qakhunt.core.safe_text import for_terminal
from qakhunt.run.config import read_config, user_folder
from qakhunt.run.execution import in_order
from qakhunt.run.request import HuntRequest, read_now, rendered_hunts
from qakhunt.run.settings import effective, shown
from qakhunt.run.source import Choice, chosen_profiles
from qakhunt.triage.words import count

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from qakhunt.kql.values import Instant
    from qakhunt.run.config import Config, NewProfile
    from qakhunt.run.doctor import Check
    from qakhunt.run.live import LiveBackends
    from qakhunt.run.settings import ProfileSettings

app = o.new_app(no_args_is_help=True)

_AT_ONCE = 8
LIVE = ("log-analytics", "defender")
ASKED_SIGN_INS = ("login", "azure-cli", "managed-identity", "default")
"""Kinds of sign-in that need no other key; the example shows the rest."""
_OR_SUBSCRIPTION = (
    "give it as an option, or --subscription, or run on a terminal to be asked for it"
)


@app.callback()
def config() -> None:
    """Create and show the configuration."""


@app.command()
def init(
    name: Annotated[
        o.Text, Panel.target("--profile", metavar="NAME", help="Name of the profile.")
    ] = None,
    backend: Annotated[
        o.Text,
        Panel.target(
            "--backend", metavar="NAME", help="Service to query: log-analytics or defender.",
            autocompletion=complete.one_of(*LIVE),
        ),
    ] = None,
    tenant: Annotated[
        o.Text, Panel.target("--tenant", metavar="ID", help="Entra tenant id of the customer.")
    ] = None,
    workspace: Annotated[
        o.Texts,
        Panel.target(
            "--workspace", metavar="ID", help="Workspace id, a GUID; repeatable (log-analytics)."
        ),
    ] = None,
    subscription: Annotated[
        o.Text,
        Panel.target(
            "--subscription", metavar="ID", help="Take the workspaces of this Azure subscription."
        ),
    ] = None,
    sign_in: Annotated[
        o.Text,
        Panel.sign_in(
            "--sign-in", metavar="KIND", help=f"{', '.join(ASKED_SIGN_INS)}.",
            autocompletion=complete.one_of(*ASKED_SIGN_INS),
        ),
    ] = None,
    cloud: Annotated[
        str,
        Panel.target(
            "--cloud", metavar="NAME", help="public, usgov, usgov-dod or china.",
            autocompletion=complete.clouds,
        ),
    ] = "public",
    out: Annotated[
        o.File, Panel.output("--out", metavar="PATH", show_default="config.toml in the user folder",
                             help="File to write; an existing file is never overwritten.")
    ] = None,
    check: Annotated[
        bool, Panel.output("--doctor/--no-doctor", help="Check the profile at the end.")
    ] = True,
) -> int:  # fmt: skip
    """Write a commented configuration with one profile, then check that it works.

    On a terminal, whatever no option gives is asked.
    """
    from qakhunt.core.writing import check_target
    from qakhunt.run.config import NewProfile, config_text, parse_config

    path = out or user_folder() / "config.toml"
    if out is None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.exists():
        raise UsageError(
            f"{path} exists and is not overwritten",
            hint="edit it, or name another file with --out; 'qakhunt config example' has every key",
        )
    check_target(path)
    backend = _answer("--backend", "Service to query", backend, "log-analytics", LIVE)
    tenant = _answer("--tenant", "Entra tenant id", tenant)
    workspaces = list(workspace or ())
    if subscription is not None and (workspaces or backend != "log-analytics"):
        raise UsageError("--subscription lists workspaces for log-analytics: leave out --workspace")
    asked = backend == "log-analytics" and not workspaces and subscription is None
    if asked:
        workspaces, subscription = _asked_workspaces()
    sign_in = _answer("--sign-in", "Sign-in", sign_in, "login", ASKED_SIGN_INS)
    name = _answer("--profile", "Name of the profile", name, "default")
    new = NewProfile(name, backend, tenant, tuple(workspaces), sign_in, cloud)
    if subscription is not None:
        new = replace(new, workspaces=_listed(subscription, new, path, ask=asked))
    text = config_text(new)
    parse_config(text, path)
    write_text(text, path, force=False)
    print(path)
    if sign_in == "login":
        print_lines([f"hint: sign in with 'qakhunt login --profile {name}'"], to_stderr=True)
    return doctor(config=path, profile=[name]) if check else ExitCode.OK


def _asked_workspaces() -> tuple[list[str], str | None]:
    """Workspace ids as a person names them, else the subscription to list them from."""
    question = "Workspace ids, separated by commas (empty: those of a subscription)"
    found = _guids(_answer("--workspace", question, None, hint=_OR_SUBSCRIPTION, empty=True))
    return found, None if found else _answer("--subscription", "Azure subscription id", None)


def _listed(subscription: str, new: NewProfile, path: Path, *, ask: bool) -> tuple[str, ...]:
    """The subscription's workspaces; with ``ask``, a person's where they cannot be listed."""
    try:
        return _workspaces_of(subscription, new, path)
    except QakhuntError as problem:
        if not ask:
            raise
        hints = [f"hint: {problem.hint}"] if problem.hint else []
        words = f"warning: the workspaces cannot be listed: {problem.message}"
        print_lines([words, *hints], to_stderr=True)
    return tuple(_guids(_answer("--workspace", "Workspace ids, separated by commas", None)))


def _guids(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _workspaces_of(subscription: str, new: NewProfile, path: Path) -> tuple[str, ...]:
    """Ids of the subscription's workspaces; says their names. Raises UsageError where none is."""
    from qakhunt.run.config import config_text, parse_config
    from qakhunt.run.live import LiveBackends

    unknown = replace(new, workspaces=("00000000-0000-0000-0000-000000000000",))
    settings = effective(parse_config(config_text(unknown), path), new.name, environment=os.environ)
    live = LiveBackends(read_now(None))
    try:
        found = live.workspaces(settings, subscription)
    finally:
        live.close()
    if not found:
        raise UsageError(
            f"the subscription {subscription} has no Log Analytics workspace that may be read",
            hint="name the ids with --workspace",
        )
    print_lines((f"workspace {name}: {guid}" for name, guid in found.items()), to_stderr=True)
    return tuple(found.values())


def _answer(
    option: str, question: str, given: str | None, default: str | None = None,
    known: tuple[str, ...] = (), *, hint: str = "", empty: bool = False,
) -> str:  # fmt: skip
    """The option's value, else a person's answer. Raises UsageError where there is nobody.

    With ``empty`` an empty answer is one.
    """
    if given is not None:
        return given
    if not sys.stdin.isatty():
        if default is not None:
            return default
        raise UsageError(
            f"{option} is missing",
            hint=hint or "give it as an option, or run on a terminal to be asked for it",
        )
    choices = f" ({', '.join(known)})" if known else ""
    default = "" if empty else default
    shown = not empty
    answer = typer.prompt(f"{question}{choices}", default=default, show_default=shown, err=True)
    return str(answer).strip()


@app.command()
def example() -> None:
    """Print a commented example of the configuration with every key."""
    from qakhunt.core.locations import example_config

    sys.stdout.write(example_config().read_text(encoding="utf-8"))


@app.command()
def show(
    profile: o.ProfileNames = None,
    group: o.GroupName = None,
    all_profiles: o.AllProfiles = False,
    config: o.ConfigPath = None,
    as_json: o.AsJson = False,
) -> None:
    """Show the values in force and the source of each; of every profile by default."""
    file = read_config(config)
    choice = Choice(profile or (), group, all_profiles)
    if file is not None and not choice:
        choice = Choice(everything=True)
    settings = chosen_profiles(file, choice)
    if as_json:
        print_json(_document(file, settings))
        return
    print_lines([f"file: {file.path if file else 'none'}", f"user folder: {user_folder()}"])
    if file is not None:
        _show_head(file)
    for one in settings:
        print_lines(["", f"[{one.name}]"])
        lines = [[for_terminal(text) for text in line] for line in shown(one)]
        key_width, value_width = (max(len(line[at]) for line in lines) for at in (0, 1))
        for key, value, source in lines:
            print(f"{key:<{key_width}}  {value:<{value_width}}  {source}")


def _show_head(file: Config) -> None:
    for key in ("default_profile", "deadline"):
        value = getattr(file.file, key)
        if value is not None:
            print_lines([f"{key}: {value}"])
    print_lines(f"group {name}: {', '.join(names)}" for name, names in file.file.groups.items())
    missing = file.missing_tenants()
    if missing:
        print_lines([f"expected tenants without a profile: {', '.join(missing)}"])


def _document(file: Config | None, settings: list[ProfileSettings]) -> dict[str, object]:
    return {
        "file": str(file.path) if file else None,
        "expected_tenants_without_profile": file.missing_tenants() if file else [],
        "profiles": {
            one.name: {key: {"value": value, "source": source} for key, value, source in shown(one)}
            for one in settings
        },
    }


@app.command()
def schema() -> None:
    """Print the JSON Schema of the configuration file, for editors."""
    import json

    from qakhunt.run.config import json_schema

    print(json.dumps(json_schema(), indent=2))


def doctor(
    profile: o.ProfileNames = None,
    group: o.GroupName = None,
    all_profiles: o.AllProfiles = False,
    config: o.ConfigPath = None,
    trust_host: o.TrustedHosts = None,
    now: o.Now = None,
    as_json: o.AsJson = False,
) -> int:
    """Check configuration, clock, sign-in, permissions and data; exit 1 if a check fails."""
    from qakhunt.run.live import LiveBackends

    moment = read_now(now)
    file = read_config(config)
    chosen = chosen_profiles(file, Choice(profile or (), group, all_profiles))
    live = LiveBackends(moment, trusted_hosts=trust_host or ())
    checks: list[Check] = []
    try:
        works = [partial(_examine, settings, live, moment) for settings in chosen]
        for settings, found in zip(chosen, in_order(_AT_ONCE, works), strict=True):
            checks += found
            if not as_json:
                print_lines(_lines(found) if len(chosen) == 1 else [_summary(settings, found)])
                sys.stdout.flush()
    finally:
        live.close()
    if as_json:
        print_json({"checks": [asdict(check) for check in checks]})
    elif len(chosen) > 1:
        _show_failures(checks)
    missing = file.missing_tenants() if file is not None and all_profiles else []
    print_lines(
        (f"warning: expected tenant without a profile: {tenant}" for tenant in missing),
        to_stderr=True,
    )
    failed = any(check.grade == "failed" for check in checks)
    return ExitCode.CHECK_FAILED if failed else ExitCode.OK


def _examine(settings: ProfileSettings, live: LiveBackends, now: Instant) -> list[Check]:
    from qakhunt.backends.services import service_named
    from qakhunt.run.doctor import examine

    product = service_named(settings.profile.backend).product
    request = HuntRequest(names=settings.profile.hunts)
    hunts = [rendered for rendered, _ in rendered_hunts(request, now=now, product=product)]
    return list(examine(settings, live, hunts))


def _lines(checks: Sequence[Check]) -> Iterator[str]:
    """Every check of a profile."""
    for check in checks:
        yield f"{check.grade.value:<8} {check.profile}  {check.name}: {check.said}"
        if check.hint and check.grade != "ok":
            yield f"         {check.hint}"


def _summary(settings: ProfileSettings, checks: Sequence[Check]) -> str:
    """One line for a profile: the worst grade and what has it."""
    from qakhunt.answers.ledger import target_label

    label = target_label(settings.name, settings.profile.tenant, None)
    for grade in ("failed", "warning"):
        names = dict.fromkeys(check.name for check in checks if check.grade == grade)
        if names:
            return f"{grade:<8} {label}  {', '.join(names)}"
    return f"{'ok':<8} {label}  {count(len(checks), 'check')}"


def _show_failures(checks: Sequence[Check]) -> None:
    """A table of what went wrong: one row per reason, with its profiles."""
    from qakhunt.reports.console import show_problems, unpadded
    from qakhunt.reports.summary import Problem, alike

    found = [
        Problem(
            tuple(dict.fromkeys(check.profile for check in group)), group[0].name,
            f"{group[0].grade.value}: {group[0].words}", group[0].hint, differ,
        )
        for group, differ in alike(
            [check for check in checks if check.grade != "ok"],
            lambda check: (check.name, check.grade.value, check.words, check.hint),
        )
    ]  # fmt: skip
    console = screen()
    with unpadded(console):
        show_problems(found, console)
    profiles = {check.profile for check in checks}
    failed = {check.profile for check in checks if check.grade == "failed"}
    print(f"{len(failed):,} of {count(len(profiles), 'profile')} failed", end="")
    print("; 'qakhunt doctor --profile NAME' shows every check of one" if found else "")
