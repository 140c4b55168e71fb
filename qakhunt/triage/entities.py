"""Links into the portals, per cloud, with the query filled in.

Every part that comes from a record is percent-encoded; a value that cannot be what it
should be makes no link.
"""

from __future__ import annotations

import base64
import gzip
import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from qakhunt.kql.literal import encode
from qakhunt.kql.schema import PRODUCTS, TIME_COLUMN
from qakhunt.triage.records import account_name, events_of, text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from qakhunt.answers.hits import Hit
    from qakhunt.answers.run_result import HitContext
    from qakhunt.kql.values import Instant, Window
    from qakhunt.triage.process_tree import HitProcesses, Node
    from qakhunt.triage.records import Event


PUBLIC = "public"
# Portals of Microsoft Defender and Azure by cloud; None where the cloud has none.
DEFENDER_PORTALS = {
    "public": "https://security.microsoft.com",
    "usgov": "https://security.microsoft.us",
    "usgov-dod": "https://security.apps.mil",
    "china": None,
}
DATA_EXPLORER = "https://dataexplorer.azure.com"
AZURE_PORTALS = {
    "public": "https://portal.azure.com",
    "usgov": "https://portal.azure.us",
    "usgov-dod": "https://portal.azure.us",
    "china": "https://portal.azure.cn",
}
CLOUDS = tuple(DEFENDER_PORTALS)
_DEVICE_ID = re.compile(r"[0-9a-fA-F]{40}", re.ASCII)
_GUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)
_RESOURCE = re.compile(
    r"/subscriptions/[^/?#]+/resource[gG]roups/[^/?#]+/providers/[^/?#]+/workspaces/[^/?#]+"
)

RESOURCE_HINT = (
    "it looks like /subscriptions/../resourceGroups/../providers/"
    "Microsoft.OperationalInsights/workspaces/NAME"
)

# Longer addresses are cut or refused on the way.
_LONGEST = 8000


@dataclass(frozen=True)
class Portals:
    """Where links lead: clouds, and the resource ids of workspaces by their GUID.

    ``cloud`` is Defender's, empty where nobody named one; ``azure`` is that of the
    workspaces where it is another.
    The key ``""`` of ``workspaces`` stands for every workspace. ``cluster`` and ``database``
    are those of Azure Data Explorer.
    """

    cloud: str = ""
    workspaces: tuple[tuple[str, str], ...] = ()
    azure: str | None = None
    cluster: str | None = None
    database: str | None = None

    def device_page(self, device_id: str, tenant: str | None) -> str | None:
        """The device's page in the Defender portal."""
        portal = DEFENDER_PORTALS[self.cloud or PUBLIC]
        if portal is None or not _DEVICE_ID.fullmatch(device_id):
            return None
        return f"{portal}/machines/v2/{device_id.lower()}/overview{_tenant(tenant, '?')}"

    def device_timeline(
        self, device_id: str, tenant: str | None, start: Instant, end: Instant
    ) -> str | None:
        """The device's timeline in the Defender portal over a time range."""
        portal = DEFENDER_PORTALS[self.cloud or PUBLIC]
        if portal is None or not _DEVICE_ID.fullmatch(device_id):
            return None
        times = f"from={_millisecond(start)}&to={_millisecond(end)}"
        page = f"{portal}/machines/v2/{device_id.lower()}/timeline"
        return f"{page}?{times}{_tenant(tenant, '&')}"

    def advanced_hunting(self, query: str, tenant: str | None) -> str | None:
        """Advanced hunting in the Defender portal with the query filled in."""
        portal = DEFENDER_PORTALS[self.cloud or PUBLIC]
        if portal is None:
            return None
        packed = _packed(query.encode("utf-16-le", "replace"))
        text = base64.urlsafe_b64encode(packed).decode().rstrip("=")
        link = f"{portal}/v2/advanced-hunting?query={text}&timeRangeId=month{_tenant(tenant, '&')}"
        return link if len(link) <= _LONGEST else None

    def logs(
        self, query: str, tenant: str | None, workspace: str | None, window: Window
    ) -> str | None:
        """Logs in the Azure portal with the query filled in; needs the workspace's resource id."""
        known = dict(self.workspaces)
        resource = known.get((workspace or "").lower()) or known.get("")
        portal = AZURE_PORTALS[self.azure or self.cloud or PUBLIC]
        if resource is None or not is_workspace_resource(resource):
            return None
        text = base64.b64encode(_packed(query.encode("utf-8", "replace"))).decode()
        where = f"#@{tenant}" if tenant and _GUID.fullmatch(tenant) else "#"
        times = f"{_millisecond(window.start)}/{_millisecond(window.end)}"
        # The portal decodes the query twice, the rest once.
        link = (
            f"{portal}/{where}/blade/Microsoft_OperationsManagementSuite_Workspace/Logs.ReactView"
            f"/resourceId/{quote(resource, safe='')}/source/LogsBlade.AnalyticsShareLinkToQuery"
            f"/q/{quote(quote(text, safe=''), safe='')}"
            f"/timespan/{quote(times, safe='')}"
        )
        return link if len(link) <= _LONGEST else None

    def data_explorer(self, query: str) -> str | None:
        """Azure Data Explorer with the query filled in; needs a cluster of the public cloud."""
        host = urlsplit(self.cluster or "").hostname
        if host is None or not self.database or (self.azure or self.cloud or PUBLIC) != PUBLIC:
            return None
        text = base64.b64encode(_packed(query.encode("utf-8", "replace"))).decode()
        link = (
            f"{DATA_EXPLORER}/clusters/{quote(host, safe='')}"
            f"/databases/{quote(self.database, safe='')}?query={quote(text, safe='')}"
        )
        return link if len(link) <= _LONGEST else None


