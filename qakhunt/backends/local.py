"""The embedded engine as a backend: recorded events, the same KQL."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from qakhunt.answers.ledger import Status
from qakhunt.backends.base import Answer, Backend, Question, refused
from qakhunt.backends.engine.session import EngineRefused, EngineTimeout, Session
from qakhunt.kql.schema import SENTINEL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qakhunt.backends.engine.inputs import InputOptions
    from qakhunt.kql.values import Instant, Timespan


class LocalBackend(Backend):
    """Answers from event files; one question at a time, each on all cores.

    Files are often an extract, so that a time range without events is no fault of theirs.
    ``warnings`` tell what was left out of the files; an answer without some of their
    records, or without what depends on the outside, is partial.
    """

    name = "local"
    longest_gap: Timespan | None = None
    concurrency = 1

    def __init__(
        self,
        inputs: Sequence[str],
        *,
        now: Instant,
        product: str = SENTINEL.name,
        timeout: float | None = None,
        options: InputOptions | None = None,
    ) -> None:
        self.product = product
        self._now = now
        self._timeout = timeout
        self._session = Session(inputs, product, timeout=timeout, options=options)
        self.warnings = self._session.inputs.warnings()
        self.assumptions = self._session.inputs.assumptions()
        self._lock = threading.Lock()

    def ask(self, question: Question) -> Answer:
        """Answer from the loaded events. Rejections carry their place in the text."""
        started = time.perf_counter()
        try:
            with self._lock:
                table = self._session.ask(
                    question.text, now=self._now, window=question.window, timeout=self._timeout
                )
        except EngineRefused as problem:
            return refused(problem, elapsed=time.perf_counter() - started)
        except EngineTimeout as problem:
            return Answer(
                Status.FAILED, detail=problem.message, hint=problem.hint or "", divisible=True,
                elapsed=time.perf_counter() - started,
            )  # fmt: skip
        unanswered = "; ".join(filter(None, [self._session.inputs.skipped, *self._session.unknown]))
        status = Status.PARTIAL if unanswered else Status.COMPLETE
        return Answer(status, table, detail=unanswered, elapsed=time.perf_counter() - started)

    def close(self) -> None:
        """Stop a query that still runs and remove the engine's temporary files."""
        while not self._lock.acquire(timeout=0.05):
            self._session.interrupt()
        try:
            self._session.close()
        finally:
            self._lock.release()
