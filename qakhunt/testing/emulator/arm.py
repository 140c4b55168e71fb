"""Azure Resource Manager on loopback: what Sentinel keeps of a workspace.

Alert rules, saved searches, incidents with comments and relations, and bookmarks, in any
subscription and resource group; the workspace is called ``NAME-GUID``, as in Kusto. An
update needs the etag of what is there, else it is a conflict.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from qakhunt.hunts.rule_functions import functions_among
from qakhunt.kql.parser import parse
from qakhunt.kql.values import Timespan
from qakhunt.kql.visitors import sources
from qakhunt.testing.emulator.identity import Refusal
from qakhunt.testing.emulator.replies import Reply, json_reply
from qakhunt.testing.emulator.resources import (
    RefusedError,
    Resources,
    bad_request,
    check_query,
    duration,
    object_of,
    one_of,
    required,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qakhunt.testing.emulator.faults import Situation
    from qakhunt.testing.emulator.identity import Issuer
    from qakhunt.testing.emulator.queries import Asked, QueryServices
    from qakhunt.testing.emulator.scenario import Tenant, Workspace

AUDIENCES = (
    "https://management.azure.com", "https://management.core.windows.net",
    "https://management.usgovcloudapi.net", "https://management.core.usgovcloudapi.net",
    "https://management.chinacloudapi.cn", "https://management.core.chinacloudapi.cn",
)  # fmt: skip
READER, CONTRIBUTOR = "Microsoft Sentinel Reader", "Microsoft Sentinel Contributor"
SEVERITIES = ("High", "Medium", "Low", "Informational")
_INSIGHTS = "Microsoft.SecurityInsights"
_PATH = re.compile(
    r"(?P<workspace>/subscriptions/[^/]+/resourceGroups/(?P<group>[^/]+)"
    r"/providers/Microsoft\.OperationalInsights/workspaces/(?P<name>[^/]+))/"
    r"(?:providers/Microsoft\.SecurityInsights/)?"
    r"(?P<kind>alertRules|savedSearches|incidents|bookmarks)"
    r"(?:/(?P<id>[^/]+)(?:/(?P<below>comments|relations)(?:/(?P<second>[^/]+))?)?)?",
    re.IGNORECASE,
)
_LIST = re.compile(
    r"/subscriptions/[^/]+/providers/Microsoft\.OperationalInsights/workspaces", re.IGNORECASE
)
_ALIAS = re.compile(r"[A-Za-z][A-Za-z0-9_]*", re.ASCII)
_SHORTEST, _LONGEST = Timespan.parse("5m"), Timespan.parse("14d")
_SCHEDULED = (
    "displayName", "enabled", "query", "queryFrequency", "queryPeriod", "severity",
    "suppressionDuration", "suppressionEnabled", "triggerOperator", "triggerThreshold",
)  # fmt: skip


class ResourceManager:
    """What is kept of every workspace of the scenario."""

    def __init__(self, queries: QueryServices, issuer: Issuer) -> None:
        self._queries, self._issuer = queries, issuer
        self.kept = Resources()
        queries.functions = self._functions

    def _functions(self, workspace: str) -> dict[str, Mapping[str, Any]]:
        """The functions among a workspace's saved searches, by name."""
        return functions_among(self.kept.below(f"-{workspace}/savedSearches"))

    def target(self, path: str) -> tuple[Tenant, Workspace] | None:
        """The tenant and workspace that a path names."""
        match = _PATH.fullmatch(path)
        return self._queries.workspaces.get(match["name"][-36:].lower()) if match else None

    def answer(self, method: str, path: str, asked: Asked, at: Situation) -> Reply:
        """Any request below ``/subscriptions``. Raises RefusedError."""
        claims = self._issuer.judge(asked.headers.get("authorization"), AUDIENCES)
        if isinstance(claims, Refusal):
            code = "ExpiredAuthenticationToken" if "expired" in claims.kind else "InvalidToken"
            raise RefusedError(401, code, "The access token is missing, not valid or expired")
        if not asked.parameters.get("api-version"):
            raise RefusedError(
                400, "MissingApiVersionParameter",
                "The api-version query parameter (?api-version=) is required for all requests",
            )  # fmt: skip
        if _LIST.fullmatch(path):
            return self._workspaces(claims, path)
        match = _PATH.fullmatch(path)
        found = self.target(path)
        if match is None or found is None:
            name = match["name"] if match else path
            raise RefusedError(
                404, "ResourceNotFound",
                f"The Resource 'Microsoft.OperationalInsights/workspaces/{name}' was not found",
            )  # fmt: skip
        self._check_role(claims, found, writes=method != "GET")
        place = match["workspace"] + "/" + match["kind"]
        identifier = match["id"]
        if match["below"]:
            if self.kept.get(place, identifier) is None:
                raise _not_found(identifier)
            place, identifier = f"{place}/{match['id']}/{match['below']}", match["second"]
        if method == "GET":
            return self._read(place, identifier)
        if identifier is None:
            raise RefusedError(405, "MethodNotAllowed", f"{method} needs an id")
        if method == "DELETE":
            return Reply(200 if self.kept.remove(place, identifier) else 204)
        return self._write(match, place, identifier, object_of(asked.body), found, at)

    def _workspaces(self, claims: Mapping[str, Any], path: str) -> Reply:
        """The workspaces that the token may read, as every subscription lists them."""
        base = path.partition("/providers/")[0] + "/resourceGroups/emulated/providers"
        readable = [
            (f"{tenant.name or 'workspace'}-{workspace.id}", workspace.id)
            for tenant, workspace in self._queries.workspaces.values()
            if self._queries.may_read(claims, tenant, workspace)
        ]
        return json_reply({"value": [
            {"id": f"{base}/Microsoft.OperationalInsights/workspaces/{name}", "name": name,
             "properties": {"customerId": guid}}
            for name, guid in readable
        ]})  # fmt: skip

    def _check_role(
        self, claims: Mapping[str, Any], found: tuple[Tenant, Workspace], *, writes: bool
    ) -> None:
        # An app's token has roles; a person's has them as text, and names with blanks in them.
        granted = (*claims.get("roles", ()), str(claims.get("scp", "")))
        allowed = any(CONTRIBUTOR in one or (READER in one and not writes) for one in granted)
        if not self._queries.may_read(claims, *found) or (claims and not allowed):
            action = f"{_INSIGHTS}/alertRules/{'write' if writes else 'read'}"
            raise RefusedError(
                403, "AuthorizationFailed",
                f"The client does not have authorization to perform action '{action}'",
            )  # fmt: skip

    def _read(self, place: str, identifier: str | None) -> Reply:
        if identifier is None:
            return json_reply({"value": self.kept.all(place)})
        found = self.kept.get(place, identifier)
        if found is None:
            raise _not_found(identifier)
        return json_reply(found)

    def _write(
        self, match: re.Match[str], place: str, identifier: str, sent: dict[str, Any],
        found: tuple[Tenant, Workspace], at: Situation,
    ) -> Reply:  # fmt: skip
        properties = sent.get("properties")
        if not isinstance(properties, dict):
            raise bad_request("Required property 'properties' is missing")
        kind = (match["below"] or match["kind"]).lower()
        if kind == "alertrules":
            _check_rule(sent, properties)
            _check_sources(properties["query"])
            check_query(self._queries, properties["query"], *found, at)
        else:
            _CHECKS[kind](properties)
        middle = "" if kind == "savedsearches" else f"/providers/{_INSIGHTS}"
        tail = place[len(match["workspace"]) :]
        document = {
            "id": f"{match['workspace']}{middle}{tail}/{identifier}",
            "name": identifier,
            "type": f"{_INSIGHTS}/{match['kind']}",
            **({"kind": sent["kind"]} if "kind" in sent else {}),
            "properties": properties,
        }
        if kind == "alertrules":
            document["properties"] = {**properties, "lastModifiedUtc": str(self._queries.clock())}
        etag = sent.get("etag")
        if kind in ("bookmarks", "relations", "comments"):
            etag = etag or "*"  # the services let these be written over
        kept, new = self.kept.put(place, identifier, document, etag)
        return json_reply(kept, 201 if new else 200)


