"""A client secret from a Key Vault, opened with the machine's managed identity."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from qakhunt.backends.auth.identity import Identity, SignIn
from qakhunt.backends.auth.workload import read_secret
from qakhunt.core.errors import ConfigError, UnansweredError
from tests.support import scripted_service as s

if TYPE_CHECKING:
    from collections.abc import Callable

APP = "cccccccc-0000-4000-8000-000000000001"
SECRET = "planted-vault-secret"
TOKEN = "planted-machine-token"


@pytest.fixture
def ask(service: s.Service, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Read a secret; the machine's identity is served beside the vault."""
    service.routes["/msi"] = s.send(
        200, {"access_token": TOKEN, "expires_on": str(int(time.time()) + 3600)}
    )
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"{service.url}/msi/token")
    monkeypatch.setenv("IDENTITY_HEADER", "planted-header")

    def read(address: str = "", *steps: Any) -> str:
        service.script(*steps)
        sign_in = SignIn(
            kind="client-secret", client_id=APP,
            client_secret_vault=address or f"{service.url}/secrets/hunter",
        )  # fmt: skip
        where = Identity(sign_in, APP, service.url, "public", str(service.ca))
        return read_secret(where)

    return read


def test_the_secret_is_read_as_the_machine(service: s.Service, ask: Callable[..., str]) -> None:
    assert ask("", s.send(200, {"value": SECRET, "id": "x"})) == SECRET
    machine, vault = service.received
    assert machine.path.endswith("resource=https://vault.azure.net")
    assert vault.path == "/secrets/hunter?api-version=7.4"
    assert vault.headers["authorization"] == f"Bearer {TOKEN}"


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (s.send(403, {"error": {"code": "Forbidden", "message": "x"}}), "HTTP 403: Forbidden"),
        (s.send(404, {"error": {"code": "SecretNotFound", "message": "x"}}), "SecretNotFound"),
        (s.send(200, b"<html>"), "does not give the secret"),
        (s.send(200, {"id": "x"}), "does not give the secret"),
    ],
)
def test_a_secret_that_is_not_given_is_told(
    ask: Callable[..., str], step: s.Step, words: str
) -> None:
    with pytest.raises(UnansweredError, match=words) as caught:
        ask("", step)
    assert TOKEN not in str(caught.value)


def test_a_host_that_is_no_vault_is_not_asked(service: s.Service, ask: Callable[..., str]) -> None:
    for address in (
        "https://vault.evil.example/secrets/x",
        "https://soc.vault.azure.net.evil.example/secrets/x",
        "https://soc.vault.usgovcloudapi.net/secrets/x",
    ):
        with pytest.raises(ConfigError, match="no token is sent there"):
            ask(address, s.send(200, {"value": SECRET}))
    assert service.received == []
