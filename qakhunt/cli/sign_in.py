"""``qakhunt login``, ``logout`` and ``accounts``: the sign-ins of people on this machine."""

from __future__ import annotations

import sys
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from qakhunt.cli import complete
from qakhunt.cli import options as o
from qakhunt.cli.options import Panel
from qakhunt.cli.output import print_json, print_lines
from qakhunt.core.errors import UsageError, nearest
from qakhunt.core.safe_text import for_terminal
from qakhunt.run.config import read_config
from qakhunt.run.source import Choice, chosen_profiles

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from qakhunt.backends.auth.identity import Identity
    from qakhunt.backends.auth.interactive import InteractiveSignIns

OWN_TENANT = "organizations"
CloudOption = Annotated[
    o.Text,
    Panel.sign_in(
        "--cloud", metavar="NAME", help="public, usgov, usgov-dod or china.",
        autocompletion=complete.clouds,
    ),
]  # fmt: skip


def login(
    tenant: Annotated[
        o.Text,
        Panel.sign_in(
            "--tenant", metavar="ID", help="Tenant to sign in to; your own by default."
        ),
    ] = None,
    browser: Annotated[
        bool, Panel.sign_in("--browser", help="Use this machine's browser, not a device code.")
    ] = False,
    client_id: Annotated[
        o.Text, Panel.sign_in("--client-id", metavar="ID", help="App registration to sign in with.")
    ] = None,
    cloud: CloudOption = None,
    store: Annotated[
        o.Text,
        Panel.sign_in(
            "--store", metavar="WHERE", help="Keep the sign-in encrypted, plain or in memory.",
            autocompletion=complete.one_of("encrypted", "plain", "memory"),
        ),
    ] = None,
    profile: o.ProfileNames = None,
    config: o.ConfigPath = None,
    trust_host: o.TrustedHosts = None,
) -> None:  # fmt: skip
    """Sign in as an analyst. One sign-in serves every tenant that knows you."""
    from qakhunt.backends.auth.interactive import MEMORY, InteractiveSignIns

    identity, scope = _identity(
        config, profile, tenant=tenant, client_id=client_id, cloud=cloud, trusted=trust_host or ()
    )
    chosen = _store(store, identity)
    with closing(InteractiveSignIns(identity, chosen)) as sign_ins:
        if browser:
            name = sign_ins.sign_in_by_browser(scope)
        else:
            name = sign_ins.sign_in_by_code(scope, _show)
    print(f"signed in as {for_terminal(name)}")
    if chosen == MEMORY:
        print("kept in memory: the next command asks again", file=sys.stderr)


def accounts(
    cloud: CloudOption = None,
    profile: o.ProfileNames = None,
    config: o.ConfigPath = None,
    trust_host: o.TrustedHosts = None,
    as_json: o.AsJson = False,
) -> None:
    """List the analysts who are signed in on this machine; in every cloud by default."""
    with closing(_kept(config, profile, cloud, trust_host)) as sign_ins:
        found = sign_ins.accounts()
        if as_json:
            listed = [{"account": one.name, "tenant": one.tenant} for one in found]
            print_json({"store": sign_ins.store, "accounts": listed})
            return
    for one in found:
        authority = "" if one.authority == "login.microsoftonline.com" else f", {one.authority}"
        print_lines([f"{one.name}  (home tenant {one.tenant}{authority})"])
    if not found:
        print("nobody is signed in; 'qakhunt login' signs you in", file=sys.stderr)


def logout(
    account: Annotated[
        o.Text, typer.Argument(metavar="[ACCOUNT]", help="Account to sign out; all by default.")
    ] = None,
    cloud: CloudOption = None,
    profile: o.ProfileNames = None,
    config: o.ConfigPath = None,
    trust_host: o.TrustedHosts = None,
) -> None:
    """Remove sign-ins from this machine; of every cloud by default. Works offline.

    The tokens are removed here. Entra ID keeps the session until it expires or an
    administrator revokes it.
    """
    with closing(_kept(config, profile, cloud, trust_host)) as sign_ins:
        gone = sign_ins.sign_out(account)
    if account is not None and not gone:
        raise UsageError(f"{account} is not signed in", hint="'qakhunt accounts' lists who is")
    print_lines(f"signed out {name}" for name in gone)
    if gone:
        print(
            "note: removed from this machine; Entra ID keeps its session until it expires or is "
            "revoked",
            file=sys.stderr,
        )
    else:
        print("nobody is signed in", file=sys.stderr)


def _kept(
    config: Path | None, profiles: list[str] | None, cloud: str | None, trusted: list[str] | None
) -> InteractiveSignIns:
    """The sign-ins of a profile's or cloud's authority; without either, all that are kept."""
    from qakhunt.backends.auth.interactive import InteractiveSignIns

    identity, _ = _identity(config, profiles, cloud=cloud, trusted=trusted or ())
    return InteractiveSignIns(identity, everywhere=not profiles and cloud is None)


def _identity(
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
    settings = chosen_profiles(read_config(config), Choice(profiles))[0].profile
    service = address_of(settings, trusted)
    named = settings.sign_in_settings
    sign_in = SignIn(kind="login", client_id=client_id or named.client_id, account=named.account)
    identity = Identity(
        sign_in, tenant or settings.tenant, service.authority, settings.cloud, settings.ca_file,
        cache_folder(),
    )  # fmt: skip
    return identity, service.scope


def _show(message: str) -> None:
    print(for_terminal(message), file=sys.stderr, flush=True)


def _store(wanted: str | None, identity: Identity) -> str | None:
    """Where to keep the sign-in; asks before it would be plain text."""
    from qakhunt.backends.auth.interactive import (
        ENCRYPTED,
        MEMORY,
        PLAIN,
        STORES,
        InteractiveSignIns,
        encrypted_persistence,
    )

    if wanted is not None and wanted not in STORES:
        raise UsageError(
            f"no store named {wanted!r}", hint=nearest(wanted, STORES) or ", ".join(STORES)
        )
    if identity.cache is None or wanted in (PLAIN, MEMORY):
        return wanted
    if InteractiveSignIns(identity).store == PLAIN and wanted is None:
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
