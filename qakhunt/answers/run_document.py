"""``qakhunt.run/1``: the one model of a saved run, which is written, read and published.

``run_document`` makes it of a result, ``load_result`` makes a result of it, and
``json_schema`` describes it. Unknown keys are ignored when it is read, so that keys can
be added within version 1; another schema or a wrong type is refused with its place.
"""

from __future__ import annotations

import re
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from hashlib import sha256
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from qakhunt.answers.cells import loads_loosely, to_json_value
from qakhunt.answers.findings import findings_of_run
from qakhunt.answers.hits import Hit
from qakhunt.answers.ledger import (
    DeliveryLine,
    Ledger,
    LedgerLine,
    SourceRows,
    Status,
    Target,
    Verdict,
)
from qakhunt.answers.run_result import (
    Clouds,
    Context,
    ContextQuery,
    HitContext,
    Rarity,
    RunResult,
    TableAnswer,
)
from qakhunt.answers.table import KQL_TYPES, Column, KqlType, unique_names
from qakhunt.core.documents import read_text, to_model
from qakhunt.core.errors import ResultFileError
from qakhunt.hunts.command_catalogue import understand
from qakhunt.hunts.model import Hunt, Notes, QueryPlace, ResultNotes, highest_severity
from qakhunt.hunts.render import RenderedQuery
from qakhunt.kql.schema import SENTINEL, ProductName
from qakhunt.kql.values import Instant, Timespan, Window

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


VERSION = 1
SCHEMA = f"qakhunt.run/{VERSION}"
_SCHEMA = re.compile(r"qakhunt\.([a-z]+)/(\d+)", re.ASCII)
_MAKE_ONE = "a result is what 'qakhunt run --json' writes"


def _about(text: str, **bounds: Any) -> Meta:
    return Meta(description=text, **bounds)


Time = Annotated[str, _about(
    "UTC, seven fraction digits.", pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}Z$"
)]  # fmt: skip
Hash = Annotated[str, _about("SHA-256 in hexadecimal, or empty.", pattern="^([0-9a-f]{64})?$")]
Count = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(ge=0)]
Row = dict[str, Any]

Text = TypeVar("Text", bound="Record")


class Record(Struct):
    """An object of the document; its keys are the attributes of what it is made of."""

    @classmethod
    def of(cls: type[Text], source: Any, **given: Any) -> Text:
        """The record of ``source``; ``given`` keys are not taken from it."""
        names = [name for name in cls.__struct_fields__ if name not in given]
        return cls(**given, **{name: _plain(getattr(source, name)) for name in names})

    def fields(self, *without: str) -> dict[str, Any]:
        """The values by key, windows read."""
        found = {name: value for name, value in msgspec.structs.asdict(self).items()
                 if name not in without}  # fmt: skip
        return {n: v.read() if isinstance(v, WindowRecord) else v for n, v in found.items()}


class WindowRecord(Record, kw_only=True):
    """start <= time < end"""

    start: Time
    end: Time

    def read(self) -> Window:
        """The window. Raises ValueError."""
        return Window(Instant.parse(self.start), Instant.parse(self.end))


class ColumnRecord(Record, kw_only=True):
    """A column of a result."""

    name: Annotated[str, _about("Name as the service spelled it.")]
    type: Annotated[KqlType, _about("KQL type.")]


class QueryRecord(Record, kw_only=True):
    """A query as sent, and what it was made from."""

    name: Annotated[str, _about("The hunt's name: its file's stem.")]
    id: Annotated[str, _about("The hunt's id, or empty.")] = ""
    version: Annotated[str, _about("The hunt's version, or empty.")] = ""
    title: Annotated[str, _about("The hunt's title.")] = ""
    product: Annotated[ProductName, _about("Whose columns it names.")] = SENTINEL.name
    window: Annotated[WindowRecord, _about("The time range that the query covers.")]
    hunt_hash: Annotated[Hash, _about("Of the query and its parameters without the window.")] = ""
    query_hash: Annotated[Hash, _about("Of the text as sent.")] = ""
    parameters: Annotated[Row, _about("The value of every parameter, defaults included.")] = {}
    query: Annotated[str, _about("The KQL as sent; it runs in the portal as it is.")] = ""


