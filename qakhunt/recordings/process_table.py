"""All creations of an import as one table: duplicates out, parents and clocks resolved.

DuckDB does it over a file of its own, so memory stays flat whatever comes in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from qakhunt.engine.session import MEMORY_LIMIT, require_engine
from qakhunt.engine.sql_types import SQL_TYPES, identifier, literal
from qakhunt.kql.schema import columns
from qakhunt.recordings.process_creation import Creation

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

TABLE = "DeviceProcessEvents"
_BATCH = 2000


def table_columns() -> dict[str, str]:
    """Column -> KQL type of what an import writes: Defender's own schema."""
    seen: dict[str, str] = {}
    kinds = columns("defender", TABLE)
    for name in kinds:
        seen.setdefault(name.casefold(), name)
    return {name: kind for name, kind in kinds.items() if seen[name.casefold()] == name}


@dataclass(frozen=True)
class ClockShift:
    """A device in a source whose log is not in UTC as Sysmon is; ``seconds`` were added."""

    device: str
    source: str
    seconds: int


@dataclass(frozen=True)
class TableAccount:
    """What became of the creations.

    ``repeated`` are the same record twice, ``twins`` a Security 4688 beside the
    Sysmon 1 of the same process; ``orphans`` have a parent that is not recorded.
    ``jumps`` are devices whose clock went back by more than five minutes.
    """

    rows: int
    repeated: int
    twins: int
    orphans: int
    devices: int
    shifts: tuple[ClockShift, ...]
    jumps: tuple[str, ...]


