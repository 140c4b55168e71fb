"""The coverage check of a line: was there anything to look at, and without gaps?

One query per table that a hunt reads: how many records the window holds, from how many
devices, the times of the oldest and newest, in which hours of the window there are
any, and the workspace that holds them, since a service may answer from another one
than was asked. The answer is one row, however long the window is.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from qakhunt.answers.ledger import LedgerLine, SourceRows, Status
from qakhunt.backends.base import LONGEST_GAP, Answer, Backend, Question
from qakhunt.kql.literal import encode
from qakhunt.kql.schema import PRODUCTS, SENTINEL, columns
from qakhunt.kql.values import TICKS_PER_DAY, Instant, Timespan, Window
from qakhunt.kql.visitors import read_by
from qakhunt.triage.words import count, span

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qakhunt.answers.table import ResultTable
    from qakhunt.run.plan import PlanLine


_HOUR = TICKS_PER_DAY // 24


class UnsoundAnswer(ValueError):
    """The answer to a coverage check says nothing; the text says why."""


@dataclass(frozen=True)
class Coverage:
    """What a window holds of a table; ``gaps`` are the time ranges that hold nothing.

    A gap is as long as was asked for at least; those inside are counted in whole hours.
    """

    source: SourceRows
    gaps: tuple[Window, ...] = ()


@dataclass(frozen=True)
class CoverageQuery:
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
            return SENTINEL.time_column
        time = PRODUCTS[self.product].time_column
        return time if time in self._known else None

    @property
    def _device(self) -> str | None:
        named = [name for name in PRODUCTS[self.product].device_columns if name in self._known]
        if len(named) > 1:  # records without a device id are distinguished by the name
            return f"iff(isempty({named[0]}), {named[1]}, {named[0]})"
        return named[0] if named else None

    @property
    def _workspace(self) -> str | None:
        """KQL of a record's workspace, which Log Analytics calls its ``TenantId``.

        Defender's own tables have none, and where its schema has one it is the customer's;
        a table that Defender reads from a workspace keeps the column.
        """
        named = "TenantId" in self._known
        if PRODUCTS[self.product].workspace_column is None or not self._known:
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
        """What the one row says. Raises UnsoundAnswer where it is not what was asked for.

        ``longest`` is the longest time range without records that is no gap. What is younger
        at ``now`` than the product's usual delay is not missed.
        """
        if len(table) != 1:
            raise UnsoundAnswer(f"{len(table)} rows instead of one")
        record = next(table.records())
        source = SourceRows(
            rows=_count(record, "SourceRows"),
            devices=_count(record, "Devices") if self._device else 0,
            first=self._instant(record, "First"),
            last=self._instant(record, "Last"),
        )
        hours = self._hours(record, source) if self._time else []
        end = min(self.window.end, now - PRODUCTS[self.product].usual_delay)
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
        """The long time ranges between hours that hold records."""
        gaps = []
        for hour, following in pairwise(hours):
            start, stop = (self._first_hour + Timespan(n * _HOUR) for n in (hour + 1, following))
            # The record before it is older, so that this is a part of a longer time range.
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
            raise UnsoundAnswer(f"Hours is {hours!r:.80}, which are no hours of the window")
        ends = (source.first, source.last)
        whole = [bool(hours), *(moment is not None for moment in ends)]
        if any(one != bool(source.rows) for one in whole):
            raise UnsoundAnswer(f"{source.rows} records, but from {ends[0]} to {ends[1]}")
        hours = sorted(set(hours))
        if source.rows < len(hours):
            raise UnsoundAnswer(f"{source.rows} records in {len(hours)} different hours")
        named = [(moment.ticks - self._first_hour.ticks) // _HOUR for moment in ends if moment]
        if hours and named != [hours[0], hours[-1]]:
            raise UnsoundAnswer(
                f"records from {ends[0]} to {ends[1]}, but only in the hours "
                f"{hours[0]} to {hours[-1]} of the window"
            )
        return hours

    def _instant(self, record: Mapping[str, Any], name: str) -> Instant | None:
        moment = record.get(name) if self._time else None
        if moment is None:
            return None
        start = self.window.start.floor_microsecond()
        if not isinstance(moment, Instant) or not start <= moment < self.window.end:
            raise UnsoundAnswer(f"{name} is {str(moment)!r:.80}, which is no time of the window")
        return moment


def _is_count(number: Any) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and number >= 0


def _count(record: Mapping[str, Any], name: str) -> int:
    number = record.get(name)
    if not _is_count(number):
        raise UnsoundAnswer(f"{name} is {number!r:.80}, which is no count")
    return int(number or 0)


_HINT = "check the window, the data connector and the permissions"
_GAP_HINT = (
    "has the data connector stopped? longest_gap in the profile says how long a silence is normal"
)


@dataclass(frozen=True)
class CheckResult:
    """What the check found, or why the answer proves nothing (``detail``).

    ``notes`` tell of gaps that do not count; ``answers`` are those of the checks, which
    other lines may share.
    """

    source: SourceRows | None = None
    detail: str = ""
    hint: str = ""
    gaps: tuple[Window, ...] = ()
    answers: tuple[Answer, ...] = ()
    notes: tuple[str, ...] = ()


class SharedChecks:
    """Asks coverage checks for the lines of a run, the same one once.

    A check that was answered whole serves every line of the same target and window.
    Safe to use from several threads.
    """

    def __init__(self) -> None:
        self._answers: dict[tuple[int, Question], Answer] = {}
        self._asking: dict[tuple[int, Question], threading.Lock] = {}
        self._lock = threading.Lock()

    def ask(self, backend: Backend, question: Question) -> Answer:
        """The answer, now or as it was before."""
        key = (id(backend), question)
        with self._lock:
            asking = self._asking.setdefault(key, threading.Lock())
        with asking:
            known = self._answers.get(key)
            if known is not None:
                return known
            answer = backend.ask(question)
            if answer.status is Status.COMPLETE:
                self._answers[key] = answer
            return answer


@dataclass
class _Check:
    """The check of one line, table by table."""

    line: PlanLine
    shared: SharedChecks
    answers: list[Answer] = field(default_factory=list)
    sources: list[SourceRows] = field(default_factory=list)
    gaps: set[Window] = field(default_factory=set)
    words: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    hint: str = ""

    def table(self, table: str) -> None:
        rendered, target, longest = self.line.rendered, self.line.target, self.line.longest_gap
        query = CoverageQuery(table, rendered.product, rendered.window)
        question = Question(query.text, rendered.window, target, (table,))
        answer = self.shared.ask(self.line.backend, question)
        self.answers.append(answer)
        unknown = f"whether {table} holds records is not known"
        if answer.table is None or answer.status is not Status.COMPLETE:
            self._fault(f"{unknown}: {answer.detail}", answer.hint)
            return
        try:
            found = query.read(answer.table, now=rendered.now, longest=longest or LONGEST_GAP)
        except UnsoundAnswer as problem:
            self._fault(f"{unknown}: the service answered the coverage check with {problem}")
            return
        self.sources.append(found.source)
        if longest is None and found.source.rows:
            self.notes += [_gap_words(table, found.gaps)] if found.gaps else []
            return
        self.gaps.update(found.gaps)
        if not found.source.rows:
            self._fault(f"{table} holds no records in the window", _HINT)
        elif found.gaps:
            self._fault(_gap_words(table, found.gaps), _GAP_HINT)

    def _fault(self, words: str, hint: str = "") -> None:
        self.words.append(words)
        self.hint = self.hint or hint

    def result(self) -> CheckResult:
        # The source that had the least to show.
        least = min(self.sources, key=lambda source: source.rows, default=None)
        gaps = sorted(self.gaps, key=lambda gap: (gap.start, gap.end))
        return CheckResult(
            least, "; ".join(self.words), self.hint, tuple(gaps),
            tuple(self.answers), tuple(self.notes),
        )  # fmt: skip


def check(line: PlanLine, shared: SharedChecks) -> CheckResult:
    """Check every source of a line, for the whole window."""
    sources = read_by(line.rendered.text, line.rendered.product)
    found = _Check(line, shared)
    for table in sources.tables:
        found.table(table)
    if sources.unnamed:
        words = ", ".join(f"{text:.60}" for text in sources.unnamed)
        found.words.append(f"what {words} looks at is not known, so that gaps would not be seen")
        found.hint = found.hint or "name the tables in the query"
    return found.result()


def _gap_words(table: str, gaps: Sequence[Window]) -> str:
    longest = max(gaps, key=lambda gap: gap.end.since(gap.start))
    words = (
        f"{table} holds no records from {_minute(longest.start)} to {_minute(longest.end)} UTC "
        f"({span(longest.end.since(longest.start).seconds)})"
    )
    if len(gaps) > 1:
        words += f" nor in {count(len(gaps) - 1, 'shorter time range', 'shorter time ranges')}"
    return words


def _minute(moment: Instant) -> str:
    return moment.isoformat()[:16].replace("T", " ")


def apply(found: CheckResult, lines: Sequence[LedgerLine]) -> list[LedgerLine]:
    """The complete lines of one answer, judged.

    All slices of a line are uncovered together; each names what of the gaps is its own.
    """
    judged = [replace(lines[0], source=found.source), *lines[1:]]
    if not found.detail:
        return judged
    return [
        replace(
            line, status=Status.UNCOVERED, detail=found.detail, hint=found.hint,
            gaps=_within(line.window, found.gaps),
        )
        for line in judged
    ]  # fmt: skip


def _within(window: Window, gaps: Sequence[Window]) -> tuple[Window, ...]:
    """What of the gaps lies in the window."""
    parts = ((max(gap.start, window.start), min(gap.end, window.end)) for gap in gaps)
    return tuple(Window(start, end) for start, end in parts if start < end)
