"""Custom detections on loopback: Graph beta's ``security/rules/detectionRules``.

The form of May 2026, as ``hunts.rule_documents`` writes it; ids are the client's.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from qakhunt.hunts.window import iso_length
from qakhunt.testing.emulator import identity
from qakhunt.testing.emulator.identity import Refusal
from qakhunt.testing.emulator.replies import Reply, error_reply, json_reply
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

    from qakhunt.answers.table import ResultTable
    from qakhunt.testing.emulator.faults import Situation
    from qakhunt.testing.emulator.identity import Issuer
    from qakhunt.testing.emulator.queries import Asked, QueryServices
    from qakhunt.testing.emulator.scenario import Tenant

PATH = "/beta/security/rules/detectionRules"
READ, WRITE = "CustomDetection.Read.All", "CustomDetection.ReadWrite.All"
PAGE = 100
_FREQUENCIES = ("PT0S", "PT1H", "PT3H", "PT12H", "P1D")
_SEVERITIES = ("informational", "low", "medium", "high")


class Detections:
    """The custom detections of every tenant of the scenario."""

    def __init__(self, queries: QueryServices, issuer: Issuer) -> None:
        self._queries, self._issuer = queries, issuer
        self.kept = Resources()

    def answer(self, method: str, identifier: str | None, asked: Asked, at: Situation) -> Reply:
        """Any request to the collection, or to one detection. Raises RefusedError."""
        claims = self._issuer.judge(asked.headers.get("authorization"), identity.GRAPH)
        if isinstance(claims, Refusal):
            return error_reply("graph", claims.kind, at.now)
        tenant = self._queries.tenant_of(claims)
        granted = {*claims.get("roles", ()), *str(claims.get("scp", "")).split()}
        needed = {WRITE} if method != "GET" else {READ, WRITE}
        if claims and not granted & needed:
            raise RefusedError(
                403, "Forbidden",
                f"The application does not have any of the required permissions: "
                f"{', '.join(sorted(needed))}.",
            )  # fmt: skip
        if identifier is None:
            if method == "GET":
                return self._page(tenant, asked.parameters)
            return self._create(tenant, object_of(asked.body), at)
        there = self.kept.get(tenant.id, identifier)
        if there is None:
            raise RefusedError(404, "NotFound", f"Detection rule '{identifier}' was not found.")
        if method == "GET":
            return json_reply(_shown(there))
        if method == "DELETE":
            self.kept.remove(tenant.id, identifier)
            return Reply(204)
        return self._update(tenant, there, object_of(asked.body), at)

    def _page(self, tenant: Tenant, parameters: Mapping[str, str]) -> Reply:
        top = min(int(parameters.get("$top", PAGE)), PAGE)
        skip = int(parameters.get("$skiptoken", 0))
        every = [_shown(one) for one in self.kept.all(tenant.id)]
        page: dict[str, Any] = {"value": every[skip : skip + top]}
        if skip + top < len(every):
            origin = f"{self._issuer.origin}{PATH}"
            page["@odata.nextLink"] = f"{origin}?$top={top}&$skiptoken={skip + top}"
        return json_reply(page)

    def _create(self, tenant: Tenant, sent: dict[str, Any], at: Situation) -> Reply:
        required(sent, "id", "displayName", "status", "queryCondition", "schedule")
        if self.kept.get(tenant.id, sent["id"]) is not None:
            raise RefusedError(409, "Conflict", f"A rule with the id '{sent['id']}' exists.")
        self._check(tenant, sent, at)
        kept, _ = self.kept.put(tenant.id, sent["id"], self._stamped(sent, {}))
        reply = json_reply(_shown(kept), 201)
        return reply.with_headers(location=f"{self._issuer.origin}{PATH}/{sent['id']}")

    def _update(
        self, tenant: Tenant, there: dict[str, Any], sent: dict[str, Any], at: Situation
    ) -> Reply:
        if sent.get("id", there["id"]) != there["id"]:
            raise bad_request("The property 'id' is read-only.")
        changed = {**there, **sent}
        self._check(tenant, changed, at)
        kept, _ = self.kept.put(tenant.id, there["id"], self._stamped(changed, there), "*")
        return json_reply(_shown(kept))

    def _stamped(self, document: dict[str, Any], there: Mapping[str, Any]) -> dict[str, Any]:
        now = str(self._queries.clock())
        return {
            "@odata.type": "#microsoft.graph.security.detectionRule",
            **document,
            "detectorId": there.get("detectorId") or str(uuid.uuid4()),
            "createdBy": "emulator", "createdDateTime": there.get("createdDateTime") or now,
            "lastModifiedBy": "emulator", "lastModifiedDateTime": now,
        }  # fmt: skip

    def _check(self, tenant: Tenant, rule: Mapping[str, Any], at: Situation) -> None:
        for name in ("isEnabled", "period"):
            if name in rule or name in rule["schedule"]:
                raise bad_request(f"The property '{name}' does not exist.")
        one_of(rule, "status", ("enabled", "disabled"))
        frequency = rule["schedule"].get("frequency")
        if frequency != "PT0S":
            frequency = iso_length(duration(rule["schedule"], "frequency"))
        one_of({"frequency": frequency}, "frequency", _FREQUENCIES)
        action = rule.get("detectionAction") or {}
        template = action.get("alertTemplate") or {}
        if "impactedAssets" in template or "mitreTechniques" in template:
            raise bad_request("'impactedAssets' and 'mitreTechniques' do not exist.")
        required(template, "title", "severity")
        one_of(template, "severity", _SEVERITIES)
        hosts = (template.get("entityMappings") or {}).get("hosts") or []
        needed = {one["deviceIdColumn"] for one in hosts if one.get("deviceIdColumn")}

        def columns(table: ResultTable) -> None:
            names = {column.name for column in table.columns}
            missing = sorted({"Timestamp", "ReportId", *needed} - names)
            if missing:
                raise bad_request(
                    f"The query's result has no column {', '.join(missing)}: a custom detection "
                    "needs Timestamp, ReportId and what identifies the impacted asset."
                )

        check_query(
            self._queries, rule["queryCondition"].get("queryText"), tenant, None, at, columns
        )


def _shown(kept: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in kept.items() if name != "etag"}
