"""Entra ID's endpoints: discovery, keys, tokens, device codes, the sign-in page."""

from __future__ import annotations

import base64
import json
import secrets
import threading
import uuid
from html import escape
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from qakhunt.emulator.aadsts import aadsts_reply
from qakhunt.emulator.replies import Reply, json_reply
from qakhunt.emulator.tokens import audience_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qakhunt.emulator.scenario import Scenario, Tenant
    from qakhunt.emulator.tokens import Issuer

ANY_TENANT = frozenset({"common", "organizations", "consumers"})
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"


class Entra:
    """Signs in every app and person of the scenario, in every tenant of it."""

    def __init__(self, scenario: Scenario, issuer: Issuer) -> None:
        self._scenario = scenario
        self._issuer = issuer
        self._apps = {app.client_id.lower(): app for app in scenario.apps}
        self._tenants = {tenant.id.lower(): tenant for tenant in scenario.tenants}
        self._home = scenario.tenants[0]
        self._codes: dict[str, Mapping[str, str]] = {}
        self._lock = threading.Lock()

    def tenant(self, name: str) -> Tenant | None:
        """The tenant of a URL; ``common`` and its like are the first one."""
        if name.lower() in ANY_TENANT:
            return self._home
        by_name = {t.name.lower(): t for t in self._scenario.tenants if t.name}
        return self._tenants.get(name.lower()) or by_name.get(name.lower())

    def configuration(self, name: str) -> Reply:
        """OpenID configuration of a tenant."""
        tenant = self.tenant(name)
        if tenant is None:
            return aadsts_reply("AADSTS90002", self._issuer.clock.time())
        base = f"{self._issuer.origin}/{name}"
        oauth = f"{base}/oauth2/v2.0"
        issuer = "{tenantid}" if name.lower() in ANY_TENANT else tenant.id
        return json_reply({
            "token_endpoint": f"{oauth}/token",
            "authorization_endpoint": f"{oauth}/authorize",
            "device_authorization_endpoint": f"{oauth}/devicecode",
            "end_session_endpoint": f"{oauth}/logout",
            "jwks_uri": f"{base}/discovery/v2.0/keys",
            "issuer": f"{self._issuer.origin}/{issuer}/v2.0",
            "token_endpoint_auth_methods_supported": [
                "client_secret_post", "private_key_jwt", "client_secret_basic"],
            "response_modes_supported": ["query", "fragment", "form_post"],
            "response_types_supported": ["code", "id_token", "code id_token"],
            "scopes_supported": ["openid", "profile", "email", "offline_access"],
            "subject_types_supported": ["pairwise"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "claims_supported": ["sub", "iss", "aud", "exp", "iat", "tid", "oid"],
            "tenant_region_scope": "WW",
        })  # fmt: skip

    def instance(self, authorization_endpoint: str) -> Reply:
        """Instance discovery: every host is this one."""
        host = self._issuer.origin.partition("://")[2]
        tenant = authorization_endpoint.partition("://")[2].partition("/")[2].partition("/")[0]
        url = f"{self._issuer.origin}/{tenant or 'common'}/v2.0/.well-known/openid-configuration"
        return json_reply({
            "tenant_discovery_endpoint": url,
            "api-version": "1.1",
            "metadata": [
                {"preferred_network": host, "preferred_cache": host, "aliases": [host]}],
        })  # fmt: skip

    def device_code(self, tenant: Tenant, form: Mapping[str, str]) -> Reply:
        """A device code, confirmed as soon as it is asked for."""
        code = secrets.token_urlsafe(32)
        with self._lock:
            self._codes[code] = {"scope": form.get("scope", ""), "tenant": tenant.id}
        user_code = secrets.token_hex(4).upper()
        page = f"{self._issuer.origin}/device"
        return json_reply({
            "device_code": code, "user_code": user_code, "verification_uri": page,
            "expires_in": 900, "interval": 1,
            "message": f"To sign in, open the page {page} and enter the code {user_code}.",
        })  # fmt: skip

    def authorize(self, tenant: Tenant, query: Mapping[str, str]) -> Reply:
        """The sign-in page of a browser: signs in at once and goes back."""
        code = secrets.token_urlsafe(32)
        with self._lock:
            self._codes[code] = {
                "scope": query.get("scope", ""), "tenant": tenant.id,
                "nonce": query.get("nonce", ""),
            }  # fmt: skip
        target = query.get("redirect_uri", "")
        answer = {"code": code, "state": query.get("state", "")}
        if query.get("response_mode") == "form_post":
            fields = "".join(
                f'<input type="hidden" name="{name}" value="{escape(value)}">'
                for name, value in answer.items()
            )
            page = (
                f'<form method="post" action="{escape(target)}">{fields}</form>'
                "<script>document.forms[0].submit()</script>"
            )
            return Reply(200, page.encode(), {"content-type": "text/html; charset=utf-8"})
        return Reply(302, b"", {"location": f"{target}?{urlencode(answer)}"})

    def token(self, tenant: Tenant, form: Mapping[str, str]) -> Reply:
        """The token endpoint."""
        grant = form.get("grant_type", "")
        refused = self._refused_app(form)
        if refused:
            return self._refuse(refused)
        if grant == "client_credentials":
            return self._app_token(tenant, form)
        if grant in ("authorization_code", DEVICE_CODE):
            with self._lock:
                known = self._codes.pop(form.get("code") or form.get("device_code", ""), None)
            if known is None:
                return self._refuse("AADSTS70008")
            return self._user_token(tenant, {**known, **form, "scope": known["scope"]})
        if grant == "refresh_token":
            claims = self._issuer.read(form.get("refresh_token", ""))
            if claims is None or claims["aud"] != "refresh":
                return self._refuse("AADSTS70008")
            return self._user_token(tenant, form)
        return self._refuse("AADSTS50058")

    def _refuse(self, code: str) -> Reply:
        return aadsts_reply(code, self._issuer.clock.time())

    def _refused_app(self, form: Mapping[str, str]) -> str | None:
        """The AADSTS code for an app or proof that is not good, or None."""
        app = self._apps.get(form.get("client_id", "").lower())
        if self._apps and app is None:
            return "AADSTS700016"
        assertion = form.get("client_assertion")
        if assertion is not None:
            return self._refused_assertion(assertion)
        if form.get("grant_type") != "client_credentials":
            return None
        secret = form.get("client_secret", "")
        wrong = app is not None and app.secret is not None and secret != app.secret
        return "AADSTS7000215" if wrong or not secret else None

    def _refused_assertion(self, assertion: str) -> str | None:
        """An assertion of ours must be of our key; any must be a JWT that is not too old."""
        import jwt

        try:
            claims = jwt.decode(assertion, options={"verify_signature": False})
        except jwt.PyJWTError:
            return "AADSTS700027"
        ours = str(claims.get("iss", "")).startswith(self._issuer.origin)
        if ours and self._issuer.read(assertion) is None:
            return "AADSTS700027"
        if float(claims.get("exp", 0)) <= self._issuer.clock.time():
            return "AADSTS700024"
        return None

    def _app_token(self, tenant: Tenant, form: Mapping[str, str]) -> Reply:
        audience, _ = audience_of(form.get("scope", "").split())
        if not audience:
            return self._refuse("AADSTS500011")
        client = form.get("client_id", "")
        oid = str(uuid.uuid5(uuid.UUID(tenant.id), client))
        token = self._issuer.issue(
            tenant.id, audience, appid=client, azp=client, oid=oid, sub=oid,
            idtyp="app", roles=list(tenant.roles),
        )  # fmt: skip
        return json_reply(self._bearer(token))

    def _user_token(self, tenant: Tenant, form: Mapping[str, str]) -> Reply:
        scopes = form.get("scope", "").split()
        audience, permissions = audience_of(scopes)
        client, account = form.get("client_id", ""), self._scenario.account
        oid = str(uuid.uuid5(uuid.UUID(self._home.id), account))
        person = {"oid": oid, "sub": oid, "preferred_username": account, "name": account}
        token = self._issuer.issue(
            tenant.id, audience or GRAPH_DEFAULT, appid=client, azp=client,
            scp=permissions or " ".join(tenant.roles), idtyp="user", **person,
        )  # fmt: skip
        refresh = self._issuer.issue(self._home.id, "refresh", **person)
        id_token = self._issuer.issue(tenant.id, client, nonce=form.get("nonce", ""), **person)
        client_info = json.dumps({"uid": oid, "utid": self._home.id}).encode()
        return json_reply({
            **self._bearer(token),
            "scope": " ".join(s for s in scopes if "/" in s) or f"{GRAPH_DEFAULT}/.default",
            "refresh_token": refresh,
            "id_token": id_token,
            "client_info": base64.urlsafe_b64encode(client_info).rstrip(b"=").decode(),
        })  # fmt: skip

    def _bearer(self, token: str) -> dict[str, Any]:
        lifetime = int(self._issuer.lifetime)
        return {
            "token_type": "Bearer", "expires_in": lifetime, "ext_expires_in": lifetime,
            "access_token": token,
        }  # fmt: skip


GRAPH_DEFAULT = "https://graph.microsoft.com"