class HuntRecord(QueryRecord, kw_only=True):
    """A hunt with its query as sent."""

    description: Annotated[str, _about("What the hunt looks for.")] = ""
    severity: Annotated[str, _about("The hunt's severity, or empty.")] = ""
    techniques: Annotated[tuple[str, ...], _about("ATT&CK techniques it looks for.")] = ()
    triage: Annotated[tuple[str, ...], _about("The hunt's triage steps.")] = ()
    behaviour: Annotated[str, _about("What the hunt looks for, in a word.")] = "discovery"
    false_positives: Annotated[tuple[str, ...], _about("What else makes the hunt fire.")] = ()
    limits: Annotated[tuple[str, ...], _about("What the hunt is known to miss.")] = ()
    references: Annotated[tuple[str, ...], _about("Addresses to read further.")] = ()
    fingerprint: Annotated[
        tuple[str, ...], _about("Columns that say which rows are the same, run after run.")
    ] = ()
    result: Annotated[
        dict[str, str], _about("Which column holds the commands, their number and their times.")
    ] = {}
    columns: Annotated[
        list[ColumnRecord], _about("Columns of the result; empty where nothing answered.")
    ] = []


class ContextQueryRecord(QueryRecord, kw_only=True):
    """A context hunt as sent, and the target it was sent to."""

    profile: str
    tenant: str | None = None
    workspace: str | None = None


class SourceRecord(Record, kw_only=True):
    """What the coverage check of an answer saw."""

    rows: Annotated[Count, _about("Records in the window.")]
    devices: Annotated[Count, _about("Devices in the window.")]
    first: Annotated[Time | None, _about("Time of the oldest record.")] = None
    last: Annotated[Time | None, _about("Time of the newest record.")] = None


class LineRecord(Record, kw_only=True):
    """One query to one workspace about one slice, and how it was answered."""

    purpose: Annotated[
        Literal["hunt", "context"],
        _about("hunt: counts for the verdict. context: fetched what surrounded a hit."),
    ] = "hunt"
    hunt: Annotated[str, _about("The hunt whose query it is.")]
    profile: Annotated[str, _about("The profile queried.")]
    tenant: Annotated[str | None, _about("The customer's Entra tenant id.")] = None
    workspace: Annotated[str | None, _about("The workspace queried.")] = None
    slice: Annotated[str, _about("Which part of the window or of the devices.")] = "whole window"
    window: WindowRecord
    backend: Annotated[str, _about("The backend that was queried.")]
    query_hash: Annotated[Hash, _about("Of the text as sent; empty without a query.")] = ""
    status: Annotated[Status, _about("How completely the query was answered.")]
    detail: Annotated[str, _about("Why the status is not complete.")] = ""
    hint: Annotated[str, _about("How to fix it.")] = ""
    rejected: Annotated[bool, _about("Whether the query itself was at fault.")] = False
    rows: Annotated[Count, _about("Rows of the answer.")] = 0
    bytes: Annotated[Count, _about("Bytes of the answer's body as received.")] = 0
    attempts: Annotated[Count, _about("How often it was sent.")] = 0
    waits: Annotated[tuple[float, ...], _about("Seconds before each repetition.")] = ()
    request_ids: Annotated[tuple[str, ...], _about("Ids for the service's support.")] = ()
    elapsed: Annotated[Seconds, _about("Seconds from query to answer.")] = 0.0
    source: Annotated[SourceRecord | None, _about("The coverage check, where one was made.")] = None
    gaps: Annotated[
        tuple[WindowRecord, ...],
        _about("Time ranges without a record, longer than the profile's longest_gap."),
    ] = ()
    notes: Annotated[tuple[str, ...], _about("What the window means for the query.")] = ()


class HitRecord(Record, kw_only=True):
    """One row of a hunt's result."""

    hunt: Annotated[str, _about("The hunt whose result the row is of.")]
    profile: Annotated[str, _about("The profile that found it.")]
    tenant: Annotated[str | None, _about("The customer's Entra tenant id.")] = None
    workspace: Annotated[str | None, _about("The workspace, else the row's TenantId.")] = None
    device: Annotated[str | None, _about("The device's name.")] = None
    account: Annotated[str | None, _about("The account's name.")] = None
    commands: Annotated[list[str], _about("Distinct command lines counted, as recorded.")] = []
    techniques: Annotated[tuple[str, ...], _about("ATT&CK techniques of the commands.")] = ()
    first_seen: Annotated[Time | None, _about("Time of the first command.")] = None
    last_seen: Annotated[Time | None, _about("Time of the last command.")] = None
    distinct: Annotated[int | None, _about("Distinct commands counted.")] = None
    total: Annotated[int | None, _about("Commands counted in all.")] = None
    also_in: Annotated[tuple[str, ...], _about("Other workspaces with the same finding.")] = ()
    row: Annotated[Row, _about("Every result column under its own name.")]


