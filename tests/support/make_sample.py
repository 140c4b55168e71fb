"""Makes the bundled sample: synthetic process events of October 2026.

    python -m tests.support.make_sample

Three workspaces, fourteen devices: one Qakbot burst in the order and timing of
December 2022, administrators' near misses, an inventory agent that reaches the
threshold over weeks, and Windows' own noise. The output is the same on every run.
"""

from __future__ import annotations

import datetime as dt
import gzip
import hashlib
import json
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

NOW = "2026-11-05T09:00:00Z"
START = dt.datetime(2026, 10, 1)
DAYS = 31
FOLDER = Path(__file__).parents[2] / "qakhunt" / "data" / "sample"

WORKSPACES = {
    "contoso": "0c0a7050-0000-4650-8650-000000000001",
    "fabrikam": "0fab7140-0000-4650-8650-000000000002",
    "tailspin": "07a11590-0000-4650-8650-000000000003",
}
USERS = {
    "contoso": ["a.moreau", "b.okafor", "c.lindqvist", "adm-reyes"],
    "fabrikam": ["d.tanaka", "e.novak", "adm-hale"],
    "tailspin": ["f.costa", "g.banerjee", "svc-inventory"],
}
DEVICES = {
    "contoso": ["ws-fin-041", "ws-fin-042", "ws-hr-007", "ws-it-003", "srv-file-01"],
    "fabrikam": ["ws-lab-11", "ws-lab-12", "ws-ops-02", "vm-web-01"],
    "tailspin": ["ws-shop-21", "ws-shop-22", "srv-app-05", "srv-inv-01", "vm-jump-01"],
}
SYSTEM32 = "C:\\Windows\\System32"

# File, arguments, folder, initiating file, initiating command line.
NOISE = [
    ("taskhostw.exe", "taskhostw.exe", SYSTEM32, "svchost.exe", "svchost.exe -k netsvcs -p -s Schedule"),
    ("backgroundTaskHost.exe", "\"backgroundTaskHost.exe\" -ServerName:App.AppXmtcan0h2tfbfy7k9kn8hbxb6dmzz1zh0.mca", SYSTEM32, "svchost.exe", "svchost.exe -k DcomLaunch -p"),
    ("SearchProtocolHost.exe", "\"SearchProtocolHost.exe\" Global\\UsGthrFltPipeMssGthrPipe1_", SYSTEM32, "SearchIndexer.exe", "SearchIndexer.exe /Embedding"),
    ("MpCmdRun.exe", "\"MpCmdRun.exe\" SignatureUpdate -ScheduleJob -RestrictPrivileges", "C:\\Program Files\\Windows Defender", "svchost.exe", "svchost.exe -k netsvcs -p -s Schedule"),
    ("conhost.exe", "conhost.exe 0xffffffff -ForceV1", SYSTEM32, "cmd.exe", "cmd.exe"),
    ("msedge.exe", "\"msedge.exe\" --type=renderer --lang=en-GB", "C:\\Program Files (x86)\\Microsoft\\Edge\\Application", "msedge.exe", "\"msedge.exe\" --no-startup-window"),
    ("OUTLOOK.EXE", "\"OUTLOOK.EXE\"", "C:\\Program Files\\Microsoft Office\\root\\Office16", "explorer.exe", "explorer.exe"),
    ("EXCEL.EXE", "\"EXCEL.EXE\" \"C:\\Users\\Public\\Documents\\budget.xlsx\"", "C:\\Program Files\\Microsoft Office\\root\\Office16", "explorer.exe", "explorer.exe"),
    ("gpupdate.exe", "gpupdate.exe /target:computer", SYSTEM32, "svchost.exe", "svchost.exe -k netsvcs -p -s Schedule"),
    ("sc.exe", "sc.exe start wuauserv", SYSTEM32, "svchost.exe", "svchost.exe -k netsvcs -p -s Schedule"),
]  # fmt: skip

