"""Reads a saved run (``qakhunt.run/1``) back, so that every report can be made of it.

Keys that this version does not know are let pass; a document of another schema, or one
that is not what the schema says, is refused with the place at fault.
"""

from __future__ import annotations

import re
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from qakhunt.answers.json_body import loads_loosely
from qakhunt.answers.ledger import DeliveryLine, Ledger, LedgerLine, SourceRows, Status
from qakhunt.answers.table import KQL_TYPES, Column, unique_names
from qakhunt.backends.base import Target
from qakhunt.documents import read_text
from qakhunt.errors import ResultFileError
from qakhunt.families.commands import understand
from qakhunt.hunts.model import Hunt, Notes, QueryPlace
from qakhunt.hunts.render import RenderedQuery
from qakhunt.kql.values import Instant, Timespan, Window
from qakhunt.triage.context import Context, ContextQuery, HitContext, Rarity, TableAnswer
from qakhunt.triage.hits import Hit
from qakhunt.triage.run_result import Clouds, RunResult

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

READS = 1
_SCHEMA = re.compile(r"qakhunt\.([a-z]+)/(\d+)", re.ASCII)


class _Window(msgspec.Struct):
    start: str
    end: str


class _Column(msgspec.Struct):
    name: str
    type: str


class _Query(msgspec.Struct, kw_only=True):
    name: str
    id: str = ""
    version: str = ""
    title: str = ""
    product: Literal["log-analytics", "defender"] = "log-analytics"
    window: _Window
    hunt_hash: str = ""
    query_hash: str = ""
    parameters: dict[str, Any] = {}
    query: str = ""


class _Hunt(_Query, kw_only=True):
    description: str = ""
    severity: str = ""
    techniques: tuple[str, ...] = ()
    triage: tuple[str, ...] = ()
    false_positives: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    columns: list[_Column] = []


class _ContextQuery(_Query, kw_only=True):
    profile: str
    tenant: str | None = None
    workspace: str | None = None


class _Source(msgspec.Struct, kw_only=True):
    rows: int
    devices: int
    first: str | None = None
    last: str | None = None


class _Line(msgspec.Struct, kw_only=True):
    hunt: str
    profile: str
    window: _Window
    backend: str
    status: Status
    purpose: Literal["hunt", "context"] = "hunt"
    tenant: str | None = None
    workspace: str | None = None
    slice: str = "whole window"
    query_hash: str = ""
    detail: str = ""
    hint: str = ""
    rejected: bool = False
    rows: int = 0
    bytes: int = 0
    attempts: int = 0
    waits: tuple[float, ...] = ()
    request_ids: tuple[str, ...] = ()
    elapsed: float = 0.0
    source: _Source | None = None
    notes: tuple[str, ...] = ()


class _Hit(msgspec.Struct, kw_only=True):
    hunt: str
    profile: str
    row: dict[str, Any]
    tenant: str | None = None
    workspace: str | None = None
    device: str | None = None
    account: str | None = None
    commands: list[str] = []
    techniques: tuple[str, ...] = ()
    first_seen: str | None = None
    last_seen: str | None = None
    distinct: int | None = None
    total: int | None = None
    also_in: tuple[str, ...] = ()


class _Delivery(msgspec.Struct, kw_only=True):
    sink: str
    messages: int = 0
    delivered: int = 0
    findings: int = 0
    attempts: int = 0
    waits: tuple[float, ...] = ()
    detail: str = ""
    elapsed: float = 0.0


class _Table(msgspec.Struct, kw_only=True):
    table: str
    hunt: str
    status: Status
    found: int = 0
    kept: int = 0
    detail: str = ""


class _Counts(msgspec.Struct):
    kind: str
    value: str
    devices: int
    accounts: int
    days: int


class _Rarity(msgspec.Struct, frozen=True):
    window: _Window | None = None
    detail: str = ""
    counts: tuple[_Counts, ...] = ()


class _HitContext(msgspec.Struct, kw_only=True):
    hit: int
    missing: str = ""
    looked: list[_Window] = []
    tables: list[_Table] = []
    records: dict[str, list[dict[str, Any]]] = {}
    ancestors: list[dict[str, Any]] = []
    rarity: _Rarity = _Rarity()


