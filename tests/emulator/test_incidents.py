"""The sink sentinel-incident, against the emulator with a token of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from qakhunt.kql.values import Timespan
from qakhunt.schedule.findings import finding_document, judge, reported_findings
from qakhunt.schedule.sinks import make_sink
from qakhunt.schedule.sinks.base import NotTaken, Report, SinkContext
from qakhunt.testing.emulator.arm import CONTRIBUTOR, READER
from qakhunt.testing.emulator.kusto import database_of
from qakhunt.testing.emulator.server import Emulator
from tests.emulator.support import guid, process_events, scenario_of, tenant_of, token, write_events
from tests.support.findings import BEAT, HOSTILE, NOW, hunt, make_hit, make_report, make_result

ARM = "https://management.azure.com"


class Signed:
    """A credential whose tokens carry the given roles."""

    def __init__(self, emulator: Emulator, *roles: str) -> None:
        self._emulator, self._roles = emulator, roles

    def get_token_info(self, *scopes: str, options: Any = None) -> Any:
        from azure.core.credentials import AccessTokenInfo

        assert scopes == (f"{ARM}/.default",)
        made = token(self._emulator, guid("tenant", "soc"), ARM, roles=list(self._roles))
        return AccessTokenInfo(made, int(self._emulator.clock.time()) + 3600)

    def get_token(self, *scopes: str, **_: Any) -> Any:
        return self.get_token_info(*scopes)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    folder = tmp_path_factory.mktemp("incidents")
    events = write_events(folder / "DeviceProcessEvents.ndjson", process_events(1, 1))
    with Emulator(scenario_of(tenant_of("soc", events)), tls=True) as emulator:
        yield emulator


def workspace(served: Emulator) -> str:
    tenant = served.loaded.scenario.tenants[0]
    name = database_of(tenant, tenant.workspaces[0])
    return (
        f"/subscriptions/{guid('s')}/resourceGroups/soc"
        f"/providers/Microsoft.OperationalInsights/workspaces/{name}"
    )


def sink(served: Emulator, *roles: str) -> Any:
    settings = {"kind": "sentinel-incident", "workspace": workspace(served), "endpoint": served.url}
    context = SinkContext(
        secret=lambda _: "", credential=lambda: Signed(served, *roles), verify=str(served.ca)
    )
    return make_sink("incidents", {"incidents": settings}, context)


def kept(served: Emulator, path: str) -> list[dict[str, Any]]:
    bearer = Signed(served, READER).get_token_info(f"{ARM}/.default").token
    answer = requests.get(
        f"{served.url}{workspace(served)}/providers/Microsoft.SecurityInsights/{path}",
        params={"api-version": "2024-09-01"}, verify=str(served.ca), timeout=30,
        headers={"Authorization": f"Bearer {bearer}"},
    )  # fmt: skip
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["value"]
    return found


def grown_report(*hits: Any) -> tuple[Report, Report]:
    """A finding's first report, and the one after it grew."""
    first, second = hits
    found = reported_findings([first], {hunt().name: hunt()})
    ((_, known),) = judge(found, {}, now=NOW, repeat_after=Timespan.parse("30d"))
    later = reported_findings([second], {hunt().name: hunt()})
    memory = {entry.fingerprint: entry for entry in known}
    ((grown, _),) = judge(later, memory, now=NOW, repeat_after=Timespan.parse("30d"))
    document = finding_document(grown, run_id="run-2", now=NOW)
    return make_report([first]), Report("run-2", NOW, [document], make_result([second]))


def test_a_finding_is_one_incident_however_often_it_is_sent(served: Emulator) -> None:
    out = sink(served, CONTRIBUTOR)
    first, grown = grown_report(
        make_hit("pc<b>1</b>", commands=tuple(HOSTILE)),
        make_hit("pc<b>1</b>", commands=(*HOSTILE, "nltest /dclist:")),
    )
    for _ in range(2):
        for message in out.messages(first):
            out.send(message)
    (incident,) = kept(served, "incidents")
    assert incident["properties"]["status"] == "New"
    assert incident["properties"]["severity"] == "High"
    (bookmark,) = kept(served, "bookmarks")
    assert bookmark["properties"]["entityMappings"] == [
        {"entityType": "Host", "fieldMappings": [
            {"identifier": "HostName", "value": "pc<b>1</b>"}]},
        {"entityType": "Account", "fieldMappings": [
            {"identifier": "Name", "value": "a.moreau"}]},
    ]  # fmt: skip
    assert json.loads(bookmark["properties"]["queryResult"])["Commands"] == HOSTILE
    assert "DeviceProcessEvents" in bookmark["properties"]["query"]
    (relation,) = kept(served, f"incidents/{incident['name']}/relations")
    assert relation["properties"]["relatedResourceId"] == bookmark["id"]

    for _ in range(2):
        for message in out.messages(grown):
            out.send(message)
    assert kept(served, "incidents") == [incident]  # an analyst may have changed it: left alone
    assert len(kept(served, "bookmarks")) == 2
    (comment,) = kept(served, f"incidents/{incident['name']}/comments")
    assert "1 new commands" in comment["properties"]["message"]
    # A comment is rendered as HTML, a description perhaps: neither holds the attacker's text.
    for text in (comment["properties"]["message"], incident["properties"]["description"]):
        assert not any(command in text for command in HOSTILE)
        assert "<" not in text
    assert out.heartbeat(BEAT) == []


@pytest.mark.parametrize("there", [200, 404])
def test_a_conflict_is_taken_only_where_the_step_is_there(
    served: Emulator, monkeypatch: pytest.MonkeyPatch, there: int
) -> None:
    """The emulator has no such conflict: another run's step between two of our calls."""
    receiver = sink(served, CONTRIBUTOR)
    (message, *_) = receiver.messages(make_report([make_hit()]))
    answers = iter([404, 409, there] * 3)
    monkeypatch.setattr(receiver, "_call", lambda *_: next(answers))
    if there == 200:
        receiver.send(message)
    else:
        with pytest.raises(NotTaken, match="409 for incidents/.*, which is not there"):
            receiver.send(message)
    receiver.close()


def test_without_the_role_it_is_not_taken_and_trying_again_would_not_help(
    served: Emulator,
) -> None:
    out = sink(served, READER)
    (message,) = out.messages(make_report([make_hit("pc-2")]))
    with pytest.raises(NotTaken, match="does not have authorization") as caught:
        out.send(message)
    assert caught.value.again is False
    assert "Microsoft Sentinel Contributor" in str(caught.value.hint)


def test_a_token_goes_to_the_clouds_resource_manager_only(served: Emulator) -> None:
    from qakhunt.core.errors import ConfigError

    settings = {"kind": "sentinel-incident", "workspace": workspace(served),
                "endpoint": "https://management.evil.example"}  # fmt: skip
    with pytest.raises(ConfigError, match=r"management\.evil\.example is no host"):
        make_sink("i", {"i": settings}, SinkContext(secret=lambda _: ""))
