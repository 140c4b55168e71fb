"""Which skips are allowed where everything is installed.

With QAKHUNT_REQUIRE_PROGRAMS set, as .ci/run does, a test that skips for any other
reason fails the run: a missing program must not pass for a passed test.
"""

from __future__ import annotations

import os

import pytest

ALLOWED = (
    "the embedded engine needs Python 3.11",
    "needs the embedded engine",
    "in ../shared",
    "not a git checkout",
    "is not for",
    "LibreOffice",
    "there is no CPython 3.10",
    "comes with 'qakhunt[dev]'",
)

_refused: dict[str, str] = {}


def reason_of(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Why a test or a whole module was skipped."""
    longrepr = report.longrepr
    return longrepr[2] if isinstance(longrepr, tuple) else str(longrepr)


def note(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Remember a skip that is not allowed here."""
    if not report.skipped or not os.environ.get("QAKHUNT_REQUIRE_PROGRAMS"):
        return
    if hasattr(report, "wasxfail"):
        return
    reason = reason_of(report)
    if not any(allowed in reason for allowed in ALLOWED):
        _refused[report.nodeid] = reason


def refused() -> dict[str, str]:
    """Test -> reason of each skip that is not allowed."""
    return _refused
