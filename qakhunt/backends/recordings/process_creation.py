"""Sysmon 1 and Security 4688 in the columns of Defender's DeviceProcessEvents.

What one event says, and no more: parents are resolved later, over all events.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from qakhunt.backends.recordings.event_shapes import SYSMON, Unreadable
from qakhunt.kql.values import Instant

if TYPE_CHECKING:
    from collections.abc import Callable

    from qakhunt.backends.recordings.event_shapes import Fields, WindowsEvent

_EPOCH = Instant.parse("1970-01-01").ticks
_HOURS: dict[str, int] = {}
_NANOSECONDS = range(-(2**63) + 1, 2**63)


class Creation(msgspec.Struct, omit_defaults=True):
    """One process creation. Times are nanoseconds since 1970 in UTC, ids numbers.

    ``guid`` and ``parent_guid`` are Sysmon's; ``created`` is Sysmon's own time and
    ``logged`` the log's. ``extra`` holds the fields that have no column.
    """

    source: str
    place: int
    log: str
    device: str
    record_id: int | None = None
    created: int | None = None
    logged: int | None = None
    process_id: int | None = None
    guid: str = ""
    path: str = ""
    line: str = ""
    parent_id: int | None = None
    parent_guid: str = ""
    parent_path: str = ""
    parent_line: str = ""
    account: str = ""
    domain: str = ""
    sid: str = ""
    parent_account: str = ""
    parent_domain: str = ""
    parent_sid: str = ""
    logon_id: int | None = None
    session: int | None = None
    integrity: str = ""
    elevation: str = ""
    sha1: str = ""
    sha256: str = ""
    md5: str = ""
    company: str = ""
    product: str = ""
    original_name: str = ""
    description: str = ""
    extra: dict[str, Any] | None = None


def creation_of(
    event: WindowsEvent, source: str, place: int, *, raw_lines: bool = False
) -> Creation:
    """The creation that an event tells of; takes what it needs out of the event's data.

    ``raw_lines`` keeps the directory of a command line's first word. Raises
    Unreadable for an event that lacks its time or its process.
    """
    made = Creation(
        source=source,
        place=place,
        log=event.log,
        device=event.host.lower(),
        record_id=_whole(event.record_id),
        logged=_time(event.logged),
    )
    data = event.data
    (_read_sysmon if event.log == SYSMON else _read_security)(data, made)
    if made.created is None and made.logged is None:
        raise Unreadable(f"no time in this {event.log} {event.id}")
    if not made.path and not made.line:
        raise Unreadable(f"no process in this {event.log} {event.id}")
    if not made.device:
        raise Unreadable(f"no computer in this {event.log} {event.id}")
    if not raw_lines:
        made.line = without_directory(made.line, made.path)
        made.parent_line = without_directory(made.parent_line, made.parent_path)
    data.update(event.other)
    made.extra = data
    return made


def _taker(data: Fields) -> Callable[[str], str]:
    """Takes a field out of ``data`` as text."""
    pop = data.pop

    def take(name: str) -> str:
        value = pop(name, "")
        return value if type(value) is str else _text(value)

    return take


def _read_sysmon(data: Fields, made: Creation) -> None:
    take = _taker(data)
    made.created = _time(take("UtcTime"))
    made.process_id = _whole(take("ProcessId"))
    made.guid, made.parent_guid = take("ProcessGuid").lower(), take("ParentProcessGuid").lower()
    made.path, made.parent_path = _plain(take("Image")), _plain(take("ParentImage"))
    made.line = _undoubled(_plain(take("CommandLine")))
    made.parent_line = _undoubled(_plain(take("ParentCommandLine")))
    made.parent_id = _whole(take("ParentProcessId"))
    made.domain, made.account = _user(take("User"))
    made.parent_domain, made.parent_account = _user(take("ParentUser"))
    made.logon_id = _whole(take("LogonId"))
    made.session = _whole(take("TerminalSessionId"))
    made.integrity = take("IntegrityLevel")
    hashes = take("Hashes")
    if hashes:
        found = dict(part.split("=", 1) for part in hashes.split(",") if "=" in part)
        made.sha1 = found.pop("SHA1", "").lower()
        made.sha256 = found.pop("SHA256", "").lower()
        made.md5 = found.pop("MD5", "").lower()
        data.update(found)
    made.company, made.product = _known(take("Company")), _known(take("Product"))
    made.original_name = _known(take("OriginalFileName"))
    made.description = _known(take("Description"))
    if made.guid:
        data["ProcessGuid"] = made.guid
    if made.parent_guid:
        data["ParentProcessGuid"] = made.parent_guid


_SYSTEM_LOGONS = {0x3E7: "system", 0x3E4: "network service", 0x3E5: "local service"}
_SYSTEM_SIDS = {"system": "S-1-5-18", "network service": "S-1-5-20", "local service": "S-1-5-19"}
_ELEVATION = {
    "%%1936": "TokenElevationTypeDefault", "%%1937": "TokenElevationTypeFull",
    "%%1938": "TokenElevationTypeLimited",
}  # fmt: skip
_INTEGRITY = {
    "S-1-16-0": "Untrusted", "S-1-16-4096": "Low", "S-1-16-8192": "Medium",
    "S-1-16-8448": "Medium", "S-1-16-12288": "High", "S-1-16-16384": "System",
}  # fmt: skip
_NO_SID = ("", "-", "S-1-0-0")


def _read_security(data: Fields, made: Creation) -> None:
    take = _taker(data)
    made.process_id, made.parent_id = _whole(take("NewProcessId")), _whole(take("ProcessId"))
    made.path, made.parent_path = _plain(take("NewProcessName")), _plain(take("ParentProcessName"))
    made.line = _plain(take("CommandLine"))
    creator = [take(f"Subject{part}") for part in ("UserName", "DomainName", "UserSid", "LogonId")]
    target = [take(f"Target{part}") for part in ("UserName", "DomainName", "UserSid", "LogonId")]
    made.parent_account, made.parent_domain, made.parent_sid, _ = _who(creator)
    chosen = target if target[0] not in ("", "-") else creator
    made.account, made.domain, made.sid, made.logon_id = _who(chosen)
    made.elevation = _ELEVATION.get(elevation := take("TokenElevationType"), elevation)
    made.integrity = _INTEGRITY.get(label := take("MandatoryLabel"), label)


def _who(subject: list[str]) -> tuple[str, str, str, int | None]:
    """Account, domain, SID and logon id; Windows' own accounts under their own names."""
    name, domain, sid, logon = subject
    logon_id = _whole(logon)
    own = _SYSTEM_LOGONS.get(logon_id or 0)
    if own:
        return own, "nt authority", _SYSTEM_SIDS[own], logon_id
    return _known(name).lower(), _known(domain).lower(), "" if sid in _NO_SID else sid, logon_id


