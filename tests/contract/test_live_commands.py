"""login, accounts, logout and doctor as people run them, against the emulator over TLS."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("duckdb_kql", reason="the emulator needs the embedded engine (Python 3.11)")
pytest.importorskip("uvicorn", reason="the emulator is an extra")

from qakhunt.testing.emulator.scenario import (
    App,
    FaultRule,
    LoadedScenario,
    Scenario,
    Tenant,
    Workspace,
)
from qakhunt.testing.emulator.server import Emulator
from tests.emulator.support import process_events, write_events
from tests.support.cli import Finished, qakhunt

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOW = "2026-10-10T12:00:00Z"
APP = "cccccccc-0000-4000-8000-000000000001"
SECRET = "planted~secret.51c0"
HOME, EMPTY, CLOSED, STALE, SKEWED, ELSEWHERE = (
    f"aaaaaaaa-0000-4000-8000-00000000000{n}" for n in "123456"
)
UNKNOWN = "aaaaaaaa-0000-4000-8000-000000000009"


def workspace(tenant: str) -> str:
    return tenant.replace("a", "b")


def tenant_with(id: str, events: str, **settings: Any) -> Tenant:
    readable = settings.pop("readable", True)
    spaces = (Workspace(id=workspace(id), readable=readable),)
    return Tenant(id=id, events=(events,), workspaces=spaces, **settings)


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    folder: Path = tmp_path_factory.mktemp("emulator")
    events = write_events(folder / "DeviceProcessEvents.ndjson", process_events())
    old = write_events(folder / "old" / "DeviceProcessEvents.ndjson", process_events(days=6))
    none = FaultRule(fault="no-source-rows")
    scenario = Scenario(
        tenants=(
            tenant_with(HOME, events),
            tenant_with(EMPTY, events, faults=(none,)),
            tenant_with(CLOSED, events, readable=False, roles=()),
            tenant_with(STALE, old),
            tenant_with(ELSEWHERE, events, faults=(FaultRule(fault="wrong-workspace"),)),
            tenant_with(SKEWED, events, faults=(FaultRule(fault="clock-skew", seconds=900),)),
        ),
        apps=(App(client_id=APP, secret=SECRET), App("04b07795-8ddb-461a-bbee-02f9e1bf7b46")),
        now=NOW,
    )
    with Emulator(LoadedScenario(scenario, folder), tls=True, host="localhost") as served:
        yield served


@pytest.fixture
def home(emulator: Emulator, tmp_path: Path) -> Path:
    return folder_of(emulator, tmp_path)


def folder_of(emulator: Emulator, folder: Path) -> Path:
    """A folder with a configuration of several profiles."""
    lines = ['[groups]\nall = ["sentinel", "defender"]\n']

    def profile(name: str, backend: str, tenant: str, sign_in: str, extra: str = "") -> None:
        lines.append(
            f'[profiles.{name}]\nbackend = "{backend}"\ntenant = "{tenant}"\n'
            f'ca_file = "{emulator.ca}"\nauthority = "{emulator.url}"\n'
            f'log_analytics_endpoint = "{emulator.url}"\ngraph_endpoint = "{emulator.url}"\n'
            f"{extra}sign_in = {sign_in}\n"
        )

    secret = f'{{ kind = "client-secret", client_id = "{APP}", client_secret_env = "HUNTER" }}'
    for name, tenant in (
        ("sentinel", HOME), ("empty", EMPTY), ("closed", CLOSED), ("stale", STALE),
        ("skewed", SKEWED), ("elsewhere", ELSEWHERE),
    ):  # fmt: skip
        profile(name, "log-analytics", tenant, secret, f'workspaces = ["{workspace(tenant)}"]\n')
    profile("defender", "defender", HOME, secret)
    profile("denied", "defender", CLOSED, secret)
    profile("nowhere", "defender", UNKNOWN, secret)
    profile("person", "defender", STALE, '"login"')
    (folder / "config.toml").write_text("".join(lines))
    return folder


def run(home: Path, *arguments: str, secret: str = SECRET, **more: str) -> Finished:
    env = {
        "QAKHUNT_CONFIG": str(home / "config.toml"), "XDG_DATA_HOME": str(home / "data"),
        "HUNTER": secret, "DBUS_SESSION_BUS_ADDRESS": "", **more,
    }  # fmt: skip
    done = qakhunt(*arguments, env=env)
    assert secret not in done.out + done.err
    assert "eyJ" not in done.out + done.err  # how every token begins
    return done


NAMES = ["configuration", "token", "permission", "columns", "round trip", "data", "clock"]


@pytest.fixture(scope="module")
def examined(emulator: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The doctor's account of all profiles."""
    home = folder_of(emulator, tmp_path_factory.mktemp("home"))
    return run(home, "doctor", "--all-profiles", "--now", NOW, "--json")


def checks_of(done: Finished, profile: str) -> dict[str, dict[str, str]]:
    """Name of a check -> the check."""
    checks = json.loads(done.out)["checks"]
    return {check["name"]: check for check in checks if check["profile"] == profile}


