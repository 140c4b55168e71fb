"""Who an unattended job is towards Azure, and where its secrets are found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qakhunt.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qakhunt.config_model import Schedule


def credential_of(settings: Schedule) -> Any:
    """What azure-core signs in with, by the configuration's ``[schedule]``."""
    from qakhunt.backends.auth.credentials import TokenSource
    from qakhunt.backends.auth.identity import Identity, checked_authority
    from qakhunt.backends.clouds import cloud_named

    authority = checked_authority(settings.authority, cloud_named(settings.cloud).authority)
    return TokenSource(
        Identity(
            settings.sign_in_settings, settings.tenant or "organizations", authority,
            settings.cloud, settings.ca_file,
        )
    )  # fmt: skip


def resolve_reference(text: str, environment: Mapping[str, str], settings: Schedule) -> str:
    """The value of ``env:NAME`` or ``vault:https://VAULT/secrets/NAME``.

    Raises ConfigError for a variable that is not set, UnansweredError where the vault
    does not give the secret.
    """
    kind, _, place = text.partition(":")
    if kind == "vault":
        return _from_vault(place, settings)
    value = environment.get(place)
    if not value:
        raise ConfigError(f"the environment variable {place} is not set")
    return value


def _from_vault(address: str, settings: Schedule) -> str:
    """Opened with the machine's managed identity."""
    from qakhunt.backends.auth.identity import Identity, SignIn
    from qakhunt.backends.auth.workload import read_secret

    machine = settings.sign_in_settings
    opener = machine.managed_identity_client_id or (
        machine.client_id if machine.kind == "managed-identity" else None
    )
    sign_in = SignIn(
        kind="client-secret", client_secret_vault=address, managed_identity_client_id=opener
    )
    return read_secret(
        Identity(sign_in, settings.tenant or "", "", settings.cloud, settings.ca_file)
    )
