"""Records put into an open session from memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from qakhunt.backends.engine.session import EngineRefused, Session
from qakhunt.kql.values import Instant, Timespan, Window
from tests.support.events import NOW

pytestmark = pytest.mark.engine

MOMENT = Instant.parse("2026-10-05T10:00:00.1234567Z")
OCTOBER = Window(Instant.parse("2026-10-01"), Instant.parse("2026-11-01"))


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with Session([], "log-analytics") as opened:
        yield opened


def ask(session: Session, query: str) -> list[Any]:
    return list(session.ask(query, now=NOW, window=OCTOBER).rows)


def test_cells_keep_their_types_and_the_rest_is_filled(session: Session) -> None:
    row = {
        "TimeGenerated": MOMENT, "ProcessId": 7, "AdditionalFields": {"a": [1, None]},
        "AccountName": None, "Mine": Timespan.parse("90m"),
    }  # fmt: skip
    session.put("DeviceProcessEvents", [row])
    (found,) = ask(
        session,
        "DeviceProcessEvents | project TimeGenerated, ProcessId, AdditionalFields.a, AccountName, "
        "FileName, FileSize, Mine",
    )
    assert found == (
        MOMENT.floor_microsecond(), 7, [1, None], "", "", None, Timespan.parse("90m"),
    )  # fmt: skip


def test_each_put_replaces_and_leaves_no_column_behind(session: Session) -> None:
    session.put("DeviceProcessEvents", [{"TimeGenerated": MOMENT, "Mine": 1}])
    session.put("DeviceProcessEvents", [{"TimeGenerated": MOMENT, "DeviceName": "x"}] * 300)
    assert ask(session, "DeviceProcessEvents | count") == [(300,)]
    with pytest.raises(EngineRefused, match="Mine"):
        ask(session, "DeviceProcessEvents | project Mine")
    session.put("DeviceProcessEvents", [])
    assert ask(session, "DeviceProcessEvents | summarize count() by DeviceName") == []


def test_a_table_that_no_schema_knows_has_the_columns_of_its_rows(session: Session) -> None:
    session.put("Mine_CL", [{"A_s": "x", "B_d": 1.5, "C_b": True}, {"A_s": None}])
    assert ask(session, "Mine_CL | sort by A_s desc") == [("x", 1.5, True), ("", None, None)]


def test_the_sandbox_holds(session: Session) -> None:
    session.put("DeviceProcessEvents", [{"TimeGenerated": MOMENT}])
    with pytest.raises(EngineRefused):
        ask(session, "['/etc/passwd'] | count")


def test_windows_cut_records_in_memory_too(session: Session) -> None:
    rows = [{"TimeGenerated": moment} for moment in (OCTOBER.start, OCTOBER.end)]
    session.put("DeviceProcessEvents", rows)
    assert ask(session, "DeviceProcessEvents | project TimeGenerated") == [(OCTOBER.start,)]
