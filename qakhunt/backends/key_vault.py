"""A secret kept in a Key Vault, opened with the machine's managed identity."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from qakhunt.answers.json_body import WireError, decode_body
from qakhunt.answers.service_error import decode_error
from qakhunt.backends.clouds import check_endpoint
from qakhunt.errors import UnansweredError

if TYPE_CHECKING:
    from qakhunt.backends.auth import Identity

_SUFFIX = {
    "public": "vault.azure.net",
    "usgov": "vault.usgovcloudapi.net",
    "usgov-dod": "vault.usgovcloudapi.net",
    "china": "vault.azure.cn",
}
_VERSION = "7.4"


def read_secret(identity: Identity) -> str:
    """The secret that the identity's sign-in names.

    Raises ConfigError for a host that is no vault of the cloud, UnansweredError where
    the vault does not give it.
    """
    from azure.core import PipelineClient
    from azure.core.exceptions import AzureError
    from azure.core.pipeline.policies import (
        BearerTokenCredentialPolicy,
        ProxyPolicy,
        RetryPolicy,
        UserAgentPolicy,
    )
    from azure.core.rest import HttpRequest

    from qakhunt.backends.managed_identity import ManagedIdentity

    address = identity.sign_in.client_secret_vault or ""
    suffix = _SUFFIX[identity.cloud]
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
            request = HttpRequest("GET", address, params={"api-version": _VERSION})
            response = client.send_request(request, stream=True)
            body = response.read()
    except AzureError as problem:
        from qakhunt.backends.sign_in_errors import sign_in_error

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
