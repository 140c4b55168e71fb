"""What azure-core raised, as a delivery that failed: one sentence, no headers, no token."""

from __future__ import annotations

from typing import Any

from qakhunt.schedule.azure_blob import error_code
from qakhunt.schedule.sinks.base import NotTaken

_AGAIN = (408, 429, 500, 502, 503, 504)


def not_taken(problem: Exception, what: str) -> NotTaken:
    """The failure of one call to an Azure service."""
    from azure.core.exceptions import (
        ClientAuthenticationError,
        HttpResponseError,
        ServiceRequestError,
        ServiceResponseError,
    )

    if isinstance(problem, (ServiceRequestError, ServiceResponseError)):
        return NotTaken(f"{what} could not be reached: {type(problem).__name__}")
    if isinstance(problem, HttpResponseError):
        status: Any = problem.status_code
        code = error_code(problem)
        headers: Any = getattr(problem.response, "headers", {})
        if isinstance(problem, ClientAuthenticationError) or status in (401, 403):
            return NotTaken(
                f"{what} refused the sign-in ({status or 'no token'} {code})".replace(" )", ")"),
                again=False, hint="check the identity and its role there",
            )  # fmt: skip
        return NotTaken(
            f"{what} answered {status} {code}".rstrip(),
            again=status in _AGAIN,
            after=_seconds(headers.get("Retry-After")),
        )
    raise problem


def _seconds(text: str | None) -> float | None:
    return float(text) if text and text.isdigit() else None
