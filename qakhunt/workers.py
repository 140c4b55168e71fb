"""Threads that do the most urgent work first and never hold up the program's end."""

from __future__ import annotations

import itertools
import queue
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    Done = tuple[Any, Any, "BaseException | None"]
    """The ticket, what the work gave, what it raised."""


class Workers:
    """At most ``count`` threads; what each work gives is put on ``results`` with its ticket.

    The threads are daemons: a call that hangs in a service's time-out does not keep
    an interrupted program alive.
    """

    def __init__(self, count: int, results: queue.SimpleQueue[Done]) -> None:
        self._count, self._results = count, results
        self._waiting: queue.PriorityQueue[tuple[int, int, Any, Callable[[], Any]]] = (
            queue.PriorityQueue()
        )
        self._numbers = itertools.count()
        self._threads: list[threading.Thread] = []
        self._stopped = threading.Event()

    def submit(self, urgency: int, ticket: Any, work: Callable[[], Any]) -> None:
        """Do ``work`` before all that waits with a higher number, else in order."""
        self._waiting.put((urgency, next(self._numbers), ticket, work))
        if len(self._threads) < self._count:
            thread = threading.Thread(target=self._work, name="qakhunt-worker", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """Begin nothing more; what runs is left to end by itself."""
        self._stopped.set()
        for _ in self._threads:
            self._waiting.put((-1, next(self._numbers), None, lambda: None))

    def _work(self) -> None:
        while True:
            _, _, ticket, work = self._waiting.get()
            if self._stopped.is_set():
                return
            try:
                result: Done = (ticket, work(), None)
            except BaseException as problem:
                result = (ticket, None, problem)
            self._results.put(result)
