"""The wire format of advanced hunting: ``schema`` and ``results``, legacy capitals included."""

from __future__ import annotations

from typing import Any

from qakhunt.answers.cells import (
    WireError,
    decode_column,
    encode_body,
    encode_column,
    kql_type,
)
from qakhunt.answers.response import (
    Response,
    ServiceError,
    column_faults,
    decoded_by,
    error_in,
    signs,
)
from qakhunt.answers.table import Column, ResultTable, unique_names
from qakhunt.kql.values import Instant

_SERVICE_TYPES = {
    "bool": "SByte", "int": "Int32", "long": "Int64", "real": "Double", "decimal": "SqlDecimal",
    "string": "String", "datetime": "DateTime", "timespan": "TimeSpan", "guid": "Guid",
    "dynamic": "Object",
}  # fmt: skip
_MEMBERS = frozenset(["schema", "results", "stats"])


def decode(body: bytes) -> Response:
    """Decode a response body, Graph's or legacy. Raises WireError where it is neither."""
    return decoded_by(from_value, body)


def is_response(value: Any) -> bool:
    """Whether decoded JSON is an advanced-hunting response, Graph's or legacy."""
    return _parts(value) is not None


def from_value(value: Any) -> Response:
    """As ``decode``, for JSON that already stands in memory. Raises WireError."""
    parts = _parts(value)
    if parts is None:
        raise WireError("the answer has no schema and results")
    schema, results = parts
    if not schema:
        raise WireError("the answer has no columns")
    columns = [_column(raw) for raw in schema]
    names = [column.name for column in columns]
    rows, extra = _rows_by_name(results, names)
    beside = signs(value, _MEMBERS)
    faults = [*beside.faults, *column_faults(names), *_row_faults(rows, extra)]
    columns += [Column(name, "dynamic") for name in extra]
    decoded = [
        decode_column(column.kql_type, [row.get(column.name) for row in rows], column.name)
        for column in columns
    ]
    table = ResultTable(tuple(columns), list(zip(*decoded, strict=True)))
    return Response(
        table, error_in(value) or beside.partial, faults=tuple(faults), unknown=beside.unknown
    )


def _row_faults(rows: list[dict[str, Any]], extra: list[str]) -> list[str]:
    faults = []
    if extra:
        faults.append(f"rows hold what the schema does not name: {', '.join(extra[:5])}")
    if not all(rows):
        faults.append(f"{sum(not row for row in rows)} rows hold none of the columns")
    return faults


def _parts(value: Any) -> tuple[list[Any], list[Any]] | None:
    if not isinstance(value, dict):
        return None
    folded = {key.casefold(): item for key, item in value.items()}
    schema, results = folded.get("schema"), folded.get("results")
    if isinstance(schema, list) and isinstance(results, list):
        return schema, results
    return None


def _column(raw: Any) -> Column:
    folded = {key.casefold(): item for key, item in raw.items()} if isinstance(raw, dict) else {}
    name = folded.get("name")
    if not isinstance(name, str):
        raise WireError("a column of the answer has no name")
    return Column(name, kql_type(str(folded.get("type", ""))))


def _rows_by_name(results: list[Any], names: list[str]) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows keyed exactly as the schema spells its columns, and keys that it does not name."""
    known = frozenset(names)
    folded = {name.casefold(): name for name in reversed(names)}
    extra: dict[str, None] = {}
    rows = []
    for number, row in enumerate(results, 1):
        if not isinstance(row, dict):
            raise WireError(f"row {number} of the answer is not an object")
        if row.keys() <= known:
            rows.append(row)
            continue
        spelled = {key: cell for key, cell in row.items() if key in known}
        for key, cell in row.items():
            if key in known or "@odata." in key:
                continue
            name = folded.setdefault(key.casefold(), key)
            if name not in known:
                extra[name] = None
            spelled.setdefault(name, cell)
        rows.append(spelled)
    return rows, list(extra)


def encode(table: ResultTable) -> bytes:
    """Graph's response body for ``table``; equal column names are renamed as Kusto does."""
    names = unique_names(table.names)
    columns = list(zip(*table.rows, strict=True)) if table.rows else [()] * len(names)
    encoded = [
        encode_column(column.kql_type, cells, Instant.isoformat, _dynamic)
        for column, cells in zip(table.columns, columns, strict=True)
    ]
    schema = [
        {"name": name, "type": _SERVICE_TYPES[column.kql_type]}
        for name, column in zip(names, table.columns, strict=True)
    ]
    results = [dict(zip(names, row, strict=True)) for row in zip(*encoded, strict=True)]
    return encode_body({"schema": schema, "results": results})


def error_value(error: ServiceError, request_id: str, date: str) -> dict[str, Any]:
    """The JSON form of an error as Graph sends it, under its ``error`` key.

    ``date`` is ISO 8601 without an offset, as the service writes it.
    """
    ids = {"date": date, "request-id": request_id, "client-request-id": request_id}
    return {"code": error.code, "message": error.message, "innerError": ids}


def _dynamic(cell: Any) -> Any:
    """Text goes out quoted, so that it comes back as text."""
    return encode_body(cell).decode() if isinstance(cell, str) else cell
