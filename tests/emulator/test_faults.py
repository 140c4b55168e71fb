"""Every fault as a bare socket sees it, at both services; the call before and after is whole."""

from __future__ import annotations

import email.utils
import json
from typing import TYPE_CHECKING, Any

import pytest

from qakhunt.testing.emulator.clock import SkippingClock
from qakhunt.testing.emulator.faults import FAULTS, OTHER_WORKSPACE
from qakhunt.testing.emulator.scenario import FaultRule, Limits
from qakhunt.testing.emulator.server import Emulator
from tests.emulator.support import (
    GRAPH,
    LOG_ANALYTICS,
    NOW,
    WINDOW,
    Raw,
    guid,
    raw_post,
    scenario_of,
    tenant_of,
    token,
)  # fmt: skip

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SERVICES = ("query", "hunting")
# Those of Kusto alone have a column of the fault matrix.
QUERY_FAULTS = [name for name, fault in FAULTS.items() if {*fault.paths} & {*SERVICES}]
MET = [
    (name, service)
    for name in QUERY_FAULTS
    for service in SERVICES
    if service in FAULTS[name].paths
]
ROW_LIMIT = 30


@pytest.fixture(scope="module")
def clock() -> SkippingClock:
    return SkippingClock()


@pytest.fixture(scope="module")
def emulator(events: str, clock: SkippingClock) -> Iterator[Emulator]:
    tenants = [
        tenant_of(
            name, events, limits=Limits(rows=ROW_LIMIT if name == "truncated" else None),
            faults=(FaultRule(fault=name, calls=2),),
        )
        for name in QUERY_FAULTS
    ]  # fmt: skip
    with Emulator(scenario_of(*tenants, now="2026-11-05T00:00:00Z"), clock=clock) as served:
        yield served


def ask(emulator: Emulator, service: str, name: str, bearer: str | None = None) -> Raw:
    tenant = guid("tenant", name)
    if service == "query":
        text = (
            "DeviceProcessEvents | sort by TimeGenerated asc, DeviceName asc "
            "| project TimeGenerated, DeviceName, ProcessCommandLine, TenantId"
        )
        path = f"/v1/workspaces/{guid('workspace', name)}/query"
        body = {"query": text, "timespan": "/".join(WINDOW)}
        return raw_post(emulator, path, body, bearer or token(emulator, tenant, LOG_ANALYTICS))
    text = (
        "DeviceProcessEvents | sort by Timestamp asc, DeviceName asc "
        "| project Timestamp, DeviceName, ProcessCommandLine, TenantId = ''"
    )
    path = "/v1.0/security/runHuntingQuery"
    body = {"Query": text, "Timespan": "/".join(WINDOW)}
    return raw_post(emulator, path, body, bearer or token(emulator, tenant, GRAPH))


def rows(raw: Raw) -> list[list[object]]:
    value = raw.json()
    if "tables" in value:
        return list(value["tables"][0]["rows"])
    return [list(row.values()) for row in value["results"]]


def declared(raw: Raw) -> int:
    return int(raw.headers["content-length"])


def error_code(raw: Raw) -> str:
    return str(raw.json()["error"]["code"])


def _status(status: int) -> Callable[[Raw, Raw], bool]:
    return lambda seen, whole: seen.status == status and bool(error_code(seen))


def _cut(ended: str) -> Callable[[Raw, Raw], bool]:
    def seen_cut(seen: Raw, whole: Raw) -> bool:
        part = len(seen.body)
        return (
            seen.status == 200
            and seen.ended == ended
            and 0 < part < declared(seen) == len(whole.body)
            and whole.body.startswith(seen.body)
        )

    return seen_cut


def _waits_ten(seen: Raw, whole: Raw) -> bool:
    return seen.status == 429 and seen.headers["retry-after"] == "10"


def _waits_until(seen: Raw, whole: Raw) -> bool:
    until = email.utils.parsedate_to_datetime(seen.headers["retry-after"])
    date = email.utils.parsedate_to_datetime(seen.headers["date"])
    return seen.status == 429 and (until - date).total_seconds() == 10


def _no_hint_of_a_wait(seen: Raw) -> bool:
    return seen.status == 429 and not {"retry-after", "x-ms-retry-after-ms"} & set(seen.headers)


def _invalid_utf8(seen: Raw, whole: Raw) -> bool:
    with pytest.raises(UnicodeDecodeError):
        seen.body.decode()
    return seen.status == 200 and len(json.loads(seen.body.decode("utf-8", "replace"))) > 0


def _first(raw: Raw) -> dict[str, Any]:
    """What holds columns and rows."""
    value = raw.json()
    found: dict[str, Any] = value["tables"][0] if "tables" in value else value
    return found


