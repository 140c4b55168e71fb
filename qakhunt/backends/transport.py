"""One question over the wire: sent through azure-core's pipeline, at our rate, by our rules.

The SDK's own retries are off. Nothing is sent again after it answered.
"""

from __future__ import annotations

import logging
import random
import uuid
from dataclasses import dataclass, field
from enum import Enum
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from azure.core.exceptions import AzureError
from azure.core.rest import HttpRequest
from urllib3.exceptions import HTTPError

from qakhunt.backends.base import LONGER, OUT_OF_TIME
from qakhunt.backends.clouds import is_loopback
from qakhunt.backends.connection_faults import ConnectionFault, explain
from qakhunt.backends.rate_limiter import Clock, OutOfTimeError, RateLimiter
from qakhunt.backends.retry import THROTTLED, RetryLimits, http_date, wait_before_retry
from qakhunt.core.errors import QakhuntError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    OnWait = Callable[[str, float, str], None]
    """Called as each wait begins: whose question, seconds, why."""

# These libraries warn on stderr about what is reported better in the ledger.
for _name in ("azure", "msal", "urllib3"):
    logging.getLogger(_name).addHandler(logging.NullHandler())

LARGEST_BODY = 512 * 1024 * 1024
BLOCK = 1 << 18
_REQUEST_IDS = ("x-ms-request-id", "request-id", "x-ms-activity-id")


class Outcome(Enum):
    """How the last try of a call ended."""

    ANSWERED = "answered"
    UNREACHED = "unreached"
    TIMED_OUT = "timed out"
    NOT_SIGNED_IN = "not signed in"
    OUT_OF_TIME = "out of time"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class Reply:
    """The last try's answer, if there was one, and the account of all tries.

    ``status``, ``headers`` (lower-case names) and ``body`` are the service's where
    ``outcome`` is ``ANSWERED``; else ``problem`` and ``hint`` say what was in the way.
    """

    outcome: Outcome
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    problem: str = ""
    hint: str = ""
    attempts: int = 0
    waits: tuple[float, ...] = ()
    request_ids: tuple[str, ...] = ()
    elapsed: float = 0.0


class Client(Protocol):
    """What azure-core's and azure-monitor-query's clients have in common."""

    def send_request(self, request: HttpRequest, *, stream: bool, **options: Any) -> Any:
        """Send through the pipeline."""

    def close(self) -> None:
        """Close the connections."""


def shared_connections(size: int = 50) -> Any:
    """Connections that several clients use, up to ``size`` to one host.

    Fifty tenants behind one host then need as few handshakes as one. No cookie
    of one tenant's answer goes along with another's question.
    """
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3 import Retry

    session = requests.Session()
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))
    never = Retry(total=False, redirect=False, raise_on_status=False)
    for scheme in ("https://", "http://"):
        session.mount(scheme, HTTPAdapter(pool_maxsize=size, max_retries=never))
    return session


def http_options(ca_file: str | None, connections: Any) -> dict[str, Any]:
    """What a client of azure-core is given to reach its service."""
    options: dict[str, Any] = {"connection_timeout": 20, "connection_data_block_size": BLOCK}
    if ca_file:
        options["connection_verify"] = ca_file
    if connections is None:
        return options
    from azure.core.pipeline.transport import RequestsTransport

    return {"transport": RequestsTransport(session=connections, session_owner=False, **options)}


def pipeline_client(
    credential: Any,
    endpoint: str,
    scope: str,
    *,
    ca_file: str | None = None,
    connections: Any = None,
) -> Client:
    """azure-core's pipeline to a service, without retries and redirects.

    ``connections`` are shared with other clients, who close them.
    """
    from azure.core import PipelineClient
    from azure.core.pipeline import policies

    chain = [
        policies.RequestIdPolicy(),
        policies.HeadersPolicy(),
        policies.UserAgentPolicy("qakhunt"),
        policies.ProxyPolicy(),
        policies.BearerTokenCredentialPolicy(credential, scope),
        policies.DistributedTracingPolicy(),
        policies.HttpLoggingPolicy(),
    ]
    return PipelineClient(endpoint, policies=chain, **http_options(ca_file, connections))


