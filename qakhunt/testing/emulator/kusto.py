"""Kusto on loopback: a cluster, and Sentinel's data lake.

A workspace of the scenario is a database of either, called ``NAME-GUID``; ``default`` is
the tenant's own events. The lake has no empty tables and lacks parts of the language.
"""

from __future__ import annotations

import re
import threading
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from qakhunt import __version__
from qakhunt.answers import wire_kusto
from qakhunt.answers.wire_log_analytics import encode_rows
from qakhunt.kql.edits import Edit, apply
from qakhunt.kql.functions import function_names
from qakhunt.kql.literal import encode
from qakhunt.kql.parser import parse
from qakhunt.kql.schema import SENTINEL, columns
from qakhunt.kql.syntax import Call, Literal, Operator, find
from qakhunt.kql.values import Timespan
from qakhunt.kql.visitors import sources
from qakhunt.testing.emulator.identity import Refusal, bearer
from qakhunt.testing.emulator.queries import Query, unresolved
from qakhunt.testing.emulator.replies import (
    JSON,
    Reply,
    error_reply,
    json_reply,
    limit_exceeded,
    throttled_until,
)
from qakhunt.testing.emulator.timespan import ALL_TIME, parse_timespan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qakhunt.answers.table import ResultTable
    from qakhunt.kql.values import Window
    from qakhunt.testing.emulator.faults import Fault
    from qakhunt.testing.emulator.identity import Issuer
    from qakhunt.testing.emulator.queries import Asked, EventStore, QueryServices
    from qakhunt.testing.emulator.scenario import LoadedScenario, Tenant, Workspace

SERVICE = "kusto"
_PRODUCT = SENTINEL.name
CLUSTER_AUDIENCES = ("https://kusto.kusto.windows.net", "https://kusto.kusto.usgovcloudapi.net")
LAKE_AUDIENCE = "4500ebfb-89b6-4b14-a480-7f749797bfcd"
DEFAULT = "default"
SECONDS = 240.0
BYTES = 64_000_000
LAKE_AT_ONCE = 10
_APP = "db662dc1-0cfe-4e1c-a843-19a68e65be58"
_NOT_IN_LAKE = frozenset(
    ["adx", "arg", "externaldata", "external_data", "ingestion_time", "estimate_data_size"]
)
_SPACE = re.compile(r"\s+")
_NET_TYPES = {
    "bool": "SByte", "int": "Int32", "long": "Int64", "real": "Double", "decimal": "SqlDecimal",
    "string": "String", "datetime": "DateTime", "timespan": "TimeSpan", "guid": "Guid",
    "dynamic": "Object",
}  # fmt: skip


def database_of(tenant: Tenant, workspace: Workspace) -> str:
    """The name of a workspace's database."""
    name = re.sub(r"[^\w.()-]+", "-", tenant.name).strip("-") or "workspace"
    return f"{name}-{workspace.id}"


def first_database(loaded: LoadedScenario) -> str:
    """The database that the ready line names."""
    for tenant in loaded.scenario.tenants:
        for workspace in tenant.workspaces:
            return database_of(tenant, workspace)
    return DEFAULT


