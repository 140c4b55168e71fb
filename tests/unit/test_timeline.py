"""The timeline: order, offsets, marks, folding."""

from __future__ import annotations

from typing import Any

import pytest

from qakhunt.kql.values import Timespan
from qakhunt.triage.timeline import Folded, Moment, Quiet, entries
from qakhunt.triage.words import offset, span
from tests.support.triage import at, burst, created, hit_report_of

LOADER = ("rundll32.exe", "rundll32.exe x.dll,A", 8836, -140)


def network(
    seconds: float, issuer: tuple[str, int, float] = ("wermgr.exe", 9204, -95)
) -> dict[str, Any]:
    return {
        "TimeGenerated": at(seconds).isoformat(), "ActionType": "ConnectionSuccess",
        "RemoteIP": "192.0.2.7", "RemotePort": 443, "RemoteUrl": "", "InitiatingProcessFileName": issuer[0],
        "InitiatingProcessId": issuer[1], "InitiatingProcessCreationTime": at(issuer[2]).isoformat(),
    }  # fmt: skip


def test_events_stand_in_order_with_offsets_from_the_first_command() -> None:
    before = created(-95, "wermgr.exe", "wermgr.exe", 9204, issuer=LOADER)
    hit_report = hit_report_of(
        [*reversed(burst()), before], tables={"DeviceNetworkEvents": [network(3)]}
    )
    assert [moment.event.at for moment in hit_report.moments] == sorted(
        m.event.at for m in hit_report.moments
    )
    offsets = [moment.offset.seconds for moment in hit_report.moments]
    assert offsets[0] == -95
    assert offsets[1] == 0
    assert [m.own for m in hit_report.moments] == [False, *[True] * 7, False]
    assert hit_report.moments[-1].event.what == "192.0.2.7:443"
    assert hit_report.moments[-1].related


def test_commands_with_them_that_the_hunt_does_not_count_are_told_apart() -> None:
    hit_report = hit_report_of(burst(["arp -a", "netstat -nao"]), commands=["arp -a"])
    notes = {note.command.line: note for note in hit_report.commands}
    assert notes["arp -a"].counted
    assert notes["arp -a"].counted_by == ("qakbot-post-compromise-commands",)
    assert not notes["netstat -nao"].counted
    assert notes["netstat -nao"].command.family == "netstat"
    assert notes["netstat -nao"].techniques[0].url == "https://attack.mitre.org/techniques/T1049/"


def test_the_same_command_of_another_account_is_another_hits() -> None:
    theirs = created(1, "arp.exe", "arp -a", 77, AccountName="bob")
    hit_report = hit_report_of([*burst(["arp -a"]), theirs], commands=["arp -a"])
    assert [moment.own for moment in hit_report.moments] == [True, False]


def test_quiet_stretches_are_folded() -> None:
    hit_report = hit_report_of(
        [
            *burst(["arp -a"]),
            created(120, "route.exe", "route print", 9),
            created(239, "net.exe", "net share", 8),
        ]
    )
    kinds = [type(entry) for entry in entries(hit_report.moments, fold=False)]
    assert kinds == [Moment, Quiet, Moment, Moment]


def test_events_of_others_are_folded_with_the_quiet_around_them() -> None:
    others = ("svchost.exe", "svchost.exe -k x", 1, -9000)
    noise = [
        created(s, "t.exe", "t.exe", 500 + n, issuer=others) for n, s in enumerate((200, 300, 400))
    ]
    hit_report = hit_report_of(
        [*burst(["arp -a"]), *noise, created(500, "net.exe", "net share", 8)]
    )
    shown = entries(hit_report.moments, fold=True)
    assert [type(entry) for entry in shown] == [Moment, Folded, Moment]
    assert isinstance(shown[1], Folded)
    assert len(shown[1].moments) == 3
    assert shown[1].length.seconds == 500
    assert len([e for e in entries(hit_report.moments, fold=False) if isinstance(e, Moment)]) == 5


def test_one_record_told_twice_is_one_event() -> None:
    assert len(hit_report_of([*burst(["arp -a"]), *burst(["arp -a"])]).moments) == 1


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "+0.00 s"), (53.86, "+53.86 s"), (-41.9, "-41.90 s"), (-252, "-4 m 12 s"),
        (3720, "+1 h 02 m"), (1_825_200, "+21 d 03 h"), (59.999, "+60.00 s"),
    ],
)  # fmt: skip
def test_offsets_are_words(seconds: float, words: str) -> None:
    assert offset(Timespan(round(seconds * 10_000_000))) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.27, "0.27 s"), (58, "58 s"), (720, "12 min"), (12_240, "3.4 h"), (1_814_400, "21 days")],
)
def test_lengths_are_words(seconds: float, words: str) -> None:
    assert span(seconds) == words
