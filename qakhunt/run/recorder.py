"""Recording the answers to a plan, and the records that its hunts read."""

from __future__ import annotations

import threading
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qakhunt.answers.cells import to_text
from qakhunt.answers.ledger import Status, Target
from qakhunt.backends.base import Answer, Backend, Question
from qakhunt.backends.recordings.coverage import as_kql, default_filter
from qakhunt.backends.recordings.manifest import (
    SCHEMA,
    Manifest,
    RecordedAnswer,
    RecordedHunt,
    RecordedLine,
    SourceFile,
    SourceFilter,
)
from qakhunt.backends.replay import span_of
from qakhunt.hunts.source_query import SourceQuery
from qakhunt.kql.schema import TIME_COLUMN, columns
from qakhunt.kql.values import Timespan, Window
from qakhunt.run.coverage_check import CoverageQuery
from qakhunt.run.execution import RunOptions, execute
from qakhunt.run.plan import PlanLine
from qakhunt.run.slicing.strategies import SourceQueries, Unsliced

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from qakhunt.answers.ledger import LedgerLine
    from qakhunt.answers.run_result import RunResult
    from qakhunt.answers.table import ResultTable
    from qakhunt.backends.recordings.redact import Redactor
    from qakhunt.backends.recordings.store import RecordingWriter
    from qakhunt.hunts.render import RenderedQuery
    from qakhunt.run.slicing.strategies import Slice

DAY = Timespan.parse("1d")


