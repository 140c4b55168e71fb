"""A time limit for reading, translating and running, and a Ctrl-C that stops each."""

from __future__ import annotations

import ctypes
import math
import sys
import threading
import time
import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Result = TypeVar("Result")

_LISTEN = 0.1
"""Seconds after which a Ctrl-C is heard at the latest; a lock does not hear it on Windows."""
_AGAIN = 0.05
"""An interrupt that arrives before the query has begun is lost, so it is repeated."""

_RAISE_AGAIN = 1.0
"""An exception that strikes in a destructor is lost."""


class Stopped(Exception):
    """The work took longer than its limit, or was stopped."""


class _Stop(SystemExit):
    """Raised inside the work's Python code; a thread that ends by it says nothing."""


def limited(
    work: Callable[[], Result],
    seconds: float | None,
    interrupt: Callable[[], None],
    stop: threading.Event | None = None,
) -> Result:
    """What ``work`` gives. Raises Stopped after ``seconds``, or when ``stop`` is set.

    It runs in a thread of its own, since the engine looks for a Ctrl-C too rarely.
    ``interrupt`` ends a query of the engine's, an exception in its thread all else.
    """
    outcome: list[Result] = []
    problem: list[BaseException] = []
    done = threading.Event()  # an interrupted join may take a running thread for ended
    given_up = threading.Event()
    ending = threading.Lock()  # nothing is raised in a thread that has done its work

    def body() -> None:
        try:
            try:
                outcome.append(work())
            except BaseException as raised:
                if given_up.is_set():
                    # What it holds open must be closed by this thread: its context is here.
                    traceback.clear_frames(raised.__traceback__)
                else:
                    problem.append(raised)
            with ending:
                done.set()
        except _Stop:
            done.set()

    thread = threading.Thread(target=body, name="query", daemon=True)
    thread.start()
    ends = time.monotonic() + (math.inf if seconds is None else seconds)
    stopped = True
    try:
        while not done.is_set() and (left := ends - time.monotonic()) > 0:
            if stop is not None and stop.is_set():
                break
            done.wait(min(_LISTEN, left))
        stopped = not done.is_set()
    finally:
        if not done.is_set():
            given_up.set()
        _end(thread, done, ending, interrupt)
    if outcome:
        return outcome[0]
    if stopped:
        raise Stopped
    raise problem[0]


def _end(
    thread: threading.Thread,
    done: threading.Event,
    ending: threading.Lock,
    interrupt: Callable[[], None],
) -> None:
    again = 0.0
    with _quiet_destructors():
        while not done.is_set():
            interrupt()
            with ending:
                if not done.is_set() and time.monotonic() >= again:
                    _raise_in(thread)
                    again = time.monotonic() + _RAISE_AGAIN
            done.wait(_AGAIN)


@contextmanager
def _quiet_destructors() -> Iterator[None]:
    """Python prints an exception that strikes in a destructor; ours is nobody's concern."""
    before = sys.unraisablehook

    def hook(problem: sys.UnraisableHookArgs) -> None:
        if problem.exc_type is not _Stop:
            before(problem)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        if sys.unraisablehook is hook:  # another thread's may stand on it
            sys.unraisablehook = before


def _raise_in(thread: threading.Thread) -> None:
    if thread.ident is not None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread.ident), ctypes.py_object(_Stop)
        )