class FindingAssessmentRecord(Record, kw_only=True):
    """The most suspicious assessment among the finding's hits."""

    kind: str
    title: Annotated[str, _about("The same in words.")]
    criterion: Annotated[str, _about("The criterion that was met.")]


class FindingRecord(Record, kw_only=True):
    """One episode on one device; it ends where no command follows within 15 minutes."""

    id: Annotated[str, _about("The finding in this result.")]
    device: str | None
    account: str | None
    start: Annotated[Time | None, _about("Time of the first command.")]
    end: Annotated[Time | None, _about("Time of the last command.")]
    hunts: Annotated[tuple[str, ...], _about("Names of the hunts that see it.")]
    severity: Annotated[
        str, _about("The highest severity of its hunts, or empty where none has one.")
    ] = ""
    hits: Annotated[tuple[Count, ...], _about("Positions in hits, from 0, by time.")]
    fingerprint: Annotated[str, _about("The same for the same episode, run after run.")]
    assessment: FindingAssessmentRecord | None = None


class DeliveryRecord(Record, kw_only=True):
    """What one sink was sent; it never changes the verdict."""

    sink: str
    status: Annotated[
        Literal["pending", "delivered"], _about("Whether all that was due has arrived.")
    ] = "delivered"
    messages: Annotated[Count, _about("Messages that were due.")] = 0
    delivered: Annotated[Count, _about("Messages that arrived.")] = 0
    findings: Annotated[Count, _about("Findings in them.")] = 0
    attempts: Annotated[Count, _about("How often it was tried.")] = 0
    waits: Annotated[tuple[float, ...], _about("Seconds before each repetition.")] = ()
    detail: Annotated[str, _about("What went wrong.")] = ""
    elapsed: Annotated[Seconds, _about("Seconds in all.")] = 0.0


class RarityRecord(Record, kw_only=True):
    """How rare a hit's process, commands and files are."""

    window: Annotated[WindowRecord | None, _about("The time range of the counts.")] = None
    detail: Annotated[str, _about("Why the counts are not complete.")] = ""
    counts: tuple[Rarity, ...] = ()


class ReasonRecord(Record, kw_only=True):
    """One fact and which way it points."""

    side: Literal["for", "against", "open"]
    text: str


class AssessmentRecord(Record, kw_only=True):
    """What a hit resembles; computed again whenever the file is read."""

    kind: str
    title: Annotated[str, _about("The same in words.")]
    criterion: Annotated[str, _about("The criterion that was met.")]
    reasons: list[ReasonRecord]
    caution: str
    not_looked_at: Annotated[list[str], _about("What could not be taken into account.")]


class HitContextRecord(Record, kw_only=True):
    """What surrounded one hit."""

    hit: Annotated[int, _about("Number of the hit in hits, from 1.", ge=1)]
    missing: Annotated[str, _about("Why there is no context; empty where there is one.")] = ""
    looked: Annotated[list[WindowRecord], _about("The time ranges queried.")] = []
    tables: tuple[TableAnswer, ...] = ()
    records: Annotated[dict[str, list[Row]], _about("The records by table, by time.")] = {}
    ancestors: Annotated[
        list[Row], _about("Process events that created ancestors, outside those time ranges.")
    ] = []
    rarity: RarityRecord = msgspec.field(default_factory=RarityRecord)
    assessment: AssessmentRecord | None = None


class ContextRecord(Record, kw_only=True):
    """What surrounded the hits; absent where nobody asked."""

    around: Annotated[str, _about("Time before the first and after the last command: a timespan.")]
    limit: Annotated[Count, _about("How many hits, from the first, were covered.")]
    queries: list[ContextQueryRecord] = []
    hits: list[HitContextRecord] = []


