"""The configuration: where the file is, its shape, its checks and what it chooses.

The file never holds a secret, only where one is found: the name of an environment
variable, the path of a certificate, the address of a Key Vault secret.
"""

from __future__ import annotations

import json
import os
import re
import sys
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from qakhunt.backends.auth.identity import SignIn
from qakhunt.backends.clouds import is_loopback
from qakhunt.backends.profile import Authority, CaFile, CloudName, Profile, SignInChoice
from qakhunt.backends.services import service_named
from qakhunt.core.documents import Document, convert, read_text
from qakhunt.core.errors import ConfigError, UsageError, nearest
from qakhunt.core.safe_text import for_terminal
from qakhunt.core.toml_document import parse_toml
from qakhunt.kql.values import Timespan
from qakhunt.triage.entities import RESOURCE_HINT, is_workspace_resource

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from qakhunt.backends.services import Service
    from qakhunt.core.errors import SourceLocation

    Locate = Callable[..., SourceLocation | None]


LOCAL_NAME = "qakhunt.toml"
ENVIRONMENT_VARIABLE = "QAKHUNT_CONFIG"


def find_config(
    option: Path | None, environment: Mapping[str, str], *, folder: Path, current: Path
) -> tuple[Path, bool] | None:
    """The file to read and whether it lies in the current folder; None where there is none.

    In this order: the option, QAKHUNT_CONFIG, ``folder`` (the user's), ``current``.
    """
    if option is not None:
        return option, False
    named = environment.get(ENVIRONMENT_VARIABLE)
    if named:
        return Path(named), False
    user = folder / "config.toml"
    if user.is_file():
        return user, False
    local = current / LOCAL_NAME
    return (local, True) if local.is_file() else None


def user_folder() -> Path:
    """The platform's folder for this user's configuration."""
    import platformdirs

    return Path(platformdirs.user_config_dir("qakhunt", appauthor=False))


class Schedule(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Who an unattended job is towards Azure: for its state, blobs and Logs Ingestion."""

    sign_in: SignInChoice = "default"
    tenant: Annotated[
        str | None, Meta(description="The Entra tenant id of that identity, the job's home.")
    ] = None
    cloud: Annotated[CloudName, Meta(description="The cloud of that identity.")] = "public"
    authority: Authority = None
    ca_file: CaFile = None

    @property
    def sign_in_settings(self) -> SignIn:
        """The sign-in in its long form."""
        return self.sign_in if isinstance(self.sign_in, SignIn) else SignIn(kind=self.sign_in)


class ConfigFile(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """The whole file."""

    default_profile: Annotated[
        str | None, Meta(description="The profile or group to hunt when none is named.")
    ] = None
    deadline: Annotated[
        str | None, Meta(description="The longest a run may take, such as '45m'.")
    ] = None
    expected_tenants: Annotated[
        list[str], Meta(description="Tenants that --all-profiles must cover.")
    ] = []
    hunts_folders: Annotated[
        list[str], Meta(description="Folders of hunts of your own, beside --hunts.")
    ] = []
    groups: Annotated[
        dict[str, list[str]], Meta(description="Names for several profiles at once.")
    ] = {}
    profiles: Annotated[dict[str, Profile], Meta(description="Customers by name.")] = {}
    schedule: Annotated[Schedule, Meta(description="The identity of an unattended job.")] = (
        Schedule()
    )
    sinks: Annotated[
        dict[str, dict[str, Any]],
        Meta(description="Receivers of findings, by name; each has a 'kind' and its own keys."),
    ] = {}


def json_schema() -> dict[str, Any]:
    """The file's JSON Schema, for editors."""
    schema = msgspec.json.schema(ConfigFile)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "qakhunt configuration",
        **schema,
    }


GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE | re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,63}", re.ASCII)
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,63}", re.ASCII)
_VAULT_SECRET = re.compile(r"https://[A-Za-z0-9.-]+(:\d+)?/secrets/[A-Za-z0-9-]+(/[0-9a-f]{32})?")
_SECRET_KEY = re.compile(r"secret|password|token|api_?key|credential", re.IGNORECASE)
_PLACES_OF_SECRETS = ("_env", "_vault", "_path", "_file")

_DATABASE_KEYS = {"cluster": None, "database": None, "tables": "own"}
"""Keys that only some services take -> what they are where nobody says."""

