"""All creations of an import as one table: duplicates out, parents and clocks resolved.

DuckDB does it and spills to disk, so memory stays flat whatever comes in.
"""

from __future__ import annotations

import codecs
import shutil
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import msgspec

from qakhunt.backends.engine.csv_reader import CsvAccount, read_csv
from qakhunt.backends.engine.session import configure, require_engine
from qakhunt.backends.engine.sql_types import SQL_TYPES, identifier, literal
from qakhunt.backends.recordings.process_creation import Creation
from qakhunt.core.errors import EventsError
from qakhunt.kql.schema import DEFENDER, TIME_COLUMN, columns, without_case_twins

if TYPE_CHECKING:
    from pathlib import Path

    from duckdb import DuckDBPyConnection

    from qakhunt.backends.engine.csv_reader import CsvAccount
    from qakhunt.backends.engine.inputs import InputOptions
    from qakhunt.backends.recordings.event_sources import EventSource

_BATCH = 2000


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

    rows: int = 0
    repeated: int = 0
    twins: int = 0
    orphans: int = 0
    devices: int = 0
    shifts: tuple[ClockShift, ...] = ()
    jumps: tuple[str, ...] = ()


class ProcessTable:
    """Collects creations and finished rows, then writes the table once."""

    def __init__(self, folder: Path) -> None:
        duckdb = require_engine()
        self._folder = folder
        self._creations = _Lines(folder / "creations.ndjson")
        self._exports: list[str] = []
        self._connection = duckdb.connect(":memory:")
        configure(self._connection, folder)

    def close(self) -> None:
        """Let go of the files."""
        self._creations.close()
        self._connection.close()

    def add(self, creation: Creation) -> None:
        """Take in the creation that one Windows event tells of."""
        self._creations.add(creation)

    def add_export(self, source: EventSource, options: InputOptions) -> CsvAccount:
        """Take in a portal's export, which has Defender's columns already."""
        target = self._folder / f"export-{len(self._exports)}.parquet"
        account, select = read_rows(self._connection, source, target, options)
        self._exports.append(select)
        return account

    def resolve(self) -> TableAccount:
        """Work out the table. To be called once, before ``write``."""
        self._creations.close()
        self._load()
        chains = files("qakhunt").joinpath("data/process_chains.sql")
        self._connection.execute(chains.read_text(encoding="utf-8"))
        return self._account()

    def _load(self) -> None:
        kinds = {name: _sql_type(str(kind)) for name, kind in Creation.__annotations__.items()}
        self._read("raw", self._creations.path, kinds)
        kinds = {
            name: "BIGINT"
            if kind == "datetime"
            else "VARCHAR"
            if kind == "dynamic"
            else SQL_TYPES[kind]
            for name, kind in table_columns().items()
        }
        cells = ", ".join(f"{identifier(name)} {kind}" for name, kind in kinds.items())
        self._connection.execute(f"CREATE TABLE finished ({cells})")
        for select in self._exports:
            self._connection.execute(f"INSERT INTO finished {select}")
        self._connection.execute("CREATE TABLE distinct_rows AS SELECT DISTINCT * FROM finished")

    def _read(self, table: str, path: Path, kinds: dict[str, str]) -> None:
        listing = ", ".join(f"{literal(n)}: {literal(k)}" for n, k in kinds.items())
        cells = ", ".join(
            f"coalesce({identifier(n)}::VARCHAR, '') AS {identifier(n)}"
            if k in ("VARCHAR", "JSON")
            else identifier(n)
            for n, k in kinds.items()
        )
        self._connection.execute(
            f"CREATE TABLE {table} AS SELECT {cells} FROM read_json({literal(str(path))}, "
            f"columns={{{listing}}}, format='newline_delimited', maximum_object_size=67108864)"
        )

    def _result_sql(self) -> str:
        """Both kinds of rows under the table's columns, each row once, in order of time."""
        kinds = table_columns()
        finished = ", ".join(
            f"make_timestamp_ns({identifier(n)}) AS {identifier(n)}"
            if k == "datetime"
            else identifier(n)
            for n, k in kinds.items()
        )
        there = self._connection.execute("SELECT * FROM processes LIMIT 0").description or []
        known = {column[0] for column in there}
        cells = ", ".join(
            identifier(n) if n in known else f"{_absent(k)} AS {identifier(n)}"
            for n, k in kinds.items()
        )
        return (
            f"SELECT {cells} FROM processes UNION ALL SELECT {finished} FROM distinct_rows "
            'ORDER BY "Timestamp", "DeviceName", "ReportId", "ProcessId"'
        )

    def _account(self) -> TableAccount:
        def one(sql: str) -> int:
            found = self._connection.execute(sql).fetchone()
            return int(found[0]) if found else 0

        records = one("SELECT count(*) FROM raw"), one("SELECT count(*) FROM finished")
        events, rows = (
            one("SELECT count(*) FROM parents"),
            one("SELECT count(*) FROM distinct_rows"),
        )
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
            f"strftime({column}, '%Y-%m-%dT%H:%M:%S.%n')[:27] || 'Z' AS {column}"
            for column in map(identifier, times)
        )
        self._connection.execute(
            f"COPY (SELECT * REPLACE ({cells}) FROM ({result})) "
            f"TO {literal(str(path))} (FORMAT json)"
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


TABLE = "DeviceProcessEvents"


def table_columns() -> dict[str, str]:
    """Column -> KQL type of what an import writes: Defender's own schema."""
    return without_case_twins(columns(DEFENDER.name, TABLE))


def _absent(kind: str) -> str:
    if kind in ("string", "dynamic"):
        return "''"
    return f"CAST(NULL AS {'TIMESTAMP_NS' if kind == 'datetime' else SQL_TYPES[kind]})"


_CHUNK = 1 << 20
_EXTRA = "AdditionalFields"


def read_rows(
    connection: DuckDBPyConnection, source: EventSource, target: Path, options: InputOptions
) -> tuple[CsvAccount, str]:
    """The account, and a SELECT of the columns of ``table_columns``.

    Times are nanoseconds since 1970. Columns of no name there go to AdditionalFields.
    Broken rows are left out unless ``options.strict``. Raises EventsError where the
    header is not that of process events.
    """
    text = target.with_suffix(".csv")
    with source.open() as stream, text.open("w", encoding="utf-8", newline="") as out:
        shutil.copyfileobj(codecs.getreader("utf-8")(stream, "replace"), out, _CHUNK)
    kinds = {n: "string" if k == "dynamic" else k for n, k in table_columns().items()}
    account = read_csv(
        connection, source.name, text, target, kinds, options,
        skip_broken=not options.strict, ticks=True,
    )  # fmt: skip
    text.unlink()
    relation = f"read_parquet({literal(str(target))})"
    described = connection.execute(f"SELECT * FROM {relation} LIMIT 0").description or []
    names = [column[0] for column in described]
    missing = [] if account.has_time else ["Timestamp"]
    missing += [] if "FileName" in names else ["FileName"]
    if missing:
        raise EventsError(
            f"{source.name}: not an export of DeviceProcessEvents",
            hint=f"its header lacks {', '.join(missing)}",
        )
    cells = ", ".join(f"{_cell(n, k, names)} AS {identifier(n)}" for n, k in kinds.items())
    return account, f"SELECT {cells} FROM {relation}"


def _cell(name: str, kind: str, names: list[str]) -> str:
    if name in TIME_COLUMN.values():
        times = [identifier(time) for time in (name, *TIME_COLUMN.values()) if time in names]
        return f"epoch_ns(coalesce({', '.join(times)}))"
    if name == _EXTRA:
        return _extra(names)
    if name not in names:
        return "''" if kind == "string" else f"CAST(NULL AS {_stored(kind)})"
    column = identifier(name)
    if kind == "string":
        return f"coalesce({column}, '')"
    return f"epoch_ns({column})" if kind == "datetime" else column


def _stored(kind: str) -> str:
    return "BIGINT" if kind == "datetime" else SQL_TYPES[kind]


def _extra(names: list[str]) -> str:
    """AdditionalFields with the cells of columns that the table lacks."""
    own = f"coalesce({identifier(_EXTRA)}, '')" if _EXTRA in names else "''"
    known = {*table_columns(), *TIME_COLUMN.values()}
    others = [name for name in names if name not in known]
    if not others:
        return own
    given = " || ".join(f"coalesce({identifier(n)}::VARCHAR, '')" for n in others)
    pairs = ", ".join(f"{literal(n)}, nullif({identifier(n)}::VARCHAR, '')" for n in others)
    value = f"TRY_CAST({own} AS JSON)"
    fields = (
        f"CASE WHEN {own} = '' THEN JSON '{{}}' WHEN json_type({value}) = 'OBJECT' THEN {value} "
        f"ELSE json_object({literal(_EXTRA)}, {own}) END"
    )
    merged = f"CAST(json_merge_patch({fields}, json_object({pairs})) AS VARCHAR)"
    return f"CASE WHEN {given} = '' THEN {own} ELSE {merged} END"
