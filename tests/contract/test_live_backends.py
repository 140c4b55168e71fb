"""All live backends against a service on loopback: real clients, real TLS, every fault."""

from __future__ import annotations

import datetime as dt
import json
import logging
import socket
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest
from azure.core.credentials import AccessToken

from qakhunt.answers import wire_hunting, wire_kusto, wire_log_analytics
from qakhunt.answers.ledger import Status, Target
from qakhunt.answers.response import ServiceError
from qakhunt.answers.table import Column, ResultTable
from qakhunt.backends import defender, kusto, log_analytics
from qakhunt.backends.auth.credentials import TokenSource
from qakhunt.backends.auth.identity import Identity, SignIn
from qakhunt.backends.base import LONGEST_GAP, Answer, Question, RunLimits
from qakhunt.backends.defender_rules import DetectionStore
from qakhunt.backends.profile import Limits, Profile
from qakhunt.backends.rate_limiter import RateLimiter
from qakhunt.backends.retry import RetryLimits
from qakhunt.backends.rule_store import RestClient
from qakhunt.backends.transport import Transport, shared_connections
from qakhunt.core.errors import UnansweredError
from qakhunt.hunts.catalog import Catalog
from qakhunt.hunts.rules import RuleOptions, defender_detection
from qakhunt.kql.values import Instant, Window
from tests.support import scripted_service as s
from tests.support.time import FakeClock

if TYPE_CHECKING:
    from collections.abc import Iterator

WORKSPACE = "11111111-2222-3333-4444-555555555555"
WINDOW = Window(Instant.parse("2026-10-01"), Instant.parse("2026-11-01"))
NOW = Instant.parse("2026-10-20T12:00:00Z")
SECRET = "planted-token-3f9c"  # a value that no output may show
ROWS = ResultTable((Column("DeviceName", "string"), Column("n", "long")), [("host", 2)])
GATEWAY_PAGE = b"<html><title>502 Bad Gateway</title></html>"


@dataclass
class Tokens:
    """A credential that counts: each token differs."""

    fetched: int = 0
    renewed: list[str] = field(default_factory=list)

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        self.fetched += 1
        return AccessToken(f"{SECRET}-{self.fetched}", 4_000_000_000)

    def renew(self, authorization: str) -> None:
        self.renewed.append(authorization)


MODULES: dict[str, Any] = {
    "log-analytics": log_analytics, "defender": defender, "kusto": kusto
}  # fmt: skip
WIRES: dict[str, Any] = {
    "log-analytics": wire_log_analytics, "defender": wire_hunting, "kusto": wire_kusto
}  # fmt: skip


TENANT = "22222222-2222-3333-4444-555555555555"
RUN = RunLimits(NOW, 600, None, LONGEST_GAP)
LAKE = {"workspaces": [f"soc-{WORKSPACE}"], "allow_billed_search": True}
CLUSTER = {"cluster": "https://soc.kusto.windows.net", "database": "Hunting"}


def profile_of(kind: str, **own: Any) -> Profile:
    """The profile of a backend; of the data lake with its one workspace, searched for money."""
    lake = LAKE if kind == "kusto" and "cluster" not in own else {}
    given: dict[str, Any] = {"backend": kind, "tenant": TENANT, **lake, **own}
    return Profile(**given)


@dataclass
class Live:
    """A backend of any kind, with what can be seen of it."""

    kind: str
    service: s.Service
    clock: FakeClock = field(default_factory=FakeClock)
    tokens: Tokens = field(default_factory=Tokens)
    waits: list[tuple[str, float, str]] = field(default_factory=list)
    backends: list[Any] = field(default_factory=list)

    def backend(
        self, profile: Profile | None = None, run: RunLimits = RUN, deadline: float = float("inf"), url: str | None = None,
        read_timeout: float = 5.0, longest_read: float = 5.0, connections: Any = None,
        **limits: Any,
    ) -> Any:  # fmt: skip
        endpoint = url or self.service.url
        client = MODULES[self.kind].open_client(
            self.tokens, endpoint, "https://scope/.default", ca_file=str(self.service.ca),
            connections=connections,
        )  # fmt: skip
        transport = Transport(
            client, endpoint, RateLimiter(self.clock, concurrency=2, calls=100, per=1.0), self.clock,
            read_timeout=read_timeout, longest_read=longest_read, deadline=deadline,
            limits=RetryLimits(**limits), jitter=lambda: 1.0, renew=self.tokens.renew,
            on_wait=lambda *told: self.waits.append(told),
        )  # fmt: skip
        kinds: dict[str, Any] = {
            "log-analytics": log_analytics.LogAnalyticsBackend,
            "defender": defender.DefenderBackend, "kusto": kusto.KustoBackend,
        }  # fmt: skip
        made = kinds[self.kind](transport, profile or profile_of(self.kind), run)
        self.backends.append(made)
        return made

    def ask(self, **options: Any) -> Answer:
        answer = self.backend(**options).ask(self.question())
        assert SECRET not in repr(answer)
        return answer  # type: ignore[no-any-return]

    def question(self, text: str = "DeviceProcessEvents | take 1") -> Question:
        workspace = None if self.kind == "defender" else WORKSPACE
        target = Target("contoso", "tenant", workspace)
        return Question(text, WINDOW, target, ("DeviceProcessEvents",))

    def body(self, table: ResultTable = ROWS) -> bytes:
        return WIRES[self.kind].encode(table)  # type: ignore[no-any-return]

    def close(self) -> None:
        for backend in self.backends:
            backend.close()


