"""``qakhunt login``: a person signs in, once for all tenants."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from qakhunt.cli import options as o
from qakhunt.cli import profiles as p
from qakhunt.cli.analyst import CloudOption, analyst_identity
from qakhunt.core.errors import UsageError, nearest
from qakhunt.core.safe_text import for_terminal

if TYPE_CHECKING:
    from qakhunt.backends.auth.identity import Identity

app = o.new_app()

Tenant = Annotated[
    Optional[str],  # noqa: UP045 - typer reads it at run time on 3.10
    typer.Option("--tenant", metavar="ID", help="Sign in to this tenant; else to your own."),
]
ClientId = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--client-id", metavar="ID", help="Your app registration for people."),
]
Store = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--store", metavar="WHERE", help="Keep the sign-in encrypted, plain or in memory."
    ),
]


@app.command()
def login(
    tenant: Tenant = None,
    browser: Annotated[
        bool, typer.Option("--browser", help="Use this machine's browser, not a device code.")
    ] = False,
    client_id: ClientId = None,
    cloud: CloudOption = None,
    store: Store = None,
    config: p.ConfigPath = None,
    profile: p.ProfileNames = None,
    trust_host: p.TrustedHosts = None,
) -> None:
    """Sign in as an analyst. One sign-in serves every tenant that knows you."""
    from qakhunt.backends.auth.interactive import MEMORY, Analysts

    identity, scope = analyst_identity(
        config, profile, tenant=tenant, client_id=client_id, cloud=cloud, trusted=trust_host or ()
    )
    chosen = _store(store, identity)
    analysts = Analysts(identity, chosen)
    try:
        if browser:
            name = analysts.sign_in_by_browser(scope)
        else:
            name = analysts.sign_in_by_code(scope, _show)
    finally:
        analysts.close()
    print(f"signed in as {for_terminal(name)}")
    if chosen == MEMORY:
        print("kept in memory: the next command asks again", file=sys.stderr)


def _show(message: str) -> None:
    print(for_terminal(message), file=sys.stderr, flush=True)


def _store(wanted: str | None, identity: Identity) -> str | None:
    """Where to keep the sign-in; asks before it would be plain text."""
    from qakhunt.backends.auth.interactive import (
        ENCRYPTED,
        MEMORY,
        PLAIN,
        STORES,
        Analysts,
        encrypted_persistence,
    )

    if wanted is not None and wanted not in STORES:
        raise UsageError(
            f"no store named {wanted!r}", hint=nearest(wanted, STORES) or ", ".join(STORES)
        )
    if identity.cache is None or wanted in (PLAIN, MEMORY):
        return wanted
    if Analysts(identity).store == PLAIN and wanted is None:
        return PLAIN
    identity.cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    if encrypted_persistence(identity.cache) is not None:
        return ENCRYPTED
    if wanted == ENCRYPTED or not sys.stdin.isatty():
        raise UsageError(
            "this machine has no keyring to encrypt the sign-in with",
            hint="--store plain keeps it in a file that only you can read; --store memory does not",
        )
    print("This machine has no keyring to encrypt the sign-in with.", file=sys.stderr)
    agreed = typer.confirm(
        f"Keep it as plain text in {identity.cache}, readable by you alone?", err=True
    )
    return PLAIN if agreed else MEMORY
