"""``qakhunt hunts export``, ``hunts import`` and ``deploy``: hunts as rules of a service."""

from __future__ import annotations

import json
import shlex
import sys
from difflib import unified_diff
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qakhunt.cli import complete
from qakhunt.cli import options as o
from qakhunt.cli.options import Panel
from qakhunt.cli.output import print_lines, write_text
from qakhunt.core.errors import ExitCode, UsageError, nearest
from qakhunt.core.safe_text import lines_for_terminal
from qakhunt.run.request import HuntRequest, hunts_with_values, read_now, read_values

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    from qakhunt.backends.rule_store import RuleStore
    from qakhunt.hunts.model import Hunt
    from qakhunt.hunts.rules import Rule, RuleOptions
    from qakhunt.run.deploy import Planned
    from qakhunt.run.settings import ProfileSettings

RULE, HUNTING, DETECTION = "sentinel-rule", "sentinel-hunt", "defender-detection"
SIGMA = "sigma-stub"
FORMS = (RULE, HUNTING, DETECTION, SIGMA)
_SHORT = 100
_SOURCES = {"sentinel": (RULE, HUNTING), "defender": (DETECTION,)}

Window = Annotated[
    o.Text,
    Panel.window(
        "--window", metavar="LENGTH", autocompletion=complete.one_of("1d", "7d", "14d"),
        help="How far back the rule looks, such as 14d; the hunt's queryPeriod or look-back by "
        "default.",
    ),
]  # fmt: skip
Frequency = Annotated[
    o.Text,
    Panel.window(
        "--frequency", metavar="LENGTH", autocompletion=complete.one_of("1h", "12h", "1d"),
        help="How often the rule runs; hourly by default, daily where it looks back over a day.",
    ),
]  # fmt: skip
AddColumns = Annotated[
    bool,
    Panel.parameters(
        "--add-columns",
        help="Add the columns that a custom detection needs: Timestamp, DeviceId, ReportId.",
    ),
]
AsFunction = Annotated[
    bool,
    Panel.parameters(
        "--as-function",
        help="Keep the query as a function of the workspace, which the rule calls: for one that is "
        "too long for a rule.",
    ),
]
OneProfile = Annotated[
    str,
    Panel.target(
        "--profile", metavar="NAME", help="Profile of the configuration.",
        autocompletion=complete.profiles,
    ),
]  # fmt: skip


def export(
    hunt: o.HuntName,
    to: Annotated[
        str,
        Panel.output(
            "--to", metavar="FORM", help=f"{', '.join(FORMS[:-1])} or {FORMS[-1]}.",
            autocompletion=complete.one_of(*FORMS),
        ),
    ],
    window: Window = None,
    frequency: Frequency = None,
    command: o.Commands = None,
    commands: o.CommandsFile = None,
    add_command: o.AddedCommands = None,
    threshold: o.Threshold = None,
    set_: o.Settings = None,
    hunts: o.HuntFolders = None,
    add_columns: AddColumns = False,
    as_function: AsFunction = False,
    format_: Annotated[o.Text, o.text_format("json", "yaml")] = None,
    out: o.Out = None,
    force: o.Force = False,
) -> None:  # fmt: skip
    """Write a hunt as a rule: ARM JSON or YAML of Sentinel, JSON of Defender, a Sigma stub.

    The rule looks back from whenever it runs: window lets become ago() and
    now(). What the service would refuse is refused here.
    """
    if to not in FORMS:
        raise UsageError(f"no form named {to!r}", hint=nearest(to, FORMS) or ", ".join(FORMS))
    format_ = _format(to, format_, out)
    request = HuntRequest(
        [hunt], hunts or (), command or (), commands, add_command or (), threshold,
        read_values(set_ or ()),
    )  # fmt: skip
    found = hunts_with_values(request)
    if len(found) > 1:
        raise UsageError(
            f"{hunt} is a set of {len(found)} hunts, a rule is one",
            hint=f"name one: {', '.join(one.name for one, _ in found)}",
        )
    options = _options(window, frequency, add_columns, as_function)
    text = _text(*found[0], to, format_, options)
    if out is None and sys.stdout.isatty():
        text = lines_for_terminal(text)
    write_text(text, out, force=force, private=False)


