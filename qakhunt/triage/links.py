"""Links into the portals, per cloud, with the query filled in.

Every part that comes from a record is percent-encoded; a value that cannot be what it
should be makes no link.
"""

from __future__ import annotations

import base64
import gzip
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

if TYPE_CHECKING:
    from qakhunt.kql.values import Instant, Window

PUBLIC = "public"
# Portals of Microsoft Defender and Azure by cloud; None where the cloud has none.
DEFENDER_PORTALS = {
    "public": "https://security.microsoft.com",
    "usgov": "https://security.microsoft.us",
    "usgov-dod": "https://security.apps.mil",
    "china": None,
}
AZURE_PORTALS = {
    "public": "https://portal.azure.com",
    "usgov": "https://portal.azure.us",
    "usgov-dod": "https://portal.azure.us",
    "china": "https://portal.azure.cn",
}
DATA_EXPLORER = "https://dataexplorer.azure.com"
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
        """The device's timeline in the Defender portal over a stretch of time."""
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
