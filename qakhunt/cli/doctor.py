"""``qakhunt doctor``: is everything there that a hunt of a profile needs?"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

from qakhunt.cli import options as o
from qakhunt.cli import profiles as p
from qakhunt.cli.request import HuntRequest, read_now, rendered_hunts
from qakhunt.core.errors import ExitCode
from qakhunt.core.safe_text import for_json, for_terminal
from qakhunt.run.execution import in_order

if TYPE_CHECKING:
    from qakhunt.kql.values import Instant
    from qakhunt.run.doctor import Check
    from qakhunt.run.live import LiveBackends
    from qakhunt.run.settings import ProfileSettings

app = o.new_app()

_AT_ONCE = 8


@app.command()
def doctor(
    config: p.ConfigPath = None,
    profile: p.ProfileNames = None,
    group: p.GroupName = None,
    all_profiles: p.AllProfiles = False,
    trust_host: p.TrustedHosts = None,
    now: o.Now = None,
    as_json: o.AsJson = False,
) -> int:
    """Check configuration, clock, sign-in, permissions and data; exit 1 if one fails."""
    from qakhunt.run.live import LiveBackends

    moment = read_now(now)
    file = p.read_config(config)
    chosen = p.chosen_profiles(file, p.Choice(profile or (), group, all_profiles))
    live = LiveBackends(moment, trusted_hosts=trust_host or ())
    try:
        checks: list[Check] = []
        works = [partial(_examine, settings, live, moment) for settings in chosen]
        for found in in_order(_AT_ONCE, works):
            checks += found
            if not as_json:
                _show(found)
    finally:
        live.close()
    if file is not None and all_profiles:
        for tenant in file.missing_tenants():
            print(f"warning: expected tenant without a profile: {tenant}", file=sys.stderr)
    if as_json:
        document = {"checks": [asdict(check) for check in checks]}
        print(for_json(json.dumps(document, ensure_ascii=False, indent=2)))
    failed = any(check.grade == "failed" for check in checks)
    return ExitCode.CHECK_FAILED if failed else ExitCode.OK


def _examine(settings: ProfileSettings, live: LiveBackends, now: Instant) -> list[Check]:
    from qakhunt.run.doctor import examine

    product = settings.profile.backend
    request = HuntRequest(names=settings.profile.hunts)
    hunts = [rendered for rendered, _ in rendered_hunts(request, now=now, product=product)]
    return list(examine(settings, live, hunts))


def _show(checks: list[Check]) -> None:
    for check in checks:
        line = f"{check.grade.value:<8} {check.profile}  {check.name}: {check.words}"
        print(for_terminal(line))
        if check.hint and check.grade != "ok":
            print(for_terminal(f"         {check.hint}"))
    sys.stdout.flush()
