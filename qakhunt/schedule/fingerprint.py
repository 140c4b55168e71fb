"""What makes two hits the same finding, run after run.

A hunt declares result columns under ``qakhunt: fingerprint:``; ``day`` there is the
UTC day of the hit's first event. Without a declaration: device, account and day.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from qakhunt.answers.plain import to_json_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qakhunt.hunts.model import Hunt
    from qakhunt.triage.hits import Hit

DAY = "day"
LENGTH = 32


def fingerprint(hunt: Hunt, hit: Hit) -> str:
    """32 hex digits, the same for the same finding however often it is found.

    The hunt goes by its id, so a change of its parameters keeps its findings. A
    declared column that the result lacks makes the whole row count: two findings
    never become one.
    """
    row = hit.row
    declared = hunt.notes.fingerprint
    values = [_value(name, hit, row) for name in declared if name in row or name == DAY]
    if not declared:
        values = [_plain(hit.device), _plain(hit.account), _value(DAY, hit, row)]
    if len(values) < len(declared) or (not declared and hit.device is None):
        values.append([_plain(cell) for cell in hit.cells])
    return _digest([hunt.id.lower() or hunt.name, *_customer(hit), *values])


def _customer(hit: Hit) -> Sequence[Any]:
    """The tenant; copies in several of its workspaces are one finding."""
    if hit.tenant:
        return [hit.tenant.lower()]
    return [f"profile:{hit.profile}", (hit.workspace or "").lower()]


def _value(name: str, hit: Hit, row: dict[str, Any]) -> Any:
    if name in row:
        return _plain(row[name])
    return hit.first_seen.isoformat()[:10] if hit.first_seen else None


def _plain(cell: Any) -> Any:
    """Names differ in case between sources; nothing else is taken for the same."""
    value = to_json_value(cell)
    return value.strip().casefold() if isinstance(value, str) else value


def _digest(values: Sequence[Any]) -> str:
    text = json.dumps(values, ensure_ascii=True, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:LENGTH]
