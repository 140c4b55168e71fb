"""A reply, and how each service words its errors."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

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


def _bad_argument(*codes_and_messages: str) -> ServiceError:
    """A BadArgumentError around errors given as code, message, code, message, outermost first."""
    inner = None
    for at in range(len(codes_and_messages) - 2, -1, -2):
        inner = ServiceError(codes_and_messages[at], codes_and_messages[at + 1], inner)
    return ServiceError("BadArgumentError", "The request had some invalid properties", inner)


LOG_ANALYTICS: dict[str, tuple[int, ServiceError]] = {
    "syntax": (400, _bad_argument(
        "SyntaxError", "A recognition error occurred in the query.",
        "SYN0002", "Query could not be parsed at '{word}' on line [{line},{column}]")),
    "semantic": (400, _bad_argument(
        "SemanticError", "A semantic error occurred.", "SEM0100", "{words}")),
    "bad-timespan": (400, _bad_argument("InvalidTimespan", "{words}")),
    "bad-request": (400, _bad_argument("BadRequest", "{words}")),
    "basic-table": (400, _bad_argument(
        "UnsupportedApiQueryValidationError",
        "Table '{word}' has a plan that this endpoint does not serve: use /search")),
    "unauthorized": (401, ServiceError(
        "InvalidTokenError", "Valid authentication was not provided")),
    "token-expired": (401, ServiceError("InvalidTokenError", "The access token has expired")),
    "forbidden": (403, ServiceError(
        "InsufficientAccessError",
        "The provided credentials have insufficient access to perform the requested operation")),
    "not-found": (404, ServiceError("PathNotFoundError", "The requested path does not exist")),
    "request-timeout": (408, ServiceError("RequestTimeout", "The request came too slowly")),
    "throttled": (429, ServiceError("ThrottledError", "Too many requests of this identity")),
    "throttled-in-words": (429, ServiceError(
        "ThrottledError", "Too many requests. You can run queries again in {wait}")),
    "server-error": (500, ServiceError(
        "InternalServerError", "Something went wrong processing the query")),
    "unavailable": (503, ServiceError(
        "ServiceUnavailable", "The service is temporarily unavailable")),
    "timeout": (504, ServiceError(
        "GatewayTimeout", "The query took longer than the server waits")),
}  # fmt: skip

GRAPH: dict[str, tuple[int, ServiceError]] = {
    "syntax": (400, ServiceError(
        "BadRequest", "'{word}' could not be parsed at line {line}, position {column}. "
        "Fix syntax errors in your query.")),
    "semantic": (400, ServiceError("BadRequest", "{words}. Fix semantic errors in your query.")),
    "bad-timespan": (400, ServiceError("BadRequest", "{words}")),
    "bad-request": (400, ServiceError("BadRequest", "{words}")),
    "too-large": (400, ServiceError(
        "BadRequest", "Query execution has exceeded the allowed result size. Optimize your query "
        "by limiting the number of results and try again.")),
    "unauthorized": (401, ServiceError(
        "InvalidAuthenticationToken", "Access token is empty or not valid.")),
    "token-expired": (401, ServiceError(
        "InvalidAuthenticationToken", "Lifetime validation failed, the token is expired.")),
    "forbidden": (403, ServiceError(
        "Forbidden", "The application does not have any of the required permissions: "
        "ThreatHunting.Read.All.")),
    "not-found": (404, ServiceError("ResourceNotFound", "Resource not found for the segment.")),
    "request-timeout": (408, ServiceError("RequestTimeout", "The request came too slowly.")),
    "throttled": (429, ServiceError("TooManyRequests", "Too many requests.")),
    "throttled-in-words": (429, ServiceError(
        "TooManyRequests", "You have exceeded your query quota. "
        "You can run queries again in {wait}.")),
    "server-error": (500, ServiceError("UnknownError", "")),
    "unavailable": (503, ServiceError(
        "ServiceUnavailable", "The service is temporarily unavailable.")),
    "timeout": (504, ServiceError("UnknownError", "")),
}  # fmt: skip

KUSTO: dict[str, tuple[int, ServiceError]] = {
    "syntax": (400, ServiceError(
        "General_BadRequest", "Syntax error: Query could not be parsed at '{word}' "
        "[line:position={line}:{column}]")),
    "semantic": (400, ServiceError("General_BadRequest", "Semantic error: {words}")),
    "unknown-table": (400, ServiceError(
        "General_BadRequest", "Semantic error: SEM0100: {words}")),
    "no-time-scope": (400, ServiceError(
        "General_BadRequest", "The request property 'query_datetimescope_column' is not allowed")),
    "bad-request": (400, ServiceError("General_BadRequest", "{words}")),
    "too-large": (400, ServiceError("LimitsExceeded", "{words}")),
    "unauthorized": (401, ServiceError("Unauthorized", "Authentication is required")),
    "token-expired": (401, ServiceError("Unauthorized", "The token is expired")),
    "forbidden": (403, ServiceError(
        "Forbidden", "Principal is not authorized to read database")),
    "not-found": (404, ServiceError("BadRequest_EntityNotFound", "{words}")),
    "request-timeout": (408, ServiceError("RequestTimeout", "The request came too slowly")),
    "throttled": (429, ServiceError("TooManyRequests", "Request is denied due to throttling")),
    "throttled-in-words": (429, ServiceError(
        "TooManyRequests", "Request is denied due to throttling, retry after {wait}")),
    "server-error": (500, ServiceError("General_InternalServerError", "An unexpected error")),
    "unavailable": (503, ServiceError("ServiceUnavailable", "The service is unavailable")),
    "timeout": (504, ServiceError("Request_ExecutionTimeout", "The query ran out of time")),
}  # fmt: skip
REQUEST_ID = {
    "log-analytics": "x-ms-request-id", "graph": "request-id", "kusto": "x-ms-activity-id",
}  # fmt: skip
"""The header with which each service names its own id of a request."""
_TABLES = {"log-analytics": LOG_ANALYTICS, "graph": GRAPH, "kusto": KUSTO}

_WORDS = {"word": "", "line": 0, "column": 0, "words": "", "wait": ""}


def error_reply(service: str, kind: str, now: float, **words: object) -> Reply:
    """The service's own way to say ``kind``; ``words`` fill its message.

    ``service`` is ``log-analytics``, ``graph`` or ``kusto``; ``now`` is in seconds since 1970.
    """
    status, error = _TABLES[service][kind]
    filled = _filled(error, {**_WORDS, **words})
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


def _filled(error: ServiceError, words: Mapping[str, object]) -> ServiceError:
    inner = _filled(error.inner, words) if error.inner else None
    place = None
    if inner is None and error.code.startswith(("SYN", "SEM")) and words["line"]:
        place = (int(str(words["line"])), int(str(words["column"])))
    return ServiceError(error.code, error.message.format_map(words), inner, place)


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


# Entra ID: what goes wrong with a sign-in.


@dataclass(frozen=True)
class SignInError:
    """OAuth's ``error``, Entra's words, and what it comes down to."""

    error: str
    words: str
    summary: str
    status: int = 400


AADSTS: dict[str, SignInError] = {
    "AADSTS65001": SignInError(
        "invalid_grant", "The user or administrator has not consented to use the application.",
        "consent is missing"),
    "AADSTS700016": SignInError(
        "unauthorized_client", "Application was not found in the directory.",
        "the app is unknown in this tenant"),
    "AADSTS90002": SignInError(
        "invalid_request", "Tenant not found. Check to make sure you have the correct tenant ID.",
        "the tenant does not exist"),
    "AADSTS7000215": SignInError(
        "invalid_client", "Invalid client secret provided.", "the secret is wrong", 401),
    "AADSTS7000222": SignInError(
        "invalid_client", "The provided client secret keys are expired.",
        "the secret has expired", 401),
    "AADSTS700027": SignInError(
        "invalid_client", "Client assertion failed signature validation.",
        "the certificate or assertion is not accepted", 401),
    "AADSTS700024": SignInError(
        "invalid_client", "Client assertion is not within its valid time range.",
        "the assertion is too old, or a clock is wrong", 401),
    "AADSTS53003": SignInError(
        "interaction_required", "Access has been blocked by Conditional Access policies.",
        "conditional access blocks it"),
    "AADSTS50076": SignInError(
        "interaction_required", "You must use multi-factor authentication to access the resource.",
        "a second factor is needed"),
    "AADSTS50058": SignInError(
        "interaction_required", "A silent sign-in request was sent but no user is signed in.",
        "a person has to sign in"),
    "AADSTS500011": SignInError(
        "invalid_resource", "The resource principal was not found in the tenant.",
        "the service is not enabled in this tenant"),
    "AADSTS70016": SignInError(
        "authorization_pending", "OAuth 2.0 device flow error. Authorization is pending.",
        "the device code is not confirmed yet"),
    "AADSTS70008": SignInError(
        "invalid_grant", "The provided authorization code or refresh token has expired.",
        "the sign-in has expired"),
    "AADSTS900023": SignInError(
        "invalid_request",
        "Specified tenant identifier is neither a valid DNS name, nor a valid external domain.",
        "the tenant id is malformed"),
}  # fmt: skip


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
