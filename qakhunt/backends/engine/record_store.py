"""Fetched records of several tables, brought together for one query."""

from __future__ import annotations

import shutil
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from qakhunt.backends.engine.parquet import write_records
from qakhunt.backends.engine.session import Session, configure, require_engine
from qakhunt.backends.engine.sql_types import identifier, literal, literal_list
from qakhunt.core.errors import EngineError
from qakhunt.kql.schema import without_case_twins

if TYPE_CHECKING:
    from qakhunt.answers.table import ResultTable
    from qakhunt.kql.schema import Columns
    from qakhunt.kql.values import Instant, Window

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
