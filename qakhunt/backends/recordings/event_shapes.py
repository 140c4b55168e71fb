"""One Windows event out of the JSON or XML that collectors write.

Known: flat JSON (the OTRF captures, NXLog), Winlogbeat old and new, evtx_dump and
the evtx package, Splunk's export (extracted fields, XML or plain text in ``_raw``),
and the XML of an event. Only process creations are decoded as a whole.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass, field
from typing import Any

import msgspec

SYSMON, SECURITY, UNKNOWN = "Sysmon", "Security", "unknown log"
PROCESS_CREATED = frozenset({(SYSMON, 1), (SECURITY, 4688)})


class Unreadable(ValueError):
    """The record is no Windows event; the message says why."""


@dataclass(frozen=True)
class WindowsEvent:
    """One event: its log, id, and for a process creation what it says.

    ``logged`` is when it was written, as text in UTC as far as the record tells;
    ``data`` holds the event's own fields, ``other`` what the collector added.
    """

    log: str
    id: int
    host: str = ""
    logged: str = ""
    record_id: str = ""
    data: Fields = field(default_factory=dict)
    other: Fields = field(default_factory=dict)

    @property
    def is_process_creation(self) -> bool:
        """Whether it is Sysmon 1 or Security 4688."""
        return (self.log, self.id) in PROCESS_CREATED


class _Winlog(msgspec.Struct):
    event_id: Any = None
    channel: Any = None
    provider_name: Any = None


class _System(msgspec.Struct):
    EventID: Any = None
    Channel: Any = None
    Provider: Any = None


class _Event(msgspec.Struct):
    System: _System | None = None


class _Glance(msgspec.Struct):
    """Enough of a record to tell its log and id; the rest is not decoded."""

    EventID: Any = None
    Channel: Any = None
    SourceName: Any = None
    winlog: _Winlog | None = None
    Event: _Event | None = None


_glance = msgspec.json.Decoder(_Glance).decode
_decode = msgspec.json.Decoder().decode


def read_event(record: bytes | Fields) -> WindowsEvent:
    """The event of a record. Raises Unreadable."""
    if isinstance(record, bytes):
        if record.startswith(b"<"):
            return _from_xml(record.decode("utf-8", "replace"))
        seen = _seen(record)
        if seen is not None and not seen.is_process_creation:
            return seen
        try:
            decoded = _decode(record)
        except (msgspec.DecodeError, UnicodeDecodeError) as problem:
            words = str(problem)
            raise Unreadable(f"broken JSON: {words[:1].lower()}{words[1:]}") from None
        except RecursionError:
            raise Unreadable("nested too deeply") from None
        if not isinstance(decoded, dict):
            raise Unreadable("not a JSON object")
        record = decoded
    return _from_fields(record)


def _seen(line: bytes) -> WindowsEvent | None:
    """Log and id at a glance, or None where only the whole record tells them."""
    try:
        glance = _glance(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if glance.EventID is not None and (glance.SourceName or glance.Channel):
        return _headed(glance.EventID, glance.SourceName, glance.Channel)
    if glance.winlog is not None and glance.winlog.event_id is not None:
        return _headed(glance.winlog.event_id, glance.winlog.provider_name, glance.winlog.channel)
    if glance.Event is not None and glance.Event.System is not None:
        system = glance.Event.System
        return _headed(system.EventID, attribute(system.Provider, "Name"), system.Channel)
    return None


def _headed(event_id: Any, provider: Any, channel: Any) -> WindowsEvent | None:
    number = _number(event_id)
    return None if number is None else WindowsEvent(_log(provider, channel), number)


def _number(value: Any) -> int | None:
    if isinstance(value, dict):
        value = value.get("#text", value.get("Value"))
    if isinstance(value, int):
        return value
    text = str(value).strip() if value is not None else ""
    return int(text) if text.isdecimal() else None


def _log(provider: Any, channel: Any) -> str:
    """A short name of the log: its channel without the vendor's prefix."""
    name = str(channel or provider or UNKNOWN).rpartition(":")[2]
    if "Sysmon" in name or "Sysmon" in str(provider or ""):
        return SYSMON
    if name.lower() == "security" or str(provider) == "Microsoft-Windows-Security-Auditing":
        return SECURITY
    return name.removeprefix("Microsoft-Windows-").removesuffix("/Operational")


