"""A scripted service over TLS on loopback, and the environment its clients need."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.certificates import Certificates, make_certificates
from tests.support.scripted_service import Service, serving

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def _service(certificates: Certificates) -> Iterator[Service]:
    yield from serving(certificates.server, certificates.ca)


@pytest.fixture
def service(_service: Service, monkeypatch: pytest.MonkeyPatch) -> Service:
    """The service with an empty script."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "localhost,127.0.0.1")
    _service.routes.clear()
    _service.script()
    return _service
