"""Running a plan and keeping what it was answered."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
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
    Origin,
    RecordedAnswer,
    RecordedHunt,
    RecordedLine,
    SourceFile,
    SourceFilter,
)
from qakhunt.backends.replay import origin_of, span_of
from qakhunt.hunts.feed import Feed
from qakhunt.kql.schema import TIME_COLUMN, columns
from qakhunt.kql.values import Timespan, Window
from qakhunt.run.coverage_check import Probe, tables_named
from qakhunt.run.slicing.by_time import halves, stretches
from qakhunt.run.slicing.request import SHORTEST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from qakhunt.answers.run_result import RunResult
    from qakhunt.backends.recordings.redact import Redactor
    from qakhunt.backends.recordings.store import RecordingWriter
    from qakhunt.hunts.render import RenderedQuery
    from qakhunt.run.plan import PlanLine

DAY = Timespan.parse("1d")


class Tape:
    """Takes down every answer of a run, redacted where there is a redactor."""

    def __init__(self, writer: RecordingWriter, redactor: Redactor | None) -> None:
        self._writer, self._redactor = writer, redactor
        self._answers: list[RecordedAnswer] = []
        self._asked: set[tuple[str, Question]] = set()
        self._source: list[SourceFile] = []
        self._filters: dict[tuple[str, str], SourceFilter] = {}
        self._wrapped: dict[int, _Recorded] = {}
        self._lock = threading.Lock()

    def plan(self, lines: Sequence[PlanLine]) -> list[PlanLine]:
        """The same plan, asked through the tape."""
        return [replace(line, backend=self._wrap(line.backend)) for line in lines]

    def _wrap(self, backend: Backend) -> _Recorded:
        return self._wrapped.setdefault(id(backend), _Recorded(backend, self))

    def take(self, product: str, question: Question, answer: Answer) -> None:
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

    def take_source(
        self, product: str, feed: Feed, target: Target, window: Window, answer: Answer, queries: str
    ) -> None:
        """Keep records of one table and stretch of time."""
        file: str | None = None
        kept: tuple[str, ...] = ()
        rows = 0
        if answer.table is not None:
            table = answer.table
            if self._redactor:
                table, _ = self._redactor.table(table, queries)
            file = self._writer.source(feed.table, table)
            kept, rows = tuple(table.names), len(table)
        entry = SourceFile(
            origin=self.origin(target), product=product, table=feed.table, window=span_of(window),
            status=answer.status.value, rows=rows, file=file, columns=kept,
            detail=self._sentence(answer.detail),
        )  # fmt: skip
        with self._lock:
            self._source.append(entry)

    def filter_of(self, product: str, table: str, queries: Iterable[str]) -> Feed:
        """The feed that is fetched of a table; the manifest says what it lets through."""
        alternatives = default_filter(table, product, queries)
        stored = alternatives
        if self._redactor:
            redact = self._redactor.query
            stored = tuple(tuple(redact(text) for text in one) for one in alternatives)
        self._filters[product, table] = SourceFilter(product, table, stored)
        time_column = TIME_COLUMN[product]
        cut = time_column if time_column in columns(product, table) else None
        return Feed(table, cut, as_kql(alternatives))

    def origin(self, target: Target) -> Origin:
        """Whose answer, under pseudonyms where there are any."""
        if self._redactor is None:
            return origin_of(target)
        name = self._redactor.identifier
        return Origin(str(name(target.profile)), name(target.tenant), name(target.workspace))

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
            source=tuple(sorted(self._source, key=_place_of_source)),
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

    def _ledger_line(self, line: Any) -> dict[str, Any]:
        name = self._redactor.identifier if self._redactor else (lambda text: text)
        return {
            "hunt": line.hunt, "profile": name(line.profile), "tenant": name(line.tenant),
            "workspace": name(line.workspace), "slice": line.slice, "backend": line.backend,
            "status": line.status.value, "detail": self._sentence(line.detail),
            "rows": line.rows, "attempts": line.attempts, "waits": list(line.waits),
            "request_ids": list(line.request_ids), "query_hash": line.query_hash,
        }  # fmt: skip


@dataclass
class _Recorded:
    """A backend whose answers are taken down."""

    inner: Backend
    tape: Tape

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def ask(self, question: Question) -> Answer:
        answer = self.inner.ask(question)
        self.tape.take(self.inner.product, question, answer)
        return answer


def fetch_source_rows(
    tape: Tape,
    plan: Sequence[PlanLine],
    span: Timespan = DAY,
    told: Callable[[Target, str, Answer], None] | None = None,
) -> list[Answer]:
    """Fetch what the hunts looked at, stretch by stretch; gives what did not come whole.

    ``plan`` is the tape's own, so that the probes of the tables are kept, too.
    """
    missing: list[Answer] = []
    groups: dict[tuple[str, Target], list[PlanLine]] = {}
    for line in plan:
        groups.setdefault((line.rendered.product, line.target), []).append(line)
    feeds = _feeds(tape, plan)
    for lines in groups.values():
        missing += _fetch_for(tape, lines, feeds, span, told)
    return missing


def _feeds(tape: Tape, plan: Sequence[PlanLine]) -> dict[tuple[str, str], Feed]:
    """One feed for each product and table, whoever is asked."""
    tables = dict.fromkeys(
        (line.rendered.product, table) for line in plan for table in tables_named(line.rendered)
    )
    return {
        (product, table): tape.filter_of(
            product, table, [p.rendered.text for p in plan if p.rendered.product == product]
        )
        for product, table in tables
    }


def _fetch_for(
    tape: Tape,
    lines: list[PlanLine],
    feeds: dict[tuple[str, str], Feed],
    span: Timespan,
    told: Callable[..., None] | None,
) -> list[Answer]:
    """All tables of one target, over the window of all its hunts."""
    backend, target = lines[0].backend, lines[0].target
    product = lines[0].rendered.product
    queries = [line.rendered.text for line in lines]
    windows = [line.rendered.window for line in lines]
    window = Window(min(w.start for w in windows), max(w.end for w in windows))
    tables = dict.fromkeys(t for line in lines for t in tables_named(line.rendered))
    source = _plain(backend)
    missing: list[Answer] = []
    waiting: deque[tuple[Feed, Window]] = deque()
    for table in tables:
        for one in dict.fromkeys(windows):
            # Without it an empty answer of a changed query could prove nothing.
            question = Question(Probe(table, product, one).text, one, target, (table,))
            if not tape.has(product, question):
                backend.ask(question)
        feed = feeds[product, table]
        parts = stretches(window, span) if feed.time_column else [window]
        waiting.extend((feed, part) for part in parts)
    pool = ThreadPoolExecutor(backend.concurrency, thread_name_prefix="record")
    try:
        running: dict[Future[Answer], tuple[Feed, Window]] = {}
        while waiting or running:
            while waiting and len(running) < backend.concurrency:
                feed, part = waiting.popleft()
                question = Question(feed.query(part), part, target, (feed.table,))
                running[pool.submit(source.ask, question)] = (feed, part)
            done, _ = wait(running, timeout=0.5, return_when=FIRST_COMPLETED)
            for future in done:
                feed, part = running.pop(future)
                answer = future.result()
                too_much = answer.status is Status.TRUNCATED or answer.divisible
                smaller = halves(part, SHORTEST) if too_much and feed.time_column else []
                if smaller:
                    waiting.extendleft((feed, half) for half in reversed(smaller))
                    continue
                tape.take_source(product, feed, target, part, answer, "\n;\n".join(queries))
                if told:
                    told(target, f"{feed.table} {part}", answer)
                if answer.status is not Status.COMPLETE:
                    missing.append(answer)
    finally:
        # Interrupted, what is under way must not hold up the end.
        pool.shutdown(wait=False, cancel_futures=True)
    return missing


def _plain(backend: Backend) -> Backend:
    return backend.inner if isinstance(backend, _Recorded) else backend


def _place_in_order(answer: RecordedAnswer) -> tuple[Any, ...]:
    origin = answer.origin
    return (
        origin.profile, origin.tenant or "", origin.workspace or "", answer.window.start,
        answer.query_hash, answer.window.end,
    )  # fmt: skip


def _place_of_source(file: SourceFile) -> tuple[Any, ...]:
    origin = file.origin
    return (
        origin.profile, origin.tenant or "", origin.workspace or "", file.table, file.window.start
    )  # fmt: skip


def _hash(text: str) -> str:
    return sha256(text.encode()).hexdigest()
