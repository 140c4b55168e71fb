"""Logs Ingestion: rows are taken, checked against the documented limits and kept."""

from __future__ import annotations

import gzip
import threading
import zlib
from typing import TYPE_CHECKING, Any

from qakhunt.answers.json_body import WireError, decode_body
from qakhunt.emulator.replies import Reply, json_reply

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_BYTES = 1_048_576
"""One call's body, before compression."""
MOST_FIELD = 64 * 1024
"""One field's bytes; the service cuts longer ones off."""


class Ingestion:
    """Rows by data collection rule and stream, in the order of their arrival."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str], list[dict[str, Any]]] = {}
        self._lock = threading.Lock()

    def rows(self, rule: str, stream: str) -> list[dict[str, Any]]:
        """What was taken so far."""
        with self._lock:
            return list(self._rows.get((rule, stream), ()))

    def take(self, rule: str, stream: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """Keep the rows of one call: 204, or what is wrong with it."""
        if "json" not in headers.get("content-type", ""):
            return _error(415, "UnsupportedMediaType", "the body must be application/json")
        if headers.get("content-encoding", "").lower() == "gzip":
            try:
                body = gzip.decompress(body)
            except (OSError, EOFError, zlib.error):
                return _error(400, "InvalidRequest", "the body is no whole gzip")
        if len(body) > MOST_BYTES:
            return _error(413, "ContentLengthLimitExceeded", f"a body may have {MOST_BYTES} bytes")
        try:
            rows = decode_body(body).value
        except WireError as problem:
            return _error(400, "InvalidRequest", str(problem))
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            return _error(400, "InvalidRequest", "the body must be an array of objects")
        with self._lock:
            kept = self._rows.setdefault((rule, stream), [])
            kept.extend({name: _cut(value) for name, value in row.items()} for row in rows)
        return Reply(204)


def _cut(value: Any) -> Any:
    if isinstance(value, str) and len(value) > MOST_FIELD // 4:
        return value.encode()[:MOST_FIELD].decode(errors="ignore")
    return value


def _error(status: int, code: str, words: str) -> Reply:
    return json_reply({"error": {"code": code, "message": words}}, status)
