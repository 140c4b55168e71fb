"""Text and saved answers into typed Parquet, checked to the last line.

Everything is read wholly before a query runs, so that a broken record is found
even where the query would not have reached it. Parquet inputs stay where they are.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from qakhunt.answers import wire_hunting, wire_log_analytics
from qakhunt.answers.cells import WireError, to_json_line
from qakhunt.answers.response import error_in
from qakhunt.backends.engine.csv_reader import read_csv
from qakhunt.backends.engine.inputs import (
    EventFile,
    InputAccount,
    InputOptions,
    foreign_file,
    plain_utf8,
)
from qakhunt.backends.engine.sql_types import SQL_TYPES, first_line, identifier, literal, typed
from qakhunt.core.errors import EventsError, SourceLocation
from qakhunt.kql.schema import PRODUCTS, TIME_COLUMN, Columns, columns
from qakhunt.kql.values import Instant, Timespan

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from duckdb import DuckDBPyConnection

    from qakhunt.answers.table import ResultTable

# One record may be this large; a command line of 32,000 characters needs far less.
_MAX_OBJECT = 64 << 20


def known_columns(table: str) -> Columns:
    """Columns of a table in any product; the first product's type where they differ."""
    return {
        name: kind
        for product in reversed(PRODUCTS)
        for name, kind in columns(product, table).items()
    }


