"""How rare a hit is, as counts in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qakhunt.triage.words import count

if TYPE_CHECKING:
    from qakhunt.answers.context import Rarity
    from qakhunt.triage.dossier import Dossier


def rarity_lines(dossier: Dossier) -> list[str]:
    """One sentence for each count; the hit itself is among those counted."""
    context = dossier.context
    if context is None:
        return []
    return [f"{_subject(rarity, dossier)}: {_counts(rarity)}" for rarity in context.rarity]


def _subject(rarity: Rarity, dossier: Dossier) -> str:
    if rarity.kind == "issuer":
        return f"{rarity.value} issuing discovery commands"
    if rarity.kind == "families":
        families = {n.command.family for n in dossier.commands if n.command.family}
        return f"the same {count(len(families), 'family', 'families')} from one account"
    for issuer in dossier.findings.issuers if dossier.findings else ():
        if issuer.process.sha256.lower() == rarity.value:
            return f"the file of {issuer.process.file} ({rarity.value[:12]}…)"
    return f"the file {rarity.value[:12]}…"


def _counts(rarity: Rarity) -> str:
    devices = count(rarity.devices, "device")
    if rarity.devices == 1:
        devices = "this device alone"
    accounts, days = count(rarity.accounts, "account"), count(rarity.days, "day")
    return f"{devices}, {accounts}, {days}"
