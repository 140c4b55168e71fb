"""Paths as a person in the current folder reads them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qakhunt.core.errors import SourceLocation


def shown(location: SourceLocation) -> SourceLocation:
    """The location as seen from the current folder, where it lies inside."""
    try:
        path = Path(location.path).resolve().relative_to(Path.cwd())
    except ValueError:
        return location
    return replace(location, path=str(path))
