"""Kusto on loopback: the vendor's client, the lake's language and limits, the whole program."""

from __future__ import annotations

import datetime as dt
import json
import socket
import subprocess
import sys
import threading
from base64 import b64decode
from concurrent.futures import ThreadPoolExecutor
from gzip import decompress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from qakhunt.answers.ledger import Status, Target
from qakhunt.backends.base import Question
from qakhunt.backends.local import LocalBackend
from qakhunt.backends.profile import Limits as ProfileLimits
from qakhunt.backends.profile import Profile
from qakhunt.hunts.loading import load_hunt
from qakhunt.hunts.render import render
from qakhunt.kql.values import Instant
from qakhunt.run.execution import execute
from qakhunt.run.live import LiveBackends, targets_of
from qakhunt.run.plan import PlanLine
from qakhunt.run.settings import ProfileSettings
from qakhunt.run.slicing.strategies import read_slices
from qakhunt.testing.emulator.clock import SkippingClock
from qakhunt.testing.emulator.kusto import LAKE_AUDIENCE
from qakhunt.testing.emulator.scenario import FaultRule, Limits, Throttle
from qakhunt.testing.emulator.server import Emulator
from tests.emulator.live import EmulatedBackends
from tests.emulator.support import guid, raw_post, scenario_of, tenant_of, token, write_events
from tests.support.cli import qakhunt

if TYPE_CHECKING:
    from collections.abc import Iterator

NOW = "2026-11-01T00:00:00Z"
CLUSTER = "https://kusto.kusto.windows.net"
HOME = guid("workspace", "home")
DATABASE = f"home-{HOME}"
COUNT = "DeviceProcessEvents | summarize Total = count(), First = min(TimeGenerated)"


@pytest.fixture(scope="module")
def emulator(events: str) -> Iterator[Emulator]:
    tenants = [
        tenant_of("home", events),
        tenant_of("other", events),
        tenant_of("small", events, limits=Limits(rows=7)),
        tenant_of("slow", events, latency=2.0),
    ]
    with Emulator(scenario_of(*tenants, now=NOW)) as served:
        yield served


def post(
    emulator: Emulator, path: str, text: str, properties: Any = None, name: str = "home",
    audience: str = CLUSTER,
) -> tuple[int | None, Any]:  # fmt: skip
    bearer = token(emulator, guid("tenant", name), audience)
    body = {"csl": text, "db": f"{name}-{guid('workspace', name)}", "properties": properties}
    answer = raw_post(emulator, path, body, bearer)
    return answer.status, answer.json()


def lake(
    emulator: Emulator, text: str, name: str = "home", properties: Any = None
) -> tuple[int | None, Any]:
    return post(emulator, "/lake/kql/v2/rest/query", text, properties, name, LAKE_AUDIENCE)


def rows(answer: Any) -> Any:
    return next(frame["Rows"] for frame in answer if frame.get("TableKind") == "PrimaryResult")


# The vendor's client


@pytest.fixture
def client(emulator: Emulator) -> Iterator[Any]:
    data = pytest.importorskip("azure.kusto.data", reason="the vendor's client is a test extra")
    builder = data.KustoConnectionStringBuilder.with_no_authentication(emulator.url)
    with data.KustoClient(builder) as made:
        bearer = token(emulator, guid("tenant", "home"), CLUSTER)
        made._session.headers["Authorization"] = f"Bearer {bearer}"
        yield made


def test_the_vendors_client_reads_a_result(client: Any) -> None:
    found = client.execute(DATABASE, COUNT).primary_results
    assert len(found) == 1
    (row,) = found[0]
    assert row["Total"] == 40
    assert row["First"].isoformat() == "2026-10-01T08:00:00.123456+00:00"