@pytest.fixture(params=list(MODULES))
def live(request: pytest.FixtureRequest, service: s.Service) -> Iterator[Live]:
    made = Live(request.param, service)
    yield made
    made.close()


def only(kind: str) -> pytest.MarkDecorator:
    """A fixture value of one kind alone."""
    return pytest.mark.parametrize("live", [kind], indirect=True)


def error(code: str, message: str, **more: Any) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, **more}}


def test_a_token_that_the_service_repeats_is_masked(live: Live) -> None:
    live.service.script(s.send(403, error("Forbidden", f"{SECRET}-1 may not")))
    assert live.ask().detail.endswith(": [token] may not")


def test_a_whole_answer_is_complete_and_asked_once(live: Live) -> None:
    live.service.script(s.send(200, live.body(), {"x-ms-request-id": "r-7"}))
    answer = live.ask()
    assert (answer.status, answer.table) == (Status.COMPLETE, ROWS)
    assert (answer.attempts, answer.waits, answer.request_ids) == (1, (), ("r-7",))
    assert answer.bytes == len(live.body())
    assert len(live.service.received) == 1


@only("log-analytics")
def test_what_log_analytics_is_asked(live: Live) -> None:
    live.service.script(s.send(200, live.body()))
    live.ask()
    sent = live.service.received[0]
    assert sent.path == f"/v1/workspaces/{WORKSPACE}/query"
    assert sent.json == {
        "query": "DeviceProcessEvents | take 1",
        "timespan": "2026-10-01T00:00:00.0000000Z/2026-10-31T23:59:59.9999999Z",
    }
    assert sent.headers["authorization"] == f"Bearer {SECRET}-1"
    assert sent.headers["cache-control"] == "no-cache"
    assert sent.headers["prefer"] == "wait=600"
    assert sent.headers["content-type"] == "application/json"


@only("defender")
def test_what_defender_is_asked(live: Live) -> None:
    live.service.script(s.send(200, live.body()))
    target = Target("contoso", "tenant", WORKSPACE)
    live.backend().ask(Question("T | take 1", WINDOW, target))
    sent = live.service.received[0]
    assert sent.path == "/v1.0/security/runHuntingQuery"
    assert sent.json == {
        "Query": "T | take 1",
        "Timespan": "2026-10-01T00:00:00.0000000Z/2026-10-31T23:59:59.9999999Z",
        "workspaceId": WORKSPACE,
    }
    assert sent.headers["content-type"] == "application/json; charset=utf-8"


OPTIONS = {
    "servertimeout": "00:04:00",
    "queryconsistency": "strongconsistency",
    "query_language": "kql",
    "request_readonly": True,
    "results_progressive_enabled": False,
}
SCOPE = {
    "query_datetimescope_column": "TimeGenerated",
    "query_datetimescope_from": "2026-10-01T00:00:00.0000000Z",
    "query_datetimescope_to": "2026-10-31T23:59:59.9999999Z",
}


@only("kusto")
def test_what_the_data_lake_is_asked(live: Live) -> None:
    live.service.script(s.send(200, live.body()))
    live.ask()
    sent = live.service.received[0]
    assert sent.path == "/lake/kql/v2/rest/query"
    assert sent.json == {
        "csl": "DeviceProcessEvents | take 1",
        "db": f"soc-{WORKSPACE}",
        "properties": {"Options": {**OPTIONS, **SCOPE}},
    }
    assert sent.headers["authorization"] == f"Bearer {SECRET}-1"


