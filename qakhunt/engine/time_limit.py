"""A time limit for a running query."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# An interrupt that arrives before the query has begun is lost, so it is repeated.
_AGAIN = 0.05


@contextmanager
def time_limit(seconds: float | None, interrupt: Callable[[], None]) -> Iterator[None]:
    """Call ``interrupt`` when the block takes longer than ``seconds``, until it ends."""
    if seconds is None:
        yield
        return
    done = threading.Event()

    def watch() -> None:
        wait = seconds
        while not done.wait(wait):
            interrupt()
            wait = _AGAIN

    watcher = threading.Thread(target=watch, name="time-limit", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
