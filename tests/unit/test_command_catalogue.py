"""One data file of families: the hunts' literals equal it, and the hunts read as Python does."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

from qakhunt.hunts.catalog import Catalog
from qakhunt.hunts.command_catalogue import (
    RENDERINGS,
    families,
    normalise,
    renderings_of,
    understand,
)
from qakhunt.hunts.parameters import parameters_of
from qakhunt.hunts.render import render
from qakhunt.kql.values import Instant

HUNTS = ("qakbot-recon-burst", "qakbot-recon-injected-parent")
NOW = Instant.parse("2022-12-20T12:00:00Z")
DATA = families()


def literals(name: str) -> dict[str, Any]:
    return {n: p.default for n, p in parameters_of(Catalog().find(name)[0]).items()}


@pytest.mark.parametrize("name", HUNTS)
def test_the_hunts_literals_equal_the_data_file(name: str) -> None:
    expected: dict[str, Any] = {
        "".join(part.capitalize() for part in family.split("_")): found.pattern
        for family, found in DATA.families.items()
    }
    expected |= {
        "Programs": list(DATA.programs),
        "Wrappers": [f"{name}.exe" for name in DATA.spelling.wrappers],
        "CmdWords": list(dict.fromkeys(f for found in DATA.families.values() for f in found.files)),
        "Anchors": list(DATA.anchors),
        "RemoteFamilies": list(DATA.remote),
        "Shells": list(DATA.parents.shells),
        "InjectedHosts": list(DATA.parents.injected),
        "Wrapper": DATA.spelling.wrapper,
        "OneCommand": DATA.spelling.one_command,
        "FirstWord": DATA.spelling.first_word,
    }
    have = literals(name)
    if name != "qakbot-recon-burst":
        del expected["RemoteFamilies"]  # it asks nothing of them
    assert {n: have.get(n) for n in expected} == expected


def test_every_technique_has_a_name_and_every_rendering_a_meaning() -> None:
    used = {t for family in DATA.families.values() for t in family.techniques}
    assert used <= set(DATA.techniques)
    assert tuple(DATA.renderings) == RENDERINGS


@pytest.mark.parametrize("family", DATA.families)
def test_every_rendering_of_a_command_is_of_its_family(family: str) -> None:
    for issued in DATA.families[family].issued:
        for rendering, lines in renderings_of(issued).items():
            for line in lines:
                assert understand(line).family == family, f"{rendering}: {line}"


@pytest.mark.parametrize(
    ("line", "normalised"),
    [
        ('C:\\Windows\\system32\\cmd.exe /d /s /c "whoami /all > c:\\x.txt 2>&1"', "whoami /all"),
        ('"C:\\Program Files\\a b\\net.exe"   View', "net view"),
        ("%COMSPEC% /Q /c @ipconfig/all & net view", "ipconfig/all"),
        ("cmd /c cmd.exe /c s^et", "set"),
        ("cmd.exe /C c:\\windows\\sysnative\\nltest.exe /domain_trusts", "nltest /domain_trusts"),
        ('conhost.exe --headless "cmd.exe" /c whoami  /all', "whoami /all"),
        ("C:\\Windows\\System32\\conhost.exe --headless --width 80 net view", "net view"),
        ('forfiles /p c:\\windows\\system32 /m notepad.exe /c "cmd /c arp -a"', "arp -a"),
        ("FORFILES.EXE /c net1.exe share", "net1 share"),
        ('cmd /c start "" /b /min route print', "route print"),
        ("cmd /c call C:\\Windows\\System32\\ARP.EXE -a", "arp -a"),
        ('cmd.exe /c powershell -nop -w hidden -Command "whoami /all; net view"', "whoami /all"),
        ("powershell.exe -NoProfile -c cmd /c set", "set"),
        ("cmd.exe", "cmd"),
        ("", ""),
    ],
)
def test_a_line_is_brought_into_one_form(line: str, normalised: str) -> None:
    assert normalise(line) == normalised


@pytest.mark.parametrize(
    "line",
    ["cmd /c set A=1 && x", "net share x=c:\\", "net localgroup administrators eve /add", "ipconfig",
     "whoami", "route add 10.0.0.0", "nslookup contoso.com", "netstat -e", "nltest /dsgetdc:x",
     "net config rdr", "net config server", "wmic product get name", "conhost.exe 0x4", "powershell -File whoami.ps1 /all",
     "cmd /c start notepad.exe whoami /all", "forfiles /s /m *.log"],
)  # fmt: skip
def test_other_uses_are_of_no_family(line: str) -> None:
    assert understand(line).family is None


def event(number: int, file: str, line: str) -> dict[str, Any]:
    """A record on a device of its own."""
    return {
        "Timestamp": "2022-12-19T10:00:00Z", "DeviceId": str(number), "DeviceName": str(number),
        "AccountName": "amy", "FileName": f"{file}.exe", "ProcessCommandLine": line,
        "InitiatingProcessId": 900, "InitiatingProcessFileName": "wermgr.exe",
        "InitiatingProcessCommandLine": "wermgr.exe", "InitiatingProcessParentId": 1,
    }  # fmt: skip


def families_by_hunt(name: str, events: list[dict[str, Any]], folder: Path) -> dict[int, Any]:
    """Device -> families and techniques that the hunt reads out of its one record."""
    from qakhunt.backends.engine.session import Session

    path = folder / "events.ndjson"
    path.write_text("".join(json.dumps(e) + "\n" for e in events), encoding="utf-8")
    rendered = render(
        Catalog().find(name)[0], now=NOW, parameters={"MinimumFamilies": 1, "MinimumAnchors": 0}
    )
    with Session([str(path)], "log-analytics") as session:
        table = session.ask(rendered.text, now=NOW, window=rendered.window)
    return {int(r["DeviceId"]): (r["Families"], r["Techniques"]) for r in table.records()}


@pytest.mark.engine
@pytest.mark.parametrize("name", HUNTS)
def test_the_hunts_know_every_rendering_and_its_techniques(name: str, tmp_path: Path) -> None:
    events: list[dict[str, Any]] = []
    expected: dict[int, Any] = {}
    for family, found in DATA.families.items():
        for issued in found.issued:
            for lines in renderings_of(issued).values():
                for line in lines:
                    file = re.split(r"[\s.]", line.replace('"', ""))[0].lower()
                    expected[len(events)] = ([family], sorted(found.techniques))
                    events.append(event(len(events), file, line))
    assert families_by_hunt(name, events, tmp_path) == expected


@pytest.mark.engine
def test_the_hunt_reads_hostile_lines_as_python_does(tmp_path: Path) -> None:
    """Two readers of one rule: what one takes for a command, so does the other."""
    chance = random.Random(650)
    prefixes = ["", "", "cmd /c ", "CMD.exe  /q /c ", '"cmd.exe" /d /s /c"', "c:\\windows\\cmd.exe /k ",
                "cmd /c cmd /c ", "cmd /v:on /c @(", "cmd.exe/c ", "cmd /c\t", "cmd ",
                "conhost --headless ", "conhost.exe 0x4 cmd /c ", "forfiles /m x /c \"cmd /c ", "forfiles /c ",
                "cmd /c start /b ", "cmd /c start \"\" /b ", "powershell -nop -c ", "pwsh -w hidden -Command \"",
                "cmd /c powershell -c ", "powershell -c cmd /c ", "cmd /c call "]  # fmt: skip
    names = ["whoami", "WHOAMI.EXE", '"arp"', '"net.exe"', "net1", "C:\\Windows\\system32\\net.exe", "s^et",
             "set", "ip^config", "netstat", "nltest.exe", "nslookup", "route", "qwinsta"]  # fmt: skip
    arguments = ["/all", "  /all", "-a", "view", "view /all > x", "share", "print", "-nao", "/ALL 2>&1", "",
                 "localgroup", "localgroup Administrators", "/domain_trusts & whoami", 'gro"u"p /domain',
                 "-querytype=ALL _ldap._tcp.dc._msdcs.x", "v^iew", "\u00e9\u0130", "user"]  # fmt: skip
    events: list[dict[str, Any]] = []
    expected: dict[int, str] = {}
    for _ in range(400):
        prefix, name, rest = (chance.choice(part) for part in (prefixes, names, arguments))
        line = f"{prefix}{name} {rest}{chance.choice(['', ' ', ')', '&&x'])}"
        wrapper = re.split(r"[ ./]", prefix.strip('"').rpartition("\\")[2].lower())[0]
        file = (
            wrapper if prefix else name.strip('"').rpartition("\\")[2].lower().removesuffix(".exe")
        )
        if not prefix and "^" in name:
            continue
        found = understand(line).family
        if found:
            expected[len(events)] = found
        events.append(event(len(events), file, line))
    read = families_by_hunt("qakbot-recon-burst", events, tmp_path)
    assert {number: found[0][0] for number, found in read.items()} == expected
    assert len(expected) > 50