class KustoService:
    """What the cluster and the lake check and answer, over the queries' store of events."""

    def __init__(self, queries: QueryServices, store: EventStore, issuer: Issuer) -> None:
        self._queries, self._store, self._issuer = queries, store, issuer
        self._running: Counter[str] = Counter()
        self._lock = threading.Lock()

    def admit(self, asked: Asked, *, lake: bool) -> Query | Reply:
        """Check a query: token, database, properties; of the lake its language and tables."""
        queries = self._queries
        found = self._database(asked, lake=lake)
        if isinstance(found, Reply):
            return found
        values, tenant, workspace = found
        text = values.get("csl")
        if not isinstance(text, str) or not text.strip():
            return self.refuse("bad-request", words="The request has no csl")
        try:
            window, seconds = _options(values.get("properties"), queries)
        except ValueError as problem:
            return self.refuse("bad-request", words=str(problem))
        inputs = queries.inputs(tenant, workspace)
        if lake:
            refusal = self._lake_refusal(text, self._store.loaded_tables(inputs, _PRODUCT))
            if refusal:
                return refusal
        kept = (workspace.retention if workspace else None) or tenant.retention
        limit = tenant.limits.seconds
        return Query(
            SERVICE, _own_tables(text), tenant, inputs, _PRODUCT,
            queries.kept(window, kept), workspace.id if workspace else None,
            min(seconds, SECONDS) if limit is None else limit, encode=reply,
        )  # fmt: skip

    def target(self, asked: Asked) -> tuple[Tenant, str | None]:
        """Whose database a request names, as far as is known."""
        queries = self._queries
        values = asked.values() or {}
        found = queries.workspaces.get(str(values.get("db") or "")[-36:].lower())
        if found:
            return found[0], found[1].id.lower()
        claims = self._issuer.read(bearer(asked.headers.get("authorization")))
        return queries.tenant_of(claims or {}), None

    def _database(
        self, asked: Asked, *, lake: bool
    ) -> tuple[dict[str, Any], Tenant, Workspace | None] | Reply:
        queries = self._queries
        audiences = (LAKE_AUDIENCE,) if lake else CLUSTER_AUDIENCES
        claims = self._issuer.judge(asked.headers.get("authorization"), audiences)
        if isinstance(claims, Refusal):
            return self.refuse(claims.kind)
        values = asked.values()
        if values is None:
            return self.refuse("bad-request", words="The request body is not JSON")
        name = str(values.get("db") or DEFAULT)
        if name == DEFAULT:
            return values, queries.tenant_of(claims), None
        found = queries.workspaces.get(name[-36:].lower())
        if found is None or name[-37:-36] not in ("", "-"):
            return self.refuse("not-found", words=f"Database '{name}' could not be found")
        if not queries.may_read(claims, *found):
            return self.refuse("forbidden")
        return values, *found

    def _lake_refusal(self, text: str, loaded: frozenset[str]) -> Reply | None:
        script = parse(text)
        for node in script.walk():
            if isinstance(node, (Call, Operator)) and node.name in _NOT_IN_LAKE:
                return self.refuse("semantic", words=f"'{node.name}' is not supported")
        for source in sources(script):
            known = source.kind == "table" or columns(_PRODUCT, source.name)
            if source.kind in ("table", "member") and known and source.name not in loaded:
                words = unresolved(SERVICE, text, source.name, source.node.start)
                return self.refuse("unknown-table", words=words)
            if source.kind == "function" and source.name not in function_names():
                return self.refuse("semantic", words=f"Unknown function: '{source.name}'")
        return None

    @contextmanager
    def one_more(self, tenant: Tenant, *, lake: bool) -> Iterator[Reply | None]:
        """A query that runs; a refusal where the tenant's lake runs as many as it may."""
        with self._lock:
            full = lake and self._running[tenant.id] >= LAKE_AT_ONCE
            self._running[tenant.id] += not full
        try:
            yield throttled_until(self._issuer.clock.time(), 5) if full else None
        finally:
            with self._lock:
                self._running[tenant.id] -= not full

    def manage(self, asked: Asked, *, lake: bool) -> Reply:
        """``.show databases`` and ``.show version``; nothing else is a command here."""
        found = self._database(asked, lake=lake)
        if isinstance(found, Reply):
            return found
        values, tenant, _ = found
        command = _SPACE.sub(" ", str(values.get("csl") or "")).strip().rstrip(";").strip()
        if command == ".show version":
            return _version_1(["BuildVersion", "ServiceType"], [[__version__, "qakhunt emulator"]])
        if command == ".show databases":
            names = [database_of(tenant, one) for one in tenant.workspaces]
            return _version_1(["DatabaseName"], [[name] for name in (DEFAULT, *names)])
        return self.refuse("semantic", words=f"'{command:.80}' is not supported")

    def metadata(self) -> Reply:
        """Where to sign in for this cluster."""
        origin = self._issuer.origin
        return json_reply({
            "AzureAD": {
                "LoginEndpoint": origin, "LoginMfaRequired": False, "KustoClientAppId": _APP,
                "KustoClientRedirectUri": "http://localhost",
                "KustoServiceResourceId": CLUSTER_AUDIENCES[0],
                "FirstPartyAuthorityUrl": f"{origin}/f8cdef31-a31e-4b4a-93e4-5f571e91255a",
            }
        })  # fmt: skip

    def refuse(self, kind: str, **words: object) -> Reply:
        """The service's way to say no."""
        return error_reply(SERVICE, kind, self._issuer.clock.time(), **words)


