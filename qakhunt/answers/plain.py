"""Cells as plain JSON values and text: the one form that every export shares."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from qakhunt.kql.values import Instant, Timespan

if TYPE_CHECKING:
    from collections.abc import Mapping


def to_json_value(cell: Any) -> Any:
    """The cell as JSON holds it.

    datetime, timespan, guid and decimal become strings, as do NaN and the
    infinities; dynamic stays a value; null is null.
    """
    if isinstance(cell, (Instant, Timespan, Decimal)):
        return cell.isoformat() if isinstance(cell, Instant) else str(cell)
    if isinstance(cell, float) and not math.isfinite(cell):
        return "NaN" if math.isnan(cell) else ("Infinity" if cell > 0 else "-Infinity")
    return cell


def to_text(cell: Any) -> str:
    """The cell as text; null is empty, dynamic is compact JSON."""
    if cell is None:
        return ""
    value = to_json_value(cell)
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def to_json_line(record: Mapping[str, Any]) -> str:
    """One record as one line of JSON."""
    plain = {name: to_json_value(cell) for name, cell in record.items()}
    return json.dumps(plain, ensure_ascii=False)
