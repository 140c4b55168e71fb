"""Bytes of a service into JSON values, tolerant where a service is known to be loose.

What damage was mended is told, so that a damaged answer is never called complete.
"""

from __future__ import annotations

import gc
import json
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

_BOM = b"\xef\xbb\xbf"
_LONG = 100
"""Bytes of a value that is left out where only the names beside it matter."""


class WireError(ValueError):
    """The bytes are no answer in the format they should have."""


@dataclass(frozen=True)
class Body:
    """A decoded body; ``damaged`` says that bytes of it were not UTF-8 and were replaced."""

    value: Any
    damaged: bool = False


_decoding = 0
_was_enabled = True
_decoding_lock = Lock()


@contextmanager
def collector_paused() -> Iterator[None]:
    """Holds the cyclic collector back while a result is built.

    A hundred thousand rows are a million new objects and no cycle; the collector
    would walk them again and again and double the time. Nests, also across threads.
    """
    global _decoding, _was_enabled
    with _decoding_lock:
        if not _decoding:
            _was_enabled = gc.isenabled()
            gc.disable()
        _decoding += 1
    try:
        yield
    finally:
        with _decoding_lock:
            _decoding -= 1
            if not _decoding and _was_enabled:
                gc.enable()


def decode_body(data: bytes) -> Body:
    """Decode a JSON body. Raises WireError for anything that is not one whole JSON value."""
    data = data.removeprefix(_BOM)
    if not data.strip():
        raise WireError("the answer has no body")
    try:
        return Body(msgspec.json.decode(data))
    except RecursionError:
        raise WireError("the answer is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    text = data.decode("utf-8", errors="replace")
    try:
        value = loads_loosely(text)
    except ValueError as problem:
        start = text.lstrip()[:1]
        if start == "<":
            raise WireError("the answer is HTML, not JSON: a proxy or portal answered") from None
        if start in "{[":
            raise WireError(f"the answer is not whole JSON: {problem}") from None
        raise WireError("the answer is not JSON") from None
    return Body(value, damaged=not _is_utf8(data))


def loads_loosely(text: str) -> Any:
    """JSON with bare NaN, raw control characters and lone surrogates allowed.

    Lone surrogates, which no output could carry, become U+FFFD. Raises ValueError.
    """
    try:
        return _without_surrogates(json.loads(text, strict=False))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return value if value.isascii() else _mend(value)
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {_mend(key): _without_surrogates(item) for key, item in value.items()}
    return value


def _mend(text: str) -> str:
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def encode_body(value: Any) -> bytes:
    """The JSON bytes of ``value``; a lone surrogate goes out as its escape."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode("ascii")


def repeated_members(data: bytes, inner: str = "") -> list[str]:
    """Names that a body's object has more than once, in whatever case.

    A parser keeps the last of them, so that the first, with its rows, would be lost.
    The objects of a list are each looked at, and so is the member ``inner``; rows are not.
    """
    raw = data.removeprefix(_BOM).strip()
    try:
        if raw[:1] == b"[":
            items = msgspec.json.decode(raw, type=list[msgspec.Raw])
            return [name for item in items for name in repeated_members(bytes(item))]
        members = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        members = {}
    found: list[str] = []
    for value in map(bytes, members.values()):
        if len(value) > _LONG:
            raw = raw.replace(value, b"null", 1)
    objects: list[list[tuple[str, Any]]] = []
    try:
        json.loads(raw.decode("utf-8", "replace"), strict=False, object_pairs_hook=objects.append)
    except (ValueError, RecursionError):
        return []  # no body at all; its own error follows
    seen: set[str] = set()
    for name, _ in objects[-1] if objects and raw[:1] == b"{" else ():
        if name.casefold() in seen:
            found.append(name)
        seen.add(name.casefold())
    return found + (repeated_members(bytes(members[inner])) if inner in members else [])
