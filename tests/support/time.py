"""Time that passes only when someone sleeps."""

from __future__ import annotations

import threading

from qakhunt.backends.rate_limiter import Clock


class FakeClock(Clock):
    """A clock whose sleeps take no time and are remembered."""

    def __init__(self, start: float = 1_790_000_000.0) -> None:
        super().__init__()
        self.now = start
        self.slept: list[float] = []
        self._lock = threading.Lock()

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self.slept.append(seconds)
            self.now += seconds