class RunDocument(Record, kw_only=True):
    """The result of one run: what was queried, what answered, and what was found."""

    schema: str
    qakhunt: Annotated[str, _about("Version of the qakhunt that ran.")] = ""
    verdict: Annotated[
        Verdict | UnsetType,
        _about("Follows from the ledger's lines of purpose hunt and the number of hits."),
    ] = UNSET
    sample: Annotated[bool, _about("Whether the bundled synthetic sample was hunted.")] = False
    now: Annotated[Time, _about("The current time of the run.")]
    window: Annotated[WindowRecord, _about("The window of the first hunt.")]
    hunts: Annotated[list[HuntRecord], Meta(min_length=1)]
    ledger: Annotated[list[LineRecord], _about("One line for each query.")]
    hits: list[HitRecord]
    findings: Annotated[
        list[FindingRecord], _about("The hits as episodes; made again when the file is read.")
    ] = []
    known: Annotated[
        list[Count], _about("Positions in hits, from 0, of findings that earlier runs reported.")
    ] = []
    suppressed: Annotated[Count, _about("Hits that a suppression keeps from hits.")] = 0
    suppressed_hits: list[HitRecord] = []
    deliveries: Annotated[list[DeliveryRecord], _about("What each sink was sent.")] = []
    state: Annotated[Row | None, _about("What the state of scheduled runs knows.")] = None
    clouds: Annotated[dict[str, Clouds], _about("Profile -> its clouds.")] = {}
    warnings: Annotated[list[str], _about("What else the reader should know.")] = []
    context: ContextRecord | UnsetType = UNSET


def json_schema() -> dict[str, Any]:
    """The document as a JSON Schema; every key that is always written is required."""
    (_, found) = msgspec.json.schema_components([RunDocument], ref_template="#/$defs/{name}")
    optional = {"context"}
    for part in found.values():
        if "properties" in part:
            part["required"] = [name for name in part["properties"] if name not in optional]
            for key in part["properties"].values():
                key.pop("default", None)  # what is always written needs none
    whole = found.pop("RunDocument")
    whole["properties"]["schema"] = {"const": SCHEMA}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:qakhunt:run:{VERSION}", **whole, "title": SCHEMA, "$defs": found,
    }  # fmt: skip


# Writing.


def _plain(value: Any) -> Any:
    """A value as the document holds it; times, timespans and decimals are text."""
    if isinstance(value, Window):
        return WindowRecord(start=value.start.isoformat(), end=value.end.isoformat())
    if isinstance(value, SourceRows):
        return SourceRecord.of(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(_plain, value))
    return to_json_value(value)


def run_document(result: RunResult, assessments: Mapping[int, Any] | None = None) -> dict[str, Any]:
    """The whole run as plain JSON values.

    ``assessments`` go by a hit's number, from 1; ``Kind`` has the most suspicious first.
    """
    context = result.context
    lines = [_line(line, "hunt") for line in result.ledger.lines]
    if context is not None:
        lines += [_line(line, "context") for line in context.ledger.lines]
    document = RunDocument.of(
        result,
        schema=SCHEMA,
        qakhunt=result.version,
        hunts=[_hunt(rendered, result) for rendered in result.rendered],
        ledger=lines,
        hits=[_hit(hit) for hit in result.hits],
        findings=_findings(result, assessments or {}),
        known=sorted(result.known),
        suppressed_hits=[_hit(hit) for hit in result.suppressed_hits],
        deliveries=[
            DeliveryRecord.of(
                line, status="pending" if line.failed else "delivered",
                elapsed=round(line.elapsed, 6),
            )
            for line in result.deliveries
        ],
        state=dict(result.state) if result.state else None,
        clouds=dict(sorted(result.clouds.items())),
        context=UNSET if context is None else _context(context, assessments or {}),
    )  # fmt: skip
    return msgspec.to_builtins(document)  # type: ignore[no-any-return]


def hit_document(hit: Hit) -> dict[str, Any]:
    """One hit as plain JSON values."""
    return msgspec.to_builtins(_hit(hit))  # type: ignore[no-any-return]


def _hit(hit: Hit) -> HitRecord:
    row = {name: to_json_value(cell) for name, cell in hit.row.items()}
    return HitRecord.of(hit, commands=[command.line for command in hit.commands], row=row)


def _findings(result: RunResult, assessments: Mapping[int, Any]) -> list[FindingRecord]:
    records = []
    hunts = {rendered.hunt.name: rendered.hunt for rendered in result.rendered}
    for finding in findings_of_run(result):
        own = [hunts[name] for name in finding.hunts if name in hunts]
        found = [assessments[at + 1] for at in finding.positions if at + 1 in assessments]
        worst = min(found, key=lambda assessment: assessment.kind.rank, default=None)
        records.append(
            FindingRecord.of(
                finding, hits=finding.positions, severity=highest_severity(own),
                assessment=worst and FindingAssessmentRecord.of(worst),
            )
        )  # fmt: skip
    return records