class Recorder:
    """Records every answer of a run, redacted where there is a redactor."""

    def __init__(self, writer: RecordingWriter, redactor: Redactor | None) -> None:
        self._writer, self._redactor = writer, redactor
        self._answers: list[RecordedAnswer] = []
        self._asked: set[tuple[str, Question]] = set()
        self._source: list[SourceFile] = []
        self._filters: dict[tuple[str, str], SourceFilter] = {}
        self._wrapped: dict[int, _RecordingBackend] = {}
        self._lock = threading.Lock()

    def plan(self, lines: Sequence[PlanLine]) -> list[PlanLine]:
        """The same plan, whose answers are recorded."""
        for line in lines:
            self._wrapped.setdefault(id(line.backend), _RecordingBackend(line.backend, self))
        return [replace(line, backend=self._wrapped[id(line.backend)]) for line in lines]

    def record(self, product: str, question: Question, answer: Answer) -> None:
        """Keep one question and its answer."""
        stored_text, table = question.text, answer.table
        left_out: list[str] = []
        if self._redactor:
            stored_text = self._redactor.query(question.text)
            if table is not None:
                table, left_out = self._redactor.table(table, question.text)
        recorded = RecordedAnswer(
            origin=self.origin(question.target), product=product, window=span_of(question.window),
            query=stored_text, query_hash=_hash(question.text), stored_hash=_hash(stored_text),
            status=answer.status.value, rows=len(table) if table is not None else 0,
            file=self._writer.answer(table) if table is not None else None,
            detail=self._sentence(answer.detail), hint=self._sentence(answer.hint),
            rejected=answer.rejected, divisible=answer.divisible, place=answer.place,
            bytes=answer.bytes, attempts=answer.attempts, waits=answer.waits,
            request_ids=answer.request_ids, elapsed=answer.elapsed,
            columns_left_out=tuple(left_out), gaps=tuple(map(span_of, answer.gaps)),
        )  # fmt: skip
        with self._lock:
            self._answers.append(recorded)
            self._asked.add((product, question))

    def has(self, product: str, question: Question) -> bool:
        """Whether the question was asked already."""
        return (product, question) in self._asked

    def write_source(
        self, name: str, table: ResultTable, queries: str
    ) -> tuple[str, tuple[str, ...]]:
        """Write records of the table ``name``; gives the file's name and its columns."""
        if self._redactor:
            table, _ = self._redactor.table(table, queries)
        return self._writer.source(name, table), tuple(table.names)

    def record_source(
        self, line: PlanLine, entry: LedgerLine, file: str | None, kept: tuple[str, ...]
    ) -> None:
        """Record the account of a source query and the file of its records."""
        self._source.append(SourceFile(
            origin=self.origin(line.target), product=line.rendered.product, table=entry.hunt,
            window=span_of(entry.window), status=entry.status.value, rows=entry.rows, file=file,
            columns=kept, detail=self._sentence(entry.detail),
        ))  # fmt: skip

    def filter_of(self, product: str, table: str, queries: Iterable[str]) -> SourceQuery:
        """The source that is fetched of a table; the manifest says what it lets through."""
        alternatives = default_filter(table, product, queries)
        stored = alternatives
        if self._redactor:
            redact = self._redactor.query
            stored = tuple(tuple(redact(text) for text in one) for one in alternatives)
        self._filters[product, table] = SourceFilter(product, table, stored)
        time_column = TIME_COLUMN[product]
        cut = time_column if time_column in columns(product, table) else None
        return SourceQuery(table, cut, as_kql(alternatives))

    def origin(self, target: Target) -> Target:
        """Whose answer, under pseudonyms where there are any."""
        if self._redactor is None:
            return target
        name = self._redactor.identifier
        return Target(str(name(target.profile)), name(target.tenant), name(target.workspace))

    def _sentence(self, text: str) -> str:
        return self._redactor.sentence(text) if self._redactor else text

    def manifest(self, plan: Sequence[PlanLine], result: RunResult) -> Manifest:
        """The account of the whole recording."""
        hunts, places = self._hunts(plan)
        lines = [
            RecordedLine(
                places[id(line.rendered)], line.backend.name, self.origin(line.target),
                str(line.slices) if line.slices else None,
                str(line.longest_gap) if line.longest_gap else None,
            )
            for line in plan
        ]  # fmt: skip
        return Manifest(
            schema=SCHEMA, now=result.now.isoformat(), window=span_of(result.window),
            redacted=self._redactor is not None, hunts=tuple(hunts), plan=tuple(lines),
            answers=tuple(sorted(self._answers, key=_place_in_order)),
            ledger=[self._ledger_line(line) for line in result.ledger.lines],
            files=self._writer.files,
            key_id=self._redactor.key_id if self._redactor else None,
            source=tuple(sorted(self._source, key=_place_in_order)),
            filters=tuple(self._filters.values()),
        )  # fmt: skip

    def _hunts(self, plan: Sequence[PlanLine]) -> tuple[list[RecordedHunt], dict[int, int]]:
        found: list[RecordedHunt] = []
        places: dict[int, int] = {}
        seen: dict[tuple[str, str], int] = {}
        for line in plan:
            rendered = line.rendered
            key = (rendered.query_hash, rendered.product)
            if key not in seen:
                seen[key] = len(found)
                found.append(self._hunt(rendered))
            places[id(rendered)] = seen[key]
        return found, places

    def _hunt(self, rendered: RenderedQuery) -> RecordedHunt:
        path = Path(rendered.hunt.path)
        redact = self._redactor
        values = {
            name: to_text(redact.value(value) if redact else value)
            for name, value in rendered.parameters.items()
        }
        return RecordedHunt(
            name=rendered.hunt.name, product=rendered.product,
            file=self._writer.hunt(path.name, path.read_bytes()),
            query=redact.query(rendered.text) if redact else rendered.text,
            hunt_hash=rendered.hunt_hash, query_hash=rendered.query_hash,
            window=span_of(rendered.window), parameters=values,
            id=rendered.hunt.id, version=rendered.hunt.version,
        )  # fmt: skip

    def _ledger_line(self, line: LedgerLine) -> dict[str, Any]:
        name: Callable[..., str | None] = (
            self._redactor.identifier if self._redactor else lambda text: text
        )
        return {
            "hunt": line.hunt, "profile": name(line.profile), "tenant": name(line.tenant),
            "workspace": name(line.workspace), "slice": line.slice, "backend": line.backend,
            "status": line.status.value, "detail": self._sentence(line.detail),
            "rows": line.rows, "attempts": line.attempts, "waits": list(line.waits),
            "request_ids": list(line.request_ids), "query_hash": line.query_hash,
        }  # fmt: skip


class _RecordingBackend(Backend):
    """A backend whose answers are recorded."""

    def __init__(self, inner: Backend, recorder: Recorder) -> None:
        self.inner, self._recorder = inner, recorder
        self.name, self.product, self.concurrency = inner.name, inner.product, inner.concurrency
        self.warnings, self.missing = inner.warnings, inner.missing
        self.oldest, self.longest_gap = inner.oldest, inner.longest_gap

    @property
    def clock_skew(self) -> float | None:
        return self.inner.clock_skew

    def is_billed(self, tables: Collection[str]) -> bool:
        return self.inner.is_billed(tables)

    def ask(self, question: Question) -> Answer:
        answer = self.inner.ask(question)
        self._recorder.record(self.product, question, answer)
        return answer

    def close(self) -> None:
        self.inner.close()


