"""Process trees: joined by id and creation time, whatever the records say."""

from __future__ import annotations

import time
from typing import Any

import pytest

from qakhunt.answers.run_result import PROCESSES, HitContext
from qakhunt.triage.process_tree import MOST_CHILDREN, Forest, Node, branch, tree_rows
from qakhunt.triage.records import Event, processes_of
from tests.support.triage import at, burst, created, hit_report_of


def forest_of(records: list[dict[str, Any]]) -> tuple[Forest, list[Event]]:
    events = processes_of(HitContext(records={PROCESSES: records}))
    return Forest(events), events


def chain(node: Node) -> list[str]:
    return [above.process.file for above in node.ancestors()]


def test_a_process_finds_its_parent_and_the_parents_parent() -> None:
    forest, events = forest_of(
        [
            created(-140, "rundll32.exe", "rundll32.exe x.dll,A", 8836, issuer=("wscript.exe", "w", 7, -300), before=("explorer.exe", 4, -900)),
            created(-95, "wermgr.exe", "wermgr.exe", 9204, issuer=("rundll32.exe", "rundll32.exe x.dll,A", 8836, -140), before=("wscript.exe", 7, -300)),
            created(0, "arp.exe", "arp -a", 12),
        ]
    )  # fmt: skip
    node = forest.node_of(events[-1])
    assert chain(node) == ["wermgr.exe", "rundll32.exe", "wscript.exe", "explorer.exe"]
    assert [above.event is not None for above in node.ancestors()] == [True, True, False, False]
    assert not any(above.likely for above in [node, *node.ancestors()])


def test_an_id_that_is_used_again_is_another_process() -> None:
    forest, events = forest_of(
        [
            created(-500, "old.exe", "old.exe", 9204, issuer=None, before=None),
            created(-95, "wermgr.exe", "wermgr.exe", 9204, issuer=None, before=None),
            created(0, "arp.exe", "arp -a", 12),
            created(50, "young.exe", "young.exe", 9204, issuer=None, before=None),
        ]
    )
    parent = forest.node_of(events[2]).parent
    assert parent is forest.node_of(events[1])


def test_creation_times_agree_to_the_millisecond() -> None:
    near, events = forest_of([
        created(-95.0009, "wermgr.exe", "wermgr.exe", 9204, issuer=None), created(0, "arp.exe", "arp -a", 12),
    ])  # fmt: skip
    assert near.node_of(events[1]).parent is near.node_of(events[0])
    far, events = forest_of([
        created(-95.0021, "wermgr.exe", "wermgr.exe", 9204, issuer=None), created(0, "arp.exe", "arp -a", 12),
    ])  # fmt: skip
    assert far.node_of(events[1]).parent is not far.node_of(events[0])


UNTIMED = ("cmd.exe", "cmd.exe /c a.bat", 44, None)


def test_without_creation_times_the_latest_of_that_id_name_and_line_is_likely() -> None:
    forest, events = forest_of(
        [
            created(-20, "cmd.exe", "cmd.exe /c a.bat", 44, issuer=None, timed=False),
            created(0, "arp.exe", "arp -a", 12, issuer=UNTIMED, timed=False),
        ]
    )
    child = forest.node_of(events[1])
    assert child.parent is forest.node_of(events[0])
    assert child.likely


@pytest.mark.parametrize(
    "between",
    [
        created(-10, "other.exe", "other.exe", 44, issuer=None, timed=False),
        created(-10, "cmd.exe", "cmd.exe /c b.bat", 44, issuer=None, timed=False),
    ],
)
def test_without_creation_times_an_id_used_again_is_never_joined(between: dict[str, Any]) -> None:
    forest, events = forest_of(
        [
            created(-20, "cmd.exe", "cmd.exe /c a.bat", 44, issuer=None, timed=False),
            between,
            created(0, "arp.exe", "arp -a", 12, issuer=UNTIMED, timed=False),
        ]
    )
    parent = forest.node_of(events[2]).parent
    assert parent is not None
    assert parent.event is None


def test_a_process_that_starts_later_is_no_parent() -> None:
    forest, events = forest_of(
        [
            created(0, "arp.exe", "arp -a", 12, issuer=UNTIMED, timed=False),
            created(5, "cmd.exe", "cmd.exe /c a.bat", 44, issuer=None, timed=False),
        ]
    )
    parent = forest.node_of(events[0]).parent
    assert parent is not None
    assert parent.event is None


def test_commands_of_one_unrecorded_parent_are_siblings() -> None:
    forest, events = forest_of(
        burst(issuer=("explorer.exe", "explorer.exe", 9001, None), before=None, timed=False)
    )
    parents = {id(forest.node_of(event).parent) for event in events}
    assert len(parents) == 1


