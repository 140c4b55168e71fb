"""Time and the rate limit of one identity: how many calls at once, how many in a while.

Time is an object, so that a test's waits take none.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Clock:
    """The machine's clock: seconds that only go forward, the wall clock's, and waiting."""

    def __init__(self) -> None:
        self._stop = threading.Event()

    def monotonic(self) -> float:
        """Seconds since some fixed moment."""
        return time.monotonic()

    def wall(self) -> float:
        """Seconds since 1970-01-01 UTC."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        """Wait; returns early once stopped."""
        self._stop.wait(seconds)

    def stop(self) -> None:
        """Ends all waits, now and later: the run was interrupted."""
        self._stop.set()

    @property
    def stopped(self) -> bool:
        """Whether ``stop`` was called."""
        return self._stop.is_set()


@dataclass(frozen=True)
class RateLimit:
    """The documented limit: ``concurrency`` at once, ``calls`` in ``per_seconds``.

    It holds for one identity, or with ``per_tenant`` for one identity in each tenant.
    """

    concurrency: int
    calls: int
    per_seconds: float
    per_tenant: bool = False

    def __str__(self) -> str:
        return f"{self.calls} calls in {self.per_seconds:g} s, {self.concurrency} at once"


class OutOfTimeError(Exception):
    """A slot would come free after the deadline, or the run was interrupted."""


class RateLimiter:
    """The rate limit of one identity, shared by all backends that sign in as it.

    At most ``concurrency`` calls are under way and at most ``calls`` start in any
    ``per`` seconds; ``pause`` delays all of them, as a throttled identity must.
    """

    def __init__(self, clock: Clock, *, concurrency: int, calls: int, per: float) -> None:
        self._clock = clock
        self._slots = threading.Semaphore(concurrency)
        self._calls, self._per = calls, per
        self._starts: deque[float] = deque(maxlen=calls)
        self._paused_until = float("-inf")
        self._lock = threading.Lock()

    @contextmanager
    def slot(self, deadline: float = float("inf")) -> Iterator[None]:
        """Wait for a free slot and take it. Raises OutOfTimeError past ``deadline``."""
        while not self._slots.acquire(timeout=0.2):
            self._check(self._clock.monotonic(), deadline)
        try:
            self._wait_for_start(deadline)
            yield
        finally:
            self._slots.release()

    def pause(self, seconds: float) -> None:
        """No call starts for ``seconds``: the service asked this identity to wait."""
        with self._lock:
            self._paused_until = max(self._paused_until, self._clock.monotonic() + seconds)

    def _wait_for_start(self, deadline: float) -> None:
        with self._lock:
            now = self._clock.monotonic()
            start = max(now, self._paused_until)
            if len(self._starts) == self._calls:
                start = max(start, self._starts[0] + self._per)
            self._check(start, deadline)
            self._starts.append(start)
        while True:
            now = self._clock.monotonic()
            with self._lock:
                start = max(start, self._paused_until)
            self._check(start, deadline)
            if now >= start:
                return
            self._clock.sleep(start - now)

    def _check(self, moment: float, deadline: float) -> None:
        if self._clock.stopped or moment >= deadline:
            raise OutOfTimeError
