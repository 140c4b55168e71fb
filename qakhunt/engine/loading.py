"""Text and saved answers into typed Parquet, checked to the last line.

Everything is read wholly before a query runs, so that a broken record is found
even where the query would not have reached it. Parquet inputs stay where they are.
"""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

from qakhunt.answers import wire_hunting, wire_log_analytics
from qakhunt.answers.json_body import WireError
from qakhunt.answers.plain import to_json_line
from qakhunt.answers.service_error import error_in
from qakhunt.engine.inputs import EventFile, plain_utf8
from qakhunt.engine.sql_types import SQL_TYPES, identifier, literal, typed
from qakhunt.errors import EventsError, SourceLocation
from qakhunt.kql.schema import Columns, columns

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from duckdb import DuckDBPyConnection

    from qakhunt.answers.table import ResultTable

# One record may be this large; a command line of 32,000 characters needs far less.
_MAX_OBJECT = 64 << 20


def known_columns(table: str) -> Columns:
    """Columns of a table in either product; Log Analytics' type where they differ."""
    return {**columns("defender", table), **columns("log-analytics", table)}


class Loader:
    """Turns event files into Parquet in a temporary folder."""

    def __init__(self, connection: DuckDBPyConnection, folder: Path) -> None:
        self.connection = connection
        self.folder = folder
        self.count = 0

    def load(self, file: EventFile) -> Path:
        """A Parquet file with the records of ``file``. Raises EventsError."""
        if file.format == "parquet":
            return file.path
        text = plain_utf8(file, self.folder)
        reader = {"ndjson": self._ndjson, "json": self._json, "csv": self._csv}[file.format]
        return reader(file, text)

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
            return self._ndjson(file, self._lines(_table_lines(table)))
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
            raise EventsError(f"{file.path}: {_first_line(problem)}") from None

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
            location=SourceLocation(str(file.path), _line_with(file, text, name, value)),
        )

    def _csv(self, file: EventFile, text: Path) -> Path:
        import duckdb

        names = _csv_header(file, text)
        known = known_columns(file.table)
        shapes = {n: SQL_TYPES.get(known.get(n, "string"), "VARCHAR") for n in names}
        listing = ", ".join(f"{literal(n)}: 'VARCHAR'" for n in names)
        select = (
            f"SELECT * FROM read_csv({literal(str(text))}, header=true, delim=',', quote='\"', "
            f"escape='\"', columns={{{listing}}}, auto_detect=false, max_line_size=16777216)"
        )
        try:
            return self._checked(file, text, select, shapes)
        except duckdb.Error as problem:
            _check_csv(file.path, text, len(names))
            raise EventsError(f"{file.path}: {_first_line(problem)}") from None


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


def _table_lines(table: ResultTable) -> Iterator[str]:
    for record in table.records():
        yield to_json_line(record)


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


def _line_with(file: EventFile, text: Path, name: str, value: str) -> int:
    """The line of the first record whose ``name`` is ``value``; 0 where there is none."""
    with text.open(encoding="utf-8", newline="") as stream:
        if file.format == "csv":
            reader = csv.DictReader(stream)
            for record in reader:
                if record.get(name) == value:
                    return reader.line_num
            return 0
        for number, line in enumerate(stream, 1):
            try:
                found = json.loads(line).get(name)
            except (ValueError, AttributeError):
                continue
            if found is not None and (found == value or json.dumps(found) == value):
                return number
    return 0


def _csv_header(file: EventFile, text: Path) -> list[str]:
    csv.field_size_limit(1 << 24)
    with text.open(encoding="utf-8", newline="") as stream:
        try:
            names = next(csv.reader(stream), [])
        except (csv.Error, UnicodeDecodeError) as problem:
            raise EventsError(f"{file.path}: not CSV text: {problem}") from None
    if not names or len({name.casefold() for name in names}) != len(names):
        raise EventsError(
            "the header must name each column once", location=SourceLocation(str(file.path), 1)
        )
    return names


def _check_csv(path: Path, text: Path, width: int) -> None:
    with text.open(encoding="utf-8", newline="") as stream:
        reader = csv.reader(stream, strict=True)
        try:
            for record in reader:
                if record and len(record) != width:
                    raise EventsError(
                        f"expected {width} fields, found {len(record)}",
                        location=SourceLocation(str(path), reader.line_num),
                    )
        except (csv.Error, UnicodeDecodeError) as problem:
            raise EventsError(
                f"broken CSV: {problem}", location=SourceLocation(str(path), reader.line_num)
            ) from None


def _decapitalised(problem: Exception) -> str:
    words = str(problem).removeprefix("JSON is malformed: ")
    return words[:1].lower() + words[1:]


def _first_line(problem: Exception) -> str:
    return str(problem).strip().splitlines()[0]