class Loader:
    """Turns event files into Parquet in a temporary folder; ``account`` has what was left out."""

    def __init__(
        self, connection: DuckDBPyConnection, folder: Path, options: InputOptions | None = None
    ) -> None:
        self.connection = connection
        self.folder = folder
        self.options = options or InputOptions()
        self.account = InputAccount()
        self.count = 0

    def load(self, file: EventFile) -> Path | None:
        """A Parquet file with the records of ``file``, or None where it holds no events.

        A record without a time is in no window: it is counted, and left out. Raises
        EventsError.
        """
        import duckdb

        path = file.path
        try:
            if file.format != "parquet":
                text = plain_utf8(file, self.folder, self.options.max_expanded)
                reader = {"ndjson": self._ndjson, "json": self._json, "csv": self._csv}
                path = reader[file.format](file, text)
            return path if self._timed(file, path) else None
        except RecursionError:
            raise EventsError(f"{file.path}: its JSON is nested too deeply") from None
        except duckdb.Error as problem:
            what = "not a whole Parquet file: " if file.format == "parquet" else ""
            raise EventsError(f"{file.path}: {what}{first_line(problem)}") from None

    def _timed(self, file: EventFile, path: Path) -> bool:
        """Whether the records are of a table that has a time, as far as the table tells."""
        relation = f"read_parquet({literal(str(path))})"
        names = self.connection.execute(f"SELECT * FROM {relation} LIMIT 0").description or []
        times = [n for n in TIME_COLUMN.values() if n in {name[0] for name in names}]
        if times:
            untimed = " AND ".join(f"{identifier(name)} IS NULL" for name in times)
            found = self.connection.execute(
                f"SELECT count(*) FROM {relation} WHERE {untimed}"
            ).fetchone()
            self._without_time(file, found[0] if found else 0)
            return True
        if file.named or not set(TIME_COLUMN.values()) & set(known_columns(file.table)):
            return True
        if not file.found:
            raise EventsError(
                f"{file.path}: no column {' or '.join(TIME_COLUMN.values())}: these are no "
                f"records of {file.table}", hint="TABLE=PATH names another table",
            )  # fmt: skip
        if self.options.strict:
            raise foreign_file(file.path)
        self.account.foreign.append(str(file.path))
        return False

    def _without_time(self, file: EventFile, count: int) -> None:
        if count and self.options.strict:
            raise EventsError(
                f"{file.path}: records without a time: {count:,}",
                hint="without --strict they are counted and left out",
            )
        if count:
            self.account.without_time[str(file.path)] = count

    def _target(self) -> Path:
        self.count += 1
        return self.folder / f"events-{self.count}.parquet"

    def _write(self, select: str) -> Path:
        target = self._target()
        self.connection.execute(f"COPY ({select}) TO {literal(str(target))} (FORMAT parquet)")
        return target

    def _json(self, file: EventFile, text: Path) -> Path:
        with text.open("rb") as stream:
            start = stream.read(4096).lstrip()[:1]
        if start == b"{":
            whole = _whole_json(text)
            if whole is None:
                return self._ndjson(file, text)
            return self._object(file, whole)
        if start != b"[":
            raise EventsError(f"{file.path}: this is not JSON", location=None)
        return self._ndjson(file, self._array_lines(file, text))

    def _object(self, file: EventFile, value: dict[str, Any]) -> Path:
        """A saved answer of a service, or else one single record."""
        table = _saved_answer(file.path, value)
        if table is not None:
            return self._ndjson(file, self._lines(map(to_json_line, table.records())))
        if error_in(value):
            raise EventsError(f"{file.path}: this answer is an error, not a result")
        return self._ndjson(file, self._lines([json.dumps(value)]))

    def _array_lines(self, file: EventFile, text: Path) -> Path:
        import msgspec

        try:
            items = msgspec.json.decode(text.read_bytes(), type=list[msgspec.Raw])
        except msgspec.DecodeError as problem:
            raise EventsError(
                f"broken JSON: {_decapitalised(problem)}",
                location=_json_place(file.path, text, problem),
            ) from None
        return self._lines(
            bytes(item).decode().replace("\n", " ").replace("\r", " ") for item in items
        )

    def _lines(self, lines: Any) -> Path:
        self.count += 1
        path = self.folder / f"lines-{self.count}.ndjson"
        with path.open("w", encoding="utf-8", newline="\n") as out:
            for line in lines:
                out.write(line + "\n")
        return path

    def _ndjson(self, file: EventFile, text: Path) -> Path:
        import duckdb

        source = (
            f"read_ndjson_objects({literal(str(text))}, format='newline_delimited', "
            f"maximum_object_size={_MAX_OBJECT})"
        )
        try:
            # One record of each structure: the aggregate over all would hold all in memory.
            found = self.connection.execute(
                f"SELECT json_group_structure(one) FROM (SELECT any_value(json) AS one "
                f"FROM {source} GROUP BY CAST(json_structure(json) AS VARCHAR))"
            ).fetchone()
            structure = json.loads(found[0]) if found and found[0] else {}
            if not isinstance(structure, dict):
                check_ndjson(file.path, text)
                raise EventsError(f"{file.path}: its lines are not all JSON objects")
            _refuse_keys(file.path, structure)
            known = known_columns(file.table)
            shapes = {
                name: SQL_TYPES[known[name]] if name in known else _sql_type_of(shape)
                for name, shape in structure.items()
            }
            raw = {n: t if t in ("JSON", "VARCHAR") else "VARCHAR" for n, t in shapes.items()}
            if not raw:
                return self._write("SELECT 1 AS no_columns WHERE false")
            listing = ", ".join(f"{literal(n)}: {literal(t)}" for n, t in raw.items())
            select = (
                f"SELECT * FROM read_json({literal(str(text))}, columns={{{listing}}}, "
                f"format='newline_delimited', maximum_object_size={_MAX_OBJECT})"
            )
            return self._checked(file, text, select, shapes)
        except duckdb.Error as problem:
            check_ndjson(file.path, text)
            raise EventsError(f"{file.path}: {first_line(problem)}") from None

    def _checked(self, file: EventFile, text: Path, select: str, shapes: dict[str, str]) -> Path:
        """Convert the raw columns, refusing a value that its type cannot hold."""
        raw_path = self._write(select)
        raw = f"read_parquet({literal(str(raw_path))})"
        hard = [n for n, t in shapes.items() if t not in ("VARCHAR", "JSON")]
        if hard:
            checks = ", ".join(
                f"count(*) FILTER (WHERE {identifier(n)} <> '' AND {typed(n, shapes[n])} IS NULL)"
                for n in hard
            )
            counts = self.connection.execute(f"SELECT {checks} FROM {raw}").fetchone() or ()
            for name, bad in zip(hard, counts, strict=True):
                if bad:
                    self._refuse(file, text, raw, name, shapes[name])
        chosen = ", ".join(f"{typed(n, t)} AS {identifier(n)}" for n, t in shapes.items())
        path = self._write(f"SELECT {chosen} FROM {raw}")
        raw_path.unlink()
        return path

    def _refuse(self, file: EventFile, text: Path, raw: str, name: str, sql_type: str) -> None:
        found = self.connection.execute(
            f"SELECT {identifier(name)} FROM {raw} WHERE {identifier(name)} <> '' "
            f"AND {typed(name, sql_type)} IS NULL LIMIT 1"
        ).fetchone()
        value = found[0] if found else ""
        kind = next((k for k, t in SQL_TYPES.items() if t == sql_type), sql_type)
        raise EventsError(
            f"column {name} is a {kind}, but holds {value[:60]!r}",
            location=SourceLocation(str(file.path), _line_with(text, name, value)),
        )

    def _csv(self, file: EventFile, text: Path) -> Path:
        target = self._target()
        account = read_csv(
            self.connection, str(file.path), text, target, known_columns(file.table), self.options
        )
        self._without_time(file, account.without_time)
        if account.assumed_utc:
            self.account.assumed_utc.append(str(file.path))
        return target


