"""The families, spellings and techniques of ``data/command_families.yaml``."""

from __future__ import annotations

import re
from functools import cache, cached_property
from importlib.resources import files
from typing import TYPE_CHECKING

import msgspec

from qakhunt.documents import convert, parse_yaml
from qakhunt.errors import HuntError

if TYPE_CHECKING:
    from collections.abc import Iterable

_FILE = "command_families.yaml"


class Family(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """One thing that a discovery command teaches its author, however it is spelled.

    ``arguments`` is an RE2 expression that must match all of the normalised
    arguments; ``files`` are file names without ``.exe``.
    """

    title: str
    reveals: str
    files: tuple[str, ...]
    arguments: str
    issued: tuple[str, ...]
    techniques: tuple[str, ...]
    core: bool = False
    anchor: bool = False

    @cached_property
    def pattern(self) -> str:
        """RE2 expression on a whole normalised command: file, space, arguments."""
        return f"^(?:{'|'.join(self.files)}) ?(?:{self.arguments})$"

    @cached_property
    def _expression(self) -> re.Pattern[str]:
        return re.compile(self.pattern)

    def matches(self, command: str) -> bool:
        """Whether a normalised command is of this family."""
        return self._expression.search(command) is not None


class Spelling(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """RE2 expressions that bring a command line into the form that patterns read."""

    wrapper: str
    one_command: str
    first_word: str


class Parents(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """File names of processes that issue commands."""

    shells: tuple[str, ...]
    injected: tuple[str, ...]


class Families(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole data file."""

    families: dict[str, Family]
    spelling: Spelling
    renderings: dict[str, str]
    parents: Parents
    techniques: dict[str, str]

    @property
    def anchors(self) -> tuple[str, ...]:
        """Names of the families that are rarely part of an inventory."""
        return tuple(name for name, family in self.families.items() if family.anchor)

    @property
    def programs(self) -> tuple[str, ...]:
        """File names of every process that can issue one of the commands."""
        names = ["cmd", *(file for family in self.families.values() for file in family.files)]
        return tuple(f"{name}.exe" for name in dict.fromkeys(names) if name != "set")

    def techniques_of(self, names: Iterable[str]) -> tuple[str, ...]:
        """Techniques of the named families, in their order, each once."""
        found = (t for name in names for t in self.families[name].techniques)
        return tuple(dict.fromkeys(found))


@cache
def families() -> Families:
    """The data file, checked."""
    text = files("qakhunt.data").joinpath(_FILE).read_text(encoding="utf-8")
    return convert(parse_yaml(text, _FILE, HuntError), Families, HuntError)
