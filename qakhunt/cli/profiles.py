"""Which profiles a command is about: the options, the file found, the values in force."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from qakhunt.core.errors import UsageError
from qakhunt.core.safe_text import for_terminal
from qakhunt.run.config import Config, find_config, load_config, user_folder
from qakhunt.run.settings import (
    FROM_ENVIRONMENT,
    ProfileSettings,
    effective,
    profile_from_environment,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ConfigPath = Annotated[
    Optional[Path],  # noqa: UP045 - typer reads it at run time on 3.10
    typer.Option("--config", metavar="PATH", help="The configuration file; also QAKHUNT_CONFIG."),
]
ProfileNames = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--profile", metavar="NAME", help="A profile of the configuration."),
]
GroupName = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--group", metavar="NAME", help="A group of profiles."),
]
AllProfiles = Annotated[
    bool, typer.Option("--all-profiles", help="Every profile of the configuration.")
]
TrustedHosts = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(
        "--trust-host", metavar="HOST", help="Send tokens to this host though it is no cloud's."
    ),
]


@dataclass(frozen=True)
class Choice:
    """Which profiles were asked for, as the options gave it."""

    names: Sequence[str] = ()
    group: str | None = None
    everything: bool = False

    def __bool__(self) -> bool:
        return bool(self.names) or self.group is not None or self.everything


def read_config(option: Path | None) -> Config | None:
    """The configuration, or None where there is none. A file merely found here is announced."""
    found = find_config(option, os.environ, folder=user_folder(), current=Path.cwd())
    if found is None:
        return None
    path, local = found
    if local:
        print(f"using {for_terminal(str(path))}, found in the current folder", file=sys.stderr)
    return load_config(path, local=local)


def chosen_profiles(
    config: Config | None, choice: Choice, flags: Mapping[str, Any] | None = None
) -> list[ProfileSettings]:
    """The chosen profiles with the values in force. Raises UsageError where none is."""
    if config is None:
        if choice or not profile_from_environment(os.environ, (flags or {}).get("backend")):
            raise UsageError(
                "there is no configuration",
                hint=f"copy config.example.toml to {user_folder() / 'config.toml'}, or --config",
            )
        names = [FROM_ENVIRONMENT]
    else:
        names = config.select(choice.names, choice.group, everything=choice.everything)
    alone = len(names) == 1
    return [
        effective(config, name, environment=os.environ, flags=flags, alone=alone) for name in names
    ]
