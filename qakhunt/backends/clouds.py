"""The vendor's clouds: which hosts answer, for which scope tokens are, and who may see one.

A token goes only to hosts of the profile's clouds; anything else must be loopback
or named by the user.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from qakhunt.core.errors import ConfigError, nearest

if TYPE_CHECKING:
    from collections.abc import Collection


@dataclass(frozen=True)
class Cloud:
    """Hosts of one cloud; ``graph`` is None where advanced hunting is not served.

    ``log_analytics`` names the host to ask first, then others that answer as well.
    ``kusto`` are the hosts of clusters and ``lake`` those of Sentinel's data lake, the one to
    ask first; a name that begins with a dot stands for all hosts below it. ``arm`` is Azure
    Resource Manager's, ``vault`` the domain of Key Vaults; with ``exchange_scope`` a managed
    identity stands for an app.
    """

    name: str
    authority: str
    graph: str | None
    log_analytics: tuple[str, ...]
    log_analytics_scope: str
    kusto: tuple[str, ...]
    kusto_scope: str
    arm: str
    vault: str
    exchange_scope: str
    lake: tuple[str, ...] = ()
    lake_scope: str = ""

    @property
    def graph_scope(self) -> str:
        """The scope of Graph tokens. Raises ConfigError where there is no Graph hunting."""
        return f"https://{self.graph_host}/.default"

    @property
    def graph_host(self) -> str:
        """Graph's host. Raises ConfigError where advanced hunting is not served."""
        if self.graph is None:
            raise ConfigError(
                f"advanced hunting is not served by Graph in the cloud {self.name!r}",
                hint="use the backend log-analytics there",
            )
        return self.graph

    @property
    def arm_scope(self) -> str:
        """The scope of Azure Resource Manager's tokens."""
        return f"https://{self.arm}/.default"

    @property
    def hosts(self) -> frozenset[str]:
        """Hosts that may see this cloud's tokens."""
        graph = [self.graph] if self.graph else []
        return frozenset((*self.log_analytics, *graph, *self.kusto, *self.lake, self.arm))


CLOUDS = {
    cloud.name: cloud
    for cloud in (
        Cloud(
            "public", "login.microsoftonline.com", "graph.microsoft.com",
            ("api.loganalytics.azure.com", "api.loganalytics.io"),
            "https://api.loganalytics.io/.default",
            (".kusto.windows.net", ".kusto.fabric.microsoft.com", ".kusto.data.microsoft.com"),
            "https://kusto.kusto.windows.net/.default", "management.azure.com",
            "vault.azure.net", "api://AzureADTokenExchange/.default",
            ("api.securityplatform.microsoft.com", ".api.securityplatform.microsoft.com"),
            "4500ebfb-89b6-4b14-a480-7f749797bfcd/.default",
        ),
        Cloud(
            "usgov", "login.microsoftonline.us", "graph.microsoft.us",
            ("api.loganalytics.us",), "https://api.loganalytics.us/.default",
            (".kusto.usgovcloudapi.net",), "https://kusto.kusto.usgovcloudapi.net/.default",
            "management.usgovcloudapi.net",
            "vault.usgovcloudapi.net", "api://AzureADTokenExchangeUSGov/.default",
        ),
        Cloud(
            "usgov-dod", "login.microsoftonline.us", "dod-graph.microsoft.us",
            ("api.loganalytics.us",), "https://api.loganalytics.us/.default",
            (".kusto.usgovcloudapi.net",), "https://kusto.kusto.usgovcloudapi.net/.default",
            "management.usgovcloudapi.net",
            "vault.usgovcloudapi.net", "api://AzureADTokenExchangeUSGov/.default",
        ),
        Cloud(
            "china", "login.chinacloudapi.cn", None,
            ("api.loganalytics.azure.cn",), "https://api.loganalytics.azure.cn/.default",
            (".kusto.chinacloudapi.cn",), "https://kusto.kusto.chinacloudapi.cn/.default",
            "management.chinacloudapi.cn",
            "vault.azure.cn", "api://AzureADTokenExchangeChina/.default",
        ),
    )
}  # fmt: skip


def cloud_named(name: str) -> Cloud:
    """The cloud called ``name``. Raises ConfigError with the nearest name."""
    if name not in CLOUDS:
        raise ConfigError(
            f"no cloud named {name!r}", hint=nearest(name, CLOUDS) or ", ".join(CLOUDS)
        )
    return CLOUDS[name]


def is_loopback(host: str) -> bool:
    """Whether ``host`` is this machine, by name or address."""
    if host.casefold() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def is_one_of(host: str, hosts: Collection[str]) -> bool:
    """Whether ``hosts`` name the host, itself or with what is below a name with a dot."""
    return any(host == one or (one[:1] == "." and host.endswith(one)) for one in hosts)


def check_endpoint(url: str, hosts: Collection[str], trusted: Collection[str] = ()) -> str:
    """``url`` without a trailing slash, if a token may go there. Raises ConfigError."""
    parts = urlsplit(url)
    host = (parts.hostname or "").casefold()
    if parts.scheme not in ("https", "http") or not host or parts.username is not None:
        raise ConfigError(f"not an address of a service: {url!r}", hint="https://HOST[:PORT]")
    if is_loopback(host):
        return url.rstrip("/")
    if parts.scheme != "https":
        raise ConfigError(
            f"{url}: a token goes over https only", hint="plain http is for this machine alone"
        )
    if not is_one_of(host, hosts) and host not in {name.casefold() for name in trusted}:
        raise ConfigError(
            f"{host} is no host of this profile's cloud; no token is sent there",
            hint=f"if you trust it: --trust-host {host}",
        )
    return url.rstrip("/")
