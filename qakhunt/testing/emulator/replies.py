"""A reply, and how each service words its errors."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass, field, replace
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import msgspec

from qakhunt.answers import wire_hunting, wire_kusto, wire_log_analytics
from qakhunt.answers.cells import encode_body
from qakhunt.answers.response import ServiceError

if TYPE_CHECKING:
    from collections.abc import Mapping

JSON = "application/json; charset=utf-8"


@dataclass(frozen=True)
class Reply:
    """A whole response before it travels."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    def with_headers(self, **headers: str) -> Reply:
        """The same with more headers; ``_`` in a name stands for ``-``."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return replace(self, headers={**self.headers, **named})


def json_reply(value: Any, status: int = 200) -> Reply:
    """A JSON body with its content type."""
    return Reply(status, encode_body(value), {"content-type": JSON})


class ErrorText(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A service's error: codes and messages, outermost first."""

    status: int
    errors: tuple[tuple[str, str], ...]

    def filled(self, words: Mapping[str, Any]) -> ServiceError:
        """The error with its words; the innermost has the place, where there is one."""
        error = None
        for code, message in reversed(self.errors):
            is_placed = error is None and code.startswith(("SYN", "SEM")) and words["line"]
            place = (int(words["line"]), int(words["column"])) if is_placed else None
            error = ServiceError(code, message.format_map(words), error, place)
        assert error is not None  # noqa: S101 - each has one, or the data is wrong
        return error


class SignInError(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """OAuth's ``error``, Entra's words, and what it comes down to."""

    error: str
    words: str
    summary: str
    status: int = 400


class _Texts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    services: dict[str, dict[str, ErrorText]]
    sign_in: dict[str, SignInError]


_TEXTS = msgspec.yaml.decode(
    files("qakhunt").joinpath("data/emulator_errors.yaml").read_bytes(), type=_Texts
)
AADSTS = _TEXTS.sign_in
"""Entra's code -> the error of a sign-in."""
REQUEST_ID = {
    "log-analytics": "x-ms-request-id", "graph": "request-id", "kusto": "x-ms-activity-id",
}  # fmt: skip
"""The header with which each service names its own id of a request."""
_WORDS = {"word": "", "line": 0, "column": 0, "words": "", "wait": ""}


def error_reply(service: str, kind: str, now: float, **words: object) -> Reply:
    """The service's own way to say ``kind``; ``words`` fill its message.

    ``service`` is ``log-analytics``, ``graph`` or ``kusto``; ``now`` is in seconds since 1970.
    """
    text = _TEXTS.services[service][kind]
    filled, status = text.filled({**_WORDS, **words}), text.status
    request_id = str(uuid.uuid4())
    if service == "log-analytics":
        value = wire_log_analytics.error_value(filled)
        value["correlationId"] = request_id
    elif service == "kusto":
        value = wire_kusto.error_value(filled)
    else:
        date = dt.datetime.fromtimestamp(now, dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")
        value = wire_hunting.error_value(filled, request_id, date)
    reply = json_reply({"error": value}, status)
    reply = replace(reply, headers={**reply.headers, REQUEST_ID[service]: request_id})
    if status == 401:
        reply = reply.with_headers(www_authenticate='Bearer error="invalid_token"')
    return reply


def throttled_until(now: float, seconds: float) -> Reply:
    """Kusto's 429 that names the moment, in its text only; no fraction of a second."""
    moment = dt.datetime.fromtimestamp(int(now + seconds + 0.999), dt.timezone.utc)
    return error_reply("kusto", "throttled-in-words", now, wait=f"{moment:%m/%d/%Y %H:%M:%S} UTC")


def limit_exceeded(limit: int, unit: str) -> ServiceError:
    """The PartialError of Log Analytics for an answer over ``limit`` bytes or records."""
    cause = ServiceError(
        "-2133196797",
        f"The results of this query exceed the set limit of {limit} {unit}, "
        "so not all records were returned (E_QUERY_RESULT_SET_TOO_LARGE, 0x80DA0003).",
    )
    engine = ServiceError(
        "EngineError", "Something went wrong processing your query on the server.", cause
    )
    return ServiceError(
        wire_log_analytics.PARTIAL, "There were some errors when processing your query.", engine
    )


def aadsts_reply(code: str, now: float) -> Reply:
    """The token endpoint's answer; ``now`` is in seconds since 1970."""
    error = AADSTS[code]
    moment = dt.datetime.fromtimestamp(now, dt.timezone.utc).strftime("%Y-%m-%d %H:%M:%SZ")
    trace, correlation = str(uuid.uuid4()), str(uuid.uuid4())
    value = {
        "error": error.error,
        "error_description": f"{code}: {error.words} Trace ID: {trace} "
        f"Correlation ID: {correlation} Timestamp: {moment}",
        "error_codes": [int(code.removeprefix("AADSTS"))],
        "timestamp": moment,
        "trace_id": trace,
        "correlation_id": correlation,
    }
    return json_reply(value, error.status)
