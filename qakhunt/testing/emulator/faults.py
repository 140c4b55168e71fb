"""Every fault that the emulator can show: one table, one row each.

A row says what is put in place of the true answer, or how the true answer is
changed, or how its bytes travel. Nothing else in the emulator knows a fault by name.
"""

from __future__ import annotations

import datetime as dt
import email.utils
import json
import re
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

from qakhunt.kql.values import Window
from qakhunt.testing.emulator import shapes
from qakhunt.testing.emulator.replies import (
    AADSTS,
    Reply,
    aadsts_reply,
    error_reply,
    json_reply,
    limit_exceeded,
    throttled_until,
)
from qakhunt.testing.emulator.timespan import NO_TIME, days_before, intersect, since

if TYPE_CHECKING:
    from collections.abc import Callable

    from qakhunt.answers.response import ServiceError
    from qakhunt.answers.table import ResultTable
    from qakhunt.kql.values import Instant


QUERY_PATHS = ("query", "search", "hunting", "kusto")
TABLE_PATHS = ("query", "search", "kusto")
KUSTO_PATHS = ("kusto",)


class Delivery(Enum):
    """How the bytes of a reply reach the client."""

    WHOLE = "whole"
    REFUSED = "refused"
    RESET_BEFORE = "reset before the first byte"
    RESET_DURING = "reset in the middle of the body"
    CUT = "closed in the middle of the body"
    DRIP = "a few bytes at a time"
    LENGTH_TOO_LONG = "Content-Length larger than the body"
    LENGTH_TOO_SHORT = "Content-Length smaller than the body"


@dataclass(frozen=True)
class Situation:
    """Where a fault strikes.

    ``service`` is the way errors are worded: ``log-analytics``, ``graph`` or ``kusto``.
    ``seconds`` is the rule's, else the fault's own; ``now`` is in seconds since
    1970, ``clock`` the services' time in queries; ``row_limit`` the tenant's.
    """

    service: str
    seconds: float
    now: float
    clock: Instant
    row_limit: int


@dataclass(frozen=True)
class Fault:
    """One fault. What is left out stays as in the true answer.

    ``instead`` makes the reply without asking anybody; ``window`` changes what
    records there are; ``rows`` the result; ``partial`` is a PartialError beside
    it; ``alter`` changes the encoded reply. ``revokes`` makes the token that was
    sent worthless from now on. ``seconds`` is the fault's time and ``paths`` the
    calls that it meets, unless the rule has its own.
    """

    summary: str
    instead: Callable[[Situation], Reply] | None = None
    window: Callable[[Window, Situation], Window] | None = None
    rows: Callable[[ResultTable, Situation], ResultTable] | None = None
    partial: ServiceError | None = None
    alter: Callable[[Reply, Situation], Reply] | None = None
    delivery: Delivery = Delivery.WHOLE
    revokes: bool = False
    seconds: float = 0.0
    paths: tuple[str, ...] = QUERY_PATHS


LARGE_BODY = 60_000_000
SAID = "some partitions did not answer"
"""What the service says beside the rows under the faults of errors and warnings."""
OTHER_WORKSPACE = "dddddddd-0000-4000-8000-00000000dead"
"""The workspace that rows name under the fault ``wrong-workspace``."""


def _error(kind: str, **words: object) -> Callable[[Situation], Reply]:
    return lambda at: error_reply(at.service, kind, at.now, **words)


def _retry_seconds(at: Situation) -> Reply:
    reply = error_reply(at.service, "throttled", at.now)
    return reply.with_headers(retry_after=f"{at.seconds:.0f}")


def _retry_date(at: Situation) -> Reply:
    reply = error_reply(at.service, "throttled", at.now)
    return reply.with_headers(retry_after=email.utils.formatdate(at.now + at.seconds, usegmt=True))


def _retry_milliseconds(at: Situation) -> Reply:
    reply = error_reply(at.service, "throttled", at.now)
    return reply.with_headers(x_ms_retry_after_ms=f"{at.seconds * 1000:.0f}")


def _retry_in_words(at: Situation) -> Reply:
    minutes, seconds = divmod(round(at.seconds), 60)
    wait = f"{minutes} minutes" if minutes and not seconds else f"{round(at.seconds)} seconds"
    return error_reply(at.service, "throttled-in-words", at.now, wait=wait)


def _retry_moment(at: Situation) -> Reply:
    return throttled_until(at.now, at.seconds)


_HTML = b"""<html>
<head><title>502 Bad Gateway</title></head>
<body><center><h1>502 Bad Gateway</h1></center>
<hr><center>Microsoft-Azure-Application-Gateway/v2</center></body>
</html>
"""


def _html(_at: Situation) -> Reply:
    return Reply(502, _HTML, {"content-type": "text/html"})


def _empty(status: int) -> Callable[[Situation], Reply]:
    return lambda _at: Reply(status)


