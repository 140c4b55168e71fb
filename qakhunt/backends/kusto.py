"""Kusto: the Sentinel data lake, Azure Data Explorer and Fabric's Eventhouse.

One protocol: a query goes to a database, its time span as client request properties. The
lake is a tenant's, its databases are workspaces, and each query of it costs money.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from qakhunt.answers import wire_kusto
from qakhunt.answers.cells import WireError
from qakhunt.answers.ledger import Status, with_account
from qakhunt.backends.base import Answer, RunLimits
from qakhunt.backends.clouds import cloud_named, is_one_of
from qakhunt.backends.kusto_query import (
    DIALECT,
    PRODUCT,
    RefusedQuery,
    adapt,
    refuse_for_lake,
    tables_read,
)
from qakhunt.backends.rate_limiter import RateLimit
from qakhunt.backends.replies import (
    ACROSS,
    ServiceBackend,
    answer,
    bad_request,
    bad_request_in,
    before_retention,
    failure,
    incomplete,
    unknown_members,
    unreadable,
)
from qakhunt.backends.services import Place, Service, Unfit
from qakhunt.backends.transport import Call, Outcome, Reply, Transport, pipeline_client
from qakhunt.core.errors import ConfigError
from qakhunt.kql.schema import SENTINEL
from qakhunt.kql.values import TICKS_PER_SECOND, Timespan

if TYPE_CHECKING:
    from collections.abc import Collection

    from qakhunt.answers.response import ServiceError
    from qakhunt.backends.base import Question
    from qakhunt.backends.kusto_query import Adapted
    from qakhunt.backends.profile import Profile

RATE = RateLimit(concurrency=10, calls=30, per_seconds=60.0, per_tenant=True)
"""The lake's; a cluster's own policies are not known, so that it is asked no faster."""
LAKE_SECONDS = 240
READ_MARGIN = 30
ROW_LIMIT = 500_000
LAKE_PATH = "/lake/kql"
QUERY_PATH = "/v2/rest/query"
DEFAULT_DATABASE = "default"
LAKE_DELAY = Timespan(15 * 60 * TICKS_PER_SECOND)
"""How far behind the newest records of the lake may be."""

open_client = pipeline_client

_LAKE_REFUSALS = {
    401: ("the sign-in is not accepted", "is the token for the Sentinel data lake?"),
    403: (
        "no permission to read this workspace in the data lake",
        "give the identity Log Analytics Reader on the workspace; Entra and Defender roles do "
        "not count for an app",
    ),
    404: ("no such workspace in the data lake", "write NAME-GUID; is the tenant's lake set up?"),
}
_CLUSTER_REFUSALS = {
    401: ("the sign-in is not accepted", "is the token for this cluster?"),
    403: (
        "no permission to read this database",
        "give the identity the Viewer role of the database",
    ),
    404: ("no such database", "check the profile's cluster and database"),
}
_BILLED_HINT = (
    "the data lake is searched for money, by the gigabyte: allow_billed_search = true in the "
    "profile, or QAKHUNT_ALLOW_BILLED_SEARCH=true"
)
_NO_SCOPE = ("datetimescope", "datetime scope")
_NO_TABLE = ("failed to resolve", "unknown table", "does not refer to any known", "was not found")


class KustoBackend(ServiceBackend):
    """Answers from one cluster's database, or from the lake's databases of one tenant."""

    name = DIALECT
    product = PRODUCT
    rate, row_limit = RATE, ROW_LIMIT

    def __init__(self, transport: Transport, profile: Profile, run: RunLimits) -> None:
        super().__init__(transport, profile, run)
        self.lake = is_lake(profile)
        self._path = QUERY_PATH
        if self.lake and not urlsplit(transport.endpoint).path.endswith(LAKE_PATH):
            self._path = LAKE_PATH + QUERY_PATH
        self._scoped = profile.tables != "external"
        self.warnings: list[str] = []

    def ask(self, question: Question) -> Answer:
        """Ask the question's database. Failures of the service are answers, too."""
        if self.lake and not self.profile.allow_billed_search:
            return Answer(
                Status.FAILED, detail="not asked: the data lake's queries are billed",
                hint=_BILLED_HINT, attempts=0,
            )  # fmt: skip
        try:
            if self.lake:
                refuse_for_lake(question.text)
            reply, sent = self._send(question, scoped=self._scoped)
            error = bad_request_in(reply)
            if self._scoped and error and error.mentions(*_NO_SCOPE):
                # The service takes no time scope: from now on the text bounds its tables.
                self._scoped = False
                again, sent = self._send(question, scoped=False)
                found = self._answer(question, again, bad_request_in(again), sent)
                return with_account(found, reply, found)
        except RefusedQuery as problem:
            return Answer(
                Status.FAILED, detail=problem.message, hint=problem.hint, rejected=True,
                place=problem.place, attempts=0,
            )  # fmt: skip
        return self._answer(question, reply, error, sent)

    def is_billed(self, tables: Collection[str]) -> bool:
        """Whether it is the lake that is asked."""
        return self.lake

    def _send(self, question: Question, *, scoped: bool) -> tuple[Reply, Adapted]:
        profile, wait = self.profile, self.run.server_wait
        external = profile.tables == "external"
        sent = adapt(question.text, external=external, window=None if scoped else question.window)
        options: dict[str, Any] = {
            "servertimeout": _clock(min(wait, LAKE_SECONDS) if self.lake else wait),
            "queryconsistency": "strongconsistency",
            "query_language": "kql",
            "request_readonly": True,
            "results_progressive_enabled": False,
        }
        if scoped:
            start, end = question.timespan.split("/")
            options["query_datetimescope_column"] = SENTINEL.time_column
            options["query_datetimescope_from"], options["query_datetimescope_to"] = start, end
        properties: Any = {"Options": options}
        if not self.lake:  # clusters take them as text, as their SDK sends them
            properties = json.dumps(properties)
        database = profile.databases.get(
            question.target.workspace or "", profile.database or DEFAULT_DATABASE
        )
        body = {"csl": sent.text, "db": database, "properties": properties}
        url = self.transport.endpoint + self._path
        asked_by = f"{question.target.profile} {database}"
        headers = {"Accept": "application/json", "Cache-Control": "no-cache"}
        return self.transport.send(Call(url, body, headers, asked_by)), sent

    def _answer(
        self, question: Question, reply: Reply, error: ServiceError | None, sent: Adapted
    ) -> Answer:
        if reply.outcome is Outcome.ANSWERED and reply.status == 200:
            return self._result(reply, question)
        if error is None:
            refusals = _LAKE_REFUSALS if self.lake else _CLUSTER_REFUSALS
            return failure(reply, refusals, question.window)
        unknown = self._empty_table(question, error)
        if unknown:
            return answer(
                reply, Status.UNCOVERED, gaps=(question.window,),
                detail=f"the data lake has no table {unknown}, or no record in it",
                hint="check the table's name, and whether its records are kept in the lake",
            )  # fmt: skip
        found = bad_request(reply, error)
        return replace(found, place=sent.locate(found.place)) if found.place else found

    def _empty_table(self, question: Question, error: ServiceError) -> str:
        """The table that the lake does not know, as it knows no empty one; else empty."""
        if not self.lake or not error.mentions(*_NO_TABLE):
            return ""
        named = sorted(tables_read(question.text).union(question.tables), key=len, reverse=True)
        return next((table for table in named if error.mentions(f"'{table}'")), "")

    def _result(self, reply: Reply, question: Question) -> Answer:
        try:
            decoded = wire_kusto.decode(reply.body)
        except WireError as problem:
            return unreadable(reply, problem)
        target = question.target
        asked = None if ACROSS.search(question.text) else target.workspace
        cut = incomplete(reply, decoded, asked=asked, row_limit=self.row_limit)
        if cut:
            return cut
        kept = before_retention(reply, decoded.table, question.window, self.oldest)
        if kept:
            return kept
        newest = self.run.now - LAKE_DELAY
        if self.lake and question.window.end > newest:
            late = (
                f"{target.profile}: records reach the data lake up to 15 minutes late: what is "
                f"newer than {newest} may not have been there"
            )
            self.warnings += [late] if late not in self.warnings else []
        return answer(reply, Status.COMPLETE, decoded.table, detail=unknown_members(decoded))