def test_the_vendors_client_sends_a_time_scope_and_a_limit_as_text(
    client: Any, emulator: Emulator
) -> None:
    from azure.kusto.data import ClientRequestProperties

    properties = cast("Any", ClientRequestProperties)()
    properties.set_option("servertimeout", dt.timedelta(minutes=4))
    assert '"servertimeout": "0:04:00"' in properties.to_json()
    properties.set_option("query_datetimescope_column", "TimeGenerated")
    properties.set_option("query_datetimescope_from", "2026-10-02T00:00:00Z")
    properties.set_option("query_datetimescope_to", "2026-10-03T23:59:59.9999999Z")
    (row,) = client.execute(DATABASE, COUNT, properties).primary_results[0]
    assert row["Total"] == 8


def test_the_vendors_client_reads_commands_errors_and_a_cut_result(
    client: Any, emulator: Emulator
) -> None:
    from azure.kusto.data.exceptions import KustoServiceError

    names = [row["DatabaseName"] for row in client.execute_mgmt(DATABASE, ".show databases")
             .primary_results[0]]  # fmt: skip
    assert names == ["default", DATABASE]
    (version,) = client.execute_mgmt(DATABASE, ".show version").primary_results[0]
    assert version["ServiceType"] == "qakhunt emulator"
    with pytest.raises(KustoServiceError, match="Nonesuch"):
        client.execute(DATABASE, "DeviceProcessEvents | where Nonesuch == 1")
    bearer = token(emulator, guid("tenant", "small"), CLUSTER)
    client._session.headers["Authorization"] = f"Bearer {bearer}"
    with pytest.raises(KustoServiceError, match="E_QUERY_RESULT_SET_TOO_LARGE"):
        client.execute(f"small-{guid('workspace', 'small')}", "DeviceProcessEvents")


def test_the_vendors_client_learns_where_to_sign_in(client: Any, emulator: Emulator) -> None:
    from azure.kusto.data._cloud_settings import CloudSettings

    found = CloudSettings.get_cloud_info_for_cluster(emulator.url)
    assert found.login_endpoint == emulator.url
    assert found.kusto_service_resource_id == CLUSTER


# The wire


SCOPE = {
    "query_datetimescope_column": "TimeGenerated",
    "query_datetimescope_from": "2026-10-02T00:00:00Z",
    "query_datetimescope_to": "2026-10-02T23:59:59.9999999Z",
}


@pytest.mark.parametrize("servertimeout", ["0:04:00", "00:04:00", "00:00:30"])
@pytest.mark.parametrize("as_text", [True, False])
def test_properties_are_text_or_an_object(
    emulator: Emulator, servertimeout: str, as_text: bool
) -> None:
    properties: Any = {"Options": {"servertimeout": servertimeout, **SCOPE}}
    given = json.dumps(properties) if as_text else properties
    status, answer = post(emulator, "/v2/rest/query", COUNT, given)
    assert (status, rows(answer)[0][0]) == (200, 4)
    assert lake(emulator, COUNT, properties=given)[1][2]["Rows"][0][0] == 4


def test_the_first_version_has_tables(emulator: Emulator) -> None:
    status, answer = post(emulator, "/v1/rest/query", COUNT)
    assert status == 200
    (table,) = answer["Tables"]
    assert [column["DataType"] for column in table["Columns"]] == ["Int64", "DateTime"]
    assert table["Rows"][0][0] == 40
    assert post(emulator, "/v1/rest/query", "DeviceProcessEvents", name="small")[0] == 400


def test_a_database_is_read_by_who_may_and_by_name(emulator: Emulator) -> None:
    path = "/v2/rest/query"
    bearer = token(emulator, guid("tenant", "other"), CLUSTER)
    body = {"csl": COUNT, "db": DATABASE}
    assert raw_post(emulator, path, body, bearer).status == 403
    assert raw_post(emulator, path, {**body, "db": "nothing"}, bearer).status == 404
    wrong = token(emulator, guid("tenant", "home"), "https://api.loganalytics.io")
    assert raw_post(emulator, path, body, wrong).status == 401
    right = token(emulator, guid("tenant", "home"), CLUSTER)
    assert raw_post(emulator, path, body, right).status == 200
    assert raw_post(emulator, "/lake/kql/v2/rest/query", body, right).status == 401


