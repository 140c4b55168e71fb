"""A table as each product shows it: its columns, its window, its nulls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from qakhunt.answers.table import ResultTable
from qakhunt.backends.engine.session import EngineRefused, Session
from qakhunt.hunts.window import parse
from qakhunt.kql.schema import columns
from qakhunt.kql.values import Instant, Window
from tests.support.events import NOW, OCTOBER, event, write_ndjson

pytestmark = pytest.mark.engine


def ask(
    path: Path, query: str, product: str = "log-analytics", window: str = OCTOBER
) -> ResultTable:
    with Session([str(path)], product) as session:
        return session.ask(query, now=NOW, window=parse(window, NOW))


def rows(path: Path, query: str, **options: Any) -> list[tuple[Any, ...]]:
    return list(ask(path, query, **options).rows)


def test_absent_strings_are_empty_and_other_absent_columns_null(tmp_path: Path) -> None:
    path = write_ndjson(tmp_path / "e.ndjson", [event("x", FileName=None)])
    found = rows(
        path,
        'DeviceProcessEvents | project FileName, SHA256, a = FileName == "", b = isnull(SHA256),'
        " ProcessId, c = isnull(ProcessId)",
    )
    assert found == [("", "", True, False, None, True)]


@pytest.mark.parametrize(
    ("product", "column", "exists"),
    [
        ("log-analytics", "TimeGenerated", True),
        ("log-analytics", "MachineGroup", True),
        ("defender", "Timestamp", True),
        ("defender", "TimeGenerated", False),
        ("defender", "MachineGroup", False),
        ("defender", "TenantId", False),
        ("log-analytics", "Label", True),
        ("defender", "Label", True),
    ],
)
def test_each_product_shows_its_own_columns_and_unknown_ones(
    tmp_path: Path, product: str, column: str, exists: bool
) -> None:
    records = [event("x", MachineGroup="g", TenantId="t", Label="l")]
    path = write_ndjson(tmp_path / "e.ndjson", records)
    query = f"DeviceProcessEvents | project {column}"
    if exists:
        assert len(ask(path, query, product=product)) == 1
    else:
        with pytest.raises(EngineRefused, match=f"no column named '{column}'"):
            ask(path, query, product=product)


@pytest.mark.parametrize("column", ["TimeGenerated", "Timestamp"])
def test_either_time_column_serves_both_products(tmp_path: Path, column: str) -> None:
    record = {column: "2026-10-05T10:00:00.1234567Z", "DeviceName": "d"}
    path = write_ndjson(tmp_path / "e.ndjson", [record])
    expected = Instant.parse("2026-10-05T10:00:00.1234560Z")
    assert rows(path, "DeviceProcessEvents | project TimeGenerated") == [(expected,)]
    assert rows(path, "DeviceProcessEvents | project Timestamp", product="defender") == [
        (expected,)
    ]


@pytest.mark.parametrize("product", ["log-analytics", "defender"])
def test_no_record_outside_the_window_exists(tmp_path: Path, product: str) -> None:
    times = [
        "2026-09-30T23:59:59.9999999Z", "2026-10-01T00:00:00Z", "2026-10-31T23:59:59.9999999Z",
        "2026-11-01T00:00:00Z", "2026-11-01T08:00:00+08:00",
    ]  # fmt: skip
    path = write_ndjson(tmp_path / "e.ndjson", [event("x", TimeGenerated=t) for t in times])
    assert rows(path, "DeviceProcessEvents | count", product=product) == [(2,)]


def test_adjoining_windows_share_no_record(tmp_path: Path) -> None:
    times = [f"2026-10-01T00:00:00.{n:07d}Z" for n in range(12)]
    path = write_ndjson(tmp_path / "e.ndjson", [event("x", TimeGenerated=t) for t in times])
    start, end = Instant.parse("2026-09-01"), Instant.parse("2026-11-01")
    with Session([str(path)], "log-analytics") as session:
        for ticks in range(12):
            seam = Instant(Instant.parse("2026-10-01").ticks + ticks)
            counts = [
                session.ask("DeviceProcessEvents | count", now=NOW, window=window).rows[0][0]
                for window in (Window(start, seam), Window(seam, end))
            ]
            assert sum(counts) == 12


def test_dynamics_arrive_as_values_however_they_were_written(tmp_path: Path) -> None:
    values = [{"a": 1}, '{"a": 1}', "plain", "[not json", None, ""]
    records = [event("x", AdditionalFields=v, ReportId=i) for i, v in enumerate(values)]
    path = write_ndjson(tmp_path / "e.ndjson", records)
    found = rows(path, "DeviceProcessEvents | sort by ReportId asc | project AdditionalFields")
    assert [row[0] for row in found] == [{"a": 1}, {"a": 1}, "plain", "[not json", None, ""]
    as_text = rows(
        path, "DeviceProcessEvents | where ReportId == 0 | project AdditionalFields",
        product="defender",
    )  # fmt: skip
    assert as_text == [('{"a":1}',)]


def test_a_known_table_without_records_is_empty_and_typed(tmp_path: Path) -> None:
    path = write_ndjson(tmp_path / "e.ndjson", [event("x")])
    found = ask(path, "DeviceNetworkEvents | project RemotePort, RemoteIP")
    assert (
        found.columns[0].kql_type == columns("log-analytics", "DeviceNetworkEvents")["RemotePort"]
    )
    assert found.columns[1].kql_type == "string"
    assert not found.rows


def test_types_come_back_as_kqls(tmp_path: Path) -> None:
    path = write_ndjson(tmp_path / "e.ndjson", [event("x")])
    found = ask(
        path,
        "DeviceProcessEvents | project a = true, b = int(3), c = 5, d = 1.5, e = 'x',"
        " f = datetime(2026-10-01), g = 90m, h = dynamic({'k': [1, null]}),"
        " i = guid(74be27de-1e4e-49d9-b579-fe0b331d3642), j = real(nan), k = long(null)",
    )
    types = [column.kql_type for column in found.columns]
    assert types == [
        "bool", "int", "long", "real", "string", "datetime", "timespan", "dynamic", "guid",
        "real", "long",
    ]  # fmt: skip
    cells = found.rows[0]
    assert cells[:5] == (True, 3, 5, 1.5, "x")
    assert str(cells[5]) == "2026-10-01T00:00:00Z"
    assert str(cells[6]) == "01:30:00"
    assert cells[7] == {"k": [1, None]}
    assert cells[8] == "74be27de-1e4e-49d9-b579-fe0b331d3642"
    assert cells[9] != cells[9]
    assert cells[10] is None


@pytest.mark.parametrize(
    ("product", "query", "expected"),
    [
        ("log-analytics", 'where X == 1 | project c = column_ifexists("TenantId", "-")', "t"),
        ("defender", 'where X == 1 | project c = column_ifexists("TenantId", "-")', "-"),
        ("defender", 'project c = column_ifexists("FileName", column_ifexists("Nope", "-"))', "x"),
        ("defender", "summarize c = take_any(columnifexists('no(such', strcat(\"\u0061)\", FileName)))",
         "a)x"),
    ],
)  # fmt: skip
def test_a_column_that_may_not_exist(
    tmp_path: Path, product: str, query: str, expected: str
) -> None:
    path = write_ndjson(tmp_path / "e.ndjson", [event("x", TenantId="t", FileName="x", X=1)])
    assert rows(path, f"DeviceProcessEvents | {query}", product=product) == [(expected,)]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ('summarize count() | project column_ifexists("count_", 0)', [(1,)]),
        ('summarize count() | project column_ifexists("FileName", 7)', [(7,)]),
        ('join kind=leftouter (DeviceFileEvents | project DeviceId, ReportId) on DeviceId '
         '| project x = tostring(column_ifexists("ReportId1", "none"))', [("",)]),
    ],
)  # fmt: skip
def test_a_column_behind_other_operators_is_known(
    tmp_path: Path, query: str, expected: list[tuple[Any, ...]]
) -> None:
    path = write_ndjson(tmp_path / "e.ndjson", [event("x")])
    assert rows(path, f"DeviceProcessEvents | {query}") == expected


def test_a_column_asked_for_without_its_name_is_refused(tmp_path: Path) -> None:
    path = write_ndjson(tmp_path / "e.ndjson", [event("x")])
    with pytest.raises(EngineRefused, match="needs a column's name as a literal"):
        ask(path, "DeviceProcessEvents | extend f = column_ifexists(FileName, 0)")