def _line(line: LedgerLine, purpose: Literal["hunt", "context"]) -> LineRecord:
    return LineRecord.of(line, purpose=purpose, elapsed=round(line.elapsed, 6))


_OF_THE_HUNT = ("name", "id", "version", "title")
_OF_THE_NOTES = (
    "triage", "false_positives", "limits", "references", "fingerprint", "behaviour",
)  # fmt: skip


def _query(rendered: RenderedQuery) -> dict[str, Any]:
    hunt = {name: getattr(rendered.hunt, name) for name in _OF_THE_HUNT}
    return {**hunt, "parameters": _plain(dict(rendered.parameters)), "query": rendered.text}


def _hunt(rendered: RenderedQuery, result: RunResult) -> HuntRecord:
    hunt, notes = rendered.hunt, rendered.hunt.notes
    columns = result.columns.get(hunt.name, ())
    return HuntRecord.of(
        rendered, **_query(rendered), description=hunt.description, severity=hunt.severity,
        techniques=hunt.techniques, **{name: getattr(notes, name) for name in _OF_THE_NOTES},
        result={name: c for name, c in msgspec.structs.asdict(notes.result).items() if c},
        columns=[ColumnRecord.of(c, type=c.kql_type) for c in columns],
    )  # fmt: skip


def _context(context: Context, assessments: Mapping[int, Any]) -> ContextRecord:
    queries = []
    for query in context.queries:
        target = {name: getattr(query.target, name) for name in ("profile", "tenant", "workspace")}
        queries.append(ContextQueryRecord.of(query.rendered, **_query(query.rendered), **target))
    return ContextRecord(
        around=str(context.around), limit=context.limit, queries=queries,
        hits=[
            _hit_context(number + 1, context.hits[number], assessments.get(number + 1))
            for number in sorted(context.hits)
        ],
    )  # fmt: skip


def _hit_context(number: int, context: HitContext, assessment: Any) -> HitContextRecord:
    return HitContextRecord.of(
        context,
        hit=number,
        looked=[_plain(window) for window in context.looked],
        tables=context.tables,
        ancestors=list(context.ancestors),
        rarity=RarityRecord(
            window=_plain(context.rarity_window), detail=context.rarity_detail,
            counts=context.rarity,
        ),
        assessment=assessment and AssessmentRecord.of(
            assessment,
            reasons=[ReasonRecord(side=r.side.value, text=r.text) for r in assessment.reasons],
            not_looked_at=list(assessment.not_looked_at),
        ),
    )  # fmt: skip


# Reading.


def load_result(path: Path) -> RunResult:
    """The run that ``path`` holds. Raises ResultFileError."""
    text = read_text(path, ResultFileError)
    try:
        document = loads_loosely(text)
    except ValueError as problem:
        raise ResultFileError(f"{path}: this is not JSON: {problem}", hint=_MAKE_ONE) from None
    _check_schema(path, document)
    try:
        return _result(to_model(document, RunDocument))
    except (msgspec.ValidationError, ValueError) as problem:
        raise ResultFileError(f"{path}: not a whole result: {problem}", hint=_MAKE_ONE) from None


def _check_schema(path: Path, document: Any) -> None:
    schema = document.get("schema") if isinstance(document, dict) else None
    match = _SCHEMA.fullmatch(schema) if isinstance(schema, str) else None
    if match is None:
        raise ResultFileError(f"{path}: this is no result of qakhunt", hint=_MAKE_ONE)
    if match[1] != "run":
        raise ResultFileError(
            f"{path}: this is a {schema}, not the result of a run", hint=_MAKE_ONE
        )
    if int(match[2]) != VERSION:
        age, hint = (
            ("a newer", "update qakhunt")
            if int(match[2]) > VERSION
            else ("an older", "run the hunt again")
        )
        raise ResultFileError(
            f"{path}: written by {age} qakhunt ({schema}); this one reads {SCHEMA}", hint=hint
        )