# Seconds after the start, file, command line, whether net.exe started it.
BURST = [
    (0.00, "net.exe", "net view", False),
    (53.86, "cmd.exe", "cmd /c set", False),
    (54.02, "ARP.EXE", "arp -a", False),
    (54.23, "ipconfig.exe", "ipconfig /all", False),
    (54.34, "nslookup.exe", "nslookup -querytype=ALL -timeout=12 _ldap._tcp.dc._msdcs.CONTOSO.EXAMPLE", False),
    (54.52, "net.exe", "net share", False),
    (54.55, "net1.exe", "net1 share", True),
    (54.58, "ROUTE.EXE", "route print", False),
    (54.61, "NETSTAT.EXE", "netstat -nao", False),
    (54.80, "net.exe", "net localgroup", False),
    (54.83, "net1.exe", "net1 localgroup", True),
    (55.10, "whoami.exe", "whoami /all", False),
]  # fmt: skip


class Maker:
    """Makes records with ids and hashes that follow from one seed."""

    def __init__(self) -> None:
        self.random = random.Random(650)
        self.report = 1000

    def event(
        self, tenant: str, device: str, account: str, at: dt.datetime, file: str, line: str, *,
        folder: str = SYSTEM32, parent: str = "explorer.exe", parent_line: str = "explorer.exe",
        parent_id: int | None = None, grandparent: str = "userinit.exe",
    ) -> dict[str, Any]:  # fmt: skip
        self.report += 1
        process_id = self.random.randrange(1000, 30000, 4)
        system = account == "system"
        return {
            "TimeGenerated": _iso(at),
            "TenantId": WORKSPACES[tenant],
            "DeviceId": hashlib.sha1(f"{tenant}/{device}".encode()).hexdigest(),
            "DeviceName": f"{device}.{tenant}.example",
            "ActionType": "ProcessCreated",
            "FileName": file,
            "FolderPath": f"{folder}\\{file}",
            "SHA256": hashlib.sha256(f"sample/{file.lower()}".encode()).hexdigest(),
            "ProcessId": process_id,
            "ProcessCommandLine": line,
            "ProcessCreationTime": _iso(at),
            "ProcessIntegrityLevel": "System" if system else "Medium",
            "AccountDomain": "nt authority" if system else tenant,
            "AccountName": account,
            "InitiatingProcessAccountName": account,
            "InitiatingProcessFileName": parent,
            "InitiatingProcessCommandLine": parent_line,
            "InitiatingProcessFolderPath": SYSTEM32.lower(),
            "InitiatingProcessId": parent_id or self.random.randrange(1000, 30000, 4),
            "InitiatingProcessCreationTime": _iso(at - dt.timedelta(seconds=90)),
            "InitiatingProcessParentId": self.random.randrange(600, 9000, 4),
            "InitiatingProcessParentFileName": grandparent,
            "ReportId": self.report,
            "SourceSystem": "synthetic",
            "Type": "DeviceProcessEvents",
        }

    def moment(self, day: int, first_hour: int = 0, last_hour: int = 24) -> dt.datetime:
        seconds = self.random.uniform(first_hour * 3600, last_hour * 3600)
        return START + dt.timedelta(days=day, seconds=round(seconds, 4))


def _iso(moment: dt.datetime) -> str:
    return moment.isoformat(timespec="microseconds") + "Z"


def noise(maker: Maker) -> Iterator[dict[str, Any]]:
    """What Windows, Office and a browser do all day."""
    for tenant, devices in DEVICES.items():
        people = [user for user in USERS[tenant] if not user.startswith(("adm-", "svc-"))]
        for number, device in enumerate(devices):
            for day in range(DAYS):
                for _ in range(maker.random.randint(3, 8)):
                    file, line, folder, parent, parent_line = maker.random.choice(NOISE)
                    account = "system" if parent == "svchost.exe" else people[number % len(people)]
                    yield maker.event(
                        tenant, device, account, maker.moment(day, 6, 20), file, line,
                        folder=folder, parent=parent, parent_line=parent_line,
                        grandparent="services.exe",
                    )  # fmt: skip


