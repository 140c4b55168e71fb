"""Identity: tokens made, signed, read back and revoked, and who gives them out.

Entra ID's endpoints with their errors, managed identity in its four forms, and the
assertions of CI jobs.
"""

from __future__ import annotations

import base64
import json
import secrets
import threading
import uuid
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from qakhunt.testing.emulator.replies import Reply, aadsts_reply, json_reply

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from qakhunt.testing.emulator.clock import Clock
    from qakhunt.testing.emulator.scenario import Scenario, Tenant

LOG_ANALYTICS = (
    "https://api.loganalytics.io", "https://api.loganalytics.azure.com",
    "https://api.loganalytics.us", "https://api.loganalytics.azure.cn",
)  # fmt: skip
GRAPH = (
    "https://graph.microsoft.com", "https://graph.microsoft.us",
    "https://dod-graph.microsoft.us", "00000003-0000-0000-c000-000000000000",
)  # fmt: skip
INGESTION = ("https://monitor.azure.com", "https://monitor.azure.us", "https://monitor.azure.cn")
TOKEN_EXCHANGE = "api://AzureADTokenExchange"  # noqa: S105 - an audience
ANY_TENANT = frozenset({"common", "organizations", "consumers"})
DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"
ASSERTION_SECONDS = 300
_NAMES = ("client_id", "clientid", "object_id", "mi_res_id", "msi_res_id", "principal_id")


@dataclass(frozen=True)
class Refusal:
    """Why a token is not let in: ``unauthorized``, ``token-expired`` or ``forbidden``."""

    kind: str


@dataclass
class Issuer:
    """Signs tokens with a key of its own and judges those that come back.

    ``origin`` is the emulator's own address, an audience of every service too.
    """

    clock: Clock
    lifetime: float
    any_token: bool
    origin: str = ""
    _revoked: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        from cryptography.hazmat.primitives.asymmetric import rsa

        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.key_id = uuid.uuid4().hex

    def issue(self, tenant: str, audience: str, **claims: Any) -> str:
        """A signed token for ``audience`` in ``tenant``, good for the scenario's time."""
        now = self.clock.time()
        body = {
            "aud": audience, "iss": f"{self.origin}/{tenant}/v2.0", "tid": tenant,
            "iat": int(now), "nbf": int(now), "exp": int(now + self.lifetime),
            "uti": uuid.uuid4().hex, "ver": "2.0", **claims,
        }  # fmt: skip
        return self._sign(body)

    def _sign(self, body: dict[str, Any]) -> str:
        import jwt

        return jwt.encode(body, self._key, algorithm="RS256", headers={"kid": self.key_id})

    def read(self, token: str) -> dict[str, Any] | None:
        """The claims of a token of ours, whether or not it is still good; else None."""
        import jwt

        try:
            return jwt.decode(
                token, self._key.public_key(), algorithms=["RS256"],
                options={"verify_exp": False, "verify_aud": False, "verify_iat": False,
                         "verify_nbf": False},
            )  # fmt: skip
        except jwt.PyJWTError:
            return None

    def revoke(self, authorization: str | None) -> None:
        """Let this bearer token in no more."""
        with self._lock:
            self._revoked.add(bearer(authorization))

    def judge(
        self, authorization: str | None, audiences: Collection[str]
    ) -> dict[str, Any] | Refusal:
        """The claims of a request's token, empty for a foreign one that is let in."""
        token = bearer(authorization)
        if not token:
            return Refusal("unauthorized")
        with self._lock:
            if token in self._revoked:
                return Refusal("token-expired")
        claims = self.read(token)
        if claims is None:
            return {} if self.any_token else Refusal("unauthorized")
        if claims["exp"] <= self.clock.time():
            return Refusal("token-expired")
        if not self.any_token and str(claims["aud"]).rstrip("/") not in {*audiences, self.origin}:
            return Refusal("unauthorized")
        return claims

    def identity(self, authorization: str | None) -> str:
        """Who a token stands for, across tenants; of a foreign token, the token itself."""
        token = bearer(authorization)
        claims = self.read(token) or {}
        names = ("preferred_username", "oid") if claims.get("idtyp") == "user" else ("appid",)
        return next((str(claims[name]) for name in names if claims.get(name)), token)

    def keys(self) -> dict[str, Any]:
        """The public key as a JSON Web Key Set."""
        from jwt.algorithms import RSAAlgorithm

        key = RSAAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        return {"keys": [{**key, "use": "sig", "kid": self.key_id, "alg": "RS256"}]}


def bearer(authorization: str | None) -> str:
    """The token of an Authorization header; empty where there is none."""
    scheme, _, token = (authorization or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def audience_of(scopes: Sequence[str]) -> tuple[str, str]:
    """The audience and the permissions of OAuth scopes such as ``https://host/.default``."""
    audience, names = "", []
    for scope in scopes:
        host, slash, name = scope.rpartition("/")
        if slash and host:
            audience = host.rstrip("/")
            names.append(name)
    return audience, " ".join(name for name in names if name != ".default")


# Entra ID


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

    def configuration(self, tenant: Tenant, values: Mapping[str, str]) -> Reply:
        """OpenID configuration of a tenant, under the name that it was asked by."""
        name = values["tenant"]
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
            tenant.id, audience or GRAPH[0], appid=client, azp=client,
            scp=permissions or " ".join(tenant.roles), idtyp="user", **person,
        )  # fmt: skip
        refresh = self._issuer.issue(self._home.id, "refresh", **person)
        id_token = self._issuer.issue(tenant.id, client, nonce=form.get("nonce", ""), **person)
        client_info = json.dumps({"uid": oid, "utid": self._home.id}).encode()
        return json_reply({
            **self._bearer(token),
            "scope": " ".join(s for s in scopes if "/" in s) or f"{GRAPH[0]}/.default",
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


# Machines and pipelines


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
