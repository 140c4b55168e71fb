"""The pace of an identity: so many at once, so many in a while, all held back when throttled."""

from __future__ import annotations

import threading

import pytest

from qakhunt.backends.rate_limiter import Clock, OutOfTimeError, RateLimiter
from tests.support.time import FakeClock


def test_no_more_calls_start_in_a_while_than_allowed() -> None:
    clock = FakeClock(0.0)
    limiter = RateLimiter(clock, concurrency=1, calls=3, per=30.0)
    starts = []
    for _ in range(8):
        with limiter.slot():
            starts.append(clock.now)
            clock.now += 1.0
    assert starts == [0.0, 1.0, 2.0, 30.0, 31.0, 32.0, 60.0, 61.0]


def test_a_throttled_identity_starts_nothing_until_its_time() -> None:
    clock = FakeClock(0.0)
    limiter = RateLimiter(clock, concurrency=2, calls=100, per=1.0)
    limiter.pause(20.0)
    limiter.pause(5.0)
    with limiter.slot():
        assert clock.now == 20.0


def test_a_turn_after_the_deadline_is_refused_without_waiting() -> None:
    clock = FakeClock(0.0)
    limiter = RateLimiter(clock, concurrency=1, calls=100, per=1.0)
    limiter.pause(20.0)
    with pytest.raises(OutOfTimeError), limiter.slot(deadline=10.0):
        pass
    assert clock.slept == []
    clock.now = 21.0
    with limiter.slot(deadline=30.0):
        pass


def test_no_more_calls_are_under_way_than_allowed() -> None:
    limiter = RateLimiter(Clock(), concurrency=3, calls=1000, per=1.0)
    inside, most, lock = 0, 0, threading.Lock()
    together = threading.Barrier(3)

    def call() -> None:
        nonlocal inside, most
        with limiter.slot():
            with lock:
                inside += 1
                most = max(most, inside)
            together.wait(10)  # three must be inside at once, or this breaks
            with lock:
                inside -= 1

    threads = [threading.Thread(target=call) for _ in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 3


def test_an_interruption_ends_a_wait_at_once() -> None:
    clock = Clock()
    limiter = RateLimiter(clock, concurrency=1, calls=1, per=3600.0)
    with limiter.slot():
        pass
    ended = []

    def call() -> None:
        try:
            with limiter.slot():
                ended.append("ran")
        except OutOfTimeError:
            ended.append("stopped")

    thread = threading.Thread(target=call)
    thread.start()
    clock.stop()
    thread.join(10)
    assert ended == ["stopped"]
