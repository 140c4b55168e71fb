"""The wire format of Kusto, version 2: a list of frames that a completion frame ends.

Rows are those of Log Analytics, which is Kusto underneath. What is asked for is one table
of results in one frame; each sign of less, or of more, makes the answer partial.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from qakhunt.answers.cells import WireError, encode_body, kql_type
from qakhunt.answers.response import (
    NO_TABLE,
    Response,
    ServiceError,
    decoded_by,
    error_in,
    signs,
    table_faults,
    without_tokens,
)
from qakhunt.answers.table import Column, ResultTable
from qakhunt.answers.wire_log_analytics import PARTIAL, decode_table, encode_rows

PRIMARY = "PrimaryResult"
_HEADER, _TABLE, _END = "DataSetHeader", "DataTable", "DataSetCompletion"
_COMPLETION = "QueryCompletionInformation"
_WARNING = 3
"""The level of Kusto's warnings; worse ones have lower numbers, information 4 and more."""

_TABLE_MEMBERS = frozenset(["frametype", "tableid", "tablekind", "tablename", "columns", "rows"])
_HEADER_MEMBERS = frozenset(
    ["frametype", "isprogressive", "version", "isfragmented", "errorreportingplacement"]
)
_END_MEMBERS = frozenset(["frametype", "haserrors", "cancelled", "oneapierrors"])


def decode(body: bytes) -> Response:
    """Decode a response body. Raises WireError where it is no such response."""
    return decoded_by(from_value, body)


@dataclass
class _Reading:
    """What the frames came to so far."""

    tables: list[tuple[str, Response]] = field(default_factory=list)
    partial: ServiceError | None = None
    faults: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    def beside(self, frame: dict[str, Any], known: frozenset[str]) -> None:
        found = signs(frame, known)
        self.partial = self.partial or found.partial
        self.faults += found.faults
        self.unknown += found.unknown


def from_value(value: Any) -> Response:
    """As ``decode``, for JSON that already stands in memory. Raises WireError."""
    if not isinstance(value, list) or not value:
        raise WireError("the answer has no frames")
    reading = _Reading()
    last = len(value) - 1
    for number, frame in enumerate(value):
        kind = frame.get("FrameType") if isinstance(frame, dict) else None
        if not isinstance(kind, str):
            raise WireError(f"the answer has no kind of frame {number + 1}")
        if kind == _HEADER:
            _header(frame, reading)
        elif kind == _TABLE:
            _data_table(frame, reading)
        elif kind == _END:
            _end(frame, reading)
        else:
            reading.faults.append(f"the answer has a frame of the kind {kind!r:.80}")
        if kind == _END and number != last:
            reading.faults.append("the answer goes on after its completion frame")
    kinds = [frame["FrameType"] for frame in value]
    if kinds[0] != _HEADER:
        reading.faults.append("the answer does not begin with a header frame")
    if _END not in kinds:
        reading.faults.append("the answer was cut off: it has no completion frame")
    return _result(reading)


def _result(reading: _Reading) -> Response:
    if not reading.tables:
        reading.faults.append("the answer has no table")
    parts = [part for _, part in reading.tables] or [Response(NO_TABLE)]
    # The table's own error says more than the completion frame's repetition of it.
    partial = next(filter(None, (part.partial for part in parts)), None) or reading.partial
    faults = dict.fromkeys(table_faults(reading.tables) + reading.faults)
    return Response(parts[0].table, partial, faults=tuple(faults), unknown=tuple(reading.unknown))


def _header(frame: dict[str, Any], reading: _Reading) -> None:
    reading.beside(frame, _HEADER_MEMBERS)
    version = frame.get("Version")
    if version != "v2.0":
        reading.faults.append(f"the answer is of version {version!r:.80}, not v2.0")
    for member, words in (("IsProgressive", "progressive"), ("IsFragmented", "fragmented")):
        if frame.get(member) not in (False, None):
            reading.faults.append(f"the answer is {words}, which was not asked for")


def _data_table(frame: dict[str, Any], reading: _Reading) -> None:
    kind = frame.get("TableKind")
    if kind == _COMPLETION:
        _completion_information(frame, reading)
        return
    if kind != PRIMARY:
        if not isinstance(kind, str):
            reading.faults.append("a table of the answer has no kind")
        elif _has_trouble(frame.get("Rows")):
            reading.partial = reading.partial or ServiceError(
                PARTIAL, f"the service sent an error in the table {kind:.80}"
            )
        return
    columns = frame.get("Columns")
    if not isinstance(columns, list) or not columns:
        raise WireError("the answer has no columns")
    typed = tuple(map(_column, columns))
    beside = signs(frame, _TABLE_MEMBERS)
    found = decode_table(typed, frame.get("Rows"), beside)
    reading.unknown += beside.unknown
    reading.tables.append((str(frame.get("TableName")), found))