@only("kusto")
def test_what_a_cluster_is_asked(live: Live) -> None:
    live.service.script(s.send(200, live.body()))
    live.ask(profile=profile_of("kusto", **CLUSTER))
    sent = live.service.received[0]
    assert (sent.path, sent.json["db"]) == ("/v2/rest/query", "Hunting")
    options = {**OPTIONS, **SCOPE, "servertimeout": "00:10:00"}
    assert json.loads(sent.json["properties"]) == {"Options": options}


@only("kusto")
def test_external_tables_are_bounded_in_the_text(live: Live) -> None:
    live.service.script(s.send(200, live.body()))
    live.ask(profile=profile_of("kusto", **CLUSTER, tables="external"))
    sent = live.service.received[0].json
    assert sent["csl"] == (
        'external_table("DeviceProcessEvents") | where TimeGenerated >= '
        "datetime(2026-10-01T00:00:00Z) and TimeGenerated < "
        "datetime(2026-11-01T00:00:00Z) | take 1"
    )
    assert json.loads(sent["properties"]) == {"Options": {**OPTIONS, "servertimeout": "00:10:00"}}


@only("kusto")
def test_where_no_time_scope_is_taken_the_text_bounds_the_tables_from_then_on(live: Live) -> None:
    refused = s.send(400, error("BadRequest", "query_datetimescope_column is not allowed"))
    live.service.script(refused, s.send(200, live.body()))
    backend = live.backend()
    answer = backend.ask(live.question())
    assert (answer.status, answer.attempts, len(answer.request_ids)) == (Status.COMPLETE, 2, 2)
    assert backend.ask(live.question()).attempts == 1
    texts = [request.json["csl"] for request in live.service.received]
    assert texts[0] == "DeviceProcessEvents | take 1"
    assert texts[1] == texts[2]
    assert "where TimeGenerated >= datetime(2026-10-01" in texts[1]
    assert "query_datetimescope_to" not in live.service.received[2].json["properties"]["Options"]


@only("kusto")
def test_a_place_in_a_bounded_text_is_told_in_the_querys_own(live: Live) -> None:
    text = "DeviceProcessEvents | where Nonesuch == 1"
    place = error("BadRequest", "Semantic error [line:position=1:154]")
    live.service.script(s.send(400, place))
    profile = profile_of("kusto", **CLUSTER, tables="external")
    answer = live.backend(profile=profile).ask(live.question(text))
    sent = live.service.received[0].json["csl"]
    assert sent[153:161] == "Nonesuch"
    assert answer.place == (1, text.index("Nonesuch") + 1)


@only("kusto")
def test_the_lake_is_asked_only_where_money_may_be_spent(live: Live) -> None:
    live.service.script(s.send(200, live.body()))
    answer = live.ask(profile=profile_of("kusto", allow_billed_search=False))
    assert (answer.status, answer.attempts) == (Status.FAILED, 0)
    assert "billed" in answer.detail
    assert "allow_billed_search = true" in answer.hint
    assert live.service.received == []


@only("kusto")
def test_what_the_lake_lacks_is_refused_with_its_place_and_unasked(live: Live) -> None:
    live.service.script(s.send(200, live.body()))
    text = "DeviceProcessEvents\n| where ingestion_time() > ago(1d)"
    answer = live.backend().ask(live.question(text))
    assert (answer.status, answer.rejected, answer.place) == (Status.FAILED, True, (2, 9))
    assert answer.detail == "the data lake has no ingestion_time()"
    assert live.service.received == []
    cluster = profile_of("kusto", **CLUSTER)
    assert live.backend(profile=cluster).ask(live.question(text)).status is Status.COMPLETE


@only("kusto")
@pytest.mark.parametrize(
    "words",
    [
        "SEM0100: 'take' operator: Failed to resolve table or column expression named "
        "'DeviceProcessEvents'",
        "The name 'DeviceProcessEvents' does not refer to any known column, table, variable or "
        "function.",
    ],
)
def test_an_unknown_table_of_the_lake_is_an_empty_one_and_not_a_rejection(
    live: Live, words: str
) -> None:
    live.service.script(s.send(400, error("General_BadRequest", "x", **{"@message": words})))
    answer = live.ask()
    assert (answer.status, answer.rejected, answer.gaps) == (Status.UNCOVERED, False, (WINDOW,))
    assert "no table DeviceProcessEvents" in answer.detail
    cluster = live.ask(profile=profile_of("kusto", **CLUSTER))
    assert (cluster.status, cluster.rejected) == (Status.FAILED, True)


