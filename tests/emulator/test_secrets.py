"""No token and no secret of ours is in anything that is shown, written or logged.

Every fault of both services and of the sign-in, with the real sign-in over TLS; each
token that the emulator gives out is remembered and looked for.
"""

from __future__ import annotations

import io
import logging
import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from qakhunt.answers.ledger import Status
from qakhunt.backends.auth.identity import SignIn
from qakhunt.backends.profile import Limits, Profile
from qakhunt.reports.console import show
from qakhunt.reports.details import ExportOptions
from qakhunt.reports.formats import export_bytes, format_named
from qakhunt.run.execution import execute
from qakhunt.run.live import LiveBackends, targets_of
from qakhunt.run.plan import PlanLine
from qakhunt.run.settings import ProfileSettings
from qakhunt.testing.emulator.clock import SkippingClock
from qakhunt.testing.emulator.faults import FAULTS
from qakhunt.testing.emulator.scenario import FaultRule
from qakhunt.testing.emulator.server import Emulator
from tests.emulator.live import ClientClock
from tests.emulator.matrix import NOW, rendered_hunt
from tests.emulator.support import APP, guid, scenario_of, tenant_of

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = "Pl4nted~secret.Qx7_of-the-app"
VARIABLE = "PLANTED_SECRET"
SLOW = ("large-body",)
CASES = [
    (name, service)
    for name in FAULTS
    for service in ("log-analytics", "defender")
    if name not in SLOW and name != "expires-on-text"
]


@pytest.fixture(scope="module")
def clock() -> SkippingClock:
    return SkippingClock()


@pytest.fixture(scope="module")
def emulator(events: str, clock: SkippingClock) -> Iterator[Emulator]:
    tenants = [
        tenant_of(f"{name}/{service}", events, faults=(FaultRule(fault=name, calls="1-"),))
        for name, service in CASES
    ]
    with Emulator(scenario_of(*tenants, now=NOW.isoformat()), tls=True, clock=clock) as served:
        yield served


@contextmanager
def remembered(emulator: Emulator) -> Iterator[list[str]]:
    """Every token that is given out meanwhile."""
    issuer: Any = emulator.emulation.issuer
    sign, given = issuer._sign, []

    def remember(body: dict[str, Any]) -> str:
        given.append(sign(body))
        return str(given[-1])

    issuer._sign = remember
    try:
        yield given
    finally:
        del issuer._sign


def profile_of(emulator: Emulator, name: str, service: Any) -> ProfileSettings:
    sign_in = SignIn(kind="client-secret", client_id=APP, client_secret_env=VARIABLE)
    return ProfileSettings("contoso", Profile(
        backend=service, tenant=guid("tenant", f"{name}/{service}"),
        workspaces=[guid("workspace", f"{name}/{service}")], sign_in=sign_in,
        limits=Limits(tries=2, throttled_tries=2), ca_file=str(emulator.ca),
        authority=emulator.url, log_analytics_endpoint=emulator.url, graph_endpoint=emulator.url,
    ), {})  # fmt: skip


@pytest.mark.parametrize(("name", "service"), CASES)
def test_no_output_of_a_run_holds_a_secret(
    emulator: Emulator,
    clock: SkippingClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    name: str,
    service: str,
) -> None:
    monkeypatch.setenv(VARIABLE, SECRET)
    caplog.set_level(logging.DEBUG)
    told: list[str] = []
    profile = profile_of(emulator, name, service)
    with remembered(emulator) as tokens:
        live = LiveBackends(
            NOW, ClientClock(clock), cache=None, on_wait=lambda *wait: told.append(str(wait))
        )
        backend = live.open(profile)
        (target,) = targets_of(profile)
        result = execute([PlanLine(rendered_hunt("narrow", service), backend, target)])
        live.close()
        clock.skip(60)
    screen = io.StringIO()
    show(result, Console(file=screen, width=200))
    shown = [
        screen.getvalue(), caplog.text, repr(result), repr(profile), repr(live), *told,
        *(
            export_bytes(result, format_named(kind), ExportOptions(csv_raw=False)).decode()
            for kind in ("json", "ndjson", "csv", "markdown")
        ),
    ]  # fmt: skip
    if not name.startswith("AADSTS"):
        assert tokens, "nobody signed in: the test looked for nothing"
    else:
        assert result.ledger.lines[0].status is Status.FAILED
    for secret in (SECRET, *tokens):
        for text in shown:
            assert secret not in text


def test_the_text_of_a_crash_holds_no_secret(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever breaks in the middle of a call, with the credential at hand."""
    monkeypatch.setenv(VARIABLE, SECRET)
    profile = profile_of(emulator, "slow-drip", "defender")
    with remembered(emulator) as tokens:
        live = LiveBackends(NOW, cache=None)
        backend: Any = live.open(profile)

        def broken(*arguments: Any) -> Any:
            raise RuntimeError(f"a bug, with {arguments!r} at hand")

        monkeypatch.setattr(backend, "_result", broken)
        (target,) = targets_of(profile)
        plan = [PlanLine(rendered_hunt("narrow", "defender"), backend, target)]
        try:
            text = repr(execute(plan))
        except RuntimeError:
            text = traceback.format_exc()
        live.close()
    assert "a bug" in text
    assert tokens
    for secret in (SECRET, *tokens):
        assert secret not in text
