"""Defender's columns out of the resolved processes, as DuckDB expressions."""

from __future__ import annotations

from qakhunt.backends.engine.sql_types import SQL_TYPES, identifier
from qakhunt.kql.schema import DEFENDER, columns

TABLE = "DeviceProcessEvents"


def table_columns() -> dict[str, str]:
    """Column -> KQL type of what an import writes: Defender's own schema."""
    seen: dict[str, str] = {}
    kinds = columns(DEFENDER.name, TABLE)
    for name in kinds:
        seen.setdefault(name.casefold(), name)
    return {name: kind for name, kind in kinds.items() if seen[name.casefold()] == name}


def select_processes() -> str:
    """A SELECT of every column for the processes of ``process_chains``."""
    cells = ", ".join(
        f"{_RESULT.get(name, _absent(kind))} AS {identifier(name)}"
        for name, kind in table_columns().items()
    )
    return f"SELECT {cells} FROM {_JOINED}"


def _absent(kind: str) -> str:
    if kind in ("string", "dynamic"):
        return "''"
    return f"CAST(NULL AS {'TIMESTAMP_NS' if kind == 'datetime' else SQL_TYPES[kind]})"


# k: the keys resolved; r: the record; e: the other log's; p: the parent's.
_JOINED = """
parents k JOIN raw r ON r.rowid = k.seq
LEFT JOIN raw e ON e.rowid = k.twin
LEFT JOIN raw p ON p.rowid = k.parent
"""


def _name(path: str) -> str:
    return f"regexp_extract({path}, '[^\\\\/]*$')"


def _guid_time(guid: str) -> str:
    """The second that a Sysmon GUID holds, in nanoseconds since 1970."""
    bare = f"trim({guid}, '{{}}')"
    seconds = f"('0x' || substr({bare}, 15, 4) || substr({bare}, 10, 4))::BIGINT"
    shape = "'^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-'"
    return f"CASE WHEN regexp_matches({bare}, {shape}) THEN {seconds} * 1000000000 END"


def _moment(nanoseconds: str) -> str:
    return f"make_timestamp_ns({nanoseconds})"


def _first(*texts: str) -> str:
    """The first text that is there and not empty."""
    known = ", ".join(f"nullif({text}, '')" for text in texts)
    return f"coalesce({known}, '')"


_PARENT_PATH = _first("r.parent_path", "p.path")
_RESULT = {
    "Timestamp": _moment("k.made"),
    "DeviceId": "sha1(r.device)",
    "DeviceName": "r.device",
    "ActionType": "'ProcessCreated'",
    "FileName": _name("r.path"),
    "FolderPath": "r.path",
    "SHA1": "r.sha1",
    "SHA256": "r.sha256",
    "MD5": "r.md5",
    "ProcessVersionInfoCompanyName": "r.company",
    "ProcessVersionInfoProductName": "r.product",
    "ProcessVersionInfoOriginalFileName": "r.original_name",
    "ProcessVersionInfoFileDescription": "r.description",
    "ProcessId": "k.process_id",
    "ProcessCommandLine": "r.line",
    "ProcessIntegrityLevel": _first("r.integrity", "e.integrity"),
    "ProcessTokenElevation": _first("r.elevation", "e.elevation"),
    "ProcessCreationTime": _moment("k.made"),
    "AccountDomain": "r.domain",
    "AccountName": "r.account",
    "AccountSid": _first("r.sid", "e.sid"),
    "LogonId": "r.logon_id",
    "CreatedProcessSessionId": "r.session",
    "InitiatingProcessAccountDomain": _first("r.parent_domain", "e.parent_domain", "p.domain"),
    "InitiatingProcessAccountName": _first("r.parent_account", "e.parent_account", "p.account"),
    "InitiatingProcessAccountSid": _first("r.parent_sid", "e.parent_sid", "p.sid"),
    "InitiatingProcessLogonId": "p.logon_id",
    "InitiatingProcessSessionId": "p.session",
    "InitiatingProcessIntegrityLevel": "coalesce(p.integrity, '')",
    "InitiatingProcessTokenElevation": "coalesce(p.elevation, '')",
    "InitiatingProcessSHA1": "coalesce(p.sha1, '')",
    "InitiatingProcessSHA256": "coalesce(p.sha256, '')",
    "InitiatingProcessMD5": "coalesce(p.md5, '')",
    "InitiatingProcessVersionInfoCompanyName": "coalesce(p.company, '')",
    "InitiatingProcessVersionInfoProductName": "coalesce(p.product, '')",
    "InitiatingProcessVersionInfoOriginalFileName": "coalesce(p.original_name, '')",
    "InitiatingProcessVersionInfoFileDescription": "coalesce(p.description, '')",
    "InitiatingProcessFileName": _name(_PARENT_PATH),
    "InitiatingProcessFolderPath": f"lower({_PARENT_PATH})",
    "InitiatingProcessId": "r.parent_id",
    "InitiatingProcessCommandLine": _first("r.parent_line", "p.line"),
    "InitiatingProcessCreationTime": _moment(
        f"coalesce(k.parent_made, {_guid_time('r.parent_guid')})"
    ),
    "InitiatingProcessParentId": "k.grand_id",
    "InitiatingProcessParentFileName": f"coalesce({_name('p.parent_path')}, '')",
    "InitiatingProcessParentCreationTime": _moment(
        f"coalesce(k.grand_made, {_guid_time('k.grand_guid')})"
    ),
    "ReportId": "r.record_id",
    "AdditionalFields": "CASE WHEN r.extra = '{}' THEN '' ELSE r.extra END",
}
