"""Which columns that were not recorded a changed query needs."""

from __future__ import annotations

import pytest

from qakhunt.recordings.coverage import columns_missing

KEPT = ["TimeGenerated", "DeviceName", "FileName"]


@pytest.mark.parametrize(
    "query",
    [
        "T | where FileName == 'x'",
        "T | summarize arg_max(TimeGenerated, *) by DeviceName",
        "T | join kind=inner (U | summarize n = count() by DeviceName) on DeviceName",
        "T | summarize n = count() by DeviceName | join (U | where x) on DeviceName",
        "T | summarize n = count() by DeviceName | join kind=inner U on DeviceName",
        "let U = materialize(T | where FileName == 'x'); U | where DeviceName != ''",
        "union (T | project DeviceName), U",
        "T | extend p = pack_all() | project p",
        "T | extend c = column_ifexists('AccountName', '') | project c",
    ],
)
def test_a_query_that_shows_every_column_misses_those_left_out(query: str) -> None:
    text = query.replace("T |", "DeviceProcessEvents |")
    missing = columns_missing(text, "log-analytics", "DeviceProcessEvents", KEPT)
    assert {"AccountName", "ProcessCommandLine"} <= set(missing)
    assert not {"DeviceName", "FileName"} & set(missing)


@pytest.mark.parametrize(
    "query",
    [
        "T | project DeviceName",
        "T | project DeviceName, FileName | summarize arg_max(FileName, *) by DeviceName",
        "T | summarize n = count() by DeviceName | join kind=leftanti (U | where x) on DeviceName",
        "let U = T | summarize by DeviceName;\nT | summarize n = count() by DeviceName"
        " | join kind=inner U on DeviceName",
        "let U = T | where FileName == 'x'; U | summarize n = count() * 2 by DeviceName",
        "union T, U | project DeviceName",
        "T | where DeviceName in (U | project DeviceName) | count",
        "let f = (d: string) { T | where DeviceName == d | project DeviceName };\nf('x')",
    ],
)
def test_a_query_that_chooses_its_columns_misses_none(query: str) -> None:
    text = query.replace("T |", "DeviceProcessEvents |")
    assert not columns_missing(text, "log-analytics", "DeviceProcessEvents", KEPT)


def test_a_column_that_is_named_is_missed() -> None:
    query = "DeviceProcessEvents | where AccountName == 'x' | project DeviceName"
    missing = columns_missing(query, "log-analytics", "DeviceProcessEvents", KEPT)
    assert missing == ["AccountName"]
