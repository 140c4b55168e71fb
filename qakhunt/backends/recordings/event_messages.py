"""The rendered (English) message of a process creation, back in its fields."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qakhunt.backends.recordings.event_fields import Fields

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
