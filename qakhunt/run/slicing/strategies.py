"""How a query is sliced: by device or by time, where that gives exactly the whole result."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from qakhunt.answers.table import ResultTable
from qakhunt.backends.base import Question
from qakhunt.core.errors import QakhuntError
from qakhunt.hunts.source_query import NoSourceQuery, SourceQuery, source_queries
from qakhunt.kql.edits import original_offset
from qakhunt.kql.tokens import LineIndex
from qakhunt.kql.values import TICKS_PER_SECOND, Instant, Timespan, Window
from qakhunt.run.slicing.partition import NotPartitionable, Part, Partition, in_order, partition_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from qakhunt.answers.ledger import Target
    from qakhunt.core.errors import SourceLocation
    from qakhunt.hunts.render import RenderedQuery
    from qakhunt.kql.edits import Edit

AUTO, DEVICES, TIME = "auto", "devices", "time"
SPELLINGS = "1d, 6h, devices:8, auto or none"
MOST_PARTS = 4096
SHORTEST = Timespan(60 * TICKS_PER_SECOND)


@dataclass(frozen=True)
class SliceRequest:
    """The option ``--slice``: ``parts`` of the devices, or time ranges of ``span``.

    ``auto`` sends the whole query first and slices only what was too much, by
    device where that is exact, else by time. No slice becomes shorter than
    ``shortest``, and devices are divided into ``most_parts`` at most.
    """

    kind: str
    parts: int = 8
    span: Timespan | None = None
    shortest: Timespan = SHORTEST
    most_parts: int = MOST_PARTS
    most_rows: int = 5_000_000

    def __str__(self) -> str:
        """A spelling that ``read_slices`` reads again."""
        if self.kind == DEVICES:
            return f"{DEVICES}:{self.parts}"
        return f"{self.span.ticks // TICKS_PER_SECOND}s" if self.span else self.kind


def read_slices(text: str) -> SliceRequest | None:
    """Read the text of ``--slice``; None for ``none``. Raises ValueError."""
    wish = text.strip()
    if wish == "none":
        return None
    if wish == AUTO:
        return SliceRequest(AUTO)
    name, colon, number = wish.partition(":")
    if colon and name == DEVICES:
        if not number.isascii() or not number.isdigit() or not 2 <= int(number) <= MOST_PARTS:
            raise ValueError(f"devices are divided into 2 to {MOST_PARTS} parts, not {number!r}")
        return SliceRequest(DEVICES, parts=int(number))
    try:
        span = Timespan.parse(wish)
    except ValueError:
        raise ValueError(f"{text!r} is not a slice: expected {SPELLINGS}") from None
    if wish.isdigit():
        raise ValueError(f"the length {text!r} needs a unit, such as 1d or 6h")
    if span < SHORTEST:
        raise ValueError(f"a slice is at least a minute long, not {text!r}")
    if span.ticks % TICKS_PER_SECOND:
        raise ValueError(f"a slice is a number of whole seconds long, not {text!r}")
    return SliceRequest(TIME, span=span)


WHOLE = "whole window"
FIRST_SLICES = 8
"""Into how many slices a window is divided where no length was asked for."""


class CannotJoinError(Exception):
    """The slices came, but cannot be joined; the text says why."""


@dataclass(frozen=True)
class Slice:
    """One query of several: ``key`` is for the strategy that made it.

    ``edits`` lead from the rendered text to ``text``; None where it is another query.
    """

    label: str
    text: str
    window: Window
    tables: tuple[str, ...]
    key: Any = None
    edits: tuple[Edit, ...] | None = ()

    @property
    def query_hash(self) -> str:
        """SHA-256 of the text as sent."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def question(self, target: Target) -> Question:
        """The question to ask a target."""
        return Question(self.text, self.window, target, self.tables)

    def locate(self, rendered: RenderedQuery, place: tuple[int, int]) -> SourceLocation | None:
        """The place in the hunt's file of a line and column of ``text``."""
        if self.edits is None:
            return None
        if not self.edits:
            return rendered.locate(*place)
        offset = original_offset(self.edits, LineIndex(self.text).offset(*place))
        return rendered.locate(*LineIndex(rendered.text).locate(offset))


class SliceStrategy(Protocol):
    """One way to slice one query; ``keep`` and ``halves`` are called from several threads."""

    def slices(self) -> list[Slice]:
        """What to query first."""

    def halves(self, one: Slice) -> list[Slice]:
        """Slices that together are this one; none where it cannot be divided further."""

    def keep(self, one: Slice, table: ResultTable) -> None:
        """Keep the answer to a slice."""

    def joined(self) -> ResultTable | None:
        """The whole of what was kept; None for nothing. Raises CannotJoinError."""

    def close(self) -> None:
        """Remove temporary files."""
        return


