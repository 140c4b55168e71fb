"""The two query services: what they check, what they answer, and their limits."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from qakhunt.answers import wire_hunting, wire_log_analytics
from qakhunt.answers.cells import WireError, decode_body, encode_body
from qakhunt.backends.engine.session import EngineRefused, EngineTimeout, Session
from qakhunt.hunts.rule_functions import called_functions
from qakhunt.kql.parser import parse
from qakhunt.kql.schema import columns, tables
from qakhunt.kql.syntax import Operator, find
from qakhunt.kql.tokens import Kind, KqlLexError, tokenize
from qakhunt.kql.values import Instant, Timespan
from qakhunt.testing.emulator import identity as tokens
from qakhunt.testing.emulator.identity import Refusal
from qakhunt.testing.emulator.replies import JSON, Reply, error_reply, json_reply, limit_exceeded
from qakhunt.testing.emulator.timespan import days_before, intersect, parse_timespan, since

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from qakhunt.answers.table import ResultTable
    from qakhunt.kql.values import Window
    from qakhunt.testing.emulator.faults import Fault, Situation
    from qakhunt.testing.emulator.scenario import LoadedScenario, Tenant, Workspace

ROWS = {"log-analytics": 500_000, "graph": 100_000, "kusto": 500_000}
BYTES = {"log-analytics": 64_000_000, "graph": 50_000_000}
SECONDS = 180.0
MOST_SECONDS = 600.0
"""The documented limits of one answer."""

_WAIT = re.compile(r"\bwait=(\d+)")
_ANY_TIME = Instant.parse("2000-01-01")


@dataclass(frozen=True)
class Query:
    """A query that has been let in, and the records that it may see."""

    service: str
    text: str
    tenant: Tenant
    inputs: tuple[str, ...]
    product: str
    window: Window
    workspace: str | None
    seconds: float
    prefer: str = ""
    encode: Callable[[Query, ResultTable, Fault | None, int], Reply] | None = None
    """How a result becomes a reply, given the row limit, where its service has its own way."""


@dataclass(frozen=True)
class Asked:
    """A request as both services read it: headers and query string folded to lower case."""

    headers: Mapping[str, str]
    parameters: Mapping[str, str]
    body: bytes

    def values(self) -> dict[str, Any] | None:
        """The JSON body, keys in lower case; of a GET, the query string. None: no object."""
        if not self.body:
            return {name.lower(): value for name, value in self.parameters.items()}
        try:
            value = decode_body(self.body).value
        except WireError:
            return None
        if not isinstance(value, dict):
            return None
        return {**self.parameters, **{str(key).lower(): item for key, item in value.items()}}


class QueryServices:
    """Log Analytics and advanced hunting over one store of events."""

    def __init__(self, loaded: LoadedScenario, store: EventStore, issuer: tokens.Issuer) -> None:
        self._loaded = loaded
        self._store = store
        self._issuer = issuer
        self.functions: Callable[[str], Mapping[str, Mapping[str, Any]]] = lambda _workspace: {}
        self.tenants = {t.id.lower(): t for t in loaded.scenario.tenants}
        self.workspaces = {
            w.id.lower(): (t, w) for t in loaded.scenario.tenants for w in t.workspaces
        }
        # All inputs are read now, so that what is wrong with them is reported before serving;
        # the second product's view of them is made when it is first asked for.
        loaded_inputs = {self.inputs(t, w): "log-analytics" for t, w in self.workspaces.values()}
        for tenant in self.tenants.values():
            loaded_inputs.setdefault(self.inputs(tenant, None), "defender")
        for inputs, product in loaded_inputs.items():
            store.open(inputs, product)

    def inputs(self, tenant: Tenant, workspace: Workspace | None) -> tuple[str, ...]:
        """What a workspace holds, or without one the tenant."""
        own = workspace.events if workspace is not None else None
        return self._loaded.inputs(tenant.events if own is None else own)

    def clock(self) -> Instant:
        """The services' time in queries."""
        fixed = self._loaded.scenario.fixed_now
        if fixed is not None:
            return fixed
        return Instant((int(self._issuer.clock.time()) + 62_135_596_800) * 10_000_000)

    def admit_log_analytics(self, guid: str, asked: Asked, *, search: bool) -> Query | Reply:
        """Check a request to a workspace: token, permission, body, time span, tables."""
        service = "log-analytics"
        allowed = self._workspace(guid, asked)
        if isinstance(allowed, Reply):
            return allowed
        tenant, workspace = allowed
        values = asked.values()
        if asked.body and "json" not in asked.headers.get("content-type", ""):
            values = {}
        if values is None:
            return self._refuse(service, "bad-request", words="The request body is not JSON")
        if not values.get("query"):
            return Reply(200)  # the service answers a request without a body with nothing
        text, spoken = str(values["query"]), asked.parameters if search else values
        if values.get("workspaces"):
            return self._refuse(
                service, "bad-request", words="The emulator answers for one workspace a call"
            )
        if not search:
            basic = _first_named(text, workspace.basic_tables)
            if basic:
                return self._refuse(service, "basic-table", word=basic)
        try:
            window = parse_timespan(str(spoken.get("timespan") or ""), self.clock())
        except ValueError as problem:
            return self._refuse(service, "bad-timespan", words=str(problem))
        prefer = asked.headers.get("prefer", "")
        waited = _WAIT.search(prefer)
        seconds = min(float(waited[1]), MOST_SECONDS) if waited else SECONDS
        return Query(
            service, text, tenant, self.inputs(tenant, workspace), "log-analytics",
            self.kept(window, workspace.retention or tenant.retention), workspace.id,
            seconds if tenant.limits.seconds is None else tenant.limits.seconds, prefer,
        )  # fmt: skip

    def batch(self, asked: Asked) -> list[tuple[str, str, str, Asked]]:
        """The queries of a batch: id, workspace, ``query`` or ``search``, and each as a request.

        Raises ValueError where the body is no batch.
        """
        requests = (asked.values() or {}).get("requests")
        if not isinstance(requests, list) or not requests:
            raise ValueError("The batch has no requests")
        found = []
        for one in requests:
            if not isinstance(one, dict) or not isinstance(one.get("headers", {}), dict):
                raise ValueError("A request of the batch is not an object")
            path = str(one.get("path") or "/query").strip("/").lower()
            if path not in ("query", "search"):
                raise ValueError(f"The path /{path} cannot be part of a batch")
            own = {str(k).lower(): str(v) for k, v in one.get("headers", {}).items()}
            own = {**own, "authorization": asked.headers.get("authorization", "")}
            body = encode_body(one.get("body") or {})
            own["content-type"] = JSON
            inner = Asked(own, {}, body)
            found.append((str(one.get("id")), str(one.get("workspace")).lower(), path, inner))
        return found

    def metadata(self, guid: str, asked: Asked) -> Reply:
        """The schema of a workspace's tables."""
        allowed = self._workspace(guid, asked)
        if isinstance(allowed, Reply):
            return allowed
        tenant, workspace = allowed
        inputs = self.inputs(tenant, workspace)
        held = self._store.loaded_tables(inputs, "log-analytics")
        names = sorted({*tables("log-analytics"), *held})
        described = [
            {
                "id": name, "name": name, "timespanColumn": "TimeGenerated",
                "columns": [
                    {"name": column, "type": kind} for column, kind in self._columns(name, inputs)
                ],
                "hasData": name in held,
            }
            for name in names
        ]  # fmt: skip
        owner = {"id": workspace.id, "name": tenant.name or workspace.id, "related": {
            "tables": names
        }}  # fmt: skip
        return json_reply({"tables": described, "workspaces": [owner]})

    def _columns(self, table: str, inputs: tuple[str, ...]) -> list[tuple[str, str]]:
        known = columns("log-analytics", table)
        if known:
            return list(known.items())
        now = self.clock()
        found = self._store.ask(
            inputs, "log-analytics", f"['{table}'] | take 0", now=now, window=since(now),
            timeout=SECONDS, workspace=None,
        )  # fmt: skip
        return [(column.name, column.kql_type) for column in found.columns]

    def _workspace(self, guid: str, asked: Asked) -> tuple[Tenant, Workspace] | Reply:
        """The workspace that a request names, where its token may read it."""
        claims = self._issuer.judge(asked.headers.get("authorization"), tokens.LOG_ANALYTICS)
        if isinstance(claims, Refusal):
            return self._refuse("log-analytics", claims.kind)
        found = self.workspaces.get(guid.lower())
        if found is None:
            return self._refuse("log-analytics", "not-found")
        if not self.may_read(claims, *found):
            return self._refuse("log-analytics", "forbidden")
        return found

    def admit_hunting(self, asked: Asked) -> Query | Reply:
        """Check a request to advanced hunting; the token says whose events it sees."""
        service = "graph"
        claims = self._issuer.judge(asked.headers.get("authorization"), tokens.GRAPH)
        if isinstance(claims, Refusal):
            return self._refuse(service, claims.kind)
        tenant = self.tenant_of(claims)
        granted = {*claims.get("roles", ()), *str(claims.get("scp", "")).split()}
        if claims and "ThreatHunting.Read.All" not in granted:
            return self._refuse(service, "forbidden")
        values = asked.values()
        if values is None or not values.get("query"):
            return self._refuse(service, "bad-request", words="The request has no Query")
        try:
            window = parse_timespan(str(values.get("timespan") or "P30D"), self.clock())
        except ValueError as problem:
            return self._refuse(service, "bad-timespan", words=str(problem))
        # A workspace that the caller may not see is silently passed over, as the service does.
        wanted = str(values.get("workspaceid") or "").lower()
        chosen = next((w for w in tenant.workspaces if w.id.lower() == wanted and w.readable), None)
        return Query(
            service, str(values["query"]), tenant, self.inputs(tenant, chosen), "defender",
            self.kept(window, tenant.retention), None,
            SECONDS if tenant.limits.seconds is None else tenant.limits.seconds,
        )  # fmt: skip

    def tenant_of(self, claims: Mapping[str, Any]) -> Tenant:
        """The tenant of a token; without one, the first."""
        first = self._loaded.scenario.tenants[0]
        return self.tenants.get(str(claims.get("tid", "")).lower(), first)

    def may_read(self, claims: Mapping[str, Any], tenant: Tenant, workspace: Workspace) -> bool:
        """Whether a token with these claims may read a workspace."""
        if not claims:
            return workspace.readable
        home = str(claims["tid"]).lower()
        own = home == tenant.id.lower() and workspace.readable
        return own or home in {reader.lower() for reader in workspace.readers}

    def kept(self, window: Window, retention: str | None) -> Window:
        """What of a window is not older than the retention."""
        if retention is None:
            return window
        days = Timespan.parse(retention).seconds / 86_400
        return intersect(window, since(days_before(self.clock(), days)))

    def answer(self, query: Query, fault: Fault | None, at: Situation) -> Reply:
        """Run the query, blocking, and encode its result within the service's limits."""
        window = query.window
        if fault and fault.window:
            window = fault.window(window, at)
        functions = self.functions(query.workspace) if query.workspace else {}
        head = "".join(_definitions(query.text, functions))
        try:
            table = self._store.ask(
                query.inputs, query.product, head + query.text, now=self.clock(), window=window,
                timeout=query.seconds, workspace=query.workspace,
            )  # fmt: skip
        except EngineTimeout:
            return self._refuse(query.service, "timeout")
        except EngineRefused as problem:
            kind = "syntax" if problem.message.startswith("syntax error") else "semantic"
            words = _service_words(replace(query, text=head + query.text), problem)
            line = max(problem.line - head.count("\n"), 0)
            return self._refuse(
                query.service, kind, words=words, line=line, column=problem.column,
                word=_word_at(query.text, line, problem.column),
            )  # fmt: skip
        if fault and fault.rows:
            table = fault.rows(table, at)
        if query.encode is not None:
            return query.encode(query, table, fault, at.row_limit)
        if query.service == "graph":
            return self._hunting_reply(query, table, fault, at)
        return self._log_analytics_reply(query, table, fault, at)

    def _hunting_reply(
        self, query: Query, table: ResultTable, fault: Fault | None, at: Situation
    ) -> Reply:
        body = wire_hunting.encode(replace(table, rows=table.rows[: at.row_limit]))
        if len(body) > (query.tenant.limits.bytes or BYTES["graph"]):
            return self._refuse("graph", "too-large")
        if fault and fault.partial:
            body = _beside(body, {"error": wire_log_analytics.error_value(fault.partial)})
        return Reply(200, body, {"content-type": JSON})

    def _log_analytics_reply(
        self, query: Query, table: ResultTable, fault: Fault | None, at: Situation
    ) -> Reply:
        partial = fault.partial if fault else None
        most = query.tenant.limits.bytes or BYTES["log-analytics"]
        if len(table) > at.row_limit:
            table = replace(table, rows=table.rows[: at.row_limit])
            partial = limit_exceeded(at.row_limit, "records")
        body = wire_log_analytics.encode(table, partial)
        if len(body) > most:
            table = replace(table, rows=table.rows[: len(table) * most // len(body)])
            body = wire_log_analytics.encode(table, limit_exceeded(most, "bytes"))
        body = _beside(body, _extras(query.prefer, table))
        return Reply(200, body, {"content-type": JSON})

    def _refuse(self, service: str, kind: str, **words: object) -> Reply:
        return error_reply(service, kind, self._issuer.clock.time(), **words)


def _definitions(text: str, functions: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """The workspace's functions that a query calls, as lets before it."""
    for name in called_functions(text, functions) if functions else ():
        own = functions[name]
        others = {other: one for other, one in functions.items() if other != name}
        yield from _definitions(own["query"], others)
        yield f"let {name} = ({own.get('functionParameters') or ''}) {{\n{own['query']}\n}};\n"


_UNKNOWN = re.compile(r"no (table|column|table or column) named '(.*)'")


def _service_words(query: Query, problem: EngineRefused) -> str:
    """The engine's message as the service words it where a name is not known."""
    found = _UNKNOWN.fullmatch(problem.message)
    if found is None:
        return problem.message
    lines = query.text.splitlines(keepends=True)[: problem.line - 1]
    at = sum(map(len, lines)) + problem.column - 1
    return unresolved(query.service, query.text, found[2], at, column=found[1] == "column")


def unresolved(service: str, text: str, name: str, start: int, *, column: bool = False) -> str:
    """The service's sentence about a name at an offset of the query that it does not know."""
    scalar = "scalar" if service == "kusto" else "column or scalar"
    what = scalar if column else "table or column"
    lead = "" if service == "graph" else f"'{_operator_at(text, start)}' operator: "
    return f"{lead}Failed to resolve {what} expression named '{name}'"


def _operator_at(text: str, start: int) -> str:
    """The operator that holds a place; at a query's source, the first that follows."""
    operators = [one for one in find(parse(text), Operator) if one.end > start]
    holding = [one for one in operators if one.start <= start]
    chosen = max(holding, key=lambda one: one.start, default=None) or min(
        operators, key=lambda one: one.start, default=None
    )
    return chosen.name if chosen else "query"


def _extras(prefer: str, table: ResultTable) -> dict[str, Any]:
    """What a Prefer header asks for beside the rows."""
    extras: dict[str, Any] = {}
    if "include-statistics=true" in prefer:
        extras["statistics"] = {"query": {"datasetStatistics": [{"tableRowCount": len(table)}]}}
    if "include-render=true" in prefer:
        extras["render"] = {"visualization": "table", "title": None}
    return extras


def _beside(body: bytes, members: Mapping[str, Any]) -> bytes:
    """More members of the JSON object ``body``, before its own."""
    if not members:
        return body
    return encode_body(members)[:-1] + b"," + body[1:]


def _first_named(text: str, tables: tuple[str, ...]) -> str | None:
    try:
        named = {token.text for token in tokenize(text)}
    except KqlLexError:
        return None
    return next((table for table in tables if table in named), None)


def _word_at(text: str, line: int, column: int) -> str:
    """The word of the query that an error points at."""
    lines = text.splitlines()
    if not 0 < line <= len(lines):
        return ""
    match = re.match(r"\w+|\S?", lines[line - 1][column - 1 :])
    return match[0] if match else ""


# The recorded events of all tenants


class EventStore:
    """One engine per set of inputs and product, shared by all workspaces that hold it."""

    def __init__(self) -> None:
        self._sessions: dict[tuple[tuple[str, ...], str], tuple[Session, threading.Lock]] = {}
        self._opening = threading.Lock()

    def loaded_tables(self, inputs: tuple[str, ...], product: str) -> frozenset[str]:
        """The tables of which the inputs hold records."""
        return frozenset(self.open(inputs, product)[0].loaded_tables)

    def open(self, inputs: tuple[str, ...], product: str) -> tuple[Session, threading.Lock]:
        """Load the inputs, once. Raises EventsError, EngineError."""
        key = (inputs, product)
        with self._opening:
            if key not in self._sessions:
                self._sessions[key] = (Session(inputs, product), threading.Lock())
            return self._sessions[key]

    def ask(
        self,
        inputs: tuple[str, ...],
        product: str,
        text: str,
        *,
        now: Instant,
        window: Window,
        timeout: float,
        workspace: str | None,
    ) -> ResultTable:
        """Run one query over the inputs; as ``Session.ask``."""
        session, lock = self.open(inputs, product)
        if not _reads_the_clock(text):
            now = _ANY_TIME  # the engine keeps what it translated, by text and time
        with lock:
            return session.ask(text, now=now, window=window, timeout=timeout, workspace=workspace)

    def close(self) -> None:
        """Give back the engines and their temporary files."""
        for session, lock in self._sessions.values():
            with lock:
                session.close()
        self._sessions.clear()


def _reads_the_clock(text: str) -> bool:
    try:
        tokens = tokenize(text)
    except KqlLexError:
        return False
    return any(t.kind is Kind.IDENTIFIER and t.text in ("now", "ago") for t in tokens)