def guest_agent(maker: Maker) -> Iterator[dict[str, Any]]:
    """The Azure guest agent: three families within a second, as SYSTEM, each week."""
    for tenant, device in (("fabrikam", "vm-web-01"), ("tailspin", "vm-jump-01")):
        for week in range(4):
            at = maker.moment(week * 7 + 2, 3, 4)
            for step, (file, line) in enumerate(
                [
                    ("ipconfig.exe", "ipconfig.exe /all"),
                    ("ROUTE.EXE", "route.exe print"),
                    ("ARP.EXE", "arp.exe -a"),
                ]
            ):
                yield maker.event(
                    tenant, device, "system", at + dt.timedelta(milliseconds=210 * step), file, line,
                    parent="WindowsAzureGuestAgent.exe", parent_line="WindowsAzureGuestAgent.exe",
                    parent_id=3120, grandparent="services.exe",
                )  # fmt: skip


def gather_network_info(maker: Maker) -> Iterator[dict[str, Any]]:
    """Windows' own gatherNetworkInfo.vbs: children of cmd.exe, so two spaces."""
    at = maker.moment(20, 11, 12)
    lines = [
        ("ipconfig.exe", "ipconfig  /all"), ("ROUTE.EXE", "route  print"),
        ("ARP.EXE", "arp  -a"), ("NETSTAT.EXE", "netstat  -ano"),
    ]  # fmt: skip
    for step, (file, line) in enumerate(lines):
        yield maker.event(
            "contoso", "ws-hr-007", "c.lindqvist", at + dt.timedelta(seconds=1.4 * step), file, line,
            parent="cmd.exe", parent_line="cmd.exe /c gatherNetworkInfo.cmd", parent_id=7716,
            grandparent="cscript.exe",
        )  # fmt: skip


def administrators(maker: Maker) -> Iterator[dict[str, Any]]:
    """People who run some of the commands by hand: near misses."""
    plans = [
        (
            "contoso",
            "ws-it-003",
            "adm-reyes",
            6,
            ["ipconfig /all", "whoami /all", "net localgroup"],
        ),
        ("fabrikam", "ws-ops-02", "adm-hale", 12, ["net share", "route print"]),
        ("tailspin", "ws-shop-21", "f.costa", 15, ["ipconfig /all"]),
        ("contoso", "srv-file-01", "adm-reyes", 22, ["net share", "net view", "net share"]),
        ("fabrikam", "ws-lab-12", "e.novak", 27, ["arp -a", "ipconfig /all", "arp -a"]),
    ]
    for tenant, device, account, day, lines in plans:
        at = maker.moment(day, 8, 17)
        for line in lines:
            at += dt.timedelta(seconds=maker.random.randint(15, 240))
            yield maker.event(
                tenant, device, account, at, f"{line.split()[0]}.exe", line,
                parent="cmd.exe", parent_line="cmd.exe", parent_id=4040,
            )  # fmt: skip


def inventory(maker: Maker) -> Iterator[dict[str, Any]]:
    """An agent that runs one of the commands a week: over the threshold by the fourth."""
    for week, line in enumerate(["ipconfig /all", "route print", "net share", "arp -a"]):
        yield maker.event(
            "tailspin", "srv-inv-01", "svc-inventory", maker.moment(week * 7 + 1, 2, 3),
            f"{line.split()[0]}.exe", line, parent="invagent.exe",
            parent_line="invagent.exe --scheduled", grandparent="services.exe",
        )  # fmt: skip


