"""The wire format of Log Analytics: ``{"tables": [{"columns", "rows"}], "error"}``."""

from __future__ import annotations

from typing import Any

import msgspec

from qakhunt.answers.cells import (
    WireError,
    collector_paused,
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
    repeated,
    signs,
    table_faults,
    without_twins,
)
from qakhunt.answers.table import Column, ResultTable, Row
from qakhunt.kql.values import Instant

PARTIAL = "PartialError"

_JSON_TYPES: dict[str, Any] = {
    "bool": bool | None, "int": int | None, "long": int | None, "real": float | None,
    "string": str | None, "guid": str | None,
}  # fmt: skip
"""KQL types whose values JSON has itself; the others need a look at each cell."""

_BODY_MEMBERS = frozenset(["tables", "statistics", "render", "datasources", "permissions"])
_TABLE_MEMBERS = frozenset(["name", "columns", "rows"])
_PRIMARY = "PrimaryResult"


def decode(body: bytes) -> Response:
    """Decode a response body. Raises WireError where it is no such response."""
    with collector_paused():
        table = _decode_regular(body)
        if table is not None:
            return without_twins(Response(table), body, "tables")
    return decoded_by(from_value, body, "tables")


class _RawTable(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    name: str
    columns: list[dict[str, str]]
    rows: msgspec.Raw


class _RegularBody(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    tables: tuple[_RawTable]
    error: None = None


# Made here: threads that use a model for the first time at once crash msgspec 0.22.
_regular_body = msgspec.json.Decoder(_RegularBody).decode


def _decode_regular(body: bytes) -> ResultTable | None:
    """The whole answer where each cell has its column's plain JSON type, else None.

    Types are checked while the rows are parsed and only columns whose values are
    not JSON's own are touched again: half the time of the general way.
    """
    try:
        raw = _regular_body(body).tables[0]
        columns = tuple(_column(column) for column in raw.columns)
        if not columns or repeated(column.name for column in columns):
            return None
        kinds = tuple(_JSON_TYPES.get(column.kql_type, Any) for column in columns)
        rows = msgspec.json.decode(raw.rows, type=list[tuple[kinds]])  # type: ignore[valid-type]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    positions = [i for i, kind in enumerate(kinds) if kind is Any]
    converted = [
        decode_column(columns[i].kql_type, [row[i] for row in rows], columns[i].name)
        for i in positions
    ]
    if not converted:
        return ResultTable(columns, rows)
    return ResultTable(columns, _with_cells(rows, positions, converted))


def _with_cells(rows: list[Row], positions: list[int], converted: list[list[Any]]) -> list[Row]:
    changed = list(map(list, rows))
    for position, cells in zip(positions, converted, strict=True):
        for row, cell in zip(changed, cells, strict=True):
            row[position] = cell
    return list(map(tuple, changed))


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
