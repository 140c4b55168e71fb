"""Whether each sign-in can reach what it is for from inside Azure Automation.

There is no person, no command-line program and no file there: what can sign in is the
automation account's managed identity, an app for which that identity vouches, and an
app whose secret lies in a Key Vault or an Automation variable.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qakhunt.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from qakhunt.backends.auth.identity import SignIn
    from qakhunt.backends.profile import Profile
    from qakhunt.config_model import Schedule
    from qakhunt.errors import SourceLocation

    Locate = Callable[..., SourceLocation | None]

_NO = {
    "default": "'default' tries kinds that need a person or another program",
    "login": "nobody is there to sign in",
    "azure-cli": "Automation runs no other programs",
    "workload-identity": "its token is Kubernetes' own",
    "none": "it is for services on one machine",
    "client-certificate": "a certificate's file does not travel with a runbook",
}
_FEDERATED = (
    'a multi-tenant app for which the managed identity vouches does: kind = "federated", '
    'assertion = "managed-identity"'
)


def check_profile_sign_in(name: str, profile: Profile, home: str | None, locate: Locate) -> None:
    """Raises ConfigError for a profile that a runbook cannot sign in for."""
    sign_in = profile.sign_in_settings
    _check_kind(f"profile {name}", sign_in, locate("profiles", name, "sign_in"))
    if sign_in.kind != "managed-identity" or profile.backend == "log-analytics":
        return
    place = locate("profiles", name, "tenant")
    if home is None:
        raise ConfigError(
            f"profile {name}: whether the managed identity is of tenant {profile.tenant} is "
            "not known",
            location=place, hint="say which tenant it lives in: [schedule] tenant = ...",
        )  # fmt: skip
    if profile.tenant.casefold() != home.casefold():
        raise ConfigError(
            f"profile {name}: a managed identity gets no token of another tenant "
            f"({profile.tenant})",
            location=place, hint=_FEDERATED,
        )  # fmt: skip


def needs_lighthouse(profiles: Mapping[str, Profile], home: str | None) -> list[str]:
    """Profiles whose workspaces the managed identity reaches only through Lighthouse."""
    return [
        name
        for name, profile in profiles.items()
        if profile.backend == "log-analytics"
        and profile.sign_in_settings.kind == "managed-identity"
        and (home is None or profile.tenant.casefold() != home.casefold())
    ]


def check_schedule_sign_in(schedule: Schedule, locate: Locate) -> None:
    """Raises ConfigError where the job could not reach its own state and sinks."""
    _check_kind("schedule", schedule.sign_in_settings, locate("schedule", "sign_in"))


def _check_kind(what: str, sign_in: SignIn, place: SourceLocation | None) -> None:
    if sign_in.kind in _NO:
        raise ConfigError(
            f"{what}: a runbook cannot sign in as {sign_in.kind!r}: {_NO[sign_in.kind]}",
            location=place, hint='name kind = "managed-identity", "federated" or "client-secret"',
        )  # fmt: skip
    if sign_in.kind == "federated" and sign_in.assertion != "managed-identity":
        raise ConfigError(
            f"{what}: {sign_in.assertion} does not vouch for an app in Automation",
            location=place, hint='assertion = "managed-identity"',
        )  # fmt: skip


def variables_of(sign_in: SignIn) -> list[str]:
    """Environment variables that a sign-in reads: in Automation, variables of the account."""
    return [name for name in (sign_in.client_secret_env, sign_in.certificate_password_env) if name]
