"""Whether to send again, and after how long: the one retry policy for both services.

Only what did not answer is sent again. A 504 ran for as long as the service allows
and would do so again; 400, 403 and 404 say the same next time.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from qakhunt.answers.response import decode_error
from qakhunt.kql.values import Timespan

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

THROTTLED = 429
TRANSIENT = frozenset({408, 500, 502, 503})
_LONGEST_BACKOFF = 60.0

_CLOCK_IN_TEXT = re.compile(
    r"(?:\bin|\bper|\bafter|\bwait)\s+((?:\d{1,3}\.)?\d{1,2}:\d\d:\d\d(?:\.\d{1,7})?)", re.ASCII
)
_MOMENT_IN_TEXT = re.compile(
    r"\bafter\s+(\d{1,2}/\d{1,2}/\d{4} \d{1,2}:\d\d:\d\d)\s*(?:UTC|Z)", re.ASCII
)
_UNITS_IN_TEXT = re.compile(
    r"(?:\bin|\bafter|\bwait|\bwithin)\s+(?:about\s+)?"
    r"((?:\d+(?:\.\d+)?\s*(?:hours?|minutes?|seconds?|milliseconds?)(?:,?\s*(?:and\s+)?)?)+)",
    re.IGNORECASE | re.ASCII,
)
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(hour|minute|second|millisecond)", re.IGNORECASE | re.ASCII)
_SECONDS = {"hour": 3600.0, "minute": 60.0, "second": 1.0, "millisecond": 0.001}


@dataclass(frozen=True)
class RetryLimits:
    """How often one question is sent in all, and how long it may wait in between.

    ``tries`` counts where the service or the way to it failed, ``throttled_tries``
    where it asked to come back later; ``patience`` is seconds.
    """

    tries: int = 4
    throttled_tries: int = 10
    patience: float = 900.0


def wait_before_retry(
    status: int | None,
    headers: Mapping[str, str],
    body: bytes,
    tries: int,
    *,
    wall: float,
    jitter: Callable[[], float],
    limits: RetryLimits,
) -> float | None:
    """Seconds to wait before the next try, or None where there is to be none.

    ``status`` is None where the connection failed; ``tries`` were made so far;
    ``wall`` is the wall clock's seconds; ``jitter`` gives a number in [0, 1).
    """
    if status == THROTTLED:
        if tries >= limits.throttled_tries:
            return None
        asked = _asked_in_headers(headers, wall)
        if asked is None:
            asked = _asked_in_text(body, headers.get("date", ""), wall)
        return _backoff(tries, 4.0, jitter) if asked is None else asked
    if status is not None and status not in TRANSIENT:
        return None
    if tries >= limits.tries:
        return None
    asked = _asked_in_headers(headers, wall)
    return _backoff(tries, 1.0, jitter) if asked is None else asked


def _backoff(tries: int, base: float, jitter: Callable[[], float]) -> float:
    longest: float = min(base * 2 ** (tries - 1), _LONGEST_BACKOFF)
    return longest / 2 + longest / 2 * jitter()


def _asked_in_headers(headers: Mapping[str, str], wall: float) -> float | None:
    for name, scale in (
        ("retry-after-ms", 0.001), ("x-ms-retry-after-ms", 0.001), ("retry-after", 1.0)
    ):  # fmt: skip
        value = headers.get(name, "").strip()
        if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", value, re.ASCII):
            return float(value) * scale
    return _seconds_until(headers.get("retry-after", ""), headers.get("date", ""), wall)


def _seconds_until(date: str, sent: str, wall: float) -> float | None:
    """From the answer's own Date if it has one: the two clocks may differ."""
    moment = http_date(date)
    if moment is None:
        return None
    start = http_date(sent)
    return max(0.0, moment - (wall if start is None else start))


def http_date(text: str) -> float | None:
    """Seconds since 1970 of a header's date, or None where it is none."""
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def _asked_in_text(body: bytes, sent: str, wall: float) -> float | None:
    """The wait that only the message tells, such as "again in 00:12:30" or a moment."""
    error = decode_error(body[:65_536])
    text = " ".join(e.message for e in error.chain()) if error else body[:4096].decode("latin-1")
    moment = _MOMENT_IN_TEXT.search(text)
    if moment:
        try:
            at = dt.datetime.strptime(f"{moment[1]} +0000", "%m/%d/%Y %H:%M:%S %z").timestamp()
        except ValueError:
            return None
        start = http_date(sent)
        wait = at - (wall if start is None else start)
        return wait if wait > 0 else None
    clock = _CLOCK_IN_TEXT.search(text)
    if clock:
        return Timespan.parse(clock[1]).seconds
    units = _UNITS_IN_TEXT.search(text)
    if units:
        parts = _PART.findall(units[1])
        return sum(float(number) * _SECONDS[unit.casefold()] for number, unit in parts)
    return None
