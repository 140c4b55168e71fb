"""The ASGI application: every endpoint, and what each call meets on its way.

A call is counted, waits the tenant's latency, meets the tenant's throttle, then a
scripted fault or the true answer, and travels as the fault says: whole through ASGI, or
broken on the connection itself.
"""

from __future__ import annotations

import asyncio
import email.utils
import gzip
import http
import socket
import struct
import threading
import uuid
import zlib
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.routing import Route

from qakhunt.answers.cells import WireError, decode_body
from qakhunt.testing.emulator import detections, identity
from qakhunt.testing.emulator.arm import ResourceManager
from qakhunt.testing.emulator.faults import FAULTS, Delivery, Fault, Situation
from qakhunt.testing.emulator.identity import (
    Entra,
    Issuer,
    Refusal,
    managed_identity,
    pipeline_assertion,
)
from qakhunt.testing.emulator.kusto import KustoService, as_version_1
from qakhunt.testing.emulator.queries import ROWS, Asked, EventStore, Query, QueryServices
from qakhunt.testing.emulator.replies import (
    REQUEST_ID,
    Reply,
    aadsts_reply,
    error_reply,
    json_reply,
    throttled_until,
)
from qakhunt.testing.emulator.resources import RefusedError
from qakhunt.testing.emulator.scenario import Script

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping

    from starlette.requests import Request

    from qakhunt.testing.emulator.clock import Clock
    from qakhunt.testing.emulator.scenario import Call, FaultRule, LoadedScenario, Tenant

    Answer = Callable[[Fault | None, Situation], Awaitable[Reply]]
    SignIn = Callable[[Tenant, Mapping[str, str]], Reply]
    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]

CONNECTION = "qakhunt.connection"
"""The ASGI extension that holds the connection's transport."""
_DRIPS = 20
MOST_BYTES = 1_048_576
"""One call's body, before compression."""
MOST_FIELD = 64 * 1024
"""One field's bytes; the service cuts longer ones off."""


class Door:
    """Whether the emulator takes connections at all; the server puts its own in place."""

    async def shut(self, seconds: float) -> None:
        """Refuse connections for so long."""


AT_ONCE = {"query": 5, "search": 2}
MOST_QUEUED, LONGEST_QUEUED = 200, 180.0


class Queue:
    """Queries of one identity that run at once, and those that wait for them, first come first.

    https://learn.microsoft.com/azure/azure-monitor/service-limits: five at once, two of basic
    tables; three minutes in the queue, or 200 in it, are refused.
    """

    def __init__(self, clock: Clock, at_once: int) -> None:
        self._clock, self._running = clock, asyncio.Semaphore(at_once)
        self._waiting = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[float | None]:
        """The seconds that it waited, once it is its turn; None where it is refused."""
        if self._running.locked() and self._waiting >= MOST_QUEUED:
            yield None
            return
        since = self._clock.time()
        self._waiting += 1
        try:
            await self._running.acquire()
        finally:
            self._waiting -= 1
        try:
            waited = self._clock.time() - since
            yield waited if waited < LONGEST_QUEUED else None
        finally:
            self._running.release()


