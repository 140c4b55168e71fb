"""The pages that tell an operator what to do, filled with what this bundle needs."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from qakhunt.kql.values import Timespan
from qakhunt.schedule.runbook.script import PARAMETERS
from qakhunt.schedule.sinks.log_analytics import COLUMNS, STREAM, TABLE

if TYPE_CHECKING:
    from qakhunt.schedule.runbook.payload import Job, Payload

_GRAPH = """\
Graph permission, once, for the managed identity (PRINCIPAL is what `deploy.ps1` prints):

    Connect-MgGraph -Scopes AppRoleAssignment.ReadWrite.All, Application.Read.All
    $graph = Get-MgServicePrincipal -Filter "appId eq '00000003-0000-0000-c000-000000000000'"
    New-MgServicePrincipalAppRoleAssignment -ServicePrincipalId PRINCIPAL -PrincipalId PRINCIPAL `
        -ResourceId $graph.Id -AppRoleId dd98c7f5-2d42-42d3-a0e4-633161547251
"""
_FEDERATED = """\
Other tenants, for the profiles that sign in as `federated`: register a multi-tenant app in your
tenant with the application permission ThreatHunting.Read.All, add a federated credential to it
(issuer `https://login.microsoftonline.com/YOUR-TENANT/v2.0`, subject PRINCIPAL, audience
`api://AzureADTokenExchange`), and have each customer's administrator consent:
`https://login.microsoftonline.com/CUSTOMER-TENANT/adminconsent?client_id=APP`.
"""
_LIGHTHOUSE = """\
Workspaces of other tenants ({names}): the customer delegates the workspace's resource group
through Azure Lighthouse, with Log Analytics Data Reader
(`3b03c2da-16b3-4a49-8834-0f8130efdd3b`) for PRINCIPAL.
"""
_WORKSPACES = """\
Reading the workspaces:

    New-AzRoleAssignment -ObjectId PRINCIPAL -Scope WORKSPACE-RESOURCE-ID `
        -RoleDefinitionName 'Log Analytics Data Reader'
"""


def pages(payload: Payload, job: Job, manifest: dict[str, Any]) -> dict[str, str]:
    """File name -> text."""
    values = _values(payload, job, manifest)
    return {name: _filled(name, values) for name in ("STEPS.md", "main.bicep", "deploy.ps1")}


def _filled(name: str, values: dict[str, str]) -> str:
    text = (files("qakhunt.schedule.runbook") / "templates" / name).read_text(encoding="utf-8")
    for key, value in values.items():
        text = text.replace(f"@@{key}@@", value)
    return text


def _values(payload: Payload, job: Job, manifest: dict[str, Any]) -> dict[str, str]:
    state = job.state or "https://ACCOUNT.blob.core.windows.net/qakhunt/state.db"
    container, _, blob = urlsplit(state).path.strip("/").partition("/")
    kinds = [settings["kind"] for settings in payload.sinks.values()]
    size = sum(wheel["bytes"] for wheel in manifest["wheels"])
    every = Timespan.parse(job.every).seconds
    rule = next((s for s in payload.sinks.values() if s["kind"] == "log-analytics"), {})
    stream = rule.get("stream", STREAM)
    return {
        "VERSION": manifest["qakhunt"],
        "DATE": manifest["built_at"][:10],
        "COUNT": str(len(manifest["wheels"])),
        "MEGABYTES": f"{size / 1e6:.0f}",
        "HUNTS": ", ".join(payload.hunts),
        "PROFILES": ", ".join(job.profiles),
        "STATE": job.state or "no blob (each run reports everything anew)",
        "SINKS": ", ".join(payload.sinks) or "nobody",
        "DEADLINE": job.deadline,
        "CONTAINER": container,
        "BLOB": blob or "state.db",
        "HOURS": str(max(1, round(every / 3600))),
        "MAX_AGE": f"{round(every / 3600) + 2}h",
        "TABLE": stream.removeprefix("Custom-") if rule else TABLE,
        "STREAM": stream,
        "COLUMNS": _columns(),
        "WORKSPACE_ARGUMENT": " -FindingsWorkspace WORKSPACE" if "log-analytics" in kinds else "",
        "VAULT_ARGUMENT": " -KeyVaultName VAULT" if payload.vaults else "",
        "SECRETS": _secrets(payload),
        "ROLES": _roles(payload, kinds),
        "GRANTS": _grants(payload),
        "PARAMETERS": "\n".join(f"{n}. `{p.name}`: {p.help}" for n, p in enumerate(PARAMETERS, 1)),
    }


def _columns() -> str:
    return "\n".join(
        f"          {{\n            name: '{name}'\n            type: '{kind}'\n          }}"
        for name, kind in COLUMNS.items()
    )


def _secrets(payload: Payload) -> str:
    lines = []
    for name in payload.variables:
        lines.append(f"- an **encrypted Automation variable** named `{name}` (Variables > Add)")
    for address in payload.vaults:
        lines.append(f"- the Key Vault secret `{address}`, which the managed identity reads")
    return "\n".join(lines) or "This job needs none."


def _roles(payload: Payload, kinds: list[str]) -> str:
    rows = []
    if "log-analytics" in payload.products:
        rows.append("| Log Analytics | Log Analytics Data Reader | each workspace that is hunted |")
    if "defender" in payload.products:
        rows.append(
            "| advanced hunting | Graph `ThreatHunting.Read.All` (application) | the tenant |"
        )
    if "log-analytics" in kinds:
        rows.append(
            "| the findings' table | Monitoring Metrics Publisher | the data collection rule |"
        )
    if "blob" in kinds:
        rows.append("| findings as blobs | Storage Blob Data Contributor | that container |")
    if payload.vaults:
        rows.append("| secrets | Key Vault Secrets User | those secrets |")
    return "\n".join(rows)


def _grants(payload: Payload) -> str:
    parts = []
    if "log-analytics" in payload.products:
        parts.append(_WORKSPACES)
    if payload.lighthouse:
        parts.append(_LIGHTHOUSE.format(names=", ".join(payload.lighthouse)))
    if "defender" in payload.products:
        parts.append(_GRAPH)
    if '"federated"' in payload.config:
        parts.append(_FEDERATED)
    return "\n".join(parts)
