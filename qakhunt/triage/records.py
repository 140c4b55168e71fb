"""Records of a device as events: when, what happened, and which process did it.

A record may lack any column, or hold the wrong type in it: what cannot be read is
absent, never a failure.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from qakhunt.answers.run_result import PROCESSES
from qakhunt.hunts.command_catalogue import Command, understand
from qakhunt.kql.values import Instant

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from qakhunt.answers.run_result import HitContext, Record

KINDS = {
    PROCESSES: "process",
    "DeviceNetworkEvents": "network",
    "DeviceFileEvents": "file",
    "DeviceRegistryEvents": "registry",
    "DeviceEvents": "device",
    "DeviceLogonEvents": "logon",
    "AlertEvidence": "alert",
}


_ISSUER = "InitiatingProcess"


@dataclass(frozen=True)
class Process:
    """A process as a record names it; None where ``started`` or ``signed`` was not recorded."""

    id: int | None
    file: str
    line: str = ""
    started: Instant | None = None
    folder: str = ""
    sha256: str = ""
    account: str = ""
    signed: bool | None = None

    @property
    def named(self) -> bool:
        """Whether anything is known of it."""
        return self.id is not None or bool(self.file)


@dataclass(frozen=True)
class Event:
    """One record: ``process`` is the one it creates, ``issuer`` the one that did it.

    ``before`` is the issuer's parent, as far as the record names it.
    """

    at: Instant
    table: str
    action: str
    what: str
    process: Process | None
    issuer: Process | None
    before: Process | None
    record: Mapping[str, Any]

    @property
    def kind(self) -> str:
        """``process``, ``network``, ``file``, ``registry``, ``device``, ``logon`` or ``alert``."""
        return KINDS.get(self.table, "other")

    @cached_property
    def command(self) -> Command | None:
        """What a created process's command line means; a renamed program by its own name."""
        if self.process is None:
            return None
        found = understand(self.process.line)
        original = text(self.record, "ProcessVersionInfoOriginalFileName").casefold()
        if found.family is not None or original in ("", self.process.file.casefold()):
            return found
        renamed = understand(f"{original} {found.normalised.partition(' ')[2]}")
        return found if renamed.family is None else replace(renamed, line=found.line)


def events_of(context: HitContext) -> list[Event]:
    """All events of a hit's context by time, each once."""
    read_all = [
        read(record, table) for table, records in context.records.items() for record in records
    ]
    found = [event for event in read_all if event is not None]
    return distinct(sorted(found, key=lambda event: (event.at, event.table != "AlertEvidence")))


def processes_of(context: HitContext) -> list[Event]:
    """The creations of processes by time."""
    events = [read(record, PROCESSES) for record in context.records.get(PROCESSES, ())]
    return sorted((e for e in events if e and e.process), key=lambda event: event.at)


def ancestors_of(context: HitContext) -> list[Event]:
    """The creations of ancestors that lie outside the timeline."""
    events = [read(record, PROCESSES) for record in context.ancestors]
    return sorted((e for e in events if e and e.process), key=lambda event: event.at)


def read(record: Record, table: str) -> Event | None:
    """The record as an event, or None where it has no time."""
    at = moment(record, "TimeGenerated") or moment(record, "Timestamp")
    if at is None:
        return None
    return Event(
        at=at,
        table=table,
        action=text(record, "ActionType"),
        what=_WHAT[table](record) if table in _WHAT else text(record, "ActionType"),
        process=_process(record, "", "Process") if table == PROCESSES else None,
        issuer=_process(record, _ISSUER, _ISSUER),
        before=_process(record, f"{_ISSUER}Parent", f"{_ISSUER}Parent"),
        record=record,
    )


def text(record: Mapping[str, Any], name: str) -> str:
    """The cell as text; absent, null and anything that is no text are empty."""
    value = record.get(name)
    return value if isinstance(value, str) else ""


def number(record: Mapping[str, Any], name: str) -> int | None:
    """The cell as a whole number that a long can hold, or None."""
    value = record.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if -(2**63) <= value < 2**63 else None


def moment(record: Mapping[str, Any], name: str) -> Instant | None:
    """The cell as an instant, or None."""
    value = record.get(name)
    if isinstance(value, Instant):
        return value
    try:
        return Instant.parse(value) if isinstance(value, str) else None
    except ValueError:
        return None


def account_name(record: Mapping[str, Any], prefix: str = "") -> str:
    r"""``domain\name``, or the name alone."""
    domain, name = text(record, f"{prefix}AccountDomain"), text(record, f"{prefix}AccountName")
    return f"{domain}\\{name}" if domain and name else name


def _process(record: Record, prefix: str, own: str) -> Process | None:
    """The process of the columns that begin so; ``own`` are those of its id, line and start."""
    status = text(record, f"{prefix}SignatureStatus")
    process = Process(
        id=number(record, f"{own}Id"),
        file=text(record, f"{prefix}FileName"),
        line=text(record, f"{own}CommandLine"),
        started=moment(record, f"{own}CreationTime"),
        folder=text(record, f"{prefix}FolderPath"),
        sha256=text(record, f"{prefix}SHA256"),
        account=account_name(record, prefix),
        signed=status.casefold() == "valid" if prefix and status else None,
    )
    return process if process.named else None


def _network_text(record: Record) -> str:
    address, port = text(record, "RemoteIP"), number(record, "RemotePort")
    url = text(record, "RemoteUrl")
    shown = f"[{address}]" if ":" in address else address
    if port is not None:
        shown += f":{port}"
    if url and shown:
        return f"{shown} ({url})"
    return shown or url or text(record, "ActionType")


def _file_text(record: Record) -> str:
    folder, name = text(record, "FolderPath"), text(record, "FileName")
    if not folder or folder.lower().endswith(name.lower()):
        return folder or name
    return folder.rstrip("\\/") + "\\" + name


def _registry_text(record: Record) -> str:
    key = "\\".join(
        part for part in (text(record, "RegistryKey"), text(record, "RegistryValueName")) if part
    )
    data = text(record, "RegistryValueData")
    return f"{key} = {data}" if data else key


def _device_text(record: Record) -> str:
    """What was done, and to which pipe, task, service or process."""
    action, subject = text(record, "ActionType"), text(record, "Subject")
    about = subject or text(record, "FileName")
    return f"{action} {about}" if about else action


def _logon_text(record: Record) -> str:
    kind, account = text(record, "LogonType"), account_name(record)
    where = text(record, "RemoteDeviceName") or text(record, "RemoteIP")
    said = f"{kind.lower()} logon of {account or '?'}".strip()
    return f"{said} from {where}" if where else said


def _alert_text(record: Record) -> str:
    title, severity = text(record, "Title"), text(record, "Severity")
    said = title or text(record, "AlertId")
    return f"{said} ({severity.lower()})" if severity else said


_WHAT: dict[str, Any] = {
    PROCESSES: lambda r: text(r, "ProcessCommandLine") or text(r, "FileName"),
    "DeviceNetworkEvents": _network_text,
    "DeviceFileEvents": _file_text,
    "DeviceRegistryEvents": _registry_text,
    "DeviceEvents": _device_text,
    "DeviceLogonEvents": _logon_text,
    "AlertEvidence": _alert_text,
}


def distinct(events: Iterable[Event]) -> list[Event]:
    """The events, less those that say the same at the same instant."""
    seen: set[tuple[Any, ...]] = set()
    kept = []
    for event in events:
        process = event.process.id if event.process else None
        key = (event.at, event.table, event.action, event.what, process)
        if key not in seen:
            seen.add(key)
            kept.append(event)
    return kept
