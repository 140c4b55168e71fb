"""JSON bodies and their cells: the one place that knows how each of KQL's types travels."""

from __future__ import annotations

import contextlib
import gc
import json
import math
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from threading import Lock
from typing import TYPE_CHECKING, Any

import msgspec

from qakhunt.kql.values import Instant, Timespan, parse_instants

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence


_BOM = b"\xef\xbb\xbf"
_Raw = msgspec.Raw
_LONG = 100
"""Bytes of a value that is left out where only the names beside it matter."""


class WireError(ValueError):
    """The bytes are no answer in the format they should have."""


@dataclass(frozen=True)
class Body:
    """A decoded body; ``damaged`` says that bytes of it were not UTF-8 and were replaced."""

    value: Any
    damaged: bool = False


_decoding = 0
_was_enabled = True
_decoding_lock = Lock()


@contextmanager
def collector_paused() -> Iterator[None]:
    """Holds the cyclic collector back while a result is built.

    A hundred thousand rows are a million new objects and no cycle; the collector
    would walk them again and again and double the time. Nests, also across threads.
    """
    global _decoding, _was_enabled
    with _decoding_lock:
        if not _decoding:
            _was_enabled = gc.isenabled()
            gc.disable()
        _decoding += 1
    try:
        yield
    finally:
        with _decoding_lock:
            _decoding -= 1
            if not _decoding and _was_enabled:
                gc.enable()


def decode_body(data: bytes) -> Body:
    """Decode a JSON body. Raises WireError for anything that is not one whole JSON value."""
    data = data.removeprefix(_BOM)
    if not data.strip():
        raise WireError("the answer has no body")
    try:
        return Body(msgspec.json.decode(data))
    except RecursionError:
        raise WireError("the answer is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    text = data.decode("utf-8", errors="replace")
    try:
        value = loads_loosely(text)
    except ValueError as problem:
        start = text.lstrip()[:1]
        if start == "<":
            raise WireError("the answer is HTML, not JSON: a proxy or portal answered") from None
        if start in "{[":
            raise WireError(f"the answer is not whole JSON: {problem}") from None
        raise WireError("the answer is not JSON") from None
    return Body(value, damaged=not _is_utf8(data))


def loads_loosely(text: str) -> Any:
    """JSON with bare NaN, raw control characters and lone surrogates allowed.

    Lone surrogates, which no output could carry, become U+FFFD. Raises ValueError.
    """
    try:
        return _without_surrogates(json.loads(text, strict=False))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return value if value.isascii() else _replaced(value)
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {_replaced(key): _without_surrogates(item) for key, item in value.items()}
    return value


def _replaced(text: str) -> str:
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def encode_body(value: Any) -> bytes:
    """The JSON bytes of ``value``; a lone surrogate goes out as its escape."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode("ascii")


def to_json_value(cell: Any) -> Any:
    """The cell as JSON holds it.

    datetime, timespan, guid and decimal become strings, as do NaN and the
    infinities; dynamic stays a value; null is null.
    """
    if isinstance(cell, (Instant, Timespan, Decimal)):
        return cell.isoformat() if isinstance(cell, Instant) else str(cell)
    if isinstance(cell, float) and not math.isfinite(cell):
        return "NaN" if math.isnan(cell) else ("Infinity" if cell > 0 else "-Infinity")
    return cell


def to_text(cell: Any) -> str:
    """The cell as text; null is empty, dynamic is compact JSON."""
    if cell is None:
        return ""
    value = to_json_value(cell)
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def to_json_line(record: Mapping[str, Any]) -> str:
    """One record as one line of JSON."""
    plain = {name: to_json_value(cell) for name, cell in record.items()}
    return json.dumps(plain, ensure_ascii=False)


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
    """JSON text becomes its value; text that is no JSON is a dynamic string, none is null.

    Kusto's engine writes a null dynamic as empty text
    (https://github.com/Azure/azure-kusto-python, tests/input/deft.json).
    """
    if not isinstance(cell, str):
        return cell
    if not cell:
        return None
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
        return list(map(dynamic, cells))
    if kind in ("timespan", "decimal", "real"):
        return list(map(to_json_value, cells))
    return list(cells)


def repeated_members(data: bytes, inner: str = "") -> list[str]:
    """Names that a body's object has more than once, in whatever case.

    A parser keeps the last of them, so that the first, with its rows, would be lost.
    The objects of a list are each looked at, and so is the member ``inner``; rows are not.
    Nothing large is copied.
    """
    start = len(_BOM) if data.startswith(_BOM) else 0
    try:
        return _repeated(data, start, len(data), inner)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _twice(data[start:])


def _repeated(data: bytes, start: int, end: int, inner: str) -> list[str]:
    """As ``repeated_members``, of the value that is ``data[start:end]``."""
    whole = memoryview(data)[start:end]
    if bytes(whole[:64]).lstrip()[:1] == b"[":
        spans = [_span(data, item, start) for item in msgspec.json.decode(whole, type=list[_Raw])]
        return [name for a, b in spans for name in _repeated(data, a, b, inner)]
    members = msgspec.json.decode(whole, type=dict[str, _Raw])
    long = sorted(_span(data, v, start) for v in members.values() if len(memoryview(v)) > _LONG)
    pieces, at = [], start
    for a, b in long:
        pieces.append(data[at:a])
        at = max(at, b)
    found = _twice(b"null".join([*pieces, data[at:end]]))
    if inner in members:
        found += _repeated(data, *_span(data, members[inner], start), "")
    return found


def _span(data: bytes, value: msgspec.Raw, start: int) -> tuple[int, int]:
    """Where a value of ``data`` stands, from ``start`` on."""
    view = memoryview(value)
    head = bytes(view[:_LONG])
    at = data.find(head, start)
    while memoryview(data)[at : at + len(view)] != view:
        at = data.find(head, at + 1)
    return at, at + len(view)


def _twice(text: bytes) -> list[str]:
    """Names that the object has more than once; what is no object has none."""
    objects: list[list[tuple[str, Any]]] = []
    with contextlib.suppress(ValueError, RecursionError):  # no body at all has its own error
        json.loads(text.decode("utf-8", "replace"), strict=False, object_pairs_hook=objects.append)
    if not objects or text.lstrip()[:1] != b"{":
        return []
    names = [name.casefold() for name, _ in objects[-1]]
    return [name for name in dict.fromkeys(names) if names.count(name) > 1]
