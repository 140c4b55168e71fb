"""What Entra ID says when it gives no token."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qakhunt.emulator.replies import json_reply

if TYPE_CHECKING:
    from qakhunt.emulator.replies import Reply


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