LOCAL_KEYS: dict[str, tuple[str, ...]] = {
    "the file": ("default_profile", "expected_tenants", "groups", "profiles"),
    "a profile": (
        "backend", "tenant", "workspaces", "cloud", "log_analytics_cloud", "sign_in",
    ),
    "sign_in": ("kind", "client_id", "account"),
}  # fmt: skip
"""All that a file in the current folder may set: the profiles hunted and their identities.

Nothing that costs money (billed tables), hides a result (hunts, folders of hunts, limits,
retention), sends a secret or a token anywhere (addresses, vaults, token files, certificates)
or acts unattended (sinks, schedule).
"""

SIGN_IN_KEYS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "default": ((), ("client_id", "account")),
    "login": ((), ("account", "client_id")),
    "azure-cli": ((), ()),
    "none": ((), ()),
    "managed-identity": ((), ("client_id",)),
    "client-secret": (
        ("client_id",), ("client_secret_env", "client_secret_vault", "managed_identity_client_id"),
    ),
    "client-certificate": (("client_id", "certificate_path"), ("certificate_password_env",)),
    "workload-identity": ((), ("client_id", "token_file")),
    "federated": (
        ("client_id", "assertion"),
        ("managed_identity_client_id", "service_connection_id", "system_access_token_env"),
    ),
}  # fmt: skip
"""Kind -> the keys it needs and the keys it also takes."""


def refuse_secrets(document: Document) -> None:
    """A literal secret anywhere is an error that does not repeat it."""
    for path in document.places:
        name = path[-1] if path else ""
        if not isinstance(name, str) or not _SECRET_KEY.search(name):
            continue
        if name.endswith(_PLACES_OF_SECRETS) or _is_a_name(path):
            continue
        raise ConfigError(
            f"{name}: a secret does not belong into this file",
            location=document.locate(path),
            hint="put it into an environment variable and name that: client_secret_env = "
            '"CONTOSO_SECRET"; or into a Key Vault: client_secret_vault = "https://..."',
        )


def _is_a_name(path: tuple[str | int, ...]) -> bool:
    """Names of profiles and groups are free."""
    return len(path) == 2 and path[0] in ("profiles", "groups", "sinks")


def check_file(file: ConfigFile, document: Document, *, local: bool) -> None:
    """Check all profiles and groups and what names them. Raises ConfigError."""
    if local:
        _refuse_beyond_local(document)
    for name, profile in file.profiles.items():
        _check_name("profile", name, document.locate(("profiles", name)))
        check_profile(profile, lambda *key, name=name: document.locate(("profiles", name, *key)))
    for name, members in file.groups.items():
        place = document.locate(("groups", name))
        _check_name("group", name, place)
        if name in file.profiles:
            raise ConfigError(f"{name!r} is a profile and a group", location=place)
        if not members:
            raise ConfigError(
                f"the group {name!r} has no profiles", location=place,
                hint='name some: ["contoso", "fabrikam"]',
            )  # fmt: skip
        for member in members:
            if member not in file.profiles:
                raise ConfigError(
                    f"the group {name!r} names no profile {member!r}", location=place,
                    hint=nearest(member, file.profiles),
                )  # fmt: skip
            if file.profiles[member].write:
                raise ConfigError(
                    f"the group {name!r} names {member!r}, which writes rules and runs no hunts",
                    location=place, hint="a group is of profiles that hunt",
                )  # fmt: skip
    for tenant in file.expected_tenants:
        _check_guid("expected_tenants", tenant, document.locate(("expected_tenants",)))
    default = file.default_profile
    if default is not None and default not in file.profiles and default not in file.groups:
        raise ConfigError(
            f"default_profile: no profile or group named {default!r}",
            location=document.locate(("default_profile",)),
            hint=nearest(default, (*file.profiles, *file.groups)),
        )
    if file.deadline is not None:
        length_of_time("deadline", file.deadline, document.locate(("deadline",)))


def length_of_time(key: str, text: str, place: SourceLocation | None = None) -> Timespan:
    """A duration such as ``45m``. Raises ConfigError."""
    try:
        length = Timespan.parse(text)
    except ValueError:
        length = Timespan(0)
    if length.ticks <= 0:
        raise ConfigError(
            f"{key}: not a length of time: {text!r}", location=place, hint="such as 45m, 2h or 90d"
        )
    return length


