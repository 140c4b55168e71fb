"""One line of a plan while it runs: its pieces, their account, and the whole of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import msgspec

from qakhunt.answers.hits import Hit, hits_of
from qakhunt.answers.ledger import ANSWERED, LedgerLine, Status
from qakhunt.answers.table import ResultTable
from qakhunt.backends.base import LONGER, OUT_OF_TIME, Answer
from qakhunt.core.errors import QakhuntError
from qakhunt.hunts.model import DEFENDER
from qakhunt.run import coverage_check as probing
from qakhunt.run.slicing.pieces import CannotJoinError, Piece

if TYPE_CHECKING:
    from qakhunt.answers.table import Column
    from qakhunt.hunts.model import Hunt
    from qakhunt.run.plan import PlanLine
    from qakhunt.run.slicing.pieces import Cut

Path = tuple[int, ...]
"""Which piece: the number of a first one, then 0 or 1 for each time it was divided."""


@dataclass(frozen=True)
class Outcome:
    """What one line of the plan came to."""

    lines: list[LedgerLine]
    hits: list[Hit] = field(default_factory=list)
    columns: tuple[Column, ...] | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answered:
    """A piece's answer without its rows, which the cut keeps, and what it was divided into."""

    answer: Answer
    rows: int = 0
    halves: tuple[Piece, ...] = ()

    @classmethod
    def broken(cls, problem: BaseException) -> Answered:
        """A piece that failed in a way that no backend accounts for."""
        return cls(_failure(problem))


def _failure(problem: BaseException) -> Answer:
    if isinstance(problem, QakhuntError):
        return Answer(Status.FAILED, detail=problem.message, hint=problem.hint or "")
    words = f"an error of qakhunt's own: {type(problem).__name__}: {problem}"
    return Answer(Status.FAILED, detail=words, hint="please report it")


