"""The probe of an empty answer: was there anything to look at, and where?

One query per table that a hunt names: how many records the window holds, from how
many devices, the times of the oldest and newest, and the workspace that holds them,
since a service may answer from another one than was asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qakhunt.answers.ledger import SourceRows
from qakhunt.hunts.model import DEFENDER
from qakhunt.hunts.product import tables_of
from qakhunt.kql.literal import encode
from qakhunt.kql.schema import TIME_COLUMN, columns
from qakhunt.kql.tokens import tokenize

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qakhunt.answers.table import ResultTable
    from qakhunt.hunts.render import RenderedQuery
    from qakhunt.kql.values import Window

DEVICE_COLUMNS = ("DeviceId", "DeviceName", "Computer")


def tables_named(rendered: RenderedQuery) -> tuple[str, ...]:
    """Tables of the product's schema that the rendered query names."""
    return tuple(tables_of(tokenize(rendered.text), rendered.product))


def probe_query(table: str, product: str, window: Window) -> str:
    """KQL that counts the table's records and devices in the window."""
    known = columns(product, table)
    time = TIME_COLUMN[product]
    named = [name for name in DEVICE_COLUMNS if name in known]
    # Records without a device id are told apart by the name.
    device = f"iff(isempty({named[0]}), {named[1]}, {named[0]})" if len(named) > 1 else None
    device = device or (named[0] if named else None)
    found = ["SourceRows = count()"]
    lines = [table]
    if device:
        found.append(f"Devices = dcount({device})")
    if time in known:
        start, end = encode(window.start, "datetime"), encode(window.end, "datetime")
        lines.append(f"| where {time} >= {start} and {time} < {end}")
        found += [f"First = min({time})", f"Last = max({time})"]
    workspace = _workspace(product, known)
    if workspace:
        found.append(f"TenantId = take_any({workspace})")
    lines.append(f"| summarize {', '.join(found)}")
    return "\n".join(lines) + "\n"


def _workspace(product: str, known: Mapping[str, str]) -> str | None:
    """KQL of a record's workspace, which Log Analytics calls its ``TenantId``.

    Defender's own tables have none, and where its schema has one it is the customer's;
    a table that Defender reads from a workspace keeps the column.
    """
    named = "TenantId" in known
    if product == DEFENDER:
        return None if named else 'column_ifexists("TenantId", "")'
    return "TenantId" if named else None


def read_probe(table: ResultTable) -> SourceRows:
    """What the probe's one row says."""
    record = next(iter(table.records()), {})
    return SourceRows(
        rows=int(record.get("SourceRows") or 0),
        devices=int(record.get("Devices") or 0),
        first=record.get("First"),
        last=record.get("Last"),
    )
