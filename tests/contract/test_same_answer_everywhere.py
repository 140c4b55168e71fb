"""One set of hunts over the same events through every backend: each cell is the same.

``TenantId`` is the workspace in Log Analytics and empty in Defender; ``TimeGenerated``
there is ``Timestamp`` here. Nothing else may differ, to the microsecond.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("duckdb_kql", reason="the embedded engine needs Python 3.11")
pytest.importorskip("uvicorn", reason="the emulator is an extra")

from qakhunt.answers.ledger import Status, Target
from qakhunt.backends.base import Question
from qakhunt.backends.local import LocalBackend
from qakhunt.backends.profile import Limits, Profile
from qakhunt.backends.services import MODULES
from qakhunt.hunts.catalog import Catalog
from qakhunt.hunts.loading import load_hunt
from qakhunt.hunts.parameters import parameters_of
from qakhunt.hunts.render import render
from qakhunt.kql.values import Instant
from qakhunt.run.sample import sample_events, sample_now
from qakhunt.run.settings import ProfileSettings
from qakhunt.testing.emulator.clock import SkippingClock
from qakhunt.testing.emulator.server import Emulator
from tests.emulator.live import EmulatedBackends, profile_for
from tests.emulator.support import guid, scenario_of, tenant_of, write_events

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qakhunt.answers.table import ResultTable
    from qakhunt.backends.base import Backend
    from qakhunt.hunts.model import Hunt

NOW = sample_now()

HARD_TYPES = """
name: Every type and every hostile character
qakhunt:
  window: {start: StartTime, end: EndTime}
query: |
  let StartTime = ago(30d);
  let EndTime = now();
  DeviceProcessEvents
  | where TimeGenerated >= StartTime and TimeGenerated < EndTime
  | where FileName startswith "hard-"
  | extend number = tolong(extract(@"(\\d+)", 1, FileName))
  | project
      TimeGenerated, FileName, ProcessCommandLine, ProcessId, ProcessCreationTime,
      flag = number % 2 == 0, small = toint(number), whole = (number % 7) * 1152921504606846977,
      fraction = todouble(number) / 7, absent = iff(number == 2, long(null), number),
      missing = iff(number == 3, datetime(null), TimeGenerated),
      span = (TimeGenerated - StartTime), nothing = real(null),
      thing = parse_json(strcat('{"a": [1, null, "', number, '"], "ü": {}}')),
      list = pack_array(number, "x"), text = tostring(number)
  | order by TimeGenerated asc