# The chain that led to the burst, and the processes that the burst's commands came
# from: seconds before the first command, file, command line, id, parent's id.
WINLOGON = (-8071.4, "winlogon.exe", "winlogon.exe", 712, 640)
USERINIT = (-8049.9, "userinit.exe", "userinit.exe", 3988, 712)
CHAIN = [
    (-8045.2, "explorer.exe", "explorer.exe", 4312, 3988),
    (-312.4, "wscript.exe", "\"wscript.exe\" \"D:\\Claim_4471.js\"", 7044, 4312),
    (-141.7, "rundll32.exe", "rundll32.exe C:\\ProgramData\\pelican.dat,Wind", 8836, 7044),
    (-95.2, "wermgr.exe", "wermgr.exe", 9204, 8836),
]  # fmt: skip
WERMGR, NET_SHARE, NET_LOCALGROUP = 9204, 11508, 11960
BURST_START = START + dt.timedelta(days=13, hours=9, minutes=12, seconds=3.118)


def _after(seconds: float) -> dt.datetime:
    return BURST_START + dt.timedelta(seconds=seconds)


def burst(maker: Maker) -> Iterator[dict[str, Any]]:
    """Qakbot on ws-fin-042: launched directly by an injected, argument-less wermgr.exe."""
    known = {step[3]: step for step in [WINLOGON, USERINIT, *CHAIN]}
    for offset, file, line, number, parent in CHAIN:
        record = maker.event(
            "contoso", "ws-fin-042", "a.moreau", _after(offset), file, line,
            folder="C:\\Windows" if file == "explorer.exe" else "C:\\Windows\\SysWOW64",
        )  # fmt: skip
        record["ProcessId"] = number
        yield _issued_by(record, known[parent], known[known[parent][4]])
    net: dict[str, tuple[float, str, str, int, int]] = {}
    for offset, file, line, by_net in BURST:
        record = maker.event(
            "contoso", "ws-fin-042", "a.moreau", _after(offset), file, line,
            folder="C:\\Windows\\SysWOW64",
        )  # fmt: skip
        if by_net:
            yield _issued_by(record, net[line.replace("net1", "net")], known[WERMGR])
            continue
        record["ProcessId"] = {"net share": NET_SHARE, "net localgroup": NET_LOCALGROUP}.get(
            line, record["ProcessId"]
        )
        net[line] = (offset, file, line, record["ProcessId"], WERMGR)
        yield _issued_by(record, known[WERMGR], known[CHAIN[-1][4]])


def _issued_by(
    record: dict[str, Any],
    issuer: tuple[float, str, str, int, int],
    before: tuple[float, str, str, int, int],
) -> dict[str, Any]:
    """The record with its issuing process, and that one's parent, by id and start."""
    return record | {
        "InitiatingProcessFileName": issuer[1],
        "InitiatingProcessCommandLine": issuer[2],
        "InitiatingProcessFolderPath": f"c:\\windows\\syswow64\\{issuer[1]}",
        "InitiatingProcessId": issuer[3],
        "InitiatingProcessCreationTime": _iso(_after(issuer[0])),
        "InitiatingProcessSHA256": hashlib.sha256(f"sample/{issuer[1]}".encode()).hexdigest(),
        "InitiatingProcessParentId": issuer[4],
        "InitiatingProcessParentFileName": before[1],
        "InitiatingProcessParentCreationTime": _iso(_after(before[0])),
    }


def around(maker: Maker) -> dict[str, list[dict[str, Any]]]:
    """What other tables hold around the burst, and a little of every device's day."""
    tables: dict[str, list[dict[str, Any]]] = {
        "DeviceNetworkEvents": _network(maker),
        "DeviceFileEvents": _files(maker),
        "DeviceRegistryEvents": _registry(maker),
        "DeviceLogonEvents": _logons(maker),
        "AlertEvidence": _alerts(),
        "DeviceEvents": _events(maker),
    }
    for name, records in tables.items():
        for record in records:
            record |= {"SourceSystem": "synthetic", "Type": name}
    return {
        name: sorted(records, key=lambda record: str(record["TimeGenerated"]))
        for name, records in tables.items()
    }


