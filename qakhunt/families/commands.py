"""What one command line means: normalised, its family, its techniques.

A wrapper (``cmd /c X``) is looked through; ``net1``, which ``net`` starts, is the
same family as its ``net``. The hunts read a line in the same way, in KQL.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from qakhunt.families.data import families

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
