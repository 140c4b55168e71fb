"""Suppressions: what a person has looked at and accepted, in a file to review.

    suppressions:
      - owner: j.doe@example.com
        reason: inventory agent, ticket 4711
        expires: 2027-03-01
        device: srv-inv-*
        family: [ipconfig_all, route_print]

Every condition must hold; ``*`` and ``?`` stand for any text and any character, case
does not count. ``family`` holds when all of the hit's commands belong to the named
families, so a command that nobody accepted is never hidden.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec

from qakhunt.core.documents import Document, convert, parse_yaml, read_text
from qakhunt.core.errors import ConfigError, SourceLocation, UsageError, nearest
from qakhunt.core.writing import whole_file
from qakhunt.hunts.command_catalogue import families
from qakhunt.kql.values import Instant

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from qakhunt.answers.hits import Hit
    from qakhunt.answers.run_result import RunResult

CONDITIONS = ("hunt", "tenant", "device", "account", "parent", "family")
_PARENTS = (
    "InitiatingProcessFileName", "InitiatingProcessParentFileName", "IssuingProcess",
    "ParentProcess", "InitiatingProcess", "Parent",
)  # fmt: skip


class Suppression(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of the file. ``expires`` is a date (midnight UTC) or an instant."""

    owner: str
    reason: str
    expires: str
    hunt: str | tuple[str, ...] | None = None
    tenant: str | tuple[str, ...] | None = None
    device: str | tuple[str, ...] | None = None
    account: str | tuple[str, ...] | None = None
    parent: str | tuple[str, ...] | None = None
    family: str | tuple[str, ...] | None = None

    @property
    def ends(self) -> Instant:
        """When it stops applying."""
        return Instant.parse(self.expires)

    def covers(self, hit: Hit) -> bool:
        """Whether every condition holds for the hit; what the hit lacks never matches."""
        return all(
            _holds(name, _patterns(getattr(self, name)), hit)
            for name in CONDITIONS
            if getattr(self, name) is not None
        )


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    suppressions: tuple[Suppression, ...] = ()


@dataclass(frozen=True)
class Suppressions:
    """The file's entries and where each stands."""

    path: str = ""
    entries: tuple[Suppression, ...] = ()
    places: tuple[SourceLocation, ...] = ()

    def split(self, hits: Iterable[Hit], now: Instant) -> tuple[list[Hit], list[Hit]]:
        """Hits to show, and hits that an entry in force covers."""
        shown: list[Hit] = []
        hidden: list[Hit] = []
        active = [entry for entry in self.entries if now < entry.ends]
        for hit in hits:
            covered = any(entry.covers(hit) for entry in active)
            (hidden if covered else shown).append(hit)
        return shown, hidden

    def apply(self, result: RunResult, now: Instant) -> None:
        """Take what is covered out of the result's hits, and warn of expired entries."""
        result.warnings += self.expired(now)
        result.hits, result.suppressed_hits = self.split(result.hits, now)
        result.suppressed = len(result.suppressed_hits)

    def expired(self, now: Instant) -> list[str]:
        """One sentence per entry that no longer applies."""
        return [
            f"{place}: this suppression of {entry.owner} expired on {entry.expires} and no longer "
            f"applies ({entry.reason})"
            for entry, place in zip(self.entries, self.places, strict=True)
            if entry.ends <= now
        ]


def load_suppressions(path: Path) -> Suppressions:
    """Read and check the file. Raises ConfigError at the line at fault."""
    return parse_suppressions(read_text(path, ConfigError), str(path))


def parse_suppressions(text: str, path: str) -> Suppressions:
    """As ``load_suppressions``, from text."""
    document = parse_yaml(text, path, ConfigError)
    if document.value is None:
        return Suppressions(path)
    model = convert(document, _File, ConfigError)
    places = []
    for number, entry in enumerate(model.suppressions):
        at = ("suppressions", number)
        places.append(document.locate(at))
        _check(entry, document, at)
    return Suppressions(path, model.suppressions, tuple(places))


