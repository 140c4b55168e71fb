"""Sign-in of machines and jobs without a secret of their own.

A managed identity, also where its endpoint answers as older ones do; the federated
credential of a CI job; a secret that a Key Vault gives to a managed identity.
"""

from __future__ import annotations

import datetime as dt
import os
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from azure.core import PipelineClient
from azure.core.credentials import AccessTokenInfo
from azure.core.exceptions import AzureError, ClientAuthenticationError
from azure.core.pipeline.policies import (
    BearerTokenCredentialPolicy,
    ProxyPolicy,
    RetryPolicy,
    UserAgentPolicy,
)
from azure.core.rest import HttpRequest

from qakhunt.answers.cells import WireError, decode_body
from qakhunt.answers.response import decode_error
from qakhunt.backends.auth.errors import sign_in_error
from qakhunt.backends.clouds import CLOUDS, check_endpoint
from qakhunt.backends.connection_faults import causes
from qakhunt.core.errors import ConfigError, UnansweredError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from qakhunt.backends.auth.identity import Identity

_FORMS = ("%m/%d/%Y %H:%M:%S", "%m/%d/%Y %I:%M:%S %p", "%Y-%m-%dT%H:%M:%S")
_ZERO_OFFSET = re.compile(r"\s*(?:\+00:00|Z)$")
AUDIENCE = "api://AzureADTokenExchange"
_VAULT_VERSION = "7.4"


class ManagedIdentity:
    """A credential: system-assigned, or user-assigned by client id."""

    def __init__(self, client_id: str | None = None, **options: Any) -> None:
        from azure.identity import ManagedIdentityCredential

        self._client_id, self._options = client_id, options
        self._asker = ManagedIdentityCredential(client_id=client_id, **options)

    def get_token_info(self, *scopes: str, options: Any = None) -> AccessTokenInfo:
        """A token. Raises what azure-identity raises, or ClientAuthenticationError."""
        try:
            return self._asker.get_token_info(*scopes, options=options)  # type: ignore[no-any-return]
        except Exception as problem:
            if not any("invalid literal for int()" in str(one) for one in causes(problem)):
                raise
            return self._ask_again(scopes[0].removesuffix("/.default"))

    def __enter__(self) -> ManagedIdentity:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._asker.close()

    def _ask_again(self, resource: str) -> AccessTokenInfo:
        url, headers, query = _endpoint(os.environ, resource, self._client_id)
        with PipelineClient(url, **self._options) as client:
            response = client.send_request(
                HttpRequest("GET", url, headers=headers, params=query), stream=True
            )
            body = response.read()
        try:
            answer = decode_body(body).value
            return AccessTokenInfo(answer["access_token"], seconds_of(answer["expires_on"]))
        except (WireError, KeyError, TypeError, ValueError):
            raise ClientAuthenticationError(
                "the managed identity's endpoint gave no token that can be read"
            ) from None


def _endpoint(
    environment: Mapping[str, str], resource: str, client_id: str | None
) -> tuple[str, dict[str, str], dict[str, str]]:
    """Address, headers and query of the endpoint that the environment names."""
    query = {"resource": resource}
    if environment.get("IDENTITY_ENDPOINT") and environment.get("IDENTITY_HEADER"):
        query["api-version"] = "2019-08-01"
        if client_id:
            query["client_id"] = client_id
        headers = {"X-IDENTITY-HEADER": environment["IDENTITY_HEADER"], "Metadata": "true"}
        return environment["IDENTITY_ENDPOINT"], headers, query
    query["api-version"] = "2017-09-01"
    if client_id:
        query["clientid"] = client_id
    headers = {"secret": environment.get("MSI_SECRET", ""), "Metadata": "true"}
    return environment.get("MSI_ENDPOINT", ""), headers, query


def seconds_of(expires_on: Any) -> int:
    """Seconds since 1970 of an ``expires_on``: a number, its text, or a date in UTC."""
    text = str(expires_on).strip()
    if re.fullmatch(r"\d{1,12}(\.\d+)?", text):
        return int(float(text))
    plain = _ZERO_OFFSET.sub("", text)
    for form in _FORMS:
        try:
            moment = dt.datetime.strptime(plain, form)
        except ValueError:
            continue
        return int(moment.replace(tzinfo=dt.timezone.utc).timestamp())
    raise ValueError(f"not a time of expiry: {text!r}")


def assertion_source(identity: Identity) -> Callable[[], str]:
    """A function that fetches a fresh assertion: one lives about five minutes."""
    if identity.sign_in.assertion == "github":
        return lambda: _github(identity.connection_options)
    machine = ManagedIdentity(
        identity.sign_in.managed_identity_client_id, **identity.connection_options
    )
    scope = CLOUDS[identity.cloud].exchange_scope
    return lambda: machine.get_token_info(scope).token


def _github(options: dict[str, Any]) -> str:
    url = os.environ.get("ACTIONS_ID_TOKEN_REQUEST_URL", "")
    bearer = os.environ.get("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "")
    if not url or not bearer:
        raise ConfigError(
            "this is no GitHub job that may ask for a token",
            hint="permissions: id-token: write, in the workflow",
        )
    request = HttpRequest("GET", url, headers={"Authorization": f"Bearer {bearer}"})
    request.url += ("&" if "?" in url else "?") + f"audience={AUDIENCE}"
    try:
        client: Any = PipelineClient(url, **options)
        with client:
            body = client.send_request(request, stream=True).read()
        return str(decode_body(body).value["value"])
    except (AzureError, WireError, KeyError, TypeError):
        raise UnansweredError("GitHub gave no token for this job") from None


def read_secret(identity: Identity) -> str:
    """The secret that the identity's sign-in names.

    Raises ConfigError for a host that is no vault of the cloud, UnansweredError where
    the vault does not give it.
    """
    address = identity.sign_in.client_secret_vault or ""
    suffix = CLOUDS[identity.cloud].vault
    host = urlsplit(address).hostname or ""
    check_endpoint(address, {host} if host.endswith(f".{suffix}") else set())
    options = identity.connection_options
    machine = ManagedIdentity(identity.sign_in.managed_identity_client_id, **options)
    chain = [
        UserAgentPolicy("qakhunt"),
        ProxyPolicy(),
        RetryPolicy(retry_total=1),
        BearerTokenCredentialPolicy(machine, f"https://{suffix}/.default"),
    ]
    try:
        with PipelineClient(address, policies=chain, **options) as client:
            request = HttpRequest("GET", address, params={"api-version": _VAULT_VERSION})
            response = client.send_request(request, stream=True)
            body = response.read()
    except AzureError as problem:
        raise sign_in_error(
            problem, kind="managed-identity", tenant=identity.tenant, client=None, authority=host
        ) from None
    finally:
        machine.close()
    try:
        if response.status_code == 200:
            return str(decode_body(body).value["value"])
    except (WireError, KeyError, TypeError):
        pass
    error = decode_error(body)
    said = f": {error.codes[-1]}" if error and error.codes else ""
    raise UnansweredError(
        f"{host} does not give the secret (HTTP {response.status_code}{said})",
        hint="the managed identity needs 'Key Vault Secrets User' on it",
    )