def _not_found(identifier: str) -> RefusedError:
    return RefusedError(404, "NotFound", f"Resource '{identifier}' was not found")


def _check_rule(sent: Mapping[str, Any], properties: Mapping[str, Any]) -> None:
    if sent.get("kind") != "Scheduled":
        raise bad_request(f"The emulator takes rules of the kind Scheduled, not {sent.get('kind')}")
    required(properties, *_SCHEDULED)
    one_of(properties, "severity", SEVERITIES)
    one_of(properties, "triggerOperator", ("GreaterThan", "LessThan", "Equal", "NotEqual"))
    every, back = (duration(properties, name) for name in ("queryFrequency", "queryPeriod"))
    for name, span in (("queryFrequency", every), ("queryPeriod", back)):
        if not _SHORTEST <= span <= _LONGEST:
            raise bad_request(f"{name} must be between 5 minutes and 14 days")
    if every > back:
        raise bad_request("queryFrequency must not be longer than queryPeriod")
    mappings = properties.get("entityMappings") or []
    if len(mappings) > 10 or any(len(one.get("fieldMappings") or ()) > 3 for one in mappings):
        raise bad_request("At most 10 entity mappings of at most 3 identifiers each")


def _check_sources(query: Any) -> None:
    for source in sources(parse(query)) if isinstance(query, str) else ():
        if source.kind == "everything" or (source.kind == "wildcard" and source.name == "*"):
            raise bad_request("The query can't contain 'search *' or 'union *'")


def _check_saved_search(properties: Mapping[str, Any]) -> None:
    required(properties, "category", "displayName", "query")
    alias = properties.get("functionAlias")
    if alias and not _ALIAS.fullmatch(str(alias)):
        raise bad_request(f"'{alias}' is no function name")


def _check_incident(properties: Mapping[str, Any]) -> None:
    required(properties, "title", "severity", "status")
    one_of(properties, "severity", SEVERITIES)
    one_of(properties, "status", ("New", "Active", "Closed"))


def _check_bookmark(properties: Mapping[str, Any]) -> None:
    required(properties, "displayName", "query")


def _check_comment(properties: Mapping[str, Any]) -> None:
    required(properties, "message")
    if len(properties["message"]) > 30_000:
        raise bad_request("A comment has at most 30000 characters")


def _check_relation(properties: Mapping[str, Any]) -> None:
    required(properties, "relatedResourceId")


_CHECKS = {
    "savedsearches": _check_saved_search, "incidents": _check_incident,
    "bookmarks": _check_bookmark, "comments": _check_comment, "relations": _check_relation,
}  # fmt: skip
