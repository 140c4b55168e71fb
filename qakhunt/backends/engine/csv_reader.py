"""The one reader of CSV: the portals' exports as they are, typed, in UTC.

Delimiter, headings and the forms of the times are found from the file itself; DuckDB
does the reading and converting, so a million rows take seconds.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from qakhunt.backends.engine.sql_types import (
    SQL_TYPES,
    first_line,
    identifier,
    literal,
    literal_list,
    typed,
)
from qakhunt.core.errors import EventsError, SourceLocation
from qakhunt.kql.schema import TIME_COLUMN

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from duckdb import DuckDBPyConnection

    from qakhunt.backends.engine.inputs import InputOptions

NAMED_BROKEN = 20
"""So many broken records are named; the rest is counted."""

DELIMITERS = (",", ";", "\t")
_LONGEST_CELL = 1 << 24
_LABEL = re.compile(r"\s*\[([^\[\]]+)\]$")
_OFFSET = re.compile(r"\(?(?:UTC|GMT)?([+-])(\d{1,2}):?(\d\d)?\)?")
_LOCAL = "local time"
_UTC = ("utc", "gmt", "z", "coordinated universal time")

# Times that are no ISO text, as Python and DuckDB read their parts; blanks are single
# and commas gone. The order of day and month is the column's, see _date_order.
_DATES = (
    (r"[A-Za-z]{3} \d{1,2} \d{4}", "%b %d %Y"),
    (r"[A-Za-z]{4,9} \d{1,2} \d{4}", "%B %d %Y"),
    (r"\d{1,2} [A-Za-z]{3} \d{4}", "%d %b %Y"),
    (r"\d{1,2}\.\d{1,2}\.\d{4}", "%d.%m.%Y"),  # nobody writes the month first with dots
    (r"\d{1,2}/\d{1,2}/\d{4}", "{}/{}/%Y"),
    (r"\d{1,2}-\d{1,2}-\d{4}", "{}-{}-%Y"),
)
_CLOCKS = (
    ("", ""), (r" \d{1,2}:\d\d", " %H:%M"), (r" \d{1,2}:\d\d:\d\d", " %H:%M:%S"),
    (r" \d{1,2}:\d\d:\d\d\.\d{1,6}", " %H:%M:%S.%f"),
    (r" \d{1,2}:\d\d:\d\d\.\d{7,9}", " %H:%M:%S.%n"),
)  # fmt: skip
_HALF = r"(?i: [ap]m)"
_NAIVE_ISO = r"^\d{4}[-/]"
_HAS_ZONE = r":[0-9.]+ ?([Zz]|UTC|GMT|[+-]\d\d(:?\d\d)?)$"


@dataclass
class CsvAccount:
    """What became of a file's rows.

    ``kept`` are in the table, those ``without_time`` were left out; ``broken`` are (line,
    why) of the first that cannot be read, ``broken_rows`` how many. ``assumed_utc``: times
    that name no zone were read as UTC. ``has_time`` is false where no column is the
    records' time.
    """

    kept: int = 0
    without_time: int = 0
    broken: list[tuple[int, str]] = field(default_factory=list)
    broken_rows: int = 0
    assumed_utc: bool = False
    has_time: bool = True

    @property
    def records(self) -> int:
        """All rows that are not empty."""
        return self.kept + self.without_time + self.broken_rows


@dataclass(frozen=True)
class _Heading:
    """A column: its name, and the zone that its heading states (None: none)."""

    name: str
    kind: str
    label: str | None

    def zone(self, options: InputOptions) -> str | None:
        """The zone of its times that name none; None where that is not known."""
        return _zone_named(self.label or "") or options.time_zone


def read_csv(
    connection: DuckDBPyConnection,
    source: str,
    text: Path,
    target: Path,
    kinds: Mapping[str, str],
    options: InputOptions,
    *,
    skip_broken: bool = False,
    ticks: bool = False,
) -> CsvAccount:
    """Write the rows of ``text`` (UTF-8) to ``target`` as Parquet, typed by ``kinds``.

    A heading's zone goes (``TimeGenerated [UTC]``). Times are TIMESTAMP in UTC, with
    ``ticks`` TIMESTAMP_NS. A row that cannot be read raises EventsError with its line,
    or is left out with ``skip_broken``; one without a time is left out.
    """
    reading = _Reading(connection, source, text, target, kinds, options)
    reading.skip_broken, reading.ticks = skip_broken, ticks
    return reading.read()


class _Reading:
    def __init__(
        self, connection: DuckDBPyConnection, source: str, text: Path, target: Path,
        kinds: Mapping[str, str], options: InputOptions,
    ) -> None:  # fmt: skip
        self.connection, self.source, self.text, self.target = connection, source, text, target
        self.options, self.skip_broken, self.ticks = options, False, False
        self.account = CsvAccount()
        self.delimiter, names = _header(source, text)
        self.headings = [_heading(name, kinds) for name in names]
        self._refuse_names()
        raw = target.with_suffix(".raw.parquet")
        self.raw_path = raw
        self.raw = f"read_parquet({literal(str(raw))}, file_row_number=true)"

    def read(self) -> CsvAccount:
        self._load()
        cells = {h.name: self._cell(h) for h in self.headings}
        times = [n for n in TIME_COLUMN.values() if n in cells]
        self.account.has_time = bool(times)
        any_cell = " OR ".join(f"{identifier(h.name)} <> ''" for h in self.headings)
        untimed = " AND ".join(f"coalesce({identifier(n)}, '') = ''" for n in times) or "false"
        bad = {
            h: f"({identifier(h.name)} <> '' AND {cells[h.name]} IS NULL)"
            for h in self.headings
            if h.kind not in ("string", "dynamic")
        }
        self._judge(any_cell, untimed, bad)
        chosen = ", ".join(f"{sql} AS {identifier(n)}" for n, sql in cells.items())
        keep = f"({any_cell}) AND NOT ({untimed})"
        if self.account.broken_rows:
            keep += f" AND NOT coalesce({' OR '.join(bad.values()) or 'false'}, false)"
        self.connection.execute(
            f"COPY (SELECT {chosen} FROM {self.raw} WHERE {keep}) "
            f"TO {literal(str(self.target))} (FORMAT parquet)"
        )
        self.raw_path.unlink()
        return self.account

    def _refuse_names(self) -> None:
        names = [heading.name for heading in self.headings]
        place = SourceLocation(self.source, 1)
        if "" in names:
            raise EventsError(f"column {names.index('') + 1} has no name", location=place)
        folded = [name.casefold() for name in names]
        twice = next((n for n, f in zip(names, folded, strict=True) if folded.count(f) > 1), None)
        if twice is not None or not names:
            raise EventsError(
                f"the header must name each column once{f', not {twice} twice' if twice else ''}",
                location=place,
            )

    def _load(self) -> None:
        """All cells as text, empty ones included, into Parquet."""
        import duckdb

        try:
            self._copy_raw(self.text)
            return
        except duckdb.Error as problem:
            broken = list(_broken_records(self.text, self.delimiter, len(self.headings)))
            if not broken:
                raise EventsError(f"{self.source}: {first_line(problem)}") from None
        line, why = broken[0]
        if not self.skip_broken:
            raise EventsError(why, location=SourceLocation(self.source, line)) from None
        self.account.broken, self.account.broken_rows = broken[:NAMED_BROKEN], len(broken)
        clean = self.target.with_suffix(".clean.csv")
        with clean.open("w", encoding="utf-8", newline="") as out:
            writer = csv.writer(out, delimiter=self.delimiter)
            for _, record in _records(self.text, self.delimiter):
                if isinstance(record, list) and len(record) == len(self.headings):
                    writer.writerow(record)
        self._copy_raw(clean)
        clean.unlink()

    def _copy_raw(self, text: Path) -> None:
        listing = ", ".join(f"{literal(h.name)}: 'VARCHAR'" for h in self.headings)
        self.connection.execute(
            f"COPY (SELECT * FROM read_csv({literal(str(text))}, header=true, "
            f"delim={literal(self.delimiter)}, quote='\"', escape='\"', columns={{{listing}}}, "
            f"auto_detect=false, max_line_size={_LONGEST_CELL})) "
            f"TO {literal(str(self.raw_path))} (FORMAT parquet)"
        )

    def _cell(self, heading: _Heading) -> str:
        if heading.kind == "datetime":
            return self._time(heading)
        return typed(heading.name, SQL_TYPES[heading.kind])

    def _time(self, heading: _Heading) -> str:
        """SQL of a column's times in UTC; NULL where they have no form that is known."""
        column = identifier(heading.name)
        zone = heading.zone(self.options)
        in_utc = _in_utc(zone)
        instant = f"TRY_CAST({column} AS TIMESTAMPTZ) AT TIME ZONE 'UTC'"
        iso = instant
        if in_utc:
            iso = (
                f"CASE WHEN regexp_matches({column}, {literal(_HAS_ZONE)}) THEN {instant} "
                f"ELSE TRY_CAST({column} AS TIMESTAMP){in_utc} END"
            )
        forms: list[str] = []
        while True:
            shown = (
                f"try_strptime({_plain(column)}, {literal_list(forms)}){in_utc}"
                if forms
                else "NULL"
            )
            is_iso = f"regexp_matches({column}, {literal(_NAIVE_ISO)})"
            sql = f"(CASE WHEN {is_iso} THEN {iso} ELSE {shown} END)"
            found = [f for f in self._forms(heading.name, sql) if f not in forms]
            if not found:
                break
            forms += found
        if zone is None and self._has_local(column):
            self.account.assumed_utc = True
        return _with_ticks(column, sql) if self.ticks else sql

    def _forms(self, name: str, sql: str) -> list[str]:
        """Formats of values that ``sql`` cannot read yet."""
        column = identifier(name)
        rows = self.connection.execute(
            f"SELECT DISTINCT {_plain(column)} FROM (SELECT {column} FROM {self.raw} "
            f"WHERE {column} <> '' AND {sql} IS NULL LIMIT 2000)"
        ).fetchall()
        found = dict.fromkeys(form for (value,) in rows if (form := _form_of(value)))
        order = self._date_order(name) if any("{" in form for form in found) else ("", "")
        return [form.format(*order) for form in found]

    def _date_order(self, name: str) -> tuple[str, str]:
        """Which of 11/5 is the day, by the column's own values or the user's word."""
        day_first, month_first = ("%d", "%m"), ("%m", "%d")
        if self.options.date_order is not None:
            return day_first if self.options.date_order == "day-first" else month_first
        column = identifier(name)
        found = self.connection.execute(
            f"SELECT max(a), max(b), count(*) FILTER (WHERE a <> b), any_value(v) FILTER "
            f"(WHERE a <> b) FROM (SELECT CAST(p.a AS INTEGER) AS a, CAST(p.b AS INTEGER) AS b, v "
            f"FROM (SELECT {column} AS v, regexp_extract({column}, "
            f"'^\\s*(\\d{{1,2}})[/-](\\d{{1,2}})[/-]\\d{{4}}', ['a', 'b']) AS p FROM {self.raw} "
            f"WHERE regexp_matches({column}, '^\\s*\\d{{1,2}}[/-]\\d{{1,2}}[/-]\\d{{4}}')))"
        ).fetchone()
        first, second, telling, example = found or (0, 0, 0, "")
        if first > 12 and second > 12:
            why = "it has dates with the day first and with the month first"
        elif first <= 12 and second <= 12 and telling:
            why = f"{example[:30]!r} may have the day or the month first, and no other date tells"
        else:
            return day_first if first > 12 else month_first
        raise EventsError(
            f"{self.source}: column {name}: {why}",
            hint="say which with --date-order day-first or --date-order month-first, or write the "
            "dates as 2026-11-05",
        )

    def _has_local(self, column: str) -> bool:
        """Whether any time of the column names no zone of its own."""
        found = self.connection.execute(
            f"SELECT 1 FROM {self.raw} WHERE {column} <> '' "
            f"AND NOT regexp_matches({column}, {literal(_HAS_ZONE)}) LIMIT 1"
        ).fetchone()
        return found is not None

    def _judge(self, any_cell: str, untimed: str, bad: dict[_Heading, str]) -> None:
        """Count rows and what is wrong with them; refuse the first that cannot be read."""
        some_bad = " OR ".join(bad.values()) or "false"
        rows, untimed_rows, bad_rows = self.connection.execute(
            f"SELECT count(*), count(*) FILTER (WHERE {untimed}), "
            f"count(*) FILTER (WHERE ({some_bad}) AND NOT ({untimed})) "
            f"FROM {self.raw} WHERE {any_cell}"
        ).fetchone() or (0, 0, 0)
        account = self.account
        account.kept, account.without_time = rows - untimed_rows - bad_rows, untimed_rows
        if untimed_rows and self.options.strict:
            raise EventsError(
                f"{self.source}: records without a time: {untimed_rows:,}",
                hint="without --strict they are counted and left out",
            )
        if not bad_rows:
            return
        account.broken_rows += bad_rows
        values = ", ".join(identifier(h.name) for h in bad)
        flags = ", ".join(f"coalesce({sql}, false)" for sql in bad.values())
        found = self.connection.execute(
            f"SELECT file_row_number, [{flags}], [{values}] FROM {self.raw} WHERE {some_bad} "
            f"ORDER BY file_row_number LIMIT {NAMED_BROKEN}"
        ).fetchall()
        lines = self._lines_of({row[0] for row in found})
        for number, wrong, cells in found:
            at = wrong.index(True)
            heading = list(bad)[at]
            why = f"column {heading.name} is a {heading.kind}, but holds {cells[at][:60]!r}"
            account.broken.append((lines.get(number, 0), why))
        if not self.skip_broken:
            line, why = account.broken[0]
            raise EventsError(why, location=SourceLocation(self.source, line))
        account.broken = sorted(account.broken)[:NAMED_BROKEN]

    def _lines_of(self, numbers: set[int]) -> dict[int, int]:
        """Number of a whole record -> its line."""
        found: dict[int, int] = {}
        number = -1  # the header
        for line, record in _records(self.text, self.delimiter):
            if isinstance(record, list) and len(record) == len(self.headings):
                if number in numbers:
                    found[number] = line
                number += 1
        return found


