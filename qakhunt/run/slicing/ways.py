"""Which ways of slicing give exactly the uncut result of a query, and why others do not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qakhunt.hunts.feed import Feed, NoFeed, feeds
from qakhunt.run.slicing.partition import NotPartitionable, Partition, partition_of
from qakhunt.run.slicing.pieces import Cut, WholeCut, WholeFirst
from qakhunt.run.slicing.request import AUTO, DEVICES, TIME, SliceRequest

if TYPE_CHECKING:
    from qakhunt.hunts.render import RenderedQuery


@dataclass(frozen=True)
class Ways:
    """What is exact for one rendered query.

    A way that is not is None, and its ``not_`` text says why.
    """

    by_device: Partition | None
    by_time: tuple[Feed, ...] | None
    not_by_device: str = ""
    not_by_time: str = ""

    def cut(self, rendered: RenderedQuery, request: SliceRequest | None) -> tuple[Cut, str]:
        """The cut to use, and why it is not what was asked for (empty where it is)."""
        whole = WholeCut(rendered)
        if request is None:
            return whole, ""
        if request.way == AUTO:
            further = self._device(rendered, request) or self._time(rendered, request)
            return (WholeFirst(whole, further), "") if further else (whole, self.neither)
        if request.way == DEVICES:
            found = self._device(rendered, request)
            other = "a length such as --slice 1d" if self.by_time else ""
            return (found, "") if found else (whole, _instead(self.not_by_device, other))
        by_time = self._time(rendered, request)
        other = "--slice devices:8" if self.by_device else ""
        return (by_time, "") if by_time else (whole, _instead(self.not_by_time, other))

    @property
    def neither(self) -> str:
        """Why no way is exact."""
        return f"by device: {self.not_by_device}; by time: {self.not_by_time}"

    def _device(self, rendered: RenderedQuery, request: SliceRequest) -> Cut | None:
        from qakhunt.run.slicing.by_device import DeviceCut

        return DeviceCut(rendered, self.by_device, request) if self.by_device else None

    def _time(self, rendered: RenderedQuery, request: SliceRequest) -> Cut | None:
        if not self.by_time:
            return None
        from qakhunt.run.slicing.by_time import TimeCut

        return TimeCut(rendered, self.by_time, request)


def _instead(reason: str, other: str) -> str:
    return f"{reason}; {other} would be exact" if other else reason


def ways_of(rendered: RenderedQuery, wanted: frozenset[str] = frozenset([DEVICES, TIME])) -> Ways:
    """Look at the query for each wanted way; the engine is asked only for the way by time."""
    partition: Partition | None = None
    found: tuple[Feed, ...] | None = None
    not_by_device = not_by_time = "not looked at"
    if DEVICES in wanted:
        try:
            partition, not_by_device = partition_of(rendered.text, rendered.product), ""
        except NotPartitionable as problem:
            not_by_device = str(problem)
    if TIME in wanted:
        try:
            found, not_by_time = feeds(rendered.text, rendered.product), ""
        except NoFeed as problem:
            not_by_time = str(problem)
    if found is not None:
        from qakhunt.backends.engine.feed_store import refusal

        not_by_time = (
            refusal(rendered.text, rendered.product, now=rendered.now, window=rendered.window) or ""
        )
    return Ways(partition, None if not_by_time else found, not_by_device, not_by_time)


def ways_for(rendered: RenderedQuery, request: SliceRequest) -> Ways:
    """The way that is asked for; the other is looked at only where that one is not exact."""
    wanted = TIME if request.way == TIME else DEVICES
    ways = ways_of(rendered, frozenset([wanted]))
    return ways if ways.by_device or ways.by_time else ways_of(rendered)


def describe(ways: Ways) -> list[str]:
    """Lines for a person: each way, whether it is exact, and why."""
    if ways.by_device:
        device = (
            f"exact: every aggregation, join and window includes {ways.by_device.column}; "
            f"the sources are cut with hash({ways.by_device.column}, n)"
        )
    else:
        device = f"not exact: {ways.not_by_device}"
    lines = [f"by device: {device}"]
    if ways.by_time is None:
        return [*lines, f"by time: not exact: {ways.not_by_time}"]
    lines.append("by time: exact: the feeds below are fetched, the query runs over them here")
    for feed in ways.by_time:
        condition = " ".join(feed.condition.split()) if feed.condition else "all records"
        cut = "" if feed.time_column else " (no time column: fetched at once)"
        lines.append(f"    feed of {feed.table}{cut}: {condition}")
    return lines