@pytest.mark.parametrize(
    "text",
    [
        "DeviceFileEvents | count",
        "externaldata(a: string) ['https://host.example/x.csv']",
        "DeviceProcessEvents | where ingestion_time() > ago(1d)",
        "MySavedFunction() | count",
        "DeviceProcessEvents | extend size = estimate_data_size(FileName)",
    ],
)
def test_the_lake_refuses_what_it_lacks_and_knows_no_empty_table(
    emulator: Emulator, text: str
) -> None:
    status, answer = lake(emulator, text)
    assert status == 400
    assert answer["error"]["@message"].startswith("Semantic error: ")


def test_a_cluster_knows_empty_and_external_tables(emulator: Emulator) -> None:
    assert rows(post(emulator, "/v2/rest/query", "DeviceFileEvents | count")[1]) == [[0]]
    text = 'external_table("DeviceProcessEvents") | count'
    assert rows(post(emulator, "/v2/rest/query", text)[1]) == [[40]]


def test_the_lake_runs_ten_queries_of_a_tenant_at_once_and_rejects_more(
    emulator: Emulator,
) -> None:
    begin = threading.Barrier(14)

    def ask(_number: int) -> tuple[int | None, Any]:
        begin.wait(30)
        return lake(emulator, COUNT, name="slow")

    with ThreadPoolExecutor(14) as pool:
        found = list(pool.map(ask, range(14)))
    statuses = sorted(status or 0 for status, _ in found)
    assert statuses == [200] * 10 + [429] * 4
    words = next(answer for status, answer in found if status == 429)["error"]["@message"]
    assert "retry after " in words
    assert words.endswith(" UTC")


# Another server of the protocol


