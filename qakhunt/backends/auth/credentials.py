"""A credential for each kind of sign-in, and one token per audience, kept until it expires.

azure-identity and MSAL are loaded by the kind that needs them.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from azure.core.credentials import AccessToken, AccessTokenInfo

from qakhunt.backends.auth.errors import sign_in_error
from qakhunt.backends.auth.identity import Identity, secret_of
from qakhunt.core.errors import ConfigError, QakhuntError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

REFRESH_BEFORE = 300.0
"""Seconds before its end at which a token is fetched anew."""


class TokenSource:
    """A credential as azure-core takes it: fetches each audience's token once.

    Safe from several threads. Errors are UnansweredError, with a hint.
    """

    def __init__(
        self, identity: Identity, *, build: Callable[[Identity], Any] | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self._identity, self._wall = identity, wall
        self._build = build or credential
        self._credential: Any = None
        self._tokens: dict[tuple[str, ...], AccessTokenInfo] = {}
        self._lock = threading.Lock()

    def get_token_info(self, *scopes: str, options: Any = None) -> AccessTokenInfo:
        """The token for ``scopes``, from memory unless it ends soon or claims are asked for."""
        claims = (options or {}).get("claims")
        with self._lock:
            held = self._tokens.get(scopes)
            left = held.expires_on - self._wall() if held else 0.0
            if held and left > REFRESH_BEFORE and not claims:
                return held
            try:
                fetched = self._fetch(scopes, claims)
            except QakhuntError:
                if held and left > 60 and not claims:
                    return held
                raise
            self._tokens[scopes] = fetched
            return fetched

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        """As ``get_token_info``, for callers of the older protocol."""
        info = self.get_token_info(*scopes, options=options)
        return AccessToken(info.token, info.expires_on)

    def renew(self, authorization: str) -> None:
        """Forget the token that a service did not accept, so that a fresh one is fetched."""
        with self._lock:
            for scopes, held in list(self._tokens.items()):
                if authorization == f"Bearer {held.token}":
                    del self._tokens[scopes]
                    self._renew_credential()

    def close(self) -> None:
        """Close the connections; those of a sign-in that is under way end with the program."""
        if self._lock.acquire(blocking=False):
            try:
                self._close_credential()
            finally:
                self._lock.release()

    def _renew_credential(self) -> None:
        """The credential keeps the token in a cache of its own, so that one must go, too."""
        if hasattr(self._credential, "renew"):
            self._credential.renew()
        else:
            self._close_credential()

    def _close_credential(self) -> None:
        if hasattr(self._credential, "close"):
            self._credential.close()
        self._credential = None

    def _fetch(self, scopes: tuple[str, ...], claims: str | None) -> AccessTokenInfo:
        identity = self._identity
        options: dict[str, Any] = {"claims": claims} if claims else {}
        if identity.sign_in.kind == "default":
            options["tenant_id"] = identity.tenant
        try:
            if self._credential is None:
                self._credential = self._build(identity)
            return self._credential.get_token_info(*scopes, options=options)  # type: ignore[no-any-return]
        except QakhuntError:
            raise
        except Exception as problem:
            raise sign_in_error(
                problem, kind=identity.sign_in.kind, tenant=identity.tenant,
                client=identity.sign_in.client_id,
                authority=identity.authority.partition("://")[2],
            ) from None  # fmt: skip


def credential(identity: Identity) -> Any:
    """The credential of the identity's kind. Raises ConfigError where a part is missing."""
    return _BUILDERS[identity.sign_in.kind](identity)


def _default(identity: Identity) -> Any:
    from azure.identity import DefaultAzureCredential

    from qakhunt.backends.auth.interactive import InteractiveSignIns

    sign_ins = InteractiveSignIns(identity)
    try:
        if sign_ins.accounts():
            return _login(identity)
    finally:
        sign_ins.close()
    return DefaultAzureCredential(
        additionally_allowed_tenants=["*"], process_timeout=30, **identity.options
    )


def _login(identity: Identity) -> Any:
    from qakhunt.backends.auth.interactive import AnalystCredential

    return AnalystCredential(identity)


def _azure_cli(identity: Identity) -> Any:
    from azure.identity import AzureCliCredential

    return AzureCliCredential(tenant_id=identity.tenant, process_timeout=30)


def _managed_identity(identity: Identity) -> Any:
    from qakhunt.backends.auth.workload import ManagedIdentity

    return ManagedIdentity(identity.sign_in.client_id, **identity.connection_options)


def _client_secret(identity: Identity) -> Any:
    from azure.identity import ClientSecretCredential

    sign_in = identity.sign_in
    if sign_in.client_secret_env is not None:
        secret = secret_of(sign_in.client_secret_env)
    else:
        from qakhunt.backends.auth.workload import read_secret

        secret = read_secret(identity)
    return ClientSecretCredential(
        identity.tenant, sign_in.client_id or "", secret, **identity.options
    )


def _client_certificate(identity: Identity) -> Any:
    from azure.identity import CertificateCredential

    sign_in = identity.sign_in
    password = None
    if sign_in.certificate_password_env is not None:
        password = secret_of(sign_in.certificate_password_env)
    path = sign_in.certificate_path or ""
    try:
        return CertificateCredential(
            identity.tenant, sign_in.client_id or "", path, password=password, **identity.options
        )
    except OSError as problem:
        raise ConfigError(f"cannot read {path}: {problem.strerror}") from None
    except (ValueError, TypeError):
        raise ConfigError(
            f"{path}: no certificate with its private key, or its password is wrong",
            hint="PEM with certificate and key in one file, or PFX; certificate_password_env",
        ) from None


def _workload_identity(identity: Identity) -> Any:
    from azure.identity import WorkloadIdentityCredential

    sign_in = identity.sign_in
    return WorkloadIdentityCredential(
        tenant_id=identity.tenant, client_id=sign_in.client_id,
        token_file_path=sign_in.token_file, **identity.options,
    )  # fmt: skip


def _federated(identity: Identity) -> Any:
    sign_in = identity.sign_in
    if sign_in.assertion == "azure-pipelines":
        from azure.identity import AzurePipelinesCredential

        return AzurePipelinesCredential(
            tenant_id=identity.tenant, client_id=sign_in.client_id or "",
            service_connection_id=sign_in.service_connection_id or "",
            system_access_token=secret_of(sign_in.system_access_token_env or "SYSTEM_ACCESSTOKEN"),
            **identity.options,
        )  # fmt: skip
    from azure.identity import ClientAssertionCredential

    from qakhunt.backends.auth.workload import assertion_source

    return ClientAssertionCredential(
        identity.tenant, sign_in.client_id or "", assertion_source(identity),
        **identity.options,
    )  # fmt: skip


class _NoSignIn:
    """For services on this machine that let anyone in."""

    def get_token_info(self, *scopes: str, options: Any = None) -> AccessTokenInfo:
        return AccessTokenInfo("none", 2**40)


_BUILDERS: Mapping[str, Callable[[Identity], Any]] = {
    "default": _default,
    "login": _login,
    "azure-cli": _azure_cli,
    "managed-identity": _managed_identity,
    "client-secret": _client_secret,
    "client-certificate": _client_certificate,
    "workload-identity": _workload_identity,
    "federated": _federated,
    "none": lambda _identity: _NoSignIn(),
}