class Emulation:
    """One scenario being served: its events, its script and its account of calls."""

    def __init__(
        self, loaded: LoadedScenario, clock: Clock, door: Door, *, limits: bool = False
    ) -> None:
        scenario = loaded.scenario
        self.clock = clock
        self.store = EventStore()
        self.issuer = Issuer(clock, scenario.token_seconds, scenario.any_token)
        self.queries = QueryServices(loaded, self.store, self.issuer)
        self.kusto = KustoService(self.queries, self.store, self.issuer)
        self.resources = ResourceManager(self.queries, self.issuer)
        self.detections = detections.Detections(self.queries, self.issuer)
        self.script = Script(self.queries.tenants, limits)
        self.entra = Entra(scenario, self.issuer)
        self.ingestion = Ingestion()
        self.home = scenario.tenants[0]
        self._door = door
        self._queues: dict[tuple[str, str], Queue] = {}

    def application(self) -> Starlette:
        """The routes of all services."""
        post, both = ["POST"], ["GET", "POST"]
        query, search = (partial(self._log_analytics, path) for path in ("query", "search"))
        machine = partial(self._machine, "managed-identity")
        configuration = partial(self._sign_in, "discovery", self.entra.configuration)
        token, device_code, authorize = (
            partial(self._sign_in, path, reply_for)
            for path, reply_for in (
                ("token", self.entra.token), ("device-code", self.entra.device_code),
                ("token", self.entra.authorize),
            )
        )  # fmt: skip
        return Starlette(routes=[
            Route("/v1/workspaces/{workspace}/query", query, methods=both),
            Route("/v1/workspaces/{workspace}/search", search, methods=both),
            Route("/v1/workspaces/{workspace}/metadata", self._metadata, methods=both),
            Route("/v1/$batch", self._batch, methods=post),
            Route("/v1.0/security/runHuntingQuery", self._hunting, methods=post),
            Route("/v1.0/security/microsoft.graph.security.runHuntingQuery", self._hunting,
                  methods=post),
            Route("/subscriptions/{rest:path}", self._arm, methods=["GET", "PUT", "DELETE"]),
            Route(detections.PATH, self._detections, methods=both),
            Route(detections.PATH + "/{id}", self._detections,
                  methods=["GET", "PATCH", "DELETE"]),
            *self._kusto_routes("/lake/kql", lake=True),
            *self._kusto_routes("", lake=False),
            Route("/dataCollectionRules/{rule}/streams/{stream}", self._ingest, methods=post),
            Route("/msi/token", machine, methods=both),
            Route("/metadata/identity/oauth2/token", machine),
            Route("/oidc/github", partial(self._machine, "github")),
            Route("/oidc/pipelines", partial(self._machine, "pipelines"), methods=post),
            Route("/emulator/calls", self._calls),
            Route("/emulator/rows/{rule}/{stream}", self._rows),
            Route("/common/discovery/instance", self._instance),
            Route("/{tenant}/discovery/v2.0/keys", self._keys),
            Route("/{tenant}/v2.0/.well-known/openid-configuration", configuration),
            Route("/{tenant}/.well-known/openid-configuration", configuration),
            Route("/{tenant}/oauth2/v2.0/token", token, methods=post),
            Route("/{tenant}/oauth2/v2.0/devicecode", device_code, methods=post),
            Route("/{tenant}/oauth2/v2.0/authorize", authorize),
        ])  # fmt: skip

    # What every call goes through.

    async def _exchange(
        self,
        request: Request,
        answer: Answer,
        path: str,
        tenant: Tenant | None,
        workspace: str | None = None,
        query: Query | None = None,
        queued: float = 0.0,
    ) -> _Response:
        call = self.script.begin(
            path, tenant.id.lower() if tenant else None, workspace, self.clock.time()
        )
        if query is not None:
            call.query, call.timespan = query.text, str(query.window)
        call.queued = queued
        rule = self.script.rule_for(call)
        fault = FAULTS[rule.fault] if rule else None
        at = self._situation(path, tenant, rule, fault)
        identity = self.issuer.identity(request.headers.get("authorization"))
        reply = self._hindrance(call, query, at, identity)
        if reply is not None:
            fault = None
        elif fault and fault.instead:
            reply = fault.instead(at)
        else:
            reply = await answer(fault, at)
        if query is not None:
            await self._wait_until(at.now + min(query.tenant.latency, query.seconds))
        if fault and rule:
            call.fault = rule.fault
            if fault.alter and reply.body:
                reply = fault.alter(reply, at)
            if fault.revokes:
                self.issuer.revoke(request.headers.get("authorization"))
        name = REQUEST_ID[at.service]
        if name not in reply.headers:
            reply = replace(reply, headers={**reply.headers, name: str(uuid.uuid4())})
        delivery = fault.delivery if fault else Delivery.WHOLE
        if delivery not in (Delivery.REFUSED, Delivery.RESET_BEFORE):
            call.status = reply.status
        return _Response(self.clock, self._door, reply, delivery, at.seconds)

    def _situation(
        self, path: str, tenant: Tenant | None, rule: FaultRule | None, fault: Fault | None
    ) -> Situation:
        service = {"query": "log-analytics", "search": "log-analytics", "kusto": "kusto"}.get(
            path, "graph"
        )
        seconds = fault.seconds if fault else 0.0
        if rule is not None and rule.seconds is not None:
            seconds = rule.seconds
        limit = tenant.limits.rows if tenant else None
        return Situation(
            service, seconds, self.clock.time(), self.queries.clock(), limit or ROWS[service]
        )

    def _hindrance(
        self, call: Call, query: Query | None, at: Situation, identity: str
    ) -> Reply | None:
        """What the rates and the tenant's time limit say, where the query gets no further."""
        if query is None:
            return None
        wait = self.script.throttled(call, identity)
        if wait is not None:
            call.fault = "throttle"
            if at.service == "kusto":
                return throttled_until(at.now, wait)
            reply = error_reply(at.service, "throttled", at.now)
            return reply.with_headers(retry_after=str(max(int(wait + 0.999), 1)))
        if query.tenant.latency > query.seconds:
            return error_reply(at.service, "timeout", at.now + query.seconds)
        return None

    async def _wait_until(self, moment: float) -> None:
        """The tenant's latency is what an answer takes at least, the engine's time included."""
        left = moment - self.clock.time()
        if left > 0:
            await self.clock.sleep(left)

    # The query services.

    async def _log_analytics(self, path: str, request: Request) -> _Response:
        guid = request.path_params["workspace"].lower()
        admitted = self.queries.admit_log_analytics(
            guid, await _asked(request), search=path == "search"
        )
        found = self.queries.workspaces.get(guid)
        return await self._run(request, admitted, path, found[0] if found else None, guid)

    async def _metadata(self, request: Request) -> _Response:
        asked = await _asked(request)
        return self._plain(self.queries.metadata(request.path_params["workspace"], asked))

    async def _batch(self, request: Request) -> _Response:
        """Each query of a batch is a call of its own; one whose connection breaks breaks all."""
        asked, answers = await _asked(request), []
        try:
            queries = self.queries.batch(asked)
        except ValueError as problem:
            return self._plain(
                error_reply("log-analytics", "bad-request", self.clock.time(), words=problem)
            )
        for number, guid, path, inner in queries:
            admitted = self.queries.admit_log_analytics(guid, inner, search=path == "search")
            found = self.queries.workspaces.get(guid)
            tenant = found[0] if found else None
            answered = await self._run(request, admitted, path, tenant, guid)
            if answered.delivery is not Delivery.WHOLE:
                return answered
            reply = answered.reply
            answers.append({
                "id": number, "status": reply.status, "headers": dict(reply.headers),
                "body": decode_body(reply.body).value if reply.body else None,
            })  # fmt: skip
        return self._plain(json_reply({"responses": answers}))

    async def _hunting(self, request: Request) -> _Response:
        asked = await _asked(request)
        claims = self.issuer.read(identity.bearer(asked.headers.get("authorization"))) or {}
        admitted = self.queries.admit_hunting(asked)
        return await self._run(request, admitted, "hunting", self.queries.tenant_of(claims), None)

    def _kusto_routes(self, base: str, *, lake: bool) -> list[Route]:
        async def query(request: Request, version: int) -> _Response:
            asked = await _asked(request)
            tenant, workspace = self.kusto.target(asked)
            with self.kusto.one_more(tenant, lake=lake) as full:
                admitted = full or self.kusto.admit(asked, lake=lake)
                answered = await self._run(request, admitted, "kusto", tenant, workspace)
            if version == 1 and answered.delivery is Delivery.WHOLE:
                answered.reply = as_version_1(answered.reply)
            return answered

        async def manage(request: Request) -> _Response:
            return self._plain(self.kusto.manage(await _asked(request), lake=lake))

        async def metadata(_request: Request) -> _Response:
            return self._plain(self.kusto.metadata())

        post = ["POST"]
        return [
            Route(f"{base}/v2/rest/query", partial(query, version=2), methods=post),
            Route(f"{base}/v1/rest/query", partial(query, version=1), methods=post),
            Route(f"{base}/v1/rest/mgmt", manage, methods=post),
            Route(f"{base}/v1/rest/auth/metadata", metadata),
        ]

    async def _run(
        self,
        request: Request,
        admitted: Query | Reply,
        path: str,
        tenant: Tenant | None,
        workspace: str | None,
    ) -> _Response:
        async def answer(fault: Fault | None, at: Situation) -> Reply:
            if isinstance(admitted, Reply):
                return admitted
            return await run_in_threadpool(self.queries.answer, admitted, fault, at)

        query = admitted if isinstance(admitted, Query) else None
        if query is None or path not in AT_ONCE or not self.script.limits:
            return await self._exchange(request, answer, path, tenant, workspace, query)
        whose = (self.issuer.identity(request.headers.get("authorization")), path)
        queue = self._queues.setdefault(whose, Queue(self.clock, AT_ONCE[path]))
        async with queue.turn() as queued:
            if queued is None:
                admitted = error_reply(query.service, "throttled", self.clock.time())
                return await self._exchange(request, answer, path, tenant, workspace)
            return await self._exchange(request, answer, path, tenant, workspace, query, queued)

    async def _ingest(self, request: Request) -> _Response:
        asked = await _asked(request)
        claims = self.issuer.judge(asked.headers.get("authorization"), identity.INGESTION)

        async def answer(_fault: Fault | None, at: Situation) -> Reply:
            if isinstance(claims, Refusal):
                return error_reply("graph", claims.kind, at.now)
            rule, stream = request.path_params["rule"], request.path_params["stream"]
            return self.ingestion.take(rule, stream, asked.headers, asked.body)

        tenant = self.home if isinstance(claims, Refusal) else self.queries.tenant_of(claims)
        return await self._exchange(request, answer, "ingestion", tenant)

    # What the services keep.

    async def _arm(self, request: Request) -> _Response:
        path = request.url.path
        tenant, workspace = self.resources.target(path) or (self.home, None)
        guid = workspace.id.lower() if workspace else None
        return await self._managed(request, self.resources.answer, path, tenant, guid)

    async def _detections(self, request: Request) -> _Response:
        token = identity.bearer(request.headers.get("authorization"))
        tenant = self.queries.tenant_of(self.issuer.read(token) or {})
        name = request.path_params.get("id")
        return await self._managed(request, self.detections.answer, name, tenant)

    async def _managed(
        self, request: Request, manage: Callable[..., Reply], name: str | None, tenant: Tenant,
        workspace: str | None = None,
    ) -> _Response:  # fmt: skip
        asked = await _asked(request)

        async def answer(_fault: Fault | None, at: Situation) -> Reply:
            try:
                return await run_in_threadpool(manage, request.method, name, asked, at)
            except RefusedError as problem:
                return problem.reply()

        return await self._exchange(request, answer, "rules", tenant, workspace)

    # Identity.

    async def _sign_in(self, path: str, reply_for: SignIn, request: Request) -> _Response:
        values = {**request.query_params, **await _form(request), **request.path_params}
        tenant = self.entra.tenant(request.path_params["tenant"])

        async def answer(_fault: Fault | None, at: Situation) -> Reply:
            return reply_for(tenant, values) if tenant else aadsts_reply("AADSTS90002", at.now)

        return await self._exchange(request, answer, path, tenant)

    async def _machine(self, kind: str, request: Request) -> _Response:
        values = {**request.query_params, **await _form(request)}

        async def answer(_fault: Fault | None, _at: Situation) -> Reply:
            if kind == "managed-identity":
                return managed_identity(self.issuer, self.home, request.headers, values)
            key = "value" if kind == "github" else "oidcToken"
            return pipeline_assertion(self.issuer, self.home, request.headers, values, key)

        path = "managed-identity" if kind == "managed-identity" else "federation"
        return await self._exchange(request, answer, path, self.home)

    # The plain ones.

    async def _instance(self, request: Request) -> _Response:
        return self._plain(
            self.entra.instance(request.query_params.get("authorization_endpoint", ""))
        )

    async def _keys(self, request: Request) -> _Response:
        return self._plain(json_reply(self.issuer.keys()))

    async def _calls(self, request: Request) -> _Response:
        return self._plain(json_reply([asdict(call) for call in self.script.calls]))

    async def _rows(self, request: Request) -> _Response:
        rule, stream = request.path_params["rule"], request.path_params["stream"]
        return self._plain(json_reply(self.ingestion.rows(rule, stream)))

    def _plain(self, reply: Reply) -> _Response:
        return _Response(self.clock, self._door, reply)


