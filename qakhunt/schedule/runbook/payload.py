"""What a runbook carries: the configuration cut down to what it uses, and its files.

Automation keeps no files beside a script, so templates, hunts of one's own, CA files
and suppressions travel inside it and are laid down when it starts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qakhunt.backends.auth.identity import SignIn
from qakhunt.backends.services import service_named
from qakhunt.core.documents import read_text
from qakhunt.core.errors import ConfigError, UsageError
from qakhunt.schedule.azure_blob import check_blob_url, is_blob_url
from qakhunt.schedule.coverage import lookback_of
from qakhunt.schedule.sinks import KINDS, sink_settings
from qakhunt.schedule.sinks.templates import READY

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from qakhunt.backends.profile import Profile
    from qakhunt.core.errors import SourceLocation
    from qakhunt.hunts.model import Hunt
    from qakhunt.run.config import Config
    from qakhunt.schedule.sinks.base import SinkKind

PLACE = "${QAKHUNT_FILES}"
"""Stands in the carried configuration for the folder that the files are laid into."""
_NO_SIGN_IN = {
    "default": "'default' tries kinds that need a person or another program",
    "login": "nobody is there to sign in",
    "azure-cli": "Automation runs no other programs",
    "workload-identity": "its token is Kubernetes' own",
    "none": "it is for services on one machine",
    "client-certificate": "a certificate's file does not travel with a runbook",
}
_FEDERATED = (
    'a multi-tenant app whose credential is the managed identity does: kind = "federated", '
    'assertion = "managed-identity"'
)


@dataclass(frozen=True)
class Job:
    """What the operator wants to run: names as given on the command line."""

    profiles: Sequence[str]
    hunts: Sequence[Hunt]
    state: str | None
    sinks: Sequence[str] = ()
    heartbeat: bool = True
    every: str = "24h"
    repeat_after: str = "30d"
    deadline: str = "150m"
    suppressions: Path | None = None


@dataclass
class Payload:
    """The carried parts: ``files`` by name, and what the steps must mention."""

    config: str
    files: dict[str, str]
    hunts: tuple[str, ...]
    extras: tuple[str, ...]
    variables: tuple[str, ...]
    vaults: tuple[str, ...]
    lighthouse: tuple[str, ...]
    backends: tuple[str, ...]
    sinks: dict[str, tuple[SinkKind, Any]] = field(default_factory=dict)


def payload_of(config: Config, job: Job) -> Payload:
    """Check that the job can run in Automation, and gather what it needs.

    Raises ConfigError at the line of the configuration at fault, UsageError for what
    the command line asked.
    """
    import tomli_w

    files: dict[str, str] = {}
    profiles = {name: config.profiles[name] for name in job.profiles}
    _check(config, job)
    hunts = _hunts(job, config, files)
    if job.suppressions is not None:
        from qakhunt.triage.suppressions import load_suppressions

        load_suppressions(job.suppressions)
        files["suppressions.yaml"] = read_text(job.suppressions, ConfigError)
    sinks = _sinks(config, job)
    values = _carried(config, job, files)
    sign_ins = [p.sign_in_settings for p in profiles.values()]
    sign_ins.append(_own_sign_in(config))
    variables, vaults = _secrets(sign_ins, [settings for _, settings in sinks.values()])
    extras = ["blob"] if job.state is not None else []
    extras += [kind.extra for kind, _ in sinks.values() if kind.extra]
    return Payload(
        config=tomli_w.dumps(values), files=files, hunts=hunts, extras=_once(extras),
        variables=variables, vaults=vaults,
        lighthouse=tuple(_needs_lighthouse(profiles, config.file.schedule.tenant)),
        backends=_once(p.backend for p in profiles.values()), sinks=sinks,
    )  # fmt: skip


def _secrets(
    sign_ins: Iterable[SignIn], sinks: Iterable[Any]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Environment variables (in Automation, variables of the account) and vault secrets."""
    variables: list[str] = []
    vaults: list[str] = []
    for settings in sinks:
        for name in settings.__struct_fields__:
            value, stem = getattr(settings, name), name.rpartition("_")[0]
            if value and name.endswith("_vault"):
                vaults.append(value)
            elif name == "secret_env" and not getattr(settings, "signs", True):
                continue
            elif value and name.endswith("_env") and not getattr(settings, f"{stem}_vault"):
                variables.append(value)
    for sign_in in sign_ins:
        variables += filter(None, (sign_in.client_secret_env, sign_in.certificate_password_env))
        vaults += filter(None, (sign_in.client_secret_vault,))
    return _once(variables), _once(vaults)


def _once(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(texts))


def _check(config: Config, job: Job) -> None:
    if not job.profiles:
        raise UsageError(
            "a runbook needs at least one profile", hint="the bundled sample is not for it"
        )
    if job.state is not None and not is_blob_url(job.state):
        raise UsageError(
            f"--state {job.state}: a file does not outlive the job",
            hint="https://ACCOUNT.blob.core.windows.net/CONTAINER/state.db",
        )
    if job.state is not None:
        check_blob_url(job.state, "--state")
    if job.heartbeat and not job.sinks:
        raise UsageError("--heartbeat needs a --sink to go to", hint="or say --no-heartbeat")
    place = config.document.locate(("schedule", "sign_in"))
    _check_sign_in("[schedule]", _own_sign_in(config), place)
    for name in job.profiles:
        _check_profile(name, config.profiles[name], config)


