"""A hunt: plain KQL and what is known about it.

The file is a superset of the Azure-Sentinel hunting-query schema; what only
qakhunt reads stands under its one key ``qakhunt:``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from qakhunt.core.errors import SourceLocation
from qakhunt.kql import schema
from qakhunt.kql.schema import ProductName  # noqa: TC001 - msgspec reads it at run time

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LOG_ANALYTICS = schema.SENTINEL.name
PRODUCTS = tuple(schema.PRODUCTS)
SEVERITIES = ("High", "Medium", "Low", "Informational")
"""The services' severities, the highest first."""


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class ParameterNotes(_Strict, frozen=True):
    """Help and bounds of one parameter.

    ``role`` binds it to an option: ``commands`` to ``--command``, ``threshold``
    to ``--threshold``. ``minimum`` and ``maximum`` are inclusive.
    """

    help: str = ""
    role: Literal["commands", "threshold"] | None = None
    minimum: float | None = None
    maximum: float | None = None


class WindowNotes(_Strict, frozen=True):
    """The two ``let`` names that hold the window's bounds.

    ``inclusive_end`` says that the query includes its end, as ``between`` does.
    """

    start: str
    end: str
    inclusive_end: bool = False


class ResultNotes(_Strict, frozen=True):
    """Which result columns hold what a triage needs."""

    commands: str | None = None
    distinct: str | None = None
    total: str | None = None
    first_seen: str | None = None
    last_seen: str | None = None
    score: str | None = None
    reasons: str | None = None


class Notes(_Strict, frozen=True):
    """Everything under ``qakhunt:``.

    ``behaviour`` is what the hunt looks for, as labelled event sets name it; it is
    measured on the sets of that name.
    """

    parameters: dict[str, ParameterNotes] = {}
    window: WindowNotes | None = None
    lookback: str = "30d"
    products: tuple[ProductName, ...] = PRODUCTS  # type: ignore[assignment]
    result: ResultNotes = ResultNotes()
    fingerprint: tuple[str, ...] = ()
    sets: tuple[str, ...] = ()
    behaviour: str = "discovery"
    software: tuple[str, ...] = ()
    data_sources: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    triage: tuple[str, ...] = ()
    false_positives: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()


class FieldMapping(msgspec.Struct, frozen=True):
    """One identifier of an entity and the result column that holds it."""

    identifier: str = ""
    columnName: str = ""  # noqa: N815 - the public schema's name


class EntityMapping(msgspec.Struct, frozen=True):
    """An entity of the result, in Sentinel's own terms."""

    entityType: str = ""  # noqa: N815 - the public schema's name
    fieldMappings: tuple[FieldMapping, ...] | None = None  # noqa: N815 - the public schema's name


class HuntFile(msgspec.Struct, frozen=True):
    """The keys of the public schema that qakhunt reads."""

    query: str
    id: str = ""
    name: str = ""
    description: str = ""
    severity: str = ""
    version: str | int | float = ""
    tactics: tuple[str, ...] | None = None
    relevantTechniques: tuple[str, ...] | None = None  # noqa: N815
    entityMappings: tuple[EntityMapping, ...] | None = None  # noqa: N815
    requiredDataConnectors: list[Any] | None = None  # noqa: N815
    tags: list[Any] | None = None
    queryPeriod: Any = None  # noqa: N815
    queryFrequency: Any = None  # noqa: N815
    triggerOperator: Any = None  # noqa: N815
    triggerThreshold: Any = None  # noqa: N815
    customDetails: Any = None  # noqa: N815
    eventGroupingSettings: Any = None  # noqa: N815
    qakhunt: Notes | None = None


@dataclass(frozen=True)
class RuleKeys:
    """What the file says of an analytics rule, as written: None for what it does not say."""

    frequency: str | None = None
    operator: str | None = None
    threshold: int | None = None
    details: Mapping[str, str] | None = None
    grouping: str | None = None


@dataclass(frozen=True)
class QueryPlace:
    """Maps a line and column of the query, from 1, to the hunt file.

    ``first_line`` is the file's line of the query's first, ``indents`` the
    columns to add per line; without ``exact`` only the start is known.
    """

    path: str
    first_line: int = 1
    indents: tuple[int, ...] = ()
    exact: bool = True

    def locate(self, line: int, column: int) -> SourceLocation:
        """The place in the hunt file."""
        if not self.exact:
            return SourceLocation(self.path, self.first_line)
        indent = self.indents[line - 1] if line <= len(self.indents) else 0
        return SourceLocation(self.path, self.first_line + line - 1, column + indent)


@dataclass(frozen=True)
class Hunt:
    """A hunt as loaded: ``name`` is the file's stem, ``title`` the YAML ``name``.

    ``period`` is its ``queryPeriod`` as written, ``remarks`` what its reader should know.
    """

    name: str
    query: str
    path: str
    place: QueryPlace
    title: str = ""
    id: str = ""
    description: str = ""
    severity: str = ""
    version: str = ""
    tactics: tuple[str, ...] = ()
    techniques: tuple[str, ...] = ()
    entity_mappings: tuple[EntityMapping, ...] = ()
    notes: Notes = field(default_factory=Notes)
    source: str = "file"
    period: str = ""
    rule: RuleKeys = RuleKeys()
    remarks: tuple[str, ...] = ()

    @property
    def products(self) -> tuple[str, ...]:
        """Products the hunt is written for."""
        return self.notes.products

    def parameter_with_role(self, role: str) -> str | None:
        """Name of the parameter that has ``role``, or None."""
        for name, notes in self.notes.parameters.items():
            if notes.role == role:
                return name
        return None


def highest_severity(hunts: Iterable[Hunt]) -> str:
    """The highest of the hunts' severities as written; any word of another's own is the lowest."""
    ranks = {name: rank for rank, name in enumerate(SEVERITIES)}
    named = (hunt.severity for hunt in hunts if hunt.severity)
    return min(named, key=lambda name: ranks.get(name.capitalize(), len(ranks)), default="")
