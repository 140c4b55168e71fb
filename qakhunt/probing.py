"""The coverage check of a line: its answer is complete only where there was all to look at."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from qakhunt.answers.ledger import LedgerLine, SourceRows, Status
from qakhunt.backends.base import Answer, Backend, Question
from qakhunt.hunts.source_rows import LONGEST_GAP, Probe, UnsoundProbe
from qakhunt.hunts.sources import sources_of
from qakhunt.kql.values import Window
from qakhunt.triage.words import count, span

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qakhunt.kql.values import Instant
    from qakhunt.plan import PlanLine

_HINT = "check the window, the data connector and the permissions"
_GAP_HINT = (
    "has the data connector stopped? longest_gap in the profile says how long a silence is normal"
)


@dataclass(frozen=True)
class Finding:
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


class Probes:
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
    probes: Probes
    answers: list[Answer] = field(default_factory=list)
    sources: list[SourceRows] = field(default_factory=list)
    gaps: set[Window] = field(default_factory=set)
    words: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    hint: str = ""

    def table(self, table: str) -> None:
        rendered, target, longest = self.line.rendered, self.line.target, self.line.longest_gap
        probe = Probe(table, rendered.product, rendered.window)
        question = Question(probe.text, rendered.window, target, (table,))
        answer = self.probes.ask(self.line.backend, question)
        self.answers.append(answer)
        unknown = f"whether {table} holds records could not be told"
        if answer.table is None or answer.status is not Status.COMPLETE:
            self._fault(f"{unknown}: {answer.detail}", answer.hint)
            return
        try:
            found = probe.read(answer.table, now=rendered.now, longest=longest or LONGEST_GAP)
        except UnsoundProbe as problem:
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

    def finding(self) -> Finding:
        # The source that had the least to show.
        least = min(self.sources, key=lambda source: source.rows, default=None)
        return Finding(
            least, "; ".join(self.words), self.hint, tuple(sorted(self.gaps, key=_by_start)),
            tuple(self.answers), tuple(self.notes),
        )  # fmt: skip


def probe(line: PlanLine, probes: Probes) -> Finding:
    """Check every source of a line, for the whole window."""
    sources = sources_of(line.rendered.text, line.rendered.product)
    check = _Check(line, probes)
    for table in sources.tables:
        check.table(table)
    if sources.unnamed:
        words = ", ".join(f"{text:.60}" for text in sources.unnamed)
        check.words.append(f"what {words} looks at is not known, so that gaps would not be seen")
        check.hint = check.hint or "name the tables in the query"
    return check.finding()


def _gap_words(table: str, gaps: Sequence[Window]) -> str:
    longest = max(gaps, key=lambda gap: gap.end.since(gap.start))
    words = (
        f"{table} holds no records from {_minute(longest.start)} to {_minute(longest.end)} UTC "
        f"({span(longest.end.since(longest.start).seconds)})"
    )
    if len(gaps) > 1:
        words += f" nor in {count(len(gaps) - 1, 'shorter stretch', 'shorter stretches')}"
    return words


def _minute(moment: Instant) -> str:
    return moment.isoformat()[:16].replace("T", " ")


def _by_start(window: Window) -> tuple[Instant, Instant]:
    return window.start, window.end


def apply(finding: Finding, lines: Sequence[LedgerLine]) -> list[LedgerLine]:
    """The complete lines of one answer, judged.

    All slices of a line are uncovered together; each names what of the gaps is its own.
    """
    judged = [replace(lines[0], source=finding.source), *lines[1:]]
    if not finding.detail:
        return judged
    return [
        replace(
            line, status=Status.UNCOVERED, detail=finding.detail, hint=finding.hint,
            gaps=_within(line.window, finding.gaps),
        )
        for line in judged
    ]  # fmt: skip


def accounted(line: LedgerLine, answers: Sequence[Answer]) -> LedgerLine:
    """The line with the account of the checks, too."""
    for answer in answers:
        line = replace(
            line,
            attempts=line.attempts + answer.attempts,
            waits=line.waits + answer.waits,
            request_ids=line.request_ids + answer.request_ids,
            elapsed=line.elapsed + answer.elapsed,
        )
    return line


def _within(window: Window, gaps: Sequence[Window]) -> tuple[Window, ...]:
    """What of the gaps lies in the window."""
    parts = ((max(gap.start, window.start), min(gap.end, window.end)) for gap in gaps)
    return tuple(Window(start, end) for start, end in parts if start < end)
