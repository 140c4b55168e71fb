"""Recorded answers, and recorded rows, as backends."""

from __future__ import annotations

import threading
from collections import Counter
from hashlib import sha256
from typing import TYPE_CHECKING

from qakhunt.answers.ledger import Status, Target
from qakhunt.backends.base import Answer, Backend, Question, refused
from qakhunt.backends.recordings.coverage import columns_missing, outside, pseudonym_ambiguities
from qakhunt.backends.recordings.manifest import RecordedAnswer, SourceFile, Span
from qakhunt.backends.recordings.redact import literal_words
from qakhunt.kql.values import Instant, Timespan, Window

if TYPE_CHECKING:
    from qakhunt.backends.engine.session import Session
    from qakhunt.backends.recordings.store import Recording

Key = tuple[str, Target, Span]


def span_of(window: Window) -> Span:
    """A window as recordings write it."""
    return Span(window.start.isoformat(), window.end.isoformat())


def window_of(span: Span) -> Window:
    """A recorded time range."""
    return Window(Instant.parse(span.start), Instant.parse(span.end))


class ReplayBackend(Backend):
    """Answers exactly the questions that were recorded, as they were answered.

    ``name`` is who answered then, ``longest_gap`` what was no gap then.
    """

    concurrency = 2

    def __init__(
        self, recording: Recording, name: str, product: str, longest_gap: Timespan | None = None
    ) -> None:
        self.name, self.product = name, product
        self.longest_gap = longest_gap
        self._recording = recording
        self._answers: dict[Key, list[RecordedAnswer]] = {}
        self._asked: Counter[Key] = Counter()
        self._lock = threading.Lock()
        for answer in recording.manifest.answers:
            if answer.product == product:
                for text_hash in {answer.stored_hash, answer.query_hash}:
                    key = (text_hash, answer.origin, answer.window)
                    self._answers.setdefault(key, []).append(answer)

    def ask(self, question: Question) -> Answer:
        """The recorded answer; a question that was not asked then has failed."""
        found = self.find(question)
        if found is not None:
            return found
        return Answer(
            Status.FAILED, detail="the recording holds no answer to this question", attempts=0,
            hint="--on-source runs it on the recorded rows, where there are any",
        )  # fmt: skip

    def find(self, question: Question) -> Answer | None:
        """The recorded answer to a question, if it was asked."""
        text_hash = sha256(question.text.encode()).hexdigest()
        key = (text_hash, question.target, span_of(question.window))
        answers = self._answers.get(key)
        if not answers:
            return None
        with self._lock:
            before = self._asked[key]
            self._asked[key] += 1
        # A question that was asked several times is answered in that order.
        recorded = answers[min(before, len(answers) - 1)]
        table = self._recording.answer(recorded.file) if recorded.file else None
        return Answer(
            Status(recorded.status), table, detail=recorded.detail, hint=recorded.hint,
            rejected=recorded.rejected, divisible=recorded.divisible, place=recorded.place,
            bytes=recorded.bytes, attempts=recorded.attempts, waits=recorded.waits,
            request_ids=recorded.request_ids, elapsed=recorded.elapsed,
            gaps=tuple(map(window_of, recorded.gaps)),
        )  # fmt: skip


class RecordedRows(Backend):
    """Runs queries on the source rows of a recording, and says what these cannot tell.

    An answer is ``partial`` where the query may match outside the recorded filter,
    reads a column that was not recorded, or looks where nothing was got.
    """

    name = "recorded rows"
    concurrency = 1

    def __init__(
        self, recording: Recording, product: str, now: Instant, *, timeout: float | None = None
    ) -> None:
        self.product = product
        self._recording, self._now, self._timeout = recording, now, timeout
        self._literals = literal_words(hunt.query for hunt in recording.manifest.hunts)
        self._replay = ReplayBackend(recording, self.name, product)
        self._filters = {
            one.table: one.alternatives
            for one in recording.manifest.filters
            if one.product == product
        }
        self._sessions: dict[Target, Session] = {}
        self._lock = threading.Lock()

    def ask(self, question: Question) -> Answer:
        """The query's result over the recorded rows; a probe's as it was recorded."""
        from qakhunt.backends.engine.session import EngineRefused
        from qakhunt.core.errors import EngineError

        recorded = self._replay.find(question)
        if recorded is not None and "SourceRows" in question.text:
            return recorded
        origin = question.target
        ambiguities = self._ambiguities(question, origin)
        try:
            with self._lock:
                session = self._session(origin)
                table = session.ask(
                    question.text,
                    now=self._now,
                    window=question.window,
                    timeout=self._timeout,
                )
                ambiguities += session.unknown
        except EngineRefused as problem:
            return refused(problem)
        except EngineError as problem:
            return Answer(Status.FAILED, detail=problem.message, hint=problem.hint or "")
        if not ambiguities:
            return Answer(Status.COMPLETE, table)
        return Answer(
            Status.PARTIAL, table, detail="; ".join(ambiguities),
            hint="what lies outside the recording is unknown: record anew to know it",
        )  # fmt: skip

    def _ambiguities(self, question: Question, origin: Target) -> list[str]:
        ambiguities = outside(question.text, self.product, self._filters)
        if self._recording.manifest.redacted:
            ambiguities += pseudonym_ambiguities(question.text, self.product, self._literals)
        for table in question.tables:
            files = [file for file in self._files(origin) if file.table == table]
            ambiguities += _gaps(table, files, question.window)
            kept = {name for file in files for name in file.columns}
            missing = columns_missing(question.text, self.product, table, kept) if files else []
            if missing:
                ambiguities.append(
                    f"columns of {table} that were not recorded: {', '.join(missing)}"
                )
        return ambiguities

    def _files(self, origin: Target) -> list[SourceFile]:
        return [
            file
            for file in self._recording.manifest.source
            if file.origin == origin and file.product == self.product
        ]

    def _session(self, origin: Target) -> Session:
        from qakhunt.backends.engine.session import Session

        if origin not in self._sessions:
            inputs = [
                f"{file.table}={self._recording.path(file.file)}"
                for file in self._files(origin)
                if file.file
            ]
            self._sessions[origin] = Session(inputs, self.product, timeout=self._timeout)
        return self._sessions[origin]

    def close(self) -> None:
        """Remove the engine's temporary files."""
        with self._lock:
            for session in self._sessions.values():
                session.close()
            self._sessions.clear()


def _gaps(table: str, files: list[SourceFile], window: Window) -> list[str]:
    """Time ranges of the window of which the table's records were not got."""
    got = sorted(
        (window_of(file.window) for file in files if file.status == Status.COMPLETE.value),
        key=lambda one: one.start,
    )
    at, gaps = window.start, []
    for one in got:
        if one.start > at:
            gaps.append((at, min(one.start, window.end)))
        at = max(at, one.end)
        if at >= window.end:
            break
    if at < window.end:
        gaps.append((at, window.end))
    return [f"{table} was not recorded from {start} to {end}" for start, end in gaps if start < end]
