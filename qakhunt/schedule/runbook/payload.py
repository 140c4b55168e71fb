"""What a runbook carries: the configuration cut down to what it uses, and its files.

Automation keeps no files beside a script, so templates, hunts of one's own, CA files
and suppressions travel inside it and are laid down when it starts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qakhunt.documents import read_text
from qakhunt.errors import ConfigError, UsageError
from qakhunt.schedule.azure_blob import check_blob_url, is_blob_url
from qakhunt.schedule.lookback import lookback_of
from qakhunt.schedule.runbook.sign_ins import (
    check_profile_sign_in,
    check_schedule_sign_in,
    needs_lighthouse,
    variables_of,
)
from qakhunt.schedule.runbook.toml_text import to_toml
from qakhunt.schedule.sinks.table import KINDS, check_settings, sink_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qakhunt.config import Config
    from qakhunt.errors import SourceLocation
    from qakhunt.hunts.model import Hunt

PLACE = "${QAKHUNT_FILES}"
"""Stands in the carried configuration for the folder that the files are laid into."""
_NOT_THERE = {
    "file": "a file does not outlive the job",
    "folder": "a folder does not outlive the job",
    "stdout": "the job stream is no place for findings",
}


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
    products: tuple[str, ...]
    sinks: dict[str, dict[str, Any]] = field(default_factory=dict)


def payload_of(config: Config, job: Job) -> Payload:
    """Check that the job can run in Automation, and gather what it needs.

    Raises ConfigError at the line of the configuration at fault, UsageError for what
    the command line asked.
    """
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
    kinds = {settings["kind"] for settings in sinks.values()}
    sign_ins = [p.sign_in_settings for p in profiles.values()]
    sign_ins.append(config.file.schedule.sign_in_settings)
    named = [value for s in sinks.values() for key, value in s.items() if key.endswith("_env")]
    named += [name for sign_in in sign_ins for name in variables_of(sign_in)]
    vaults = [value for s in sinks.values() for key, value in s.items() if key.endswith("_vault")]
    vaults += [s.client_secret_vault for s in sign_ins if s.client_secret_vault]
    if "webhook" in kinds:
        named += [
            s.get("secret_env", "QAKHUNT_WEBHOOK_SECRET")
            for s in sinks.values()
            if s["kind"] == "webhook" and not s.get("secret_vault")
        ]
    return Payload(
        config=to_toml(values), files=files, hunts=hunts,
        extras=_extras(kinds, with_state=job.state is not None),
        variables=tuple(dict.fromkeys(named)), vaults=tuple(dict.fromkeys(vaults)),
        lighthouse=tuple(needs_lighthouse(profiles, config.file.schedule.tenant)),
        products=tuple(dict.fromkeys(p.backend for p in profiles.values())), sinks=sinks,
    )  # fmt: skip


def _extras(kinds: set[str], *, with_state: bool) -> tuple[str, ...]:
    """What of qakhunt's extras must travel along."""
    wanted = {"blob": with_state or "blob" in kinds, "ingestion": "log-analytics" in kinds}
    return tuple(name for name, needed in wanted.items() if needed)


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
    schedule, locate = config.file.schedule, config.document.locate
    check_schedule_sign_in(schedule, lambda *path: locate(path))
    for name in job.profiles:
        check_profile_sign_in(
            name, config.profiles[name], schedule.tenant, lambda *path: locate(path)
        )


def _hunts(job: Job, config: Config, files: dict[str, str]) -> tuple[str, ...]:
    """Names of the hunts; those that are not built in travel along."""
    products = {config.profiles[name].backend for name in job.profiles}
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


def _sinks(config: Config, job: Job) -> dict[str, dict[str, Any]]:
    """The sinks' settings by name, each with its kind; refused where Automation has no place."""
    found = {}
    for text in job.sinks:
        name, kind, settings = sink_settings(text, config.file.sinks)
        check_settings(kind, settings, partial(_place, config, name))
        if kind in _NOT_THERE:
            raise UsageError(
                f"--sink {text}: {_NOT_THERE[kind]}",
                hint=f"kinds for a runbook: {', '.join(k for k in KINDS if k not in _NOT_THERE)}",
            )
        found[name] = {"kind": kind, **settings}
    return found


def _place(config: Config, name: str, path: tuple[str | int, ...]) -> SourceLocation:
    return config.document.locate(("sinks", name, *path))


def _carried(config: Config, job: Job, files: dict[str, str]) -> dict[str, Any]:
    """The configuration's values that the job uses, paths replaced by carried files."""
    raw = config.document.value
    values: dict[str, Any] = {
        key: raw[key] for key in ("expected_tenants", "schedule") if key in raw
    }
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
    if key not in ("ca_file", "template"):
        return value
    path = Path(value)
    name = f"{len(files)}-{path.name}"
    files[name] = read_text(path, ConfigError)
    return f"{PLACE}/{name}"