def check_profile(profile: Profile, locate: Locate) -> None:
    """Check one profile, from a file or put together. Raises ConfigError."""
    _check_guid("tenant", profile.tenant, locate("tenant"))
    service = service_named(profile.backend)
    for number, workspace in enumerate(profile.workspaces):
        _check_workspace(service, workspace, locate("workspaces", number))
    folded = [workspace[-36:].casefold() for workspace in profile.workspaces]
    if len(set(folded)) < len(folded):
        raise ConfigError("workspaces: one stands twice", location=locate("workspaces"))
    if service.needs_workspaces and not profile.workspaces:
        raise ConfigError(
            f"workspaces: {service.name} needs at least one workspace id", location=locate(),
            hint="the id is on the workspace's Overview page in the portal",
        )  # fmt: skip
    for guid, resource in profile.workspace_resources.items():
        _check_guid("workspace_resources", guid, locate("workspace_resources", guid))
        if not is_workspace_resource(resource):
            raise ConfigError(
                f"workspace_resources: not the resource id of a workspace: {resource!r}",
                location=locate("workspace_resources", guid), hint=RESOURCE_HINT,
            )  # fmt: skip
    _check_database_keys(service, profile, locate)
    for key in (
        "graph_endpoint", "log_analytics_endpoint", "arm_endpoint", "cluster", "authority",
    ):  # fmt: skip
        if "@" in (getattr(profile, key) or ""):
            raise ConfigError(
                f"{key}: a name or password does not belong into an address",
                location=locate(key), hint="sign_in says how to sign in",
            )  # fmt: skip
    if profile.retention is not None:
        length_of_time("retention", profile.retention, locate("retention"))
    if profile.longest_gap is not None:
        line = locate("longest_gap")
        if length_of_time("longest_gap", profile.longest_gap, line) < Timespan.parse("1h"):
            raise ConfigError(
                f"longest_gap: {profile.longest_gap!r} is shorter than an hour", location=line,
                hint="records are counted by the hour: 24h, 72h or 7d",
            )  # fmt: skip
    try:
        place = (service.rule_service() if profile.write else service).place(profile)
    except ConfigError as problem:
        key = "write" if profile.write and not service.rules else "cloud"
        raise ConfigError(problem.message, location=locate(key), hint=problem.hint) from None
    if profile.write and profile.sign_in_settings.kind == "default":
        raise ConfigError(
            "write: a profile that writes names a sign-in of its own", location=locate("write"),
            hint="sign_in with the kind of an identity that may write; 'default' would take any",
        )  # fmt: skip
    on_this_machine = place.own is not None and is_loopback(urlsplit(place.own).hostname or "")
    if profile.sign_in_settings.kind == "none" and not on_this_machine:
        raise ConfigError(
            "sign_in: none is for services on this machine alone", location=locate("sign_in"),
            hint="such as the emulator: log_analytics_endpoint, graph_endpoint, arm_endpoint or "
            "cluster on localhost",
        )  # fmt: skip
    _check_sign_in(profile.sign_in_settings, lambda *key: locate("sign_in", *key))


def _check_workspace(service: Service, text: str, place: SourceLocation | None) -> None:
    if not service.database_keys:
        _check_guid("workspaces", text, place)
    elif not (GUID.fullmatch(text[-36:]) and re.fullmatch(r"[\w.() -]+-", text[:-36])):
        raise ConfigError(
            f"workspaces: not a workspace's name and id: {text!r}", location=place,
            hint="NAME-GUID, such as soc-11111111-2222-3333-4444-555555555555",
        )  # fmt: skip


def _check_database_keys(service: Service, profile: Profile, locate: Locate) -> None:
    """Keys of a Kusto database, and of nothing else."""
    given = [key for key, unset in _DATABASE_KEYS.items() if getattr(profile, key) != unset]
    if given and not service.database_keys:
        raise ConfigError(
            f"{given[0]}: {service.name} does not take it", location=locate(given[0]),
            hint='it is for backend = "kusto"',
        )  # fmt: skip
    unfit = service.unfit(profile)
    if unfit is not None:
        raise ConfigError(unfit.words, location=locate(unfit.key), hint=unfit.hint)


