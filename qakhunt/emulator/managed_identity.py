"""Tokens for machines: managed identity in its four forms, and the pipelines' assertions."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from qakhunt.emulator.replies import Reply, json_reply
from qakhunt.emulator.tokens import TOKEN_EXCHANGE, bearer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qakhunt.emulator.scenario import Tenant
    from qakhunt.emulator.tokens import Issuer

ASSERTION_SECONDS = 300
_NAMES = ("client_id", "clientid", "object_id", "mi_res_id", "msi_res_id", "principal_id")


def managed_identity(
    issuer: Issuer, home: Tenant, headers: Mapping[str, str], values: Mapping[str, str]
) -> Reply:
    """App Service and Automation, MSI_ENDPOINT with a secret or alone, and IMDS.

    A managed identity lives in one tenant: its tokens are always ``home``'s.
    """
    if not any(headers.get(name) for name in ("x-identity-header", "secret", "metadata")):
        return _fault(400, "a header X-IDENTITY-HEADER, secret or Metadata is needed")
    resource = values.get("resource", "")
    if not resource:
        return _fault(400, "the resource is missing")
    audience = resource.removesuffix("/.default").rstrip("/")
    identity = next((values[name] for name in _NAMES if values.get(name)), "system-assigned")
    oid = str(uuid.uuid5(uuid.UUID(home.id), identity))
    token = issuer.issue(
        home.id, audience, appid=identity, oid=oid, sub=oid, idtyp="app", roles=list(home.roles)
    )
    expires = int(issuer.clock.time() + issuer.lifetime)
    return json_reply({
        "access_token": token, "client_id": identity, "resource": resource,
        "token_type": "Bearer", "expires_on": str(expires),
        "expires_in": str(int(issuer.lifetime)), "not_before": str(int(issuer.clock.time())),
    })  # fmt: skip


def pipeline_assertion(
    issuer: Issuer, home: Tenant, headers: Mapping[str, str], values: Mapping[str, str], key: str
) -> Reply:
    """The assertion of a CI job: GitHub answers under ``value``, Azure Pipelines ``oidcToken``.

    It lives five minutes, as theirs do.
    """
    if not bearer(headers.get("authorization")):
        return _fault(401, "the job's own token is missing")
    audience = values.get("audience") or TOKEN_EXCHANGE
    expires = int(issuer.clock.time() + ASSERTION_SECONDS)
    subject = "repo:contoso/hunts:ref:refs/heads/main"
    return json_reply({key: issuer.issue(home.id, audience, sub=subject, exp=expires)})


def _fault(status: int, words: str) -> Reply:
    return json_reply({"statusCode": status, "message": words}, status)