def _heading(text: str, kinds: Mapping[str, str]) -> _Heading:
    """A column by its heading; an unknown one that states a zone holds times."""
    whole = text.strip()
    match = _LABEL.search(whole)
    times = dict.fromkeys(TIME_COLUMN.values(), "datetime")
    if match:
        name, label = whole[: match.start()].strip(), match[1]
        kind = times.get(name) or kinds.get(name)
        if kind or label.casefold() == _LOCAL or _zone_named(label):
            return _Heading(name, kind or "datetime", label)
    return _Heading(whole, times.get(whole) or kinds.get(whole, "string"), None)


def _in_utc(zone: str | None) -> str:
    """SQL behind a local time that makes it UTC."""
    if zone is None or zone == "UTC":
        return ""
    if zone[0] in "+-":
        hours, minutes = zone[1:].split(":")
        sign = "-" if zone[0] == "+" else "+"
        return f" {sign} INTERVAL {int(hours) * 60 + int(minutes)} MINUTE"
    return f" AT TIME ZONE {literal(zone)} AT TIME ZONE 'UTC'"


def _with_ticks(column: str, moment: str) -> str:
    """The moment as TIMESTAMP_NS with the seventh digit that its text may have."""
    seventh = f"regexp_extract({column}, '\\.\\d{{6}}(\\d)', 1)"
    tick = f"coalesce(TRY_CAST(nullif({seventh}, '') AS BIGINT), 0)"
    return f"TRY(make_timestamp_ns(epoch_us({moment}) * 1000 + {tick} * 100))"


