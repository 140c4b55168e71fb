"""A time limit for a running query, and a Ctrl-C that it heeds."""

from __future__ import annotations

import math
import threading
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Result = TypeVar("Result")

_LISTEN = 0.1
"""Seconds after which a Ctrl-C is heard at the latest; a lock does not hear it on Windows."""
_AGAIN = 0.05
"""An interrupt that arrives before the query has begun is lost, so it is repeated."""


def limited(
    work: Callable[[], Result], seconds: float | None, interrupt: Callable[[], None]
) -> Result:
    """What ``work`` gives; ``interrupt`` is called when it takes longer than ``seconds``.

    It runs in a thread of its own, since the engine looks for a Ctrl-C too rarely; then
    too it is interrupted.
    """
    outcome: list[Result] = []
    problem: list[BaseException] = []
    done = threading.Event()  # an interrupted join may take a running thread for ended

    def body() -> None:
        try:
            outcome.append(work())
        except BaseException as raised:
            problem.append(raised)
        finally:
            done.set()

    threading.Thread(target=body, name="query", daemon=True).start()
    ends = time.monotonic() + (math.inf if seconds is None else seconds)
    try:
        while not done.is_set() and (left := ends - time.monotonic()) > 0:
            done.wait(min(_LISTEN, left))
    finally:
        while not done.is_set():
            interrupt()
            done.wait(_AGAIN)
    if problem:
        raise problem[0]
    return outcome[0]