def _from_fields(fields: Fields) -> WindowsEvent:
    inner = fields.get("_source", fields.get("result"))
    if isinstance(inner, dict):
        fields = inner
    raw = fields.get("_raw")
    if isinstance(raw, str) and raw.lstrip().startswith("<Event"):
        return _from_xml(raw)
    if isinstance(fields.get("Event"), dict):
        return _from_evtx(fields["Event"])
    if isinstance(fields.get("winlog"), dict):
        return _from_winlogbeat(fields["winlog"], fields)
    if "event_id" in fields:
        return _from_winlogbeat(fields, fields)
    if "winlog.event_id" in fields:
        return _from_winlogbeat(_below("winlog.", fields), fields)
    if isinstance(raw, str) and "NewProcessName" not in fields and "Image" not in fields:
        return _from_text(raw, fields)
    return _from_flat(fields)


def _below(prefix: str, fields: Fields) -> Fields:
    """Fields whose names carry their path, as a search's table exports them."""
    head: Fields = {"event_data": {}}
    for name, value in fields.items():
        if name.startswith(f"{prefix}event_data."):
            head["event_data"][name.removeprefix(f"{prefix}event_data.")] = _single(value)
        elif name.startswith(prefix):
            head[name.removeprefix(prefix)] = _single(value)
    return head


def _single(value: Any) -> Any:
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _require(event_id: Any) -> int:
    number = _number(event_id)
    if number is None:
        raise Unreadable("no event id: not a Windows event")
    return number


def _from_evtx(event: Fields) -> WindowsEvent:
    system = event.get("System")
    if not isinstance(system, dict):
        raise Unreadable("an Event without System")
    data = event.get("EventData")
    return WindowsEvent(
        log=_log(attribute(system.get("Provider"), "Name"), system.get("Channel")),
        id=_require(system.get("EventID")),
        host=as_text(system.get("Computer")),
        logged=as_text(attribute(system.get("TimeCreated"), "SystemTime")),
        record_id=as_text(system.get("EventRecordID")),
        data=_named_data(data) if isinstance(data, dict) else {},
    )


def _named_data(data: Fields) -> Fields:
    """EventData as names and values, whether it came flat or as a list of Data."""
    entries = data.get("Data")
    if not isinstance(entries, list):
        return {k: v for k, v in data.items() if k != "#attributes"}
    found = {}
    for entry in entries:
        name = attribute(entry, "Name") if isinstance(entry, dict) else None
        if name:
            found[str(name)] = entry.get("#text", entry.get("Value", ""))
    return found


_WINLOG_HEADER = (
    "event_id", "channel", "provider_name", "computer_name", "record_id", "event_data", "api",
    "provider_guid", "task", "opcode", "version", "process", "keywords", "log_name",
    "source_name", "beat", "host", "message", "@timestamp", "@version", "type", "level", "user",
    "activity_id", "related_activity_id", "computerObject", "time_created",
)  # fmt: skip


def _from_winlogbeat(head: Fields, whole: Fields) -> WindowsEvent:
    data = head.get("event_data")
    return WindowsEvent(
        log=_log(
            head.get("provider_name") or head.get("source_name"),
            head.get("channel") or head.get("log_name"),
        ),
        id=_require(head.get("event_id")),
        host=as_text(head.get("computer_name")),
        logged=as_text(_single(whole.get("@timestamp"))),
        record_id=as_text(head.get("record_id") or head.get("record_number")),
        data=data if isinstance(data, dict) else {},
        other={k: v for k, v in head.items() if k not in _WINLOG_HEADER},
    )


