"""Reading single fields of an event: attributes, texts, and the many forms of its time."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

Fields = dict[str, Any]


def attribute(value: Any, name: str) -> Any:
    """``name`` of an element as the JSON writers put attributes."""
    if not isinstance(value, dict):
        return value
    inner = value.get("#attributes")
    if isinstance(inner, dict):
        return inner.get(name)
    return value.get(f"@{name}", value.get(name))


def as_text(value: Any) -> str:
    """The value as text; nothing is empty."""
    if value is None:
        return ""
    return value if isinstance(value, str) else str(value)


_CLOCK = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d):(\d\d)")


def logged_time(fields: Fields) -> str:
    """When the event was written. NXLog's EventTime is in its collector's zone.

    That zone follows from the two times of receipt, one in each.
    """
    for name in ("TimeCreated", "SystemTime"):
        if fields.get(name):
            return _dotnet_time(as_text(attribute(fields[name], "SystemTime")))
    local = as_text(fields.get("EventTime"))
    if not local:
        return as_text(fields.get("@timestamp")) or splunk_time(fields)
    utc, received = as_text(fields.get("@timestamp")), as_text(fields.get("EventReceivedTime"))
    quarters = round((_minutes(utc) - _minutes(received)) / 15) if utc and received else 0
    if local.endswith("Z") or "+" in local[10:] or not -56 <= quarters <= 56:
        return local
    sign, minutes = ("-", quarters * 15) if quarters >= 0 else ("+", -quarters * 15)
    return f"{local}{sign}{minutes // 60:02d}:{minutes % 60:02d}"


_DOTNET = re.compile(r"/Date\((\d{10,14})\)/")


def _dotnet_time(text: str) -> str:
    """The text, or what PowerShell's ConvertTo-Json makes of a time, as ISO text."""
    match = _DOTNET.fullmatch(text)
    return _since_1970(f"{int(match[1]) / 1000:.3f}") if match else text


def splunk_time(fields: Fields) -> str:
    """``_time``: ISO text, or seconds since 1970."""
    text = as_text(fields.get("_time"))
    if not re.fullmatch(r"\d{9,11}(?:\.\d+)?", text):
        return text
    return _since_1970(text)


def _since_1970(text: str) -> str:
    seconds, _, fraction = text.partition(".")
    moment = dt.datetime.fromtimestamp(int(seconds), dt.timezone.utc)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{(fraction + '0' * 7)[:7]}Z"


def _minutes(text: str) -> int:
    """Minutes since a fixed day; 0 for text that is no time."""
    match = _CLOCK.match(text)
    if match is None:
        return 0
    day = dt.date.fromisoformat(match[1]).toordinal()
    return day * 1440 + int(match[2]) * 60 + int(match[3])