def _device(maker: Maker, offset: float, action: str) -> dict[str, Any]:
    maker.report += 1
    return {
        "TimeGenerated": _iso(_after(offset)),
        "TenantId": WORKSPACES["contoso"],
        "DeviceId": hashlib.sha1(b"contoso/ws-fin-042").hexdigest(),
        "DeviceName": "ws-fin-042.contoso.example",
        "ActionType": action,
        "ReportId": maker.report,
    }


def _initiating(
    step: tuple[float, str, str, int, int], account: str = "a.moreau"
) -> dict[str, Any]:
    offset, file, line, number, parent = step
    return {
        "InitiatingProcessFileName": file,
        "InitiatingProcessCommandLine": line,
        "InitiatingProcessId": number,
        "InitiatingProcessCreationTime": _iso(_after(offset)),
        "InitiatingProcessParentId": parent,
        "InitiatingProcessAccountName": account,
        "InitiatingProcessAccountDomain": "contoso",
    }


EDGE = (-1380.0, "msedge.exe", '"msedge.exe" --no-startup-window', 5528, 4312)
SVCHOST = (-9000.0, "svchost.exe", "svchost.exe -k NetworkService -p", 1632, 844)


def _network(maker: Maker) -> list[dict[str, Any]]:
    _, wscript, _, wermgr = CHAIN
    calls = [
        (-1372.2, EDGE, "203.0.113.80", 443, "www.contoso.example"),
        (-842.6, EDGE, "198.51.100.14", 443, "mail.contoso.example"),
        (-339.8, EDGE, "198.51.100.77", 443, "claims-portal.example"),
        (-309.1, wscript, "198.51.100.77", 443, "claims-portal.example"),
        (-88.3, wermgr, "192.0.2.44", 443, ""),
        (-41.9, wermgr, "192.0.2.191", 2222, ""),
        (54.9, SVCHOST, "10.20.0.5", 53, ""),
        (71.4, wermgr, "192.0.2.191", 2222, ""),
        (402.7, wermgr, "192.0.2.191", 2222, ""),
        (733.5, EDGE, "198.51.100.14", 443, "mail.contoso.example"),
    ]  # fmt: skip
    return [
        _device(maker, offset, "ConnectionSuccess")
        | _initiating(step)
        | {
            "RemoteIP": address, "RemotePort": port, "RemoteUrl": url, "Protocol": "Tcp",
            "LocalIP": "10.20.4.42", "LocalPort": 49_000 + number * 17,
            "RemoteIPType": "Private" if address.startswith("10.") else "Public",
        }
        for number, (offset, step, address, port, url) in enumerate(calls)
    ]  # fmt: skip


def _files(maker: Maker) -> list[dict[str, Any]]:
    _, wscript, _, wermgr = CHAIN
    files = [
        (-338.2, EDGE, "FileCreated", "C:\\Users\\a.moreau\\Downloads", "Claim_4471.iso"),
        (-301.6, wscript, "FileCreated", "C:\\ProgramData", "pelican.dat"),
        (-60.4, wermgr, "FileModified", "C:\\ProgramData", "pelican.dat"),
        (1120.0, EDGE, "FileCreated", "C:\\Users\\a.moreau\\Downloads", "timesheet.xlsx"),
    ]
    return [
        _device(maker, offset, action)
        | _initiating(step)
        | {
            "FileName": name, "FolderPath": f"{folder}\\{name}",
            "SHA256": hashlib.sha256(f"sample/file/{name}".encode()).hexdigest(),
        }
        for offset, step, action, folder, name in files
    ]  # fmt: skip


def _registry(maker: Maker) -> list[dict[str, Any]]:
    run = "HKEY_CURRENT_USER\\S-1-5-21-650\\SOFTWARE\\Microsoft\\Windows\\CurrentVersion\\Run"
    return [
        _device(maker, 96.8, "RegistryValueSet")
        | _initiating(CHAIN[-1])
        | {
            "RegistryKey": run, "RegistryValueName": "pelican", "RegistryValueType": "String",
            "RegistryValueData": "rundll32.exe C:\\ProgramData\\pelican.dat,Wind",
        }
    ]  # fmt: skip


