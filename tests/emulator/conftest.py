"""One server per module and clock; the embedded engine must be there."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.emulator.support import process_events, write_events

if TYPE_CHECKING:
    from collections.abc import Sequence


def _is_there(module: str) -> bool:
    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return True


collect_ignore_glob = [] if _is_there("uvicorn") else ["test_*.py"]


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Skip what is here where the embedded engine cannot be."""
    if _is_there("duckdb_kql"):
        return
    reason = "the emulator needs the embedded engine (Python 3.11)"
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def events(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Forty processes of four devices, ten days of October 2026."""
    folder: Path = tmp_path_factory.mktemp("events")
    return write_events(folder / "DeviceProcessEvents.ndjson", process_events())


@pytest.fixture(autouse=True)
def _no_foreign_trust(monkeypatch: pytest.MonkeyPatch) -> None:
    """These override the certificate that a client is told to trust."""
    for name in (
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
        "SSL_CERT_FILE",
        "HTTPS_PROXY",
        "HTTP_PROXY",
    ):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