def _column(raw: Any) -> Column:
    name = raw.get("ColumnName") if isinstance(raw, dict) else None
    if not isinstance(name, str):
        raise WireError("a column of the answer has no name")
    return Column(name, kql_type(str(raw.get("ColumnType") or raw.get("DataType") or "")))


def _has_trouble(rows: Any) -> bool:
    return isinstance(rows, list) and any(isinstance(row, dict) for row in rows)


def _completion_information(frame: dict[str, Any], reading: _Reading) -> None:
    """What the engine says of the query: a warning or worse makes the answer partial."""
    rows, columns = frame.get("Rows"), frame.get("Columns")
    if not isinstance(rows, list) or not isinstance(columns, list):
        reading.faults.append("what the service says of its query cannot be read")
        return
    names = [raw.get("ColumnName") if isinstance(raw, dict) else None for raw in columns]
    for row in rows:
        if not isinstance(row, list):
            reading.faults.append("the service reports an error of its query")
            continue
        said = dict(zip(names, row, strict=False))
        level = said.get("Level")
        if isinstance(level, int) and not isinstance(level, bool) and level <= _WARNING:
            words = said.get("Payload") or said.get("StatusDescription") or said.get("LevelName")
            reading.faults.append(without_tokens(f"the service warns: {words!s:.300}"))


def _end(frame: dict[str, Any], reading: _Reading) -> None:
    errors = frame.get("OneApiErrors")
    if frame.get("HasErrors") is not False or errors:
        first = errors[0] if isinstance(errors, list) and errors else errors
        said = error_in(first) or ServiceError("", "the service reports errors without words")
        reading.partial = reading.partial or ServiceError(PARTIAL, "", said)
    if frame.get("Cancelled") is not False:
        reading.faults.append("the service cancelled the query")
    reading.beside(frame, _END_MEMBERS)


# What the emulator sends


def encode(table: ResultTable, error: ServiceError | None = None) -> bytes:
    """The frames of ``table``; with ``error`` it ends in the rows, as Kusto breaks off."""
    return encode_body(frames(table, error))


def frames(table: ResultTable, error: ServiceError | None = None) -> list[dict[str, Any]]:
    """The frames as JSON values; see ``encode``."""
    rows: list[Any] = list(encode_rows(table))
    errors = [{"error": error_value(error)}] if error else []
    if errors:
        rows.append({"OneApiErrors": errors})
    end: dict[str, Any] = {"FrameType": _END, "HasErrors": bool(errors), "Cancelled": False}
    if errors:
        end["OneApiErrors"] = errors
    return [
        {
            "FrameType": _HEADER, "IsProgressive": False, "Version": "v2.0",
            "IsFragmented": False, "ErrorReportingPlacement": "InData",
        },
        _frame(0, "QueryProperties", "@ExtendedProperties", [
            ("TableId", "int"), ("Key", "string"), ("Value", "dynamic"),
        ], [[1, "Visualization", '{"Visualization":null}']]),
        _frame(1, PRIMARY, PRIMARY, [(c.name, c.kql_type) for c in table.columns], rows),
        _frame(2, _COMPLETION, _COMPLETION, [
            ("Timestamp", "datetime"), ("Level", "int"), ("LevelName", "string"),
            ("Payload", "string"),
        ], [["2026-01-01T00:00:00Z", 4, "Info", "Query completed successfully"]]),
        end,
    ]  # fmt: skip


def _frame(
    number: int, kind: str, name: str, columns: list[tuple[str, str]], rows: list[Any]
) -> dict[str, Any]:
    return {
        "FrameType": _TABLE, "TableId": number, "TableKind": kind, "TableName": name,
        "Columns": [{"ColumnName": one, "ColumnType": kind} for one, kind in columns],
        "Rows": rows,
    }  # fmt: skip


def error_value(error: ServiceError) -> dict[str, Any]:
    """The JSON form of an error as Kusto sends it, under ``error``."""
    words = error.words
    return {
        "code": error.code, "message": error.message or "Request is invalid",
        "@type": "Kusto.Data.Exceptions.KustoServiceException", "@message": words,
        "@permanent": True,
    }  # fmt: skip