@pytest.fixture(scope="module")
def served_by_duckdb(events: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of ``duckdb-kql serve`` over the same events."""
    script = tmp_path_factory.mktemp("serve") / "init.sql"
    script.write_text(
        "CREATE TABLE DeviceProcessEvents AS SELECT CAST(TimeGenerated AS TIMESTAMP) AS "
        "TimeGenerated, DeviceName, DeviceId, FileName, ProcessCommandLine "
        f"FROM read_json('{events}', columns={{TimeGenerated: 'VARCHAR', DeviceName: 'VARCHAR', "
        "DeviceId: 'VARCHAR', FileName: 'VARCHAR', ProcessCommandLine: 'VARCHAR'})"
    )
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    program = Path(sys.executable).with_name("duckdb-kql")
    process = subprocess.Popen(
        [program, "serve", "--init", script, "-p", str(port)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if f"http://127.0.0.1:{port}" in line:
                break
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.communicate(timeout=20)


WHO = """
name: Who asks
qakhunt:
  window: {start: StartTime, end: EndTime}
query: |
  let StartTime = ago(30d);
  let EndTime = now();
  DeviceProcessEvents
  | where TimeGenerated >= StartTime and TimeGenerated < EndTime
  | where FileName == "whoami.exe"
  | summarize Total = count(), FirstSeen = min(TimeGenerated), Distinct = dcount(DeviceId),
      Commands = make_set(ProcessCommandLine) by DeviceName
  | extend Commands = array_sort_asc(Commands), Share = Total / 7.0, Many = Total > 7
  | order by DeviceName asc
"""


def test_another_server_of_the_protocol_gives_what_the_engine_gives(
    served_by_duckdb: str, events: str, tmp_path: Path
) -> None:
    path = tmp_path / "who.yaml"
    path.write_text(WHO, encoding="utf-8")
    now = Instant.parse(NOW)
    rendered = render(load_hunt(path), now=now, window="2026-10-01/2026-10-08")
    profile = Profile(
        backend="kusto", tenant=HOME, cluster=served_by_duckdb, database="memory", sign_in="none"
    )
    live = LiveBackends(now, cache=None)
    local = LocalBackend([events], now=now)
    try:
        found = []
        for backend in (live.open(ProfileSettings("duckdb", profile, {})), local):
            target = Target("duckdb", HOME)
            answer = backend.ask(Question(rendered.text, rendered.window, target))
            assert (answer.status, answer.detail) == (Status.COMPLETE, "")
            assert answer.table is not None
            kinds = [(one.name, one.kql_type) for one in answer.table.columns]
            cells = [
                [one.floor_microsecond() if isinstance(one, Instant) else one for one in row]
                for row in answer.table.rows
            ]
            found.append((kinds, cells))
    finally:
        live.close()
        local.close()
    assert found[0] == found[1]
    assert [row[1] for row in found[0][1]] == [7] * 4


# A year under the lake's limits


YEAR = "2025-11-01/2026-11-01"
YEARLY = """
let StartTime = ago(365d);
DeviceProcessEvents
| where TimeGenerated >= StartTime and FileName == "whoami.exe"
| summarize Count = count(), FirstSeen = min(TimeGenerated) by DeviceName
| summarize Devices = count(), Events = sum(Count)
"""
DEVICES = 3


def year_of_events() -> list[dict[str, Any]]:
    start = Instant.parse("2025-11-01").to_datetime()
    day = start.resolution * 86_400_000_000
    return [
        {
            "TimeGenerated": f"{start + n * day:%Y-%m-%dT%H:00:00.1234567Z}",
            "DeviceName": f"pc-{device}", "DeviceId": f"{device:040x}", "FileName": "whoami.exe",
            "ProcessCommandLine": f"whoami /all {n}",
        }
        for n in range(365)
        for device in range(DEVICES)
    ]  # fmt: skip


def test_a_year_is_asked_in_slices_under_the_limits_of_the_lake(tmp_path: Path) -> None:
    events = write_events(tmp_path / "DeviceProcessEvents.ndjson", year_of_events())
    clock = SkippingClock(Instant.parse(NOW).to_datetime().timestamp())
    # The whole takes too long; it cannot be cut by device, and its records come in small pieces.
    tenant = tenant_of(
        "year",
        events,
        limits=Limits(rows=20),
        throttle=Throttle(calls=30, seconds=60),
        faults=(FaultRule(fault="gateway-timeout", calls=1),),
    )
    profile = Profile(
        backend="kusto", tenant=tenant.id, workspaces=[f"soc-{tenant.workspaces[0].id}"],
        cluster="", allow_billed_search=True, limits=ProfileLimits(row_limit=20),
    )  # fmt: skip
    path = tmp_path / "yearly.kql"
    path.write_text(YEARLY, encoding="utf-8")
    rendered = render(load_hunt(path), now=Instant.parse(NOW), window=YEAR)
    began = clock.time()
    with Emulator(scenario_of(tenant, now=NOW), clock=clock) as served:
        own = ProfileSettings("lake", _at(profile, served), {})
        live = EmulatedBackends(served, clock, Instant.parse(NOW))
        try:
            (target,) = targets_of(own)
            result = execute([PlanLine(rendered, live.open(own), target, read_slices("auto"))])
        finally:
            live.close()
        calls = served.calls
    lines = result.ledger.lines
    assert {(line.status.value, line.detail.partition(" (")[0][:12]) for line in lines} <= {
        ("complete", ""), ("complete", "divided from")
    }  # fmt: skip
    assert result.verdict.value == "hits"
    assert [hit.row for hit in result.hits] == [{"Devices": DEVICES, "Events": 365 * DEVICES}]
    assert len(lines) > 60
    edges = sorted((line.window.start, line.window.end) for line in lines)
    assert edges[0][0] == rendered.window.start
    assert edges[-1][1] == rendered.window.end
    assert all(one[1] == other[0] for one, other in zip(edges, edges[1:], strict=False))
    statuses = [call.status for call in calls]
    assert statuses == [504] + [200] * (len(calls) - 1), "the limits were kept"
    starts = [call.at for call in calls]
    assert all(b - a >= 60 for a, b in zip(starts, starts[30:], strict=False))
    assert clock.time() - began > 60 * (len(calls) // 30 - 1)


def _at(profile: Profile, served: Emulator) -> Profile:
    import msgspec

    return msgspec.structs.replace(profile, cluster=f"{served.url}/lake/kql")


# The whole program


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, emulator: Emulator) -> Path:
    folder = tmp_path_factory.mktemp("home")
    common = f'backend = "kusto"\nsign_in = "none"\ntenant = "{guid("tenant", "home")}"\n'
    (folder / "c.toml").write_text(
        f'[profiles.lake]\n{common}workspaces = ["{DATABASE}"]\nallow_billed_search = true\n'
        f'cluster = "{emulator.url}/lake/kql"\n'
        f'[profiles.thrifty]\n{common}workspaces = ["{DATABASE}"]\n'
        f'cluster = "{emulator.url}/lake/kql"\n'
        f'[profiles.cluster]\n{common}database = "{DATABASE}"\ncluster = "{emulator.url}"\n'
    )
    (folder / "who.kql").write_text(
        'DeviceProcessEvents | where FileName == "whoami.exe"\n'
        "| summarize Total = count(), FirstSeen = min(TimeGenerated) by DeviceName"
    )
    return folder


@pytest.fixture(scope="module")
def open_emulator(events: str) -> Iterator[Emulator]:
    """One that lets every token in, as ``sign_in = "none"`` needs."""
    with Emulator(scenario_of(tenant_of("home", events), now=NOW, any_token=True)) as served:
        yield served


def program(home: Path, served: Emulator, *arguments: str, profile: str = "lake") -> Any:
    config = (home / "c.toml").read_text()
    for line in config.splitlines():
        if line.startswith("cluster = "):
            path = "/lake/kql" if line.endswith('/lake/kql"') else ""
            config = config.replace(line, f'cluster = "{served.url}{path}"')
    (home / "open.toml").write_text(config)
    return qakhunt(*arguments, "--config", str(home / "open.toml"), "--profile", profile,
                   "--now", NOW)  # fmt: skip


def test_a_run_on_the_lake_and_on_a_cluster(home: Path, open_emulator: Emulator) -> None:
    found = {}
    for profile in ("lake", "cluster"):
        done = program(home, open_emulator, "run", str(home / "who.kql"), "--window",
                       "2026-10-01/2026-10-11", "--json", profile=profile)  # fmt: skip
        document = json.loads(done.out)
        assert (done.code, document["verdict"]) == (0, "hits")
        (line,) = document["ledger"]
        assert (line["backend"], line["status"]) == ("kusto", "complete")
        found[profile] = [hit["row"] for hit in document["hits"]]
        assert document["hits"][0]["workspace"] == (HOME if profile == "lake" else None)
    assert found["lake"] == found["cluster"]
    assert len(found["lake"]) == 4


def test_without_leave_to_spend_money_nothing_is_asked(home: Path, open_emulator: Emulator) -> None:
    before = len(open_emulator.calls)
    done = program(home, open_emulator, "run", str(home / "who.kql"), profile="thrifty")
    assert done.code == 3
    assert "the data lake's queries are billed" in done.out + done.err
    told = program(home, open_emulator, "run", str(home / "who.kql"), "--dry-run", "--window",
                   "2025-11-01/2026-11-01")  # fmt: skip
    assert told.code == 0
    assert (
        "billed by the gigabyte, size unknown: DeviceProcessEvents, 2025-11-01T00:00:00Z"
    ) in told.out
    assert len(open_emulator.calls) == before


def test_what_the_lake_lacks_is_refused_at_its_line_with_exit_code_5(
    home: Path, open_emulator: Emulator
) -> None:
    path = home / "late.kql"
    path.write_text("DeviceProcessEvents\n| where TimeGenerated > ago(1d)\n"
                    "| where ingestion_time() > ago(1d)\n")  # fmt: skip
    done = program(home, open_emulator, "run", str(path))
    assert done.code == 5
    assert f"{path}:3:9: the data lake has no ingestion_time()" in done.out + done.err
    shown = qakhunt("render", str(path), "--dialect", "kusto")
    assert (shown.code, shown.out) == (2, "")
    assert "late.kql:3:9" in shown.err
    fine = qakhunt("render", str(home / "who.kql"), "--dialect", "kusto", "-q", "--now", NOW)
    same = qakhunt("render", str(home / "who.kql"), "-q", "--now", NOW)
    assert fine.code == 0
    assert fine.out == same.out


def test_the_doctor_knows_the_lake(home: Path, open_emulator: Emulator) -> None:
    done = program(home, open_emulator, "doctor")
    assert "kusto, 1 workspace" in done.out
    assert f"permission: DeviceProcessEvents in {HOME}: may be read" in done.out
    assert done.code == 1, "the newest record is older than seven days"
    cluster = program(home, open_emulator, "doctor", profile="cluster")
    assert "permission: DeviceProcessEvents: may be read" in cluster.out


def test_a_recorded_run_is_replayed(home: Path, open_emulator: Emulator) -> None:
    folder = home / "recording"
    window = ("--window", "2026-10-01/2026-10-11")
    done = program(home, open_emulator, "record", str(home / "who.kql"), *window, "--out",
                   str(folder))  # fmt: skip
    assert done.code == 0, done.err
    again = qakhunt("run", str(home / "who.kql"), "--backend", "replay", "--recording",
                    str(folder), "--json")  # fmt: skip
    document = json.loads(again.out)
    assert (document["verdict"], len(document["hits"])) == ("hits", 4)
    assert document["ledger"][0]["backend"] == "kusto"


def test_context_and_a_link_to_azure_data_explorer(home: Path, open_emulator: Emulator) -> None:
    done = program(home, open_emulator, "run", str(home / "who.kql"), "--window",
                   "2026-10-01/2026-10-11", "--context", "30m", "--json",
                   profile="cluster")  # fmt: skip
    document = json.loads(done.out)
    tables = {table["table"]: table for table in document["context"]["hits"][0]["tables"]}
    assert tables["DeviceProcessEvents"]["status"] == "complete"
    saved, page = home / "linked.json", home / "linked.html"
    saved.write_text(done.out, encoding="utf-8")
    assert qakhunt("report", str(saved), "--format", "html", "--out", str(page)).code == 0
    text = page.read_text(encoding="utf-8").replace("&amp;", "&")
    start = text.index("https://dataexplorer.azure.com/")
    link = urlsplit(text[start : text.index('"', start)])
    assert unquote(link.path) == f"/clusters/127.0.0.1/databases/{DATABASE}"
    query = decompress(b64decode(parse_qs(link.query)["query"][0])).decode()
    assert query.startswith("DeviceProcessEvents\n| where TimeGenerated")


def test_a_scheduled_run_remembers_what_the_lake_told(home: Path, open_emulator: Emulator) -> None:
    findings = home / "findings.ndjson"
    arguments = (
        "run", str(home / "who.kql"), "--state", str(home / "state.db"), "--sink",
        f"file:{findings}",
    )  # fmt: skip
    first = program(home, open_emulator, *arguments)
    assert first.code == 4, "no records after the tenth"
    told = findings.read_text(encoding="utf-8").splitlines()
    assert len(told) == 4
    again = program(home, open_emulator, *arguments)
    assert again.code == 4
    assert findings.read_text(encoding="utf-8").splitlines() == told


def test_the_ready_line_names_the_cluster_and_a_database(open_emulator: Emulator) -> None:
    line = open_emulator.ready_line()
    assert list(line)[-2:] == ["kusto", "database"]
    assert (line["kusto"], line["database"]) == (open_emulator.url, DATABASE)
