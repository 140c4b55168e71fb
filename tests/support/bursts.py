"""Synthetic process events whose bursts lie across every likely seam of a slicing."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

from qakhunt.kql.values import TICKS_PER_SECOND, Instant, Timespan, Window

if TYPE_CHECKING:
    from pathlib import Path

COMMANDS = (
    ("whoami.exe", "whoami /all"),
    ("cmd.exe", "cmd /c set"),
    ("arp.exe", "arp -a"),
    ("ipconfig.exe", "ipconfig /all"),
    ("net.exe", "net view"),
    ("net.exe", "net share"),
    ("net1.exe", "net1 share"),
    ("route.exe", "route print"),
    ("net.exe", "net localgroup"),
    ("netstat.exe", "netstat -nao"),
    ("nslookup.exe", "nslookup -querytype=ALL -timeout=12 _ldap._tcp.dc._msdcs.WORKGROUP"),
)

WINDOW = Window(Instant.parse("2026-10-01"), Instant.parse("2026-10-09"))
NOW = Instant.parse("2026-10-20T12:00:00Z")


def burst_events(*, devices: int = 23, noise: int = 300, seed: int = 7) -> list[dict[str, Any]]:
    """Bursts of 2 to 11 commands around every midnight and sixth hour, and noise between."""
    dice = random.Random(seed)
    events: list[dict[str, Any]] = []
    hours = (WINDOW.end.ticks - WINDOW.start.ticks) // (3600 * TICKS_PER_SECOND)
    for number, hour in enumerate(range(6, hours, 6)):
        device = "" if number == 5 else f"WS-{number % devices:03d}.contoso.local"
        seam = WINDOW.start + Timespan(hour * 3600 * TICKS_PER_SECOND)
        commands = dice.sample(COMMANDS, 2 + number % 10)
        start = seam - Timespan(len(commands) * 3 * TICKS_PER_SECOND)
        for order, (file, line) in enumerate(commands):
            moment = start + Timespan(order * 6 * TICKS_PER_SECOND)
            events.append(_event(moment, device, f"user{number % 5}", file, line, 1000 + number))
    # Exactly on the window's edges: the first is inside, the last is not.
    for moment in (WINDOW.start, WINDOW.end):
        for file, line in COMMANDS[:6]:
            events.append(_event(moment, "EDGE.contoso.local", "edge", file, line, 1))
    for _ in range(noise):
        span = WINDOW.end.ticks - WINDOW.start.ticks
        moment = Instant(WINDOW.start.ticks + dice.randrange(span // 10) * 10)
        file, line = dice.choice((*COMMANDS, ("notepad.exe", "notepad.exe"), ("svc.exe", "svc -k")))
        device = f"WS-{dice.randrange(devices):03d}.contoso.local"
        account = f"user{dice.randrange(5)}"
        events.append(_event(moment, device, account, file, line, dice.randrange(50)))
    return events


def _event(
    moment: Instant, device: str, account: str, file: str, line: str, parent: int
) -> dict[str, Any]:
    return {
        "TimeGenerated": moment.isoformat(),
        "DeviceName": device,
        "DeviceId": f"id-{device}",
        "AccountName": account,
        "FileName": file,
        "ProcessCommandLine": line,
        "InitiatingProcessFileName": "explorer.exe",
        "InitiatingProcessCommandLine": "explorer.exe",
        "InitiatingProcessId": parent,
        "ReportId": abs(hash((moment.ticks, device, line, parent))) % 10**9,
        "AdditionalFields": json.dumps({"n": parent, "tag": "é"}),
        "TenantId": "11111111-2222-3333-4444-555555555555",
    }


def write_events(
    folder: Path, events: list[dict[str, Any]], table: str = "DeviceProcessEvents"
) -> str:
    """An event file of ``table``; gives the input to name."""
    path = folder / f"{table}.ndjson"
    path.write_text("".join(json.dumps(e) + "\n" for e in events), encoding="utf-8")
    return f"{table}={path}"
