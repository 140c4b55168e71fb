"""Which person's sign-in ``login``, ``logout`` and ``accounts`` are about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Optional

import typer

from qakhunt.cli import profiles as p
from qakhunt.core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from qakhunt.backends.auth.identity import Identity

CloudOption = Annotated[
    Optional[str],  # noqa: UP045 - typer reads it at run time on 3.10
    typer.Option("--cloud", metavar="NAME", help="public, usgov, usgov-dod or china."),
]
OWN_TENANT = "organizations"


def analyst_identity(
    config: Path | None,
    profiles: list[str] | None,
    *,
    tenant: str | None = None,
    client_id: str | None = None,
    cloud: str | None = None,
    trusted: Collection[str] = (),
) -> tuple[Identity, str]:
    """Who signs in where, and the scope to ask for: a profile's, or the options' alone."""
    from qakhunt.backends.auth.identity import Identity, SignIn, checked_authority
    from qakhunt.backends.auth.interactive import cache_folder
    from qakhunt.backends.clouds import cloud_named
    from qakhunt.run.live import address_of

    if not profiles:
        place = cloud_named(cloud or "public")
        sign_in = SignIn(kind="login", client_id=client_id)
        authority = checked_authority(None, place.authority)
        identity = Identity(
            sign_in, tenant or OWN_TENANT, authority, place.name, None, cache_folder()
        )
        return identity, place.log_analytics_scope
    if len(profiles) > 1 or cloud is not None:
        raise UsageError("one --profile says which cloud and app", hint="--tenant alone may differ")
    file = p.read_config(config)
    settings = p.chosen_profiles(file, p.Choice(profiles))[0].profile
    service = address_of(settings, trusted)
    named = settings.sign_in_settings
    sign_in = SignIn(kind="login", client_id=client_id or named.client_id, account=named.account)
    identity = Identity(
        sign_in, tenant or settings.tenant, service.authority, settings.cloud, settings.ca_file,
        cache_folder(),
    )  # fmt: skip
    return identity, service.scope
