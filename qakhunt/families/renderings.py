"""How Defender records one command, by what started it.

The names are those of ``renderings`` in ``data/command_families.yaml``; the directory
of the first word is never recorded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qakhunt.families.data import families

if TYPE_CHECKING:
    from collections.abc import Callable


def renderings_of(issued: str) -> dict[str, str]:
    """The recorded ``ProcessCommandLine`` of a command, by rendering."""
    name, _, arguments = issued.partition(" ")
    return {
        rendering: _WRITERS[rendering](name, arguments).strip()
        for rendering in families().renderings
    }


def known_commands() -> list[str]:
    """Every command that public reports show, as issued, each once."""
    listed = [line for family in families().families.values() for line in family.issued]
    return list(dict.fromkeys(listed))


def _with_extension(name: str) -> str:
    return name if "." in name else name + ".exe"


_WRITERS: dict[str, Callable[[str, str], str]] = {
    "direct": lambda name, arguments: f"{name} {arguments}",
    "cmd": lambda name, arguments: f"{name}  {arguments}",
    "powershell": lambda name, arguments: f'"{_with_extension(name)}" {arguments}',
    "extension": lambda name, arguments: f"{_with_extension(name)} {arguments}",
    "quoted": lambda name, arguments: f'"{name}" {arguments}',
    "case": lambda name, arguments: f"{name} {arguments}".swapcase(),
}
