"""The shape of the configuration file, with the words that its JSON Schema shows."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from qakhunt.backends.auth.identity import SignIn, SignInKind
from qakhunt.backends.profile import CloudName, Profile  # noqa: TC001 - msgspec reads them


class Schedule(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Who an unattended job is towards Azure: for its state, blobs and Logs Ingestion."""

    sign_in: Annotated[
        SignIn | SignInKind, Meta(description="A kind alone, or a table with more.")
    ] = "default"
    tenant: Annotated[
        str | None, Meta(description="The Entra tenant id of that identity, the job's home.")
    ] = None
    cloud: Annotated[CloudName, Meta(description="The cloud of that identity.")] = "public"
    authority: Annotated[
        str | None, Meta(description="Entra ID's address, if not the cloud's.")
    ] = None
    ca_file: Annotated[
        str | None, Meta(description="Certificates to trust, such as a proxy's; a PEM file.")
    ] = None

    @property
    def sign_in_settings(self) -> SignIn:
        """The sign-in in its long form."""
        return self.sign_in if isinstance(self.sign_in, SignIn) else SignIn(kind=self.sign_in)


class ConfigFile(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """The whole file."""

    default_profile: Annotated[
        str | None, Meta(description="The profile or group to hunt when none is named.")
    ] = None
    deadline: Annotated[
        str | None, Meta(description="The longest a run may take, such as '45m'.")
    ] = None
    expected_tenants: Annotated[
        list[str], Meta(description="Tenants that --all-profiles must cover.")
    ] = []
    hunts_folders: Annotated[
        list[str], Meta(description="Folders of hunts of your own, beside --hunts.")
    ] = []
    groups: Annotated[
        dict[str, list[str]], Meta(description="Names for several profiles at once.")
    ] = {}
    profiles: Annotated[dict[str, Profile], Meta(description="Customers by name.")] = {}
    schedule: Annotated[Schedule, Meta(description="The identity of an unattended job.")] = (
        Schedule()
    )
    sinks: Annotated[
        dict[str, dict[str, Any]],
        Meta(description="Receivers of findings, by name; each has a 'kind' and its own keys."),
    ] = {}


def json_schema() -> dict[str, Any]:
    """The file's JSON Schema, for editors."""
    schema = msgspec.json.schema(ConfigFile)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "qakhunt configuration",
        **schema,
    }
