"""Words that say what was done and name nobody."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

from qakhunt.hunts.command_catalogue import families

WORD = re.compile(r"[^\W_]+(?:\^+[^\W_]+)*")
"""A run of letters and digits, as Kusto's terms are; cmd's carets do not end one."""

PRINCIPALS = frozenset(
    [
        "system", "local", "network", "service", "administrator", "administrators", "guest",
        "guests", "nt", "authority", "builtin", "window", "manager", "dwm", "umfd", "font",
        "driver", "host", "everyone", "anonymous", "logon", "users", "domain", "admins",
        "trustedinstaller", "defaultaccount", "wdagutilityaccount", "iusr", "virtual",
    ]
)  # fmt: skip
"""Names of accounts and groups that every machine has."""

# Stands for any domain in the known commands.
_EXAMPLES = frozenset(["contoso"])


@cache
def vocabulary() -> frozenset[str]:
    """Lower-case words that stay readable in command lines, paths and enumerations."""
    text = (
        files("qakhunt")
        .joinpath("data")
        .joinpath("command_vocabulary.txt")
        .read_text(encoding="utf-8")
    )
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    found = {word for line in lines for word in words_of(line)}
    return frozenset(found | family_words() | PRINCIPALS)


@cache
def family_words() -> frozenset[str]:
    """The words of the known discovery commands; without them nothing would match."""
    data = families()
    texts = [*data.parents.shells, *data.parents.injected]
    for name, family in data.families.items():
        texts += [name, *family.files, *family.issued]
    return frozenset(word for text in texts for word in words_of(text)) - _EXAMPLES


def words_of(text: str) -> set[str]:
    """The lower-case words of a text."""
    return {match[0].replace("^", "").casefold() for match in WORD.finditer(text)}