def _user(text: str) -> tuple[str, str]:
    """Domain and account of ``DOMAIN\\account``, as Defender writes them."""
    domain, slash, account = _known(text).lower().partition("\\")
    return (domain, account) if slash else ("", domain)


def _known(text: str) -> str:
    return "" if text == "-" else text


_ESCAPED = re.compile(r"&(quot|amp|lt|gt|apos|#\d{1,7}|#x[0-9a-fA-F]{1,6});")
_ENTITIES = {"quot": '"', "amp": "&", "lt": "<", "gt": ">", "apos": "'"}


def _plain(text: str) -> str:
    """The text without XML's escapes, which some collectors leave in their JSON."""
    return _ESCAPED.sub(_unescaped, text) if "&" in text else text


def _unescaped(match: re.Match[str]) -> str:
    name = match[1]
    if name in _ENTITIES:
        return _ENTITIES[name]
    code = int(name[2:], 16) if name[1] == "x" else int(name[1:])
    return chr(code) if 0 < code < 0x110000 and not 0xD800 <= code < 0xE000 else match[0]


_PERCENTS = re.compile("%+")


def _undoubled(line: str) -> str:
    """Sysmon writes every % twice."""
    if "%%" not in line or any(len(run) % 2 for run in _PERCENTS.findall(line)):
        return line
    return line.replace("%%", "%")


_BARE = re.compile(r'^\s*(?:[^\s"]*\\|[A-Za-z]:/(?:[^\s"]*/)?)([^\s"\\/]+)(?=\s|$)')


def without_directory(line: str, path: str = "") -> str:
    """The command line with the bare name as its first word, as Defender records it.

    ``path`` is the image; it tells where an unquoted name with spaces ends.
    """
    if "\\" not in line and ":/" not in line:
        return line
    if line.startswith('"'):
        end = line.find('"', 1)
        _, slash, name = line[1:end].rpartition("\\")
        return f'"{name}{line[end:]}' if slash and name and end > 0 else line
    if path and " " in path and line.lower().startswith(path.lower()):
        return path.rpartition("\\")[2] + line[len(path) :]
    bare = _BARE.match(line)
    return bare[1] + line[bare.end() :] if bare else line


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)


def _whole(text: str) -> int | None:
    """A number in decimal or as ``0x..``; None for anything else."""
    try:
        number = int(text, 16) if text[:2] in ("0x", "0X") else int(text)
    except ValueError:
        return None
    return number if 0 <= number < 2**63 else None


def _time(text: str) -> int | None:
    """Nanoseconds since 1970, or None for text that is no time between 1678 and 2262."""
    base = _HOURS.get(text[:13])
    if base is not None and text[13:17:3] == "::" and text[19:20] == ".":
        fraction = text[20:-1] if text[-1] == "Z" else text[20:]
        if fraction.isdecimal() and len(fraction) < 10 and text[14:16].isdecimal():
            seconds = int(text[14:16]) * 60 + int(text[17:19])
            return base + seconds * 10**9 + int(fraction.ljust(9, "0"))
    return _any_time(text)


def _any_time(text: str) -> int | None:
    try:
        nanoseconds = (Instant.parse(text.strip()).ticks - _EPOCH) * 100
    except (ValueError, OverflowError):
        return None
    if nanoseconds not in _NANOSECONDS:
        return None
    if text[19:20] == "." and (text[-1] == "Z" or text[20:].isdecimal()):
        # Its hour is in UTC; the next time of it need not be parsed.
        _HOURS[text[:13]] = nanoseconds - nanoseconds % (3600 * 10**9)
    return nanoseconds
