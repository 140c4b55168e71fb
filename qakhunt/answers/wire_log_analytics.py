"""The wire format of Log Analytics: ``{"tables": [{"columns", "rows"}], "error"}``."""

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
    NO_TABLE,
    Response,
    ServiceError,
    column_faults,
    decoded_by,
    error_in,
    signs,
    table_faults,
)
from qakhunt.answers.table import Column, ResultTable
from qakhunt.kql.values import Instant

PARTIAL = "PartialError"

_BODY_MEMBERS = frozenset(["tables", "statistics", "render", "datasources", "permissions"])
_TABLE_MEMBERS = frozenset(["name", "columns", "rows"])
_PRIMARY = "PrimaryResult"


def decode(body: bytes) -> Response:
    """Decode a response body. Raises WireError where it is no such response."""
    return decoded_by(from_value, body, "tables")


def is_response(value: Any) -> bool:
    """Whether decoded JSON is a Log Analytics response with at least one table."""
    tables = value.get("tables") if isinstance(value, dict) else None
    return (
        isinstance(tables, list)
        and bool(tables)
        and all(isinstance(t, dict) and "columns" in t and "rows" in t for t in tables)
    )


def from_value(value: Any) -> Response:
    """As ``decode``, for JSON that already stands in memory. Raises WireError."""
    tables = value.get("tables") if isinstance(value, dict) else None
    if not isinstance(tables, list) or (tables and not is_response(value)):
        raise WireError("the answer has no tables")
    beside = signs(value, _BODY_MEMBERS)
    partial = error_in(value) or beside.partial
    faults = [*beside.faults]
    if not tables:
        faults.append("the answer has no table")
        return Response(NO_TABLE, partial, faults=tuple(faults), unknown=beside.unknown)
    tables = sorted(tables, key=lambda table: table.get("name") != _PRIMARY)
    parts = [_table(raw) for raw in tables]
    partial = partial or next(filter(None, (part.partial for part in parts)), None)
    names = [table.get("name") for table in tables]
    faults += table_faults(list(zip(names, parts, strict=True)))
    return Response(parts[0].table, partial, faults=tuple(faults), unknown=beside.unknown)


def _table(raw: dict[str, Any]) -> Response:
    if not isinstance(raw["columns"], list) or not raw["columns"]:
        raise WireError("the answer has no columns")
    columns = tuple(_column(column) for column in raw["columns"])
    return decode_table(columns, raw["rows"], signs(raw, _TABLE_MEMBERS))


def decode_table(columns: tuple[Column, ...], raw: Any, beside: Response) -> Response:
    """A table of Kusto's engine: ``raw`` are lists of cells, ``beside`` its other members.

    Raises WireError for rows that do not fit the columns.
    """
    rows, error, short = _plain_rows(raw, len(columns))
    decoded = [
        decode_column(column.kql_type, [row[i] for row in rows], column.name)
        for i, column in enumerate(columns)
    ]
    faults = [*beside.faults, *column_faults(column.name for column in columns)]
    if short:
        faults.append(f"{short} rows are shorter than the columns")
    table = ResultTable(columns, list(zip(*decoded, strict=True)))
    return Response(table, error or beside.partial, faults=tuple(faults))


def _column(raw: Any) -> Column:
    if not isinstance(raw, dict) or not isinstance(raw.get("name"), str):
        raise WireError("a column of the answer has no name")
    return Column(raw["name"], kql_type(str(raw.get("type", ""))))


def _plain_rows(rows: Any, width: int) -> tuple[list[list[Any]], ServiceError | None, int]:
    """Rows of exactly ``width`` cells, and how many were shorter.

    Kusto reports a late failure as an object among them.
    """
    if not isinstance(rows, list):
        raise WireError("the rows of the answer are not a list")
    if set(map(type, rows)) <= {list} and set(map(len, rows)) <= {width}:
        return rows, None, 0
    plain: list[list[Any]] = []
    error = None
    short = 0
    for number, row in enumerate(rows, 1):
        if isinstance(row, dict):
            error = error or _late_failure(row)
        elif not isinstance(row, list) or len(row) > width:
            raise WireError(f"row {number} of the answer does not fit its columns")
        else:
            short += len(row) < width
            plain.append(row + [None] * (width - len(row)))
    return plain, error, short


def _late_failure(row: dict[str, Any]) -> ServiceError:
    inner = signs(row, ()).partial
    if inner is not None and "OneApiErrors" in row:
        return ServiceError(PARTIAL, "", inner)
    words = inner.words if inner else "the service broke off in the middle of the rows"
    return ServiceError(PARTIAL, words)


def encode(table: ResultTable, partial: ServiceError | None = None) -> bytes:
    """The response body for ``table``, with a PartialError where one is given."""
    value: dict[str, Any] = {
        "tables": [
            {
                "name": _PRIMARY,
                "columns": [{"name": c.name, "type": c.kql_type} for c in table.columns],
                "rows": encode_rows(table),
            }
        ]
    }
    if partial is not None:
        value["error"] = error_value(partial)
    return encode_body(value)


def encode_rows(table: ResultTable) -> list[tuple[Any, ...]]:
    """The rows as Kusto's engine sends them; dynamic values are JSON text."""
    columns = list(zip(*table.rows, strict=True)) if table.rows else [()] * len(table.columns)
    encoded = [
        encode_column(column.kql_type, cells, Instant.short, _dynamic_text)
        for column, cells in zip(table.columns, columns, strict=True)
    ]
    return list(zip(*encoded, strict=True))


def error_value(error: ServiceError) -> dict[str, Any]:
    """The JSON form of an error as Log Analytics sends it, under its ``error`` key.

    A partial error carries its cause in ``details``, any other in ``innererror``.
    """
    value: dict[str, Any] = {"code": error.code, "message": error.message}
    if error.place:
        value["line"], value["pos"] = error.place
    if error.request_id:
        value["correlationId"] = error.request_id
    if error.inner is not None:
        inner = error_value(error.inner)
        if error.code == PARTIAL:
            value["details"] = [inner]
        else:
            value["innererror"] = inner
    return value


def _dynamic_text(cell: Any) -> str:
    return "" if cell is None else encode_body(cell).decode()