class _Context(msgspec.Struct, kw_only=True):
    around: str
    limit: int
    queries: list[_ContextQuery] = []
    hits: list[_HitContext] = []


class _Clouds(msgspec.Struct):
    cloud: str
    log_analytics: str
    workspace_resources: dict[str, str] = {}


class _Run(msgspec.Struct, kw_only=True):
    now: str
    window: _Window
    hunts: list[_Hunt]
    ledger: list[_Line]
    hits: list[_Hit]
    qakhunt: str = ""
    sample: bool = False
    suppressed: int = 0
    suppressed_hits: list[_Hit] = []
    known: list[int] = []
    deliveries: list[_Delivery] = []
    state: dict[str, Any] | None = None
    clouds: dict[str, _Clouds] = {}
    warnings: list[str] = []
    context: _Context | None = None


def load_result(path: Path) -> RunResult:
    """The run that ``path`` holds. Raises ResultFileError."""
    text = read_text(path, ResultFileError)
    try:
        document = loads_loosely(text)
    except ValueError as problem:
        raise ResultFileError(f"{path}: this is not JSON: {problem}", hint=_MAKE_ONE) from None
    _check_schema(path, document)
    try:
        run = msgspec.convert(document, _Run)
        return _result(run)
    except (msgspec.ValidationError, ValueError) as problem:
        raise ResultFileError(f"{path}: not a whole result: {problem}", hint=_MAKE_ONE) from None


_MAKE_ONE = "a result is what 'qakhunt run --json' writes"


def _check_schema(path: Path, document: Any) -> None:
    schema = document.get("schema") if isinstance(document, dict) else None
    match = _SCHEMA.fullmatch(schema) if isinstance(schema, str) else None
    if match is None:
        raise ResultFileError(f"{path}: this is no result of qakhunt", hint=_MAKE_ONE)
    if match[1] != "run":
        raise ResultFileError(
            f"{path}: this is a {schema}, not the result of a run", hint=_MAKE_ONE
        )
    written = int(match[2])
    if written > READS:
        raise ResultFileError(
            f"{path}: written by a newer qakhunt ({schema}); this one reads qakhunt.run/{READS}",
            hint="update qakhunt",
        )
    if written < READS:
        raise ResultFileError(
            f"{path}: written by an older qakhunt ({schema}); this one reads qakhunt.run/{READS}",
            hint="run the hunt again",
        )


def _result(run: _Run) -> RunResult:
    if not run.hunts:
        raise ValueError("it names no hunt")
    columns = {hunt.name: _columns(hunt.columns) for hunt in run.hunts}
    lines = [(line.purpose, _line(line)) for line in run.ledger]
    context = _context(run, [line for purpose, line in lines if purpose == "context"])
    return RunResult(
        now=Instant.parse(run.now),
        window=_window(run.window),
        rendered=tuple(_rendered(hunt, run) for hunt in run.hunts),
        ledger=Ledger([line for purpose, line in lines if purpose == "hunt"]),
        hits=[_hit(hit, columns.get(hit.hunt, ())) for hit in run.hits],
        columns={name: found for name, found in columns.items() if found},
        warnings=[*run.warnings, *_mismatches(run)],
        suppressed=run.suppressed,
        suppressed_hits=[_hit(hit, columns.get(hit.hunt, ())) for hit in run.suppressed_hits],
        deliveries=[DeliveryLine(**msgspec.structs.asdict(line)) for line in run.deliveries],
        state=run.state,
        known=frozenset(run.known),
        sample=run.sample,
        context=context,
        version=run.qakhunt,
        clouds={name: Clouds(**msgspec.structs.asdict(c)) for name, c in run.clouds.items()},
    )


def _mismatches(run: _Run) -> list[str]:
    """Queries whose text is not the one that their hash is of."""
    return [
        f"{query.name}: the query in the file is not the one that its hash is of"
        for query in run.hunts
        if query.query_hash and query.query_hash != sha256(query.query.encode()).hexdigest()
    ]


def _window(window: _Window) -> Window:
    return Window(Instant.parse(window.start), Instant.parse(window.end))


def _columns(columns: Sequence[_Column]) -> tuple[Column, ...]:
    return tuple(Column(column.name, column.type) for column in columns)