def _result(run: RunDocument) -> RunResult:
    columns = {
        hunt.name: tuple(Column(column.name, column.type) for column in hunt.columns)
        for hunt in run.hunts
    }
    lines = {
        purpose: [_read_line(line) for line in run.ledger if line.purpose == purpose]
        for purpose in ("hunt", "context")
    }
    return RunResult(
        now=Instant.parse(run.now),
        window=run.window.read(),
        rendered=tuple(_read_query(hunt, run) for hunt in run.hunts),
        ledger=Ledger(lines["hunt"]),
        hits=[_read_hit(hit, columns.get(hit.hunt, ())) for hit in run.hits],
        columns={name: found for name, found in columns.items() if found},
        warnings=[*run.warnings, *_mismatches(run)],
        suppressed=run.suppressed,
        suppressed_hits=[_read_hit(hit, columns.get(hit.hunt, ())) for hit in run.suppressed_hits],
        deliveries=[DeliveryLine(**line.fields("status")) for line in run.deliveries],
        state=run.state,
        known=frozenset(run.known),
        sample=run.sample,
        context=_read_context(run, lines["context"]),
        version=run.qakhunt,
        clouds=run.clouds,
    )


def _mismatches(run: RunDocument) -> list[str]:
    """Queries whose text is not the one that their hash is of."""
    return [
        f"{query.name}: the query in the file is not the one that its hash is of"
        for query in run.hunts
        if query.query_hash and query.query_hash != sha256(query.query.encode()).hexdigest()
    ]


def _read_query(query: QueryRecord, run: RunDocument) -> RenderedQuery:
    hunt = Hunt(
        name=query.name, query=query.query, path=query.name, place=QueryPlace(query.name),
        title=query.title or query.name, id=query.id, version=query.version,
    )  # fmt: skip
    if isinstance(query, HuntRecord):
        known = ResultNotes.__struct_fields__
        notes = Notes(
            **{name: getattr(query, name) for name in _OF_THE_NOTES},
            result=ResultNotes(**{k: v for k, v in query.result.items() if k in known}),
        )  # fmt: skip
        hunt = replace(
            hunt, notes=notes, description=query.description, severity=query.severity,
            techniques=query.techniques,
        )  # fmt: skip
    return RenderedQuery(
        hunt=hunt, product=query.product, text=query.query, window=query.window.read(),
        now=Instant.parse(run.now), parameters=query.parameters, warnings=(), edits=(),
        hunt_hash=query.hunt_hash, query_hash=query.query_hash,
    )  # fmt: skip


def _read_line(line: LineRecord) -> LedgerLine:
    seen, source = line.source, None
    if seen is not None:
        source = SourceRows(seen.rows, seen.devices, _instant(seen.first), _instant(seen.last))
    gaps = tuple(gap.read() for gap in line.gaps)
    return LedgerLine(**line.fields("purpose", "source", "gaps"), source=source, gaps=gaps)


def _instant(text: str | None) -> Instant | None:
    return None if text is None else Instant.parse(text)


def _read_hit(hit: HitRecord, columns: tuple[Column, ...]) -> Hit:
    names = unique_names([column.name for column in columns])
    if len(names) != len(hit.row) or set(names) != hit.row.keys():
        # The document does not say which columns the result has.
        names = list(hit.row)
        columns = tuple(Column(name, _type_of(cell)) for name, cell in hit.row.items())
    cells = tuple(
        _cell(hit.row[name], column.kql_type) for name, column in zip(names, columns, strict=True)
    )
    return Hit(
        **hit.fields("row", "commands", "first_seen", "last_seen"),
        commands=tuple(understand(line) for line in hit.commands), columns=columns, cells=cells,
        first_seen=_instant(hit.first_seen), last_seen=_instant(hit.last_seen),
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


def _read_context(run: RunDocument, lines: Sequence[LedgerLine]) -> Context | None:
    found = run.context
    if found is UNSET:
        return None
    hits = {}
    for hit in found.hits:
        if hit.hit > len(run.hits):
            raise ValueError(f"context.hits names hit {hit.hit}, of which there is none")
        hits[hit.hit - 1] = _read_hit_context(hit)
    queries = [
        ContextQuery(_read_query(query, run), Target(query.profile, query.tenant, query.workspace))
        for query in found.queries
    ]
    return Context(Timespan.parse(found.around), found.limit, queries, Ledger([*lines]), hits)


def _read_hit_context(hit: HitContextRecord) -> HitContext:
    return HitContext(
        looked=tuple(window.read() for window in hit.looked),
        tables=hit.tables,
        records=hit.records,
        ancestors=tuple(hit.ancestors),
        rarity=hit.rarity.counts,
        rarity_window=hit.rarity.window.read() if hit.rarity.window else None,
        rarity_detail=hit.rarity.detail,
        missing=hit.missing,
    )
