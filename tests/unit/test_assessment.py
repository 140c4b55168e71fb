"""The assessment: each stated criterion at its edge, and what it never does."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from qakhunt.answers.ledger import Status
from qakhunt.answers.run_result import Rarity
from qakhunt.answers.table import Column
from qakhunt.hunts.command_catalogue import families
from qakhunt.kql.values import Instant
from qakhunt.triage.assessment import CRITERIA, TITLES, Assessment, Kind
from qakhunt.triage.hit_report import hit_reports
from tests.conftest import ROOT
from tests.support.triage import (
    at,
    burst,
    created,
    hit_report_of,
    result_with,
    run_with_context,
    sample_result,
)

if TYPE_CHECKING:
    from pathlib import Path

LOOKUP = "nslookup -querytype=ALL -timeout=12 _ldap._tcp.dc._msdcs.CORP.EXAMPLE"
SHELL = ("cmd.exe", "cmd.exe", 700, -60)
AGENT = ("WindowsAzureGuestAgent.exe", "WindowsAzureGuestAgent.exe", 3120, -9000)
SERVICE = ("services.exe", 600, -90_000)


def kind_of(commands: list[str], **kwargs: Any) -> Kind:
    return assessed(commands, **kwargs).kind


def assessed(
    commands: list[str], *, context: bool = True, gap: float = 0.2, **kwargs: Any
) -> Assessment:
    known = {key: kwargs.pop(key) for key in ("rarity", "last") if key in kwargs}
    records = burst(commands, gap=gap, **kwargs) if context else None
    return hit_report_of(records, commands=commands, **known).assessment


def test_the_lookup_needs_three_families() -> None:
    assert kind_of([LOOKUP, "arp -a", "route print"]) is Kind.QAKBOT
    assert kind_of([LOOKUP, "arp -a"]) is not Kind.QAKBOT
    assert kind_of([LOOKUP, "arp -a", "arp -a -v"]) is not Kind.QAKBOT


def test_an_injected_host_needs_three_families_and_an_anchor() -> None:
    assert kind_of(["whoami /all", "arp -a", "route print"]) is Kind.QAKBOT
    assert kind_of(["whoami /all", "arp -a"]) is Kind.UNCLEAR
    assert kind_of(["netstat -nao", "arp -a", "route print", "ipconfig /all"]) is Kind.UNCLEAR


def test_another_process_needs_four_families_two_anchors_and_a_look_beyond_the_device() -> None:
    program = {"issuer": ("tool.exe", "tool.exe -q", 700, -60)}
    four = ["whoami /all", "net view", "arp -a", "route print"]
    assert kind_of(four, **program) is Kind.QAKBOT
    assert kind_of(four[:3], **program) is Kind.UNCLEAR
    assert kind_of(["netstat -nao", *four[1:]], **program) is Kind.UNCLEAR
    own = ["whoami /all", "net localgroup", "arp -a", "route print"]
    assert kind_of(own, **program) is Kind.UNCLEAR
    assert kind_of(own, issuer=("tool.exe", "tool.exe", 700, -60)) is Kind.QAKBOT


def test_a_shell_needs_five_families_and_two_anchors() -> None:
    five = ["whoami /all", "net view", "arp -a", "route print", "ipconfig /all"]
    assert kind_of(five, issuer=SHELL) is Kind.QAKBOT
    assert kind_of(five[:4], issuer=SHELL) is not Kind.QAKBOT
    assert kind_of(["whoami /all", "netstat -nao", *five[2:]], issuer=SHELL) is not Kind.QAKBOT
    own = ["whoami /all", "net localgroup", *five[2:]]
    assert kind_of(own, issuer=SHELL) is Kind.UNCLEAR  # nothing about other computers
    rare = ["whoami /all", "nltest /dclist:", "nltest /domain_trusts", "net group x /domain"]
    assert kind_of(rare, issuer=SHELL) is Kind.LOADER
    assert kind_of([*rare[:3], "arp -a"], issuer=SHELL) is Kind.UNCLEAR


SEVEN = ["whoami /all", "net view", "net localgroup", LOOKUP, "arp -a", "route print", "net share"]


def by_many(commands: list[str], file: str, line: str) -> Kind:
    """The assessment of commands each of which has an issuing process of its own."""
    records = [
        record
        for number, command in enumerate(commands)
        for record in burst([command], issuer=(file, line, 800 + 4 * number, -60.0 - number))
    ]
    return hit_report_of(records, commands=commands).assessment.kind


def test_several_processes_need_seven_families_and_four_anchors_together() -> None:
    assert by_many(SEVEN, "dllhost.exe", "dllhost.exe x") is Kind.QAKBOT
    assert by_many(SEVEN[:6], "dllhost.exe", "dllhost.exe x") is not Kind.QAKBOT
    fewer = ["netstat -nao", *SEVEN[1:]]
    assert by_many(fewer, "dllhost.exe", "dllhost.exe x") is not Kind.QAKBOT
    own = ["cmd /c set" if line == "net view" else line for line in SEVEN if line is not LOOKUP]
    assert (
        by_many([*own, "net config workstation"], "dllhost.exe", "dllhost.exe x") is not Kind.QAKBOT
    )
    # An injected host that is started anew for each command is one issuer.
    assert by_many(["whoami /all", "arp -a", "route print"], "wermgr.exe", "wermgr.exe") is (
        Kind.QAKBOT
    )


def test_when_nobody_is_known_to_have_issued_them_as_for_a_shell() -> None:
    five = ["whoami /all", "net view", "arp -a", "route print", "ipconfig /all"]
    assert kind_of(five, issuer=None, before=None) is Kind.QAKBOT
    assert kind_of(five[:4], issuer=None, before=None) is not Kind.QAKBOT


ICED = ["WMIC /Namespace:\\\\root\\SecurityCenter2 Path AntiVirusProduct Get *", "ipconfig /all",
        "systeminfo", "net config workstation", "nltest /domain_trusts"]  # fmt: skip


@pytest.mark.parametrize(
    ("commands", "issuer", "kind", "said"),
    [
        (ICED, "rundll32.exe x.dll,#1", Kind.LOADER, "IcedID's by public reports: antivirus product by WMIC"),
        (ICED[1:], "rundll32.exe x.dll,#1", Kind.LOADER, "IcedID, TrickBot, Ursnif"),
        ([*ICED, "cmd /c set"], "rundll32.exe x.dll,#1", Kind.LOADER, "Qakbot's by public reports"),
        ([*ICED, "cmd /c set", "arp -a"], "rundll32.exe x.dll,#1", Kind.QAKBOT, "Qakbot's by public reports"),
        ([*ICED, LOOKUP], "rundll32.exe x.dll,#1", Kind.QAKBOT, "Qakbot's by public reports"),
        (["whoami /all", "ipconfig /all", "netstat -nao", "net view"], "SearchProtocolHost.exe",
         Kind.LOADER, "Pikabot's by public reports: the host SearchProtocolHost.exe"),
        (["whoami /all", "ipconfig /all", "netstat -nao", "net view"], "msdt.exe x", Kind.LOADER,
         "nothing here distinguishes Qakbot from other loaders"),
    ],
)  # fmt: skip
def test_a_loader_is_named_by_what_distinguishes_it(
    commands: list[str], issuer: str, kind: Kind, said: str
) -> None:
    found = assessed(commands, issuer=(issuer.split()[0], issuer, 700, -60))
    assert found.kind is kind
    assert any(said in reason.text for reason in found.reasons)
    assert "do not name the malware" in found.caution
    assert kind is Kind.QAKBOT or "(Qakbot, Pikabot, IcedID, ...)" in found.title


def test_a_burst_is_fifteen_minutes_from_one_process() -> None:
    four = ["whoami /all", "arp -a", "route print", "ipconfig /all"]
    assert kind_of(four[:3], gap=450) is Kind.QAKBOT  # 900 s from first to last
    assert kind_of(four[:3], gap=451) is not Kind.QAKBOT
    two = [
        *burst(four[:2]),
        *burst(four[2:], issuer=("other.exe", "other.exe x", 5, -9)),
    ]
    assert hit_report_of(two, commands=four).assessment.kind is not Kind.QAKBOT


def test_the_guest_agent_resembles_inventory() -> None:
    found = assessed(
        ["ipconfig.exe /all", "route.exe print", "arp.exe -a"], issuer=AGENT, before=SERVICE
    )
    assert found.kind is Kind.INVENTORY
    assert "the issuing process is the Azure guest agent" in " ".join(r.text for r in found.reasons)
    assert "does not clear" in found.caution


def test_an_agents_name_does_not_hide_what_qakbot_does() -> None:
    """Anyone can call a file WindowsAzureGuestAgent.exe."""
    commands = ["whoami /all", "net view", LOOKUP, "arp -a"]
    assert kind_of(commands, issuer=AGENT, before=SERVICE) is Kind.QAKBOT


def test_commands_spread_over_days_resemble_inventory_only_with_their_times() -> None:
    commands = ["ipconfig /all", "route print", "net share", "arp -a"]
    week = 7 * 86_400
    spread = assessed(
        commands, gap=week, issuer=("inv.exe", "inv.exe -s", 5, -60), last=at(21 * 86_400)
    )
    assert spread.kind is Kind.INVENTORY
    blind = assessed(commands, context=False, last=at(21 * 86_400))
    assert blind.kind is Kind.UNCLEAR
    assert any("only the times" in reason.text for reason in blind.reasons)


def test_the_same_process_on_many_devices_or_days_resembles_inventory() -> None:
    three = ["ipconfig /all", "route print", "arp -a"]
    issuer = ("inv.exe", "inv.exe -s", 5, -60)
    for devices, days, kind in (
        (5, 1, Kind.INVENTORY),
        (1, 10, Kind.INVENTORY),
        (4, 9, Kind.UNCLEAR),
    ):
        rarity = (Rarity("issuer", "inv.exe", devices, 2, days),)
        assert kind_of(three, issuer=issuer, rarity=rarity) is kind


def test_a_shell_at_a_persons_pace_resembles_administration() -> None:
    three = ["ipconfig /all", "whoami /all", "net localgroup"]
    assert kind_of(three, issuer=SHELL, gap=15) is Kind.ADMINISTRATION
    assert kind_of(three, issuer=SHELL, gap=2) is Kind.UNCLEAR
    assert kind_of(three, issuer=("tool.exe", "tool.exe -q", 700, -60), gap=15) is Kind.UNCLEAR


def test_every_kind_says_what_it_does_not_say() -> None:
    assert set(TITLES) == set(Kind)
    assert {c.kind for c in CRITERIA} | {Kind.LOADER, Kind.UNCLEAR} == set(Kind)
    for criterion in CRITERIA:
        assert criterion.text[0].islower()
    for commands in (["arp -a"], ["whoami /all", "net view", LOOKUP]):
        found = assessed(commands)
        assert found.caution
        assert found.not_looked_at


def test_what_was_not_looked_at_is_said() -> None:
    nothing = hit_report_of(None).assessment
    assert "it was not asked for" in nothing.not_looked_at[0]
    silent = hit_report_of([]).assessment
    assert any("the device itself" in text for text in silent.not_looked_at)
    others = hit_report_of([created(5, "x.exe", "x.exe", 8)]).assessment
    assert any("the hit's commands" in text for text in others.not_looked_at)
    result = result_with(burst())
    assert result.context is not None
    held = result.context.hits[0]
    import dataclasses

    cut = dataclasses.replace(held.tables[0], found=900, kept=200)
    missing = dataclasses.replace(
        held.tables[0], table="DeviceFileEvents", status=Status.FAILED, detail="no such table"
    )
    result.context.hits[0] = dataclasses.replace(held, tables=(cut, missing))
    said = hit_reports(result)[0].assessment.not_looked_at
    assert "process events: 900 lie around the hit, the nearest 200 are here" in said
    assert "file events: no such table" in said


FIVE = ["whoami /all", "net view", "arp -a", "route print", "ipconfig /all"]


def of_row(**cells: Any) -> Kind:
    """The assessment of a hit without context whose row has these cells besides."""
    result = result_with(None, commands=FIVE, last=at(30))
    hit = result.hits[0]
    columns = tuple(Column(name, "dynamic") for name in cells)
    result.hits[0] = replace(
        hit, columns=hit.columns + columns, cells=(*hit.cells, *cells.values())
    )
    return hit_reports(result)[0].assessment.kind


def test_the_issuer_that_the_row_names_counts_without_context() -> None:
    assert (
        of_row(IssuingProcess="wermgr.exe", IssuingProcessCommandLine="wermgr.exe") is Kind.QAKBOT
    )
    agent = {"IssuingProcess": "x.exe", "IssuingProcessParent": "CcmExec.exe"}
    assert of_row(**agent) is Kind.INVENTORY
    assert of_row(InitiatingProcessFileName="cmd.exe", InitiatingProcessCommandLine="cmd.exe",
                  InitiatingProcessParentFileName="explorer.exe") is Kind.UNCLEAR  # fmt: skip


def test_a_hit_by_device_says_so() -> None:
    for tier, said in (("device", True), ("issuer", False)):
        result = result_with(None, commands=FIVE, last=at(30))
        hit = result.hits[0]
        result.hits[0] = replace(
            hit, columns=(*hit.columns, Column("Tier", "string")), cells=(*hit.cells, tier)
        )
        reasons = hit_reports(result)[0].assessment.reasons
        assert any("Tier device" in reason.text for reason in reasons) is said


def test_the_guide_states_every_criterion() -> None:
    page = (ROOT / "docs" / "guides" / "triage.md").read_text(encoding="utf-8")
    stated = re.findall(r"^\| ([^|]+?) \| ([^|]+?) \|$", page, re.MULTILINE)[1:]
    titles = [TITLES[c.kind].replace(", as other loaders are too", "") for c in CRITERIA]
    assert stated[: len(CRITERIA)] == list(zip(titles, (c.text for c in CRITERIA), strict=True))


def test_a_renamed_program_counts_by_its_original_name() -> None:
    records = burst(FIVE[:3])
    for number, (name, rest) in enumerate((("ROUTE.EXE", "print"), ("ipconfig.exe", "/all"))):
        records.append(
            created(1 + number, "zz.exe", f"C:\\Temp\\zz.exe {rest}", 5000 + number,
                    ProcessVersionInfoOriginalFileName=name)
        )  # fmt: skip
    commands = [*FIVE[:3], "C:\\Temp\\zz.exe print", "C:\\Temp\\zz.exe /all"]
    found = hit_report_of(records, commands=commands).assessment
    assert any("5 families" in reason.text for reason in found.reasons)


@pytest.mark.parametrize("host", families().parents.injected)
def test_every_host_of_the_catalogue_counts_as_injected(host: str) -> None:
    issuer = (host, host, 700, -60)
    found = assessed(FIVE[2:], issuer=issuer, rarity=(Rarity("issuer", host, 400, 90, 30),))
    assert found.kind is Kind.UNCLEAR  # too few families, and prevalence says nothing of it
    assert any(f"{host} was started without arguments" in r.text for r in found.reasons)


def test_prevalence_never_outweighs_an_injected_host() -> None:
    rarity = (Rarity("issuer", "wermgr.exe", 400, 90, 30),)
    assert kind_of(FIVE, rarity=rarity) is Kind.QAKBOT
    assert kind_of(FIVE[2:], rarity=rarity) is Kind.UNCLEAR
    # Also through a shell that the host starts.
    shell = {"issuer": ("cmd.exe", "cmd.exe", 700, -60), "before": ("wermgr.exe", 9204, -95)}
    assert kind_of(FIVE, gap=30, rarity=rarity, **shell) is Kind.QAKBOT


@pytest.mark.parametrize(
    ("above", "line", "gap", "kind"),
    [
        ("ccmexec.exe", "powershell.exe -File inventory.ps1", 0.2, Kind.INVENTORY),
        ("teamviewer_service.exe", "cmd.exe", 0.2, Kind.ADMINISTRATION),
        ("explorer.exe", "cmd.exe", 9, Kind.ADMINISTRATION),
        ("explorer.exe", "cmd.exe", 0.2, Kind.QAKBOT),
        ("explorer.exe", "cmd.exe /c run.bat", 9, Kind.QAKBOT),
        ("other.exe", "cmd.exe", 9, Kind.QAKBOT),
    ],
)
def test_agents_help_desks_and_consoles_count_against(
    above: str, line: str, gap: float, kind: Kind
) -> None:
    issuer = (line.split()[0], line, 700, -60)
    assert kind_of(FIVE, issuer=issuer, before=(above, 600, -900), gap=gap) is kind


def test_an_agents_name_in_a_folder_that_users_write_counts_for_nothing() -> None:
    issuer = ("CcmExec.exe", "CcmExec.exe", 700, -60)
    for folder, status, kind in (
        ("C:\\Windows\\CCM\\CcmExec.exe", "Valid", Kind.INVENTORY),
        ("C:\\Users\\amy\\CcmExec.exe", "Valid", Kind.QAKBOT),
        ("C:\\Windows\\CCM\\CcmExec.exe", "Unsigned", Kind.QAKBOT),
    ):
        columns = {
            "InitiatingProcessFolderPath": folder,
            "InitiatingProcessSignatureStatus": status,
        }
        assert kind_of(FIVE, issuer=issuer, before=SERVICE, **columns) is kind


@pytest.mark.engine
def test_no_hit_is_left_out() -> None:
    result = sample_result()
    assert [d.number for d in hit_reports(result)] == [1, 2]


@pytest.mark.engine
def test_the_samples_burst_and_inventory_are_told_apart() -> None:
    first, second = hit_reports(sample_result())
    assert first.assessment.kind is Kind.QAKBOT
    assert second.assessment.kind is Kind.INVENTORY
    reasons = " ".join(reason.text for reason in first.assessment.reasons)
    assert "wermgr.exe was started without arguments" in reasons
    assert "rundll32.exe is among the ancestors" in reasons


@pytest.mark.engine
@pytest.mark.parametrize("rendering", ["direct", "cmdc", "posh"])
def test_reconstructed_bursts_are_consistent_with_qakbot(
    shared_data: Path, tmp_path: Path, rendering: str
) -> None:
    source = shared_data / "device-process-events" / f"reconstructed_qakbot_{rendering}.ndjson"
    events = tmp_path / "DeviceProcessEvents.ndjson"
    events.write_bytes(source.read_bytes())
    result = run_with_context(
        [str(events)], hunt="qakbot-post-compromise-commands-any", now=Instant.parse("2023-01-01"),
        window="2022-01-01/2023-01-01", around="10m", Commands=["whoami", "ipconfig"], Threshold=0,
    )  # fmt: skip
    kinds = [hit_report.assessment.kind for hit_report in hit_reports(result)]
    assert kinds == [Kind.QAKBOT] * 11
