"""The time limit of the embedded engine leaves nothing half open."""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import pytest

from qakhunt.backends.engine.time_limit import Stopped, limited

VALUE: ContextVar[int] = ContextVar("value", default=0)


@contextlib.contextmanager
def bound(value: int) -> Iterator[int]:
    """As the translator keeps its state: what is set must be reset where it was set."""
    token = VALUE.set(value)
    try:
        yield value
    finally:
        VALUE.reset(token)


def endless() -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    while True:
        with bound(1), bound(2), bound(3):
            pass


def test_stopped_work_is_taken_down_where_it_ran(monkeypatch: pytest.MonkeyPatch) -> None:
    late: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda problem: late.append(repr(problem)))
    for _ in range(80):
        with pytest.raises(Stopped):
            limited(endless, 0.002, lambda: None)
    gc.collect()
    assert late == []
