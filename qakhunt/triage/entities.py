"""Who and what a hit involves: device, accounts, processes, hashes, addresses.

Each carries a query that pivots on it, ready to paste, and links where there are any.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qakhunt.kql.literal import encode
from qakhunt.kql.schema import PRODUCTS, TIME_COLUMN
from qakhunt.triage.records import account_name, events_of, text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from qakhunt.answers.context import HitContext
    from qakhunt.answers.hits import Hit
    from qakhunt.kql.values import Window
    from qakhunt.triage.findings import Findings
    from qakhunt.triage.links import Portals
    from qakhunt.triage.process_tree import Node
    from qakhunt.triage.records import Event

_MOST = 12
_HASH = re.compile(r"[0-9a-fA-F]{32}|[0-9a-fA-F]{40}|[0-9a-fA-F]{64}", re.ASCII)
_HASH_COLUMNS = {32: "MD5", 40: "SHA1", 64: "SHA256"}


@dataclass(frozen=True)
class Link:
    """A labelled address."""

    label: str
    url: str


@dataclass(frozen=True)
class Entity:
    """One entity: ``kind`` is device, account, process, hash or address.

    ``details`` are labelled values; ``pivot`` is KQL for the hunt's own product.
    """

    kind: str
    name: str
    details: tuple[tuple[str, str], ...]
    pivot: str
    links: tuple[Link, ...] = ()


@dataclass(frozen=True)
class Place:
    """Where a hit was found: what its pivots and links need to know."""

    product: str
    tenant: str | None
    workspace: str | None
    window: Window
    portals: Portals


def entities_of(
    hit: Hit, context: HitContext | None, findings: Findings | None, place: Place
) -> list[Entity]:
    """The hit's entities, most telling first; at most a dozen of each kind."""
    events = events_of(context) if context else []
    device_ids = _distinct(text(e.record, "DeviceId") for e in events)
    row_id = hit.row.get("DeviceId")
    if isinstance(row_id, str) and row_id and row_id not in device_ids:
        device_ids = [row_id, *device_ids]
    found = [*_device(hit, device_ids, place), *_accounts(hit, findings, place)]
    if findings is not None:
        found += _processes(hit, findings.issuers, place)
        found += _hashes(findings, place)
        found += _addresses(events, findings, place)
    return found


def _time_filter(place: Place) -> str:
    time = TIME_COLUMN[place.product]
    start = encode(place.window.start, "datetime")
    end = encode(place.window.end, "datetime")
    return f"| where {time} >= {start} and {time} < {end}"


def _query(table: str, place: Place, *filters: str) -> str:
    lines = [table, _time_filter(place), *(f"| where {text}" for text in filters)]
    return "\n".join([*lines, f"| sort by {TIME_COLUMN[place.product]} asc"])


def _string(value: str) -> str:
    return encode(value, "string")


def _linked(label: str, query: str, place: Place) -> tuple[Link, ...]:
    """The query in the portals."""
    found = [
        Link(
            f"{label} in advanced hunting",
            place.portals.advanced_hunting(query, place.tenant) or "",
        )
    ]
    if "azure" in PRODUCTS[place.product].portals:
        logs = place.portals.logs(query, place.tenant, place.workspace, place.window)
        found.append(Link(f"{label} in Logs", logs or ""))
    return tuple(link for link in found if link.url)


def _device(hit: Hit, ids: Sequence[str], place: Place) -> list[Entity]:
    if not hit.device:
        return []
    details = [("Name", hit.device), *(("Device id", identifier) for identifier in ids[:_MOST])]
    if len(ids) > 1:
        details.append(("Note", f"{len(ids)} device ids under this name"))
    links = []
    for identifier in ids[:3]:
        page = place.portals.device_page(identifier, place.tenant)
        line = place.portals.device_timeline(
            identifier, place.tenant, place.window.start, place.window.end
        )
        links += [Link("device page", page)] if page else []
        links += [Link("device timeline", line)] if line else []
    query = _query("DeviceProcessEvents", place, f"DeviceName =~ {_string(hit.device)}")
    links += _linked("processes", query, place)
    return [Entity("device", hit.device, tuple(details), query, tuple(links))]