def is_workspace_resource(text: str) -> bool:
    """Whether the text is the Azure resource id of a workspace."""
    return _RESOURCE.fullmatch(text) is not None


def _packed(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


def _tenant(tenant: str | None, joint: str) -> str:
    return f"{joint}tid={tenant.lower()}" if tenant and _GUID.fullmatch(tenant) else ""


def _millisecond(moment: Instant) -> str:
    return moment.isoformat()[:23] + "Z"


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
    hit: Hit, context: HitContext | None, processes: HitProcesses | None, place: Place
) -> list[Entity]:
    """The hit's entities, most telling first; at most a dozen of each kind."""
    events = events_of(context) if context else []
    device_ids = _distinct(text(e.record, "DeviceId") for e in events)
    row_id = hit.row.get("DeviceId")
    if isinstance(row_id, str) and row_id and row_id not in device_ids:
        device_ids = [row_id, *device_ids]
    found = [*_device(hit, device_ids, place), *_accounts(hit, processes, place)]
    if processes is not None:
        found += _processes(hit, processes.issuers, place)
        found += _hashes(processes, place)
        found += _addresses(events, processes, place)
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
        explorer = place.portals.data_explorer(query)
        found.append(Link(f"{label} in Azure Data Explorer", explorer or ""))
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


def _accounts(hit: Hit, processes: HitProcesses | None, place: Place) -> list[Entity]:
    accounts: dict[str, list[tuple[str, str]]] = {}
    for event in processes.own if processes else ():
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


def _hashes(processes: HitProcesses, place: Place) -> list[Entity]:
    """Hashes of issuing processes and of what led to them, not of Windows' own commands."""
    known: dict[str, str] = {}
    for issuer in processes.issuers:
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


def _addresses(events: Iterable[Event], processes: HitProcesses, place: Place) -> list[Entity]:
    """Public addresses first those that the hit's own processes talked to."""
    theirs = {
        (node.process.id, node.process.file.casefold())
        for issuer in processes.issuers
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
