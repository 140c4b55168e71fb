"""An open sandbox of recorded events that answers KQL.

Each table is a view over Parquet with every column of the product's schema, cut
to the window. After the views exist DuckDB may read those files and nothing else.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qakhunt.answers.table import Column, ResultTable
from qakhunt.backends.engine import aggregates, corrections, limits
from qakhunt.backends.engine.dialect import Unreadable
from qakhunt.backends.engine.explaining import explain, placed, unreadable
from qakhunt.backends.engine.external import ExternalFiles, external_files
from qakhunt.backends.engine.inputs import EventFile, InputAccount, InputOptions, find_files
from qakhunt.backends.engine.limits import memory_limit, refuse_oversized
from qakhunt.backends.engine.rewriting.spelling import without_mark
from qakhunt.backends.engine.sql_types import (
    SQL_TYPES,
    decode_rows,
    first_line,
    identifier,
    kql_type,
    literal,
    literal_list,
    typed,
)
from qakhunt.backends.engine.time_limit import Result, Stopped, limited
from qakhunt.backends.engine.translation import (
    UnionClash,
    refusals,
    refuse_clashes,
    translate,
)
from qakhunt.backends.engine.views import Source, table_view
from qakhunt.core.errors import EngineError, EventsError, ExitCode
from qakhunt.kql.schema import Columns, columns, tables, without_case_twins
from qakhunt.kql.tokens import LineIndex

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from qakhunt.backends.engine.loading import MemoryTable
    from qakhunt.backends.engine.rewriting.plan import Plan
    from qakhunt.backends.engine.rewriting.reading import Reading
    from qakhunt.kql.values import Instant, Window

_MOST_TRANSLATIONS = 1000
_RECURSION = 5000


class EngineRefused(EngineError):
    """The engine rejects the query; ``line`` and ``column`` count from 1, 0 is unknown."""

    def __init__(self, message: str, line: int, column: int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.line, self.column = line, column


class EngineTimeout(EngineError):
    """It took longer, or more memory, than it may, or was interrupted."""

    exit_code = ExitCode.NOTHING_ANSWERED


def require_engine() -> Any:
    """The duckdb module. Raises EngineError where the engine is not installed."""
    try:
        import duckdb
        import duckdb_kql  # noqa: F401 - both make the engine
    except ImportError:
        raise EngineError(
            "the embedded engine is not installed: it needs Python 3.11 or newer",
            hint="use another backend, or install qakhunt on Python 3.11 or newer",
        ) from None
    return duckdb


def configure(connection: Any, folder: Path) -> None:
    """Bound a connection's memory, which goes on in ``folder``; times are UTC."""
    for statement in (
        f"SET memory_limit={literal(memory_limit())}",
        "SET TimeZone='UTC'",
        f"SET temp_directory={literal(str(folder / 'spill'))}",
        "SET python_enable_replacements=false",
    ):
        connection.execute(statement)
    # A notebook without ipywidgets has no progress bar and refuses the setting.
    with suppress(require_engine().InvalidInputException):
        connection.execute("SET enable_progress_bar=false")