def _first_half(table: ResultTable, _at: Situation) -> ResultTable:
    return replace(table, rows=table.rows[: (len(table) + 1) // 2])


def _at_limit(table: ResultTable, at: Situation) -> ResultTable:
    return replace(table, rows=table.rows[: at.row_limit])


def _of_other_workspace(table: ResultTable, _at: Situation) -> ResultTable:
    position = table.index("TenantId")
    if position is None:
        return table
    rows = [(*row[:position], OTHER_WORKSPACE, *row[position + 1 :]) for row in table.rows]
    return replace(table, rows=rows)


_ROWS_MARK = re.compile(rb'"(?:rows|results)":|"TableKind":"PrimaryResult".*?"Rows":')


def _break_text(reply: Reply, _at: Situation) -> Reply:
    """Bytes that are no UTF-8, in the first text among the rows or else anywhere."""
    mark = _ROWS_MARK.search(reply.body)
    start = mark.end() if mark else 0
    quote = reply.body.find(b'"', start)
    if quote < 0:
        quote = reply.body.find(b'"')
    body = reply.body[: quote + 1] + b"\xff\xfe" + reply.body[quote + 1 :]
    return replace(reply, body=body)


def _pad(reply: Reply, _at: Situation) -> Reply:
    """A member that nobody asked for makes the body 60 MB; the answer stays what it was."""
    room = max(LARGE_BODY - len(reply.body), 0)
    opening = reply.body.index(b"{") + 1
    padding = b'"padding":"' + b"x" * room + b'",'
    return replace(reply, body=reply.body[:opening] + padding + reply.body[opening:])


def _skewed(reply: Reply, at: Situation) -> Reply:
    return reply.with_headers(date=email.utils.formatdate(at.now + at.seconds, usegmt=True))


def _shape(summary: str, change: shapes.Change, paths: tuple[str, ...] = QUERY_PATHS) -> Fault:
    """A fault that changes the JSON of a true answer."""

    def alter(reply: Reply, _at: Situation) -> Reply:
        if reply.status != 200:
            return reply
        return replace(reply, body=shapes.changed(reply.body, change))

    return Fault(summary, alter=alter, paths=paths)


def _until_two_weeks_ago(window: Window, at: Situation) -> Window:
    return intersect(window, Window(NO_TIME.start, days_before(at.clock, 14)))


def _sign_in_error(code: str) -> Callable[[Situation], Reply]:
    return lambda at: aadsts_reply(code, at.now)


def _expires_on_text(reply: Reply, _at: Situation) -> Reply:
    value = json.loads(reply.body)
    moment = dt.datetime.fromtimestamp(int(value["expires_on"]), dt.timezone.utc)
    value["expires_on"] = moment.strftime("%m/%d/%Y %H:%M:%S +00:00")
    return json_reply(value, reply.status)


FAULTS: dict[str, Fault] = {
    "syntax-error": Fault(
        "400: the query cannot be parsed",
        instead=_error("syntax", word="where", line=1, column=1)),
    "semantic-error": Fault(
        "400: the query names a column that does not exist",
        instead=_error(
            "semantic", words="Failed to resolve column or scalar expression named 'Nonesuch'")),
    "unauthorized": Fault("401: the token is not accepted", instead=_error("unauthorized")),
    "token-expired": Fault(
        "401: the token has expired; only a new one is let in",
        instead=_error("token-expired"), revokes=True),
    "forbidden": Fault("403: no permission", instead=_error("forbidden")),
    "not-found": Fault("404: no such workspace", instead=_error("not-found")),
    "request-timeout": Fault("408: the request came too slowly", instead=_error("request-timeout")),
    "throttled": Fault("429 with Retry-After in seconds", instead=_retry_seconds, seconds=10),
    "throttled-date": Fault("429 with Retry-After as a date", instead=_retry_date, seconds=10),
    "throttled-milliseconds": Fault(
        "429 with x-ms-retry-after-ms", instead=_retry_milliseconds, seconds=10),
    "throttled-bare": Fault("429 that says nothing of a wait", instead=_error("throttled")),
    "throttled-in-words": Fault(
        "429 with the wait in its text only", instead=_retry_in_words, seconds=10),
    "server-error": Fault("500", instead=_error("server-error")),
    "bad-gateway": Fault("502 with a page of HTML", instead=_html),
    "unavailable": Fault("503", instead=_error("unavailable")),
    "gateway-timeout": Fault("504: the query ran out of time", instead=_error("timeout")),
    "refused": Fault(
        "the service goes down: the connection is reset and for a while none is accepted",
        delivery=Delivery.REFUSED, seconds=5),
    "reset-before": Fault(
        "the connection is reset before the answer", delivery=Delivery.RESET_BEFORE),
    "reset-during": Fault(
        "the connection is reset in the body", delivery=Delivery.RESET_DURING),
    "cut-body": Fault("the connection is closed in the body", delivery=Delivery.CUT),
    "slow-drip": Fault(
        "the answer comes a few bytes at a time", delivery=Delivery.DRIP, seconds=20),
    "length-too-long": Fault(
        "Content-Length is larger than the body", delivery=Delivery.LENGTH_TOO_LONG),
    "length-too-short": Fault(
        "Content-Length is smaller than the body", delivery=Delivery.LENGTH_TOO_SHORT),
    "empty-body": Fault("200 without a body", instead=_empty(200)),
    "no-content": Fault("204: no data in the workspace", instead=_empty(204)),
    "partial": Fault(
        "200 with half of the rows and a PartialError",
        rows=_first_half, partial=limit_exceeded(64_000_000, "bytes")),
    "truncated": Fault("rows beyond the limit are missing, and nothing says so", rows=_at_limit),
    "wrong-workspace": Fault("the rows are another workspace's", rows=_of_other_workspace),
    "invalid-utf8": Fault("the body is not UTF-8", alter=_break_text),
    "large-body": Fault("the body is 60 MB", alter=_pad),
    "no-source-rows": Fault(
        "the tables are empty", window=lambda _window, _at: NO_TIME),
    "aged-out": Fault(
        "records older than 30 days are gone",
        window=lambda window, at: intersect(window, since(days_before(at.clock, 30)))),
    "connector-stopped": Fault("the records end two weeks ago", window=_until_two_weeks_ago),
    "second-table": _shape(
        "the rows are in a second table", shapes.second_table, TABLE_PATHS),
    "same-table-twice": _shape(
        "two tables of one name", shapes.same_table_twice, TABLE_PATHS),
    "no-table": _shape("no table", shapes.no_table, TABLE_PATHS),
    "rows-null": _shape("the rows are null", shapes.rows_are(None)),
    "rows-object": _shape("the rows are an object", shapes.rows_are({})),
    "rows-text": _shape("the rows are a text", shapes.rows_are("")),
    "rows-false": _shape("the rows are false", shapes.rows_are(False)),
    "no-columns": _shape("no columns", shapes.no_columns),
    "other-columns": _shape("another query's columns", shapes.other_columns),
    "twin-columns": _shape("two columns of one name", shapes.twin_columns),
    "short-rows": _shape(
        "rows of fewer cells than columns", shapes.short_rows, TABLE_PATHS),
    "long-rows": _shape("rows of more cells than columns", shapes.long_rows),
    "negative-numbers": _shape("every number is -1", shapes.numbers_are(-1)),
    "text-numbers": _shape("every number is a text", shapes.numbers_are("abc")),
    "next-link": _shape(
        "a link to more rows", shapes.beside(at_nextLink="https://graph.example/next")),
    "next-link-plain": _shape("nextLink", shapes.beside(nextLink="https://service.example/next")),
    "error-capital": _shape(
        "200 with Error beside the rows", shapes.beside(Error={"code": "Broken", "message": SAID})),
    "error-list": _shape(
        "200 with a list of errors", shapes.beside(errors=[{"code": "Broken", "message": SAID}])),
    "warnings": _shape("200 with warnings", shapes.beside(warnings=[SAID])),
    "unknown-member": _shape("a member that no service has", shapes.beside(novelty=1)),
    "throttled-until": Fault(
        "429 with the moment to come back in its text only", instead=_retry_moment, seconds=10,
        paths=KUSTO_PATHS),
    "no-time-scope": Fault(
        "400: a time scope is not accepted", instead=_error("no-time-scope"), paths=KUSTO_PATHS),
    "unknown-table": Fault(
        "400: the table is empty, and so is unknown to the data lake",
        instead=_error("unknown-table", words="'where' operator: Failed to resolve table or "
                       "column expression named 'DeviceProcessEvents'"), paths=KUSTO_PATHS),
    "has-errors": _shape(
        "the completion frame has errors", shapes.beside(
            HasErrors=True, OneApiErrors=[{"error": {"code": "Broken", "@message": SAID}}]),
        KUSTO_PATHS),
    "cancelled": _shape(
        "the completion frame says that the query was cancelled", shapes.beside(Cancelled=True),
        KUSTO_PATHS),
    "no-completion": _shape(
        "the completion frame is missing", shapes.without_frame("DataSetCompletion"), KUSTO_PATHS),
    "clock-skew": Fault("the Date header is ahead", alter=_skewed, seconds=900),
    **{
        code: Fault(f"the token endpoint: {error.summary}",
                    instead=_sign_in_error(code), paths=("token",))
        for code, error in AADSTS.items()
    },
    "expires-on-text": Fault(
        "managed identity: expires_on is no number but a date",
        alter=_expires_on_text, paths=("managed-identity",)),
}  # fmt: skip
"""Name -> fault, in the order in which ``qakhunt emulate --list-faults`` shows them."""
