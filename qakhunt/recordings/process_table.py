"""All creations of an import as one table: duplicates out, parents and clocks resolved.

DuckDB does it and spills to disk, so memory stays flat whatever comes in.
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
        self._connection = duckdb.connect(":memory:")
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
        for statement in (_KEYS, _CLOCK, _DISTINCT, _JUMPS, _PAIRS, _ORDERED, _PARENTS):
            self._connection.execute(statement)
        return self._account()

    def _load(self) -> None:
        kinds = {name: _sql_type(str(kind)) for name, kind in Creation.__annotations__.items()}
        self._read("raw", self._creations.path, kinds)
        kinds = {
            name: "BIGINT" if kind == "datetime" else "VARCHAR" if kind == "dynamic" else SQL_TYPES[kind]
            for name, kind in table_columns().items()
        }
        self._read("finished", self._rows.path, kinds)
        self._connection.execute("CREATE TABLE distinct_rows AS SELECT DISTINCT * FROM finished")

    def _read(self, table: str, path: Path, kinds: dict[str, str]) -> None:
        listing = ", ".join(f"{literal(n)}: {literal(k)}" for n, k in kinds.items())
        cells = ", ".join(
            f"coalesce({identifier(n)}::VARCHAR, '') AS {identifier(n)}"
            if k in ("VARCHAR", "JSON") else identifier(n)
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
            f"SELECT {made} FROM {_JOINED} UNION ALL SELECT {finished} FROM distinct_rows "
            'ORDER BY "Timestamp", "DeviceName", "ReportId", "ProcessId"'
        )

    def _account(self) -> TableAccount:
        def one(sql: str) -> int:
            found = self._connection.execute(sql).fetchone()
            return int(found[0]) if found else 0

        records = one("SELECT count(*) FROM raw"), one("SELECT count(*) FROM finished")
        events, rows = one("SELECT count(*) FROM parents"), one("SELECT count(*) FROM distinct_rows")
        twins = one("SELECT count(*) FROM pairs")
        return TableAccount(
            rows=events + rows,
            repeated=sum(records) - events - rows - twins,
            twins=twins,
            orphans=one("SELECT count(*) FROM parents WHERE parent IS NULL"),
            devices=one(
                "SELECT count(DISTINCT device) FROM (SELECT device FROM raw UNION ALL "
                'SELECT "DeviceName" FROM finished)'
            ),
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
        result = self._result_sql()
        if kind == "parquet":
            self._connection.execute(f"COPY ({result}) TO {literal(str(path))} (FORMAT parquet)")
            return
        times = [name for name, k in table_columns().items() if k == "datetime"]
        cells = ", ".join(
            f"strftime({identifier(name)}, '%Y-%m-%dT%H:%M:%S.%n')[:27] || 'Z' AS {identifier(name)}"
            for name in times
        )
        self._connection.execute(
            f"COPY (SELECT * REPLACE ({cells}) FROM ({result})) TO {literal(str(path))} (FORMAT json)"
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
    kinds = {"int": "BIGINT", "str": "VARCHAR", "dict": "JSON"}
    return kinds[annotation.partition(" ")[0].partition("[")[0]]


def _absent(kind: str) -> str:
    if kind in ("string", "dynamic"):
        return "''"
    return f"CAST(NULL AS {'TIMESTAMP_NS' if kind == 'datetime' else SQL_TYPES[kind]})"


# What resolving needs of each record, apart from the wide table.
_KEYS = """
CREATE TABLE keys AS
SELECT rowid AS seq, device, source, log, record_id, created, logged, process_id, guid,
    lower(path) AS image, hash(lower(line)) AS line_hash,
    parent_id, parent_guid, lower(parent_path) AS parent_image
FROM raw
"""

# A log whose times are off by whole quarters of an hour wrote local time as UTC.
_CLOCK = """
CREATE TABLE clock AS
SELECT device, source, (mode(round((created - logged) / 9e11)) * 9e11)::BIGINT AS shift
FROM keys WHERE created IS NOT NULL AND logged IS NOT NULL
GROUP BY device, source HAVING shift <> 0
"""

# Each record once, with its time.
_DISTINCT = """
CREATE TABLE creations AS
SELECT keys.*, coalesce(created, logged + coalesce(shift, 0)) AS made
FROM keys LEFT JOIN clock USING (device, source)
QUALIFY row_number() OVER (
    PARTITION BY device, log, process_id, guid, made, line_hash ORDER BY seq) = 1
"""

# In the order of its records a log's time may only grow; files written newest first
# fall in small steps, a clock that is set back falls in one.
_JUMPS = """
CREATE TABLE jumps AS
SELECT DISTINCT device FROM (
    SELECT device, source, log,
        made - lag(made) OVER (PARTITION BY device, source, log ORDER BY coalesce(record_id, 0), seq) AS step
    FROM creations
) GROUP BY device, source, log
HAVING count(*) FILTER (WHERE step < -300e9) > 0
    AND count(*) FILTER (WHERE step > 0) >= count(*) FILTER (WHERE step < 0)
