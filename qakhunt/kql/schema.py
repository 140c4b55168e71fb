"""The tables of both products: table -> column -> KQL type.

Data gathered from the vendor's published schemas, one file per product.
"""

from __future__ import annotations

from functools import cache

import msgspec

TIME_COLUMN = {"log-analytics": "TimeGenerated", "defender": "Timestamp"}
"""Product -> the column that says when a record was made."""

Columns = dict[str, str]


@cache
def tables(product: str) -> dict[str, Columns]:
    """Every known table of ``log-analytics`` or ``defender``."""
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
