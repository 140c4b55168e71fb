"""What all tests share: the data outside the repository, and a clean environment."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import hypothesis
import pytest

from tests import skips

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"

# A loaded machine is no fault of what is tested.
hypothesis.settings.register_profile(
    "patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("patient")

HAS_ENGINE = sys.version_info >= (3, 11)


def pytest_configure(config: pytest.Config) -> None:
    # A file's tests run in one process, so that what they share is set up once.
    if getattr(config.option, "dist", "no") == "load":
        config.option.dist = "loadfile"
    # Hundreds of tests start the program: each would compile all of it again.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    # Started in the background, a shell has SIGINT ignored, and every child inherits that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    config.addinivalue_line("markers", "engine: needs the embedded engine (Python 3.11 or newer)")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    skip = pytest.mark.skip(reason="the embedded engine needs Python 3.11 or newer")
    for item in items:
        if not HAS_ENGINE and item.get_closest_marker("engine"):
            item.add_marker(skip)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    skips.note(report)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    skips.note(report)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for test, reason in skips.refused().items():
        terminalreporter.write_line(f"must not be skipped here: {test}: {reason}", red=True)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if skips.refused() and session.exitstatus == 0:
        session.exitstatus = 1


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the person who runs the tests reaches them."""
    for name in ("QAKHUNT_HUNTS", "QAKHUNT_CONFIG", "NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "dumb")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of public telemetry; the test is skipped where it is absent."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip("the public telemetry in ../shared/data is not here")
    return folder


@pytest.fixture(scope="session")
def mission_page() -> Path:
    """The published ADS page of the Qakbot rule."""
    path = SHARED / "mission" / "S0650-qakbot-post-compromise-commands.md"
    if not path.is_file():
        pytest.skip("the published page in ../shared/mission is not here")
    return path
