"""What a query reads its records from."""

from __future__ import annotations

import pytest

from qakhunt.kql.visitors import read_by

DPE = "DeviceProcessEvents"


@pytest.mark.parametrize(
    ("query", "tables"),
    [
        ("print 1", []),
        ("datatable(a: long)[1]", []),
        ("range x from 1 to 3 step 1", []),
        ("let DeviceProcessEvents = datatable(a: long)[1]; DeviceProcessEvents | where a > 1", []),
        ("externaldata(a: string)['https://x'] | where a == 'b'", []),
        ("_GetWatchlist('x') | project a", []),
        ("print toscalar(Foo_CL | count)", ["Foo_CL"]),
        ("Foo_CL | where x", ["Foo_CL"]),
        ("Foo_CL", ["Foo_CL"]),
        ("let T = Foo_CL; T | take 1", ["Foo_CL"]),
        ("SomeTable | count", ["SomeTable"]),
        ("['My Table'] | count", ["['My Table']"]),
        ("table('Foo') | count", ["table('Foo')"]),
        ("MyParser() | where a", ["MyParser()"]),
        ("workspace('w').Foo | take 1", ["workspace('w').Foo"]),
        ("set notruncation; DeviceProcessEvents", [DPE]),
        ("union Foo_CL, DeviceProcessEvents | count", [DPE, "Foo_CL"]),
        ("union isfuzzy=true (Foo_CL | where a), (Bar_CL | where b)", ["Foo_CL", "Bar_CL"]),
        ("search in (Foo_CL, Bar) 'x'", ["Foo_CL", "Bar"]),
        ("DeviceProcessEvents | join kind=inner (Foo_CL | project a) on a", [DPE, "Foo_CL"]),
        ("DeviceProcessEvents | where a in ((Foo | project a))", [DPE, "Foo"]),
        ("DeviceProcessEvents | where a in (_GetWatchlist('x') | project b)", [DPE]),
        ("DeviceProcessEvents | where a in (List)", [DPE]),
        ("let x = toscalar(Foo | summarize max(a)); DeviceProcessEvents | where a > x",
         [DPE, "Foo"]),
        ("let f = (t: string) { Foo_CL | where a == t }; f('x') | count", ["Foo_CL"]),
        ("let l = materialize(DeviceProcessEvents | where x); l | union (Bar_CL)"
         " | mv-apply a on (where a > 1 | summarize count())", [DPE, "Bar_CL"]),
        ("Foo_CL | as hint.materialized=true X | union (X | where a)", ["Foo_CL"]),
        ("find withsource=T in (Foo_CL, DeviceProcessEvents) where a == 'b'", [DPE, "Foo_CL"]),
        ("let ['my list'] = dynamic(['a']); DeviceProcessEvents | where a in (['my list'])", [DPE]),
        ("let f = (t: (a: long)) { t | count }; f(Foo_CL)", ["Foo_CL"]),
        ("let f = (x: string) { toupper(x) }; Foo_CL | where f(a) == 'B'", ["Foo_CL"]),
        ("let from = startofday(ago(1d)); Foo_CL | where a > from | search 'x'", ["Foo_CL"]),
        ("let T = MyParser(); T | count", ["MyParser()"]),
        ("restrict access to (Foo_CL, B*); Bar_CL | take 1", ["Bar_CL"]),
        ("let a = Foo_CL | as B; union a, (B | count)", ["Foo_CL"]),
        ("Foo_CL | fork (take 1) (serialize | count)", ["Foo_CL"]),
    ],
)  # fmt: skip
def test_the_tables_that_a_query_reads(query: str, tables: list[str]) -> None:
    found = read_by(query, "log-analytics")
    assert (list(found.tables), list(found.unnamed)) == (tables, [])


@pytest.mark.parametrize(
    ("query", "unnamed"),
    [
        ("search 'x' | take 1", "search 'x'"),
        ("find where a == 1", "find where a == 1"),
        ("union withsource=X * | where a", "*"),
        ("union Device* | where a", "Device*"),
        ("MyParser(ago(1d), 5) | count", "MyParser(ago(1d), 5)"),
    ],
)
def test_sources_that_the_query_does_not_name(query: str, unnamed: str) -> None:
    found = read_by(query, "log-analytics")
    assert (list(found.tables), list(found.unnamed)) == ([], [unnamed])
