"""The command catalogue: kinds of discovery command, and how Defender records each."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from typing import TYPE_CHECKING

import msgspec

from qakhunt.core.documents import convert, parse_yaml
from qakhunt.core.errors import HuntError

if TYPE_CHECKING:
    from collections.abc import Iterable


_FILE = "command_families.yaml"


class Family(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """One thing that a discovery command teaches its author, however it is spelled.

    ``arguments`` is an RE2 expression that must match all of the normalised
    arguments; ``files`` are file names without ``.exe``; ``malware`` names the malware
    whose reports list it, where those of other malware do not.
    """

    title: str
    reveals: str
    files: tuple[str, ...]
    arguments: str
    issued: tuple[str, ...]
    techniques: tuple[str, ...]
    core: bool = False
    anchor: bool = False
    remote: bool = False
    malware: str = ""

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

    wrappers: tuple[str, ...]
    wrapper: str
    one_command: str
    first_word: str


class Parents(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """File names of processes that issue commands; ``malware``: whose host one is alone."""

    shells: tuple[str, ...]
    injected: tuple[str, ...]
    malware: dict[str, str] = {}


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
    def remote(self) -> tuple[str, ...]:
        """Names of the families that ask about other computers or the domain."""
        return tuple(name for name, family in self.families.items() if family.remote)

    @property
    def programs(self) -> tuple[str, ...]:
        """File names of every process that can issue one of the commands."""
        files = (file for family in self.families.values() for file in family.files)
        names = [*self.spelling.wrappers, *files]
        return tuple(f"{name}.exe" for name in dict.fromkeys(names) if name != "set")

    def techniques_of(self, names: Iterable[str]) -> tuple[str, ...]:
        """Techniques of the named families, in their order, each once."""
        found = (t for name in names for t in self.families[name].techniques)
        return tuple(dict.fromkeys(found))


@cache
def families() -> Families:
    """The data file, checked."""
    text = files("qakhunt").joinpath("data").joinpath(_FILE).read_text(encoding="utf-8")
    return convert(parse_yaml(text, _FILE, HuntError), Families, HuntError)


_FIRST_WORD = re.compile(r'^ ?(?:"([^"]*)"[^ /]*|([^ /]+)) ?(.*)$')
_SPACES = re.compile(r"\s+")
_MAX_LENGTH = 32_768


@dataclass(frozen=True, slots=True)
class Command:
    """A command line as recorded and what it means.

    ``normalised`` is lower case with single spaces, without directory, quotes,
    carets and ``.exe``; ``family`` is None for a command of no known family.
    """

    line: str
    normalised: str
    family: str | None
    techniques: tuple[str, ...]


def understand(line: str) -> Command:
    """What a recorded command line means."""
    normalised = normalise(line)
    for name, family in families().families.items():
        if family.matches(normalised):
            return Command(line, normalised, name, family.techniques)
    return Command(line, normalised, None, ())


def normalise(line: str) -> str:
    """The command that a line runs, as the families' patterns read it."""
    match = _FIRST_WORD.match(_SPACES.sub(" ", line[:_MAX_LENGTH]).lower())
    if match is None:
        return ""
    word = match[1] if match[1] is not None else match[2]
    file = _unquoted(word.rpartition("\\")[2])
    arguments = _unquoted(match[3]).strip()
    spelling = _spelling()
    command = f"{file} {arguments}".strip()
    inner = spelling[0].sub("", command)
    if inner != command:
        one = spelling[1].search(inner)
        inner = one[1] if one else ""
    found = spelling[2].search(inner)
    return f"{found[1]}{found[2] or ''}" if found else inner


def _unquoted(text: str) -> str:
    return text.replace('"', "").replace("^", "")


@cache
def _spelling() -> tuple[re.Pattern[str], ...]:
    spelling = families().spelling
    texts = (spelling.wrapper, spelling.one_command, spelling.first_word)
    return tuple(re.compile(text) for text in texts)


RENDERINGS = (
    "direct", "cmd", "powershell", "oneliner", "extension", "quoted", "case", "caret", "batch",
)  # fmt: skip


def rendered(issued: str, rendering: str) -> str:
    """The command line of the command's own process, in one of ``RENDERINGS``.

    ``issued`` is the command as public reports show it. A process that cmd starts
    has two spaces after its name; carets never reach it.
    """
    file, space, arguments = issued.partition(" ")
    stem = file.removesuffix(".exe")
    if rendering == "direct":
        return issued
    if rendering in ("cmd", "caret", "batch"):
        return f"{file}  {arguments}" if space else f"{file}  "
    if rendering in ("powershell", "oneliner"):
        return f'"{stem}.exe"{space}{arguments}'
    if rendering == "extension":
        return f"{stem}.exe{space}{arguments}"
    if rendering == "quoted":
        return f'"{file}"{space}{arguments}'
    if rendering == "case":
        return _other_case(issued)
    raise ValueError(f"not a rendering: {rendering!r}")


def wrapping(issued: str, rendering: str) -> str | None:
    """The command line of the shell around one command, or None where there is none."""
    if rendering == "cmd":
        return f"cmd.exe /c {issued}"
    if rendering == "caret":
        return f"cmd.exe /c {_with_carets(issued)}"
    if rendering == "oneliner":
        return f'powershell.exe -NoProfile -Command "{issued}"'
    return None


def renderings_of(issued: str) -> dict[str, tuple[str, ...]]:
    """Rendering -> the command lines that tell of the command, that of ``cmd /c`` first."""
    found: dict[str, tuple[str, ...]] = {}
    for rendering in RENDERINGS:
        wrapper = wrapping(issued, rendering) if rendering != "oneliner" else None
        line = rendered(issued, rendering)
        found[rendering] = (wrapper, line) if wrapper else (line,)
    return found


def known_commands() -> list[str]:
    """Every command that public reports show, as issued, each once."""
    listed = [line for family in families().families.values() for line in family.issued]
    return list(dict.fromkeys(listed))


def _other_case(text: str) -> str:
    """Every second letter in the other case."""
    return "".join(c.swapcase() if n % 2 else c for n, c in enumerate(text))


def _with_carets(text: str) -> str:
    """A caret inside every word of letters."""
    return " ".join(
        f"{w[0]}^{w[1:]}" if w[:1].isalpha() and len(w) > 2 else w for w in text.split(" ")
    )
