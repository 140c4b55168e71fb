"""What of a table a query can need: the filters that may be asked of the service."""

from __future__ import annotations

import pytest

from qakhunt.hunts.source_query import NoSourceQuery, source_queries
from qakhunt.kql.values import Instant, Window

LA = "log-analytics"
DAY = Window(Instant.parse("2026-10-01"), Instant.parse("2026-10-02"))


def condition(query: str) -> str | None:
    (source,) = source_queries(query, LA)
    return source.condition and " ".join(source.condition.split())


@pytest.mark.parametrize(
    ("query", "kept"),
    [
        ("DeviceProcessEvents", None),
        ("DeviceProcessEvents | where FileName == 'a'", "(FileName == 'a')"),
        (
            "DeviceProcessEvents // ' | where\n| where FileName == 'a' // b\n and ProcessId > 3",
            "(FileName == 'a') and (ProcessId > 3)",
        ),
        ("DeviceProcessEvents | filter FileName has 'a' | where tolower(DeviceName) !in~ ('b')",
         "(FileName has 'a') and (tolower(DeviceName) !in~ ('b'))"),
        # An `or` is one condition: kept whole, or not at all.
        ("DeviceProcessEvents | where FileName == 'a' or ProcessId == 1 and ProcessId == 2",
         "(FileName == 'a' or ProcessId == 1 and ProcessId == 2)"),
        ("DeviceProcessEvents | where FileName == 'a' or Made == 1", None),
        # What is not the table's own, or not the same each time, is left to the query.
        ("DeviceProcessEvents | where FileName == 'a' and Made == 1 | where ProcessId == 2",
         "(FileName == 'a') and (ProcessId == 2)"),
        ("DeviceProcessEvents | where TimeGenerated > ago(1d) and FileName == 'a'",
         "(FileName == 'a')"),
        ("DeviceProcessEvents | where unknown_function(FileName) and ProcessId == 1",
         "(ProcessId == 1)"),
        ("let Others = DeviceProcessEvents;\nOthers | where FileName == 'a'", None),
        # Only filters that directly follow the name.
        ("DeviceProcessEvents | extend x = 1 | where FileName == 'a'", None),
        # Paths into a value, and columns in brackets.
        ("DeviceProcessEvents | where AdditionalFields['k'].z == 1",
         "(AdditionalFields['k'].z == 1)"),
        ("DeviceProcessEvents | where ['FileName'] == 'a' and ['odd name'] == 1",
         "(['FileName'] == 'a')"),
        # Named several times: any of them may need the record.
        ("union (DeviceProcessEvents | where ProcessId == 1), (DeviceProcessEvents | where "
         "ProcessId == 2)", "(ProcessId == 1) or (ProcessId == 2)"),
        ("DeviceProcessEvents | where ProcessId == 1 | join (DeviceProcessEvents) on DeviceName",
         None),
        # A function's parameter hides a column; nothing is said of it.
        ("let f = (FileName: string) { DeviceProcessEvents | where FileName == FileName };\nf('a')",
         None),
    ],
)  # fmt: skip
def test_the_conditions_that_a_feed_keeps(query: str, kept: str | None) -> None:
    assert condition(query) == kept


def test_constants_travel_with_the_feed_and_others_do_not() -> None:
    query = """
        let Names = dynamic(['a', 'b']);
        let Base = 3;
        let Least = Base + 1;
        let Unused = 9;
        let Later = now();
        DeviceProcessEvents
        | where FileName in (Names) and ProcessId > Least and TimeGenerated < Later
    """
    (source,) = source_queries(query, LA)
    assert source.query(DAY).splitlines() == [
        "let Names = dynamic(['a', 'b']);",
        "let Base = 3;",
        "let Least = Base + 1;",
        "DeviceProcessEvents",
        "| where TimeGenerated >= datetime(2026-10-01T00:00:00Z) "
        "and TimeGenerated < datetime(2026-10-02T00:00:00Z)",
        "| where (FileName in (Names)) and (ProcessId > Least)",
    ]


def test_a_name_that_stands_for_two_things_is_not_relied_upon() -> None:
    assert condition("let FileName = 'x';\nDeviceProcessEvents | where FileName == 'a'") is None
    twice = "let X = 1;\nlet f = () { let X = 2; X };\nDeviceProcessEvents | where ProcessId == X"
    assert condition(twice) is None


def test_each_table_has_a_feed_of_its_own() -> None:
    query = (
        "DeviceProcessEvents | where ProcessId == 1 "
        "| join kind=inner (DeviceNetworkEvents | where RemotePort == 445) on DeviceName"
    )
    found = {source.table: source.condition for source in source_queries(query, LA)}
    assert found == {
        "DeviceProcessEvents": "(ProcessId == 1)",
        "DeviceNetworkEvents": "(RemotePort == 445)",
    }


@pytest.mark.parametrize(
    "query",
    [
        "print 1",
        "DeviceProcessEvents | where new_guid() == ''",
        "union withsource=T Device* , DeviceProcessEvents | where T == ''",
        "find in (DeviceProcessEvents) where FileName == 'a'",
        "search in (DeviceProcessEvents) 'a'",
        "DeviceProcessEvents | union ['DeviceNetworkEvents']",
        "DeviceProcessEvents | where FileName in ((_GetWatchlist('w') | project SearchKey))",
        "workspace('x').DeviceProcessEvents | union DeviceProcessEvents",
        "DeviceProcessEvents | sample 3",
        "DeviceProcessEvents | sort by ProcessId | where ProcessId > 1 | limit 3",
    ],
)
def test_where_the_sources_cannot_be_told_there_is_no_feed(query: str) -> None:
    with pytest.raises(NoSourceQuery):
        source_queries(query, LA)


def test_sorted_before_it_is_cut_a_query_has_a_feed() -> None:
    assert condition("DeviceProcessEvents | sort by ProcessId desc | take 3") is None
