"""A week of scheduled runs: no finding lost, none told twice, no window unlooked."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections import Counter

import pytest

from qakhunt.kql.values import Instant, Timespan
from qakhunt.schedule.store_file import open_file
from tests.support.receivers import Answer, http_receiver
from tests.support.week import (
    COMMANDS,
    CONTOSO,
    DAY,
    FABRIKAM,
    FIRST,
    HOUR,
    HUNTS,
    SECOND,
    START,
    TAILSPIN,
    THIRD,
    Burst,
    Week,
)

pytest.importorskip("azure.monitor.ingestion", reason="azure-monitor-ingestion is an extra")


def after(days: float, hours: float = 0) -> Instant:
    return START + Timespan(int(days * DAY.ticks + hours * HOUR.ticks))


def down(workspace: str | None = None, fault: str = "unavailable") -> list[dict[str, object]]:
    rule: dict[str, object] = {"fault": fault}
    return [{**rule, "workspace": workspace} if workspace else rule]


@pytest.fixture(scope="module")
def week(tmp_path_factory: pytest.TempPathFactory) -> Week:
    """Seven days at 06:00; what happens on each stands in the table."""
    with http_receiver() as receiver:
        lab = Week(tmp_path_factory.mktemp("week"), receiver)
        lab.bursts += [
            Burst(FIRST, "c-before", after(-3)),
            Burst(SECOND, "c-day2", after(1, -5)),
            Burst(FABRIKAM, "f-day3", after(2, -7)),
            *(Burst(place, f"{name}{n}-day4", after(3, -2 - n / 10))
              for n in range(8) for name, place in (("c", FIRST), ("f", FABRIKAM), ("t", THIRD))),
            Burst(FABRIKAM, "f-offline", after(1, -3), late=Timespan(int(2.9 * DAY.ticks))),
            Burst(FIRST, "c-36h-late", after(2, 1), late=Timespan(36 * HOUR.ticks)),
            Burst(SECOND, "c-60h-late", after(1, 1), late=Timespan(60 * HOUR.ticks)),
            Burst(THIRD, "t-day5", after(4, -1)),
            Burst(SECOND, "c-day6", after(5, -4)),
            Burst(FIRST, "c-before", after(5, 2), commands=[COMMANDS[4]]),
            Burst(THIRD, "t-day7", after(6, -2)),
        ]  # fmt: skip
        lab.run(after(0), "all well")
        lab.run(after(1), "a workspace is down", faults={CONTOSO: down(SECOND)})
        lab.run(
            after(2),
            "no permission at one tenant",
            faults={FABRIKAM: [{"fault": "forbidden", "paths": ["hunting"]}]},
        )
        lab.run(after(3), "24 bursts; killed while it delivers", kill_after=7)
        lab.receiver.answers.extend([Answer()] * 5 + [Answer(400)] * 60)
        lab.run(after(3, 1), "an hour later; the webhook refuses most")
        lab.run(after(4), "partial answers; late records", faults={TAILSPIN: down(fault="partial")})
        lab.run(after(6), "after a day without a run; one grows")
        lab.run(after(6, 1), "all well")
        print("\n" + lab.shown())
        return lab


def expected(week: Week) -> Counter[str]:
    """Reports per device: one, whichever hunts find it, and one more for the finding that grew."""
    per_device = dict.fromkeys((burst.device for burst in week.bursts), 1)
    per_device["c-before"] = 1 + 1
    return Counter(per_device)


def test_no_finding_is_lost_and_none_is_told_twice_but_for_the_crash(week: Week) -> None:
    told = week.told()
    ids = set(told["file"])
    assert len(ids) == sum(expected(week).values())
    for sink, arrived in told.items():
        assert set(arrived) == ids, sink
        twice = [id_ for id_, count in Counter(arrived).items() if count > 1]
        assert len(twice) <= 1, (sink, twice)
    assert Counter(told["file"]).most_common(1)[0][1] <= 2


def test_every_device_is_told_as_often_as_it_should(week: Week) -> None:
    lines = (week.folder / "findings.ndjson").read_text().splitlines()
    documents = [json.loads(line) for line in lines]
    seen = {d["id"]: d["device"] for d in documents if "device" in d}
    assert Counter(seen.values()) == expected(week)
    grown = [d for d in documents if d.get("news") == "grown"]
    assert [(d["device"], d["new_commands"]) for d in grown] == [("c-before", [COMMANDS[4]])]


def test_no_window_is_left_unlooked(week: Week) -> None:
    assert len(week.answered) == len(HUNTS) * 4
    assert week.unlooked() == {}


def test_state_deliveries_and_ledger_agree(week: Week) -> None:
    told = week.told()
    with contextlib.closing(open_file(week.state, after(7))) as store:
        assert store.warnings == []
        assert store.pending() == []
        for coverage in store.coverages():
            assert coverage.watermark == after(6, 1)
            assert (coverage.backlog, coverage.lost) == ((), ())
        revisions = {known.reported_as: known.revision for known in store.known().values()}
        assert sum(revisions.values()) == len(set(told["file"]))
    with contextlib.closing(sqlite3.connect(week.state)) as connection:
        kept = connection.execute(
            "SELECT sink, findings FROM outbox WHERE kind = 'findings' AND delivered IS NOT NULL"
        ).fetchall()
    for name, arrived in told.items():
        ids = [
            id_
            for sink, listed in kept
            if sink.partition(":")[0] == name
            for id_ in json.loads(listed)
        ]
        assert sorted(ids) == sorted(set(arrived)), name


def test_the_runs_said_what_they_could_not_do(week: Week) -> None:
    verdicts = [row.verdict for row in week.rows]
    assert verdicts == [
        "hits", "incomplete", "incomplete", "-", "hits", "incomplete", "hits", "hits"
    ]  # fmt: skip
    assert [row.code for row in week.rows] == [0, 4, 4, "SIGKILL", 6, 4, 0, 0]
    assert [row.owed > 0 for row in week.rows] == [
        False,
        True,
        True,
        False,
        False,
        True,
        False,
        False,
    ]
