"""The CSV that Defender's and Sentinel's portals export, as rows of DeviceProcessEvents."""

from __future__ import annotations

import codecs
import shutil
from typing import TYPE_CHECKING

from qakhunt.backends.engine.csv_reader import CsvAccount, read_csv
from qakhunt.backends.engine.sql_types import SQL_TYPES, identifier, literal
from qakhunt.backends.recordings.process_columns import table_columns
from qakhunt.core.errors import EventsError
from qakhunt.kql.schema import TIME_COLUMN

if TYPE_CHECKING:
    from pathlib import Path

    from duckdb import DuckDBPyConnection

    from qakhunt.backends.engine.inputs import InputOptions
    from qakhunt.backends.recordings.event_sources import EventSource

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
