"""Azure by URL: who signs in, which blobs are taken, and what the services say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from qakhunt.backends.clouds import cloud_named, is_loopback
from qakhunt.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from qakhunt.run.config import Schedule

BLOCK_BYTES = 4 * 1024 * 1024
"""How much of a blob is in memory at once while it is sent."""


def credential_of(settings: Schedule) -> Any:
    """What azure-core signs in with, by the configuration's ``[schedule]``."""
    from qakhunt.backends.auth.credentials import TokenSource
    from qakhunt.backends.auth.identity import Identity, checked_authority

    authority = checked_authority(settings.authority, cloud_named(settings.cloud).authority)
    return TokenSource(
        Identity(
            settings.sign_in_settings, settings.tenant or "organizations", authority,
            settings.cloud, settings.ca_file,
        )
    )  # fmt: skip


def is_blob_url(text: str) -> bool:
    """Whether the text is an address rather than a path."""
    return text.startswith(("https://", "http://"))


def check_blob_url(url: str, what: str) -> str:
    """The URL of a container or blob, without a signature in it."""
    parts = urlsplit(url)
    if parts.query:
        raise ConfigError(
            f"{what}: a signature does not stand in the address",
            hint="put it into AZURE_STORAGE_SAS_TOKEN, or sign in with an identity",
        )
    if parts.scheme not in ("https", "http") or not parts.hostname or not parts.path.strip("/"):
        raise ConfigError(
            f"{what}: {url!r} is not the address of a blob or container",
            hint="such as https://ACCOUNT.blob.core.windows.net/CONTAINER",
        )
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ConfigError(f"{what}: blobs do not travel over plain http")
    return url


def blob_client(
    url: str, environment: Mapping[str, str], credential: Callable[[], Any] | None,
    verify: str | bool = True, *, retries: int = 0,
) -> Any:  # fmt: skip
    """A client of one blob; ``retries`` are the package's own, a second apart and more.

    Signs in with AZURE_STORAGE_KEY or AZURE_STORAGE_SAS_TOKEN where set, else with
    the identity of ``credential``.
    """
    try:
        from azure.storage.blob import BlobClient, ExponentialRetry
    except ImportError:
        raise ConfigError(
            "Azure blobs need the package azure-storage-blob", hint="install qakhunt[blob]"
        ) from None
    secret: Any = environment.get("AZURE_STORAGE_KEY") or environment.get("AZURE_STORAGE_SAS_TOKEN")
    if not secret:
        if credential is None:
            raise ConfigError("no sign-in for the blob service", hint="name an identity")
        secret = credential()
    elif environment.get("AZURE_STORAGE_KEY"):
        secret = {"account_name": _account(url), "account_key": secret}
    return BlobClient.from_blob_url(
        url, credential=secret, connection_verify=verify, connection_timeout=10, read_timeout=60,
        retry_policy=ExponentialRetry(initial_backoff=1, increment_base=2, retry_total=retries),
        max_single_put_size=BLOCK_BYTES, max_block_size=BLOCK_BYTES,
    )  # fmt: skip


def error_code(problem: Any) -> str:
    """The service's own word for what failed, or nothing."""
    code = getattr(problem, "error_code", None) or getattr(problem.error, "code", None) or ""
    return str(getattr(code, "value", code))


def _account(url: str) -> str:
    parts = urlsplit(url)
    if is_loopback(parts.hostname or ""):
        return parts.path.strip("/").split("/")[0]
    return str(parts.hostname).split(".")[0]