class Session:
    """Recorded events of one product, loaded once, asked many times.

    Not safe for use from several threads at once. ``close`` removes its
    temporary folder. ``shapes`` gives tables exactly these columns instead of
    those of the product's schema. ``external`` are files for addresses, those given to
    this process by default. ``timeout`` is in seconds, for reading the inputs.
    ``inputs`` has what was left out of them; ``unknown`` says after a question what
    its answer depends on that was not given. Raises EngineTimeout.
    """

    inputs: InputAccount

    def __init__(
        self,
        inputs: Sequence[str],
        product: str,
        shapes: Mapping[str, Columns] | None = None,
        *,
        timeout: float | None = None,
        options: InputOptions | None = None,
        external: ExternalFiles | None = None,
    ) -> None:
        self._duckdb = require_engine()
        self.external = external or external_files()
        self._kept: dict[tuple[Any, ...], str] = {}
        self.product = product
        self._stop_requested = threading.Event()
        self._shapes = dict(shapes or {})
        self._folder = Path(tempfile.mkdtemp(prefix="qakhunt-"))
        self._closed = False
        try:
            self._connection = self._open()
            with self._within(timeout, "reading the events"):
                self._sources = self._limited(
                    lambda: self._load(inputs, options or InputOptions()), timeout
                )
            self._lock_down()
        except BaseException:
            self.close()
            raise
        self._views: dict[str, Columns] = {}
        self._shown: tuple[Window, str | None] | None = None
        self._translations: dict[tuple[Any, ...], Any] = {}
        self._readings: dict[tuple[str, Instant], Reading] = {}
        self.unknown: tuple[str, ...] = ()
        self._memory: dict[str, MemoryTable] = {}
        self._supplied: set[str] = set()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the engine and remove its temporary files."""
        if self._closed:
            return
        self._closed = True
        if hasattr(self, "_connection"):
            self._connection.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def interrupt(self) -> None:
        """Stop the query that runs, if one does; safe to call from another thread."""
        if not self._closed:
            self._stop_requested.set()
            self._connection.interrupt()

    def _limited(self, work: Callable[[], Result], timeout: float | None) -> Result:
        self._stop_requested.clear()
        return limited(work, timeout, self._connection.interrupt, self._stop_requested)

    @contextmanager
    def _within(self, timeout: float | None, what: str) -> Iterator[None]:
        """A limit that was reached as EngineTimeout, which names it."""
        try:
            yield
        except (Stopped, self._duckdb.InterruptException):
            if timeout is None or self._stop_requested.is_set():
                raise EngineTimeout(f"{what} was interrupted") from None
            raise EngineTimeout(
                f"{what} took longer than {timeout:g} s",
                hint="raise --timeout or narrow the window",
            ) from None
        except (self._duckdb.OutOfMemoryException, MemoryError):
            raise EngineTimeout(
                f"{what} took more memory than {memory_limit()}",
                hint="raise --memory-limit or narrow the window",
            ) from None

    def _open(self) -> Any:
        # Kept at once, so that it is closed whatever interrupts the rest.
        self._connection = connection = self._duckdb.connect(":memory:")
        configure(connection, self._folder)
        for statement in (
            "SET autoinstall_known_extensions=false", *aggregates.MACROS, *corrections.MACROS
        ):  # fmt: skip
            connection.execute(statement)
        return connection

    def _load(self, inputs: Sequence[str], options: InputOptions) -> dict[str, list[Source]]:
        from qakhunt.backends.engine.loading import Loader

        loader = Loader(self._connection, self._folder, options)
        self.inputs = loader.account
        sources: dict[str, list[Source]] = {}
        for file in find_files(inputs, self.inputs, strict=options.strict):
            loaded = loader.load(file)
            if loaded is None:
                continue
            path = loaded.resolve()
            types = self._describe(file, path)
            relation = f"read_parquet({literal(str(path))})"
            sources.setdefault(file.table, []).append(Source(relation, types, path))
        return sources

    def _describe(self, file: EventFile, path: Path) -> dict[str, str]:
        try:
            found = self._connection.execute(
                f"DESCRIBE SELECT * FROM read_parquet({literal(str(path))})"
            ).fetchall()
        except self._duckdb.Error as problem:
            raise EventsError(
                f"{file.path}: not a whole Parquet file: {first_line(problem)}"
            ) from None
        types = {row[0]: str(row[1]) for row in found}
        if file.format == "parquet":
            self._check_parquet(file, path, types)
        return types

    def _check_parquet(self, file: EventFile, path: Path, types: dict[str, str]) -> None:
        """Refuse a column whose values cannot be read as the schema's type."""
        from qakhunt.backends.engine.loading import known_columns

        for name, kind in known_columns(file.table).items():
            if name not in types or _converts(types[name], kind):
                continue
            wanted = SQL_TYPES[kind]
            column = identifier(name)
            bad = self._connection.execute(
                f"SELECT {column} FROM read_parquet({literal(str(path))}) "
                f"WHERE {column} IS NOT NULL AND TRY_CAST({column} AS {wanted}) IS NULL LIMIT 1"
            ).fetchone()
            if bad:
                raise EventsError(
                    f"{file.path}: column {name} is a {kind}, but holds {str(bad[0])[:60]!r}"
                )

    def _lock_down(self) -> None:
        paths = [str(s.path) for sources in self._sources.values() for s in sources if s.path]
        for statement in (
            f"SET allowed_paths={literal_list(paths)}",
            "SET enable_external_access=false",
            "SET lock_configuration=true",
        ):
            self._connection.execute(statement)

    @property
    def loaded_tables(self) -> list[str]:
        """Tables that the inputs hold records of."""
        return list(self._sources)

    def put(self, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Replace the table's records by ``rows``, held in memory.

        Cells are those of ``answers.table``; a column that no row names is as
        absent from an input. No row at all leaves the table empty.
        """
        from qakhunt.backends.engine.loading import MemoryTable

        memory = self._memory.setdefault(table, MemoryTable(f"_rows_{table}"))
        known = self._sources.get(table)
        memory.fill(self._connection, table, rows)
        source = Source(memory.relation, dict(memory.types))
        if known != [source]:
            self._sources[table] = [source]
            self._translations.clear()
            self._readings.clear()
            self._views.pop(table, None)
            self._shown = None

    def keep(self, columns: Columns, rows: Sequence[Sequence[str | None]]) -> str:
        """The name of a relation of texts, read as the columns' types; each kept once."""
        data = json.dumps(rows)
        key = data, *columns.items()
        if key not in self._kept:
            name = f"_external_{len(self._kept) + 1}"
            cells = ", ".join(f"r[{at + 1}] AS {identifier(n)}" for at, n in enumerate(columns))
            types = ", ".join(
                f"{_external_cell(name, kind)} AS {identifier(name)}"
                for name, kind in columns.items()
            )
            self._connection.execute(
                f"CREATE TABLE {identifier(name)} AS SELECT {types} FROM (SELECT {cells} FROM "
                "(SELECT unnest(from_json(?, '[[\"VARCHAR\"]]')) AS r))",
                [data],
            )
            self._kept[key] = name
        return self._kept[key]

    def forget(self) -> None:
        """Let go of the translations of past queries; the records stay."""
        self._translations.clear()
        self._readings.clear()

    def ask(
        self,
        text: str,
        *,
        now: Instant,
        window: Window,
        timeout: float | None = None,
        workspace: str | None = None,
    ) -> ResultTable:
        """Run one query; records outside the window do not exist for it.

        ``timeout`` is in seconds; ``workspace`` stands in every record's TenantId
        in place of the recorded one. Raises EngineRefused with the place in
        ``text``, or EngineTimeout.
        """
        self._show(window, workspace)
        readings: list[Reading] = []
        _prepare_translator()

        def translation() -> tuple[Any, Reading]:
            refuse_oversized(text)
            self.supply_named_tables(text)
            try:
                return self._translation(text, now, readings)
            except UnionClash:
                self._end_transaction()
                return self._translation(text, now, readings, split_unions=True)

        started = time.monotonic()
        try:
            with self._within(timeout, "the query"):
                translated, reading = self._translated(translation, timeout)
                self.unknown = tuple(reading.plan.unknown)
                left = None if timeout is None else timeout - (time.monotonic() - started)
                return self._limited(lambda: self._execute(translated, reading.plan, now), left)
        except Unreadable as problem:
            line, column = 0, 0
            if problem.offset is not None:
                at = readings[-1].origin(problem.offset) if readings else problem.offset
                line, column = LineIndex(text).locate(at)
            raise EngineRefused(problem.message, line, column, problem.hint) from None
        finally:
            self._end_transaction()

    def _translation(
        self, text: str, now: Instant, readings: list[Reading], *, split_unions: bool = False
    ) -> tuple[Any, Reading]:
        """The query rewritten, which is put to ``readings``, and translated."""
        from qakhunt.backends.engine.rewriting.reading import read

        readings.clear()
        reading = None if split_unions else self._readings.get((text, now))
        if reading is None:
            reading = read(text, _Host(self, now), split_unions=split_unions)
            if not reading.plan.volatile:
                self._readings[text, now] = reading
        readings.append(reading)
        self.supply_named_tables(reading.plan.text)
        self._connection.execute("BEGIN TRANSACTION READ ONLY")
        return self._translate(reading.plan, now), reading

    def _translated(self, work: Callable[[], Result], timeout: float | None) -> Result:
        most = limits.MAX_TRANSLATION
        try:
            return self._limited(work, most if timeout is None else min(timeout, most))
        except Stopped:
            if self._stop_requested.is_set() or (timeout is not None and timeout <= most):
                raise
            raise Unreadable(
                "the query is too large for the embedded engine, "
                f"translating it takes longer than {most:g} s",
                None, hint="hunt in several queries, or in fewer steps",
            ) from None  # fmt: skip

    def _end_transaction(self) -> None:
        with suppress(self._duckdb.TransactionException):  # none has begun
            self._connection.rollback()

    def _show(self, window: Window, workspace: str | None) -> None:
        if self._shown == (window, workspace):
            return
        names = set(self._sources) | set(tables(self.product))
        for name in sorted(names):
            if name in self._sources or name not in self._views:
                self._view(name, window, workspace)
        self._shown = (window, workspace)

    def _view(self, name: str, window: Window, workspace: str | None) -> None:
        sources = self._sources.get(name, [])
        if sources:
            shape = self._shapes.get(name)
            view = table_view(name, self.product, sources, window, workspace, shape)
            self._connection.execute(f"CREATE OR REPLACE VIEW {identifier(name)} AS {view.sql}")
            self._views[name] = view.columns
        else:
            self._views[name] = without_case_twins(columns(self.product, name))

    def _translate(self, plan: Plan, now: Instant) -> Any:
        key = (plan.text, now, *(stage.sql for stage in plan.stages))
        if key not in self._translations:
            if len(self._translations) >= _MOST_TRANSLATIONS:
                self._translations.clear()
            self._translations[key] = self._fresh_translation(plan, now)
        return self._translations[key]

    def _fresh_translation(self, plan: Plan, now: Instant) -> Any:
        found = self.sql_of(plan.text, now, plan.columns, steady=not plan.is_ordered)
        parameters = {**plan.parameters, **found.parameters}
        refuse_clashes(
            found.unions, lambda sql: self.columns_of(parameters, plan.select(sql), plan.text)
        )
        sql = plan.select(found.sql)
        return replace(found, sql=sql, parameters=_used(parameters, sql))

    def sql_of(
        self, text: str, now: Instant, stages: Mapping[str, Columns], *, steady: bool = True
    ) -> Any:
        """A query that may read ``stages`` as tables, translated. Raises Unreadable."""
        import duckdb_kql

        moment = now.to_datetime().replace(tzinfo=None)

        def translated(part: str) -> Any:
            with refusals(part):
                views = {**self._views, **stages}
                return translate(duckdb_kql, part, views, moment, steady=steady)

        with placed(text, translated):
            return translated(text)

    @property
    def known_tables(self) -> Mapping[str, Columns]:
        """Every table that a query may read."""
        return self._views

    def rows_of(self, parameters: Mapping[str, Any], sql: str) -> list[tuple[Any, ...]]:
        """The rows of one SELECT."""
        return self._select(sql, _used(parameters, sql)).fetchall()  # type: ignore[no-any-return]

    def columns_of(
        self, parameters: Mapping[str, Any], sql: str, text: str
    ) -> list[tuple[str, str]]:
        """Names and DuckDB types of a SELECT's columns, made of the query ``text``."""
        try:
            found = self._select(sql, _used(parameters, sql), "LIMIT 0").description
        except self._duckdb.Error as problem:
            raise unreadable(explain(problem, self._views, text), text) from None
        return [(row[0], str(row[1])) for row in found]

    def _select(self, sql: str, parameters: Mapping[str, Any], rest: str = "") -> Any:
        """Run what must be one SELECT; as a subquery it can write nothing."""
        statements = self._connection.extract_statements(f"SELECT * FROM (\n{sql}\n) {rest}")
        if [s.type for s in statements] != [self._duckdb.StatementType.SELECT]:
            raise Unreadable("a hunt is one query and may read the loaded tables only", None)
        return self._connection.execute(statements[0], parameters or None)

    def supply_named_tables(self, text: str) -> None:
        """Tables of the schema that a query names but no input holds are empty."""
        for name, kinds in self._views.items():
            if name in self._sources or name in self._supplied or name not in text:
                continue
            cells = ", ".join(
                f"CAST(NULL AS {SQL_TYPES[kind]}) AS {identifier(column)}"
                for column, kind in kinds.items()
            )
            self._connection.execute(
                f"CREATE OR REPLACE VIEW {identifier(name)} AS SELECT {cells} WHERE false"
            )
            self._supplied.add(name)

    def _execute(self, translated: Any, plan: Plan, now: Instant) -> ResultTable:
        duckdb = self._duckdb
        try:
            result = self._select(translated.sql, translated.parameters)
            columns = tuple(
                Column(without_mark(d[0]), kql_type(str(d[1]))) for d in result.description
            )
            return ResultTable(columns, decode_rows(columns, result.fetchall()))
        except (duckdb.InterruptException, duckdb.OutOfMemoryException):
            raise
        except duckdb.Error as problem:
            found = explain(problem, self._views, plan.text)
            raise unreadable(found, plan.text, partial(self._runs, plan, now)) from None

    def _runs(self, plan: Plan, now: Instant, text: str) -> bool:
        """Whether DuckDB runs a part of the plan; what is not translated is no fault of its."""
        duckdb = self._duckdb
        self._end_transaction()
        self._connection.execute("BEGIN TRANSACTION READ ONLY")
        try:
            found = self.sql_of(text, now, plan.columns, steady=False)
            self.rows_of({**plan.parameters, **found.parameters}, plan.select(found.sql))
        except (duckdb.InterruptException, duckdb.OutOfMemoryException):
            raise
        except duckdb.Error:
            return False
        except Unreadable:
            return True
        return True


def _prepare_translator() -> None:
    """Load it and fix its tables where no time limit can come between."""
    from qakhunt.backends.engine import rendering, scalars, translation

    corrections.install()
    scalars.install()
    aggregates.install()
    translation.install()
    rendering.install()
    # A chain of MAX_TERMS is that deep; Python's own frames take none of the C stack.
    sys.setrecursionlimit(max(sys.getrecursionlimit(), _RECURSION))


def _external_cell(name: str, kind: str) -> str:
    sql = typed(name, SQL_TYPES[kind])
    return f"coalesce({sql}, '')" if kind == "string" else sql


def _used(parameters: Mapping[str, Any], sql: str) -> dict[str, Any]:
    return {name: value for name, value in parameters.items() if f"${name}" in sql}


def _converts(sql_type: str, kind: str) -> bool:
    """Whether every value of a Parquet column fits the KQL type."""
    have, want = kql_type(sql_type), kind
    whole = ("int", "long")
    return (
        have == want
        or (have in whole and want in ("long", "real"))
        or want in ("string", "dynamic")
    )


class _Host:
    """What rewriting asks of a session at one moment.

    Its queries are single SELECTs, as all of the session's are.
    """

    def __init__(self, session: Session, now: Instant) -> None:
        self._session, self._now = session, now
        self.product, self.external, self.keep = session.product, session.external, session.keep
        self.tables, self.loaded = session.known_tables, session.loaded_tables
        self.parameters: dict[str, Any] = {}

    def sql(self, text: str, tables: Mapping[str, Columns]) -> str:
        """A query in SQL, in the order of its own rows. Raises Unreadable."""
        self._session.supply_named_tables(text)
        found = self._session.sql_of(text, self._now, tables, steady=False)
        self.parameters |= found.parameters
        return str(found.sql)

    def describe(self, sql: str, text: str) -> Columns:
        """The columns of a SELECT, made of that query. Raises Unreadable."""
        found = self._session.columns_of(self.parameters, sql, text)
        return {name: kql_type(kind) for name, kind in found}

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows of a SELECT."""
        return self._session.rows_of(self.parameters, sql)