class Unsliced(SliceStrategy):
    """The query as it is; with ``further``, sliced that way where it turns out too much."""

    def __init__(self, rendered: RenderedQuery, further: SliceStrategy | None = None) -> None:
        self._whole = Slice(WHOLE, rendered.text, rendered.window, rendered.tables)
        self._table: ResultTable | None = None
        self._further = further

    def slices(self) -> list[Slice]:
        return [self._whole]

    def halves(self, one: Slice) -> list[Slice]:
        if self._further is None:
            return []
        return self._further.slices() if one is self._whole else self._further.halves(one)

    def keep(self, one: Slice, table: ResultTable) -> None:
        if one is self._whole:
            self._table = table
        elif self._further:
            self._further.keep(one, table)

    def joined(self) -> ResultTable | None:
        return self._further.joined() if self._table is None and self._further else self._table

    def close(self) -> None:
        if self._further:
            self._further.close()


class ByDevice(SliceStrategy):
    """The same query for parts of the devices, by their hash; the results one after the other."""

    def __init__(
        self, rendered: RenderedQuery, partition: Partition, request: SliceRequest
    ) -> None:
        self._rendered, self._partition, self._request = rendered, partition, request
        self._tables = rendered.tables
        self._kept: dict[str, ResultTable] = {}
        self._lock = threading.Lock()

    def slices(self) -> list[Slice]:
        parts = self._request.parts
        return [self._slice(Part(parts, remainder)) for remainder in range(parts)]

    def halves(self, one: Slice) -> list[Slice]:
        part: Part = one.key
        if part.modulus * 2 > self._request.most_parts:
            return []
        return [self._slice(half) for half in part.halves(self._partition.column)]

    def _slice(self, part: Part) -> Slice:
        edits = tuple(self._partition.edits(part))
        text = self._partition.query(part)
        return Slice(str(part), text, self._rendered.window, self._tables, part, edits)

    def keep(self, one: Slice, table: ResultTable) -> None:
        with self._lock:
            self._kept[one.text] = table

    def joined(self) -> ResultTable | None:
        """All rows, sorted as the query sorts."""
        if not self._kept:
            return None
        tables = list(self._kept.values())
        names = tables[0].names
        if any(table.names != names for table in tables):
            raise CannotJoinError("the parts were answered with different columns")
        widest = max(tables, key=len)
        rows = [row for table in tables for row in table.rows]
        return in_order(ResultTable(widest.columns, rows), self._partition.order)


class SourceQueries(SliceStrategy):
    """The records of tables, time range by time range: queries of their own, halved by time."""

    def __init__(
        self,
        found: Iterable[SourceQuery],
        window: Window,
        span: Timespan,
        shortest: Timespan = SHORTEST,
    ) -> None:
        self._sources, self._window = tuple(found), window
        self._span, self._shortest = span, shortest

    def slices(self) -> list[Slice]:
        return [
            self._slice(source, part)
            for source in self._sources
            for part in (ranges(self._window, self._span) if source.time_column else [self._window])
        ]

    def halves(self, one: Slice) -> list[Slice]:
        source: SourceQuery = one.key
        parts = halves(one.window, self._shortest) if source.time_column else []
        return [self._slice(source, part) for part in parts]

    def _slice(self, source: SourceQuery, part: Window) -> Slice:
        label = str(part) if source.time_column else "whole table"
        if len(self._sources) > 1:
            label = f"{source.table} {label}"
        return Slice(label, source.query(part), part, (source.table,), source, None)

    def joined(self) -> ResultTable | None:
        return None


class ByTime(SourceQueries):
    """Fetches what the query reads; the unchanged query then runs in the embedded engine."""

    def __init__(
        self, rendered: RenderedQuery, found: Iterable[SourceQuery], request: SliceRequest
    ) -> None:
        from qakhunt.backends.engine.parquet import RecordStore

        span = request.span or _fraction(rendered.window, request.shortest)
        super().__init__(found, rendered.window, span, request.shortest)
        self._rendered, self._most_rows = rendered, request.most_rows
        self._store = RecordStore(rendered.product)

    def keep(self, one: Slice, table: ResultTable) -> None:
        self._store.add(one.key.table, table)

    def joined(self) -> ResultTable | None:
        """The unchanged query's result over all that was fetched."""
        store, rendered = self._store, self._rendered
        if store.rows > self._most_rows:
            raise CannotJoinError(
                f"{store.rows:,} records are too many to bring together here "
                f"(at most {self._most_rows:,})"
            )
        try:
            return store.ask(rendered.text, now=rendered.now, window=rendered.window)
        except QakhuntError as problem:
            raise CannotJoinError(problem.message) from None

    def close(self) -> None:
        self._store.close()