def _clock(seconds: int) -> str:
    """Seconds as ``hh:mm:ss``."""
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def is_lake(profile: Profile) -> bool:
    """Whether the profile is of the Sentinel data lake, and not of a cluster."""
    if profile.cluster is None:
        return True
    parts = urlsplit(profile.cluster)
    host = (parts.hostname or "").casefold()
    of_lake = is_one_of(host, cloud_named(profile.cloud).lake)
    return of_lake or parts.path.rstrip("/").endswith(LAKE_PATH)


def _place(profile: Profile) -> Place:
    cloud = cloud_named(profile.cloud)
    if not is_lake(profile):
        return Place("cluster", profile.cluster, cloud.kusto, cloud.kusto_scope)
    if not cloud.lake:
        raise ConfigError(
            f"the Sentinel data lake is not served in the cloud {profile.cloud!r}",
            hint="name a cluster, or use the backend log-analytics",
        )
    return Place("cluster", profile.cluster, cloud.lake, cloud.lake_scope)


def _unfit(profile: Profile) -> Unfit | None:
    if is_lake(profile):
        if profile.database is not None:
            return Unfit(
                "database", "database: the data lake's databases are its workspaces",
                'workspaces = ["NAME-GUID"], or none for its default database',
            )  # fmt: skip
        return None
    if profile.database is None:
        return Unfit("cluster", "database: a cluster needs one", 'database = "NAME"')
    if profile.workspaces:
        return Unfit("workspaces", "workspaces: a cluster has databases", "leave workspaces out")
    return None


SERVICE = Service(
    name=DIALECT, product=PRODUCT, place=_place, open_client=open_client, open_backend=KustoBackend,
    read_timeout=lambda wait: float(wait + READ_MARGIN), rate=RATE,
    app_id="https://kusto.kusto.windows.net", foreign_tokens=True, database_keys=True,
    unfit=_unfit,
)  # fmt: skip