async def _asked(request: Request) -> Asked:
    parameters = {name.lower(): value for name, value in request.query_params.items()}
    return Asked(request.headers, parameters, await request.body())


async def _form(request: Request) -> Mapping[str, str]:
    body = await request.body()
    return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))


# How a reply travels


@dataclass
class _Response:
    """A reply that travels as its delivery says; ``seconds`` is the fault's time."""

    clock: Clock
    door: Door
    reply: Reply
    delivery: Delivery = Delivery.WHOLE
    seconds: float = 0.0

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if "date" not in self.reply.headers:
            now = email.utils.formatdate(self.clock.time(), usegmt=True)
            self.reply = self.reply.with_headers(date=now)
        if self.delivery is Delivery.WHOLE:
            await send(_start(self.reply))
            await send(_body(self.reply.body, more=False))
        elif self.delivery is Delivery.DRIP:
            await self._drip(send)
        else:
            await self._break(scope["extensions"][CONNECTION])
            while (await receive())["type"] != "http.disconnect":
                pass  # the server has to see the connection end: nothing is to be sent on it

    async def _drip(self, send: Send) -> None:
        await send(_start(self.reply))
        step = max(-(-len(self.reply.body) // _DRIPS), 1)
        for at in range(0, len(self.reply.body), step):
            await self.clock.sleep(self.seconds / _DRIPS)
            await send(_body(self.reply.body[at : at + step], more=True))
        await send(_body(b"", more=False))

    async def _break(self, transport: Any) -> None:
        reply, delivery = self.reply, self.delivery
        half = reply.body[: len(reply.body) // 2]
        if delivery is Delivery.REFUSED:
            await self.door.shut(self.seconds)
            _reset(transport)
        elif delivery is Delivery.RESET_BEFORE:
            _reset(transport)
        elif delivery is Delivery.RESET_DURING:
            transport.write(_head(reply, len(reply.body)) + half)
            await _flushed(transport)
            _reset(transport)
        elif delivery is Delivery.CUT:
            transport.write(_head(reply, len(reply.body)) + half)
            transport.close()
        elif delivery is Delivery.LENGTH_TOO_LONG:
            transport.write(_head(reply, len(reply.body) + 100) + reply.body)
            transport.close()
        elif delivery is Delivery.LENGTH_TOO_SHORT:
            transport.write(_head(reply, len(half)) + reply.body)
            transport.close()


def _start(reply: Reply) -> dict[str, Any]:
    headers = [(name.encode(), value.encode("latin-1")) for name, value in reply.headers.items()]
    if reply.status != http.HTTPStatus.NO_CONTENT:
        headers.append((b"content-length", str(len(reply.body)).encode()))
    return {"type": "http.response.start", "status": reply.status, "headers": headers}


def _body(data: bytes, *, more: bool) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


def _head(reply: Reply, length: int) -> bytes:
    """Status line and headers as they stand on the wire."""
    phrase = http.HTTPStatus(reply.status).phrase
    lines = [f"HTTP/1.1 {reply.status} {phrase}"]
    lines += [f"{name}: {value}" for name, value in reply.headers.items()]
    lines += [f"content-length: {length}", "connection: close", "", ""]
    return "\r\n".join(lines).encode("latin-1")


async def _flushed(transport: Any) -> None:
    """Wait until the kernel has what was written, so that a reset comes after it."""
    for _ in range(200):
        if not transport.get_write_buffer_size():
            break
        await asyncio.sleep(0.005)
    await asyncio.sleep(0.02)


def _reset(transport: Any) -> None:
    """Drop the connection with a TCP reset instead of an orderly end."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


# Logs Ingestion


class Ingestion:
    """Rows by data collection rule and stream, in the order of their arrival."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str], list[dict[str, Any]]] = {}
        self._lock = threading.Lock()

    def rows(self, rule: str, stream: str) -> list[dict[str, Any]]:
        """What was taken so far."""
        with self._lock:
            return list(self._rows.get((rule, stream), ()))

    def take(self, rule: str, stream: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """Keep the rows of one call: 204, or what is wrong with it."""
        if "json" not in headers.get("content-type", ""):
            return _bad_rows(415, "UnsupportedMediaType", "the body must be application/json")
        if headers.get("content-encoding", "").lower() == "gzip":
            try:
                body = gzip.decompress(body)
            except (OSError, EOFError, zlib.error):
                return _bad_rows(400, "InvalidRequest", "the body is no whole gzip")
        if len(body) > MOST_BYTES:
            return _bad_rows(
                413, "ContentLengthLimitExceeded", f"a body may have {MOST_BYTES} bytes"
            )
        try:
            rows = decode_body(body).value
        except WireError as problem:
            return _bad_rows(400, "InvalidRequest", str(problem))
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            return _bad_rows(400, "InvalidRequest", "the body must be an array of objects")
        with self._lock:
            kept = self._rows.setdefault((rule, stream), [])
            kept.extend({name: _cut(value) for name, value in row.items()} for row in rows)
        return Reply(204)


def _cut(value: Any) -> Any:
    if isinstance(value, str) and len(value) > MOST_FIELD // 4:
        return value.encode()[:MOST_FIELD].decode(errors="ignore")
    return value


def _bad_rows(status: int, code: str, words: str) -> Reply:
    return json_reply({"error": {"code": code, "message": words}}, status)