class ProcessTable:
    """Collects creations and finished rows, then writes the table once."""

    def __init__(self, folder: Path) -> None:
        duckdb = require_engine()
        self._folder = folder
        self._creations = _Lines(folder / "creations.ndjson")
        self._rows = _Lines(folder / "rows.ndjson")
        self._connection = duckdb.connect(str(folder / "import.duckdb"))
        for statement in (
            "SET TimeZone='UTC'",
            f"SET memory_limit='{MEMORY_LIMIT}'",
            f"SET temp_directory={literal(str(folder / 'spill'))}",
            "SET python_enable_replacements=false",
            "SET enable_progress_bar=false",
        ):
            self._connection.execute(statement)

    def close(self) -> None:
        """Let go of the files."""
        self._creations.close()
        self._rows.close()
        self._connection.close()

    def add(self, creation: Creation) -> None:
        """Take in the creation that one Windows event tells of."""
        self._creations.add(creation)

    def add_row(self, row: dict[str, Any]) -> None:
        """Take in a row that has Defender's columns already; its times are nanoseconds."""
        self._rows.add(row)

    def resolve(self) -> TableAccount:
        """Work out the table. To be called once, before ``write``."""
        self._creations.close()
        self._rows.close()
        self._load()
        run = self._connection.execute
        for statement in (_CLOCK, _TIMED, _JUMPS, _DISTINCT, _PAIRS, _MERGED, _ORDERED, _PARENTS):
            run(statement)
        run(f"CREATE TABLE result AS {self._result_sql()}")
        return self._account()

    def _load(self) -> None:
        kinds = {name: _sql_type(str(kind)) for name, kind in Creation.__annotations__.items()}
        self._read("raw", self._creations.path, kinds)
        kinds = {
            name: "BIGINT" if kind == "datetime" else "VARCHAR" if kind == "dynamic" else SQL_TYPES[kind]
            for name, kind in table_columns().items()
        }
        self._read("finished", self._rows.path, kinds)

    def _read(self, table: str, path: Path, kinds: dict[str, str]) -> None:
        listing = ", ".join(f"{literal(n)}: {literal(k)}" for n, k in kinds.items())
        cells = ", ".join(
            f"coalesce({identifier(n)}, '') AS {identifier(n)}" if k == "VARCHAR" else identifier(n)
            for n, k in kinds.items()
        )
        self._connection.execute(
            f"CREATE TABLE {table} AS SELECT {cells} FROM read_json({literal(str(path))}, "
            f"columns={{{listing}}}, format='newline_delimited', maximum_object_size=67108864)"
        )

    def _result_sql(self) -> str:
        """Both kinds of rows under the table's columns, each row once, in order of time."""
        kinds = table_columns()
        made = ", ".join(
            f"{_RESULT.get(name, _absent(kind))} AS {identifier(name)}" for name, kind in kinds.items()
        )
        finished = ", ".join(
            f"make_timestamp_ns({identifier(n)}) AS {identifier(n)}" if k == "datetime" else identifier(n)
            for n, k in kinds.items()
        )
        return (
            f"SELECT {made} FROM parented UNION ALL SELECT DISTINCT {finished} FROM finished "
            'ORDER BY "Timestamp", "DeviceName", "ReportId", "ProcessId"'
        )

    def _account(self) -> TableAccount:
        def one(sql: str) -> int:
            found = self._connection.execute(sql).fetchone()
            return int(found[0]) if found else 0

        finished = one("SELECT count(*) FROM finished")
        rows = one("SELECT count(*) FROM result")
        parented = one("SELECT count(*) FROM parented")
        return TableAccount(
            rows=rows,
            repeated=one("SELECT count(*) FROM raw") - one("SELECT count(*) FROM creations")
            + finished - (rows - parented),
            twins=one("SELECT count(*) FROM pairs"),
            orphans=one("SELECT count(*) FROM parented WHERE found_time IS NULL"),
            devices=one('SELECT count(DISTINCT "DeviceName") FROM result'),
            shifts=tuple(
                ClockShift(device, source, shift // 1_000_000_000)
                for device, source, shift in self._connection.execute(
                    "SELECT device, source, shift FROM clock ORDER BY ALL"
                ).fetchall()
            ),
            jumps=tuple(
                row[0]
                for row in self._connection.execute(
                    "SELECT device FROM jumps ORDER BY device"
                ).fetchall()
            ),
        )  # fmt: skip

    def write(self, path: Path, kind: str) -> None:
        """Write the table as ``parquet`` or ``ndjson``."""
        if kind == "parquet":
            self._connection.execute(f"COPY result TO {literal(str(path))} (FORMAT parquet)")
            return
        times = [name for name, k in table_columns().items() if k == "datetime"]
        cells = ", ".join(
            f"strftime({identifier(name)}, '%Y-%m-%dT%H:%M:%S.%n')[:27] || 'Z' AS {identifier(name)}"
            for name in times
        )
        self._connection.execute(
            f"COPY (SELECT * REPLACE ({cells}) FROM result) TO {literal(str(path))} (FORMAT json)"
        )


class _Lines:
    """Objects on their way to a file of JSON lines, encoded by the batch."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("wb")
        self._encode = msgspec.json.Encoder().encode_lines
        self._held: list[Any] = []

    def add(self, item: Any) -> None:
        self._held.append(item)
        if len(self._held) >= _BATCH:
            self._flush()

    def _flush(self) -> None:
        self._file.write(self._encode(self._held))
        self._held.clear()

    def close(self) -> None:
        if not self._file.closed:
            self._flush()
            self._file.close()


def _sql_type(annotation: str) -> str:
    return "BIGINT" if annotation.startswith("int") else "VARCHAR"


def _absent(kind: str) -> str:
    if kind in ("string", "dynamic"):
        return "''"
    return f"CAST(NULL AS {'TIMESTAMP_NS' if kind == 'datetime' else SQL_TYPES[kind]})"


# A log whose times are off by whole quarters of an hour wrote local time as UTC.
_CLOCK = """
CREATE TABLE clock AS
SELECT device, source, (mode(round((created - logged) / 9e11)) * 9e11)::BIGINT AS shift
FROM raw WHERE created IS NOT NULL AND logged IS NOT NULL
GROUP BY device, source HAVING shift <> 0
"""

_TIMED = """
CREATE TABLE timed AS
SELECT raw.*, raw.rowid AS seq, lower(path) AS image,
    coalesce(created, logged + coalesce(shift, 0)) AS made
FROM raw LEFT JOIN clock USING (device, source)
"""

# In the order of its records a log's time may only grow; files written newest first
# fall in small steps, a clock that is set back falls in one.
_JUMPS = """
CREATE TABLE jumps AS
SELECT device FROM (
    SELECT device, source, log,
        made - lag(made) OVER (PARTITION BY device, source, log ORDER BY coalesce(record_id, 0), seq) AS step
    FROM timed
) GROUP BY device, source, log
HAVING count(*) FILTER (WHERE step < -300e9) > 0
    AND count(*) FILTER (WHERE step > 0) >= count(*) FILTER (WHERE step < 0)
"""

_DISTINCT = """
CREATE TABLE creations AS
SELECT * FROM timed
QUALIFY row_number() OVER (
    PARTITION BY device, log, process_id, guid, made, line ORDER BY seq) = 1
"""

# One process, told of by both logs.
_PAIRS = """
CREATE TABLE pairs AS
WITH candidates AS (
    SELECT s.seq AS sysmon, e.seq AS security, abs(s.made - e.made) AS apart
    FROM creations s JOIN creations e ON s.device = e.device AND s.process_id = e.process_id
    WHERE s.log = 'Sysmon' AND e.log = 'Security' AND s.image = e.image
    UNION ALL
    SELECT s.seq, e.seq, abs(s.made - e.made)
    FROM creations s JOIN creations e
        ON s.device = e.device AND s.image = e.image AND lower(s.line) = lower(e.line)
    WHERE s.log = 'Sysmon' AND e.log = 'Security' AND s.process_id IS NULL
)
SELECT sysmon, security FROM candidates WHERE apart <= 2e9
QUALIFY row_number() OVER (PARTITION BY sysmon ORDER BY apart, security) = 1
    AND row_number() OVER (PARTITION BY security ORDER BY apart, sysmon) = 1
"""

# Sysmon's record, with what only the other says. A process id that a collector
# lost stands in the records of the process's children.
_MERGED = """
CREATE TABLE merged AS
SELECT c.* REPLACE (
    coalesce(c.process_id, e.process_id, k.process_id) AS process_id,
    coalesce(nullif(c.sid, ''), e.sid, '') AS sid,
    coalesce(nullif(c.elevation, ''), e.elevation, '') AS elevation,
    coalesce(nullif(c.integrity, ''), e.integrity, '') AS integrity,
    coalesce(nullif(c.parent_account, ''), e.parent_account, '') AS parent_account,
    coalesce(nullif(c.parent_domain, ''), e.parent_domain, '') AS parent_domain,
    coalesce(nullif(c.parent_sid, ''), e.parent_sid, '') AS parent_sid)
FROM creations c
LEFT JOIN pairs ON pairs.sysmon = c.seq
LEFT JOIN creations e ON e.seq = pairs.security
LEFT JOIN (
    SELECT parent_guid, max(parent_id) AS process_id FROM creations
    WHERE parent_guid <> '' GROUP BY parent_guid
) k ON k.parent_guid = c.guid AND c.guid <> ''
WHERE c.seq NOT IN (SELECT security FROM pairs)
"""

# The order in which a device's processes began; where its clock jumped, the log's own.
_ORDERED = """
CREATE TABLE ordered AS
SELECT *, row_number() OVER (
    PARTITION BY device
    ORDER BY CASE WHEN device IN (SELECT device FROM jumps) THEN 0 ELSE made END,
        coalesce(record_id, 0), seq) AS turn
FROM merged
"""

# The parent: by Sysmon's GUID, else the newest earlier process of that id and image.
# A GUID begins with the machine and the second in which the process began; Sysmon
# may write another end for it in a child's record.
_PARENTS = """
CREATE TABLE parented AS
WITH by_guid AS (
    SELECT c.seq, any_value(p.seq) AS parent FROM ordered c JOIN ordered p
        ON p.guid = c.parent_guid AND c.parent_guid <> '' AND p.seq <> c.seq
    GROUP BY c.seq
), by_id AS (
    SELECT c.seq, p.seq AS parent
    FROM ordered c ASOF JOIN ordered p
        ON c.device = p.device AND c.parent_id = p.process_id AND c.turn > p.turn
    WHERE (c.parent_path = '' OR p.image = lower(c.parent_path))
        AND (c.parent_guid = '' OR p.guid = '' OR c.parent_guid[:20] = p.guid[:20])
), found AS (
    SELECT seq, parent FROM by_guid
    UNION ALL SELECT seq, parent FROM by_id WHERE seq NOT IN (SELECT seq FROM by_guid)
)
SELECT c.*, p.made AS found_time, p.path AS found_path, p.line AS found_line,
    p.account AS found_account, p.domain AS found_domain, p.sid AS found_sid,
    p.logon_id AS found_logon, p.session AS found_session, p.integrity AS found_integrity,
    p.elevation AS found_elevation, p.sha1 AS found_sha1, p.sha256 AS found_sha256,
    p.md5 AS found_md5, p.company AS found_company, p.product AS found_product,
    p.original_name AS found_original_name, p.description AS found_description,
    p.parent_id AS grand_id, p.parent_path AS grand_path,
    g.made AS grand_time, p.parent_guid AS grand_guid
FROM ordered c
LEFT JOIN found f ON f.seq = c.seq
LEFT JOIN ordered p ON p.seq = f.parent
LEFT JOIN found fg ON fg.seq = p.seq
LEFT JOIN ordered g ON g.seq = fg.parent
"""


def _name(path: str) -> str:
    return f"regexp_extract({path}, '[^\\\\/]*$')"


def _guid_time(guid: str) -> str:
    return (
        f"CASE WHEN regexp_matches({guid}, '^\\{{?[0-9a-f]{{8}}-[0-9a-f]{{4}}-[0-9a-f]{{4}}-') THEN "
        f"('0x' || substr(trim({guid}, '{{}}'), 15, 4) || substr(trim({guid}, '{{}}'), 10, 4))::BIGINT"
        " * 1000000000 END"
    )


def _moment(nanoseconds: str) -> str:
    return f"make_timestamp_ns({nanoseconds})"


def _or(first: str, second: str) -> str:
    return f"coalesce(nullif({first}, ''), {second}, '')"


_PARENT_PATH = _or("parent_path", "found_path")
_RESULT = {
    "Timestamp": _moment("made"),
    "DeviceId": "sha1(device)",
    "DeviceName": "device",
    "ActionType": "'ProcessCreated'",
    "FileName": _name("path"),
    "FolderPath": "path",
    "SHA1": "sha1",
    "SHA256": "sha256",
    "MD5": "md5",
    "ProcessVersionInfoCompanyName": "company",
    "ProcessVersionInfoProductName": "product",
    "ProcessVersionInfoOriginalFileName": "original_name",
    "ProcessVersionInfoFileDescription": "description",
    "ProcessId": "process_id",
    "ProcessCommandLine": "line",
    "ProcessIntegrityLevel": "integrity",
    "ProcessTokenElevation": "elevation",
    "ProcessCreationTime": _moment("made"),
    "AccountDomain": "domain",
    "AccountName": "account",
    "AccountSid": "sid",
    "LogonId": "logon_id",
    "CreatedProcessSessionId": "session",
    "InitiatingProcessAccountDomain": _or("parent_domain", "found_domain"),
    "InitiatingProcessAccountName": _or("parent_account", "found_account"),
    "InitiatingProcessAccountSid": _or("parent_sid", "found_sid"),
    "InitiatingProcessLogonId": "found_logon",
    "InitiatingProcessSessionId": "found_session",
    "InitiatingProcessIntegrityLevel": "coalesce(found_integrity, '')",
    "InitiatingProcessTokenElevation": "coalesce(found_elevation, '')",
    "InitiatingProcessSHA1": "coalesce(found_sha1, '')",
    "InitiatingProcessSHA256": "coalesce(found_sha256, '')",
    "InitiatingProcessMD5": "coalesce(found_md5, '')",
    "InitiatingProcessVersionInfoCompanyName": "coalesce(found_company, '')",
    "InitiatingProcessVersionInfoProductName": "coalesce(found_product, '')",
    "InitiatingProcessVersionInfoOriginalFileName": "coalesce(found_original_name, '')",
    "InitiatingProcessVersionInfoFileDescription": "coalesce(found_description, '')",
    "InitiatingProcessFileName": _name(_PARENT_PATH),
    "InitiatingProcessFolderPath": f"lower({_PARENT_PATH})",
    "InitiatingProcessId": "parent_id",
    "InitiatingProcessCommandLine": _or("parent_line", "found_line"),
    "InitiatingProcessCreationTime": _moment(f"coalesce(found_time, {_guid_time('parent_guid')})"),
    "InitiatingProcessParentId": "grand_id",
    "InitiatingProcessParentFileName": f"coalesce({_name('grand_path')}, '')",
    "InitiatingProcessParentCreationTime": _moment(f"coalesce(grand_time, {_guid_time('grand_guid')})"),
    "ReportId": "record_id",
    "AdditionalFields": "extra",
}


