"""From a reply of the wire to an answer: what the services have in common."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from qakhunt.answers.ledger import Status
from qakhunt.answers.response import ServiceError, decode_error
from qakhunt.backends.base import Answer, Backend
from qakhunt.backends.transport import Outcome, Reply
from qakhunt.kql.values import Window

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qakhunt.answers.cells import WireError
    from qakhunt.answers.response import Response
    from qakhunt.answers.table import ResultTable
    from qakhunt.backends.base import RunLimits
    from qakhunt.backends.profile import Profile
    from qakhunt.backends.rate_limiter import RateLimit
    from qakhunt.backends.transport import Transport
    from qakhunt.kql.values import Instant

_SIZE = (
    "exceed the set limit", "-2133196797", "0x80DA0003", "E_QUERY_RESULT_SET_TOO_LARGE",
    "result set too large", "result set has exceeded", "response size", "ResponseSizeError",
    "exceeded the allowed result size", "result size exceeds", "too many results",
)  # fmt: skip
_EFFORT = (
    "-2133196799", "0x80DA0001", "runaway query", "preempted", "exceeded the allowed limits",
    "memory budget", "request timed out", "query timed out", "execution timed out", "timeout",
)  # fmt: skip
ACROSS = re.compile(r"\bworkspace\s*\(")
"""A query that names other workspaces itself shows their rows, too."""
_WORKSPACE_COLUMNS = ("tenantid", "workspaceid", "_workspaceid")
_LONGEST_DETAIL = 600
SHORTER = "ask for a shorter window, or slice it: --slice 1d"


class ServiceBackend(Backend):
    """A backend that asks a service for one profile in one run.

    ``rate`` and ``row_limit`` are the service's own; a profile may say less.
    """

    rate: RateLimit
    row_limit: int

    def __init__(self, transport: Transport, profile: Profile, run: RunLimits) -> None:
        self.transport, self.profile, self.run = transport, profile, run
        self.concurrency = profile.limits.concurrency or self.rate.concurrency
        self.row_limit = profile.limits.row_limit or self.row_limit
        self.oldest = run.now - run.retention if run.retention else None
        self.longest_gap = run.longest_gap

    @property
    def clock_skew(self) -> float | None:
        """Seconds that the service's clock is ahead of ours, once it answered."""
        return self.transport.clock_skew

    def close(self) -> None:
        """Close the connections."""
        self.transport.close()


def bad_request_in(reply: Reply) -> ServiceError | None:
    """The error of a 400; None for every other reply."""
    if reply.outcome is Outcome.ANSWERED and reply.status == 400:
        return decode_error(reply.body)
    return None


def answer(reply: Reply, status: Status, table: ResultTable | None = None, **rest: Any) -> Answer:
    """An answer with the reply's account of tries, waits and ids."""
    return Answer(
        status, table, bytes=len(reply.body), attempts=reply.attempts, waits=reply.waits,
        request_ids=reply.request_ids, elapsed=reply.elapsed, **rest,
    )  # fmt: skip


def unreadable(reply: Reply, problem: WireError) -> Answer:
    """The answer for a 200 whose body is no result, with the error in it if there is one."""
    error = decode_error(reply.body)
    said = f": {one_line(error.words)}" if error and error.words else ""
    page = reply.body[:256].lstrip().startswith(b"<")
    hint = "a proxy or sign-in page answers instead of the service: check HTTPS_PROXY"
    return answer(reply, Status.FAILED, detail=f"{problem}{said}", hint=hint if page else "")


def incomplete(
    reply: Reply,
    response: Response,
    *,
    asked: str | None,
    row_limit: int,
) -> Answer | None:
    """The answer for a result that is not all of it, or another workspace's, else None.

    ``asked`` is the workspace that was to answer.
    """
    table, partial = response.table, response.partial
    if partial:
        words = one_line(partial.words) or "the service sent an error without words"
        if hit_size_limit(partial):
            return answer(
                reply, Status.TRUNCATED, table, detail=f"result too large: {words}",
                hint=SHORTER, divisible=True,
            )  # fmt: skip
        return answer(
            reply, Status.PARTIAL, table, detail=words, divisible=hit_effort_limit(partial)
        )
    if len(table) >= row_limit:
        return answer(
            reply, Status.TRUNCATED, table, divisible=True, hint=SHORTER,
            detail=f"cut at the service's limit of {row_limit:,} rows",
        )  # fmt: skip
    if response.damaged:
        return answer(reply, Status.PARTIAL, table, detail="parts of the answer were not UTF-8")
    if response.faults:
        return answer(reply, Status.PARTIAL, table, detail=one_line("; ".join(response.faults)))
    other = other_workspace(table, asked)
    if other:
        return answer(
            reply, Status.PARTIAL, table, detail=f"the workspace {other} answered instead",
            hint="the service falls back to the primary workspace where the asked one "
            "cannot be read: check its id and the permissions on it",
        )  # fmt: skip
    return None