@only("kusto")
def test_a_throttled_tenant_waits_until_the_moment_it_is_told(live: Live) -> None:
    later = dt.datetime.now(dt.timezone.utc) + dt.timedelta(seconds=90)
    words = f"Too many queries, retry after {later:%m/%d/%Y %H:%M:%S} UTC."
    live.service.script(
        s.send(429, error("TooManyRequests", words)), s.send(429, words.encode()),
        s.send(200, live.body()),
    )  # fmt: skip
    answer = live.ask()
    assert answer.status is Status.COMPLETE
    assert [80 < wait <= 91 for wait in answer.waits] == [True, True]


@only("kusto")
def test_records_that_the_lake_may_not_have_yet_are_told_once(live: Live) -> None:
    live.service.script(s.send(200, live.body()))
    backend = live.backend()
    assert backend.ask(live.question()).status is Status.COMPLETE
    backend.ask(live.question())
    (warning,) = backend.warnings
    assert "newer than 2026-10-20T11:45:00" in warning
    old = Window(WINDOW.start, Instant.parse("2026-10-20T11:00:00Z"))
    other = live.backend()
    other.ask(Question("T | take 1", old, live.question().target))
    assert other.warnings == []


def frames(**end: Any) -> list[dict[str, Any]]:
    """The frames of a whole answer, with other members in the completion frame."""
    found = wire_kusto.frames(ROWS)
    found[-1].update(end)
    return found


HEAD, PROPERTIES, PRIMARY, ACCOUNT, END = frames()
LATE = {"OneApiErrors": [{"error": {
    "code": "LimitsExceeded", "message": "Request is invalid and cannot be executed.",
    "@message": "Query result set has exceeded the internal record count limit 500000 "
    "(E_QUERY_RESULT_SET_TOO_LARGE; see https://aka.ms/kustoquerylimits)"}}]}  # fmt: skip
WARNED = {**ACCOUNT, "Rows": [["2026-01-01T00:00:00Z", 3, "Warning", "some shards are late"]]}
ODD_FRAMES: dict[str, tuple[Any, Status, str]] = {
    "has errors": (
        frames(HasErrors=True, OneApiErrors=LATE["OneApiErrors"]), Status.TRUNCATED, "500000"),
    "has errors, says nothing": (frames(HasErrors=True), Status.PARTIAL, "without words"),
    "has errors is missing": (
        [HEAD, PRIMARY, {"FrameType": "DataSetCompletion", "Cancelled": False}], Status.PARTIAL,
        "without words"),
    "errors that it denies": (
        frames(OneApiErrors=[{"error": {"code": "X", "message": "a node is gone"}}]),
        Status.PARTIAL, "a node is gone"),
    "an error in the rows": (
        [HEAD, {**PRIMARY, "Rows": [["host", 2], LATE]}, END], Status.TRUNCATED, "TOO_LARGE"),
    "an error in the rows of another table": (
        [HEAD, PRIMARY, {**PROPERTIES, "Rows": [LATE]}, END], Status.PARTIAL, "QueryProperties"),
    "an error in the account": (
        [HEAD, PRIMARY, {**ACCOUNT, "Rows": [LATE]}, END], Status.PARTIAL, "an error of its"),
    "a warning": ([HEAD, PRIMARY, WARNED, END], Status.PARTIAL, "some shards are late"),
    "cancelled": (frames(Cancelled=True), Status.PARTIAL, "cancelled"),
    "no completion": ([HEAD, PRIMARY], Status.PARTIAL, "no completion frame"),
    "frames after the end": ([HEAD, END, PRIMARY], Status.PARTIAL, "goes on after"),
    "no header": ([PRIMARY, END], Status.PARTIAL, "does not begin with a header"),
    "another version": ([{**HEAD, "Version": "v3.0"}, PRIMARY, END], Status.PARTIAL, "v3.0"),
    "progressive": ([{**HEAD, "IsProgressive": True}, PRIMARY, END], Status.PARTIAL, "progressive"),
    "a fragment": (
        [HEAD, {"FrameType": "TableFragment", "Rows": [["host", 2]]}, PRIMARY, END],
        Status.PARTIAL, "TableFragment"),
    "two results": ([HEAD, PRIMARY, PRIMARY, END], Status.PARTIAL, "2 tables"),
    "no result": ([HEAD, PROPERTIES, END], Status.PARTIAL, "no table"),
    "a table of no kind": ([HEAD, {**PROPERTIES, "TableKind": None}, PRIMARY, END],
                           Status.PARTIAL, "no kind"),
    "a short row": (
        [HEAD, {**PRIMARY, "Rows": [["host"]]}, END], Status.PARTIAL, "shorter"),
    "rows that are none": ([HEAD, {**PRIMARY, "Rows": {}}, END], Status.FAILED, "not a list"),
    "no columns": ([HEAD, {**PRIMARY, "Columns": []}, END], Status.FAILED, "no columns"),
    "a frame that is none": ([HEAD, PRIMARY, 7, END], Status.FAILED, "no kind of frame 3"),
    "no frames": ([], Status.FAILED, "no frames"),
    "the first version": ({"Tables": []}, Status.FAILED, "no frames"),
}  # fmt: skip


