"""A sliced run finds exactly what the uncut run finds, or says that it cannot be sliced."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from qakhunt.answers.ledger import Target
from qakhunt.hunts.catalog import Catalog
from qakhunt.hunts.loading import load_hunt
from qakhunt.hunts.render import render
from qakhunt.kql.values import Timespan
from qakhunt.run.execution import execute
from qakhunt.run.plan import PlanLine
from qakhunt.run.slicing.strategies import SliceRequest, read_slices, sliceability
from tests.support.bursts import NOW, WINDOW, burst_events, write_events
from tests.support.rigged import Rigged, rigged

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from qakhunt.answers.run_result import RunResult
    from qakhunt.hunts.model import Hunt

pytestmark = pytest.mark.engine

WHOM = Target("profile", "tenant", "workspace")

# Queries beyond the built-in hunts; each is cut both found.
QUERIES = {
    "distinct": """
        DeviceProcessEvents | where TimeGenerated > datetime(2026-10-01)
        | distinct DeviceName, AccountName""",
    "join": """
        let Who = DeviceProcessEvents | where FileName == "whoami.exe"
            | project DeviceName, AccountName;
        DeviceProcessEvents
        | where TimeGenerated > datetime(2026-10-01) and FileName == "net.exe"
        | join kind=inner Who on DeviceName, AccountName
        | summarize Pairs = count() by DeviceName, AccountName""",
    "never seen": """
        DeviceProcessEvents
        | where TimeGenerated > datetime(2026-10-01) and FileName == "net.exe"
        | join kind=leftanti (DeviceProcessEvents | where ProcessCommandLine == "route print")
            on DeviceName
        | project TimeGenerated, DeviceName, ProcessCommandLine""",
    "in a subquery": """
        let Suspects = DeviceProcessEvents | where FileName == "netstat.exe" | distinct DeviceName;
        DeviceProcessEvents
        | where TimeGenerated > datetime(2026-10-01)
        | where DeviceName in (Suspects) and FileName == "arp.exe"
        | summarize N = count(), Last = max(TimeGenerated) by Host = DeviceName
        | where N > 1
        | sort by N desc, Host asc""",
    "union": """
        union
            (DeviceProcessEvents | where FileName == "arp.exe" | project TimeGenerated, DeviceName),
            (DeviceProcessEvents | where FileName == "net1.exe" | project TimeGenerated, DeviceName)
        | where TimeGenerated > datetime(2026-10-01)
        | summarize N = count() by DeviceName, bin(TimeGenerated, 1h)""",
    "bursts of 15 minutes": """
        DeviceProcessEvents
        | where TimeGenerated > datetime(2026-10-01)
        | summarize Commands = dcount(ProcessCommandLine), First = min(TimeGenerated)
            by DeviceName, AccountName, bin(TimeGenerated, 15m)
        | where Commands > 3
        | sort by Commands desc, First asc""",
    "rows": """
        DeviceProcessEvents
        | where TimeGenerated > datetime(2026-10-01)
        | where ProcessCommandLine has "localgroup"
        | extend Tag = tostring(AdditionalFields.tag)""",
}


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rigged]:
    source = write_events(tmp_path_factory.mktemp("events"), burst_events(noise=150))
    made = rigged([source], NOW)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _unrigged(request: pytest.FixtureRequest) -> None:
    if "backend" in request.fixturenames:
        made = request.getfixturevalue("backend")
        made.rule, made.most_rows = None, None
        made.asked.clear()
        made.answered.clear()


def hunt_of(query: str, folder: Path) -> Hunt:
    path = folder / "made-up.kql"
    path.write_text(query, encoding="utf-8")
    return load_hunt(path)


def result(hunt: Hunt, backend: Rigged, slices: SliceRequest | None = None) -> RunResult:
    rendered = render(hunt, now=NOW, window=WINDOW, product=backend.product)
    return execute([PlanLine(rendered, backend, WHOM, slices)])


def found(result: RunResult) -> list[tuple[Any, ...]]:
    return [hit.cells for hit in result.hits]


@pytest.mark.parametrize("cut", ["devices:2", "101h"])
@pytest.mark.parametrize("hunt", Catalog().all(), ids=lambda hunt: hunt.name)
def test_every_built_in_hunt_finds_the_same_in_slices(
    hunt: Hunt, cut: str, backend: Rigged
) -> None:
    whole = result(hunt, backend)
    sliced = result(hunt, backend, read_slices(cut))

    assert found(sliced) == found(whole)
    assert sliced.verdict == whole.verdict
    assert sliced.columns == whole.columns
    # Sliced, or told why not: the context of a hit joins with no device.
    refused = any("cannot be sliced" in text for text in sliced.warnings)
    assert (len(sliced.ledger.lines) > 1) != refused
    assert not refused or hunt.name.startswith("context-")


@pytest.mark.parametrize("cut", ["devices:8", "1d", "13h"])
def test_the_qakbot_hunt_finds_the_same_however_it_is_cut(cut: str, backend: Rigged) -> None:
    hunt = Catalog().find("qakbot-post-compromise-commands")[0]
    whole = result(hunt, backend)
    sliced = result(hunt, backend, read_slices(cut))
    assert len(found(whole)) > 5
    assert found(sliced) == found(whole)


@pytest.mark.parametrize("cut", ["devices:3", "67h"])
@pytest.mark.parametrize("name", QUERIES)
def test_other_shapes_of_query_find_the_same_in_slices(
    name: str, cut: str, backend: Rigged, tmp_path: Path
) -> None:
    hunt = hunt_of(QUERIES[name], tmp_path)
    whole = result(hunt, backend)
    sliced = result(hunt, backend, read_slices(cut))

    assert whole.hits
    assert not [w for w in sliced.warnings if "sliced" in w]
    assert len(sliced.ledger.lines) > 1
    assert found(sliced) == found(whole)


def test_in_defenders_columns_too(tmp_path: Path) -> None:
    made = rigged([write_events(tmp_path, burst_events(noise=50))], NOW, "defender")
    hunt = Catalog().find("qakbot-post-compromise-commands")[0]
    whole = result(hunt, made)
    assert whole.hits
    for cut in ("devices:3", "49h"):
        assert found(result(hunt, made, read_slices(cut))) == found(whole)
    made.close()


def test_an_answer_cut_at_a_limit_is_divided_until_it_fits(backend: Rigged) -> None:
    hunt = Catalog().find("qakbot-post-compromise-commands")[0]
    whole = result(hunt, backend)
    backend.most_rows = 12
    for cut in ("devices:2", "4d", "auto"):
        backend.asked.clear()
        sliced = result(hunt, backend, read_slices(cut))
        assert found(sliced) == found(whole), (cut, sliced.ledger.lines[:2], sliced.warnings)
        assert sliced.verdict == whole.verdict
        assert any("divided from" in line.detail for line in sliced.ledger.lines)
        # Every call is in the ledger, those that were too much among them.
        told = [id_ for line in sliced.ledger.lines for id_ in line.request_ids]
        assert len(told) == len(set(told)) == len(backend.asked)


def test_below_the_floor_the_line_is_truncated_and_not_clean(backend: Rigged) -> None:
    hunt = Catalog().find("qakbot-post-compromise-commands")[0]
    backend.most_rows = 0
    eight_days = read_slices("8d")
    assert eight_days is not None
    by_time = replace(eight_days, shortest=Timespan.parse("2d"))
    for request in (SliceRequest("devices", parts=2, most_parts=8), by_time):
        sliced = result(hunt, backend, request)
        assert sliced.verdict.value == "incomplete"
        assert {line.status.value for line in sliced.ledger.lines} <= {"truncated", "complete"}


def test_too_many_records_to_bring_together_is_truncated(backend: Rigged) -> None:
    hunt = Catalog().find("qakbot-post-compromise-commands-any")[0]
    day = read_slices("4d")
    assert day is not None
    few = SliceRequest(day.kind, span=day.span, most_rows=100)
    sliced = result(hunt, backend, few)
    assert not sliced.hits
    assert sliced.verdict.value == "incomplete"
    assert "too many to bring together" in sliced.ledger.lines[0].detail


@pytest.mark.parametrize(
    ("query", "device_words", "time_words"),
    [
        ("DeviceProcessEvents | summarize count() by AccountName", "group by DeviceName", ""),
        ("DeviceProcessEvents | summarize count()", "group by DeviceName", ""),
        ("DeviceProcessEvents | count", "'count'", ""),
        ("DeviceProcessEvents | top 3 by TimeGenerated", "'top'", ""),
        ("DeviceProcessEvents | take 5", "'take'", "at will"),
        ("DeviceProcessEvents | where rand() < 0.5", "rand()", "rand()"),
        (
            "DeviceProcessEvents | where ingestion_time() > ago(1d)",
            "ingestion_time()",
            "ingestion_time()",
        ),
        (
            "DeviceProcessEvents | where FileName in ((externaldata(x: string) ['https://x'] ))",
            "externaldata",
            "externaldata",
        ),
        ("DeviceProcessEvents | project-away Device* | distinct *", "is gone", ""),
        (
            "DeviceProcessEvents | extend DeviceName = tolower(DeviceName)"
            " | summarize count() by DeviceName",
            "is gone",
            "",
        ),
        (
            "DeviceProcessEvents | where AccountName in"
            " ((DeviceProcessEvents | project AccountName))",
            "records of all devices",
            "",
        ),
        (
            "DeviceProcessEvents | join (DeviceProcessEvents) on AccountName",
            "does not match by DeviceName",
            "",
        ),
        (
            "DeviceProcessEvents | sort by TimeGenerated asc | extend N = row_number()",
            "from one device to the next",
            "",
        ),
        (
            "DeviceProcessEvents | extend T = toscalar(DeviceProcessEvents | count)",
            "inside an expression",
            "",
        ),
        ("union Device* | where FileName == 'a'", "no table", "no table"),
        ("DeviceProcessEvents | union Device* | project DeviceName", "union", "wildcard"),
        ("DeviceProcessEvents | invoke FileProfile()", "'invoke'", "'invoke'"),
        ("DeviceProcessEvents | evaluate bag_unpack(AdditionalFields)", "'evaluate'", "'evaluate'"),
    ],
)
def test_what_cannot_be_sliced_is_told_with_its_reason(
    query: str, device_words: str, time_words: str, tmp_path: Path
) -> None:
    timed = f"let W = datetime(2026-10-01);\n{query}\n| where TimeGenerated > W"
    if "count" in query or "distinct" in query or "project" in query:
        timed = query.replace(
            "DeviceProcessEvents",
            "DeviceProcessEvents | where TimeGenerated > datetime(2026-10-01)",
            1,
        )
    rendered = render(hunt_of(timed, tmp_path), now=NOW, window=WINDOW)
    found = sliceability(rendered)

    assert device_words in found.not_by_device
    assert found.by_device is None
    if time_words:
        assert found.by_time is None
        assert time_words in found.not_by_time


def test_a_query_that_cannot_be_sliced_runs_whole_and_says_so(
    backend: Rigged, tmp_path: Path
) -> None:
    query = (
        "DeviceProcessEvents | where TimeGenerated > datetime(2026-10-01)"
        " | summarize N = count() by AccountName"
    )
    hunt = hunt_of(query, tmp_path)
    sliced = result(hunt, backend, read_slices("devices:4"))
    assert found(sliced) == found(result(hunt, backend))
    assert [line.slice for line in sliced.ledger.lines] == ["whole window"]
    assert "does not group by DeviceName" in sliced.warnings[0]
    assert "--slice 1d" in sliced.warnings[0]


@pytest.mark.parametrize(
    "text",
    ["", "days", "3", "0d", "1s", "90.5s", "devices", "devices:", "devices:1", "devices:9999999",
     "devices:-2", "devices:²", "-1d", "auto:3"],
)  # fmt: skip
def test_a_slice_that_is_none_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(ValueError, match=r"slice|parts|unit"):
        read_slices(text)
