"""Two process creations as every collector writes them: net.exe, then its net1.exe."""

from __future__ import annotations

import json
from typing import Any
from xml.sax.saxutils import escape, quoteattr

HOST = "WS-07.contoso.example"
LINE = 'C:\\Windows\\system32\\net.exe  localgroup "Remote & <Desktop> Users"'
RECORDED = 'net.exe  localgroup "Remote & <Desktop> Users"'

SYSMON = {
    "RuleName": "-",
    "UtcTime": "2026-10-05 08:15:01.123",
    "ProcessGuid": "{5770385f-5c85-6ac3-0101-000000000700}",
    "ProcessId": "4120",
    "Image": "C:\\Windows\\System32\\net.exe",
    "OriginalFileName": "net.exe",
    "CommandLine": LINE,
    "CurrentDirectory": "C:\\Users\\anna\\",
    "User": "CONTOSO\\Anna",
    "LogonId": "0x3a1f2",
    "TerminalSessionId": "2",
    "IntegrityLevel": "Medium",
    "Hashes": "SHA1=AB12,SHA256=CD34,IMPHASH=EF56",
    "ParentProcessGuid": "{5770385f-5be0-6ac3-f000-000000000700}",
    "ParentProcessId": "3004",
    "ParentImage": "C:\\Windows\\System32\\cmd.exe",
    "ParentCommandLine": '"C:\\Windows\\system32\\cmd.exe" /c list.cmd',
}
SECURITY = {
    "SubjectUserSid": "S-1-5-21-1-2-3-1104",
    "SubjectUserName": "Anna",
    "SubjectDomainName": "CONTOSO",
    "SubjectLogonId": "0x3a1f2",
    "NewProcessId": "0x1018",
    "NewProcessName": "C:\\Windows\\System32\\net.exe",
    "TokenElevationType": "%%1938",
    "ProcessId": "0xbbc",
    "CommandLine": LINE,
    "TargetUserSid": "S-1-0-0",
    "TargetUserName": "-",
    "TargetDomainName": "-",
    "TargetLogonId": "0x0",
    "ParentProcessName": "C:\\Windows\\System32\\cmd.exe",
    "MandatoryLabel": "S-1-16-8192",
}
WRITTEN = "2026-10-05T08:15:01.1234567Z"


def _log(event_id: int) -> tuple[str, str]:
    if event_id == 1:
        return "Microsoft-Windows-Sysmon", "Microsoft-Windows-Sysmon/Operational"
    return "Microsoft-Windows-Security-Auditing", "Security"


def flat(event_id: int, data: dict[str, Any]) -> dict[str, Any]:
    """As the OTRF captures have it."""
    provider, channel = _log(event_id)
    return {
        "SourceName": provider, "Channel": channel, "Hostname": HOST, "TimeCreated": WRITTEN,
        "@timestamp": WRITTEN, "EventID": event_id, "Message": "Process Create:", **data,
    }  # fmt: skip


def nxlog(event_id: int, data: dict[str, Any]) -> dict[str, Any]:
    """NXLog: local time without a zone, and Sysmon's ProcessId hidden by its own."""
    provider, channel = _log(event_id)
    kept = {k: v for k, v in data.items() if not (event_id == 1 and k == "ProcessId")}
    message = "Process Create:\r\nProcessId: 4120\r\nImage: C:\\Windows\\System32\\net.exe"
    return {
        "EventTime": "2026-10-05 04:15:01", "EventReceivedTime": "2026-10-05 04:15:03",
        "@timestamp": "2026-10-05T08:15:03.512Z", "Hostname": HOST, "EventID": event_id,
        "SourceName": provider, "Channel": channel, "ExecutionProcessID": 3172, "RecordNumber": 88,
        "Keywords": -9223372036854775808, "tags": ["x"], "Message": message, **kept,
    }  # fmt: skip


def winlogbeat(event_id: int, data: dict[str, Any]) -> dict[str, Any]:
    """Winlogbeat 7 and later."""
    provider, channel = _log(event_id)
    return {
        "@timestamp": WRITTEN,
        "event": {"code": str(event_id), "kind": "event"},
        "host": {"name": "collector"},
        "winlog": {
            "event_id": str(event_id), "channel": channel, "provider_name": provider,
            "computer_name": HOST, "record_id": 88, "event_data": data,
        },
    }  # fmt: skip


def winlogbeat_6(event_id: int, data: dict[str, Any]) -> dict[str, Any]:
    """Winlogbeat 6, as Elasticsearch exports it."""
    provider, channel = _log(event_id)
    source = {
        "@timestamp": WRITTEN, "event_id": event_id, "log_name": channel, "source_name": provider,
        "computer_name": HOST, "record_number": "88", "event_data": data, "beat": {"name": "b"},
    }  # fmt: skip
    return {"_index": "winlogbeat-6", "_source": source}


def evtx_dump(event_id: int, data: dict[str, Any]) -> dict[str, Any]:
    """evtx_dump, with attributes apart."""
    provider, channel = _log(event_id)
    return {
        "Event": {
            "#attributes": {"xmlns": "http://schemas.microsoft.com/win/2004/08/events/event"},
            "System": {
                "Provider": {"#attributes": {"Name": provider}},
                "EventID": {"#attributes": {"Qualifiers": ""}, "#text": event_id},
                "TimeCreated": {"#attributes": {"SystemTime": WRITTEN}},
                "EventRecordID": 88, "Channel": channel, "Computer": HOST,
            },
            "EventData": data,
        }
    }  # fmt: skip