_SPLUNK_NAMES = {
    "New_Process_Name": "NewProcessName", "New_Process_ID": "NewProcessId",
    "Creator_Process_Name": "ParentProcessName", "Creator_Process_ID": "ProcessId",
    "Process_Command_Line": "CommandLine", "Token_Elevation_Type": "TokenElevationType",
    "Mandatory_Label": "MandatoryLabel",
}  # fmt: skip
# Lists of two: the creator's and the target's.
_SPLUNK_SUBJECTS = {
    "Account_Name": "UserName", "Account_Domain": "DomainName",
    "Logon_ID": "LogonId", "Security_ID": "UserSid",
}  # fmt: skip
_FLAT_HEADER = (
    "EventID", "EventCode", "Channel", "LogName", "SourceName", "ProviderName", "Provider",
    "Hostname", "Computer", "ComputerName", "TimeCreated", "SystemTime", "EventTime",
    "@timestamp", "EventReceivedTime", "RecordNumber", "EventRecordID", "RecordID", "Message",
    "_raw", "_time",
)  # fmt: skip


def _from_flat(fields: Fields) -> WindowsEvent:
    get = fields.get
    message = get("Message")
    log = _log(
        get("SourceName") or get("ProviderName") or get("Provider"),
        get("Channel") or get("LogName") or get("source"),
    )
    number = _number(get("EventID", get("EventCode", get("Id"))))
    if number is None:
        known = "InitiatingProcessFileName" in fields
        raise Unreadable(
            "in Defender's columns already: give the file to --events"
            if known
            else "no event id: not a Windows event"
        )
    data = dict(fields)
    for name in _FLAT_HEADER:
        data.pop(name, None)
    if "New_Process_Name" in data:
        data = _from_splunk_names(data)
    if log == UNKNOWN:
        log = SECURITY if "NewProcessName" in data else SYSMON if "ProcessGuid" in data else log
    process_id = "ProcessId" if log == SYSMON else "NewProcessId"
    if isinstance(message, str) and (log, number) in PROCESS_CREATED and process_id not in data:
        # NXLog's own ProcessID hides Sysmon's; the rendered text may still have it.
        for name, value in message_fields(message, sysmon=log == SYSMON).items():
            data.setdefault(name, value)
    return WindowsEvent(
        log=log,
        id=number,
        host=as_text(
            get("Hostname")
            or get("Computer")
            or get("ComputerName")
            or get("MachineName")
            or get("host")
        ),
        logged=logged_time(fields),
        record_id=as_text(get("RecordNumber") or get("EventRecordID") or get("RecordID")),
        data=data,
    )


def _from_splunk_names(data: Fields) -> Fields:
    found = {_SPLUNK_NAMES.get(name, name): value for name, value in data.items()}
    for name, part in _SPLUNK_SUBJECTS.items():
        values = found.pop(name, None)
        for who, value in zip(
            ("Subject", "Target"), values if isinstance(values, list) else [values], strict=False
        ):
            found.setdefault(who + part, value)
    return found


_TEXT_HEAD = re.compile(
    r"^(LogName|SourceName|EventCode|ComputerName|RecordNumber)=(.*?)\r?$", re.MULTILINE
)


def _from_text(raw: str, fields: Fields) -> WindowsEvent:
    """The classic text of Splunk's Windows input, or a record that is none."""
    head = dict(_TEXT_HEAD.findall(raw))
    number = head.get("EventCode", fields.get("EventCode", fields.get("EventID")))
    log = _log(head.get("SourceName"), head.get("LogName") or fields.get("source"))
    message = raw.partition("\nMessage=")[2]
    return WindowsEvent(
        log=log,
        id=_require(number),
        host=as_text(head.get("ComputerName") or fields.get("ComputerName") or fields.get("host")),
        logged=splunk_time(fields),
        record_id=as_text(head.get("RecordNumber")),
        data=message_fields(message, sysmon=log == SYSMON) if message else {},
    )


def _from_xml(text: str) -> WindowsEvent:
    import xml.etree.ElementTree as ET

    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise Unreadable("XML with a document type is not read")
    try:
        root = ET.fromstring(text)  # noqa: S314
    except ET.ParseError as problem:
        raise Unreadable(f"broken XML: {problem}") from None
    system = root.find("{*}System")
    if system is None:
        raise Unreadable("an Event without System")

    data = [_element(one) for one in root.iterfind("{*}EventData/{*}Data")]
    heads = {one.tag.rpartition("}")[2]: _element(one) for one in system}
    return _from_evtx({"System": heads, "EventData": {"Data": data}})


