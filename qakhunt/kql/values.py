"""KQL's time values, exact to 100 nanoseconds.

Python's datetime and timedelta stop at microseconds; the services do not.
"""

from __future__ import annotations

import datetime as dt
import re
from functools import cache
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

TICKS_PER_MICROSECOND = 10
TICKS_PER_SECOND = 10_000_000
TICKS_PER_DAY = 86_400 * TICKS_PER_SECOND

_EPOCH = dt.datetime(1, 1, 1)
_MAX_TICKS = 3_652_059 * TICKS_PER_DAY - 1  # 9999-12-31T23:59:59.9999999

_ISO = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)"
    r"(?:[Tt ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?)?"
    r"\s*([Zz]|[+-]\d\d:?\d\d)?",
    re.ASCII,
)
_CLOCK = re.compile(r"(-)?(?:(\d{1,8})\.)?(\d{1,2}):(\d\d)(?::(\d\d)(?:\.(\d{1,7}))?)?", re.ASCII)
_DAYS = re.compile(r"(-)?(\d{1,8})", re.ASCII)
_UNITS = {
    "d": TICKS_PER_DAY, "day": TICKS_PER_DAY, "days": TICKS_PER_DAY,
    "h": TICKS_PER_DAY // 24, "hr": TICKS_PER_DAY // 24, "hrs": TICKS_PER_DAY // 24,
    "hour": TICKS_PER_DAY // 24, "hours": TICKS_PER_DAY // 24,
    "m": 60 * TICKS_PER_SECOND, "min": 60 * TICKS_PER_SECOND,
    "minute": 60 * TICKS_PER_SECOND, "minutes": 60 * TICKS_PER_SECOND,
    "s": TICKS_PER_SECOND, "sec": TICKS_PER_SECOND,
    "second": TICKS_PER_SECOND, "seconds": TICKS_PER_SECOND,
    "ms": TICKS_PER_SECOND // 1000, "milli": TICKS_PER_SECOND // 1000,
    "millis": TICKS_PER_SECOND // 1000, "millisec": TICKS_PER_SECOND // 1000,
    "millisecond": TICKS_PER_SECOND // 1000, "milliseconds": TICKS_PER_SECOND // 1000,
    "micro": 10, "micros": 10, "microsec": 10, "microsecond": 10, "microseconds": 10,
    "tick": 1, "ticks": 1,
}  # fmt: skip
_UNIT_LITERAL = re.compile(r"(-)?(\d+)(?:\.(\d+))?\s*([a-z]+)", re.ASCII)
TIMESPAN_UNITS = frozenset(_UNITS)


