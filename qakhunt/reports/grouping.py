"""Hits of several hunts by device, the strongest evidence first."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qakhunt.triage.hits import Hit


def by_device(hits: Sequence[Hit]) -> list[list[Hit]]:
    """Groups of one device each: more hunts that agree come first, then more commands.

    A device is one of a customer: the same name in two tenants is two devices.
    """
    groups: dict[tuple[str, str | None], list[Hit]] = {}
    for hit in hits:
        groups.setdefault((hit.tenant or hit.profile, hit.device), []).append(hit)
    return sorted(groups.values(), key=_strength, reverse=True)


def _strength(group: list[Hit]) -> tuple[int, int]:
    return len({hit.hunt for hit in group}), max(hit.distinct or 0 for hit in group)
