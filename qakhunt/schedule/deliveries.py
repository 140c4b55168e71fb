"""Sending what is due: at least once, each message until its receiver confirms it.

A message is confirmed in the state as soon as its receiver has taken it, one by one,
so a crash repeats at most one message per sink, with the same key.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from qakhunt.answers.ledger import DeliveryLine
from qakhunt.schedule.sinks.base import NotTaken

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from qakhunt.kql.values import Instant
    from qakhunt.schedule.sinks.base import Sink
    from qakhunt.schedule.store import Message, Store

TRIES = 4
_PAUSES = (1.0, 4.0, 15.0)
LONGEST_PAUSE = 60.0


def deliver(
    store: Store, sinks: Sequence[Sink], *, clock: Callable[[], Instant],
    sleep: Callable[[float], None], out_of_time: Callable[[], bool] = lambda: False,
) -> list[DeliveryLine]:  # fmt: skip
    """Send everything due to each sink; one line for each.

    A receiver that is down ends its own line only; the rest waits for the next run.
    """
    return [_serve(store, sink, clock, sleep, out_of_time) for sink in sinks]


def _serve(
    store: Store, sink: Sink, clock: Callable[[], Instant], sleep: Callable[[float], None],
    out_of_time: Callable[[], bool],
) -> DeliveryLine:  # fmt: skip
    due = store.pending(sink.name)
    started = clock()
    line = DeliveryLine(sink.name, messages=len(due))
    for pending in due:
        if out_of_time():
            line = replace(line, detail=line.detail or "out of time")
            break
        message = store.message(pending)
        attempts, waits, problem = _send(sink, message, sleep, out_of_time)
        line = replace(line, attempts=line.attempts + attempts, waits=line.waits + waits)
        if problem is None:
            store.delivered(pending, clock(), attempts)
            count = line.findings + len(message.findings)
            line = replace(line, delivered=line.delivered + 1, findings=count)
            continue
        store.not_delivered(pending, problem.message, attempts)
        line = replace(line, detail=_told(problem))
        if problem.again:
            break
    return replace(line, elapsed=clock().since(started).seconds)


def _send(
    sink: Sink, message: Message, sleep: Callable[[float], None], out_of_time: Callable[[], bool]
) -> tuple[int, tuple[float, ...], NotTaken | None]:
    waits: list[float] = []
    for attempt in range(1, TRIES + 1):
        try:
            sink.send(message)
        except NotTaken as problem:
            pause = problem.after if problem.after is not None else _PAUSES[min(attempt, 3) - 1]
            last = attempt == TRIES or pause > LONGEST_PAUSE or out_of_time()
            if not problem.again or last:
                return attempt, tuple(waits), problem
            waits.append(pause)
            sleep(pause)
        else:
            return attempt, tuple(waits), None
    raise AssertionError("unreachable")


def _told(problem: NotTaken) -> str:
    return f"{problem.message} ({problem.hint})" if problem.hint else problem.message
