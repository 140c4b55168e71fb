"""``qakhunt accounts``: who is signed in on this machine."""

from __future__ import annotations

import json
import sys

from qakhunt.cli import options as o
from qakhunt.cli import profiles as p
from qakhunt.cli.analyst import CloudOption, analyst_identity
from qakhunt.core.safe_text import for_json, for_terminal

app = o.new_app()


@app.command()
def accounts(
    cloud: CloudOption = None,
    config: p.ConfigPath = None,
    profile: p.ProfileNames = None,
    trust_host: p.TrustedHosts = None,
    as_json: o.AsJson = False,
) -> None:
    """List the analysts signed in on this machine."""
    from qakhunt.backends.auth.interactive import Analysts

    identity, _ = analyst_identity(config, profile, cloud=cloud, trusted=trust_host or ())
    analysts = Analysts(identity)
    try:
        found = analysts.accounts()
    finally:
        analysts.close()
    if as_json:
        listed = [{"account": one.name, "tenant": one.tenant} for one in found]
        print(for_json(json.dumps({"store": analysts.store, "accounts": listed}, indent=2)))
        return
    for one in found:
        print(for_terminal(f"{one.name}  (home tenant {one.tenant})"))
    if not found:
        print("nobody is signed in; 'qakhunt login' signs you in", file=sys.stderr)