def _events(maker: Maker) -> list[dict[str, Any]]:
    """The injection of wermgr.exe, and its pipe."""
    pipe = "\\Device\\NamedPipe\\{1f6b0d42-7c55-4e0a-9f10-3b1d650a0650}"
    return [
        _device(maker, -94.9, "CreateRemoteThreadApiCall")
        | _initiating(CHAIN[-2])
        | {"FileName": "wermgr.exe", "ProcessCommandLine": "wermgr.exe", "AdditionalFields": {}},
        _device(maker, -93.4, "NamedPipeEvent")
        | _initiating(CHAIN[-1])
        | {"AdditionalFields": {"PipeName": pipe}},
    ]


def _logons(maker: Maker) -> list[dict[str, Any]]:
    return [
        _device(maker, offset, "LogonSuccess")
        | {
            "LogonType": kind, "AccountName": "a.moreau", "AccountDomain": "contoso",
            "AccountSid": "S-1-5-21-650-1117", "LogonId": 884_211, "RemoteIP": "",
        }
        for offset, kind in ((-8052.0, "Interactive"), (-1466.5, "Unlock"))
    ]  # fmt: skip


def _alerts() -> list[dict[str, Any]]:
    alert = {
        "TimeGenerated": _iso(_after(310.0)),
        "TenantId": WORKSPACES["contoso"],
        "AlertId": "da650-synthetic-1",
        "Title": "Suspicious process injection observed",
        "Severity": "Medium",
        "Categories": json.dumps(["DefenseEvasion"]),
        "AttackTechniques": json.dumps(["Process Injection (T1055)"]),
        "ServiceSource": "Microsoft Defender for Endpoint",
        "DetectionSource": "EDR",
        "DeviceId": hashlib.sha1(b"contoso/ws-fin-042").hexdigest(),
        "DeviceName": "ws-fin-042.contoso.example",
    }
    return [
        alert | {"EntityType": "Machine", "EvidenceRole": "Impacted"},
        alert
        | {
            "EntityType": "Process", "EvidenceRole": "Related", "FileName": "wermgr.exe",
            "ProcessCommandLine": "wermgr.exe", "AccountName": "a.moreau", "AccountDomain": "contoso",
        },
    ]  # fmt: skip


def events() -> list[dict[str, Any]]:
    """All records of the sample, by time."""
    maker = Maker()
    parts = (noise, guest_agent, gather_network_info, administrators, inventory, burst)
    found = [record for part in parts for record in part(maker)]
    return sorted(found, key=lambda record: (record["TimeGenerated"], record["ReportId"]))


def sample_bytes() -> bytes:
    """The gzipped NDJSON of the process events, the same on every run."""
    return packed(events())


def packed(records: list[dict[str, Any]]) -> bytes:
    """Records as gzipped NDJSON, the same on every run."""
    text = "".join(json.dumps(record) + "\n" for record in records)
    return gzip.compress(text.encode(), mtime=0)


def about() -> str:
    """The sample's own description."""
    document = {
        "now": NOW,
        "synthetic": True,
        "about": "Synthetic process events of October 2026, made by tests/support/make_sample.py.",
        "workspaces": WORKSPACES,
    }
    return json.dumps(document, indent=2) + "\n"


def main() -> None:
    """Write the sample into the package."""
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "DeviceProcessEvents.ndjson.gz").write_bytes(sample_bytes())
    for table, records in around(Maker()).items():
        (FOLDER / f"{table}.ndjson.gz").write_bytes(packed(records))
    (FOLDER / "sample.json").write_text(about(), encoding="utf-8")


if __name__ == "__main__":
    main()