@dataclass(frozen=True)
class Call:
    """A request that can be made anew for every try; ``asked_by`` names the asker in notes.

    ``json`` is None where there is no body. With ``once`` only a throttled call is sent again:
    after any other fault it may have been done.
    """

    url: str
    json: Any
    headers: Mapping[str, str]
    asked_by: str
    method: str = "POST"
    once: bool = False


@dataclass(frozen=True)
class _Attempt:
    """How one try ended: an HTTP answer, or a fault on the way."""

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    fault: ConnectionFault | None = None
    authorization: str = field(default="", repr=False)


@dataclass
class _Account:
    """What happened so far to one call."""

    began: float
    tries: int = 0
    renewed: bool = False
    waits: list[float] = field(default_factory=list)
    request_ids: list[str] = field(default_factory=list)

    def reply(self, outcome: Outcome, now: float, **rest: Any) -> Reply:
        return Reply(
            outcome, attempts=self.tries, waits=tuple(self.waits),
            request_ids=tuple(self.request_ids), elapsed=now - self.began, **rest,
        )  # fmt: skip


class Transport:
    """Sends calls of one client; safe from several threads.

    ``read_timeout`` is the longest silence and ``longest_read`` the longest body, in
    seconds; ``timeout`` is the user's own limit, after which a query is not asked
    again; ``deadline`` is a moment of ``clock``; ``renew`` makes the next call
    fetch a fresh token instead of the given ``Authorization`` header's. ``clock_skew``
    is how far, in seconds, the service's clock is ahead of ours, once it answered.
    """

    def __init__(
        self,
        client: Client,
        endpoint: str,
        limiter: RateLimiter,
        clock: Clock,
        *,
        read_timeout: float,
        longest_read: float = 600.0,
        timeout: float | None = None,
        limits: RetryLimits | None = None,
        deadline: float = float("inf"),
        on_wait: OnWait | None = None,
        renew: Callable[[str], None] | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._client, self._limiter, self._clock = client, limiter, clock
        self._limited = timeout is not None
        limit = float("inf") if timeout is None else timeout
        self._read_timeout, self._longest_read = min(read_timeout, limit), min(longest_read, limit)
        self._limits = limits or RetryLimits()
        self._deadline, self._on_wait, self._renew = deadline, on_wait, renew
        self._jitter = jitter
        host = urlsplit(endpoint).hostname or endpoint
        self.endpoint, self._host = endpoint, host
        self.clock_skew: float | None = None
        self._options = {"enforce_https": False} if is_loopback(host) else {}

    def send(self, call: Call) -> Reply:
        """Send until it is answered, must not be sent again, or time is up."""
        account = _Account(self._clock.monotonic())
        while True:
            try:
                attempt = self._try(call, account)
            except OutOfTimeError:
                return self._out_of_time(account)
            except QakhuntError as problem:
                now = self._clock.monotonic()
                return account.reply(
                    Outcome.NOT_SIGNED_IN, now, problem=problem.message, hint=problem.hint or ""
                )
            if attempt.status == 401 and not account.renewed and self._renew:
                account.renewed = True
                self._renew(attempt.authorization)
                continue
            wait = self._wait_before_retry(attempt, account)
            if wait is None or (call.once and attempt.status != THROTTLED):
                return self._ended(attempt, account)
            if sum(account.waits) + wait > self._limits.patience:
                return self._ended(
                    attempt, account, f"the next try could come in {wait:.0f} s only"
                )
            if self._clock.monotonic() + wait >= self._deadline:
                left = max(0.0, self._deadline - self._clock.monotonic())
                words = (
                    f"the next try could come in {wait:.0f} s, of which the run has {left:.0f} s"
                )
                return self._ended(attempt, account, words)
            self._wait(call, attempt, wait, account)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _try(self, call: Call, account: _Account) -> _Attempt:
        with self._limiter.slot(self._deadline):
            account.tries += 1
            request_id = str(uuid.uuid4())
            request = HttpRequest(
                call.method, call.url, json=call.json,
                headers={
                    **call.headers,
                    "x-ms-client-request-id": request_id, "client-request-id": request_id,
                },
            )  # fmt: skip
            account.request_ids.append(request_id)
            left = self._deadline - self._clock.monotonic()
            try:
                response = self._client.send_request(
                    request, stream=True, read_timeout=min(self._read_timeout, left),
                    **self._options,
                )  # fmt: skip
                return self._read(response, account)
            except (AzureError, HTTPError, OSError) as problem:
                return _Attempt(fault=explain(problem, self._host))

    def _read(self, response: Any, account: _Account) -> _Attempt:
        headers = {name.lower(): value for name, value in response.headers.items()}
        sent = http_date(headers.get("date", ""))
        if sent is not None:
            self.clock_skew = sent - self._clock.wall()
        given = next((headers[name] for name in _REQUEST_IDS if headers.get(name)), None)
        if given:
            account.request_ids[-1] = given
        until = self._clock.monotonic() + self._longest_read
        blocks, size = [], 0
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()):
            return _Attempt(fault=ConnectionFault(f"{self._host} sent a broken Content-Length"))
        for block in _blocks(response):
            blocks.append(block)
            size += len(block)
            if self._clock.stopped:
                raise OutOfTimeError
            if size > LARGEST_BODY:
                response.close()
                return _Attempt(fault=ConnectionFault("the answer is too large", passing=False))
            if self._clock.monotonic() > until:
                response.close()
                slow = ConnectionFault("the answer came too slowly to finish", timeout=True)
                return _Attempt(fault=slow)
        body = b"".join(blocks)
        authorization = response.request.headers.get("Authorization", "")
        token = authorization.rpartition(" ")[2].encode()
        if len(token) > 8:  # no answer that repeats it gets any further
            body = body.replace(token, b"[token]")
        if response.status_code == 200 and is_cut(body):
            return _Attempt(fault=ConnectionFault(f"the answer of {self._host} was cut short"))
        return _Attempt(response.status_code, headers, body, authorization=authorization)

    def _wait_before_retry(self, attempt: _Attempt, account: _Account) -> float | None:
        if attempt.fault and not attempt.fault.passing:
            return None
        if attempt.fault and attempt.fault.timeout and self._limited:
            return None
        return wait_before_retry(
            attempt.status, attempt.headers, attempt.body, account.tries,
            wall=self._clock.wall(), jitter=self._jitter, limits=self._limits,
        )  # fmt: skip

    def _wait(self, call: Call, attempt: _Attempt, seconds: float, account: _Account) -> None:
        account.waits.append(round(seconds, 3))
        if attempt.status == THROTTLED:
            self._limiter.pause(seconds)
        if self._on_wait:
            why = attempt.fault.message if attempt.fault else f"HTTP {attempt.status}"
            self._on_wait(call.asked_by, seconds, why)
        self._clock.sleep(seconds)

    def _ended(self, attempt: _Attempt, account: _Account, words: str = "") -> Reply:
        now = self._clock.monotonic()
        if attempt.fault is None:
            return account.reply(
                Outcome.ANSWERED, now, status=attempt.status, headers=attempt.headers,
                body=attempt.body, problem=words,
            )  # fmt: skip
        if now >= self._deadline:
            return self._out_of_time(account)
        outcome = Outcome.TIMED_OUT if attempt.fault.timeout else Outcome.UNREACHED
        problem = "; ".join(filter(None, (attempt.fault.message, words)))
        return account.reply(outcome, now, problem=problem, hint=attempt.fault.hint)

    def _out_of_time(self, account: _Account) -> Reply:
        now = self._clock.monotonic()
        if self._clock.stopped:
            return account.reply(Outcome.INTERRUPTED, now, problem="interrupted")
        return account.reply(Outcome.OUT_OF_TIME, now, problem=OUT_OF_TIME, hint=LONGER)


def _blocks(response: Any) -> Iterator[bytes]:
    """The body as it comes in, where urllib3 can give it so.

    ``iter_bytes`` waits for full blocks: a body that drips in would hold the run up
    silently.
    """
    raw: Any = getattr(getattr(response, "_internal_response", None), "raw", None)
    if not hasattr(raw, "read1"):
        yield from response.iter_bytes()
        return
    while block := raw.read1(BLOCK, decode_content=True):
        yield block


def is_cut(body: bytes) -> bool:
    """Whether JSON was begun and not ended: a broken proxy or a wrong length."""
    end = {b"{": b"}", b"[": b"]"}.get(body[:64].lstrip()[:1])
    return end is not None and not body[-64:].rstrip().endswith(end)