def _format(to: str, format_: str | None, out: Path | None) -> str:
    """JSON or YAML: the chosen one, else the file name's, else the usual one of the form."""
    own = "yaml" if to == SIGMA else "json"
    both = to in (RULE, HUNTING)
    suffix = out.suffix.lower() if out else ""
    named = {".yaml": "yaml", ".yml": "yaml", ".json": "json"}.get(suffix) if both else None
    chosen = format_ or named or own
    if chosen not in ("json", "yaml") or (chosen != own and not both):
        raise UsageError(f"{to} is not written as {chosen}", hint=f"it is written as {own}")
    return chosen


def _options(
    window: str | None, frequency: str | None, add_columns: bool, as_function: bool
) -> dict[str, Any]:
    return {
        "window": window, "frequency": frequency, "add_columns": add_columns,
        "as_function": as_function,
    }  # fmt: skip


def _text(
    hunt: Hunt, values: dict[str, Any], to: str, format_: str, options: dict[str, Any]
) -> str:
    from qakhunt.hunts import rule_documents as documents
    from qakhunt.hunts.rules import RuleOptions, rule_id

    chosen = RuleOptions(parameters=values, **options)
    if to == SIGMA:
        return documents.sigma_stub(hunt, chosen, rule_id(hunt))
    rule = _rule(hunt, to, chosen)
    if to == DETECTION:
        return documents.detection_json(rule)
    write = documents.sentinel_yaml if format_ == "yaml" else documents.arm_template
    return write(rule, scheduled=to == RULE)


def _rule(hunt: Hunt, form: str, options: RuleOptions) -> Rule:
    """The rule, its warnings on stderr. A query with added columns is shown before it is needed."""
    from qakhunt.hunts.rules import MissingColumnsError, defender_detection, sentinel_rule

    try:
        if form == DETECTION:
            rule = defender_detection(hunt, options)
        else:
            rule = sentinel_rule(hunt, options, scheduled=form == RULE)
    except MissingColumnsError as problem:
        print("with the columns that a custom detection needs, the query is:\n", file=sys.stderr)
        print_lines(problem.query.splitlines(), to_stderr=True)
        print(file=sys.stderr)
        raise
    words = (f"warning: {hunt.name}: {one}" for one in rule.warnings)
    print_lines(words, to_stderr=True)
    return rule


def deploy(
    hunt: Annotated[
        list[str],
        typer.Argument(
            metavar="HUNT...", help="Name, id or path of a hunt, or the name of a set.",
            autocompletion=complete.hunts,
        ),
    ],
    profile: OneProfile,
    to: Annotated[
        o.Text,
        Panel.target(
            "--to", metavar="FORM", autocompletion=complete.one_of(*FORMS[:-1]),
            help="sentinel-rule (default), sentinel-hunt or defender-detection.",
        ),
    ] = None,
    window: Window = None,
    frequency: Frequency = None,
    command: o.Commands = None,
    commands: o.CommandsFile = None,
    add_command: o.AddedCommands = None,
    threshold: o.Threshold = None,
    set_: o.Settings = None,
    hunts: o.HuntFolders = None,
    add_columns: AddColumns = False,
    as_function: AsFunction = False,
    dry_run: Annotated[
        bool, Panel.execution("--dry-run", help="Say what would change; write nothing.")
    ] = False,
    diff: Annotated[
        bool,
        Panel.execution("--diff", help="Show what is there against the hunt; write nothing."),
    ] = False,
    config: o.ConfigPath = None,
    trust_host: o.TrustedHosts = None,
) -> int:  # fmt: skip
    """Put hunts into Sentinel or Defender as rules and say what changed.

    A rule keeps its id, so that a second deployment changes nothing. Nothing
    is deleted, and whether a rule is on stays as it is there. The profile says
    'write = true' and has a sign-in of its own.
    """
    from qakhunt.hunts.rules import RuleOptions
    from qakhunt.run import deploy as deployment

    settings = _settings_of(profile, config)
    if not (dry_run or diff):
        deployment.check_writable(settings)
    form = _form_of(settings, to)
    request = HuntRequest(
        hunt, hunts or (), command or (), commands, add_command or (), threshold,
        read_values(set_ or ()), config=config,
    )  # fmt: skip
    options = _options(window, frequency, add_columns, as_function)
    rules = [
        _rule(one, form, RuleOptions(parameters=values, **options))
        for one, values in hunts_with_values(request)
    ]
    write = not (dry_run or diff)
    with _stores(settings, form, trust_host) as stores:
        planned = deployment.plan(stores, rules)
        if diff:
            lines = [line for one in planned for line in one.diff()]
            print_lines(lines or ["no difference"])
            return ExitCode.HITS if lines else 0
        for one in deployment.apply(planned) if write else planned:
            print_lines(_account(one, dry_run=dry_run))
            sys.stdout.flush()
    return 0


