"""The products whose tables hunts read: one record each, and table -> column -> KQL type.

The tables are data gathered from the vendor's published schemas, one file per product.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

import msgspec

from qakhunt.kql.values import Timespan

_HOUR = Timespan.parse("1h")

ProductName = Literal["log-analytics", "defender"]


@dataclass(frozen=True)
class Product:
    """What sets a product apart.

    ``time_column`` says when a record was made, ``workspace_column`` which workspace has
    it; ``device_columns`` name the device, the best first. ``portals`` can open its queries.
    Records are kept for ``retention``, are usually there ``usual_delay`` after the event,
    and may still appear ``late`` behind the present; ``reread`` is the time to read again
    whenever the last time is ``every`` ago.
    """

    name: ProductName
    time_column: str
    retention: Timespan
    late: Timespan
    portals: tuple[Literal["defender", "azure"], ...]
    workspace_column: str | None = None
    device_columns: tuple[str, ...] = ("DeviceId", "DeviceName", "Computer")
    usual_delay: Timespan = _HOUR
    reread: Timespan | None = None
    every: Timespan | None = None


SENTINEL = Product(
    "log-analytics", time_column="TimeGenerated", workspace_column="TenantId",
    # 90 days is what a workspace with Sentinel keeps at no cost.
    retention=Timespan.parse("90d"), late=Timespan.parse("48h"), portals=("defender", "azure"),
)  # fmt: skip
"""The one whose columns hunts are written in, and that custom tables have."""
DEFENDER = Product(
    "defender", time_column="Timestamp", retention=Timespan.parse("30d"),
    late=Timespan.parse("2h"), portals=("defender",),
    # A daily job does not start on the same second each day, hence 20 hours.
    reread=Timespan.parse("30d"), every=Timespan.parse("20h"),
)  # fmt: skip
PRODUCTS: dict[str, Product] = {one.name: one for one in (SENTINEL, DEFENDER)}
TIME_COLUMN = {name: one.time_column for name, one in PRODUCTS.items()}
"""Product -> the column that says when a record was made."""

Columns = dict[str, str]


@cache
def tables(product: str) -> dict[str, Columns]:
    """Every known table of a product."""
    from importlib.resources import files

    name = f"schema_{product.replace('-', '_')}.json"
    data = files("qakhunt").joinpath("data").joinpath(name).read_text(encoding="utf-8")
    return msgspec.json.decode(data, type=dict[str, Columns])


def columns(product: str, table: str) -> Columns:
    """Columns of a table in that product; empty for an unknown table."""
    return tables(product).get(table, {})


def without_case_twins(kinds: Columns) -> Columns:
    """Columns less those that differ from an earlier one in case only (DuckDB folds case)."""
    seen: dict[str, str] = {}
    for name in kinds:
        seen.setdefault(name.casefold(), name)
    return {name: kind for name, kind in kinds.items() if seen[name.casefold()] == name}