class Instant(msgspec.Struct, frozen=True, order=True, gc=False):
    """A KQL datetime: ``ticks`` of 100 ns since 0001-01-01T00:00:00Z."""

    ticks: int

    def __post_init__(self) -> None:
        if not 0 <= self.ticks <= _MAX_TICKS:
            raise ValueError("a datetime must lie in the years 1 to 9999")

    @classmethod
    def parse(cls, text: str) -> Instant:
        """Read ISO 8601 text; without an offset it is UTC. Raises ValueError."""
        match = _ISO.fullmatch(text)
        if match is None:
            raise ValueError(f"not an ISO 8601 date or time: {text!r}")
        year, month, day, hour, minute, second, fraction, offset = match.groups()
        moment = dt.datetime(
            int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0)
        )
        since = moment - _EPOCH
        ticks = (since.days * 86_400 + since.seconds) * TICKS_PER_SECOND
        if fraction:
            ticks += int(fraction[:7].ljust(7, "0"))
        if offset and offset not in "Zz":
            sign = -1 if offset[0] == "-" else 1
            minutes = int(offset[1:3]) * 60 + int(offset[-2:])
            ticks -= sign * minutes * 60 * TICKS_PER_SECOND
        return cls(ticks)

    @classmethod
    def from_datetime(cls, moment: dt.datetime) -> Instant:
        """From a Python datetime; a naive one is taken as UTC."""
        if moment.tzinfo is not None:
            moment = moment.astimezone(dt.timezone.utc).replace(tzinfo=None)
        since = moment - _EPOCH
        seconds = since.days * 86_400 + since.seconds
        return cls(seconds * TICKS_PER_SECOND + since.microseconds * TICKS_PER_MICROSECOND)

    def to_datetime(self) -> dt.datetime:
        """An aware UTC datetime, floored to the microsecond."""
        naive = _EPOCH + dt.timedelta(microseconds=self.ticks // TICKS_PER_MICROSECOND)
        return naive.replace(tzinfo=dt.timezone.utc)

    def floor_microsecond(self) -> Instant:
        """The same instant at the precision of the embedded engine."""
        return Instant(self.ticks - self.ticks % TICKS_PER_MICROSECOND)

    def isoformat(self) -> str:
        """Always seven fraction digits and a Z, so that text sorts as time does."""
        seconds, fraction = divmod(self.ticks, TICKS_PER_SECOND)
        moment = _EPOCH + dt.timedelta(seconds=seconds)
        return f"{moment.isoformat()}.{fraction:07d}Z"

    def short(self) -> str:
        """``2026-10-01T00:00:00Z``; the fraction only where there is one."""
        text = self.isoformat()[:-1].rstrip("0").rstrip(".")
        return text + "Z"

    def __str__(self) -> str:
        return self.short()

    def __add__(self, other: Timespan) -> Instant:
        return Instant(self.ticks + other.ticks)

    def __sub__(self, other: Timespan) -> Instant:
        return Instant(self.ticks - other.ticks)

    def since(self, other: Instant) -> Timespan:
        """The time from ``other`` to this instant."""
        return Timespan(self.ticks - other.ticks)


_FRACTION_SCALE = tuple(10 ** (7 - digits) for digits in range(8))


@cache
def _ticks_in_hour() -> dict[str, int]:
    """``mm:ss`` -> ticks since the full hour."""
    return {f"{n // 60:02d}:{n % 60:02d}": n * TICKS_PER_SECOND for n in range(3600)}


def parse_instants(texts: Sequence[str]) -> list[Instant]:
    """As ``Instant.parse`` of each, three times as fast on the services' own form.

    That form is ``2026-10-01T00:00:00[.fffffff]Z``; a result holds it by the
    hundred thousand, most of them in the same few hundred hours.
    """
    in_hour = _ticks_in_hour()
    hours: dict[str, int] = {}
    ticks: list[int] = []
    for text in texts:
        try:
            whole = hours[text[:14]] + in_hour[text[14:19]]
        except KeyError:
            whole = Instant.parse(text).ticks
            if len(text) > 19 and text[4:17:3] == "--T::" and text[-1] == "Z":
                hours[text[:14]] = Instant.parse(text[:14] + "00").ticks
            ticks.append(whole)
            continue
        length = len(text)
        if length == 20 and text[19] == "Z":
            ticks.append(whole)
        elif length < 29 and text[19:20] == "." and text[-1] == "Z":
            fraction = text[20:-1]
            if not (fraction.isdigit() and fraction.isascii()):
                raise ValueError(f"not an ISO 8601 date or time: {text!r}")
            ticks.append(whole + int(fraction) * _FRACTION_SCALE[length - 21])
        else:
            ticks.append(Instant.parse(text).ticks)
    return list(map(Instant, ticks))


class Timespan(msgspec.Struct, frozen=True, order=True, gc=False):
    """A KQL timespan: signed ``ticks`` of 100 ns."""

    ticks: int

    @classmethod
    def parse(cls, text: str) -> Timespan:
        """Read ``15d``, ``1.5h``, ``d.hh:mm:ss.fffffff`` or bare days. Raises ValueError."""
        stripped = text.strip()
        unit = _UNIT_LITERAL.fullmatch(stripped)
        if unit and unit[4] in _UNITS:
            per = _UNITS[unit[4]]
            ticks = int(unit[2]) * per
            if unit[3]:
                ticks += int(unit[3]) * per // 10 ** len(unit[3])
            return cls(-ticks if unit[1] else ticks)
        clock = _CLOCK.fullmatch(stripped)
        if clock:
            sign, days, hours, minutes, seconds, fraction = clock.groups()
            total = (int(days or 0) * 24 + int(hours)) * 60 + int(minutes)
            ticks = (total * 60 + int(seconds or 0)) * TICKS_PER_SECOND
            ticks += int((fraction or "0").ljust(7, "0"))
            return cls(-ticks if sign else ticks)
        days_only = _DAYS.fullmatch(stripped)
        if days_only:
            ticks = int(days_only[2]) * TICKS_PER_DAY
            return cls(-ticks if days_only[1] else ticks)
        raise ValueError(f"not a timespan: {text!r}")

    @classmethod
    def from_timedelta(cls, delta: dt.timedelta) -> Timespan:
        """From a Python timedelta, exactly."""
        micros = (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds
        return cls(micros * TICKS_PER_MICROSECOND)

    @property
    def seconds(self) -> float:
        """The length in seconds."""
        return self.ticks / TICKS_PER_SECOND

    def __str__(self) -> str:
        """Kusto's own form: ``[-][d.]hh:mm:ss[.fffffff]``."""
        sign = "-" if self.ticks < 0 else ""
        days, rest = divmod(abs(self.ticks), TICKS_PER_DAY)
        seconds, fraction = divmod(rest, TICKS_PER_SECOND)
        clock = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
        text = f"{days}.{clock}" if days else clock
        return f"{sign}{text}.{fraction:07d}" if fraction else f"{sign}{text}"


TICK = Timespan(1)


class Window(msgspec.Struct, frozen=True):
    """A half-open time range in UTC: ``start <= t < end``."""

    start: Instant
    end: Instant

    def __post_init__(self) -> None:
        if self.end <= self.start:
            raise ValueError(f"the window ends ({self.end}) before it starts ({self.start})")

    @property
    def last_tick(self) -> Instant:
        """The last instant inside, for operators that include their end."""
        return self.end - TICK

    def contains(self, moment: Instant) -> bool:
        """Whether ``moment`` lies inside."""
        return self.start <= moment < self.end

    def __str__(self) -> str:
        return f"{self.start}/{self.end}"
