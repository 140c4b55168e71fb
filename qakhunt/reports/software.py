"""ATT&CK's technique list of a malware beside the hunts that look for it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import msgspec

from qakhunt.core.documents import convert, parse_yaml
from qakhunt.core.errors import HuntError, UsageError
from qakhunt.reports.navigator import techniques_of
from qakhunt.triage.hit_report import technique

if TYPE_CHECKING:
    from collections.abc import Iterable

    from qakhunt.hunts.model import Hunt


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One technique: the table that shows it, why no hunt looks for it, the closest public rule."""

    table: str
    gap: str = ""
    closest: str = ""


class Software(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One malware as ATT&CK lists it."""

    name: str
    page: str
    techniques: dict[str, Entry]


class Lists(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``data/software.yaml``: lists of one version of ATT&CK."""

    version: str
    software: dict[str, Software]


@cache
def lists() -> Lists:
    """The data file, checked."""
    text = files("qakhunt").joinpath("data/software.yaml").read_text(encoding="utf-8")
    return convert(parse_yaml(text, "software.yaml", HuntError), Lists, HuntError)


@dataclass(frozen=True)
class Covered:
    """A technique of the list with the hunts for it; without any, ``gap`` says why."""

    id: str
    name: str
    hunts: tuple[str, ...]
    table: str
    gap: str
    closest: str


@dataclass(frozen=True)
class SoftwareCoverage:
    """ATT&CK's list of one malware, of one version, beside hunts."""

    id: str
    name: str
    page: str
    version: str
    techniques: tuple[Covered, ...]

    @property
    def hunted(self) -> int:
        """How many of the techniques a hunt looks for."""
        return sum(bool(one.hunts) for one in self.techniques)

    def document(self) -> dict[str, Any]:
        """The coverage for programs."""
        return {
            "id": self.id, "name": self.name, "attack_version": self.version,
            "hunted": self.hunted,
            "techniques": [
                {"id": t.id, "name": t.name, "hunts": list(t.hunts), "table": t.table,
                 "gap": t.gap or None, "closest_public_rule": t.closest or None}
                for t in self.techniques
            ],
        }  # fmt: skip


def coverage_of(identifier: str, hunts: Iterable[Hunt]) -> SoftwareCoverage:
    """The list of a malware beside the hunts that name it. Raises UsageError where it is unknown.

    A technique that no hunt looks for and that the data gives no reason for has the
    gap "no hunt names it", as where a built-in hunt is hidden by another.
    """
    known = lists()
    software = known.software.get(identifier.upper())
    if software is None:
        raise UsageError(
            f"no technique list of {identifier}", hint=f"known: {', '.join(known.software)}"
        )
    named = techniques_of(h for h in hunts if identifier.upper() in h.notes.software)
    covered = [
        _covered(name, entry, named.get(name, [])) for name, entry in software.techniques.items()
    ]
    return SoftwareCoverage(
        identifier.upper(), software.name, software.page, known.version, tuple(covered)
    )


def _covered(identifier: str, entry: Entry, hunts: list[str]) -> Covered:
    gap = "" if hunts else entry.gap or "no hunt names it"
    return Covered(
        identifier, technique(identifier).name, tuple(hunts), entry.table, gap, entry.closest
    )