def _rendered(query: _Query, run: _Run) -> RenderedQuery:
    hunt = _hunt(query) if isinstance(query, _Hunt) else _bare_hunt(query)
    return RenderedQuery(
        hunt=hunt, product=query.product, text=query.query, window=_window(query.window),
        now=Instant.parse(run.now), parameters=query.parameters, warnings=(), edits=(),
        hunt_hash=query.hunt_hash, query_hash=query.query_hash,
    )  # fmt: skip


def _hunt(query: _Hunt) -> Hunt:
    notes = Notes(
        triage=query.triage,
        false_positives=query.false_positives,
        limits=query.limits,
        references=query.references,
    )
    return replace(
        _bare_hunt(query), notes=notes, description=query.description, severity=query.severity,
        techniques=query.techniques,
    )  # fmt: skip


def _bare_hunt(query: _Query) -> Hunt:
    return Hunt(
        name=query.name, query=query.query, path=query.name, place=QueryPlace(query.name),
        title=query.title or query.name, id=query.id, version=query.version,
    )  # fmt: skip


def _line(line: _Line) -> LedgerLine:
    fields = msgspec.structs.asdict(line)
    del fields["purpose"]
    fields["window"] = _window(line.window)
    source = line.source
    if source is not None:
        fields["source"] = SourceRows(
            source.rows, source.devices, _instant(source.first), _instant(source.last)
        )
    return LedgerLine(**fields)


def _instant(text: str | None) -> Instant | None:
    return None if text is None else Instant.parse(text)


def _hit(hit: _Hit, columns: tuple[Column, ...]) -> Hit:
    names = unique_names([column.name for column in columns])
    if len(names) != len(hit.row) or set(names) != hit.row.keys():
        # The document does not say which columns the result has.
        names = list(hit.row)
        columns = tuple(Column(name, _type_of(cell)) for name, cell in hit.row.items())
    cells = tuple(
        _cell(hit.row[name], column.kql_type) for name, column in zip(names, columns, strict=True)
    )
    return Hit(
        hunt=hit.hunt, profile=hit.profile, tenant=hit.tenant, workspace=hit.workspace,
        device=hit.device, account=hit.account,
        commands=tuple(understand(line) for line in hit.commands), techniques=hit.techniques,
        first_seen=_instant(hit.first_seen), last_seen=_instant(hit.last_seen),
        distinct=hit.distinct, total=hit.total, columns=columns, cells=cells,
        also_in=hit.also_in,
    )  # fmt: skip


def _type_of(cell: Any) -> str:
    simple = {bool: "bool", int: "long", float: "real", str: "string", type(None): "string"}
    return simple.get(type(cell), "dynamic")


def _cell(cell: Any, kql_type: str) -> Any:
    """A cell as ``answers.table`` has it, from plain JSON. Raises ValueError."""
    if cell is None:
        return None
    try:
        return _CELLS[kql_type](cell)
    except (TypeError, AttributeError, InvalidOperation):
        raise ValueError(f"{cell!r} is no {kql_type}") from None


_CELLS: dict[str, Any] = {kind: (lambda cell: cell) for kind in KQL_TYPES} | {
    "datetime": Instant.parse,
    "timespan": Timespan.parse,
    "decimal": Decimal,
    "real": float,
}


def _context(run: _Run, lines: list[LedgerLine]) -> Context | None:
    found = run.context
    if found is None:
        return None
    queries = [
        ContextQuery(_rendered(query, run), Target(query.profile, query.tenant, query.workspace))
        for query in found.queries
    ]
    hits = {}
    for hit in found.hits:
        if not 1 <= hit.hit <= len(run.hits):
            raise ValueError(f"context.hits names hit {hit.hit}, of which there is none")
        hits[hit.hit - 1] = _hit_context(hit)
    return Context(Timespan.parse(found.around), found.limit, queries, Ledger(lines), hits)


def _hit_context(hit: _HitContext) -> HitContext:
    window = hit.rarity.window
    return HitContext(
        looked=tuple(_window(window) for window in hit.looked),
        tables=tuple(TableAnswer(**msgspec.structs.asdict(table)) for table in hit.tables),
        records=hit.records,
        ancestors=tuple(hit.ancestors),
        rarity=tuple(Rarity(**msgspec.structs.asdict(counts)) for counts in hit.rarity.counts),
        rarity_window=_window(window) if window else None,
        rarity_detail=hit.rarity.detail,
        missing=hit.missing,
    )
