"""Cells between JSON and KQL's types: the one place that knows how each type travels."""

from __future__ import annotations

import math
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

import msgspec

from qakhunt.answers.json_body import WireError, encode_body, loads_loosely
from qakhunt.kql.values import Instant, Timespan, parse_instants

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_NONE = type(None)

_TYPE_NAMES = {
    "bool": "bool", "boolean": "bool", "sbyte": "bool",
    "int": "int", "int32": "int", "int16": "int",
    "long": "long", "int64": "long", "uint64": "long", "uint32": "long",
    "real": "real", "double": "real", "single": "real", "float": "real",
    "decimal": "decimal", "sqldecimal": "decimal",
    "string": "string",
    "datetime": "datetime", "date": "datetime", "datetimeoffset": "datetime",
    "timespan": "timespan", "time": "timespan", "duration": "timespan",
    "guid": "guid", "uuid": "guid", "uniqueid": "guid",
    "dynamic": "dynamic", "object": "dynamic",
}  # fmt: skip


def kql_type(name: str) -> str:
    """The KQL type of a service's type name, KQL's own or .NET's; ``dynamic`` if unknown."""
    return _TYPE_NAMES.get(name.rpartition(".")[2].casefold(), "dynamic")


def decode_column(kind: str, cells: list[Any], name: str) -> list[Any]:
    """All cells of one column as values of KQL type ``kind``.

    Raises WireError, naming the column, for a cell that is no such value.
    """
    present = set(map(type, cells))
    if present <= _AS_IS[kind]:
        return cells
    convert = _FROM_JSON[kind]
    try:
        if kind == "datetime":
            return _datetimes(cells, present)
        if _NONE not in present:
            return [convert(cell) for cell in cells]
        return [None if cell is None else convert(cell) for cell in cells]
    except (ValueError, ArithmeticError, TypeError):
        raise _misfit(convert, kind, cells, name) from None


def _datetimes(cells: list[Any], present: set[type]) -> list[Instant | None]:
    if not present <= {str, _NONE}:
        raise ValueError
    if _NONE not in present:
        return list(parse_instants(cells))
    instants = iter(parse_instants([cell for cell in cells if cell is not None]))
    return [None if cell is None else next(instants) for cell in cells]


def _misfit(convert: Callable[[Any], Any], kind: str, cells: list[Any], name: str) -> WireError:
    for row, cell in enumerate(cells, 1):
        try:
            _ = None if cell is None else convert(cell)
        except (ValueError, ArithmeticError, TypeError):
            shown = f"{cell!r:.80}"
            return WireError(f"column {name!r}, row {row}: {shown} is not a value of type {kind}")
    raise AssertionError("no bad cell")


def _bool(cell: Any) -> bool:
    if isinstance(cell, bool):
        return cell
    if cell in (0, 1):
        return bool(cell)
    if isinstance(cell, str) and cell.casefold() in ("true", "false"):
        return cell.casefold() == "true"
    raise ValueError


def _integer(cell: Any) -> int:
    if isinstance(cell, bool) or (isinstance(cell, float) and not cell.is_integer()):
        raise ValueError
    return int(cell)


def _real(cell: Any) -> float:
    return float(cell)  # "NaN", "Infinity" and "-Infinity" are names float() knows


def _decimal(cell: Any) -> Decimal:
    try:
        return Decimal(str(cell))
    except InvalidOperation:
        raise ValueError from None


def _string(cell: Any) -> str:
    return cell if isinstance(cell, str) else encode_body(cell).decode()


def _datetime(cell: Any) -> Instant:
    if not isinstance(cell, str):
        raise ValueError
    return Instant.parse(cell)


def _timespan(cell: Any) -> Timespan:
    if not isinstance(cell, str):
        raise ValueError
    return Timespan.parse(cell)


def _dynamic(cell: Any) -> Any:
    """JSON text becomes its value; text that is no JSON is a dynamic string."""
    if not isinstance(cell, str):
        return cell
    try:
        return msgspec.json.decode(cell)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        pass
    if cell.lstrip()[:1] not in ("{", "[", '"'):
        return cell
    try:
        return loads_loosely(cell)
    except ValueError:
        return cell


_FROM_JSON: dict[str, Callable[[Any], Any]] = {
    "bool": _bool, "int": _integer, "long": _integer, "real": _real, "decimal": _decimal,
    "string": _string, "guid": _string, "datetime": _datetime, "timespan": _timespan,
    "dynamic": _dynamic,
}  # fmt: skip

_AS_IS: dict[str, set[type]] = {
    "bool": {bool, _NONE}, "int": {int, _NONE}, "long": {int, _NONE}, "real": {float, _NONE},
    "decimal": {_NONE}, "string": {str, _NONE}, "guid": {str, _NONE}, "datetime": {_NONE},
    "timespan": {_NONE}, "dynamic": {dict, list, int, float, bool, _NONE},
}  # fmt: skip
"""KQL type -> JSON types that already are its values."""


def encode_column(
    kind: str,
    cells: Sequence[Any],
    datetime: Callable[[Instant], str],
    dynamic: Callable[[Any], Any],
) -> list[Any]:
    """The JSON form of one column's cells; the two services differ in the two callables."""
    if kind == "datetime":
        return [None if cell is None else datetime(cell) for cell in cells]
    if kind == "dynamic":
        return [None if cell is None else dynamic(cell) for cell in cells]
    if kind in ("timespan", "decimal"):
        return [None if cell is None else str(cell) for cell in cells]
    if kind == "real":
        return [_encode_real(cell) for cell in cells]
    return list(cells)


def _encode_real(cell: float | None) -> float | str | None:
    if cell is None or math.isfinite(cell):
        return cell
    if math.isnan(cell):
        return "NaN"
    return "Infinity" if cell > 0 else "-Infinity"
