"""``qakhunt logout``: forget a person's sign-in."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from qakhunt.cli import options as o
from qakhunt.cli import profiles as p
from qakhunt.cli.analyst import CloudOption, analyst_identity
from qakhunt.core.errors import UsageError
from qakhunt.core.safe_text import for_terminal

app = o.new_app()


@app.command()
def logout(
    account: Annotated[
        Optional[str],  # noqa: UP045 - typer reads it at run time on 3.10
        typer.Argument(metavar="[ACCOUNT]", help="Whom to forget; else everybody."),
    ] = None,
    cloud: CloudOption = None,
    config: p.ConfigPath = None,
    profile: p.ProfileNames = None,
    trust_host: p.TrustedHosts = None,
) -> None:
    """Forget a sign-in on this machine."""
    from qakhunt.backends.auth.interactive import Analysts

    identity, _ = analyst_identity(config, profile, cloud=cloud, trusted=trust_host or ())
    analysts = Analysts(identity)
    try:
        gone = analysts.sign_out(account)
    finally:
        analysts.close()
    if account is not None and not gone:
        raise UsageError(
            f"{account} is not signed in", hint="'qakhunt accounts' lists who is"
        )  # fmt: skip
    for name in gone:
        print(f"signed out {for_terminal(name)}")