def _check(entry: Suppression, document: Document, at: tuple[str | int, ...]) -> None:
    def refuse(key: str, message: str, hint: str | None = None) -> None:
        raise ConfigError(message, location=document.locate((*at, key)), hint=hint)

    for key in ("owner", "reason"):
        if not getattr(entry, key).strip():
            refuse(key, f"a suppression needs a {key}", "say who accepts it, and why")
    try:
        Instant.parse(entry.expires)
    except (ValueError, OverflowError):
        refuse(
            "expires", f"expires: {entry.expires!r} is not a date", "write one such as 2027-03-01"
        )
    given = [name for name in CONDITIONS if getattr(entry, name) is not None]
    for name in given:
        for pattern in _patterns(getattr(entry, name)):
            if not pattern.strip():
                refuse(name, f"{name}: an empty text matches nothing")
    if not any(
        pattern.strip("*?")
        for name in given
        if name != "hunt"
        for pattern in _patterns(getattr(entry, name))
    ):
        refuse(
            "", "this suppression would hide everything",
            "name at least one of device, account, parent, family, tenant",
        )  # fmt: skip
    known = families().families
    for family in _patterns(entry.family):
        if family not in known:
            refuse(
                "family", f"no command family named {family!r}",
                nearest(family, known) or f"families: {', '.join(known)}",
            )  # fmt: skip


def _patterns(given: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else given or ()


def _holds(name: str, patterns: Sequence[str], hit: Hit) -> bool:
    if name == "family":
        return bool(hit.commands) and all(c.family in patterns for c in hit.commands)
    values = _values(name, hit)
    return bool(values) and all(
        any(_expression(p).fullmatch(value) for p in patterns) for value in values
    )


def _values(name: str, hit: Hit) -> list[str]:
    if name == "parent":
        row = hit.row
        cell: Any = next((row[column] for column in _PARENTS if row.get(column)), None)
    elif name == "hunt":
        cell = hit.hunt
    else:
        cell = getattr(hit, name)
    listed = cell if isinstance(cell, list) else [cell]
    return [str(value) for value in listed if value not in (None, "")]


@cache
def _expression(pattern: str) -> re.Pattern[str]:
    """Only ``*`` and ``?`` are special; every other character is itself."""
    parts = {"*": ".*", "?": "."}
    text = "".join(parts.get(c, re.escape(c)) for c in pattern.strip())
    return re.compile(text, re.IGNORECASE | re.DOTALL)


def as_entry(suppression: Suppression) -> str:
    """The entry as YAML lines to append to a file; text is quoted, whatever it holds."""
    import yaml

    lines = []
    for name in (*("owner", "reason", "expires"), *CONDITIONS):
        value = getattr(suppression, name)
        if value is None:
            continue
        shown = yaml.safe_dump(
            list(value) if isinstance(value, tuple) else value,
            default_style='"', default_flow_style=True, width=10**9,
        )  # fmt: skip
        lines.append(f"    {name}: {shown.strip()}")
    return "  -" + lines[0][3:] + "\n" + "\n".join(lines[1:]) + "\n"


_HEAD = "# Findings that are known to be benign. Review it like code.\nsuppressions:\n"


def check_entry(suppression: Suppression, place: str) -> str:
    """A suppression as an entry of a file. Raises UsageError, naming ``place``."""
    text = as_entry(suppression)
    parse_suppressions(_HEAD + text, place)
    return text


def add_entry(file: Path, entry: str) -> None:
    """Put an entry at the end of a file, whatever comments it holds, or create the file."""
    old = ""
    if file.exists():
        load_suppressions(file)
        old = file.read_text(encoding="utf-8-sig")
        if old and not old.endswith("\n"):
            old += "\n"
    new = (old or _HEAD) + entry
    try:
        parse_suppressions(new, str(file))
    except Exception:
        raise UsageError(
            f"{file} is not written the way an entry can be added to",
            hint="its list must be the last key and indented by two spaces; add it by hand:\n"
            + entry,
        ) from None
    with whole_file(file, force=True) as path:
        path.write_text(new, encoding="utf-8")