"""

HOSTILE = [
    'cmd.exe /c "echo \\u0000"', "\u202egpj.exe", "=cmd|' /C calc'!A0", "a\tb\r\nc",
    "\x1b]0;owned\x07", "<script>alert(1)</script>", "Grüße 🐙 \U0001f409", "", " ", "NULL", "None",
    "NaN", "\\\\server\\share\\x", "'; drop table", "\ufeffbom", "\u2028line", "{}", "[1]", '"',
]  # fmt: skip


def hard_events() -> list[dict[str, Any]]:
    return [
        {
            "TimeGenerated": f"2026-10-{8 + n:02d}T00:00:0{n % 10}.{1234567 + n}Z",
            "FileName": f"hard-{n}",
            "ProcessCommandLine": text,
            "ProcessId": 2**31 - 1 - n if n % 3 else None,
            "ProcessCreationTime": f"2026-10-{8 + n:02d}T00:00:00.000001{n % 10}Z",
            "DeviceName": f"pc-{n % 4}",
        }
        for n, text in enumerate(HOSTILE)
    ]


# A moment and a device of the sample's own month, for the hunts that look around a hit.
DEVICE, AT = "ctx-01.contoso.example", "2026-10-20T10:00:00Z"
AROUND = {
    "Hit": 1, "Device": DEVICE, "From": "2026-10-20T09:00:00Z", "To": "2026-10-20T11:00:00Z",
    "At": AT, "Only": [],
}  # fmt: skip
PARAMETERS: dict[str, Any] = {
    "Devices": [DEVICE],
    "Around": [AROUND],
    "Ancestors": [{"Hit": 1, "Device": DEVICE, "ProcessId": 4711, "Created": AT}],
    "Issuers": ["explorer.exe"],
    "Hashes": ["ab" * 32],
}
"""Parameter -> values under which the hunts that have it find something."""


def context_events() -> dict[str, list[dict[str, Any]]]:
    """Records of one device in every table that a hunt names, some of them suspicious."""
    common = {
        "TimeGenerated": AT, "DeviceName": DEVICE, "DeviceId": "c" * 40, "ActionType": "Any",
        "InitiatingProcessFileName": "explorer.exe", "InitiatingProcessId": 42,
        "InitiatingProcessCreationTime": "2026-10-20T08:00:00.1234567Z", "AccountName": "häns",
    }  # fmt: skip
    lines = [
        ("whoami.exe", "whoami /all"), ("arp.exe", "arp -a"),
        ("reg.exe", r'reg ADD "HKLM\SOFTWARE\Microsoft\Windows Defender\Exclusions\Paths" /f /v "C:\Users\h"'),
        ("regsvr32.exe", r'regsvr32 /s "C:\ProgramData\x.odd"'),
        ("adfind.exe", 'adfind.exe -f "(objectcategory=person)"'),
        ("esentutl.exe", r'esentutl.exe /r V01 /l"C:\Users\h\AppData\Local\Microsoft\Windows\WebCache"'),
        ("schtasks.exe", r'schtasks /Create /RU SYSTEM /tn ab /tr "regsvr32 -s C:\Users\h\1.dll" /SC ONCE'),
    ]  # fmt: skip
    processes = [
        {**common, "FileName": name, "ProcessCommandLine": line, "ProcessId": 4711 + n,
         "ProcessCreationTime": AT, "SHA256": "ab" * 32}
        for n, (name, line) in enumerate(lines)
    ]  # fmt: skip
    loader = {**common, "InitiatingProcessFileName": "regsvr32.exe"}
    processes += [
        {**loader, "FileName": "wermgr.exe", "ProcessCommandLine": "wermgr.exe"},
        {**common, "FileName": "regsvr32.exe", "ProcessCommandLine": "regsvr32 -s C:\\x.dll",
         "InitiatingProcessFileName": "services.exe"},
        {**common, "FileName": "chrome.exe",
         "ProcessCommandLine": r'"chrome.exe" C:\Users\h\Downloads\Invoice.html'},
    ]  # fmt: skip
    injected = {
        **common, "InitiatingProcessFileName": "wermgr.exe",
        "InitiatingProcessCommandLine": "wermgr.exe", "ActionType": "ConnectionSuccess",
    }  # fmt: skip
    servers = [("203.0.113.5", 995), ("198.51.100.7", 2222), ("192.0.2.9", 995)]
    return {
        "DeviceProcessEvents": processes,
        "DeviceFileEvents": [
            {**common, "FileName": "x.odd", "FolderPath": r"C:\ProgramData"},
            {
                **common,
                "FileName": "Invoice.zip",
                "FolderPath": r"C:\Users\h\Downloads",
                "ActionType": "FileCreated",
                "InitiatingProcessFileName": "chrome.exe",
                "InitiatingProcessAccountName": "häns",
            },
        ],
        "DeviceNetworkEvents": [
            {**common, "RemoteIP": "192.0.2.1", "RemotePort": 443},
            *({**injected, "RemoteIP": address, "RemotePort": port} for address, port in servers),
        ],
        "DeviceLogonEvents": [{**common, "LogonType": "Interactive", "IsLocalAdmin": True}],
        "DeviceRegistryEvents": [
            {**common, "RegistryKey": r"HKLM\x", "RegistryValueData": "1"},
            {
                **common,
                "ActionType": "RegistryValueSet",
                "RegistryValueName": r"C:\ProgramData\y",
                "RegistryKey": r"HKEY_LOCAL_MACHINE\SOFTWARE\Microsoft\Windows Defender\Exclusions\Paths",
            },
        ],
        "DeviceEvents": [
            {**common, "FileName": "x.exe"},
            {
                **common,
                "ActionType": "ScheduledTaskCreated",
                "AdditionalFields": {"TaskName": "\\täsk"},
            },
        ],
        "AlertEvidence": [{**common, "AlertId": "da1", "Title": "Odd", "Severity": "High"}],
    }


@dataclass(frozen=True)
class Place:
    """One customer's events behind all backends."""

    local: str
    tenant: str
    workspace: str


def sample_records() -> Iterator[dict[str, Any]]:
    for path in sample_events():
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for record in map(json.loads, lines):
                yield {name: value for name, value in record.items() if name != "TenantId"}


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Place]:
    folder = tmp_path_factory.mktemp("places")
    write_events(folder / "hard" / "DeviceProcessEvents.ndjson", hard_events())
    tables = context_events()
    tables["DeviceProcessEvents"] += sample_records()
    for table, rows in tables.items():
        write_events(folder / "sample" / f"{table}.ndjson", rows)
    return {
        name: Place(str(folder / name), guid("tenant", name), guid("workspace", name))
        for name in ("hard", "sample")
    }


