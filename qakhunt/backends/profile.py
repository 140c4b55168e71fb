"""The profile of one customer on one service: what a backend is opened from."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from qakhunt.backends.auth.identity import SignIn, SignInKind

CloudName = Literal["public", "usgov", "usgov-dod", "china"]
BackendName = Literal["log-analytics", "defender", "kusto"]

_Count = Annotated[int, Meta(ge=1)]
_Positive = Annotated[float, Meta(gt=0)]
_Seconds = Annotated[float, Meta(ge=0)]

# What a profile and the job's own identity say in the same words.
SignInChoice = Annotated[
    SignIn | SignInKind, Meta(description="A kind alone, or a table with more.")
]
Authority = Annotated[str | None, Meta(description="Entra ID's address, if not the cloud's.")]
CaFile = Annotated[
    str | None, Meta(description="Certificates to trust, such as a proxy's; a PEM file.")
]


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
        list[str],
        Meta(
            description="Workspace ids, GUIDs; Defender can do without. In the data lake: "
            "NAME-GUID, or none for its default database."
        ),
    ] = []
    cluster: Annotated[
        str | None, Meta(description="A Kusto cluster's address; the data lake's if unset.")
    ] = None
    database: Annotated[str | None, Meta(description="The cluster's database.")] = None
    tables: Annotated[
        Literal["own", "external"],
        Meta(description="Whether the cluster's tables are its own or external ones."),
    ] = "own"
    workspace_resources: Annotated[
        dict[str, str],
        Meta(description="Workspace id -> its Azure resource id, for links to Logs."),
    ] = {}
    cloud: Annotated[CloudName, Meta(description="The cloud of Entra ID and Graph.")] = "public"
    log_analytics_cloud: Annotated[
        CloudName | None, Meta(description="The cloud of the workspaces, if it is another.")
    ] = None
    sign_in: SignInChoice = "default"
    hunts: Annotated[
        list[str], Meta(description="What 'qakhunt run' hunts here when nothing is named.")
    ] = []
    allow_billed_search: Annotated[
        bool,
        Meta(
            description="Search what is billed by the gigabyte: the data lake, and Basic and "
            "Auxiliary tables."
        ),
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
    arm_endpoint: Annotated[
        str | None, Meta(description="Azure Resource Manager's address, if not the cloud's.")
    ] = None
    write: Annotated[
        bool,
        Meta(
            description="Whether 'qakhunt deploy' may write rules here. Such a profile names a "
            "sign-in of its own and runs no hunts."
        ),
    ] = False
    authority: Authority = None
    ca_file: CaFile = None

    @property
    def databases(self) -> dict[str, str]:
        """The GUID of each workspace -> its name in the data lake, which ends in the GUID."""
        return {name[-36:]: name for name in self.workspaces}

    @property
    def sign_in_settings(self) -> SignIn:
        """The sign-in in its long form."""
        return self.sign_in if isinstance(self.sign_in, SignIn) else SignIn(kind=self.sign_in)
