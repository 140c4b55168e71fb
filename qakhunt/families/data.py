"""The families, renderings and techniques of ``data/command_families.yaml``."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

import msgspec

from qakhunt.documents import convert, parse_yaml
from qakhunt.errors import HuntError

_FILE = "command_families.yaml"


class Family(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
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

    def matches(self, file: str, arguments: str) -> bool:
        """Whether a normalised command is of this family."""
        return file in self.files and re.fullmatch(self.arguments, arguments) is not None


class Families(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole data file."""

    families: dict[str, Family]
    renderings: dict[str, str]
    techniques: dict[str, str]


@cache
def families() -> Families:
    """The data file, checked."""
    text = files("qakhunt.data").joinpath(_FILE).read_text(encoding="utf-8")
    return convert(parse_yaml(text, _FILE, HuntError), Families, HuntError)