def _check_sign_in(sign_in: SignIn, locate: Locate) -> None:
    needed, optional = SIGN_IN_KEYS[sign_in.kind]
    for key in needed:
        if getattr(sign_in, key) is None:
            raise ConfigError(
                f"sign_in: {sign_in.kind} needs {key}", location=locate(),
                hint=f"[profiles.NAME.sign_in] with kind and {', '.join(needed)}",
            )  # fmt: skip
    for key in sign_in.__struct_fields__:
        if key != "kind" and getattr(sign_in, key) is not None and key not in needed + optional:
            raise ConfigError(
                f"sign_in: {sign_in.kind} does not take {key}", location=locate(key),
                hint=f"it takes: {', '.join(needed + optional) or 'nothing more'}",
            )  # fmt: skip
    for key in ("client_id", "managed_identity_client_id", "service_connection_id"):
        value = getattr(sign_in, key)
        if value is not None:
            _check_guid(f"sign_in.{key}", value, locate(key))
    for key in ("client_secret_env", "certificate_password_env", "system_access_token_env"):
        value = getattr(sign_in, key)
        if value is not None and not _VARIABLE.fullmatch(value):
            raise ConfigError(
                f"sign_in.{key}: expected the name of an environment variable",
                location=locate(key),
                hint="capitals, digits and _; the secret itself does not belong here",
            )  # fmt: skip
    _check_secret_source(sign_in, locate)


def _check_secret_source(sign_in: SignIn, locate: Locate) -> None:
    vault = sign_in.client_secret_vault
    if vault is not None and not _VAULT_SECRET.fullmatch(vault):
        raise ConfigError(
            "sign_in.client_secret_vault: not the address of a secret",
            location=locate("client_secret_vault"),
            hint="https://VAULT.vault.azure.net/secrets/NAME",
        )
    if sign_in.kind == "client-secret" and (vault is None) == (sign_in.client_secret_env is None):
        raise ConfigError(
            "sign_in: client-secret needs client_secret_env or client_secret_vault, and only one",
            location=locate(),
        )
    if sign_in.assertion == "azure-pipelines" and sign_in.service_connection_id is None:
        raise ConfigError(
            "sign_in: azure-pipelines needs service_connection_id", location=locate("assertion")
        )


def _refuse_beyond_local(document: Document) -> None:
    """Refuse what a file of the current folder cannot set, by its key and place."""
    _refuse_keys(document, "the file", document.value, ())
    for name, profile in document.value.get("profiles", {}).items():
        _refuse_keys(document, "a profile", profile, ("profiles", name))
        sign_in = profile.get("sign_in")
        if isinstance(sign_in, dict):
            _refuse_keys(document, "sign_in", sign_in, ("profiles", name, "sign_in"))


def _refuse_keys(
    document: Document, what: str, table: dict[str, Any], place: tuple[str, ...]
) -> None:
    for key in table:
        if key not in LOCAL_KEYS[what]:
            raise ConfigError(
                f"{key}: a file found in the current folder cannot set it",
                location=document.locate((*place, key)),
                hint="if the file is yours, name it with --config or QAKHUNT_CONFIG; found here, "
                f"{what} may set {', '.join(LOCAL_KEYS[what])}",
            )


def _check_name(what: str, name: str, place: SourceLocation) -> None:
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"not a name for a {what}: {name!r}", location=place,
            hint="letters, digits, spaces and . _ -",
        )  # fmt: skip


def _check_guid(what: str, text: str, place: SourceLocation | None) -> None:
    if not GUID.fullmatch(text):
        raise ConfigError(
            f"{what}: not a GUID: {text!r}", location=place,
            hint="such as 11111111-2222-3333-4444-555555555555; names are not ids",
        )  # fmt: skip