@pytest.fixture(scope="module")
def clock() -> SkippingClock:
    return SkippingClock()


@pytest.fixture(scope="module")
def emulator(places: dict[str, Place], clock: SkippingClock) -> Iterator[Emulator]:
    tenants = [tenant_of(name, place.local) for name, place in places.items()]
    with Emulator(scenario_of(*tenants, now=NOW.isoformat()), tls=True, clock=clock) as served:
        yield served


def cells(table: ResultTable) -> tuple[list[tuple[str, str]], list[list[Any]]]:
    """Columns and rows with what may differ made the same."""
    shown = [n for n, column in enumerate(table.columns) if column.name != "TenantId"]
    columns = [
        ("TimeGenerated" if name == "Timestamp" else name, kind)
        for name, kind in ((table.columns[n].name, table.columns[n].kql_type) for n in shown)
    ]
    rows = [[_comparable(row[n]) for n in shown] for row in table.rows]
    return columns, rows


def _comparable(cell: Any) -> Any:
    if isinstance(cell, Instant):
        return cell.floor_microsecond()
    return (type(cell).__name__, cell)  # True is not 1, and 1 is not 1.0


def ask(backend: Backend, hunt: Hunt, place: Place, window: str) -> ResultTable:
    parameters = {name: PARAMETERS[name] for name in parameters_of(hunt) if name in PARAMETERS}
    rendered = render(hunt, now=NOW, product=backend.product, window=window, parameters=parameters)
    workspace = None if backend.name in ("defender", "local") else place.workspace
    target = Target("profile", place.tenant, workspace)
    answer = backend.ask(Question(rendered.text, rendered.window, target, ()))
    assert (answer.detail, answer.status) == ("", Status.COMPLETE)
    assert answer.table is not None
    return answer.table


@pytest.fixture(scope="module")
def backends(
    emulator: Emulator, clock: SkippingClock, places: dict[str, Place]
) -> Iterator[dict[str, list[Backend]]]:
    """Every backend over every place's events."""
    opened: dict[str, list[Backend]] = {}
    live = EmulatedBackends(emulator, clock, NOW)
    for name, place in places.items():
        opened[name] = [
            LocalBackend([place.local], now=NOW),
            LocalBackend([place.local], now=NOW, product="defender"),
            *(
                live.open(profile_for(emulator, product, place.tenant, place.workspace))
                for product in MODULES
            ),
            live.open(cluster_profile(emulator, place, "own")),
            live.open(cluster_profile(emulator, place, "external")),
        ]
    yield opened
    live.close()
    for local in (backend for found in opened.values() for backend in found[:2]):
        local.close()


def cluster_profile(emulator: Emulator, place: Place, tables: Any) -> ProfileSettings:
    profile = Profile(
        backend="kusto", tenant=place.tenant, cluster=emulator.url,
        database=f"any-{place.workspace}", tables=tables,
        ca_file=str(emulator.ca), limits=Limits(concurrency=1, calls=1000, per_seconds=1.0),
    )  # fmt: skip
    return ProfileSettings("cluster", profile, {})


def answers(backends: list[Backend], hunt: Hunt, place: Place, window: str) -> Any:
    return [
        cells(ask(backend, hunt, place, window))
        for backend in backends
        if backend.product in hunt.products
    ]


HUNTS = Catalog().all()


@pytest.mark.parametrize("hunt", HUNTS, ids=lambda hunt: hunt.name)
def test_every_hunt_finds_the_same_everywhere(
    backends: dict[str, list[Backend]], places: dict[str, Place], hunt: Hunt
) -> None:
    first, *others = answers(backends["sample"], hunt, places["sample"], "30d")
    for other in others:
        assert other == first
    assert first[1], "equal emptiness proves little"


def test_every_type_and_every_hostile_character_is_the_same_everywhere(
    backends: dict[str, list[Backend]], places: dict[str, Place], tmp_path: Path
) -> None:
    path = tmp_path / "hard-types.yaml"
    path.write_text(HARD_TYPES)
    hunt = load_hunt(path)
    first, *others = answers(backends["hard"], hunt, places["hard"], "2026-10-07/2026-11-01")
    assert len(others) == 6
    for other in others:
        assert other == first
    columns, rows = first
    kinds = dict(columns)
    assert {kinds[n] for n in kinds} >= {
        "datetime",
        "string",
        "long",
        "bool",
        "real",
        "timespan",
        "dynamic",
    }
    told = [row[[name for name, _ in columns].index("ProcessCommandLine")] for row in rows]
    assert told == [("str", text) for text in HOSTILE]
