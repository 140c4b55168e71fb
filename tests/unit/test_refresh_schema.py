"""The schemas can be refreshed from the documentation's own pages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qakhunt.answers.table import KQL_TYPES
from qakhunt.kql.schema import tables
from tests.golden.refresh_schema import main

INCLUDE = """\
---
ms.topic: include
ms.custom: DeviceProcessEvents
---


| Column | Type | Description |
|---|---|---|
| AccountName | string | User name. |
| _BilledSize | real | The record size in bytes |
| TenantId | string | The Log Analytics workspace ID |

| Column | Of another table |
|---|---|
| Nope | string |
"""
PAGE = """\
---
title: NewTable table
---

# NewTable

| Column name | Data type | Description |
|-------------|-----------|-------------|
| `Timestamp` | `datetime` | Date and time |
| `Count` | `bigint` | A number |
| `Flag` | `boolean` | Yes or no |
| `More` | `dynamic (JSON array)` | The rest |
"""


def checkouts(folder: Path, include: str, page: str) -> list[str]:
    azure = folder / "azure" / "azure-monitor-ref" / "tables" / "includes"
    defender = folder / "defender" / "defender-xdr"
    for path, name, text in (
        (azure, "deviceprocessevents-include.md", include),
        (defender, "advanced-hunting-newtable-table.md", page),
    ):
        path.mkdir(parents=True)
        (path / name).write_text(text, encoding="utf-8")
    return [
        "--azure-reference", str(folder / "azure"), "--defender-docs", str(folder / "defender"),
        "--into", str(folder),
    ]  # fmt: skip


def test_pages_become_the_data_files(tmp_path: Path) -> None:
    assert main(checkouts(tmp_path, INCLUDE, PAGE)) == 0
    logs = json.loads((tmp_path / "schema_log_analytics.json").read_text(encoding="utf-8"))
    assert logs["DeviceProcessEvents"] == {
        "AccountName": "string", "_BilledSize": "real", "TenantId": "string",
    }  # fmt: skip
    assert logs["SigninLogs"] == tables("log-analytics")["SigninLogs"]
    defender = json.loads((tmp_path / "schema_defender.json").read_text(encoding="utf-8"))
    assert defender["NewTable"] == {
        "Timestamp": "datetime", "Count": "long", "Flag": "bool", "More": "dynamic",
    }  # fmt: skip
    assert set(tables("defender")) < set(defender)


@pytest.mark.parametrize(
    ("product", "names"),
    [
        ("log-analytics", "SigninLogs AWSCloudTrail AZFWDnsQuery OfficeActivity StorageBlobLogs "
         "AzureDiagnostics AppServiceHTTPLogs ASimRegistryEventLogs LAQueryLogs"),
        ("defender", "DeviceProcessEvents EmailEvents AADSignInEventsBeta ExposureGraphNodes"),
    ],
)  # fmt: skip
def test_the_tables_of_hunts_are_shipped_and_have_a_time(product: str, names: str) -> None:
    time = {"log-analytics": "TimeGenerated", "defender": "Timestamp"}[product]
    for name in names.split():
        kinds = tables(product)[name]
        assert kinds.get(time) == "datetime" or name == "ExposureGraphNodes"
        assert set(kinds.values()) <= set(KQL_TYPES)


def test_a_type_that_kql_lacks_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(checkouts(tmp_path, INCLUDE.replace("real", "quaternion"), PAGE)) == 2
    assert "DeviceProcessEvents._BilledSize" in capsys.readouterr().err
    assert not (tmp_path / "schema_log_analytics.json").exists()
