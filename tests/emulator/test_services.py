"""What the two query services accept, answer and limit, when nothing is scripted."""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import replace
from decimal import Decimal
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from qakhunt.answers import wire_log_analytics
from qakhunt.answers.ledger import Status, Target
from qakhunt.answers.response import decode_error
from qakhunt.backends import profile as profiles
from qakhunt.backends.base import Question
from qakhunt.hunts.catalog import Catalog
from qakhunt.hunts.render import render
from qakhunt.kql.values import TICK, Instant, Window
from qakhunt.run.execution import execute
from qakhunt.run.live import targets_of
from qakhunt.run.plan import PlanLine
from qakhunt.testing.emulator import app
from qakhunt.testing.emulator.clock import SkippingClock
from qakhunt.testing.emulator.scenario import Limits, Tenant, Workspace, single_tenant
from qakhunt.testing.emulator.server import Emulator
from qakhunt.testing.emulator.timespan import ALL_TIME, NO_TIME, parse_timespan
from tests.emulator.live import EmulatedBackends, profile_for
from tests.emulator.support import (
    GRAPH,
    LOG_ANALYTICS,
    Raw,
    fetch,
    guid,
    process_events,
    raw_post,
    scenario_of,
    tenant_of,
    token,
    write_events,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOW = "2026-11-05T00:00:00Z"
COUNT = "DeviceProcessEvents | count"
HUNTING = "/v1.0/security/runHuntingQuery"


@pytest.fixture(scope="module")
def emulator(events: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    folder: Path = tmp_path_factory.mktemp("other")
    few = write_events(folder / "DeviceProcessEvents.ndjson", process_events(20, 1))
    two = Tenant(
        id=guid("tenant", "two"), events=(events,),
        workspaces=(
            Workspace(id=guid("workspace", "two")),
            Workspace(id=guid("workspace", "few"), events=(few,)),
            Workspace(id=guid("workspace", "closed"), events=(few,), readable=False),
        ),
    )  # fmt: skip
    tenants = [
        tenant_of("plain", events),
        two,
        tenant_of("rows", events, limits=Limits(rows=7)),
        tenant_of("bytes", events, limits=Limits(bytes=3000)),
        tenant_of("seconds", events, limits=Limits(seconds=0.001)),
    ]
    with Emulator(scenario_of(*tenants, now=NOW)) as served:
        yield served


def logs(emulator: Emulator, name: str, query: str = COUNT, **body: Any) -> Raw:
    bearer = token(emulator, guid("tenant", name), LOG_ANALYTICS)
    path = f"/v1/workspaces/{guid('workspace', name)}/query"
    return raw_post(emulator, path, {"query": query, **body}, bearer)


def hunting(emulator: Emulator, name: str, query: str = COUNT, **body: Any) -> Raw:
    bearer = token(emulator, guid("tenant", name), GRAPH)
    return raw_post(emulator, HUNTING, {"Query": query, **body}, bearer)


def first_cell(raw: Raw) -> Any:
    value = raw.json()
    return value["tables"][0]["rows"][0][0] if "tables" in value else value["results"][0]["Count"]


def rows(raw: Raw) -> int:
    value = raw.json()
    return len(value["tables"][0]["rows"] if "tables" in value else value["results"])


SPANS = [
    ("P1D", "2026-11-04", "2026-11-05"),
    ("pt36h", "2026-11-03T12:00:00Z", "2026-11-05"),
    ("2026-10-01/2026-10-02T01:00:00Z", "2026-10-01", "2026-10-02T01:00:00Z"),
    ("2026-10-01/P1D", "2026-10-01", "2026-10-02"),
    ("P1W/2026-10-08", "2026-10-01", "2026-10-08"),
    ("P1M/2026-10-31", "2026-09-30", "2026-10-31"),
    ("2026-10-01T02:00:00+02:00/2026-10-01T00:00:00.0000001Z", "2026-10-01",
     "2026-10-01T00:00:00.0000001Z"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "start", "end"), SPANS)
def test_time_spans_are_durations_and_intervals(text: str, start: str, end: str) -> None:
    window = parse_timespan(text, Instant.parse(NOW))
    assert (window.start, window.last_tick) == (Instant.parse(start), Instant.parse(end))


def test_no_time_span_is_all_time_and_a_backward_one_is_none() -> None:
    assert parse_timespan(None, Instant.parse(NOW)) == ALL_TIME
    assert parse_timespan("2026-10-02/2026-10-01", Instant.parse(NOW)) == NO_TIME
    assert parse_timespan("P9999Y", Instant.parse(NOW)).start == ALL_TIME.start


@pytest.mark.parametrize("text", ["yesterday", "P", "1D", "2026-10-01/", "/", "P1D/P1D"])
def test_a_time_span_that_is_none_is_rejected(emulator: Emulator, text: str) -> None:
    assert logs(emulator, "plain", timespan=text).status == 400
    assert hunting(emulator, "plain", Timespan=text).status == 400


# The engine keeps microseconds: the record of 08:00:00.1234567 stands at .123456.
FIRST, LAST = "2026-10-01T08:00:00.123456Z", "2026-10-02T08:00:00.123456Z"


def test_a_time_span_holds_its_start_and_its_end(emulator: Emulator) -> None:
    assert first_cell(logs(emulator, "plain", timespan=f"{FIRST}/{LAST}")) == 5
    assert first_cell(hunting(emulator, "plain", Timespan=f"{FIRST}/{LAST}")) == 5
    assert first_cell(logs(emulator, "plain", timespan=f"{FIRST}/{FIRST}")) == 1


@pytest.mark.parametrize("includes_end", [True, False])
def test_a_window_is_half_open_whether_or_not_the_service_includes_the_end(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, includes_end: bool
) -> None:
    if not includes_end:
        monkeypatch.setattr(
            "qakhunt.testing.emulator.queries.parse_timespan",
            lambda *told: (w := parse_timespan(*told)) and Window(w.start, w.last_tick),
        )
    days = [Instant.parse(FIRST), Instant.parse(LAST), Instant.parse(LAST.replace("02T", "03T"))]
    for start, end in pairwise(days):
        span = Question(COUNT, Window(start, end), Target("p")).timespan
        assert span == f"{start.isoformat()}/{(end - TICK).isoformat()}"
        assert first_cell(logs(emulator, "plain", timespan=span)) == 4
        assert first_cell(hunting(emulator, "plain", Timespan=span)) == 4


def test_advanced_hunting_looks_30_days_back_unless_told(emulator: Emulator) -> None:
    assert first_cell(hunting(emulator, "plain")) == 20  # 6 to 10 October
    assert first_cell(hunting(emulator, "plain", Timespan="P90D")) == 40
    assert first_cell(logs(emulator, "plain")) == 40


def test_a_workspace_that_may_not_be_read_falls_back_without_a_word(emulator: Emulator) -> None:
    seen = {
        name: first_cell(
            hunting(emulator, "two", Timespan="P90D", workspaceId=guid("workspace", name))
        )
        for name in ("few", "closed", "plain")
    }
    assert seen == {"few": 20, "closed": 40, "plain": 40}


@pytest.mark.parametrize(
    ("query", "place"),
    [
        ("DeviceProcessEvents\n| wher X == 1", (2, 1)),
        ("DeviceProcessEvents\n| where Nope == 1", (2, 9)),
    ],
)
def test_a_rejection_carries_its_place(
    emulator: Emulator, query: str, place: tuple[int, int]
) -> None:
    answer = logs(emulator, "plain", query)
    error = decode_error(answer.body)
    assert answer.status == 400
    assert error is not None
    assert error.codes[0] == "BadArgumentError"
    assert error.query_place == place
    assert hunting(emulator, "plain", query).status == 400


def test_the_row_limit_is_told_by_one_service_only(emulator: Emulator) -> None:
    answer = logs(emulator, "rows", "DeviceProcessEvents")
    assert rows(answer) == 7
    assert answer.json()["error"]["code"] == "PartialError"
    answer = hunting(emulator, "rows", "DeviceProcessEvents", Timespan="P90D")
    assert rows(answer) == 7
    assert "error" not in answer.json()


def test_the_byte_limit(emulator: Emulator) -> None:
    answer = logs(emulator, "bytes", "DeviceProcessEvents | project ProcessCommandLine, DeviceId")
    assert 0 < rows(answer) < 40
    assert b"3000 bytes" in answer.body
    answer = hunting(emulator, "bytes", "DeviceProcessEvents", Timespan="P90D")
    assert answer.status == 400
    assert b"result size" in answer.body


def test_the_time_limit_is_the_engine_s_too(emulator: Emulator) -> None:
    slow = "range x from 1 to 3000000 step 1 | summarize sum(x * x % 7) by x % 100000"
    assert logs(emulator, "seconds", slow).status == 504
    assert hunting(emulator, "seconds", slow).status == 504


def test_the_parts_of_a_hash_make_the_whole(emulator: Emulator) -> None:
    text = "DeviceProcessEvents | where hash(DeviceName, 3) == {} | count"
    assert sum(first_cell(logs(emulator, "plain", text.format(k))) for k in range(3)) == 40


def test_a_request_without_a_query(emulator: Emulator) -> None:
    answer = logs(emulator, "plain", "")
    assert (answer.status, answer.body) == (200, b"")
    assert hunting(emulator, "plain", "").status == 400


def test_several_workspaces_are_refused_in_words(emulator: Emulator) -> None:
    answer = logs(emulator, "plain", workspaces=[guid("workspace", "two")])
    assert answer.status == 400
    assert b"one workspace" in answer.body


def test_only_tokens_for_the_service_are_let_in(emulator: Emulator) -> None:
    tenant, path = guid("tenant", "plain"), f"/v1/workspaces/{guid('workspace', 'plain')}/query"
    for bearer, status in (
        ("", 401),
        ("foreign", 401),
        (token(emulator, tenant, GRAPH), 401),
        (token(emulator, guid("tenant", "two"), LOG_ANALYTICS), 403),
        (token(emulator, tenant, LOG_ANALYTICS), 200),
        (token(emulator, tenant, emulator.url), 200),
    ):
        assert raw_post(emulator, path, {"query": COUNT}, bearer).status == status
    no_role = token(emulator, tenant, GRAPH, roles=[])
    assert raw_post(emulator, HUNTING, {"Query": COUNT}, no_role).status == 403
    by_person = token(emulator, tenant, GRAPH, roles=[], scp="ThreatHunting.Read.All")
    assert raw_post(emulator, HUNTING, {"Query": COUNT}, by_person).status == 200


def test_any_token_is_let_in_where_there_is_no_scenario_but_none_is_not(events: str) -> None:
    with Emulator(single_tenant([events])) as served:
        (workspace,) = served.ready_line()["workspaces"]
        path = f"/v1/workspaces/{workspace}/query"
        assert first_cell(raw_post(served, path, {"query": COUNT}, "any")) == 40
        assert raw_post(served, HUNTING, {"Query": COUNT}, "any").status == 200
        assert raw_post(served, path, {"query": COUNT}, "").status == 401


def test_what_is_not_served_is_not_found(emulator: Emulator) -> None:
    assert fetch(emulator, "/v1/nothing/here", authorization="Bearer x")[0] == 404


# As the services answer


@pytest.mark.parametrize(
    ("query", "what", "operator", "name"),
    [
        ("Nonesuch | take 1", "table or column", "take", "Nonesuch"),
        ("DeviceProcessEvents\n| where Nope == 1", "column or scalar", "where", "Nope"),
        ("DeviceProcessEvents | join (Gone) on DeviceId", "table or column", "join", "Gone"),
    ],
)
def test_an_unknown_name_is_refused_in_the_services_words(
    emulator: Emulator, query: str, what: str, operator: str, name: str
) -> None:
    words = f"Failed to resolve {what} expression named '{name}'"
    refused = logs(emulator, "plain", query)
    inner = refused.json()["error"]["innererror"]["innererror"]
    assert (inner["code"], inner["message"]) == ("SEM0100", f"'{operator}' operator: {words}")
    assert hunting(emulator, "plain", query).json()["error"]["message"].startswith(words)


def test_every_answer_has_the_services_own_request_id(emulator: Emulator) -> None:
    for ask, header in ((logs, "x-ms-request-id"), (hunting, "request-id")):
        ids = [ask(emulator, "plain", query).headers[header] for query in (COUNT, COUNT, "|")]
        assert len(set(ids)) == 3
    refused = logs(emulator, "plain", "|")
    assert refused.headers["x-ms-request-id"] == refused.json()["error"]["correlationId"]


def test_decimals_and_null_dynamics_are_typed_as_the_engine_types_them(emulator: Emulator) -> None:
    answer = logs(emulator, "plain", "print a = decimal(1.50), b = dynamic(null), c = dynamic([])")
    (table,) = answer.json()["tables"]
    assert [column["type"] for column in table["columns"]] == ["decimal", "dynamic", "dynamic"]
    assert table["rows"] == [["1.5", "", "[]"]]
    found = wire_log_analytics.decode(answer.body).table
    assert found.rows == [(Decimal("1.5"), None, [])]


def test_the_metadata_of_a_workspace_names_tables_and_columns(emulator: Emulator) -> None:
    path = f"/v1/workspaces/{guid('workspace', 'plain')}/metadata"
    assert fetch(emulator, path)[0] == 401
    bearer = f"Bearer {token(emulator, guid('tenant', 'plain'), LOG_ANALYTICS)}"
    found = json.loads(fetch(emulator, path, authorization=bearer)[2])
    by_name = {table["name"]: table for table in found["tables"]}
    assert by_name["DeviceProcessEvents"]["hasData"]
    assert {"name": "ProcessCommandLine", "type": "string"} in by_name["DeviceProcessEvents"][
        "columns"
    ]
    assert not by_name["SecurityEvent"]["hasData"]


@pytest.mark.parametrize(("service", "most", "seconds"), [(logs, 200, 30), (hunting, 45, 60)])
def test_the_documented_rates_hold_unless_they_are_left_out(
    events: str, service: Any, most: int, seconds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SkippingClock(Instant.parse(NOW).to_datetime().timestamp())
    scenario = scenario_of(tenant_of("plain", events), tenant_of("other", events), now=NOW)
    with Emulator(scenario, clock=clock, limits=True) as served:
        issue = served.emulation.issuer.issue
        monkeypatch.setattr(served.emulation.issuer, "issue", partial(issue, appid="one app"))
        asked = [service(served, "plain", "print 1") for _ in range(most + 1)]
        assert [answer.status for answer in asked] == [200] * most + [429]
        assert 0 < int(asked[-1].headers["retry-after"]) <= seconds
        # An identity is throttled across tenants, a tenant is throttled alone.
        other = 429 if service is logs else 200
        assert service(served, "other", "print 1").status == other
        clock.skip(seconds)
        assert service(served, "plain", "print 1").status == 200


def test_a_queue_lets_so_many_run_and_refuses_who_waits_too_long_or_finds_it_full(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = SkippingClock(0.0)
    monkeypatch.setattr(app, "MOST_QUEUED", 5)

    async def query(queue: app.Queue, said: list[float | None]) -> None:
        async with queue.turn() as waited:
            said.append(waited)
            await asyncio.sleep(0)
            if waited is not None:
                await clock.sleep(50.0)

    async def all_at_once() -> list[float | None]:
        queue, said = app.Queue(clock, 2), list[float | None]()
        await asyncio.gather(*(query(queue, said) for _ in range(8)))
        await query(queue, said)
        return said

    first, second, full, *others, last = asyncio.run(all_at_once())
    assert (first, second, full, last) == (0.0, 0.0, None, 0.0)
    assert [one is None for one in others] == [False, False, True, True, True]


def test_a_run_over_many_workspaces_keeps_within_what_the_service_runs_at_once(
    events: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = Instant.parse(NOW)
    clock = SkippingClock(moment.to_datetime().timestamp())
    guids = [guid("workspace", f"many-{number}") for number in range(12)]
    tenant = Tenant(
        id=guid("tenant", "many"), events=(events,), latency=20.0,
        workspaces=tuple(Workspace(id=one) for one in guids),
    )  # fmt: skip
    with Emulator(scenario_of(tenant, now=NOW), clock=clock, limits=True) as served:
        together, answer = threading.Barrier(5), served.emulation.queries.answer

        def with_four_others(*arguments: Any) -> Any:
            if len(served.calls) <= 5:
                together.wait(30)
            return answer(*arguments)

        monkeypatch.setattr(served.emulation.queries, "answer", with_four_others)
        settings = profile_for(served, "log-analytics", tenant.id, guids[0])
        profile = msgspec.structs.replace(
            settings.profile, workspaces=guids, limits=profiles.Limits()
        )
        settings = replace(settings, profile=profile)
        hunt = Catalog().find("qakbot-post-compromise-commands")[0]
        rendered = render(hunt, now=moment, window="30d")
        live = EmulatedBackends(served, clock, moment)
        try:
            backend = live.open(settings)
            result = execute([PlanLine(rendered, backend, to) for to in targets_of(settings)])
        finally:
            live.close()
        assert Status.FAILED not in {line.status for line in result.ledger.lines}
        asked = [call for call in served.calls if call.path == "query"]
        assert len(asked) >= 12
        assert {(call.status, call.queued) for call in asked} == {(200, 0.0)}
