"""Sentinel's scheduled rules and hunting queries, through Azure Resource Manager.

An update carries the etag that was read: a rule changed meanwhile is a conflict, never
overwritten. Whether a rule is on stays as it is there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from qakhunt.backends.clouds import cloud_named
from qakhunt.backends.rule_store import RestClient
from qakhunt.backends.services import Place, RuleService
from qakhunt.core.errors import ConfigError, UnansweredError
from qakhunt.hunts.rule_documents import (
    ALERT_RULES_VERSION,
    SAVED_SEARCHES_VERSION,
    SET_ONCE,
    alert_rule,
    saved_function,
    saved_search,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from qakhunt.backends.profile import Profile
    from qakhunt.backends.rule_store import RuleStore
    from qakhunt.backends.transport import Transport
    from qakhunt.hunts.rules import Rule

RULE, HUNT = "sentinel-rule", "sentinel-hunt"
_FUNCTION = "function"
_DOCUMENTS: dict[str, Callable[[Rule], dict[str, Any]]] = {
    RULE: alert_rule, HUNT: saved_search, _FUNCTION: saved_function,
}  # fmt: skip
REFUSED = {
    401: ("the sign-in is not accepted", "is the token for this cloud's Resource Manager?"),
    403: (
        "no permission on the workspace",
        "reading needs the role Microsoft Sentinel Reader on it, writing Microsoft Sentinel "
        "Contributor",
    ),
    404: (
        "no such workspace",
        "workspace_resources of the profile names its resource id; is Sentinel enabled on it?",
    ),
}


class SentinelStore:
    """Rules, hunting queries or the functions that they call, of one workspace."""

    def __init__(self, client: RestClient, resource: str, form: str) -> None:
        self.label = f"workspace {resource.rpartition('/')[2]}"
        self._client, self._resource = client, resource
        self._document, self._scheduled = _DOCUMENTS[form], form == RULE
        if self._scheduled:
            self._path = f"{resource}/providers/Microsoft.SecurityInsights/alertRules"
            self._version = f"?api-version={ALERT_RULES_VERSION}"
        else:
            self._path = f"{resource}/savedSearches"
            self._version = f"?api-version={SAVED_SEARCHES_VERSION}"

    def all(self) -> list[dict[str, Any]]:
        """Every rule of any kind, or every saved search."""
        return list(self._client.pages(self._path + self._version, "nextLink"))

    def get(self, identifier: str) -> dict[str, Any] | None:
        """The rule of that id. Raises where it is of a kind that qakhunt does not write."""
        found = self._client.send("GET", self._one(identifier), absent=True)
        if found is None:
            self._client.send("GET", self._path + self._version)  # is the workspace there?
            return None
        if not isinstance(found.get("properties"), dict):
            raise UnansweredError("the service answers in an unknown form: no properties")
        if self._scheduled and found.get("kind") != "Scheduled":
            raise UnansweredError(
                f"there is a rule of that id and the kind {found.get('kind')!r}",
                hint="give the hunt another id",
            )
        return found

    def wanted(self, rule: Rule) -> dict[str, Any]:
        """The properties."""
        return self._document(rule)

    def functions(self) -> SentinelStore:
        """The saved searches, for functions."""
        return SentinelStore(self._client, self._resource, _FUNCTION)

    def settings(self, there: Mapping[str, Any]) -> Mapping[str, Any]:
        """The properties."""
        properties: Mapping[str, Any] = there["properties"]
        return properties

    def put(self, rule: Rule, there: Mapping[str, Any] | None) -> None:
        """PUT it, over what is there or new."""
        properties = self.wanted(rule)
        body: dict[str, Any] = {"kind": "Scheduled"} if self._scheduled else {}
        if there is not None:
            properties = merged_properties(there, properties)
            body["etag"] = there.get("etag")
        body["properties"] = {name: one for name, one in properties.items() if one is not None}
        answer = self._client.send("PUT", self._one(rule.id), body) or {}
        written = answer.get("properties")
        query = written.get("query") if isinstance(written, dict) else None
        if not isinstance(query, str) or query.rstrip() != properties["query"].rstrip():
            raise UnansweredError(
                "it was written, but the service answers with another query",
                hint="'qakhunt deploy --diff' shows what is there",
            )

    def _one(self, identifier: str) -> str:
        return f"{self._path}/{quote(identifier, safe='')}{self._version}"


def merged_properties(there: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """What is written: ``wanted``, and what others set; not what the service sets itself."""
    kept = {k: v for k, v in there["properties"].items() if k != "lastModifiedUtc"}
    return {**kept, **{k: v for k, v in wanted.items() if k not in SET_ONCE or k not in kept}}


def place(profile: Profile) -> Place:
    """Resource Manager of the workspaces' cloud."""
    cloud = cloud_named(profile.log_analytics_cloud or profile.cloud)
    return Place("arm_endpoint", profile.arm_endpoint, (cloud.arm,), cloud.arm_scope)


def resources(profile: Profile) -> list[str]:
    """The resource id of each workspace. Raises ConfigError for one that has none."""
    known = {guid.casefold(): one for guid, one in profile.workspace_resources.items()}
    missing = [guid for guid in profile.workspaces if guid.casefold() not in known]
    if missing:
        raise ConfigError(
            f"workspace_resources: no resource id of the workspace {missing[0]}",
            hint='workspace_resources = { "GUID" = "/subscriptions/.../workspaces/NAME" }: it '
            "stands in the workspace's JSON view in the portal",
        )
    return [known[guid.casefold()].rstrip("/") for guid in profile.workspaces]


def _open(transport: Transport, profile: Profile, form: str) -> list[RuleStore]:
    client = RestClient(transport, "rules", REFUSED)
    return [SentinelStore(client, resource, form) for resource in resources(profile)]


RULES = RuleService(place, _open, (RULE, HUNT))
