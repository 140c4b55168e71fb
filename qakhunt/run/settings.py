"""A profile's effective values, and where each came from.

A flag beats the environment, which beats the profile, which beats the default.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from qakhunt.backends.profile import Profile
from qakhunt.core.documents import convert_value
from qakhunt.core.errors import ConfigError, SourceLocation
from qakhunt.run.config import SIGN_IN_KEYS, check_profile

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qakhunt.run.config import Config

VARIABLES = {
    "backend": "QAKHUNT_BACKEND",
    "tenant": "QAKHUNT_TENANT",
    "workspaces": "QAKHUNT_WORKSPACES",
    "cluster": "QAKHUNT_CLUSTER",
    "database": "QAKHUNT_DATABASE",
    "cloud": "QAKHUNT_CLOUD",
    "log_analytics_cloud": "QAKHUNT_LOG_ANALYTICS_CLOUD",
    "sign_in": "QAKHUNT_SIGN_IN",
    "allow_billed_search": "QAKHUNT_ALLOW_BILLED_SEARCH",
    "log_analytics_endpoint": "QAKHUNT_LOG_ANALYTICS_ENDPOINT",
    "graph_endpoint": "QAKHUNT_GRAPH_ENDPOINT",
    "arm_endpoint": "QAKHUNT_ARM_ENDPOINT",
    "authority": "QAKHUNT_AUTHORITY",
    "ca_file": "QAKHUNT_CA_FILE",
}
"""Key of a profile -> the environment variable that sets it. Lists are comma-separated."""

FROM_ENVIRONMENT = "environment"
"""The profile's name where the environment alone describes one."""

_OF_ONE_TENANT = ("tenant", "workspaces", "cluster", "database")


@dataclass(frozen=True)
class ProfileSettings:
    """``sources`` tells per key: ``flag --x``, ``environment X``, ``file:line`` or ``default``."""

    name: str
    profile: Profile
    sources: dict[str, str]


def effective(
    config: Config | None,
    name: str,
    *,
    environment: Mapping[str, str],
    flags: Mapping[str, Any] | None = None,
    alone: bool = True,
) -> ProfileSettings:
    """The values in force for a profile, checked. Raises ConfigError.

    ``flags`` are a profile's keys as options gave them, None for those not given.
    ``alone`` is false where several profiles are hunted: then neither flag nor
    environment may say which tenant or workspaces.
    """
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    if config is not None and name in config.profiles:
        for key, value in config.document.value["profiles"][name].items():
            place = config.document.locate(("profiles", name, key))
            values[key], sources[key] = value, f"{place.path}:{place.line}"
    for key, variable in VARIABLES.items():
        text = environment.get(variable)
        if text:
            _refuse_for_many(key, variable, alone=alone)
            values[key] = _from_text(key, text, values.get(key), variable)
            sources[key] = f"environment {variable}"
    for key, value in (flags or {}).items():
        if value is not None:
            option = f"--{key.rstrip('s').replace('_', '-')}"
            _refuse_for_many(key, option, alone=alone)
            values[key] = _with_kind(value, values.get(key)) if key == "sign_in" else value
            sources[key] = f"flag {option}"
    return _checked(config, name, values, sources)


def _checked(
    config: Config | None, name: str, values: dict[str, Any], sources: dict[str, str]
) -> ProfileSettings:
    def locate(*path: Any) -> SourceLocation | None:
        key = str(path[0]) if path else ""
        source = sources.get(key, "")
        if source.startswith(("environment ", "flag ")):
            return SourceLocation(source)
        return config.document.locate(("profiles", name, *path)) if config else None

    profile = convert_value(
        values, Profile, ConfigError, lambda path: locate(*path) or SourceLocation(name)
    )
    check_profile(profile, locate)
    every = {key: sources.get(key, "default") for key in Profile.__struct_fields__}
    return ProfileSettings(name, profile, every)


def profile_from_environment(environment: Mapping[str, str], backend: str | None = None) -> bool:
    """Whether the environment alone describes a profile: its backend and its tenant.

    ``backend`` is a flag's. Raises ConfigError where it describes half of one, since
    who set a tenant does not mean to hunt anywhere else.
    """
    given = {key: environment.get(VARIABLES[key]) for key in ("backend", *_OF_ONE_TENANT)}
    missing = [key for key in ("backend", "tenant") if not given[key]]
    if backend is not None:
        missing = [key for key in missing if key != "backend"]
    named = [VARIABLES[key] for key, value in given.items() if value]
    if named and missing:
        raise ConfigError(
            f"{' and '.join(VARIABLES[key] for key in missing)} not set: "
            f"{' and '.join(named)} alone can be no profile",
            hint="set it, name a --config, or unset the rest to hunt in the sample",
        )  # fmt: skip
    return not missing and bool(named)


def _refuse_for_many(key: str, source: str, *, alone: bool) -> None:
    if key in _OF_ONE_TENANT and not alone:
        raise ConfigError(
            f"{source} would apply to several profiles at once", hint="choose one --profile"
        )


def _from_text(key: str, text: str, before: Any, variable: str) -> Any:
    if key == "workspaces":
        return [part.strip() for part in text.split(",") if part.strip()]
    if key == "allow_billed_search":
        if text.casefold() not in ("true", "false", "1", "0"):
            raise ConfigError(f"{variable}: expected true or false")
        return text.casefold() in ("true", "1")
    return _with_kind(text, before) if key == "sign_in" else text


def _with_kind(kind: Any, before: Any) -> Any:
    """Another kind of sign-in keeps what the profile says and the kind takes."""
    if not isinstance(before, dict) or kind not in SIGN_IN_KEYS:
        return kind
    needed, optional = SIGN_IN_KEYS[kind]
    return {"kind": kind, **{k: v for k, v in before.items() if k in needed + optional}}


def shown(settings: ProfileSettings) -> list[tuple[str, str, str]]:
    """Key, value as text and source, one line each; no value is a secret or shows one."""
    lines = []
    for key, source in settings.sources.items():
        value = getattr(settings.profile, key)
        if not isinstance(value, msgspec.Struct):
            lines.append((key, _text(value), source))
            continue
        given = {k: v for k, v in msgspec.structs.asdict(value).items() if v is not None}
        lines += [(f"{key}.{name}", _text(v), source) for name, v in given.items()]
        if not given:
            lines.append((key, "as the service documents", source))
    return lines


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "-"
    if isinstance(value, dict):
        return ", ".join(f"{name}={text}" for name, text in value.items()) or "-"
    return str(value)
