"""Scenario files: what is right loads, what is wrong is told at its line and column."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from qakhunt.core.errors import ConfigError, EventsError
from qakhunt.testing.emulator.scenario import FaultRule, load_scenario
from qakhunt.testing.emulator.server import Emulator
from tests.emulator.support import LOG_ANALYTICS, fetch, guid, raw_post, token

if TYPE_CHECKING:
    from pathlib import Path

ONE, TWO = guid("tenant", 1), guid("tenant", 2)
MAIN, ARCHIVE, BORROWED = (guid("workspace", n) for n in ("main", "archive", "borrowed"))

SCENARIO = f"""
now: 2026-11-01T00:00:00Z
tenants:
  - id: {ONE}
    name: contoso
    events: [DeviceProcessEvents=events.ndjson]
    latency: 0.01
    limits: {{rows: 1000, bytes: 5000000, seconds: 30}}
    throttle: {{calls: 100, seconds: 60}}
    workspaces:
      - id: {MAIN}
      - id: {ARCHIVE}
        retention: 26d
        basic_tables: [DeviceProcessEvents]
      - id: {BORROWED}
        readers: [{TWO}]
        readable: false
    faults:
      - {{fault: throttled, paths: [query], calls: [5, "7-8"], seconds: 3}}
  - id: {TWO}
    roles: []
"""


@pytest.fixture
def scenario(tmp_path: Path, events: str) -> Path:
    (tmp_path / "events.ndjson").symlink_to(events)
    path = tmp_path / "scenario.yaml"
    path.write_text(SCENARIO)
    return path


def count(emulator: Emulator, tenant: str, workspace: str, path: str = "query") -> object:
    body = {"query": "DeviceProcessEvents | count"}
    bearer = token(emulator, tenant, LOG_ANALYTICS)
    raw = raw_post(emulator, f"/v1/workspaces/{workspace}/{path}", body, bearer)
    value = raw.json()
    return value["tables"][0]["rows"][0][0] if raw.status == 200 else value["error"]["code"]


def test_a_scenario_is_served_as_it_is_written(scenario: Path) -> None:
    with Emulator(load_scenario(scenario)) as served:
        line = served.ready_line()
        assert list(line) == ["schema", "url", "workspaces", "tenants", "ca", "kusto", "database"]
        assert line["workspaces"] == [MAIN, ARCHIVE, BORROWED]
        assert line["tenants"] == [
            {"id": ONE, "workspaces": [MAIN, ARCHIVE, BORROWED]}, {"id": TWO, "workspaces": []}
        ]  # fmt: skip
        assert count(served, ONE, MAIN) == 40
        assert count(served, TWO, MAIN) == "InsufficientAccessError"
        # 26 days before now is 6 October: five days are gone.
        assert count(served, ONE, ARCHIVE, "search") == 20
        wrong_door = raw_post(
            served, f"/v1/workspaces/{ARCHIVE}/query", {"query": "DeviceProcessEvents"},
            token(served, ONE, LOG_ANALYTICS),
        )  # fmt: skip
        inner = wrong_door.json()["error"]["innererror"]
        assert (wrong_door.status, inner["code"]) == (400, "UnsupportedApiQueryValidationError")
        assert count(served, ONE, BORROWED) == "InsufficientAccessError"
        assert count(served, ONE, MAIN) == "ThrottledError"
        assert count(served, TWO, BORROWED) == 40
        assert count(served, ONE, guid("nowhere")) == "PathNotFoundError"


def test_a_tenant_without_the_role_is_refused_by_graph(scenario: Path) -> None:
    with Emulator(load_scenario(scenario)) as served:
        form = {
            "client_id": "app", "client_secret": "any", "grant_type": "client_credentials",
            "scope": "https://graph.microsoft.com/.default",
        }  # fmt: skip
        _, _, body = fetch(served, f"/{TWO}/oauth2/v2.0/token", form)
        bearer = json.loads(body)["access_token"]
        body_ = {"Query": "DeviceProcessEvents | count"}
        assert raw_post(served, "/v1.0/security/runHuntingQuery", body_, bearer).status == 403


def test_without_faults_nothing_goes_wrong(scenario: Path) -> None:
    with Emulator(load_scenario(scenario).without_faults()) as served:
        assert [count(served, ONE, MAIN) for _ in range(9)] == [40] * 9


@pytest.mark.parametrize(
    ("calls", "met"),
    [
        ((), [1, 2, 3, 4, 5]),
        (2, [2]),
        ((1, 3), [1, 3]),
        ("2-4", [2, 3, 4]),
        ("4-", [4, 5]),
        (("1", "3-4"), [1, 3, 4]),
    ],
)
def test_calls_are_numbers_and_ranges(calls: object, met: list[int]) -> None:
    rule = FaultRule(fault="throttled", calls=calls)  # type: ignore[arg-type]
    assert [number for number in range(1, 6) if rule.meets(number)] == met


TENANT = "tenants:\n  - id: {ONE}\n"
RULE = TENANT + "    faults:\n      - "
WRONG = [
    ("tenants:\n  - id: nonsense\n", 2, "id"),
    ("tenants: []\n", 1, "tenants"),
    (TENANT + "    worspaces: []\n", 3, "did you mean 'workspaces'?"),
    (TENANT + "  - id: {ONE}\n", 3, "stands twice"),
    (RULE + "fault: throtled\n", 4, "'throttled'"),
    (RULE + "{{fault: refused, calls: 0}}\n", 4, "calls"),
    (RULE + "{{fault: refused, calls: 4-2}}\n", 4, "calls"),
    (RULE + "{{fault: refused, paths: [graph]}}\n", 4, "paths"),
    (RULE + "{{fault: refused, workspace: {MAIN}}}\n", 4, MAIN),
    (TENANT + "    retention: soon\n", 3, "30d"),
    (TENANT + "    limits: {{rows: 0}}\n", 3, "rows"),
    ("now: yesterday\n" + TENANT, 1, "now"),
    (TENANT + "   name: x\n", 3, "broken YAML"),
    ("[]\n", 1, "mapping"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "words"), WRONG)
def test_a_wrong_scenario_is_told_at_its_place(
    tmp_path: Path, text: str, line: int, words: str
) -> None:
    path = tmp_path / "scenario.yaml"
    path.write_text(text.format(ONE=ONE, MAIN=MAIN))
    with pytest.raises(ConfigError) as caught:
        load_scenario(path)
    assert caught.value.location is not None
    assert (caught.value.location.path, caught.value.location.line) == (str(path), line)
    assert words in f"{caught.value.message} {caught.value.hint}"


def test_events_that_are_not_there_are_told_before_anything_is_served(tmp_path: Path) -> None:
    path = tmp_path / "scenario.yaml"
    path.write_text(f"tenants:\n  - {{id: {ONE}, events: [nowhere.ndjson]}}\n")
    with pytest.raises(EventsError, match=r"nowhere\.ndjson"):
        Emulator(load_scenario(path))