@pytest.mark.parametrize("profile", ["sentinel", "defender"])
def test_the_doctor_finds_nothing_wrong(examined: Finished, profile: str) -> None:
    checks = checks_of(examined, profile)
    assert list(checks) == NAMES
    slow = {"round trip"}  # this machine may be busy
    assert {c["grade"] for name, c in checks.items() if name not in slow} == {"ok"}
    seen = "records of 4 devices in seven days, the newest 3 h old"
    assert seen in checks["data"]["words"]
    assert f"tenant {HOME}, for https://" in checks["token"]["words"]


@pytest.mark.parametrize(
    ("profile", "check", "grade", "words", "hint"),
    [
        ("empty", "data", "failed", "no records in seven days", "data connector on"),
        ("closed", "permission", "failed", "no permission", "Log Analytics Reader"),
        ("elsewhere", "permission", "failed", "answered instead", "permissions on it"),
        ("denied", "token", "failed", "grants nothing", "ThreatHunting.Read.All"),
        ("nowhere", "token", "failed", "no such tenant", "check the tenant id"),
        ("stale", "data", "warning", "4 days old", "connector stopped"),
        ("skewed", "clock", "failed", " s behind", "set the clock"),
        ("person", "token", "failed", "nobody is signed in", "qakhunt login --tenant"),
    ],
)
def test_the_doctor_names_what_is_wrong_and_how_to_mend_it(
    examined: Finished, profile: str, check: str, grade: str, words: str, hint: str
) -> None:
    assert examined.code == 1
    found = checks_of(examined, profile)[check]
    assert found["grade"] == grade
    assert words in found["words"]
    assert hint in found["hint"]


def test_the_doctor_shows_a_line_per_check(home: Path) -> None:
    done = run(home, "doctor", "--profile", "empty", "--now", NOW)
    lines = done.out.splitlines()
    assert lines[0].startswith("ok       empty  configuration: log-analytics, 1 workspace, ")
    at = next(i for i, line in enumerate(lines) if line.startswith("failed   empty  data: "))
    assert lines[at + 1].strip() == "is the data connector on?"


def test_a_host_that_is_not_the_clouds_gets_no_token(home: Path) -> None:
    path = home / "config.toml"
    path.write_text(path.read_text().replace("https://localhost", "https://mirror.example"))
    done = run(home, "doctor", "--profile", "sentinel", "--now", NOW)
    assert done.code == 1
    assert "mirror.example is no host of this profile's cloud" in done.out
    assert "--trust-host mirror.example" in done.out


def test_an_analyst_signs_in_is_listed_hunts_and_signs_out(home: Path) -> None:
    done = run(home, "login", "--profile", "person", "--store", "plain")
    assert (done.code, done.out) == (0, "signed in as analyst@contoso.example\n")
    assert "enter the code" in done.err
    listed = json.loads(run(home, "accounts", "--profile", "person", "--json").out)
    assert listed == {
        "store": "plain", "accounts": [{"account": "analyst@contoso.example", "tenant": HOME}]
    }  # fmt: skip
    doctor = run(home, "doctor", "--profile", "person", "--now", NOW, "--json")
    assert checks_of(doctor, "person")["token"]["grade"] == "ok"
    done = run(home, "logout", "--profile", "person")
    assert done.out == "signed out analyst@contoso.example\n"
    assert run(home, "accounts", "--profile", "person").out == ""
    done = run(home, "logout", "x@y", "--profile", "person")
    assert (done.code, done.error_lines) == (2, ["error: x@y is not signed in"])


def test_every_sign_in_is_listed_and_removed_without_the_network(home: Path) -> None:
    """Neither a profile nor a service: the machine's own store is enough."""
    offline = {"HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": ""}
    assert run(home, "login", "--profile", "person", "--store", "plain").code == 0
    listed = json.loads(run(home, "accounts", "--json", **offline).out)
    assert [one["account"] for one in listed["accounts"]] == ["analyst@contoso.example"]
    assert "localhost" in run(home, "accounts", **offline).out
    assert run(home, "accounts", "--cloud", "public", **offline).out == ""
    done = run(home, "logout", "ANALYST@contoso.example", **offline)
    assert (done.code, done.out) == (0, "signed out analyst@contoso.example\n")
    assert "removed from this machine; Entra ID keeps its session" in done.err
    assert run(home, "accounts", **offline).out == ""
    assert not list(home.rglob("sign-ins.*"))
    again = run(home, "logout", **offline)
    assert (again.code, again.out, again.err) == (0, "", "nobody is signed in\n")


def test_without_a_keyring_a_sign_in_is_not_kept_as_plain_text_unasked(home: Path) -> None:
    done = run(home, "login", "--profile", "person")
    assert done.code == 2
    assert done.error_lines == ["error: this machine has no keyring to encrypt the sign-in with"]
    assert "--store plain" in done.err
    assert not (home / "data" / "qakhunt" / "sign-ins.json").exists()


def test_a_store_that_is_none(home: Path) -> None:
    done = run(home, "login", "--store", "plane")
    assert done.code == 2
    assert "did you mean 'plain'?" in done.err