def ranges(window: Window, span: Timespan) -> list[Window]:
    """The window in time ranges of ``span`` from its start; the last may be shorter."""
    starts = range(window.start.ticks, window.end.ticks, span.ticks)
    return [
        Window(Instant(start), Instant(min(start + span.ticks, window.end.ticks)))
        for start in starts
    ]


def halves(window: Window, shortest: Timespan) -> list[Window]:
    """The window in two, or nothing where a half would be shorter than ``shortest``."""
    length = window.end.ticks - window.start.ticks
    if length < 2 * shortest.ticks:
        return []
    middle = window.start.ticks + _whole_seconds(length // 2)
    return [Window(window.start, Instant(middle)), Window(Instant(middle), window.end)]


def _fraction(window: Window, shortest: Timespan) -> Timespan:
    part = _whole_seconds((window.end.ticks - window.start.ticks) // FIRST_SLICES)
    return Timespan(max(part + TICKS_PER_SECOND, shortest.ticks))


def _whole_seconds(ticks: int) -> int:
    return ticks - ticks % TICKS_PER_SECOND


# Which strategies give exactly the result of the whole query, and why others do not


@dataclass(frozen=True)
class Sliceability:
    """What is exact for one rendered query.

    A strategy that is not is None, and its ``not_`` text says why.
    """

    by_device: Partition | None
    by_time: tuple[SourceQuery, ...] | None
    not_by_device: str = ""
    not_by_time: str = ""

    def strategy(
        self, rendered: RenderedQuery, request: SliceRequest | None
    ) -> tuple[SliceStrategy, str]:
        """The strategy to use, and why it is not what was asked for (empty where it is)."""
        if request is None:
            return Unsliced(rendered), ""
        strategy: SliceStrategy | None = None
        if self.by_device and request.kind != TIME:
            strategy = ByDevice(rendered, self.by_device, request)
        elif self.by_time and request.kind != DEVICES:
            strategy = ByTime(rendered, self.by_time, request)
        if request.kind == AUTO:
            why = f"by device: {self.not_by_device}; by time: {self.not_by_time}"
            return Unsliced(rendered, strategy), "" if strategy else why
        if strategy:
            return strategy, ""
        if request.kind == DEVICES:
            why, other = self.not_by_device, "a length such as --slice 1d" if self.by_time else ""
        else:
            why, other = self.not_by_time, "--slice devices:8" if self.by_device else ""
        return Unsliced(rendered), f"{why}; {other} would be exact" if other else why

    def describe(self) -> list[str]:
        """Lines for a person: each strategy, whether it is exact, and why."""
        if self.by_device:
            device = (
                f"exact: every aggregation, join and window includes {self.by_device.column}; "
                f"the sources are cut with hash({self.by_device.column}, n)"
            )
        else:
            device = f"not exact: {self.not_by_device}"
        lines = [f"by device: {device}"]
        if self.by_time is None:
            return [*lines, f"by time: not exact: {self.not_by_time}"]
        lines.append("by time: exact: the query runs here over the records of these source queries")
        for source in self.by_time:
            condition = " ".join(source.condition.split()) if source.condition else "all records"
            whole = "" if source.time_column else " (no time column: fetched at once)"
            lines.append(f"    source query of {source.table}{whole}: {condition}")
        return lines


def sliceability(
    rendered: RenderedQuery, wanted: frozenset[str] = frozenset([DEVICES, TIME])
) -> Sliceability:
    """Check each wanted strategy; the engine is asked only for the one by time."""
    partition: Partition | None = None
    found: tuple[SourceQuery, ...] | None = None
    not_by_device = not_by_time = "not looked at"
    if DEVICES in wanted:
        try:
            partition, not_by_device = partition_of(rendered.text, rendered.product), ""
        except NotPartitionable as problem:
            not_by_device = str(problem)
    if TIME in wanted:
        try:
            found, not_by_time = source_queries(rendered.text, rendered.product), ""
        except NoSourceQuery as problem:
            not_by_time = str(problem)
    if found is not None:
        from qakhunt.backends.engine.parquet import refusal

        not_by_time = (
            refusal(rendered.text, rendered.product, now=rendered.now, window=rendered.window) or ""
        )
    return Sliceability(partition, None if not_by_time else found, not_by_device, not_by_time)


def sliceability_for(rendered: RenderedQuery, request: SliceRequest) -> Sliceability:
    """As asked for; the other strategy is checked only where that one is not exact."""
    found = sliceability(rendered, frozenset([TIME if request.kind == TIME else DEVICES]))
    return found if found.by_device or found.by_time else sliceability(rendered)
