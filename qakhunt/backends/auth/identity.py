"""Who signs in and where: the sign-in of the configuration, and what a credential is made of."""

from __future__ import annotations

import base64
import binascii
import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from qakhunt.backends.clouds import CLOUDS, check_endpoint
from qakhunt.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SignInKind = Literal[
    "default", "login", "azure-cli", "managed-identity", "client-secret", "client-certificate",
    "workload-identity", "federated", "none",
]  # fmt: skip
AssertionSource = Literal["github", "azure-pipelines", "managed-identity"]

_VariableName = Annotated[str | None, Meta(description="The name of an environment variable.")]


class SignIn(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """How to sign in. config.example.toml shows which keys a kind takes."""

    kind: Annotated[SignInKind, Meta(description="The way to sign in.")]
    client_id: Annotated[
        str | None, Meta(description="The app registration's or managed identity's client id.")
    ] = None
    client_secret_env: _VariableName = None
    client_secret_vault: Annotated[
        str | None, Meta(description="A Key Vault secret: https://VAULT/secrets/NAME")
    ] = None
    certificate_path: Annotated[
        str | None, Meta(description="A PEM or PFX file with the certificate and its key.")
    ] = None
    certificate_password_env: _VariableName = None
    token_file: Annotated[
        str | None, Meta(description="Where Kubernetes puts the workload's token.")
    ] = None
    assertion: Annotated[
        AssertionSource | None,
        Meta(description="Source of the app's federated credential, instead of a secret."),
    ] = None
    managed_identity_client_id: Annotated[
        str | None,
        Meta(description="The user-assigned managed identity for the credential or the vault."),
    ] = None
    service_connection_id: Annotated[
        str | None, Meta(description="The Azure Pipelines service connection.")
    ] = None
    system_access_token_env: _VariableName = None
    account: Annotated[
        str | None, Meta(description="Which signed-in account, as 'qakhunt accounts' lists it.")
    ] = None


@dataclass(frozen=True)
class Identity:
    """Who signs in, where: all that a credential is made of.

    ``authority`` is Entra ID's address, checked; ``cache`` is the folder of the
    analysts' sign-ins. ``ask`` shows a person what to do, where there is one.
    """

    sign_in: SignIn
    tenant: str
    authority: str
    cloud: str = "public"
    ca_file: str | None = None
    cache: Path | None = None
    ask: Callable[[str], None] | None = field(default=None, compare=False)

    @property
    def options(self) -> dict[str, Any]:
        """What each of azure-identity's credentials is given."""
        found = {"authority": self.authority, **self.connection_options}
        if not self.known_authority:
            found["disable_instance_discovery"] = True
        return found

    @property
    def connection_options(self) -> dict[str, Any]:
        """What azure-core's pipelines are given to reach any service of the profile."""
        found: dict[str, Any] = {"retry_total": 1}
        if self.ca_file:
            found["connection_verify"] = self.ca_file
        return found

    @property
    def known_authority(self) -> bool:
        """Whether Entra ID is asked at a host of the vendor's."""
        hosts = {cloud.authority for cloud in CLOUDS.values()}
        return urlsplit(self.authority).hostname in hosts


def checked_authority(url: str | None, cloud_authority: str, trusted: Any = ()) -> str:
    """Entra ID's address, if a secret may go there. Raises ConfigError."""
    if url is None:
        return f"https://{cloud_authority}"
    checked = check_endpoint(url, {cloud_authority}, trusted)
    if not checked.startswith("https://"):
        raise ConfigError(
            f"authority {url!r}: Entra ID is asked over https only",
            hint="start the emulator with --tls, or sign in as 'none'",
        )
    return checked


def secret_of(variable: str) -> str:
    """What an environment variable holds. Raises ConfigError, naming it, when it is empty."""
    value = os.environ.get(variable, "")
    if not value:
        raise ConfigError(
            f"the environment variable {variable} is not set", hint="it holds the sign-in's secret"
        )
    return value


def claims_of(token: str) -> dict[str, Any]:
    """The token's claims; empty where it is no JWT."""
    parts = token.split(".")
    if len(parts) != 3:
        return {}
    try:
        body = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
        value = json.loads(body)
    except (binascii.Error, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