def _account(planned: Planned, *, dry_run: bool) -> Iterator[str]:
    done = {"created": "would be created", "updated": "would be updated"}
    action = done.get(planned.action, planned.action) if dry_run else planned.action
    off = " (it is off there and stays so)" if planned.is_off else ""
    yield f"{action}: {planned.rule.title} [{planned.rule.id}] in {planned.store.label}{off}"
    for field in planned.fields:
        before, after = _plain(field.before), _plain(field.after)
        if len(before) + len(after) <= _SHORT and "\n" not in before + after:
            yield f"  {field.path}: {before} -> {after}"
            continue
        yield f"  {field.path}:"
        lines = unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=0)
        yield from (f"    {line}" for line in lines if line[:3] not in ("---", "+++", "@@ "))


def _plain(value: Any) -> str:
    if value is None:
        return "nothing"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1)


def _settings_of(profile: str, config: Path | None) -> ProfileSettings:
    from qakhunt.run.config import read_config
    from qakhunt.run.source import Choice, chosen_profiles

    return chosen_profiles(read_config(config), Choice((profile,)))[0]


def _form_of(settings: ProfileSettings, to: str | None) -> str:
    from qakhunt.run.deploy import forms_of

    forms = forms_of(settings)
    form = to or forms[0]
    if form not in forms:
        raise UsageError(
            f"the profile {settings.name} takes no {form}", hint=f"it takes {', '.join(forms)}"
        )
    return form


def _stores(
    settings: ProfileSettings, form: str, trusted: Sequence[str] | None
) -> AbstractContextManager[list[RuleStore]]:
    from contextlib import contextmanager

    from qakhunt.run.live import LiveBackends

    @contextmanager
    def opened() -> Iterator[list[RuleStore]]:
        live = LiveBackends(read_now(None), trusted_hosts=trusted or ())
        try:
            yield live.open_rules(settings, form)
        finally:
            live.close()

    return opened()


def import_rules(
    source: Annotated[
        str,
        Panel.target(
            "--from", metavar="SERVICE", help="sentinel or defender.",
            autocompletion=complete.one_of(*_SOURCES),
        ),
    ],
    profile: OneProfile,
    out: Annotated[
        Path, Panel.output("--out", metavar="DIR", help="Folder for the hunt files.")
    ],
    config: o.ConfigPath = None,
    trust_host: o.TrustedHosts = None,
    force: o.Force = False,
) -> None:  # fmt: skip
    """Write a tenant's own rules as hunt files, to test, compare and lint them offline."""
    from qakhunt.core.writing import check_target
    from qakhunt.run.deploy import forms_of, imported

    if source not in _SOURCES:
        raise UsageError(
            f"no service named {source!r}", hint=nearest(source, _SOURCES) or ", ".join(_SOURCES)
        )
    settings = _settings_of(profile, config)
    forms = [form for form in forms_of(settings) if form in _SOURCES[source]]
    if not forms:
        raise UsageError(
            f"the profile {profile} is not one of {source}", hint="name another --profile"
        )
    files: dict[str, str] = {}
    left_out: list[str] = []
    calling: dict[str, Sequence[str]] = {}
    for form in forms:
        with _stores(settings, form, trust_host) as stores:
            found = imported(stores, form, files)
        files |= found.files
        calling |= found.calling
        left_out += found.left_out if form != HUNTING else ()
    paths = {out / f"{name}.yaml": text for name, text in files.items()}
    out.mkdir(parents=True, exist_ok=True)
    for path in paths:
        check_target(path, force=force)
    for path, text in paths.items():
        write_text(text, path, force=force, private=False)
    print_lines(map(str, paths))
    if left_out:
        print_lines(
            [f"left out, without a query of their own: {', '.join(left_out)}"], to_stderr=True
        )
    words = (
        f"warning: {name}.yaml calls {', '.join(called)}, which only the workspace has: it does "
        "not run offline"
        for name, called in calling.items()
    )
    print_lines(words, to_stderr=True)
    print_lines([f"hint: 'qakhunt hunts lint {shlex.quote(str(out))}'"], to_stderr=True)
