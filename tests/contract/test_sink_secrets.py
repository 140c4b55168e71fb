"""Where sinks find their secrets: a Key Vault through the managed identity, or Automation."""

from __future__ import annotations

import sys
import time
import types
from collections.abc import Iterator

import pytest

from qakhunt.core.errors import ConfigError, QakhuntError, UnansweredError
from qakhunt.run.config import Schedule
from qakhunt.schedule.runbook.job import _variables
from qakhunt.schedule.sinks import make_sink
from qakhunt.schedule.sinks.base import SinkContext, resolve_reference
from tests.support import scripted_service as s
from tests.support.findings import make_hit, make_report
from tests.support.receivers import Receiver, http_receiver

TOKEN, SECRET = "planted-machine-token", "planted-vault-secret"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with http_receiver() as made:
        yield made


@pytest.fixture
def vault(service: s.Service, monkeypatch: pytest.MonkeyPatch) -> s.Service:
    """A Key Vault and the managed identity's endpoint beside it."""
    service.routes["/msi"] = s.send(
        200, {"access_token": TOKEN, "expires_on": str(int(time.time()) + 3600)}
    )
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"{service.url}/msi/token")
    monkeypatch.setenv("IDENTITY_HEADER", "planted-header")
    return service


def around(vault: s.Service) -> SinkContext:
    settings = Schedule(sign_in="managed-identity", ca_file=str(vault.ca))
    return SinkContext(secret=lambda text: resolve_reference(text, {}, settings))


def test_a_webhook_is_signed_with_the_vault_s_secret(vault: s.Service, receiver: Receiver) -> None:
    vault.script(s.send(200, {"value": SECRET}))
    configured = {
        "hook": {"kind": "webhook", "url": receiver.url,
                 "secret_vault": f"{vault.url}/secrets/hook"}
    }  # fmt: skip
    sink = make_sink("hook", configured, around(vault))
    (message,) = sink.messages(make_report([make_hit()]))
    sink.send(message)
    sink.close()
    (taken,) = receiver.taken
    from qakhunt.schedule.sinks.web import signature

    stamp = taken.headers["webhook-timestamp"]
    expected = signature(SECRET.encode(), message.key, stamp, taken.body)
    assert taken.headers["webhook-signature"] == expected
    assert vault.received[-1].headers["authorization"] == f"Bearer {TOKEN}"


def test_a_workflow_s_address_comes_from_the_vault(vault: s.Service, receiver: Receiver) -> None:
    vault.script(s.send(200, {"value": f"{receiver.url}/workflow?sig=planted"}))
    sink = make_sink(f"teams:vault:{vault.url}/secrets/teams", {}, around(vault))
    sink.send(next(iter(sink.messages(make_report([make_hit()])))))
    sink.close()
    assert receiver.taken[0].path == "/workflow?sig=planted"


def test_a_vault_that_refuses_is_said_without_its_secret(vault: s.Service) -> None:
    vault.script(s.send(403, {"error": {"code": "Forbidden", "message": SECRET}}))
    with pytest.raises(UnansweredError, match="HTTP 403") as caught:
        make_sink(f"teams:vault:{vault.url}/secrets/teams", {}, around(vault))
    assert SECRET not in str(caught.value)
    assert TOKEN not in str(caught.value)


def test_encrypted_variables_of_the_automation_account(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("automationassets")
    kept = {"HOOK_SECRET": "planted-variable"}
    module.get_automation_variable = kept.__getitem__  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "automationassets", module)
    monkeypatch.setenv("HOOK_SECRET", "")
    monkeypatch.delenv("HOOK_SECRET")
    _variables(["HOOK_SECRET"])
    import os

    assert os.environ.pop("HOOK_SECRET") == "planted-variable"
    with pytest.raises(ConfigError, match="OTHER cannot be read"):
        _variables(["OTHER"])


def test_outside_automation_a_missing_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "automationassets", None)
    with pytest.raises(QakhuntError, match="MISSING_SECRET"):
        _variables(["MISSING_SECRET"])