@only("kusto")
@pytest.mark.parametrize(("value", "status", "words"), ODD_FRAMES.values(), ids=ODD_FRAMES)
def test_no_sign_of_less_is_passed_over(live: Live, value: Any, status: Status, words: str) -> None:
    live.service.script(s.send(200, value))
    answer = live.ask()
    assert answer.status is status
    assert words in answer.detail
    assert answer.divisible == (status is Status.TRUNCATED)


FAULTS = {
    "500": s.send(500, error("UnknownError", "")),
    "502 page": s.send(502, GATEWAY_PAGE, {"Content-Type": "text/html"}),
    "503": s.send(503, b""),
    "408": s.send(408, b""),
    "429": s.send(429, error("TooManyRequests", "Rate limit is exceeded")),
    "reset before": s.reset_before,
    "reset within": s.reset_within,
    "cut short": s.send(200, b'{"tables": [{"name": "Prim', length=5000),
    "cut, length agrees": s.send(200, b'{"tables": [{"name": "Prim'),
    "cut frames": s.send(200, b'[{"FrameType": "DataSetHeader"}, {"Frame'),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_passing_fault_is_waited_out(live: Live, fault: s.Step) -> None:
    live.service.script(fault, fault, s.send(200, live.body()))
    answer = live.ask()
    assert (answer.status, answer.table, answer.attempts) == (Status.COMPLETE, ROWS, 3)
    assert len(live.service.received) == 3
    assert len(answer.waits) == 2
    assert [round(w, 3) for _, w, _ in live.waits] == list(answer.waits)
    assert live.waits[0][0].startswith("contoso")
    assert len(set(answer.request_ids)) == 3


LASTING = {
    "500": (FAULTS["500"], 4, "failed with HTTP 500, 4 times"),
    "502 page": (FAULTS["502 page"], 4, "HTML page, so a proxy or gateway"),
    "503": (FAULTS["503"], 4, "HTTP 503"),
    "429": (FAULTS["429"], 10, "throttled 10 times: Rate limit is exceeded"),
    "reset before": (s.reset_before, 4, "broke the connection off"),
    "reset within": (s.reset_within, 4, "localhost"),
    "cut short": (FAULTS["cut short"], 4, "cut short"),
    "504": (s.send(504, error("GatewayTimeout", "")), 1, "more than the service allows"),
    "401": (s.send(401, error("InvalidAuthenticationToken", "x")), 2, "sign-in is not accepted"),
    "403": (s.send(403, error("Forbidden", "Missing scopes")), 1, "no permission"),
    "404": (s.send(404, error("PathNotFoundError", "x")), 1, "no"),
    "302": (s.send(302, b"", {"Location": "https://elsewhere.example/"}), 1, "another address"),
    "418": (s.send(418, b"{}"), 1, "HTTP 418"),
    "200 empty": (s.send(200, b""), 1, "no body"),
    "200 page": (s.send(200, b"<html>sign in</html>"), 1, "HTML"),
    "200 other": (s.send(200, {"value": []}), 1, "the answer has no"),
    "200 error": (s.send(200, error("X", "went wrong")), 1, "went wrong"),
}


@pytest.mark.parametrize(("step", "attempts", "words"), LASTING.values(), ids=LASTING)
def test_a_lasting_fault_is_a_failed_line_that_says_why(
    live: Live, step: s.Step, attempts: int, words: str
) -> None:
    live.service.script(step)
    answer = live.ask()
    assert (answer.status, answer.table, answer.attempts) == (Status.FAILED, None, attempts)
    assert words in answer.detail
    assert len(live.service.received) == attempts
    assert not answer.rejected


def test_no_content_is_not_covered(live: Live) -> None:
    live.service.script(s.send(204))
    answer = live.ask()
    assert (answer.status, answer.attempts) == (Status.UNCOVERED, 1)


def test_an_expired_token_is_renewed_once(live: Live) -> None:
    live.service.script(s.send(401, b"{}"), s.send(200, live.body()))
    answer = live.ask()
    assert (answer.status, answer.attempts, answer.waits) == (Status.COMPLETE, 2, ())
    assert live.tokens.renewed == [f"Bearer {SECRET}-1"]
    assert [r.headers["authorization"][-1] for r in live.service.received] == ["1", "2"]


@pytest.mark.parametrize(
    ("headers", "message", "seconds"),
    [
        ({"Retry-After": "17"}, "", 17.0),
        ({"x-ms-retry-after-ms": "2500"}, "", 2.5),
        ({}, "You can run queries again in 00:00:42", 42.0),
    ],
)
def test_a_throttled_identity_waits_as_told(
    live: Live, headers: dict[str, str], message: str, seconds: float
) -> None:
    throttled = s.send(429, error("TooManyRequests", message), headers)
    live.service.script(throttled, s.send(200, live.body()))
    answer = live.ask()
    assert answer.waits == (seconds,)
    assert live.clock.slept == [seconds]
    assert live.waits == [(live.waits[0][0], seconds, "HTTP 429")]


def test_a_wait_beyond_the_patience_is_not_begun(live: Live) -> None:
    live.service.script(s.send(429, b"{}", {"Retry-After": "86400"}))
    answer = live.ask()
    assert (answer.status, answer.attempts, answer.waits) == (Status.FAILED, 1, ())
    assert "86400 s only" in answer.detail


def test_a_wait_beyond_the_deadline_is_not_begun(live: Live) -> None:
    live.service.script(s.send(503, b"", {"Retry-After": "60"}))
    answer = live.ask(deadline=live.clock.now + 30)
    assert (answer.status, answer.attempts) == (Status.FAILED, 1)
    assert "of which the run has 30 s" in answer.detail
    assert live.clock.slept == []


def test_past_the_deadline_nothing_is_asked(live: Live) -> None:
    live.service.script(s.send(200, live.body()))
    answer = live.ask(deadline=live.clock.now - 1)
    assert (answer.status, answer.attempts) == (Status.NOT_RUN, 0)
    assert live.service.received == []


def test_an_interrupted_run_asks_nothing_more(live: Live) -> None:
    live.service.script(s.send(200, live.body()))
    live.clock.stop()
    answer = live.ask()
    assert (answer.status, answer.detail) == (Status.NOT_RUN, "interrupted")
    assert live.service.received == []


def test_silence_is_a_timeout_that_a_shorter_window_may_mend(live: Live) -> None:
    live.service.script(s.silence(0.4))
    answer = live.ask(read_timeout=0.1, tries=1)
    assert (answer.status, answer.divisible) == (Status.FAILED, True)
    assert "did not answer in time" in answer.detail


def test_a_drip_does_not_hold_the_run_up(live: Live) -> None:
    live.service.script(s.drip(live.body(), 0.02))
    backend = live.backend(longest_read=0.0, tries=1)
    live.clock.now += 0.001
    real = live.clock.monotonic

    def passing() -> float:
        live.clock.now += 0.001
        return real()

    live.clock.monotonic = passing  # type: ignore[method-assign]
    answer = backend.ask(live.question())
    assert (answer.status, answer.divisible) == (Status.FAILED, True)
    assert "too slowly" in answer.detail


def test_a_port_without_a_service_says_so(live: Live) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    answer = live.ask(url=f"https://localhost:{port}")
    assert (answer.status, answer.attempts) == (Status.FAILED, 4)
    assert answer.detail == "localhost refuses the connection"


def test_an_unknown_certificate_is_not_tried_again(live: Live, certificates: Any) -> None:
    other = certificates.ca.with_name("other.pem")
    if not other.exists():
        from tests.support.certificates import make_certificates

        folder = certificates.ca.parent / "other"
        folder.mkdir()
        other.write_bytes(make_certificates(folder).ca.read_bytes())
    service = s.Service(live.service.server, other)
    answer = Live(live.kind, service).ask()
    assert (answer.status, answer.attempts) == (Status.FAILED, 1)
    assert "not trusted" in answer.detail
    assert "ca_file" in answer.hint


def test_a_name_that_does_not_exist(live: Live) -> None:
    answer = live.ask(url="https://qakhunt.invalid", tries=1)
    assert answer.status is Status.FAILED
    assert "cannot be resolved" in answer.detail


def test_a_cut_at_the_row_limit_is_never_complete(live: Live) -> None:
    table = ResultTable(ROWS.columns, [("host", n) for n in range(3)])
    live.service.script(s.send(200, live.body(table)))
    answer = live.ask(profile=profile_of(live.kind, limits=Limits(row_limit=3)))
    assert (answer.status, answer.table, answer.divisible) == (Status.TRUNCATED, table, True)
    assert "limit of 3 rows" in answer.detail


def test_damaged_text_is_shown_and_never_complete(live: Live) -> None:
    live.service.script(s.send(200, live.body().replace(b"host", b"h\xffst")))
    answer = live.ask()
    assert answer.status is Status.PARTIAL
    assert answer.table is not None
    assert answer.table.rows == [("h\ufffdst", 2)]


def test_a_rejected_query_carries_its_place(live: Live) -> None:
    message = "Syntax error: Query could not be parsed at '|' on line [2,5]"
    live.service.script(s.send(400, error("BadRequest", message)))
    answer = live.ask()
    assert (answer.status, answer.rejected, answer.place) == (Status.FAILED, True, (2, 5))
    assert answer.detail == message
    assert answer.attempts == 1


@pytest.mark.parametrize(
    "message",
    [
        "Query execution has exceeded the allowed limits and was preempted",
        "The query result set has exceeded the internal data size limit 0x80DA0003",
    ],
)
def test_a_limit_is_no_rejection_and_may_be_divided(live: Live, message: str) -> None:
    live.service.script(s.send(400, error("BadRequest", message)))
    answer = live.ask()
    assert (answer.status, answer.rejected, answer.divisible) == (Status.FAILED, False, True)


@only("log-analytics")
@pytest.mark.parametrize(
    ("cause", "status"),
    [
        (ServiceError("-2133196797", "exceed the set limit of 64000000 bytes"), Status.TRUNCATED),
        (ServiceError("EngineError", "a shard did not answer"), Status.PARTIAL),
    ],
)
def test_a_partial_answer_shows_its_rows_and_says_so(
    live: Live, cause: ServiceError, status: Status
) -> None:
    partial = ServiceError("PartialError", "There were some errors", cause)
    live.service.script(s.send(200, wire_log_analytics.encode(ROWS, partial)))
    answer = live.ask()
    assert (answer.status, answer.table) == (status, ROWS)
    assert cause.message in answer.detail


@only("log-analytics")
def test_a_cached_answer_tells_its_age(live: Live) -> None:
    live.service.script(s.send(200, live.body(), {"Age": "95"}))
    assert live.ask().detail == "from the service's cache, 95 s old"


PLAN = error(
    "BadArgumentError", "invalid",
    innererror={"code": "UnsupportedApiQueryValidationError", "message": "Use the search API"},
)  # fmt: skip
UNRESOLVED = error(
    "BadArgumentError", "invalid",
    innererror={"code": "SemanticError", "message": "Failed to resolve table expression named "
                "'DeviceProcessEvents'"},
)  # fmt: skip


@only("log-analytics")
@pytest.mark.parametrize("body", [PLAN, UNRESOLVED])
def test_a_billed_search_is_made_only_where_it_is_allowed(live: Live, body: Any) -> None:
    live.service.script(s.send(400, body))
    answer = live.ask()
    assert (answer.status, answer.attempts) == (Status.FAILED, 1)
    assert "allow_billed_search" in answer.hint
    live.service.script(s.send(400, body), s.send(200, live.body()))
    answer = live.ask(profile=profile_of(live.kind, allow_billed_search=True))
    assert (answer.status, answer.table, answer.attempts) == (Status.COMPLETE, ROWS, 2)
    sent = live.service.received[1]
    assert sent.path == (
        f"/v1/workspaces/{WORKSPACE}/search"
        "?timespan=2026-10-01T00%3A00%3A00.0000000Z%2F2026-10-31T23%3A59%3A59.9999999Z"
    )
    assert sent.json == {"query": "DeviceProcessEvents | take 1"}


@only("log-analytics")
def test_a_table_known_to_be_billed_is_never_queried_first(live: Live) -> None:
    billed = ["DeviceProcessEvents"]
    live.service.script(s.send(200, live.body()))
    answer = live.ask(profile=profile_of(live.kind, billed_tables=billed))
    assert (answer.status, answer.attempts) == (Status.FAILED, 0)
    assert live.service.received == []
    allowed = profile_of(live.kind, billed_tables=billed, allow_billed_search=True)
    assert live.ask(profile=allowed).status is Status.COMPLETE
    assert "/search?" in live.service.received[0].path


@only("defender")
def test_rows_of_another_workspace_are_not_the_whole_answer(live: Live) -> None:
    other = "99999999-2222-3333-4444-555555555555"
    columns = (Column("TenantId", "string"), Column("n", "long"))
    live.service.script(s.send(200, live.body(ResultTable(columns, [(other, 1)]))))
    target = Target("contoso", "tenant", WORKSPACE)
    answer = live.backend().ask(Question("T", WINDOW, target))
    assert answer.status is Status.PARTIAL
    assert other in answer.detail


@only("defender")
def test_a_window_older_than_the_product_keeps_is_not_covered(live: Live) -> None:
    live.service.script(s.send(200, live.body()))
    later = replace(RUN, now=Instant.parse("2026-11-20T00:00:00Z"))
    answer = live.ask(run=later)
    assert (answer.status, answer.table) == (Status.UNCOVERED, ROWS)
    assert "nothing before 2026-10-21" in answer.detail


def test_tenants_share_connections_but_no_cookies(live: Live) -> None:
    live.service.script(s.send(200, live.body(), {"Set-Cookie": "tenant=contoso; Path=/"}))
    connections = shared_connections()
    for _ in range(3):
        assert live.ask(connections=connections).status is Status.COMPLETE
    connections.close()
    assert live.service.connections == 1
    assert all("cookie" not in request.headers for request in live.service.received)


def test_no_log_shows_a_token(live: Live, caplog: pytest.LogCaptureFixture) -> None:
    live.service.script(FAULTS["500"], s.send(401, b"{}"), s.send(200, live.body()))
    with caplog.at_level(logging.DEBUG):
        live.ask()
    assert caplog.records
    shown = "\n".join(
        f"{r.getMessage()} {json.dumps(r.__dict__, default=str)}" for r in caplog.records
    )
    assert SECRET not in shown


@pytest.mark.parametrize("kind", ["client-secret", "login"])
def test_a_page_in_place_of_entra_id_is_told(
    service: s.Service, monkeypatch: pytest.MonkeyPatch, kind: Any
) -> None:
    page = s.send(
        200, b"<html>Please sign in to the guest network</html>", {"Content-Type": "text/html"}
    )
    service.script(page)
    monkeypatch.setenv("HUNTER", SECRET)
    client: dict[str, Any] = {"client_id": WORKSPACE, "client_secret_env": "HUNTER"}
    if kind == "login":
        client = {}
    identity = Identity(
        SignIn(kind=kind, **client), WORKSPACE, service.url, "public", str(service.ca),
        ask=lambda _: None,
    )  # fmt: skip
    source = TokenSource(identity)
    with pytest.raises(UnansweredError) as caught:
        source.get_token_info("https://graph.microsoft.com/.default")
    source.close()
    assert "is not Entra ID" in caught.value.message
    assert "proxy" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ({"value": [], "nextLink": "{url}/rules?page=2"}, "goes in a circle"),
        ({"value": [None]}, "no list of rules"),
        ({"value": [], "nextLink": ["{url}/rules"]}, "another host"),
    ],
)
def test_a_list_of_rules_ends_or_is_refused(
    service: s.Service, page: dict[str, Any], words: str
) -> None:
    service.script(s.send(200, json.dumps(page).replace("{url}", service.url).encode()))
    with pytest.raises(UnansweredError, match=words):
        list(rules_of(service).pages("/rules", "nextLink"))


@pytest.mark.parametrize("condition", [None, "T", ["T"]])
def test_a_detection_that_was_written_otherwise_is_an_error(
    service: s.Service, condition: Any
) -> None:
    rule = defender_detection(
        Catalog().find("qakbot-post-compromise-commands")[0],
        RuleOptions(window="1d", add_columns=True),
    )
    service.script(s.send(201, {"id": rule.id, "queryCondition": condition}))
    with pytest.raises(UnansweredError, match="another id or query"):
        DetectionStore(rules_of(service), "tenant").put(rule, None)


def rules_of(service: s.Service) -> RestClient:
    clock = FakeClock()
    client = defender.open_client(Tokens(), service.url, "scope", ca_file=str(service.ca))
    limiter = RateLimiter(clock, concurrency=1, calls=100, per=1.0)
    return RestClient(Transport(client, service.url, limiter, clock, read_timeout=5.0), "rules")
