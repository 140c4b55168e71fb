"""Microsoft Defender advanced hunting, through Graph's ``security/runHuntingQuery``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qakhunt.answers import wire_hunting
from qakhunt.answers.cells import WireError
from qakhunt.answers.ledger import Status
from qakhunt.backends.clouds import cloud_named
from qakhunt.backends.rate_limiter import RateLimit
from qakhunt.backends.replies import (
    ServiceBackend,
    answer,
    bad_request,
    bad_request_in,
    before,
    failure,
    incomplete,
    unknown_members,
    unreadable,
)
from qakhunt.backends.services import Place, Service
from qakhunt.backends.transport import Call, Outcome, Reply, Transport, pipeline_client
from qakhunt.kql.schema import DEFENDER

if TYPE_CHECKING:
    from qakhunt.backends.base import Answer, Question, RunLimits
    from qakhunt.backends.profile import Profile

RATE = RateLimit(concurrency=5, calls=45, per_seconds=60.0, per_tenant=True)
READ_TIMEOUT = 210.0  # the service gives up after 180 s
ROW_LIMIT = 100_000
PATH = "/v1.0/security/runHuntingQuery"

_HEADERS = {"Content-Type": "application/json; charset=utf-8"}
_PERMISSION = "ThreatHunting.Read.All"
_REFUSALS = {
    401: ("the sign-in is not accepted", "is the token for this cloud's Graph?"),
    403: (
        "no permission to hunt in this tenant",
        f"the app needs {_PERMISSION}, with an administrator's consent in this tenant; "
        "an analyst also needs a Defender role that may read",
    ),
    404: (
        "Graph has no advanced hunting here",
        "does the tenant have Microsoft Defender, and is this its cloud?",
    ),
}
open_client = pipeline_client
_UNRESOLVED = f"the product is not licensed, or the identity lacks {_PERMISSION}"


class DefenderBackend(ServiceBackend):
    """Answers from advanced hunting of one tenant; records older than 30 days are gone."""

    name = "defender"
    product = DEFENDER.name
    rate, row_limit = RATE, ROW_LIMIT

    def __init__(self, transport: Transport, profile: Profile, run: RunLimits) -> None:
        super().__init__(transport, profile, run)
        self.oldest = None

    def ask(self, question: Question) -> Answer:
        """Ask the tenant, or one workspace of it. Failures of the service are answers, too."""
        body = {"Query": question.text, "Timespan": question.timespan}
        if question.target.workspace:
            body["workspaceId"] = question.target.workspace
        url = self.transport.endpoint + PATH
        reply = self.transport.send(Call(url, body, _HEADERS, question.target.profile))
        if reply.outcome is Outcome.ANSWERED and reply.status == 200:
            return self._result(reply, question)
        error = bad_request_in(reply)
        if error is None:
            return failure(reply, _REFUSALS, question.window)
        unresolved = error.mentions("failed to resolve table")
        return bad_request(reply, error, _UNRESOLVED if unresolved else "")

    def _result(self, reply: Reply, question: Question) -> Answer:
        try:
            decoded = wire_hunting.decode(reply.body)
        except WireError as problem:
            return unreadable(reply, problem)
        table = decoded.table
        asked = question.target.workspace
        cut = incomplete(reply, decoded, asked=asked, row_limit=self.row_limit)
        if cut:
            return cut
        oldest = self.run.now - DEFENDER.retention
        if question.window.start < oldest:
            return answer(
                reply, Status.UNCOVERED, table, gaps=before(question.window, oldest),
                detail=f"Defender keeps 30 days: nothing before {oldest} was looked at",
                hint="hunt older records in Log Analytics, if they are sent there",
            )  # fmt: skip
        return answer(reply, Status.COMPLETE, table, detail=unknown_members(decoded))


def place(profile: Profile) -> Place:
    """Graph."""
    cloud = cloud_named(profile.cloud)
    return Place("graph_endpoint", profile.graph_endpoint, (cloud.graph_host,), cloud.graph_scope)


SERVICE = Service(
    name="defender", product=DEFENDER.name, place=place, open_client=open_client,
    open_backend=DefenderBackend, read_timeout=lambda _wait: READ_TIMEOUT, rate=RATE,
    app_id="00000003-0000-0000-c000-000000000000", permission=_PERMISSION,
    rules="qakhunt.backends.defender_rules",
)  # fmt: skip
