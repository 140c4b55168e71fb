"""Where the configuration file is; kept apart, since every command asks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

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
