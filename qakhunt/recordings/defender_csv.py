"""The CSV that Defender's and Sentinel's portals export, as rows of DeviceProcessEvents."""

from __future__ import annotations

import csv
import datetime as dt
import json
from typing import TYPE_CHECKING, Any

from qakhunt.errors import EventsError
from qakhunt.kql.values import Instant
from qakhunt.recordings.event_readers import Broken
from qakhunt.recordings.process_columns import table_columns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qakhunt.recordings.event_sources import EventSource

_EPOCH = Instant.parse("1970-01-01").ticks
# As the portals show times: Defender's, then Sentinel's and the American short form.
_SHOWN = (
    "%b %d, %Y %I:%M:%S %p", "%b %d, %Y %I:%M:%S.%f %p", "%m/%d/%Y, %I:%M:%S.%f %p",
    "%m/%d/%Y, %I:%M:%S %p", "%m/%d/%Y %I:%M:%S %p", "%m/%d/%Y %H:%M:%S",
)  # fmt: skip
_NEEDED = ("Timestamp", "FileName")


def read_rows(source: EventSource) -> Iterator[tuple[int, dict[str, Any] | Broken]]:
    """Line and row, times in nanoseconds since 1970; columns of no name go to AdditionalFields.

    Raises EventsError where the header is not that of process events.
    """
    csv.field_size_limit(1 << 24)
    with source.open() as stream:
        reader = csv.reader((line.decode("utf-8", "replace") for line in stream), strict=True)
        header = [name.removesuffix(" [UTC]").strip() for name in next(reader, [])]
        header = ["Timestamp" if name == "TimeGenerated" else name for name in header]
        missing = [name for name in _NEEDED if name not in header]
        if missing or len(set(header)) != len(header):
            raise EventsError(
                f"{source.name}: not an export of DeviceProcessEvents",
                hint=f"its header lacks {', '.join(missing)}"
                if missing
                else "a column stands twice",
            )
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as problem:
                yield reader.line_num, Broken(f"broken CSV: {problem}")
                continue
            if cells:
                yield reader.line_num, _row(header, cells)


def _row(header: list[str], cells: list[str]) -> dict[str, Any] | Broken:
    if len(cells) != len(header):
        return Broken(f"expected {len(header)} fields, found {len(cells)}")
    kinds = table_columns()
    row: dict[str, Any] = {}
    extra: dict[str, str] = {}
    for name, cell in zip(header, cells, strict=True):
        kind = kinds.get(name)
        if cell == "":
            continue
        if kind is None:
            extra[name] = cell
            continue
        try:
            row[name] = _READERS.get(kind, str)(cell)
        except (ValueError, OverflowError):
            return Broken(f"column {name} is a {kind}, but holds {cell[:60]!r}")
    if "Timestamp" not in row:
        return Broken("no Timestamp")
    if extra:
        row["AdditionalFields"] = _joined(row.get("AdditionalFields", ""), extra)
    return row


def _joined(text: str, extra: dict[str, str]) -> str:
    try:
        fields = json.loads(text) if text else {}
    except ValueError:
        fields = {"AdditionalFields": text}
    if not isinstance(fields, dict):
        fields = {"AdditionalFields": fields}
    return json.dumps({**fields, **extra}, ensure_ascii=False)


def _nanoseconds(text: str) -> int:
    try:
        return (Instant.parse(text).ticks - _EPOCH) * 100
    except ValueError:
        for form in _SHOWN:
            try:
                moment = dt.datetime.strptime(text, form)
            except ValueError:
                continue
            return (Instant.from_datetime(moment).ticks - _EPOCH) * 100
        raise


def _bool(text: str) -> bool:
    known = {"true": True, "1": True, "false": False, "0": False}
    if text.lower() not in known:
        raise ValueError(text)
    return known[text.lower()]


_READERS: dict[str, Any] = {"datetime": _nanoseconds, "long": int, "int": int, "bool": _bool}