def _refuse_keys(path: Path, names: Iterable[str]) -> None:
    """Refuse keys that cannot be columns; DuckDB does not tell them apart by case."""
    seen: dict[str, str] = {}
    for name in names:
        if not name:
            raise EventsError(f"{path}: a record has an empty key", hint="give it a name")
        twin = seen.setdefault(name.casefold(), name)
        if twin != name:
            raise EventsError(f"{path}: the keys {twin} and {name} differ only in case")


def _sql_type_of(shape: Any) -> str:
    simple = {
        "BOOLEAN": "BOOLEAN", "UBIGINT": "BIGINT", "BIGINT": "BIGINT", "DOUBLE": "DOUBLE",
        "VARCHAR": "VARCHAR", "NULL": "VARCHAR",
    }  # fmt: skip
    return simple.get(shape, "JSON") if isinstance(shape, str) else "JSON"


def _whole_json(text: Path) -> dict[str, Any] | None:
    """The file as one JSON object, or None where it is one object a line."""
    with text.open("rb") as stream:
        first, second = stream.readline(), stream.readline()
    if second.strip():
        try:
            if isinstance(json.loads(first), dict):
                return None
        except ValueError:
            pass
    try:
        value = json.loads(text.read_bytes())
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _saved_answer(path: Path, value: dict[str, Any]) -> ResultTable | None:
    """The table of a service's saved answer, or None for other JSON."""
    try:
        if wire_log_analytics.is_response(value):
            answer = wire_log_analytics.from_value(value)
            if answer.partial:
                raise EventsError(f"{path}: the saved answer is partial: {answer.partial.message}")
            return answer.table
        return wire_hunting.from_value(value).table if wire_hunting.is_response(value) else None
    except WireError as problem:
        raise EventsError(f"{path}: not a whole answer: {problem}") from None


def check_ndjson(path: Path, text: Path) -> None:
    """Raise EventsError at the first line that is no JSON object, as an editor counts."""
    import msgspec

    with text.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                value = msgspec.json.decode(line)
            except UnicodeDecodeError:
                raise EventsError(
                    "this is not UTF-8 text",
                    location=SourceLocation(str(path), number),
                    hint="save the file as UTF-8",
                ) from None
            except msgspec.DecodeError as problem:
                raise EventsError(
                    f"broken JSON: {_decapitalised(problem)}",
                    location=SourceLocation(str(path), number),
                ) from None
            if not isinstance(value, dict):
                raise EventsError(
                    "expected a JSON object on each line",
                    location=SourceLocation(str(path), number),
                )