def test_a_circle_of_parents_is_cut_and_said() -> None:
    forest, events = forest_of(
        [
            created(0, "a.exe", "a.exe", 1, issuer=("b.exe", "b.exe", 2, 0), before=None),
            created(0, "b.exe", "b.exe", 2, issuer=("c.exe", "c.exe", 3, 0), before=None),
            created(0, "c.exe", "c.exe", 3, issuer=("a.exe", "a.exe", 1, 0), before=None),
            created(
                0, "self.exe", "self.exe", 9, issuer=("self.exe", "self.exe", 9, 0), before=None
            ),
        ]
    )
    nodes = [forest.node_of(event) for event in events]
    for node in nodes:
        assert node not in list(node.ancestors())
    assert [node.circular for node in nodes].count(True) == 2


def test_a_wrapper_and_net_are_looked_through() -> None:
    shell = created(0, "cmd.exe", "cmd.exe /c whoami /all", 40)
    inner = created(
        0.01,
        "whoami.exe",
        "whoami  /all",
        41,
        issuer=("cmd.exe", "cmd.exe /c whoami /all", 40, 0),
        before=("wermgr.exe", 9204, -95),
    )
    net = created(1, "net.exe", "net share", 50)
    net1 = created(
        1.1,
        "net1.exe",
        "net1 share",
        51,
        issuer=("net.exe", "net share", 50, 1),
        before=("wermgr.exe", 9204, -95),
    )
    redirected = created(2, "cmd.exe", "cmd.exe /C whoami > C:\\t.tmp 2>&1", 60)
    plain = created(2.1, "whoami.exe", "whoami", 61, issuer=("cmd.exe", "cmd.exe /C whoami > C:\\t.tmp 2>&1", 60, 2), before=("wermgr.exe", 9204, -95))  # fmt: skip
    forest, events = forest_of([shell, inner, net, net1, redirected, plain])
    issuers = {forest.issuer_of(forest.node_of(event)) for event in events}
    assert [issuer.process.file for issuer in issuers if issuer] == ["wermgr.exe"]


def test_a_shell_that_runs_something_else_is_the_issuer() -> None:
    child = created(
        1,
        "whoami.exe",
        "whoami  /all",
        41,
        issuer=("cmd.exe", "cmd.exe /c recon.bat", 40, 0),
        before=None,
    )
    forest, events = forest_of([child])
    issuer = forest.issuer_of(forest.node_of(events[0]))
    assert issuer is not None
    assert issuer.process.line == "cmd.exe /c recon.bat"


def test_ten_thousand_children_are_drawn_in_part_and_counted() -> None:
    noise = [created(1 + n / 1000, "x.exe", f"x.exe {n}", 20_000 + n) for n in range(10_000)]
    started = time.process_time()
    hit_report = hit_report_of([*burst(), *noise])
    assert hit_report.processes is not None
    rows = tree_rows(hit_report.processes)
    assert time.process_time() - started < 20
    assert len(rows) < 60
    (more,) = [row for row in rows if row.role == "more"]
    drawn = sum(row.role in ("command", "other") for row in rows)
    assert drawn >= MOST_CHILDREN
    assert more.hidden + drawn == 10_007
    assert sum(row.own for row in rows) == 7


def test_a_chain_of_thousands_neither_fails_nor_fills_the_page() -> None:
    deep = [
        created(-2000 + n, f"p{n}.exe", f"p{n}.exe", 100 + n, issuer=(f"p{n - 1}.exe", f"p{n - 1}.exe", 99 + n, -2001 + n), before=None)
        for n in range(1, 1900)
    ]  # fmt: skip
    last = created(
        0, "arp.exe", "arp -a", 9, issuer=("p1899.exe", "p1899.exe", 1999, -101), before=None
    )
    hit_report = hit_report_of([*deep, last])
    assert hit_report.processes is not None
    assert len(list(hit_report.processes.issuers[0].ancestors())) == 1899
    assert len(tree_rows(hit_report.processes)) < 20


def test_rows_are_drawn_with_their_lines() -> None:
    hit_report = hit_report_of(burst(["arp -a", "net share"]))
    assert hit_report.processes is not None
    rows = tree_rows(hit_report.processes)
    drawn = [f"{branch(row)}{row.node.process.file if row.node else ''}" for row in rows]
    assert drawn == ["rundll32.exe", "└─ wermgr.exe", "   ├─ arp.exe", "   └─ net.exe"]


@pytest.mark.parametrize(
    "missing",
    [
        "ProcessId",
        "FileName",
        "InitiatingProcessId",
        "ProcessCreationTime",
        "InitiatingProcessFileName",
    ],
)
@pytest.mark.parametrize("value", [None, "", -1, 1.5, True, [], {"a": 1}, "x" * 40_000])
def test_a_column_may_hold_anything(missing: str, value: Any) -> None:
    records = [record | {missing: value} for record in burst()]
    hit_report = hit_report_of(records)
    assert hit_report.processes is not None
    tree_rows(hit_report.processes)
    assert hit_report.entities


def test_at_is_what_the_tests_think() -> None:
    assert at(0.2).since(at(0)).seconds == pytest.approx(0.2)
