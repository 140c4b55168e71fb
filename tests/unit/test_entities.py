"""Entities, their pivots and their links."""

from __future__ import annotations

import base64
import gzip
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qakhunt.answers.ledger import Target
from qakhunt.backends.local import LocalBackend
from qakhunt.kql.tokens import tokenize
from qakhunt.kql.values import Window
from qakhunt.triage.entities import AZURE_PORTALS, CLOUDS, Portals
from qakhunt.triage.hit_report import hit_reports
from tests.support.events import NOW, write_ndjson
from tests.support.triage import at, burst, created, hit_report_of, result_with

if TYPE_CHECKING:
    from pathlib import Path

    from qakhunt.backends.engine.session import Session

TENANT = "11111111-2222-3333-4444-555555555555"
RESOURCE = (
    "/subscriptions/s/resourceGroups/rg/providers/Microsoft.OperationalInsights/workspaces/soc"
)
WINDOW = Window(at(-60), at(60))
DEVICE = "f" * 40


def network(address: str, file: str = "wermgr.exe", number: int = 9204) -> dict[str, object]:
    return {
        "TimeGenerated": at(1).isoformat(), "RemoteIP": address, "RemotePort": 443,
        "InitiatingProcessFileName": file, "InitiatingProcessId": number,
        "InitiatingProcessCreationTime": at(-95).isoformat(),
    }  # fmt: skip


def test_everyone_involved_is_named() -> None:
    records = burst(
        AccountDomain="CORP", AccountSid="S-1-5-21-1", AccountUpn="amy@corp.example",
        InitiatingProcessSHA256="ab" * 32,
    )  # fmt: skip
    tables = {
        "DeviceNetworkEvents": [network("198.51.100.9", "chrome.exe", 5), network("192.0.2.7")]
    }
    found = hit_report_of(records, tables=tables).entities
    named = [(entity.kind, entity.name) for entity in found]
    assert named == [
        ("device", "pc1.example"), ("account", "CORP\\amy"), ("process", "wermgr.exe"),
        ("hash", "ab" * 32), ("address", "192.0.2.7"), ("address", "198.51.100.9"),
    ]  # fmt: skip
    details = {entity.kind: dict(entity.details) for entity in found}
    assert details["device"]["Device id"] == DEVICE
    assert details["account"] == {
        "Name": "amy", "Domain": "CORP", "SID": "S-1-5-21-1", "UPN": "amy@corp.example",
    }  # fmt: skip
    assert details["process"]["Id"] == "9204"


def test_a_name_that_two_devices_bear_is_said() -> None:
    two = [*burst(["arp -a"]), created(1, "net.exe", "net share", 8, DeviceId="e" * 40)]
    device = hit_report_of(two).entities[0]
    assert ("Note", "2 device ids under this name") in device.details


@pytest.mark.parametrize("hash_", ["", "xyz", "ab" * 31, "ab" * 20 + "'", "gg" * 32])
def test_what_is_no_hash_is_no_entity(hash_: str) -> None:
    found = hit_report_of(burst(InitiatingProcessSHA256=hash_)).entities
    assert "hash" not in {entity.kind for entity in found}


@pytest.mark.engine
@given(st.text(max_size=40))
@settings(max_examples=12, deadline=None)
def test_a_pivot_runs_whatever_the_names_hold(name: str) -> None:
    hit_report = hit_report_of(
        burst(DeviceName=name, AccountName=name), device=name or "x", account=name
    )
    session = _session()
    for entity in hit_report.entities:
        tokenize(entity.pivot)
        session.ask(entity.pivot, now=NOW, window=WINDOW)


@cache
def _session() -> Session:
    from qakhunt.backends.engine.session import Session
    from qakhunt.run.sample import sample_events

    return Session(sample_events(), "log-analytics")


@pytest.mark.engine
def test_a_pivot_finds_the_records(tmp_path: Path) -> None:
    path = write_ndjson(
        tmp_path / "DeviceProcessEvents.ndjson", burst(InitiatingProcessSHA256="ab" * 32)
    )
    hit_report = hit_report_of(burst(InitiatingProcessSHA256="ab" * 32))
    backend = LocalBackend([str(path)], now=NOW)
    from qakhunt.backends.base import Question

    try:
        for entity in hit_report.entities:
            if entity.kind in ("device", "process", "hash"):
                answer = backend.ask(Question(entity.pivot, WINDOW, Target("p")))
                assert answer.table is not None
                assert len(answer.table) == 7, entity
    finally:
        backend.close()


def test_links_carry_the_query_into_the_portals() -> None:
    portals = Portals("public", ((TENANT, RESOURCE),))
    query = 'DeviceProcessEvents\n| where DeviceName =~ "ünï/=+"'
    link = portals.advanced_hunting(query, TENANT)
    assert link is not None
    parts = urlsplit(link)
    assert (parts.scheme, parts.netloc, parts.path) == (
        "https",
        "security.microsoft.com",
        "/v2/advanced-hunting",
    )
    packed = parse_qs(parts.query)["query"][0]
    text = gzip.decompress(base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4)))
    assert text.decode("utf-16-le") == query
    assert parse_qs(parts.query)["tid"] == [TENANT]
    logs = portals.logs(query, TENANT, TENANT, WINDOW)
    assert logs is not None
    steps = logs.split("/")
    assert unquote(steps[steps.index("resourceId") + 1]) == RESOURCE
    packed = unquote(unquote(steps[steps.index("q") + 1]))
    assert gzip.decompress(base64.b64decode(packed)).decode() == query
    assert logs.startswith(f"https://portal.azure.com/#@{TENANT}/blade/")


@pytest.mark.parametrize("cloud", CLOUDS)
def test_each_cloud_has_its_portals(cloud: str) -> None:
    portals = Portals(cloud, (("", RESOURCE),))
    hosts = {
        "public": "security.microsoft.com",
        "usgov": "security.microsoft.us",
        "usgov-dod": "security.apps.mil",
    }
    page = portals.device_page(DEVICE, None)
    assert page == (
        f"https://{hosts[cloud]}/machines/v2/{DEVICE}/overview" if cloud in hosts else None
    )
    assert (portals.advanced_hunting("T", None) is None) == (cloud not in hosts)
    logs = portals.logs("T", None, None, WINDOW)
    assert logs is not None
    assert logs.startswith(f"{AZURE_PORTALS[cloud]}/#/blade/")


@pytest.mark.parametrize(
    "device", ["", "short", "../" * 14, "f" * 39 + "/", "javascript:alert(1)", "f" * 41]
)
def test_what_is_no_device_id_makes_no_link(device: str) -> None:
    assert Portals().device_page(device, None) is None
    assert Portals().device_timeline(device, None, at(0), at(1)) is None


def test_what_is_no_tenant_or_workspace_reaches_no_link() -> None:
    page = Portals().device_page(DEVICE, "x&y=<script>")
    assert page == f"https://security.microsoft.com/machines/v2/{DEVICE}/overview"
    assert Portals("public", (("", "/subscriptions/../x"),)).logs("T", None, None, WINDOW) is None
    assert Portals().logs("T", None, None, WINDOW) is None


def test_a_query_too_long_for_an_address_makes_no_link() -> None:
    import random

    noise = "".join(random.Random(1).choices("abcdefghijklmnop0123456789", k=20_000))
    assert Portals().advanced_hunting(noise, None) is None


def test_a_dossier_takes_the_customers_tenant_into_its_links() -> None:
    result = result_with(burst(), target=Target("p", TENANT))
    device = hit_reports(result)[0].entities[0]
    assert device.links
    assert all(f"tid={TENANT}" in link.url for link in device.links)
