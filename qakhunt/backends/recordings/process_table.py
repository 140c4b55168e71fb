"""All creations of an import as one table: duplicates out, parents and clocks resolved.

DuckDB does it and spills to disk, so memory stays flat whatever comes in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from qakhunt.backends.engine.session import configure, require_engine
from qakhunt.backends.engine.sql_types import SQL_TYPES, identifier, literal
from qakhunt.backends.recordings.defender_csv import read_rows
from qakhunt.backends.recordings.process_columns import STATEMENTS, select_processes, table_columns
from qakhunt.backends.recordings.process_creation import Creation

if TYPE_CHECKING:
    from pathlib import Path

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
        for statement in STATEMENTS:
            self._connection.execute(statement)
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
        return (
            f"{select_processes()} UNION ALL SELECT {finished} FROM distinct_rows "
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