"""

# One process, told of by both logs.
_PAIRS = """
CREATE TABLE pairs AS
WITH candidates AS (
    SELECT s.seq AS sysmon, e.seq AS security, abs(s.made - e.made) AS apart
    FROM creations s JOIN creations e
        ON s.device = e.device AND s.process_id = e.process_id AND s.image = e.image
    WHERE s.log = 'Sysmon' AND e.log = 'Security'
    UNION ALL
    SELECT s.seq, e.seq, abs(s.made - e.made)
    FROM creations s JOIN creations e
        ON s.device = e.device AND s.image = e.image AND s.line_hash = e.line_hash
    WHERE s.log = 'Sysmon' AND e.log = 'Security' AND s.process_id IS NULL
)
SELECT sysmon, security FROM candidates WHERE apart <= 2e9
QUALIFY row_number() OVER (PARTITION BY sysmon ORDER BY apart, security) = 1
    AND row_number() OVER (PARTITION BY security ORDER BY apart, sysmon) = 1
"""

# Processes in the order in which they began; where a clock jumped, the log's own. A
# process id that a collector lost stands in the other log or in a child's record.
_ORDERED = """
CREATE TABLE ordered AS
SELECT c.* REPLACE (coalesce(c.process_id, e.process_id, k.process_id) AS process_id),
    pairs.security AS twin,
    row_number() OVER (
        PARTITION BY c.device
        ORDER BY CASE WHEN j.device IS NULL THEN c.made ELSE 0 END,
            coalesce(c.record_id, 0), c.seq) AS turn
FROM creations c
LEFT JOIN jumps j ON j.device = c.device
LEFT JOIN pairs ON pairs.sysmon = c.seq
LEFT JOIN creations e ON e.seq = pairs.security
LEFT JOIN (
    SELECT parent_guid, max(parent_id) AS process_id FROM creations
    WHERE parent_guid <> '' GROUP BY parent_guid
) k ON c.process_id IS NULL AND k.parent_guid = c.guid AND c.guid <> ''
WHERE c.seq NOT IN (SELECT security FROM pairs)
"""

# The parent: by Sysmon's GUID, else the newest earlier process of that id and image.
# A GUID begins with the machine and the second in which the process began; Sysmon
# may write another end for it in a child's record.
_PARENTS = """
CREATE TABLE parents AS
WITH by_guid AS (
    SELECT c.seq, min(p.seq) AS parent FROM ordered c JOIN ordered p
        ON p.guid = c.parent_guid AND c.parent_guid <> '' AND p.seq <> c.seq
    GROUP BY c.seq
), by_id AS (
    SELECT c.seq, p.seq AS parent
    FROM ordered c ASOF JOIN ordered p
        ON c.device = p.device AND c.parent_id = p.process_id AND c.turn > p.turn
    WHERE (c.parent_image = '' OR p.image = c.parent_image)
        AND (c.parent_guid = '' OR p.guid = '' OR c.parent_guid[:20] = p.guid[:20])
), found AS (
    SELECT seq, parent FROM by_guid
    UNION ALL SELECT seq, parent FROM by_id WHERE seq NOT IN (SELECT seq FROM by_guid)
)
SELECT c.seq, c.twin, c.made, c.process_id, f.parent,
    p.made AS parent_made, p.parent_id AS grand_id, p.parent_guid AS grand_guid, g.made AS grand_made
FROM ordered c
LEFT JOIN found f ON f.seq = c.seq
LEFT JOIN ordered p ON p.seq = f.parent
LEFT JOIN found fg ON fg.seq = p.seq
LEFT JOIN ordered g ON g.seq = fg.parent
"""

# k: the keys resolved; r: the record; e: the other log's; p: the parent's.
_JOINED = """
parents k JOIN raw r ON r.rowid = k.seq
LEFT JOIN raw e ON e.rowid = k.twin
LEFT JOIN raw p ON p.rowid = k.parent
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
    "InitiatingProcessCreationTime": _moment(f"coalesce(k.parent_made, {_guid_time('r.parent_guid')})"),
    "InitiatingProcessParentId": "k.grand_id",
    "InitiatingProcessParentFileName": f"coalesce({_name('p.parent_path')}, '')",
    "InitiatingProcessParentCreationTime": _moment(
        f"coalesce(k.grand_made, {_guid_time('k.grand_guid')})"
    ),
    "ReportId": "r.record_id",
    "AdditionalFields": "CASE WHEN r.extra = '{}' THEN '' ELSE r.extra END",
}