class LineRun:
    """Asks the pieces of one line and puts their answers together.

    ``ask`` and ``finish`` run on worker threads, all else on the run's own.
    """

    def __init__(self, line: PlanLine, cut: Cut, probes: probing.Probes) -> None:
        self._line, self._cut, self._probes = line, cut, probes
        self.pieces: dict[Path, Piece] = {}
        self.waiting: set[Path] = set()
        self.entries: dict[Path, LedgerLine] = {}
        self._carried: dict[Path, list[tuple[Piece, Answer]]] = {}

    @property
    def is_single(self) -> bool:
        """Whether the line is one piece, so that it is told of once it is judged."""
        return len(self.pieces) == 1

    def begin(self) -> list[Path]:
        """The first pieces, by their paths."""
        return [self._add((number,), piece) for number, piece in enumerate(self._cut.pieces())]

    def _add(self, path: Path, piece: Piece) -> Path:
        self.pieces[path] = piece
        self.waiting.add(path)
        return path

    def ask(self, path: Path) -> Answered:
        """Ask one piece; where it was too much, say what it is divided into."""
        piece = self.pieces[path]
        answer = self._line.backend.ask(piece.question(self._line.target))
        if answer.status is Status.TRUNCATED or answer.divisible:
            halves = tuple(self._cut.halves(piece))
            if halves:
                return Answered(replace(answer, table=None), halves=halves)
        if answer.table is None:
            return Answered(answer)
        self._cut.keep(piece, answer.table)
        return Answered(replace(answer, table=None), rows=len(answer.table))

    def take(self, path: Path, answered: Answered) -> list[Path]:
        """Enter an answer in the account; what it was divided into is still to be asked."""
        self.waiting.discard(path)
        piece, answer = self.pieces[path], answered.answer
        carried = self._carried.pop(path, [])
        if answered.halves:
            del self.pieces[path]
            added = [self._add((*path, n), half) for n, half in enumerate(answered.halves)]
            self._carried[added[0]] = [*carried, (piece, answer)]
            return added
        entry = replace(self._entry(piece, answer), rows=answered.rows)
        self.entries[path] = _with_carried(entry, carried)
        return []

    def _entry(self, piece: Piece, answer: Answer) -> LedgerLine:
        rendered, target = self._line.rendered, self._line.target
        status, detail, hint = answer.status, answer.detail, answer.hint
        if status is Status.COMPLETE and rendered.partial:
            status, detail = Status.PARTIAL, "; ".join(filter(None, [rendered.partial, detail]))
            hint = hint or "a --window that holds all that the query looks at"
        place = piece.locate(rendered, answer.place) if answer.place else None
        if place is not None:
            detail = f"{place}: {detail}"
        if answer.status is Status.TRUNCATED and self._line.slices is None and not hint:
            hint = "--slice auto asks for it in slices, where that is exact"
        return LedgerLine(
            hunt=rendered.hunt.name,
            profile=target.profile,
            tenant=target.tenant,
            workspace=target.workspace,
            slice=piece.label,
            window=piece.window,
            backend=self._line.backend.name,
            query_hash=piece.query_hash,
            status=status,
            detail=detail,
            hint=hint,
            rejected=answer.rejected,
            bytes=answer.bytes,
            attempts=answer.attempts,
            waits=answer.waits,
            request_ids=answer.request_ids,
            elapsed=answer.elapsed,
            gaps=answer.gaps,
            notes=rendered.notes,
        )

    def finish(self) -> Outcome:
        """The line's whole result, and whether there was all to look at."""
        outcome = self._joined()
        if any(line.status is not Status.COMPLETE for line in outcome.lines):
            return outcome
        if outcome.hits and self._line.longest_gap is None:
            return outcome  # there was something to look at, and gaps do not count
        finding = probing.probe(self._line, self._probes)
        notes = tuple(
            f"{self._line.rendered.hunt.name} on {self._line.target.whom}: {note}; "
            "what happened then is not in what was looked at"
            for note in finding.notes
        )
        lines = probing.apply(finding, outcome.lines)
        return replace(outcome, lines=lines, warnings=outcome.warnings + notes)

    def _joined(self) -> Outcome:
        lines = [self.entries[path] for path in sorted(self.entries)]
        try:
            table = self._cut.joined()
        except CannotJoinError as problem:
            detail = f"the slices cannot be brought together: {problem}"
            return Outcome([
                replace(entry, status=Status.TRUNCATED, detail=detail) for entry in lines
            ])  # fmt: skip
        if table is None:
            return Outcome(lines)
        missing = _columns_missing(self._line.rendered.hunt, table)
        if missing:
            detail = f"the answer lacks {missing}, which the hunt's result has"
            lines = [_unless_worse(entry, detail) for entry in lines]
        hits = hits_of(self._line.rendered.hunt, self._line.target, self._filled(table))
        warnings = self._doubts(lines) if hits else ()
        return Outcome(lines, hits, table.columns, warnings)

    def _doubts(self, lines: list[LedgerLine]) -> tuple[str, ...]:
        missing = sum(line.status is not Status.COMPLETE for line in lines)
        if not missing or len(lines) == 1:
            return ()
        return (
            f"{self._line.rendered.hunt.name} on {self._line.target.whom}: {missing} of "
            f"{len(lines)} slices did not answer completely; its hits are those of the "
            "rest, and their numbers may be too low",
        )

    def _filled(self, table: ResultTable) -> ResultTable:
        """Defender knows no TenantId: the empty one that its hunts carry is filled here."""
        position = table.index("TenantId")
        value = self._line.target.workspace or self._line.target.tenant
        if self._line.rendered.product != DEFENDER or position is None or not value:
            return table
        rows = [
            row if row[position] else (*row[:position], value, *row[position + 1 :])
            for row in table.rows
        ]
        return ResultTable(table.columns, rows)

    def abandoned(self, why: str) -> Outcome:
        """The line as it stands when the run ends before it did."""
        answered = any(entry.status in ANSWERED for entry in self.entries.values())
        for path in self.waiting | (set() if self.pieces else set(self.begin())):
            hint = LONGER if why == OUT_OF_TIME else ""
            missing = Answer(Status.NOT_RUN, detail=why, hint=hint, attempts=0)
            entry = self._entry(self.pieces[path], missing)
            self.entries[path] = _with_carried(entry, self._carried.get(path, []))
        outcome = Outcome([self.entries[path] for path in sorted(self.entries)])
        if answered:
            outcome = self._joined()
        if all(e.status is Status.COMPLETE for e in outcome.lines):
            words = f"{why} before it was known whether there was anything to look at"
            unknown = [replace(e, status=Status.UNCOVERED, detail=words) for e in outcome.lines]
            return replace(outcome, lines=unknown)
        return outcome

    def broken(self, problem: BaseException) -> Outcome:
        """The line when putting it together failed."""
        answer = _failure(problem)
        entries = [self.entries[path] for path in sorted(self.entries)]
        return Outcome([
            replace(entry, status=Status.FAILED, detail=answer.detail, hint=answer.hint)
            for entry in entries
        ])  # fmt: skip

    def close(self) -> None:
        """Remove temporary files."""
        self._cut.close()


def _columns_missing(hunt: Hunt, table: ResultTable) -> str:
    """The columns of the hunt's result mapping that an answer does not have, in words."""
    names = {*table.names}
    if "Timestamp" in names:
        names.add("TimeGenerated")
    wanted = msgspec.structs.asdict(hunt.notes.result).values()
    return ", ".join(dict.fromkeys(name for name in wanted if name and name not in names))


def _unless_worse(entry: LedgerLine, detail: str) -> LedgerLine:
    """The entry as partial, unless it is not complete anyway."""
    if entry.status is not Status.COMPLETE:
        return entry
    hint = "is this the answer to the hunt's own query?"
    return replace(entry, status=Status.PARTIAL, detail=detail, hint=hint)


def _with_carried(entry: LedgerLine, carried: list[tuple[Piece, Answer]]) -> LedgerLine:
    """The account of pieces that were divided stands with their first part."""
    for piece, answer in reversed(carried):
        why = answer.detail or "too much for one answer"
        entry = replace(
            entry,
            detail="; ".join(filter(None, [entry.detail, f"divided from {piece.label}: {why}"])),
            bytes=answer.bytes + entry.bytes,
            attempts=answer.attempts + entry.attempts,
            waits=answer.waits + entry.waits,
            request_ids=answer.request_ids + entry.request_ids,
            elapsed=answer.elapsed + entry.elapsed,
        )
    return entry