@dataclass(frozen=True)
class Config:
    """A checked file.

    ``document`` knows the place of each key; ``local`` says that the file was merely
    found in the current folder.
    """

    file: ConfigFile
    document: Document
    path: Path
    local: bool = False

    @property
    def profiles(self) -> dict[str, Profile]:
        """Profiles by name, in the file's order."""
        return self.file.profiles

    @property
    def hunts_folders(self) -> tuple[Path, ...]:
        """Folders of the user's hunts; relative ones stand beside the file."""
        return tuple(self.path.parent / folder for folder in self.file.hunts_folders)

    def missing_tenants(self) -> list[str]:
        """Expected tenants that no profile covers."""
        covered = {one.tenant.casefold() for one in self.profiles.values() if not one.write}
        return [t for t in self.file.expected_tenants if t.casefold() not in covered]

    def select(
        self, names: Sequence[str] = (), group: str | None = None, *, everything: bool = False
    ) -> list[str]:
        """The profiles asked for, else the default's. Raises UsageError with the nearest name."""
        if sum((bool(names), group is not None, everything)) > 1:
            raise UsageError("--profile, --group and --all-profiles exclude each other")
        if everything:
            if not self.profiles:
                raise UsageError(
                    f"{self.path} has no profiles", hint="'qakhunt config show' lists what it has"
                )
            return [name for name, one in self.profiles.items() if not one.write]
        if group is not None:
            if group not in self.file.groups:
                raise _unknown("group", group, self.file.groups)
            return self.file.groups[group]
        for name in names:
            if name not in self.profiles:
                raise _unknown("profile", name, self.profiles)
        if names:
            return list(dict.fromkeys(names))
        default = self.file.default_profile
        if default is None:
            raise UsageError(
                f"which profile? {self.path} has {', '.join(self.profiles) or 'none'}",
                hint="--profile NAME, --group NAME, --all-profiles, or default_profile in the file",
            )
        return self.file.groups.get(default) or [default]


def _unknown(what: str, name: str, known: Mapping[str, object]) -> UsageError:
    names = ", ".join(known) or "none"
    return UsageError(f"no {what} named {name!r}", hint=nearest(name, known) or f"{what}s: {names}")


def load_config(path: Path, *, local: bool = False) -> Config:
    """Read and check the file. Raises ConfigError with line and column."""
    return parse_config(read_text(path, ConfigError), path, local=local)


def parse_config(text: str, path: Path, *, local: bool = False) -> Config:
    """As ``load_config``, for a text that stands in memory."""
    document = parse_toml(text, str(path), ConfigError)
    refuse_secrets(document)
    raw = document.value.pop("profiles", {})
    file = convert(document, ConfigFile, ConfigError)
    document.value["profiles"] = raw
    if not isinstance(raw, dict):
        raise ConfigError(
            "profiles: expected tables such as [profiles.contoso]",
            location=document.locate(("profiles",)),
        )
    # One by one: only then does an error know the name of its profile.
    profiles = {
        name: convert(document, Profile, ConfigError, at=("profiles", name)) for name in raw
    }
    file = msgspec.structs.replace(file, profiles=profiles)
    check_file(file, document, local=local)
    return Config(file, document, path, local)


def read_config(option: Path | None) -> Config | None:
    """The configuration, or None where there is none. A file merely found here is announced."""
    found = find_config(option, os.environ, folder=user_folder(), current=Path.cwd())
    if found is None:
        return None
    path, local = found
    if local:
        print(f"using {for_terminal(str(path))}, found in the current folder", file=sys.stderr)
    return load_config(path, local=local)


@dataclass(frozen=True)
class NewProfile:
    """What a first profile needs; names and ids are checked when the text is parsed."""

    name: str
    backend: str
    tenant: str
    workspaces: tuple[str, ...]
    sign_in: str
    cloud: str = "public"


def config_text(new: NewProfile) -> str:
    """The file, ready to parse."""
    comment = _SIGN_IN.get(new.sign_in, "'qakhunt config example' shows every kind")
    lines = files("qakhunt").joinpath("data/new_config.toml").read_text(encoding="utf-8")
    values = {name: json.dumps(value, ensure_ascii=False) for name, value in asdict(new).items()}
    text = Template(lines).substitute(values, comment=comment)
    return (
        text
        if new.workspaces
        else text.replace("# workspace ids, not names\nworkspaces = []\n", "")
    )


_SIGN_IN = {
    "login": "'qakhunt login' once, for all tenants that know you",
    "azure-cli": "the account of 'az login'",
    "managed-identity": "of the virtual machine, runbook or container",
    "default": "environment variables, managed identity or Azure CLI, the first that works",
    "none": "no token: for the emulator on this machine alone",
}
"""Kind of sign-in -> its comment."""