def _zone_named(label: str) -> str | None:
    """The zone that a heading states: ``UTC``, ``Europe/Berlin``, or ``+02:00``."""
    if label.casefold() in _UTC:
        return "UTC"
    offset = _OFFSET.fullmatch(label.replace(" ", ""))
    if offset:
        return f"{offset[1]}{int(offset[2]):02d}:{offset[3] or '00'}"
    if "/" not in label:
        return None
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(label).key
    except (KeyError, ValueError, OSError):
        return None


def _plain(column: str) -> str:
    """A time's text with single plain blanks and no commas."""
    blanks = f"translate({column}, {literal(chr(0xA0) + chr(0x202F) + ',')}, '  ')"
    return f"trim(replace({blanks}, '  ', ' '))"


def _form_of(value: str) -> str | None:
    for date, date_form in _DATES:
        for clock, clock_form in _CLOCKS:
            if re.fullmatch(date + clock, value):
                return date_form + clock_form
            if clock and re.fullmatch(date + clock + _HALF, value):
                return date_form + clock_form.replace("%H", "%I") + " %p"
    return None


def _header(source: str, text: Path) -> tuple[str, list[str]]:
    """The delimiter that cuts the first record most, and the headings."""
    csv.field_size_limit(_LONGEST_CELL)
    found: dict[str, list[str]] = {}
    for delimiter in DELIMITERS:
        with text.open(encoding="utf-8", newline="") as stream:
            try:
                found[delimiter] = next(csv.reader(stream, delimiter=delimiter), [])
            except (csv.Error, UnicodeDecodeError) as problem:
                raise EventsError(f"{source}: not CSV text: {problem}") from None
    best = max(DELIMITERS, key=lambda delimiter: len(found[delimiter]))
    return best, found[best]


def _records(text: Path, delimiter: str) -> Iterator[tuple[int, list[str] | str]]:
    """Line and cells of each record, header included, or the words of what is wrong."""
    with text.open(encoding="utf-8", newline="") as stream:
        reader = csv.reader(stream, delimiter=delimiter, strict=True)
        while True:
            try:
                record = next(reader)
            except StopIteration:
                return
            except csv.Error as problem:
                yield reader.line_num, f"broken CSV: {problem}"
                continue
            except UnicodeDecodeError as problem:
                yield reader.line_num + 1, f"broken CSV: {problem}"
                return
            if record:
                yield reader.line_num, record


def _broken_records(text: Path, delimiter: str, width: int) -> Iterator[tuple[int, str]]:
    for line, record in _records(text, delimiter):
        if isinstance(record, str):
            yield line, record
        elif len(record) != width:
            yield line, f"expected {width} fields, found {len(record)}"
