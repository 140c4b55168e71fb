"""One typed result, whoever answered.

A cell is None (null) or, by KQL type:

    bool bool · int, long int · real float (NaN and infinities allowed)
    decimal decimal.Decimal · string, guid str
    datetime Instant · timespan Timespan · dynamic any JSON value
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

KqlType = Literal[
    "bool", "int", "long", "real", "decimal", "string", "datetime", "timespan", "guid", "dynamic"
]
KQL_TYPES = get_args(KqlType)

Row = tuple[Any, ...]


@dataclass(frozen=True)
class Column:
    """A result column: its name as the service spelled it and its KQL type."""

    name: str
    kql_type: str

    def __post_init__(self) -> None:
        if self.kql_type not in KQL_TYPES:
            raise ValueError(f"not a KQL type: {self.kql_type!r}")


@dataclass(frozen=True)
class ResultTable:
    """Columns and rows; an empty result keeps its columns."""

    columns: tuple[Column, ...]
    rows: Sequence[Row]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def names(self) -> list[str]:
        """Column names in order; a name can occur twice."""
        return [column.name for column in self.columns]

    def index(self, name: str) -> int | None:
        """Position of the first column called ``name``, or None."""
        for position, column in enumerate(self.columns):
            if column.name == name:
                return position
        return None

    def records(self) -> Iterator[dict[str, Any]]:
        """Rows as dicts; of columns that share a name, later ones get ``name1``, ..."""
        names = unique_names(self.names)
        for row in self.rows:
            yield dict(zip(names, row, strict=True))


def unique_names(names: Sequence[str]) -> list[str]:
    """The same names made distinct as Kusto does: ``x``, ``x1``, ``x2``.

    A made-up name never equals one that is already there.
    """
    taken = set(names)
    seen: set[str] = set()
    result = []
    for name in names:
        unique, n = name, 0
        while unique in seen or (n and unique in taken):
            n += 1
            unique = f"{name}{n}"
        seen.add(unique)
        result.append(unique)
    return result
