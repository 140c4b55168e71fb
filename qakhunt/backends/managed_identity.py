"""A managed identity, also where its endpoint answers as older ones do.

azure-identity asks first. Some endpoints of Azure Automation and hybrid workers give
``expires_on`` as a date, which it cannot read; those are asked here once more.
"""

from __future__ import annotations

import datetime as dt
import os
import re
from typing import TYPE_CHECKING, Any

from azure.core import PipelineClient
from azure.core.credentials import AccessTokenInfo
from azure.core.exceptions import ClientAuthenticationError
from azure.core.rest import HttpRequest

from qakhunt.answers.json_body import WireError, decode_body

if TYPE_CHECKING:
    from collections.abc import Mapping

_FORMS = ("%m/%d/%Y %H:%M:%S", "%m/%d/%Y %I:%M:%S %p", "%Y-%m-%dT%H:%M:%S")
_ZERO_OFFSET = re.compile(r"\s*(?:\+00:00|Z)$")


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
            if not _is_of_the_expiry(problem):
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


def _is_of_the_expiry(problem: BaseException) -> bool:
    cause: BaseException | None = problem
    while cause is not None:
        if isinstance(cause, ValueError) and "invalid literal for int()" in str(cause):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


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