def _rows_are(expected: Any) -> Callable[[Raw, Raw], bool]:
    def seen_rows(seen: Raw, whole: Raw) -> bool:
        found = _first(seen)
        sent = found["results" if "results" in found else "rows"]
        return type(sent) is type(expected) and bool(sent == expected)

    return seen_rows


def _names(raw: Raw) -> list[str]:
    found = _first(raw)
    return [column["name"] for column in found["schema" if "schema" in found else "columns"]]


def _with(member: str) -> Callable[[Raw, Raw], bool]:
    def seen_member(seen: Raw, whole: Raw) -> bool:
        value = seen.json()
        return bool(value.pop(member)) and value == whole.json()

    return seen_member


def _tables(raw: Raw) -> list[tuple[str, int]]:
    return [(one["name"], len(one["rows"])) for one in raw.json()["tables"]]


SEEN: dict[str, Callable[[Raw, Raw], bool]] = {
    "syntax-error": _status(400),
    "semantic-error": lambda seen, whole: seen.status == 400 and b"Nonesuch" in seen.body,
    "unauthorized": _status(401),
    "token-expired": _status(401),
    "forbidden": _status(403),
    "not-found": _status(404),
    "request-timeout": _status(408),
    "throttled": _waits_ten,
    "throttled-date": _waits_until,
    "throttled-milliseconds": lambda seen, whole: (
        seen.status == 429 and seen.headers["x-ms-retry-after-ms"] == "10000"),
    "throttled-bare": lambda seen, whole: _no_hint_of_a_wait(seen),
    "throttled-in-words": lambda seen, whole: (
        _no_hint_of_a_wait(seen) and b"again in 10 seconds" in seen.body),
    "server-error": _status(500),
    "bad-gateway": lambda seen, whole: seen.status == 502 and b"<html>" in seen.body,
    "unavailable": _status(503),
    "gateway-timeout": _status(504),
    "refused": lambda seen, whole: seen.status is None and seen.ended == "reset",
    "reset-before": lambda seen, whole: seen.status is None and seen.ended == "reset",
    "reset-during": _cut("reset"),
    "cut-body": _cut("closed"),
    "slow-drip": lambda seen, whole: seen.body == whole.body,
    "length-too-long": lambda seen, whole: (
        seen.body == whole.body and declared(seen) > len(whole.body)),
    "length-too-short": lambda seen, whole: (
        seen.body == whole.body and declared(seen) < len(whole.body)),
    "empty-body": lambda seen, whole: seen.status == 200 and seen.body == b"",
    "no-content": lambda seen, whole: seen.status == 204 and seen.body == b"",
    "partial": lambda seen, whole: (
        error_code(seen) == "PartialError" and rows(seen) == rows(whole)[:20]),
    "truncated": lambda seen, whole: (
        len(rows(seen)) == ROW_LIMIT and "error" not in seen.json()),
    "wrong-workspace": lambda seen, whole: (
        [row[:3] for row in rows(seen)] == [row[:3] for row in rows(whole)]
        and {row[3] for row in rows(seen)} == {OTHER_WORKSPACE}),
    "invalid-utf8": _invalid_utf8,
    "large-body": lambda seen, whole: (
        len(seen.body) > 59_000_000 and rows(seen) == rows(whole)),
    "no-source-rows": lambda seen, whole: seen.status == 200 and rows(seen) == [],
    "aged-out": lambda seen, whole: rows(seen) == rows(whole)[5 * 4 :],
    "connector-stopped": lambda seen, whole: (
        len(rows(seen)) > 0 and rows(seen) == rows(whole)[: len(rows(seen))]),
    "second-table": lambda seen, whole: (
        _tables(seen) == [("PrimaryResult", 0), ("SecondaryResult", 40)]),
    "same-table-twice": lambda seen, whole: _tables(seen) == [("PrimaryResult", 40)] * 2,
    "no-table": lambda seen, whole: _tables(seen) == [],
    "rows-null": _rows_are(None),
    "rows-object": _rows_are({}),
    "rows-text": _rows_are(""),
    "rows-false": _rows_are(False),
    "no-columns": lambda seen, whole: _names(seen) == [] and rows(seen) == [],
    "other-columns": lambda seen, whole: (
        _names(seen) == [f"Other{n}" for n in range(4)] and rows(seen) == rows(whole)),
    "twin-columns": lambda seen, whole: len(set(_names(seen))) == 3,
    "short-rows": lambda seen, whole: [*map(len, rows(seen))] == [3] * 40,
    "long-rows": lambda seen, whole: [*map(len, rows(seen))] == [5] * 40,
    "negative-numbers": lambda seen, whole: seen.status == 200,
    "text-numbers": lambda seen, whole: seen.status == 200,
    "next-link": _with("@odata.nextLink"),
    "next-link-plain": _with("nextLink"),
    "error-capital": _with("Error"),
    "error-list": _with("errors"),
    "warnings": _with("warnings"),
    "unknown-member": _with("novelty"),
    "clock-skew": lambda seen, whole: seen.body == whole.body and (
        email.utils.parsedate_to_datetime(seen.headers["date"])
        - email.utils.parsedate_to_datetime(whole.headers["date"])).total_seconds() >= 900,
}  # fmt: skip