def unknown_members(response: Response) -> str:
    """A note of the members of a whole answer that the format does not have."""
    if not response.unknown:
        return ""
    return one_line(f"the answer also has {', '.join(map(repr, response.unknown[:10]))}")


def other_workspace(table: ResultTable, asked: str | None) -> str | None:
    """The workspace other than ``asked`` that rows name, if any does."""
    if asked is None:
        return None
    for position, column in enumerate(table.columns):
        if column.name.casefold() not in _WORKSPACE_COLUMNS:
            continue
        for row in table.rows:
            named = row[position]
            if named and str(named).casefold() != asked.casefold():
                return str(named)
    return None


def bad_request(reply: Reply, error: ServiceError, hint: str = "") -> Answer:
    """The answer for a 400: a limit that was hit, else a rejection of the query."""
    words = one_line(error.words)
    if hit_size_limit(error) or hit_effort_limit(error):
        return answer(reply, Status.FAILED, detail=words, divisible=True, hint=SHORTER)
    return answer(
        reply, Status.FAILED, detail=words, hint=hint, rejected=True, place=error.query_place
    )


def before(window: Window, oldest: Instant) -> tuple[Window, ...]:
    """What of the window is older than all records that are kept."""
    return (Window(window.start, min(oldest, window.end)),)


def before_retention(
    reply: Reply, table: ResultTable, window: Window, oldest: Instant | None
) -> Answer | None:
    """The answer where the window begins before the oldest record that is kept, else None."""
    if oldest is None or window.start >= oldest:
        return None
    return answer(
        reply, Status.UNCOVERED, table, gaps=before(window, oldest),
        detail=f"the workspace keeps no older records: nothing before {oldest} was looked at",
        hint="ask for a window that its retention covers",
    )  # fmt: skip


def failure(reply: Reply, permission: Mapping[int, tuple[str, str]], window: Window) -> Answer:
    """The answer for a reply that holds no result.

    ``permission`` gives sentence and hint for the statuses 401, 403 and 404, which mean
    different things to the services.
    """
    if reply.outcome in (Outcome.OUT_OF_TIME, Outcome.INTERRUPTED):
        return answer(reply, Status.NOT_RUN, detail=reply.problem, hint=reply.hint)
    if reply.outcome is not Outcome.ANSWERED:
        return answer(
            reply, Status.FAILED, detail=reply.problem, hint=reply.hint,
            divisible=reply.outcome is Outcome.TIMED_OUT,
        )  # fmt: skip
    if reply.status == 204:
        return answer(
            reply, Status.UNCOVERED, gaps=(window,),
            detail="the service answered that there is no data at all",
            hint="is the data connector on, and is this the right workspace?",
        )  # fmt: skip
    return _http_failure(reply, permission)


def _http_failure(reply: Reply, permission: Mapping[int, tuple[str, str]]) -> Answer:
    error = decode_error(reply.body)
    said = f": {one_line(error.words)}" if error and error.words else _without_error(reply)
    if reply.status in permission:
        words, hint = permission[reply.status]
        return answer(reply, Status.FAILED, detail=words + said, hint=hint)
    if reply.status == 429:
        return answer(
            reply, Status.FAILED,
            detail=f"throttled {_times(reply.attempts)}{_aside(reply)}{said}",
            hint="fewer lines at once, a longer --deadline, or another identity",
        )  # fmt: skip
    if reply.status == 504 or (error and error.mentions(*_EFFORT)):
        return answer(
            reply, Status.FAILED, detail=f"the query takes more than the service allows{said}",
            hint=SHORTER, divisible=True,
        )  # fmt: skip
    if 300 <= reply.status < 400:
        return answer(
            reply, Status.FAILED, detail=f"HTTP {reply.status}: sent on to another address",
            hint="a proxy or sign-in page answers instead of the service",
        )  # fmt: skip
    if reply.status >= 500 or reply.status == 408:
        return answer(
            reply, Status.FAILED,
            detail=f"the service failed with HTTP {reply.status}, {_times(reply.attempts)}"
            f"{_aside(reply)}{said}",
            hint="try again later; the request ids help the vendor's support",
        )  # fmt: skip
    return answer(reply, Status.FAILED, detail=f"HTTP {reply.status}{said}")


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _aside(reply: Reply) -> str:
    return f" ({reply.problem})" if reply.problem else ""


def _without_error(reply: Reply) -> str:
    start = reply.body[:256].lstrip()
    if start.startswith(b"<"):
        return ": an HTML page, so a proxy or gateway answered"
    if not start:
        return ": an empty answer"
    return ""


def hit_size_limit(error: ServiceError) -> bool:
    """Whether the service says that the result was too large."""
    return error.mentions(*_SIZE)


def hit_effort_limit(error: ServiceError) -> bool:
    """Whether the service says that the query took too much time, memory or CPU."""
    return error.mentions(*_EFFORT)


def one_line(text: str) -> str:
    """The service's words on one line of bounded length."""
    flat = re.sub(r"\s+", " ", text).strip()
    return flat if len(flat) <= _LONGEST_DETAIL else flat[: _LONGEST_DETAIL - 1] + "…"
