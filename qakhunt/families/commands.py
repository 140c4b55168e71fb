"""What one command line means: normalised, its family, its techniques.

A wrapper (``cmd /c X``) is looked through; ``net1``, which ``net`` starts, is the
same family as its ``net``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from qakhunt.families.data import families

_WRAPPER = re.compile(
    r'^"?(?:[^"\s]*[\\/])?(?:cmd|%comspec%)(?:\.exe)?"?\s+(.*)$', re.IGNORECASE | re.DOTALL
)
_SWITCH = re.compile(r"^(?:/[adefqsuv](?::o[nf]f?)?\s+)*/[ckr]\s*(.*)$", re.IGNORECASE | re.DOTALL)
_FIRST_WORD = re.compile(r'^\s*(?:"([^"]*)"|(\S+))\s*(.*)$', re.DOTALL)
_MAX_LENGTH = 32_768
_MAX_WRAPPERS = 4


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
    known = families().families
    text = line[:_MAX_LENGTH]
    for _ in range(_MAX_WRAPPERS):
        file, arguments = split_command(text)
        for name, family in known.items():
            if family.matches(file, arguments):
                return Command(line, f"{file} {arguments}".strip(), name, family.techniques)
        inner = _unwrapped(text)
        if inner is None:
            break
        text = inner
    return Command(line, f"{file} {arguments}".strip(), None, ())


def split_command(line: str) -> tuple[str, str]:
    """The normalised file name without ``.exe`` and the normalised arguments."""
    match = _FIRST_WORD.match(line.replace("^", ""))
    if match is None:
        return "", ""
    word = (match[1] if match[1] is not None else match[2]).lower()
    file = re.split(r"[\\/]", word)[-1].removesuffix(".exe")
    return file, " ".join(match[3].replace('"', "").lower().split())


def _unwrapped(line: str) -> str | None:
    wrapper = _WRAPPER.match(line.replace("^", ""))
    inner = _SWITCH.match(wrapper[1]) if wrapper else None
    return inner[1].strip().strip('"') if inner else None
