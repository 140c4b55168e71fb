"""Threads that do the most urgent work first and never hold up the program's end."""

from __future__ import annotations

import contextlib
import itertools
import queue
import threading
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Done = tuple[Any, Any, "BaseException | None"]
    """The ticket, what the work gave, what it raised."""

Result = TypeVar("Result")

LISTEN = 0.5
"""Seconds of a bounded wait, so that Ctrl-C is heard on every platform."""


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


def in_order(count: int, works: Sequence[Callable[[], Result]]) -> Iterator[Result]:
    """What each work gives, in their order, from ``count`` threads; raises what one raised.

    Ctrl-C is heard in between and leaves what is under way to end by itself.
    """
    results: queue.SimpleQueue[Done] = queue.SimpleQueue()
    workers = Workers(count, results)
    for number, work in enumerate(works):
        workers.submit(0, number, work)
    ended: dict[int, tuple[Any, BaseException | None]] = {}
    try:
        for number in range(len(works)):
            while number not in ended:
                with contextlib.suppress(queue.Empty):
                    which, result, problem = results.get(timeout=LISTEN)
                    ended[which] = result, problem
            result, problem = ended.pop(number)
            if problem is not None:
                raise problem
            yield result
    finally:
        workers.stop()