def _json_place(path: Path, text: Path, problem: Exception) -> SourceLocation:
    words = str(problem).rpartition("byte ")[2].rstrip(")")
    offset = int(words) if words.isdigit() else 0
    data = text.read_bytes()[:offset]
    return SourceLocation(str(path), data.count(b"\n") + 1, len(data) - data.rfind(b"\n"))


def _line_with(text: Path, name: str, value: str) -> int:
    """The line of the first record whose ``name`` is ``value``; 0 where there is none."""
    with text.open(encoding="utf-8", newline="") as stream:
        for number, line in enumerate(stream, 1):
            try:
                found = json.loads(line).get(name)
            except (ValueError, AttributeError):
                continue
            if found is not None and (found == value or json.dumps(found) == value):
                return number
    return 0


def _decapitalised(problem: Exception) -> str:
    words = str(problem).removeprefix("JSON is malformed: ")
    return words[:1].lower() + words[1:]


_CHUNK = 200


class MemoryTable:
    """One table's records, as the relation ``name`` of a connection."""

    def __init__(self, name: str) -> None:
        self.relation = identifier(name)
        self.types: dict[str, str] = {}

    def fill(self, connection: Any, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Replace the contents by ``rows``."""
        wanted = _types_of(table, rows)
        known = known_columns(table)
        kept = {name: sql_type for name, sql_type in self.types.items() if name in known}
        shape = {**kept, **wanted} or {"no_columns": "BOOLEAN"}
        if shape != self.types:
            self.types = shape
            listing = ", ".join(f"{identifier(n)} {t}" for n, t in shape.items())
            connection.execute(f"CREATE OR REPLACE TABLE {self.relation} ({listing})")
        else:
            connection.execute(f"DELETE FROM {self.relation}")
        for at in range(0, len(rows), _CHUNK):
            self._insert(connection, list(wanted), rows[at : at + _CHUNK])

    def _insert(self, connection: Any, names: list[str], rows: Sequence[Mapping[str, Any]]) -> None:
        if not names:
            return
        holes = ", ".join(f"CAST(? AS {self.types[name]})" for name in names)
        values = ", ".join([f"({holes})"] * len(rows))
        cells = [_cell(row.get(name), self.types[name]) for row in rows for name in names]
        listing = ", ".join(map(identifier, names))
        connection.execute(f"INSERT INTO {self.relation} ({listing}) VALUES {values}", cells)


def _types_of(table: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    known = known_columns(table)
    found: dict[str, str] = {}
    for row in rows:
        for name, value in row.items():
            if name in known:
                found[name] = SQL_TYPES[known[name]]
            elif name not in found or (found[name] == "VARCHAR" and value is not None):
                found[name] = _type_of(value)
    return found


def _type_of(value: Any) -> str:
    for kinds, sql_type in (
        (bool, "BOOLEAN"), (int, "BIGINT"), (float, "DOUBLE"), (Decimal, "DECIMAL(38,17)"),
        (Instant, "TIMESTAMP"), (Timespan, "INTERVAL"), ((list, dict), "JSON"),
    ):  # fmt: skip
        if isinstance(value, kinds):
            return sql_type
    return "VARCHAR"


def _cell(value: Any, sql_type: str) -> Any:
    if value is None:
        return None
    if isinstance(value, Instant):
        return value.to_datetime().replace(tzinfo=None)
    if isinstance(value, Timespan):
        return f"{value.ticks // 10} microseconds"
    if sql_type == "JSON":
        return json.dumps(value)
    return value
