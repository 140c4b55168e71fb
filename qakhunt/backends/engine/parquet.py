"""A result table as a Parquet file, written by DuckDB: for people, or for the engine."""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qakhunt.answers.cells import to_json_value, to_text
from qakhunt.backends.engine.session import Session, configure, require_engine
from qakhunt.backends.engine.sql_types import SQL_TYPES, identifier, literal, literal_list
from qakhunt.core.errors import EngineError
from qakhunt.kql.schema import without_case_twins
from qakhunt.kql.values import Instant

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from qakhunt.answers.table import ResultTable
    from qakhunt.kql.schema import Columns
    from qakhunt.kql.values import Window

_EPOCH_TICKS = Instant.parse("1970-01-01").ticks
_NANOSECONDS = range(-(2**63) + 1, 2**63)


@dataclass(frozen=True)
class _Form:
    """How cells of one KQL type are handed over, and the SQL that makes them what they are."""

    raw: str
    sql: str
    value: Callable[[Any], Any]


def parquet_bytes(table: ResultTable) -> bytes:
    """The file's bytes: datetimes as TIMESTAMP_NS; decimal, timespan and dynamic as text."""
    with tempfile.TemporaryDirectory(prefix="qakhunt-") as folder:
        target = Path(folder) / "result.parquet"
        _write(table, target, _FOR_PEOPLE)
        return target.read_bytes()


def write_records(table: ResultTable, target: Path) -> None:
    """Write the rows as the engine reads them again: every type, microseconds, all years."""
    _write(table, target, _FOR_ENGINE)


def _write(table: ResultTable, target: Path, forms: Mapping[str, _Form]) -> None:
    duckdb = require_engine()
    chosen_forms = [forms.get(c.kql_type) or _plain(c.kql_type) for c in table.columns]
    keys = [f"c{position}" for position in range(len(chosen_forms))]
    with tempfile.TemporaryDirectory(prefix="qakhunt-") as folder, duckdb.connect() as connection:
        rows = Path(folder) / "rows.ndjson"
        with rows.open("w", encoding="utf-8") as out:
            for row in table.rows:
                cells = (
                    None if cell is None else form.value(cell)
                    for cell, form in zip(row, chosen_forms, strict=True)
                )  # fmt: skip
                out.write(json.dumps(dict(zip(keys, cells, strict=True))) + "\n")
        connection.execute("SET TimeZone='UTC'")
        listing = ", ".join(
            f"{key}: {literal(form.raw)}" for key, form in zip(keys, chosen_forms, strict=True)
        )
        chosen = ", ".join(
            f"{form.sql.format(key)} AS {identifier(column.name)}"
            for key, form, column in zip(keys, chosen_forms, table.columns, strict=True)
        )
        connection.execute(
            f"COPY (SELECT {chosen} FROM read_json({literal(str(rows))}, columns={{{listing}}}, "
            f"format='newline_delimited', maximum_object_size=67108864)) "
            f"TO {literal(str(target))} (FORMAT parquet)"
        )


def _plain(kind: str) -> _Form:
    return _Form(SQL_TYPES[kind], "{}", to_json_value)


def _nanoseconds(cell: Any) -> int | None:
    nanoseconds: int = (cell.ticks - _EPOCH_TICKS) * 100
    return nanoseconds if nanoseconds in _NANOSECONDS else None


def _microseconds(cell: Any) -> int:
    return (cell.ticks - _EPOCH_TICKS) // 10  # type: ignore[no-any-return]


def _json(cell: Any) -> str:
    return json.dumps(cell, ensure_ascii=False, separators=(",", ":"))


_FOR_PEOPLE: dict[str, _Form] = {
    "datetime": _Form("BIGINT", "make_timestamp_ns({})", _nanoseconds),
    **{
        kind: _Form("VARCHAR", "{}", to_text) for kind in ("decimal", "timespan", "guid", "dynamic")
    },
}

_FOR_ENGINE: dict[str, _Form] = {
    "datetime": _Form("BIGINT", "make_timestamp({})", _microseconds),
    # An INTERVAL in Parquet stops at milliseconds; its text does not.
    "timespan": _Form("VARCHAR", "{}", lambda cell: f"{cell.ticks // 10} microseconds"),
    "decimal": _Form("VARCHAR", f"CAST({{}} AS {SQL_TYPES['decimal']})", str),
    "guid": _Form("VARCHAR", "CAST({} AS UUID)", str),
    "real": _Form("VARCHAR", "CAST({} AS DOUBLE)", str),
    "dynamic": _Form("VARCHAR", "CAST({} AS JSON)", _json),
}


# Each query may take all the memory that the engine is allowed: one at a time.
_ENGINE = threading.Lock()


class RecordStore:
    """Keeps records on disk as they come, and answers a query over all of them.

    ``add`` may be called from several threads. ``close`` removes the files.
    """

    def __init__(self, product: str) -> None:
        self._product = product
        self._folder: Path | None = None
        self._files: dict[str, list[Path]] = {}
        self._shapes: dict[str, Columns] = {}
        self._lock = threading.Lock()
        self.rows = 0

    def add(self, name: str, records: ResultTable) -> None:
        """Keep records of the table ``name``."""
        with self._lock:
            files = self._files.setdefault(name, [])
            path = self._place() / f"{name}-{len(files)}.parquet"
            files.append(path)
            shape = self._shapes.setdefault(name, {})
            for column in records.columns:
                shape.setdefault(column.name, column.kql_type)
            self.rows += len(records)
        write_records(records, path)

    def _place(self) -> Path:
        self._folder = self._folder or Path(tempfile.mkdtemp(prefix="qakhunt-records-"))
        return self._folder

    def ask(
        self, text: str, *, now: Instant, window: Window, timeout: float | None = None
    ) -> ResultTable:
        """The query's result over everything kept. Raises EngineError."""
        with _ENGINE:
            inputs = [f"{name}={self._whole(name)}" for name in self._files]
            shapes = {name: without_case_twins(shape) for name, shape in self._shapes.items()}
            with Session(inputs, self._product, shapes) as session:
                return session.ask(text, now=now, window=window, timeout=timeout)

    def _whole(self, name: str) -> Path:
        """All records of a table in one file."""
        target = self._place() / f"{name}.parquet"
        files = literal_list(map(str, self._files[name]))
        chosen = ", ".join(map(identifier, self._shapes[name]))
        with require_engine().connect() as connection:
            configure(connection, self._place())
            connection.execute(
                f"COPY (SELECT {chosen} FROM read_parquet({files}, union_by_name=true)) "
                f"TO {literal(str(target))} (FORMAT parquet)"
            )
        return target

    def close(self) -> None:
        """Remove the files."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def refusal(text: str, product: str, *, now: Instant, window: Window) -> str | None:
    """Why the engine cannot answer the query, or None where it can."""
    try:
        with Session([], product) as session:
            session.ask(text, now=now, window=window)
    except EngineError as problem:
        return problem.message
    return None
