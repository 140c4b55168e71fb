"""The configuration that ``qakhunt config init`` writes: one profile, commented."""

from __future__ import annotations

import json
from dataclasses import dataclass


@dataclass(frozen=True)
class NewProfile:
    """What a first profile needs; names and ids are checked when the text is parsed."""

    name: str
    backend: str
    tenant: str
    workspaces: tuple[str, ...]
    sign_in: str
    cloud: str = "public"


_HEAD = """\
# qakhunt's configuration, written by 'qakhunt config init'.
# 'qakhunt config example' prints every key, 'qakhunt config show' the values in force,
# 'qakhunt doctor' checks them. No secret belongs here: only where one is found.
"""
_TAIL = """\
# hunts = ["qakbot"]           # hunts that 'qakhunt run' runs when none is named
# retention = "90d"            # a window that begins earlier is reported as incomplete
# longest_gap = "72h"          # so is one in which a source table is silent for longer
"""


def config_text(new: NewProfile) -> str:
    """The file, ready to parse."""
    comments = {
        "backend": "log-analytics (Microsoft Sentinel) or defender (advanced hunting)",
        "tenant": "Entra tenant id of the customer",
        "workspaces": "workspace ids, not names",
        "cloud": "public, usgov (GCC High), usgov-dod or china",
        "sign_in": _SIGN_IN.get(new.sign_in, "'qakhunt config example' shows every kind"),
    }
    values: dict[str, object] = {"backend": new.backend, "tenant": new.tenant}
    if new.workspaces:
        values["workspaces"] = list(new.workspaces)
    values |= {"cloud": new.cloud, "sign_in": new.sign_in}
    lines = [
        f"# {comments[key]}\n{key} = {json.dumps(value, ensure_ascii=False)}"
        for key, value in values.items()
    ]
    name = json.dumps(new.name, ensure_ascii=False)
    return "\n".join(
        [
            _HEAD,
            f"default_profile = {name}  # used when no --profile is given\n",
            f"[profiles.{name}]",
            *lines,
            _TAIL,
        ]
    )


_SIGN_IN = {
    "login": "'qakhunt login' once, for all tenants that know you",
    "azure-cli": "the account of 'az login'",
    "managed-identity": "of the virtual machine, runbook or container",
    "default": "environment variables, managed identity or Azure CLI, the first that works",
    "none": "no token: for the emulator on this machine alone",
}
"""Kind of sign-in -> its comment."""