def xml_event(event_id: int, data: dict[str, Any]) -> str:
    """The event's XML, on one line."""
    provider, channel = _log(event_id)
    cells = "".join(f"<Data Name={quoteattr(k)}>{escape(str(v))}</Data>" for k, v in data.items())
    return (
        "<Event xmlns='http://schemas.microsoft.com/win/2004/08/events/event'><System>"
        f"<Provider Name='{provider}'/><EventID>{event_id}</EventID>"
        f"<TimeCreated SystemTime='{WRITTEN}'/><EventRecordID>88</EventRecordID>"
        f"<Channel>{channel}</Channel><Computer>{HOST}</Computer></System>"
        f"<EventData>{cells}</EventData></Event>"
    )


def splunk_xml(event_id: int, data: dict[str, Any]) -> dict[str, Any]:
    """Splunk's export of its XML sourcetype."""
    return {"preview": False, "result": {"_raw": xml_event(event_id, data), "host": "ws-07"}}


def splunk_text(event_id: int, data: dict[str, Any]) -> dict[str, Any]:
    """Splunk's export of the classic text."""
    provider, channel = _log(event_id)
    if event_id == 1:
        message = "Process Create:\n" + "\n".join(f"{k}: {v}" for k, v in data.items())
    else:
        message = (
            "A new process has been created.\n\nCreator Subject:\n"
            f"\tSecurity ID:\t\t{data['SubjectUserSid']}\n\tAccount Name:\t\t{data['SubjectUserName']}\n"
            f"\tAccount Domain:\t\t{data['SubjectDomainName']}\n\tLogon ID:\t\t{data['SubjectLogonId']}\n\n"
            "Target Subject:\n\tSecurity ID:\t\tS-1-0-0\n\tAccount Name:\t\t-\n"
            "\tAccount Domain:\t\t-\n\tLogon ID:\t\t0x0\n\nProcess Information:\n"
            f"\tNew Process ID:\t\t{data['NewProcessId']}\n\tNew Process Name:\t{data['NewProcessName']}\n"
            f"\tToken Elevation Type:\t{data['TokenElevationType']}\n"
            f"\tMandatory Label:\t\t{data['MandatoryLabel']}\n\tCreator Process ID:\t{data['ProcessId']}\n"
            f"\tCreator Process Name:\t{data['ParentProcessName']}\n"
            f"\tProcess Command Line:\t{data['CommandLine']}\n\nToken Elevation Type indicates"
        )
    raw = (
        f"10/05/2026 04:15:01 AM\nLogName={channel}\nSourceName={provider}\nEventCode={event_id}\n"
        f"EventType=0\nComputerName={HOST}\nRecordNumber=88\nMessage={message}"
    )
    return {"result": {"_raw": raw, "_time": "1791188101.1234567", "host": "ws-07"}}


def splunk_fields(event_id: int, data: dict[str, Any]) -> dict[str, Any]:
    """Splunk's export of extracted fields alone."""
    _, channel = _log(event_id)
    head = {"_time": WRITTEN, "host": "ws-07", "ComputerName": HOST, "EventCode": str(event_id)}
    if event_id == 1:
        return {"result": {**head, "source": f"XmlWinEventLog:{channel}", **data}}
    return {
        "result": {
            **head, "source": "WinEventLog:Security",
            "Account_Name": [data["SubjectUserName"], "-"],
            "Account_Domain": [data["SubjectDomainName"], "-"],
            "Logon_ID": [data["SubjectLogonId"], "0x0"],
            "Security_ID": [data["SubjectUserSid"], "S-1-0-0"],
            "New_Process_Name": data["NewProcessName"], "New_Process_ID": data["NewProcessId"],
            "Creator_Process_Name": data["ParentProcessName"], "Creator_Process_ID": data["ProcessId"],
            "Process_Command_Line": data["CommandLine"], "Mandatory_Label": data["MandatoryLabel"],
            "Token_Elevation_Type": data["TokenElevationType"],
        }
    }  # fmt: skip


def elastic_table(event_id: int, data: dict[str, Any]) -> dict[str, Any]:
    """Fields under their whole paths, each a list, as Elasticsearch's fields come."""
    whole = winlogbeat(event_id, data)["winlog"]
    flat = {f"winlog.{k}": [v] for k, v in whole.items() if k != "event_data"}
    flat |= {f"winlog.event_data.{k}": [v] for k, v in data.items()}
    return {"@timestamp": [WRITTEN], **flat}


def powershell(event_id: int, data: dict[str, Any]) -> dict[str, Any]:
    """Get-WinEvent | ConvertTo-Json: the rendered message alone."""
    provider, channel = _log(event_id)
    raw = splunk_text(event_id, data)["result"]["_raw"]
    return {
        "Id": event_id, "ProviderName": provider, "LogName": channel, "MachineName": HOST,
        "RecordId": 88, "TimeCreated": "/Date(1791188101123)/",
        "Message": raw.partition("Message=")[2].replace("\n", "\r\n"),
    }  # fmt: skip


SHAPES = {
    "flat": flat, "nxlog": nxlog, "winlogbeat": winlogbeat, "winlogbeat 6": winlogbeat_6,
    "evtx_dump": evtx_dump, "splunk xml": splunk_xml, "splunk text": splunk_text,
    "splunk fields": splunk_fields, "elastic table": elastic_table, "powershell": powershell,
}  # fmt: skip


def lines(*events: dict[str, Any]) -> bytes:
    """The events as JSON lines."""
    return "".join(json.dumps(event) + "\n" for event in events).encode()
