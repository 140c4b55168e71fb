"""The shape of the configuration file, with the words that its JSON Schema shows."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

CloudName = Literal["public", "usgov", "usgov-dod", "china"]
BackendName = Literal["log-analytics", "defender"]
SignInKind = Literal[
    "default", "login", "azure-cli", "managed-identity", "client-secret", "client-certificate",
    "workload-identity", "federated", "none",
]  # fmt: skip
AssertionSource = Literal["github", "azure-pipelines", "managed-identity"]

_VariableName = Annotated[str | None, Meta(description="The name of an environment variable.")]


class SignIn(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """How to sign in. Which keys a kind takes is told in config.example.toml."""

    kind: Annotated[SignInKind, Meta(description="The way to sign in.")]
    client_id: Annotated[
        str | None, Meta(description="The app registration's or managed identity's client id.")
    ] = None
    client_secret_env: _VariableName = None
    client_secret_vault: Annotated[
        str | None, Meta(description="A Key Vault secret: https://VAULT/secrets/NAME")
    ] = None
    certificate_path: Annotated[
        str | None, Meta(description="A PEM or PFX file with the certificate and its key.")
    ] = None
    certificate_password_env: _VariableName = None
    token_file: Annotated[
        str | None, Meta(description="Where Kubernetes puts the workload's token.")
    ] = None
    assertion: Annotated[
        AssertionSource | None, Meta(description="Who vouches for the app, instead of a secret.")
    ] = None
    managed_identity_client_id: Annotated[
        str | None,
        Meta(description="The user-assigned managed identity that vouches or opens the vault."),
    ] = None
    service_connection_id: Annotated[
        str | None, Meta(description="The Azure Pipelines service connection.")
    ] = None
    system_access_token_env: _VariableName = None
    account: Annotated[
        str | None, Meta(description="Which signed-in account, as 'qakhunt accounts' lists it.")
    ] = None


_Count = Annotated[int, Meta(ge=1)]
_Positive = Annotated[float, Meta(gt=0)]
_Seconds = Annotated[float, Meta(ge=0)]


class Limits(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """How fast to ask and how long to wait; what is left out follows the service's limits."""

    concurrency: Annotated[
        Annotated[int, Meta(ge=1, le=50)] | None,
        Meta(description="Calls of one identity at once."),
    ] = None
    calls: Annotated[_Count | None, Meta(description="Calls that may start in 'per_seconds'.")] = (
        None
    )
    per_seconds: Annotated[_Positive | None, Meta(description="See 'calls'.")] = None
    tries: Annotated[
        _Count | None, Meta(description="Times a call is sent when it meets faults.")
    ] = None
    throttled_tries: Annotated[
        _Count | None, Meta(description="Times a call is sent when it is throttled.")
    ] = None
    patience: Annotated[
        _Seconds | None, Meta(description="Seconds a call may wait between its tries.")
    ] = None
    server_wait: Annotated[
        Annotated[int, Meta(ge=1, le=600)] | None,
        Meta(description="Seconds a Log Analytics query may run."),
    ] = None
    row_limit: Annotated[
        _Count | None, Meta(description="Rows at which an answer counts as cut.")
    ] = None


class Profile(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """One customer on one service."""

    backend: Annotated[BackendName, Meta(description="Who answers.")]
    tenant: Annotated[str, Meta(description="The customer's Entra tenant id, a GUID.")]
    workspaces: Annotated[
        list[str], Meta(description="Workspace ids, GUIDs; Defender can do without.")
    ] = []
    workspace_resources: Annotated[
        dict[str, str],
        Meta(description="Workspace id -> its Azure resource id, for links to Logs."),
    ] = {}
    cloud: Annotated[CloudName, Meta(description="The cloud of Entra ID and Graph.")] = "public"
    log_analytics_cloud: Annotated[
        CloudName | None, Meta(description="The cloud of the workspaces, if it is another.")
    ] = None
    sign_in: Annotated[
        SignIn | SignInKind, Meta(description="A kind alone, or a table with more.")
    ] = "default"
    hunts: Annotated[
        list[str], Meta(description="What 'qakhunt run' hunts here when nothing is named.")
    ] = []
    allow_billed_search: Annotated[
        bool, Meta(description="Search Basic and Auxiliary tables, billed by the gigabyte.")
    ] = False
    billed_tables: Annotated[
        list[str], Meta(description="Tables known to be on the Basic or Auxiliary plan.")
    ] = []
    retention: Annotated[
        str | None, Meta(description="How long the workspaces keep records, such as '90d'.")
    ] = None
    longest_gap: Annotated[
        str | None,
        Meta(description="The longest silence of a source table that is normal; '72h' if unset."),
    ] = None
    limits: Annotated[Limits, Meta(description="How fast, how long.")] = Limits()
    graph_endpoint: Annotated[
        str | None, Meta(description="Graph's address, if not the cloud's.")
    ] = None
    log_analytics_endpoint: Annotated[
        str | None, Meta(description="Log Analytics' address, if not the cloud's.")
    ] = None
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
