"""Where the files that travel with qakhunt stand, installed or in a checkout."""

from __future__ import annotations

from functools import cache
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


@cache
def queries_folder() -> Path:
    """The built-in hunts: inside an installed package, else the checkout's ``queries/``.

    A checkout is a folder whose ``pyproject.toml`` names qakhunt; a stray
    ``queries/`` beside the package is never taken.
    """
    inside = _PACKAGE / "_queries"
    if inside.is_dir():
        return inside
    root = _PACKAGE.parent
    if (root / "queries").is_dir() and _is_checkout(root):
        return root / "queries"
    raise FileNotFoundError("the built-in hunts are missing from this installation of qakhunt")


def example_config() -> Path:
    """The commented configuration with every key, installed or in a checkout."""
    inside = _PACKAGE / "data" / "config.example.toml"
    root = checkout()
    return root / "config.example.toml" if root and not inside.is_file() else inside


def checkout() -> Path | None:
    """The checkout that this qakhunt runs from; None for an installed one."""
    root = _PACKAGE.parent
    return root if _is_checkout(root) else None


def _is_checkout(root: Path) -> bool:
    try:
        lines = (root / "pyproject.toml").read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    return 'name = "qakhunt"' in (line.strip() for line in lines)
