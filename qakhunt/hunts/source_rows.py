"""The coverage check of a line: was there anything to look at, and without gaps?

One query per table that a hunt reads: how many records the window holds, from how many
devices, the times of the oldest and newest, in which hours of the window there are
any, and the workspace that holds them, since a service may answer from another one
than was asked. The answer is one row, however long the window is.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from qakhunt.answers.ledger import SourceRows
from qakhunt.hunts.model import DEFENDER, LOG_ANALYTICS
from qakhunt.hunts.product import tables_of
from qakhunt.kql.literal import encode
from qakhunt.kql.schema import TIME_COLUMN, columns
from qakhunt.kql.tokens import tokenize
from qakhunt.kql.values import TICKS_PER_DAY, Instant, Timespan, Window

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qakhunt.answers.table import ResultTable
    from qakhunt.hunts.render import RenderedQuery

_HOUR = TICKS_PER_DAY // 24
DEVICE_COLUMNS = ("DeviceId", "DeviceName", "Computer")
LONGEST_GAP = Timespan(72 * _HOUR)
"""A longer stretch without records is a gap; a small customer's weekend is none."""
USUAL_DELAY = {LOG_ANALYTICS: Timespan(_HOUR), DEFENDER: Timespan(_HOUR)}
"""Product -> how long after an event its record is usually there."""


def tables_named(rendered: RenderedQuery) -> tuple[str, ...]:
    """Tables of the product's schema that the rendered query names."""
    return tuple(tables_of(tokenize(rendered.text), rendered.product))


class UnsoundProbe(ValueError):
    """The answer to a coverage check says nothing; the text says why."""


@dataclass(frozen=True)
class Coverage:
    """What a window holds of a table; ``gaps`` are the stretches that hold nothing.

    A gap is as long as was asked for at least; those inside are counted in whole hours.
    """

    source: SourceRows
    gaps: tuple[Window, ...] = ()


@dataclass(frozen=True)
class Probe:
    """The coverage check of one table in one window.

    ``table`` may be one that no schema knows, or an expression that gives one.
    """

    table: str
    product: str
    window: Window

    @property
    def _known(self) -> Mapping[str, str]:
        return columns(self.product, self.table)

    @property
    def _time(self) -> str | None:
        if not self._known:
            return TIME_COLUMN[LOG_ANALYTICS]
        time = TIME_COLUMN[self.product]
        return time if time in self._known else None

    @property
    def _device(self) -> str | None:
        named = [name for name in DEVICE_COLUMNS if name in self._known]
        if len(named) > 1:  # records without a device id are told apart by the name
            return f"iff(isempty({named[0]}), {named[1]}, {named[0]})"
        return named[0] if named else None

    @property
    def _workspace(self) -> str | None:
        """KQL of a record's workspace, which Log Analytics calls its ``TenantId``.

        Defender's own tables have none, and where its schema has one it is the customer's;
        a table that Defender reads from a workspace keeps the column.
        """
        named = "TenantId" in self._known
        if self.product == DEFENDER or not self._known:
            return None if named else 'column_ifexists("TenantId", "")'
        return "TenantId" if named else None

    @property
    def _first_hour(self) -> Instant:
        return Instant(self.window.start.ticks // _HOUR * _HOUR)

    @property
    def text(self) -> str:
        """KQL that counts the table's records and devices in the window."""
        lines, found = [self.table], ["SourceRows = count()"]
        if self._device:
            found.append(f"Devices = dcount({self._device})")
        time = self._time
        if time:
            start, end = (encode(one, "datetime") for one in (self.window.start, self.window.end))
            first = encode(self._first_hour, "datetime")
            lines.append(f"| where {time} >= {start} and {time} < {end}")
            found += [f"First = min({time})", f"Last = max({time})"]
            found.append(f"Hours = make_set(datetime_diff('hour', {time}, {first}))")
        if self._workspace:
            found.append(f"TenantId = take_any({self._workspace})")
        lines.append(f"| summarize {', '.join(found)}")
        return "\n".join(lines) + "\n"

    def read(self, table: ResultTable, *, now: Instant, longest: Timespan) -> Coverage:
        """What the one row says. Raises UnsoundProbe where it is not what was asked for.

        ``longest`` is the longest stretch without records that is no gap. What is younger
        at ``now`` than the product's usual delay is not missed.
        """
        if len(table) != 1:
            raise UnsoundProbe(f"{len(table)} rows instead of one")
        record = next(table.records())
        source = SourceRows(
            rows=_count(record, "SourceRows"),
            devices=_count(record, "Devices") if self._device else 0,
            first=self._instant(record, "First"),
            last=self._instant(record, "Last"),
        )
        hours = self._hours(record, source) if self._time else []
        end = min(self.window.end, now - USUAL_DELAY[self.product])
        if not source.rows:
            silent_end = end if end > self.window.start else self.window.end
            return Coverage(source, (Window(self.window.start, silent_end),))
        first, last = source.first, source.last
        if first is None or last is None:
            return Coverage(source)
        gaps = self._silences(hours, longest)
        if first.since(self.window.start) > longest:
            gaps.insert(0, Window(self.window.start, first))
        if end > last and end.since(last) > longest:
            gaps.append(Window(last, end))
        return Coverage(source, tuple(gaps))

    def _silences(self, hours: list[int], longest: Timespan) -> list[Window]:
        """The long stretches between hours that hold records."""
        gaps = []
        for hour, following in pairwise(hours):
            start, stop = (self._first_hour + Timespan(n * _HOUR) for n in (hour + 1, following))
            # The record before it is older, so that this is a part of a longer stretch.
            if stop > start and stop.since(start) >= longest:
                gaps.append(Window(start, stop))
        return gaps

    def _hours(self, record: Mapping[str, Any], source: SourceRows) -> list[int]:
        """The hours of the window, from its first, that hold records; ascending."""
        hours = record.get("Hours")
        if hours is None and not source.rows and "Hours" in record:
            hours = []
        last = (self.window.last_tick.ticks - self._first_hour.ticks) // _HOUR
        if not isinstance(hours, list) or not all(_is_count(h) and h <= last for h in hours):
            raise UnsoundProbe(f"Hours is {hours!r:.80}, which are no hours of the window")
        ends = (source.first, source.last)
        whole = [bool(hours), *(moment is not None for moment in ends)]
        if any(one != bool(source.rows) for one in whole):
            raise UnsoundProbe(f"{source.rows} records, but from {ends[0]} to {ends[1]}")
        return sorted(set(hours))

    def _instant(self, record: Mapping[str, Any], name: str) -> Instant | None:
        moment = record.get(name) if self._time else None
        if moment is None:
            return None
        start = self.window.start.floor_microsecond()
        if not isinstance(moment, Instant) or not start <= moment < self.window.end:
            raise UnsoundProbe(f"{name} is {str(moment)!r:.80}, which is no time of the window")
        return moment


def _is_count(number: Any) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and number >= 0


def _count(record: Mapping[str, Any], name: str) -> int:
    number = record.get(name)
    if not _is_count(number):
        raise UnsoundProbe(f"{name} is {number!r:.80}, which is no count")
    return int(number or 0)
