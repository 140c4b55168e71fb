"""What is sent again, and after how long."""

from __future__ import annotations

import json

import pytest

from qakhunt.backends.retry import RetryLimits, wait_before_retry

SENT = "Tue, 24 Nov 2026 08:00:00 GMT"
WALL = 1_795_507_200.0  # the same moment


def wait(
    status: int | None,
    headers: dict[str, str] | None = None,
    message: str = "",
    tries: int = 1,
    jitter: float = 1.0,
    wall: float = WALL,
) -> float | None:
    body = json.dumps({"error": {"code": "x", "message": message}}).encode()
    return wait_before_retry(
        status, headers or {}, body, tries, wall=wall, jitter=lambda: jitter, limits=RetryLimits()
    )


@pytest.mark.parametrize("status", [200, 204, 301, 400, 401, 403, 404, 413, 504])
def test_what_answered_or_would_answer_the_same_is_not_sent_again(status: int) -> None:
    assert wait(status, {"retry-after": "1"}) is None


@pytest.mark.parametrize("status", [None, 408, 500, 502, 503])
def test_faults_are_tried_again_four_times_with_growing_waits(status: int | None) -> None:
    assert [wait(status, tries=n) for n in range(1, 5)] == [1.0, 2.0, 4.0, None]


def test_jitter_shortens_a_wait_by_half_at_most() -> None:
    assert wait(None, tries=3, jitter=0.0) == 2.0


@pytest.mark.parametrize(
    ("headers", "message", "seconds"),
    [
        ({"retry-after": "7"}, "", 7.0),
        ({"retry-after": "0"}, "", 0.0),
        ({"x-ms-retry-after-ms": "1500", "retry-after": "9"}, "", 1.5),
        ({"retry-after": "Tue, 24 Nov 2026 08:00:30 GMT"}, "", 30.0),
        ({"retry-after": "Tue, 24 Nov 2026 07:00:00 GMT"}, "", 0.0),
        ({"retry-after": "soon"}, "try again in 00:00:45", 45.0),
        ({}, "You can run queries again in 00:12:30", 750.0),
        ({}, "API calls quota exceeded! maximum allowed 45 per 00:01:00.", 60.0),
        ({}, "Please retry after 30 seconds.", 30.0),
        ({}, "Try again in 1 minute and 5 seconds", 65.0),
        ({}, "Rate limit is exceeded", 4.0),
        ({"date": SENT}, "retry after 11/24/2026 08:00:17 UTC", 17.0),
        ({}, "Throttled: retry after 11/24/2026 08:00:17 UTC.", 17.0),
        ({"date": SENT}, "retry after 11/24/2026 07:00:00 UTC", 4.0),
        ({}, "retry after 13/45/2026 08:00:17 UTC", 4.0),
        ({"retry-after": "-5"}, "", 4.0),
        ({"retry-after": "١٢"}, "", 4.0),
    ],
)
def test_a_throttled_call_waits_as_long_as_it_is_told(
    headers: dict[str, str], message: str, seconds: float
) -> None:
    assert wait(429, headers, message) == seconds


def test_a_date_is_measured_by_the_services_own_clock() -> None:
    headers = {"date": SENT, "retry-after": "Tue, 24 Nov 2026 08:00:20 GMT"}
    assert wait(429, headers, wall=WALL + 3600) == 20.0