def _own_sign_in(config: Config) -> SignIn:
    """Who the job is towards Azure: the automation account's identity, unless it says otherwise."""
    if "sign_in" in config.document.value.get("schedule", {}):
        return config.file.schedule.sign_in_settings
    return SignIn(kind="managed-identity")


def _check_profile(name: str, profile: Profile, config: Config) -> None:
    """Whether the profile's sign-in can reach its tenant from inside Azure Automation.

    There is no person, no command-line program and no file there: what can sign in is the
    automation account's managed identity, an app whose credential is that identity, and an
    app whose secret lies in a Key Vault or an Automation variable.
    """
    sign_in, locate = profile.sign_in_settings, config.document.locate
    if profile.write:
        raise ConfigError(
            f"profile {name}: it may write rules, so it runs no hunts",
            location=locate(("profiles", name, "write")),
        )
    _check_sign_in(f"profile {name}", sign_in, locate(("profiles", name, "sign_in")))
    if sign_in.kind != "managed-identity" or service_named(profile.backend).foreign_tokens:
        return
    place, home = locate(("profiles", name, "tenant")), config.file.schedule.tenant
    if home is None:
        raise ConfigError(
            f"profile {name}: whether the managed identity is of tenant {profile.tenant} is "
            "not known",
            location=place,
            hint=f'if it is, say so: [schedule] with tenant = "{profile.tenant}"; {_FEDERATED}',
        )  # fmt: skip
    if profile.tenant.casefold() != home.casefold():
        raise ConfigError(
            f"profile {name}: a managed identity gets no token of another tenant "
            f"({profile.tenant})",
            location=place, hint=_FEDERATED,
        )  # fmt: skip


def _check_sign_in(what: str, sign_in: SignIn, place: SourceLocation | None) -> None:
    if sign_in.kind in _NO_SIGN_IN:
        raise ConfigError(
            f"{what}: a runbook cannot sign in as {sign_in.kind!r}: {_NO_SIGN_IN[sign_in.kind]}",
            location=place, hint='name kind = "managed-identity", "federated" or "client-secret"',
        )  # fmt: skip
    if sign_in.kind == "federated" and sign_in.assertion != "managed-identity":
        raise ConfigError(
            f"{what}: {sign_in.assertion} is no credential of an app in Automation",
            location=place, hint='assertion = "managed-identity"',
        )  # fmt: skip


def _needs_lighthouse(profiles: Mapping[str, Profile], home: str | None) -> list[str]:
    """Profiles whose workspaces the managed identity reaches only through Lighthouse."""
    return [
        name
        for name, profile in profiles.items()
        if service_named(profile.backend).foreign_tokens
        and profile.sign_in_settings.kind == "managed-identity"
        and (home is None or profile.tenant.casefold() != home.casefold())
    ]


def _hunts(job: Job, config: Config, files: dict[str, str]) -> tuple[str, ...]:
    """Names of the hunts; those that are not built in travel along."""
    products = {service_named(config.profiles[name].backend).product for name in job.profiles}
    names = []
    for hunt in job.hunts:
        lookback_of(hunt)
        missing = products - set(hunt.products)
        if missing:
            raise UsageError(
                f"{hunt.name} is not available for {', '.join(sorted(missing))}",
                hint="build one runbook for each product, or choose other hunts",
            )
        names.append(hunt.name)
        if hunt.source != "built-in":
            path = Path(hunt.path)
            files[f"hunts/{path.name}"] = read_text(path, ConfigError)
    return tuple(names)


def _sinks(config: Config, job: Job) -> dict[str, tuple[SinkKind, Any]]:
    """The sinks' kinds and settings by name; refused where Automation has no place for one."""

    def locate(name: str, path: tuple[str | int, ...]) -> SourceLocation:
        return config.document.locate(("sinks", name, *path))

    found = {}
    for text in job.sinks:
        name, kind, settings = sink_settings(text, config.file.sinks, locate)
        if kind.not_in_automation:
            fit = [name for name, other in KINDS.items() if not other.not_in_automation]
            raise UsageError(
                f"--sink {text}: {kind.not_in_automation}",
                hint=f"kinds for a runbook: {', '.join(fit)}",
            )
        found[name] = (kind, settings)
    return found


def _carried(config: Config, job: Job, files: dict[str, str]) -> dict[str, Any]:
    """The configuration's values that the job uses, paths replaced by carried files."""
    raw = config.document.value
    values: dict[str, Any] = {
        "schedule": {"sign_in": "managed-identity", **raw.get("schedule", {})}
    }
    if "expected_tenants" in raw:
        values["expected_tenants"] = raw["expected_tenants"]
    values["profiles"] = {name: raw["profiles"][name] for name in job.profiles}
    values["groups"] = {
        name: members
        for name, members in config.file.groups.items()
        if set(members) <= set(job.profiles)
    }
    named = {text: raw["sinks"][text] for text in job.sinks if text in config.file.sinks}
    if named:
        values["sinks"] = named
    carried: dict[str, Any] = _with_files(values, files)
    return carried


def _with_files(value: Any, files: dict[str, str], key: str = "") -> Any:
    if isinstance(value, dict):
        return {name: _with_files(item, files, name) for name, item in value.items()}
    if key not in ("ca_file", "template") or (key == "template" and value in READY):
        return value
    path = Path(value)
    name = f"{len(files)}-{path.name}"
    files[name] = read_text(path, ConfigError)
    return f"{PLACE}/{name}"
