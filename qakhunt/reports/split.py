"""One result per customer, each holding that customer's data and nothing of the others'.

The customer is the tenant of the profile, never what a column says; a profile without
a tenant is a customer of its own.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from qakhunt.answers.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Iterable

    from qakhunt.answers.context import Context
    from qakhunt.answers.hits import Hit
    from qakhunt.answers.ledger import LedgerLine, Target
    from qakhunt.answers.run_result import RunResult


def customer(source: LedgerLine | Hit | Target) -> str:
    """Whose it is: the tenant of the profile, else the profile."""
    return source.tenant or source.profile


def by_tenant(result: RunResult) -> dict[str, RunResult]:
    """Customer -> that customer's part of the result, in the order of the ledger."""
    customers = dict.fromkeys(customer(line) for line in result.ledger.lines)
    customers |= dict.fromkeys(customer(hit) for hit in [*result.hits, *result.suppressed_hits])
    return {whose: _part(result, whose) for whose in customers}


def _part(result: RunResult, whose: str) -> RunResult:
    lines = [line for line in result.ledger.lines if customer(line) == whose]
    numbers = [n for n, hit in enumerate(result.hits) if customer(hit) == whose]
    hunts = {line.hunt for line in lines} | {result.hits[n].hunt for n in numbers}
    profiles = {line.profile for line in lines} | {result.hits[n].profile for n in numbers}
    strangers = _names_of_others(result, whose)
    return replace(
        result,
        rendered=tuple(r for r in result.rendered if r.hunt.name in hunts),
        ledger=Ledger(lines),
        hits=[result.hits[n] for n in numbers],
        columns={name: found for name, found in result.columns.items() if name in hunts},
        warnings=[text for text in result.warnings if not _mentions(text, strangers)],
        known=frozenset(at for at, number in enumerate(numbers) if number in result.known),
        **_suppressed(result, whose),
        # Sinks and state are the operator's, not a customer's.
        deliveries=[],
        state=None,
        clouds={name: c for name, c in result.clouds.items() if name in profiles},
        context=_context(result.context, whose, numbers) if result.context else None,
    )


def _suppressed(result: RunResult, whose: str) -> dict[str, Any]:
    """The customer's suppressed hits; a bare count, whose owners are not known, stays."""
    if not result.suppressed_hits:
        return {}
    own = [hit for hit in result.suppressed_hits if customer(hit) == whose]
    return {"suppressed_hits": own, "suppressed": len(own)}


def _context(context: Context, whose: str, numbers: list[int]) -> Context:
    return replace(
        context,
        queries=[query for query in context.queries if customer(query.target) == whose],
        ledger=Ledger([line for line in context.ledger.lines if customer(line) == whose]),
        hits={at: context.hits[n] for at, n in enumerate(numbers) if n in context.hits},
    )


def _names_of_others(result: RunResult, whose: str) -> set[str]:
    """What would betray another customer: tenants, profiles, workspaces, devices."""
    found: set[str | None] = set()
    for line in result.ledger.lines:
        if customer(line) != whose:
            found |= {line.tenant, line.profile, line.workspace}
    for hit in [*result.hits, *result.suppressed_hits]:
        if customer(hit) != whose:
            found |= {hit.tenant, hit.profile, hit.workspace, hit.device}
    return {name for name in found if name}


def _mentions(text: str, names: Iterable[str]) -> bool:
    folded = text.casefold()
    return any(name.casefold() in folded for name in names)
