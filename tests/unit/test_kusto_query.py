"""A query as it is sent to Kusto: what the lake lacks, external tables, tables bounded in time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qakhunt.backends.kusto_query import RefusedQuery, adapt, refuse_for_lake, tables_read
from qakhunt.hunts.catalog import Catalog
from qakhunt.hunts.render import render
from qakhunt.kql.edits import apply
from qakhunt.kql.values import Instant, Window

WINDOW = Window(Instant.parse("2026-10-01"), Instant.parse("2026-11-01"))
START, END = "datetime(2026-10-01T00:00:00Z)", "datetime(2026-11-01T00:00:00Z)"
IN = f"where TimeGenerated >= {START} and TimeGenerated < {END}"
IF = f'where column_ifexists("TimeGenerated", {START}) >= {START} and column_ifexists("TimeGenerated", {START}) < {END}'


@pytest.mark.parametrize(
    ("text", "bounded"),
    [
        ("DeviceEvents", f"DeviceEvents | {IN}"),
        ("DeviceEvents // all\n| take 1", f"DeviceEvents | {IN} // all\n| take 1"),
        ("let D = DeviceEvents; D | take 1", f"let D = DeviceEvents | {IN}; D | take 1"),
        (
            "union DeviceEvents, (DeviceInfo | take 1)",
            f"union (DeviceEvents | {IN}), (DeviceInfo | {IN} | take 1)",
        ),
        (
            "DeviceEvents | join kind=inner DeviceInfo on DeviceId",
            f"DeviceEvents | {IN} | join kind=inner (DeviceInfo | {IN}) on DeviceId",
        ),
        ("Custom_CL | take 1", f"Custom_CL | {IF} | take 1"),
        ("['Odd table'] | take 1", f"['Odd table'] | {IF} | take 1"),
        (
            "workspace('x').DeviceEvents | take 1",
            f"workspace('x').DeviceEvents | {IN} | take 1",
        ),
        (
            "DeviceEvents | where DeviceId in (DeviceInfo)",
            f"DeviceEvents | {IN} | where DeviceId in ((DeviceInfo | {IN}))",
        ),
        (
            "DeviceEvents | where ActionType in (Wanted)",
            f"DeviceEvents | {IN} | where ActionType in (Wanted)",
        ),
        ("print x = 'DeviceEvents' // DeviceEvents", "print x = 'DeviceEvents' // DeviceEvents"),
        ("datatable(DeviceEvents: string) ['a']", "datatable(DeviceEvents: string) ['a']"),
        ("DeviceEvents | project DeviceInfo", f"DeviceEvents | {IN} | project DeviceInfo"),
    ],
)
def test_each_source_is_bounded_where_it_stands_and_nothing_else(text: str, bounded: str) -> None:
    assert adapt(text, window=WINDOW).text == bounded


@pytest.mark.parametrize(
    ("text", "external"),
    [
        ("DeviceEvents | take 1", 'external_table("DeviceEvents") | take 1'),
        ("['Odd one']", 'external_table("Odd one")'),
        (
            "let D = DeviceEvents; union D, Custom_CL",
            'let D = external_table("DeviceEvents"); union D, external_table("Custom_CL")',
        ),
        ("let DeviceEvents = print 1; DeviceEvents", "let DeviceEvents = print 1; DeviceEvents"),
        ("cluster('c').database('d').T", "cluster('c').database('d').T"),
    ],
)
def test_tables_in_table_position_become_external(text: str, external: str) -> None:
    assert adapt(text, external=True).text == external


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("union Device*", (1, 7)),
        ("print 1;\nsearch 'whoami'", (2, 1)),
        ("search in (DeviceEvents, DeviceInfo) 'x'", (1, 12)),
        ("union withsource=T DeviceEvents, DeviceInfo", (1, 20)),
    ],
)
@pytest.mark.parametrize("options", [{"external": True}, {"window": WINDOW}])
def test_what_cannot_be_written_so_is_refused_with_its_place(
    text: str, place: tuple[int, int], options: dict[str, object]
) -> None:
    with pytest.raises(RefusedQuery) as caught:
        adapt(text, **options)  # type: ignore[arg-type]
    assert caught.value.place == place
    assert adapt(text).text == text


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("let L = externaldata(a: string)\n['https://h/x'];\nL", (1, 9), "externaldata()"),
        ("DeviceEvents\n| where ingestion_time() > ago(1d)", (2, 9), "ingestion_time()"),
        ("DeviceEvents | extend n = estimate_data_size(*)", (1, 27), "estimate_data_size()"),
        ("adx('https://c/d').T | take 1", (1, 1), "adx()"),
        ("arg('').Resources", (1, 1), "arg()"),
        ("_GetWatchlist('VIP') | take 1", (1, 1), "saved functions, such as _GetWatchlist()"),
        ("DeviceEvents | invoke Enrich()", (1, 23), "saved functions, such as Enrich()"),
    ],
)
def test_what_the_lake_lacks_is_named_with_its_place(
    text: str, place: tuple[int, int], words: str
) -> None:
    with pytest.raises(RefusedQuery) as caught:
        refuse_for_lake(text)
    assert (caught.value.place, caught.value.message) == (place, f"the data lake has no {words}")


@pytest.mark.parametrize(
    "text",
    [
        "let Enrich = (T: (a: long)) { T | take 1 }; DeviceEvents | invoke Enrich()",
        "let mine = () { DeviceEvents }; mine() | take 1",
        "let ingestion_time = () { now() }; DeviceEvents | where TimeGenerated > ingestion_time()",
        "let f = (x: real) { rand(x) }; DeviceEvents | extend y = f(2)",
        "print x = 'externaldata(a: string)' // arg()",
        "DeviceEvents | project adx, arg | where isnotempty(adx)",
        "DeviceEvents | evaluate bag_unpack(AdditionalFields)",
    ],
)
def test_what_only_looks_so_is_not_refused(text: str) -> None:
    refuse_for_lake(text)


@pytest.mark.parametrize("hunt", Catalog().all(), ids=lambda hunt: hunt.name)
def test_every_shipped_hunt_runs_in_the_lake_and_on_external_tables(hunt: object) -> None:
    text = render(hunt, now=WINDOW.end).text  # type: ignore[arg-type]
    refuse_for_lake(text)
    for external, window in ((True, None), (False, WINDOW), (True, WINDOW)):
        sent = adapt(text, external=external, window=window)
        assert tables_read(text)
        assert sent.text != text
        for edit in sent.edits:
            assert text[edit.start : edit.end] in tables_read(text)


PARTS = st.sampled_from(
    ["DeviceEvents", "['a b']", "T_CL", " | ", "where x in (", ")", "union ", ", ", "let a = ", ";",
     "join (", "'q'", '"', "(", "{", "materialize(", "//c\n", "workspace('w').", "datetime(", "*"]
)  # fmt: skip


@given(st.lists(PARTS, max_size=14).map("".join))
def test_any_text_is_adapted_by_edits_that_do_not_overlap_or_refused(text: str) -> None:
    try:
        sent = adapt(text, external=True, window=WINDOW)
    except RefusedQuery:
        return
    assert sent.text == apply(text, sent.edits)
    assert sent.locate((1, 1)) == (1, 1)