def test_every_fault_is_looked_at() -> None:
    assert set(SEEN) == set(QUERY_FAULTS)


@pytest.mark.parametrize(("name", "service"), MET)
def test_the_scripted_call_meets_the_fault_and_its_neighbours_do_not(
    emulator: Emulator, clock: SkippingClock, name: str, service: str
) -> None:
    before = ask(emulator, service, name)
    during = ask(emulator, service, name)
    clock.skip(60)
    after = ask(emulator, service, name)
    assert SEEN[name](during, before)
    if name != "truncated" or service == "hunting":
        assert before.status == after.status == 200
        assert before.ended == after.ended == "closed"
        assert before.body == after.body
    if name != "truncated":
        assert len(rows(before)) == 40


def test_a_service_that_went_down_refuses_connections_until_its_time_is_over(
    emulator: Emulator, clock: SkippingClock, events: str
) -> None:
    tenant = tenant_of("down", events, faults=(FaultRule(fault="refused", calls=1, seconds=30),))
    with Emulator(scenario_of(tenant), clock=clock) as served:
        ends = [ask(served, "query", "down").ended]
        for _ in range(3):
            ends.append(ask(served, "query", "down").ended)
            clock.skip(10)
        ends.append(ask(served, "query", "down").ended)
    assert ends == ["reset", "refused", "refused", "refused", "closed"]


def test_an_expired_token_stays_expired_and_a_new_one_is_let_in(
    emulator: Emulator, events: str
) -> None:
    tenant = tenant_of("expiry", events, faults=(FaultRule(fault="token-expired", calls=2),))
    with Emulator(scenario_of(tenant)) as served:
        old = token(served, tenant.id, LOG_ANALYTICS)
        seen = [ask(served, "query", "expiry", old).status for _ in range(4)]
        seen.append(ask(served, "query", "expiry").status)
    assert seen == [200, 401, 401, 401, 200]


def test_a_token_expires_by_itself(events: str, clock: SkippingClock) -> None:
    tenant = tenant_of("life", events)
    with Emulator(scenario_of(tenant, token_seconds=600), clock=clock) as served:
        bearer = token(served, tenant.id, LOG_ANALYTICS)
        seen = [ask(served, "query", "life", bearer).status]
        clock.skip(601)
        seen.append(ask(served, "query", "life", bearer).status)
    assert seen == [200, 401]


def test_the_throttle_lets_so_many_in_and_says_when_the_next(
    events: str, clock: SkippingClock
) -> None:
    from qakhunt.testing.emulator.scenario import Throttle

    tenant = tenant_of("busy", events, throttle=Throttle(calls=3, seconds=60))
    with Emulator(scenario_of(tenant), clock=clock) as served:
        seen = [ask(served, "query", "busy") for _ in range(4)]
        assert [raw.status for raw in seen] == [200, 200, 200, 429]
        clock.skip(float(seen[-1].headers["retry-after"]))
        assert ask(served, "query", "busy").status == 200


def test_a_slow_tenant_answers_late_and_beyond_its_limit_not_at_all(
    events: str, clock: SkippingClock
) -> None:
    slow = tenant_of("slow", events, latency=3)
    stuck = tenant_of("stuck", events, latency=300, limits=Limits(seconds=180))
    with Emulator(scenario_of(slow, stuck), clock=clock) as served:
        for name, seconds, status in (("slow", 3, 200), ("stuck", 180, 504)):
            before = clock.time()
            assert ask(served, "query", name).status == status
            assert clock.time() - before == pytest.approx(seconds)


def test_faults_of_one_workspace_do_not_touch_the_other(events: str) -> None:
    from qakhunt.testing.emulator.scenario import Tenant, Workspace

    one, other = guid("workspace", "one"), guid("workspace", "other")
    tenant = Tenant(
        id=guid("tenant", "one"), events=(events,),
        workspaces=(Workspace(id=one), Workspace(id=other)),
        faults=(FaultRule(fault="forbidden", workspace=other, calls=(2, "4-")),),
    )  # fmt: skip
    with Emulator(scenario_of(tenant, now=NOW)) as served:
        seen: dict[str, list[int | None]] = {one: [], other: []}
        for _ in range(5):
            for workspace, statuses in seen.items():
                body = {"query": "DeviceProcessEvents | count"}
                bearer = token(served, tenant.id, LOG_ANALYTICS)
                path = f"/v1/workspaces/{workspace}/query"
                statuses.append(raw_post(served, path, body, bearer).status)
    assert seen == {one: [200] * 5, other: [200, 403, 200, 403, 403]}
