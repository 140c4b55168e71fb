"""A hit is one row of a hunt's result, with what a triage needs read out of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from qakhunt.answers.table import Row, unique_names
from qakhunt.hunts.command_catalogue import Command, understand
from qakhunt.kql.values import Instant

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qakhunt.answers.ledger import Target
    from qakhunt.answers.table import Column, ResultTable
    from qakhunt.hunts.model import Hunt

_DEVICE = ("DeviceName", "Computer", "DeviceId")
_ACCOUNT = ("AccountName", "Account", "InitiatingProcessAccountName")
_FIRST = ("FirstSeen", "TimeGenerated", "Timestamp", "StartTime")
_LAST = ("LastSeen", "EndTime")
_COMMANDS = ("Commands", "CommandLineList", "ProcessCommandLine", "CommandLine")
_DISTINCT = ("TotalUniqueCommandsFound", "Families", "DistinctCommands")
_TOTAL = ("TotalCommandsFound", "Total", "Events")
_UNDERSTOOD = {*_DEVICE, *_ACCOUNT, *_FIRST, *_LAST, *_COMMANDS, *_DISTINCT, *_TOTAL, "TenantId"}


@dataclass(frozen=True, slots=True)
class Hit:
    """One row and its meaning; ``columns`` and ``cells`` are the row as it came.

    ``tenant`` is the customer's Entra tenant id, from the profile; ``workspace``
    is the one asked, else what the row's ``TenantId`` says. ``also_in`` names other
    workspaces of the tenant that hold the same finding.
    """

    hunt: str
    profile: str
    tenant: str | None
    workspace: str | None
    device: str | None
    account: str | None
    commands: tuple[Command, ...]
    techniques: tuple[str, ...]
    first_seen: Instant | None
    last_seen: Instant | None
    distinct: int | None
    total: int | None
    columns: tuple[Column, ...]
    cells: Row
    also_in: tuple[str, ...] = ()

    @property
    def row(self) -> dict[str, Any]:
        """Every result column under its own name."""
        return dict(zip(unique_names([c.name for c in self.columns]), self.cells, strict=True))


def hits_of(hunt: Hunt, target: Target, table: ResultTable) -> list[Hit]:
    """The rows of one answer as hits, in its order."""
    reader = _RowReader(hunt, table)
    return [reader.hit(hunt, target, row) for row in table.rows]


def shows_commands(hunt: Hunt | None, columns: Sequence[Column]) -> bool:
    """Whether a hit's device, account, counts and commands tell what its columns do.

    So they do where the hunt maps its result, or has commands, their number and nothing
    else; of any other hunt the columns themselves are shown.
    """
    if hunt is not None and any(msgspec.structs.astuple(hunt.notes.result)):
        return True
    names = {column.name for column in columns}
    return bool(names & {*_COMMANDS} and names & {*_DISTINCT}) and names <= _UNDERSTOOD


class _RowReader:
    """Finds the columns once, then reads row by row."""

    def __init__(self, hunt: Hunt, table: ResultTable) -> None:
        notes = hunt.notes.result
        entities = _entity_columns(hunt)
        self.columns = table.columns
        self.positions = {name: i for i, name in reversed(list(enumerate(table.names)))}
        self.device = self._find(entities.get("Host"), *_DEVICE)
        self.account = self._find(entities.get("Account"), *_ACCOUNT)
        self.first = self._find(notes.first_seen, *_FIRST)
        self.last = self._find(notes.last_seen, *_LAST)
        self.commands = self._find(notes.commands, *_COMMANDS)
        self.distinct = self._find(notes.distinct, *_DISTINCT)
        self.total = self._find(notes.total, *_TOTAL)
        self.workspace = self._find("TenantId")

    def _find(self, *names: str | None) -> int | None:
        """Position of the first name that the result has; times go by either name."""
        for name in names:
            for spelling in (name, "Timestamp" if name == "TimeGenerated" else None):
                if spelling in self.positions:
                    return self.positions[spelling]
        return None

    def hit(self, hunt: Hunt, target: Target, row: Row) -> Hit:
        commands = tuple(understand(line) for line in _texts(_at(row, self.commands)))
        techniques = dict.fromkeys(t for c in commands for t in c.techniques)
        first, last = _at(row, self.first), _at(row, self.last)
        return Hit(
            hunt=hunt.name,
            profile=target.profile,
            tenant=target.tenant,
            workspace=target.workspace or _text(_at(row, self.workspace)),
            device=_text(_at(row, self.device)),
            account=_text(_at(row, self.account)),
            commands=commands,
            techniques=tuple(techniques) or hunt.techniques,
            first_seen=first if isinstance(first, Instant) else None,
            last_seen=last if isinstance(last, Instant) else None,
            distinct=_count(_at(row, self.distinct)),
            total=_count(_at(row, self.total)),
            columns=self.columns,
            cells=row,
        )


def _entity_columns(hunt: Hunt) -> dict[str, str]:
    """Entity type -> the first column that the hunt maps to it."""
    found: dict[str, str] = {}
    for mapping in hunt.entity_mappings:
        for field in mapping.fieldMappings or ():
            found.setdefault(mapping.entityType, field.columnName)
    return found


def _at(row: Row, position: int | None) -> Any:
    return None if position is None else row[position]


def _text(cell: Any) -> str | None:
    return str(cell) if cell not in (None, "") else None


def _texts(cell: Any) -> list[str]:
    if isinstance(cell, list):
        return [str(item) for item in cell if item is not None]
    return [str(cell)] if cell not in (None, "") else []


def _count(cell: Any) -> int | None:
    if isinstance(cell, list):
        return len(cell)
    return cell if isinstance(cell, int) and not isinstance(cell, bool) else None
