"""Finding and reading the configuration: who is hunted, how to sign in, how fast.

The file never holds a secret, only where one is found: the name of an environment
variable, the path of a certificate, the address of a Key Vault secret.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from qakhunt.backends.profile import Profile
from qakhunt.core.documents import Document, convert, read_text
from qakhunt.core.errors import ConfigError, UsageError, nearest
from qakhunt.core.toml_document import parse_toml
from qakhunt.run.config_checks import check_file, refuse_secrets
from qakhunt.run.config_model import ConfigFile

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


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
        covered = {profile.tenant.casefold() for profile in self.profiles.values()}
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
            return list(self.profiles)
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
