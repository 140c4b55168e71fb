"""Log Analytics, and so Microsoft Sentinel: one workspace per question.

Requests go through azure-monitor-query's own pipeline; the answer is decoded here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from qakhunt.answers import wire_log_analytics
from qakhunt.answers.cells import WireError
from qakhunt.answers.ledger import Status, with_account
from qakhunt.backends.clouds import cloud_named
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
    one_line,
    unknown_members,
    unreadable,
)
from qakhunt.backends.services import Place, Service
from qakhunt.backends.transport import Call, Client, Outcome, Reply, http_options
from qakhunt.kql.schema import SENTINEL

if TYPE_CHECKING:
    from collections.abc import Collection

    from qakhunt.answers.response import ServiceError
    from qakhunt.backends.base import Answer, Question
    from qakhunt.backends.profile import Profile

RATE = RateLimit(concurrency=5, calls=200, per_seconds=30.0)
READ_MARGIN = 30
ROW_LIMIT = 500_000

_REFUSALS = {
    401: ("the sign-in is not accepted", "is the token for this cloud's Log Analytics?"),
    403: (
        "no permission to read this workspace",
        "give the identity Log Analytics Reader (or Microsoft Sentinel Reader) on it",
    ),
    404: (
        "no such workspace",
        "check the workspace id (not its name) and the profile's cloud",
    ),
}
_PLAN_ERROR = "UnsupportedApiQueryValidationError"
_BILLED_HINT = (
    "tables on the Basic or Auxiliary plan are searched for money, by the gigabyte: "
    "allow_billed_search = true in the profile, or QAKHUNT_ALLOW_BILLED_SEARCH=true"
)


def read_timeout(server_wait: int) -> float:
    """Seconds of silence to bear: the server's own limit and a margin."""
    return float(server_wait + READ_MARGIN)


def open_client(
    credential: Any,
    endpoint: str,
    scope: str,
    *,
    ca_file: str | None = None,
    connections: Any = None,
) -> Client:
    """azure-monitor-query's client with its retries and redirects off.

    ``connections`` are shared with other clients, who close them.
    """
    from azure.monitor.query import LogsQueryClient

    return LogsQueryClient(
        credential, endpoint=endpoint, credential_scopes=[scope], retry_total=0,
        permit_redirects=False, user_agent="qakhunt", **http_options(ca_file, connections),
    )  # fmt: skip


class LogAnalyticsBackend(ServiceBackend):
    """Answers from live workspaces of one profile."""

    name = "log-analytics"
    product = SENTINEL.name
    rate, row_limit = RATE, ROW_LIMIT

    def ask(self, question: Question) -> Answer:
        """Ask the question's workspace. Failures of the service are answers, too."""
        if self.is_billed(question.tables):
            return self._search(question)
        reply = self.transport.send(self._call(question, "query"))
        error = bad_request_in(reply)
        if error and _is_of_another_plan(error, question.tables):
            if self.profile.allow_billed_search:
                found = self._search(question)
                return with_account(found, reply, found)
            return _other_plan(reply, error)
        return self._answer(question, reply, error)

    def is_billed(self, tables: Collection[str]) -> bool:
        """Whether a question that names ``tables`` is a billed search from the outset."""
        return not set(self.profile.billed_tables).isdisjoint(tables)

    def _search(self, question: Question) -> Answer:
        if not self.profile.allow_billed_search:
            named = ", ".join(sorted({*self.profile.billed_tables}.intersection(question.tables)))
            return answer(
                Reply(Outcome.ANSWERED), Status.FAILED,
                detail=f"{named}: on the Basic or Auxiliary plan", hint=_BILLED_HINT,
            )  # fmt: skip
        reply = self.transport.send(self._call(question, "search"))
        return self._answer(question, reply, bad_request_in(reply))

    def _call(self, question: Question, kind: str) -> Call:
        workspace = question.target.workspace or ""
        url = f"/workspaces/{quote(workspace, safe='')}/{kind}"
        span = question.timespan
        body = {"query": question.text}
        if kind == "search":
            url += f"?timespan={quote(span, safe='')}"
        else:
            body["timespan"] = span
        return Call(
            url, body,
            {"Cache-Control": "no-cache", "Prefer": f"wait={self.run.server_wait}"},
            f"{question.target.profile} {workspace}",
        )  # fmt: skip

    def _answer(self, question: Question, reply: Reply, error: ServiceError | None) -> Answer:
        if reply.outcome is Outcome.ANSWERED and reply.status == 200:
            return self._result(reply, question)
        if error and reply.status == 400:
            return bad_request(reply, error)
        return failure(reply, _REFUSALS, question.window)

    def _result(self, reply: Reply, question: Question) -> Answer:
        try:
            decoded = wire_log_analytics.decode(reply.body)
        except WireError as problem:
            return unreadable(reply, problem)
        table = decoded.table
        asked = None if ACROSS.search(question.text) else question.target.workspace
        cut = incomplete(reply, decoded, asked=asked, row_limit=self.row_limit)
        if cut:
            return cut
        kept = before_retention(reply, table, question.window, self.oldest)
        if kept:
            return kept
        age = reply.headers.get("age")
        notes = [f"from the service's cache, {age} s old" if age else "", unknown_members(decoded)]
        return answer(reply, Status.COMPLETE, table, detail="; ".join(filter(None, notes)))


def _is_of_another_plan(error: ServiceError, tables: Collection[str]) -> bool:
    """Whether a table is Basic or Auxiliary, which ``/query`` does not serve.

    An unresolved table of the known schema counts, since it exists wherever it is used.
    """
    if error.mentions(_PLAN_ERROR):
        return True
    return error.mentions("failed to resolve table") and any(
        error.mentions(f"'{table}'") for table in tables
    )


def _other_plan(reply: Reply, error: ServiceError) -> Answer:
    return answer(
        reply, Status.FAILED, detail=one_line(error.words),
        rejected=not error.mentions(_PLAN_ERROR), place=error.query_place,
        hint=f"the table is not connected, or is on another plan; {_BILLED_HINT}",
    )  # fmt: skip


def _place(profile: Profile) -> Place:
    cloud = cloud_named(profile.log_analytics_cloud or profile.cloud)
    return Place(
        "log_analytics_endpoint", profile.log_analytics_endpoint, cloud.log_analytics,
        cloud.log_analytics_scope,
    )  # fmt: skip


SERVICE = Service(
    name="log-analytics", product=SENTINEL.name, place=_place, open_client=open_client,
    open_backend=LogAnalyticsBackend, read_timeout=read_timeout, rate=RATE,
    app_id="ca7f3f0b-7d91-482c-8e09-c5d840d0eac5", needs_workspaces=True, foreign_tokens=True,
    rules="qakhunt.backends.sentinel_rules",
)  # fmt: skip
