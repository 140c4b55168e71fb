"""The bundled sample is what its maker makes, and holds what it should."""

from __future__ import annotations

import gzip
from collections import Counter

import pytest

from qakhunt.run.sample import sample_folder, sample_now
from tests.support import make_sample
from tests.support.events import run_on


def test_the_sample_is_the_makers() -> None:
    data = (sample_folder() / "DeviceProcessEvents.ndjson.gz").read_bytes()
    assert gzip.decompress(data) == gzip.decompress(make_sample.sample_bytes())
    assert str(sample_now()) == make_sample.NOW


def test_so_is_what_surrounds_the_burst() -> None:
    tables = make_sample.around(make_sample.Maker())
    for table, records in tables.items():
        data = (sample_folder() / f"{table}.ndjson.gz").read_bytes()
        assert gzip.decompress(data) == gzip.decompress(make_sample.packed(records))
    files = {path.name.partition(".")[0] for path in sample_folder().glob("*.gz")}
    assert files == {"DeviceProcessEvents", *tables}


def test_it_is_a_month_of_several_customers() -> None:
    events = make_sample.events()
    assert len({event["TenantId"] for event in events}) == 3
    assert len({event["DeviceName"] for event in events}) == 14
    days = Counter(event["TimeGenerated"][:10] for event in events)
    assert len(days) == 31
    assert {event["SourceSystem"] for event in events} == {"synthetic"}


@pytest.mark.engine
def test_the_published_rule_finds_the_burst_and_the_inventory_agent() -> None:
    result = run_on(sample_folder() / "DeviceProcessEvents.ndjson.gz", window="published")
    found = [(hit.device, hit.account, hit.distinct) for hit in result.hits]
    assert found == [
        ("ws-fin-042.contoso.example", "a.moreau", 9),
        ("srv-inv-01.tailspin.example", "svc-inventory", 4),
    ]
