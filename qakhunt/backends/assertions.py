"""Who vouches for an app instead of a secret: a CI job or a managed identity.

An assertion lives about five minutes, so a fresh one is fetched for every token.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from qakhunt.answers.json_body import WireError, decode_body
from qakhunt.errors import ConfigError, UnansweredError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from qakhunt.backends.auth import Identity

AUDIENCE = "api://AzureADTokenExchange"


def assertion_source(identity: Identity, exchange: Mapping[str, str]) -> Callable[[], str]:
    """A function that fetches a fresh assertion. ``exchange`` gives each cloud's scope."""
    if identity.sign_in.assertion == "github":
        return lambda: _github(identity.connection_options)
    from qakhunt.backends.managed_identity import ManagedIdentity

    machine = ManagedIdentity(
        identity.sign_in.managed_identity_client_id, **identity.connection_options
    )
    scope = exchange[identity.cloud]
    return lambda: machine.get_token_info(scope).token


def _github(options: dict[str, Any]) -> str:
    from azure.core import PipelineClient
    from azure.core.exceptions import AzureError
    from azure.core.rest import HttpRequest

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
