"""The time of the emulated services: the machine's, or one that skips what is waited for."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    Action = Callable[[], Coroutine[Any, Any, None]]


class Clock:
    """The machine's time, in seconds since 1970, and waiting."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def time(self) -> float:
        """Seconds since 1970-01-01."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """Wait on the event loop."""
        await asyncio.sleep(seconds)

    def call_later(self, seconds: float, action: Action) -> None:
        """Run ``action`` on this event loop when so much time has passed."""

        async def wait_and_act() -> None:
            await asyncio.sleep(seconds)
            await action()

        task = asyncio.get_running_loop().create_task(wait_and_act())
        self._tasks.add(task)  # the loop itself holds tasks weakly
        task.add_done_callback(self._tasks.discard)


class SkippingClock(Clock):
    """Time that passes only when somebody waits for it, and then at once.

    A client under test waits with ``skip``, the emulator with ``sleep``. Both
    move the same time on, so that back-off and throttling meet as they would.
    """

    def __init__(self, start: float | None = None) -> None:
        super().__init__()
        self._now = time.time() if start is None else start
        self._lock = threading.Lock()
        self._due: list[tuple[float, asyncio.AbstractEventLoop, Action]] = []

    def time(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        for _, action in self._move(seconds):
            await action()
        await asyncio.sleep(0)

    def call_later(self, seconds: float, action: Action) -> None:
        with self._lock:
            self._due.append((self._now + seconds, asyncio.get_running_loop(), action))

    def skip(self, seconds: float) -> None:
        """Let time pass, called from outside the event loop; what falls due is done on return."""
        for loop, action in self._move(seconds):
            asyncio.run_coroutine_threadsafe(action(), loop).result(timeout=30)

    def _move(self, seconds: float) -> list[tuple[asyncio.AbstractEventLoop, Action]]:
        with self._lock:
            self._now += max(seconds, 0.0)
            ready = [entry for entry in self._due if entry[0] <= self._now]
            self._due = [entry for entry in self._due if entry[0] > self._now]
        return [(loop, action) for _, loop, action in sorted(ready, key=lambda entry: entry[0])]