def _accounts(hit: Hit, findings: Findings | None, place: Place) -> list[Entity]:
    accounts: dict[str, list[tuple[str, str]]] = {}
    for event in findings.own if findings else ():
        name = account_name(event.record)
        if name and name not in accounts:
            labelled = [
                ("Name", text(event.record, "AccountName")),
                ("Domain", text(event.record, "AccountDomain")),
                ("SID", text(event.record, "AccountSid")),
                ("UPN", text(event.record, "AccountUpn")),
            ]
            accounts[name] = [(label, value) for label, value in labelled if value]
    if not accounts and hit.account:
        accounts[hit.account] = [("Name", hit.account)]
    found = []
    for name, details in list(accounts.items())[:_MOST]:
        plain = dict(details).get("Name", name)
        query = _query("DeviceLogonEvents", place, f"AccountName =~ {_string(plain)}")
        links = _linked("logons", query, place)
        found.append(Entity("account", name, tuple(details), query, links))
    return found


def _processes(hit: Hit, issuers: Sequence[Node], place: Place) -> list[Entity]:
    found = []
    for node in issuers[:_MOST]:
        process = node.process
        labelled = [
            ("Id", str(process.id) if process.id is not None else ""),
            ("Started", process.started.short() if process.started else ""),
            ("Command line", process.line),
            ("Folder", process.folder),
            ("Account", process.account),
            ("Parent", node.parent.process.file if node.parent else ""),
        ]
        filters = [f"DeviceName =~ {_string(hit.device)}"] if hit.device else []
        if process.id is not None:
            filters.append(f"InitiatingProcessId == {encode(process.id, 'long')}")
        filters.append(f"InitiatingProcessFileName =~ {_string(process.file)}")
        query = _query("DeviceProcessEvents", place, *filters)
        details = tuple((label, value) for label, value in labelled if value)
        links = _linked("children", query, place)
        found.append(Entity("process", process.file or "unnamed", details, query, links))
    return found


def _hashes(findings: Findings, place: Place) -> list[Entity]:
    """Hashes of issuing processes and of what led to them, not of Windows' own commands."""
    known: dict[str, str] = {}
    for issuer in findings.issuers:
        for node in (issuer, *issuer.ancestors()):
            value = node.process.sha256
            if _HASH.fullmatch(value):
                known.setdefault(value.lower(), node.process.file)
    found = []
    for value, file in list(known.items())[:_MOST]:
        column = _HASH_COLUMNS[len(value)]
        query = _query(
            "DeviceProcessEvents", place,
            f"{column} == {_string(value)} or InitiatingProcess{column} == {_string(value)}",
        )  # fmt: skip
        details = ((column, value), ("File", file))
        found.append(Entity("hash", value, details, query, _linked("runs", query, place)))
    return found


def _addresses(events: Iterable[Event], findings: Findings, place: Place) -> list[Entity]:
    """Public addresses first those that the hit's own processes talked to."""
    theirs = {
        (node.process.id, node.process.file.casefold())
        for issuer in findings.issuers
        for node in (issuer, *issuer.ancestors())
    }
    known: dict[str, list[Event]] = {}
    for event in events:
        address = text(event.record, "RemoteIP")
        if event.kind in ("network", "logon") and _is_address(address):
            known.setdefault(address, []).append(event)

    def own(seen: list[Event]) -> int:
        return sum(
            e.issuer is not None and (e.issuer.id, e.issuer.file.casefold()) in theirs for e in seen
        )

    ordered = sorted(known.items(), key=lambda item: (-own(item[1]), item[1][0].at))
    found = []
    for address, seen in ordered[:_MOST]:
        names = _distinct(text(e.record, "RemoteUrl") for e in seen)
        by = _distinct(e.issuer.file for e in seen if e.issuer)
        details = [("Address", address), *(("Name", name) for name in names[:3])]
        details += [("Connections", str(len(seen))), ("From", ", ".join(by[:5]))]
        query = _query("DeviceNetworkEvents", place, f"RemoteIP == {_string(address)}")
        links = _linked("connections", query, place)
        found.append(Entity("address", address, tuple(details), query, links))
    return found


def _is_address(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True


def _distinct(values: Iterable[str]) -> list[str]:
    return [value for value in dict.fromkeys(values) if value]