def _element(element: Any) -> Any:
    """An element of XML as JSON writers put it."""
    text = element.text or ""
    if not element.attrib:
        return text
    return {"#text": text, **{f"@{name}": value for name, value in element.attrib.items()}}


_MESSAGE_LINE = re.compile(r"^([ \t]*)([A-Za-z][A-Za-z ]*?):[ \t]*(.*?)[ \t]*\r?$", re.MULTILINE)
_SECURITY_LINES = {
    "New Process ID": "NewProcessId", "New Process Name": "NewProcessName",
    "Token Elevation Type": "TokenElevationType", "Mandatory Label": "MandatoryLabel",
    "Creator Process ID": "ProcessId", "Creator Process Name": "ParentProcessName",
    "Process Command Line": "CommandLine",
}  # fmt: skip
_SUBJECT_LINES = {
    "Security ID": "UserSid", "Account Name": "UserName",
    "Account Domain": "DomainName", "Logon ID": "LogonId",
}  # fmt: skip


def message_fields(message: str, *, sysmon: bool) -> Fields:
    """The fields of a rendered (English) message under the names of the event's own."""
    found: Fields = {}
    who = "Subject"
    for _, name, value in _MESSAGE_LINE.findall(message):
        if sysmon:
            found.setdefault(name, value)
        elif name in ("Subject", "Creator Subject", "Target Subject"):
            who = "Target" if name.startswith("Target") else "Subject"
        elif name in _SUBJECT_LINES:
            found.setdefault(who + _SUBJECT_LINES[name], value)
        elif name in _SECURITY_LINES:
            found.setdefault(_SECURITY_LINES[name], value)
    return found


Fields = dict[str, Any]


def attribute(value: Any, name: str) -> Any:
    """``name`` of an element as the JSON writers put attributes."""
    if not isinstance(value, dict):
        return value
    inner = value.get("#attributes")
    if isinstance(inner, dict):
        return inner.get(name)
    return value.get(f"@{name}", value.get(name))


def as_text(value: Any) -> str:
    """The value as text; nothing is empty."""
    if value is None:
        return ""
    return value if isinstance(value, str) else str(value)


_CLOCK = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d):(\d\d)")


def logged_time(fields: Fields) -> str:
    """When the event was written. NXLog's EventTime is in its collector's zone.

    That zone follows from the two times of receipt, one in each.
    """
    for name in ("TimeCreated", "SystemTime"):
        if fields.get(name):
            return _dotnet_time(as_text(attribute(fields[name], "SystemTime")))
    local = as_text(fields.get("EventTime"))
    if not local:
        return as_text(fields.get("@timestamp")) or splunk_time(fields)
    utc, received = as_text(fields.get("@timestamp")), as_text(fields.get("EventReceivedTime"))
    quarters = round((_minutes(utc) - _minutes(received)) / 15) if utc and received else 0
    if local.endswith("Z") or "+" in local[10:] or not -56 <= quarters <= 56:
        return local
    sign, minutes = ("-", quarters * 15) if quarters >= 0 else ("+", -quarters * 15)
    return f"{local}{sign}{minutes // 60:02d}:{minutes % 60:02d}"


_DOTNET = re.compile(r"/Date\((\d{10,14})\)/")


def _dotnet_time(text: str) -> str:
    """The text, or what PowerShell's ConvertTo-Json makes of a time, as ISO text."""
    match = _DOTNET.fullmatch(text)
    return _since_1970(f"{int(match[1]) / 1000:.3f}") if match else text


def splunk_time(fields: Fields) -> str:
    """``_time``: ISO text, or seconds since 1970."""
    text = as_text(fields.get("_time"))
    if not re.fullmatch(r"\d{9,11}(?:\.\d+)?", text):
        return text
    return _since_1970(text)


def _since_1970(text: str) -> str:
    seconds, _, fraction = text.partition(".")
    moment = dt.datetime.fromtimestamp(int(seconds), dt.timezone.utc)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{(fraction + '0' * 7)[:7]}Z"


def _minutes(text: str) -> int:
    """Minutes since a fixed day; 0 for text that is no time."""
    match = _CLOCK.match(text)
    if match is None:
        return 0
    day = dt.date.fromisoformat(match[1]).toordinal()
    return day * 1440 + int(match[2]) * 60 + int(match[3])