class _SourceRecords(SourceQueries):
    """Source queries of one table whose records go into files of the recording."""

    def __init__(
        self, recorder: Recorder, source: SourceQuery, window: Window, span: Timespan, queries: str
    ) -> None:
        super().__init__([source], window, span)
        self._recorder, self._queries = recorder, queries
        self.files: dict[Window, tuple[str, tuple[str, ...]]] = {}
        """Time range -> the file's name and its columns."""

    def keep(self, one: Slice, table: ResultTable) -> None:
        self.files[one.window] = self._recorder.write_source(one.key.table, table, self._queries)


def fetch_source_rows(
    recorder: Recorder,
    plan: Sequence[PlanLine],
    span: Timespan = DAY,
    progress: Callable[[PlanLine, LedgerLine], None] | None = None,
) -> list[LedgerLine]:
    """Fetch what the hunts read, time range by time range; gives what did not come whole.

    ``plan`` is the recorder's own, so that the coverage checks of the tables are kept, too.
    """
    groups: dict[tuple[str, Target], list[PlanLine]] = {}
    for line in plan:
        groups.setdefault((line.rendered.product, line.target), []).append(line)
    source_queries = _source_queries(recorder, plan)
    checks: list[PlanLine] = []
    sources: dict[tuple[str, ...], tuple[PlanLine, _SourceRecords]] = {}
    for (product, target), lines in groups.items():
        windows = dict.fromkeys(line.rendered.window for line in lines)
        window = Window(min(w.start for w in windows), max(w.end for w in windows))
        queries = "\n;\n".join(line.rendered.text for line in lines)
        for table in dict.fromkeys(t for line in lines for t in line.rendered.tables):
            # Without them an empty answer of a changed query could prove nothing.
            texts = {one: CoverageQuery(table, product, one).text for one in windows}
            checks += [
                _line(lines[0], table, text, one)
                for one, text in texts.items()
                if not recorder.has(product, Question(text, one, target, (table,)))
            ]
            strategy = _SourceRecords(
                recorder, source_queries[product, table], window, span, queries
            )
            source = _line(lines[0], table, "", window, strategy)
            sources[_key(table, target, source.backend.name)] = source, strategy
    if not sources:
        return []
    if checks and execute(checks).interrupted:
        raise KeyboardInterrupt
    result = execute([line for line, _ in sources.values()], RunOptions(progress))
    if result.interrupted:
        raise KeyboardInterrupt
    for entry in result.ledger.lines:
        target = Target(entry.profile, entry.tenant, entry.workspace)
        line, strategy = sources[_key(entry.hunt, target, entry.backend)]
        recorder.record_source(line, entry, *strategy.files.get(entry.window, (None, ())))
    return [entry for entry in result.ledger.lines if entry.status is not Status.COMPLETE]


def _key(table: str, target: Target, backend: str) -> tuple[str, ...]:
    return table, target.profile, target.tenant or "", target.workspace or "", backend


def _line(
    line: PlanLine, table: str, text: str, window: Window, source: _SourceRecords | None = None
) -> PlanLine:
    """A query about a table where a line of the plan is queried; a source is not recorded twice."""
    rendered = replace(
        line.rendered, hunt=replace(line.rendered.hunt, name=table), text=text, window=window,
        warnings=(), notes=(), partial="",
    )  # fmt: skip
    backend = line.backend
    if source is not None and isinstance(backend, _RecordingBackend):
        backend = backend.inner
    return PlanLine(rendered, backend, line.target, strategy=source or Unsliced(rendered))


def _source_queries(
    recorder: Recorder, plan: Sequence[PlanLine]
) -> dict[tuple[str, str], SourceQuery]:
    """One source for each product and table, whatever the target."""
    tables = dict.fromkeys(
        (line.rendered.product, table) for line in plan for table in line.rendered.tables
    )
    return {
        (product, table): recorder.filter_of(
            product, table, [p.rendered.text for p in plan if p.rendered.product == product]
        )
        for product, table in tables
    }


def _place_in_order(one: RecordedAnswer | SourceFile) -> tuple[str, ...]:
    """By target, then by table or time range and query."""
    origin, start = one.origin, one.window.start
    target = (origin.profile, origin.tenant or "", origin.workspace or "")
    if isinstance(one, SourceFile):
        return (*target, one.table, start)
    return (*target, start, one.query_hash, one.window.end)


def _hash(text: str) -> str:
    return sha256(text.encode()).hexdigest()