def reply(query: Query, table: ResultTable, fault: Fault | None, row_limit: int) -> Reply:
    """The frames of a result within the service's limits; beyond them it breaks off."""
    error = fault.partial if fault else None
    if len(table) > row_limit:
        table, error = _cut(table, row_limit), limit_exceeded(row_limit, "records")
    body = wire_kusto.encode(table, error)
    most = query.tenant.limits.bytes or BYTES
    if len(body) > most:
        table = _cut(table, len(table) * most // len(body))
        body = wire_kusto.encode(table, limit_exceeded(most, "bytes"))
    return Reply(200, body, {"content-type": JSON})


def as_version_1(answer: Reply) -> Reply:
    """The first version's answer for one of the second."""
    if answer.status != 200:
        return answer
    found = wire_kusto.decode(answer.body)
    if found.partial:
        return error_reply(SERVICE, "too-large", 0.0, words=found.partial.words)
    table = found.table
    kinds = [(c.name, c.kql_type) for c in table.columns]
    return _tables(kinds, list(encode_rows(table)))


def _version_1(names: list[str], rows: list[list[str]]) -> Reply:
    return _tables([(name, "string") for name in names], rows)


def _tables(kinds: list[tuple[str, str]], rows: list[Any]) -> Reply:
    described = [
        {"ColumnName": name, "DataType": _NET_TYPES[kind], "ColumnType": kind}
        for name, kind in kinds
    ]
    return json_reply({"Tables": [{"TableName": "Table_0", "Columns": described, "Rows": rows}]})


def _cut(table: ResultTable, rows: int) -> ResultTable:
    return type(table)(table.columns, table.rows[:rows])


def _options(properties: Any, queries: QueryServices) -> tuple[Window, float]:
    """The time scope and the seconds of the client request properties. Raises ValueError."""
    if isinstance(properties, str):
        try:
            properties = msgspec.json.decode(properties)
        except msgspec.DecodeError:
            raise ValueError("The request properties are not JSON") from None
    folded = {k.lower(): v for k, v in properties.items()} if isinstance(properties, dict) else {}
    options = folded.get("options") or {}
    seconds = SECONDS
    if "servertimeout" in options:
        seconds = Timespan.parse(str(options["servertimeout"])).seconds
    if options.get("results_progressive_enabled"):
        raise ValueError("The emulator sends no progressive frames")
    column = options.get("query_datetimescope_column")
    if column is None:
        return ALL_TIME, seconds
    if column != SENTINEL.time_column:
        raise ValueError(f"No table has the column {column!r} of the datetime scope")
    start = options.get("query_datetimescope_from") or ALL_TIME.start.isoformat()
    end = options.get("query_datetimescope_to") or ALL_TIME.last_tick.isoformat()
    return parse_timespan(f"{start}/{end}", queries.clock()), seconds


def _own_tables(text: str) -> str:
    """``external_table("T")`` as the table that the engine knows."""
    edits = [
        Edit(call.start, call.end, f"['{encode(call.arguments[0].text, 'string')[1:-1]}']")
        for call in find(parse(text), Call)
        if call.name == "external_table" and call.arguments
        and isinstance(call.arguments[0], Literal)
    ]  # fmt: skip
    return apply(text, edits)
