"""Test cases beside a hunt: ``tests/<hunt>.yaml``, checked on load.

A case puts rows into tables, binds parameters and a window, and says what the
hunt's result must be.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from inspect import cleandoc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from qakhunt.backends.engine.loading import known_columns
from qakhunt.core.documents import Document, convert, parse_yaml, read_text
from qakhunt.core.errors import (
    EventsError,
    HuntError,
    QakhuntError,
    SourceLocation,
    UsageError,
    nearest,
)
from qakhunt.hunts.loading import is_hunt_file, load_hunt
from qakhunt.kql.schema import (
    TIME_COLUMN,
    ProductName,
)
from qakhunt.kql.values import TICKS_PER_DAY, TICKS_PER_SECOND, Instant, Timespan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qakhunt.hunts.catalog import Catalog
    from qakhunt.hunts.model import Hunt
    from qakhunt.kql.values import Window


FOLDER = "tests"
DEFAULT_NOW = "2024-03-15T12:00:00Z"
"""The clock of cases that set none."""


class CaseError(HuntError):
    """A file of test cases is wrong."""


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Expectation(_Strict, frozen=True):
    """What a case's result must be.

    ``rows`` are the whole result in any order, each naming only the columns that
    matter. ``exact`` makes every column matter, ``ordered`` the order, ``subset``
    allows further rows. ``warnings`` and ``error`` are parts of messages, in any
    case; an error is one of rendering or of the engine.
    """

    rows: tuple[dict[str, Any], ...] | None = None
    exact: bool = False
    ordered: bool = False
    subset: bool = False
    count: int | None = None
    none: bool = False
    warnings: tuple[str, ...] = ()
    error: str | None = None


class CaseText(_Strict, frozen=True):
    """One case as written.

    ``tables`` maps a table to its rows, or to a file of event records. A row holds
    columns; beside them ``each`` (column -> list) makes one row per entry, ``every``
    (a timespan) moves each further row's time, and ``file`` takes rows from a file.
    """

    name: str
    expect: Expectation
    tables: dict[str, list[dict[str, Any]] | str] = {}
    parameters: dict[str, Any] = {}
    now: str | None = None
    window: str | None = None
    products: tuple[ProductName, ...] | None = None


class Explained(_Strict, frozen=True):
    """A mutant that no case can kill, and the reason why that is right.

    A ``mutant`` that ends in ``*`` names all whose description begins so.
    """

    mutant: str
    reason: str


class CaseFile(_Strict, frozen=True):
    """A file of cases. What stands at its top holds for every case that says nothing else.

    ``hunt`` is a path from this file, or a name; without it, the hunt of the same
    name in the folder above. ``fill`` maps a table to columns of all its rows.
    """

    cases: tuple[CaseText, ...]
    hunt: str | None = None
    now: str | None = None
    window: str | None = None
    parameters: dict[str, Any] = {}
    fill: dict[str, dict[str, Any]] = {}
    survivors: tuple[Explained, ...] = ()


@dataclass(frozen=True)
class Case:
    """One case with all that it inherits; ``location`` is that of its first line."""

    name: str
    hunt: Hunt
    location: SourceLocation
    tables: dict[str, list[dict[str, Any]]]
    fill: dict[str, dict[str, Any]]
    expect: Expectation
    parameters: dict[str, Any]
    now: Instant
    window: str
    products: tuple[str, ...]

    @property
    def folder(self) -> Path:
        """Where the case's files are looked for."""
        return Path(self.location.path).parent


@dataclass(frozen=True)
class Suite:
    """The cases of one file, about one hunt."""

    path: Path
    hunt: Hunt
    cases: tuple[Case, ...]
    survivors: tuple[Explained, ...]


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a file of cases, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "qakhunt test cases",
        **_described_alike(msgspec.json.schema(CaseFile)),
    }


def _described_alike(schema: Any) -> Any:
    """The same descriptions on every Python: 3.13 takes a docstring's indent away."""
    if isinstance(schema, dict):
        return {
            key: cleandoc(value) if key == "description" and isinstance(value, str)
            else _described_alike(value)
            for key, value in schema.items()
        }  # fmt: skip
    return [_described_alike(item) for item in schema] if isinstance(schema, list) else schema


def is_case_file(path: Path) -> bool:
    """Whether the path is one where cases stand: a YAML file in a folder ``tests``."""
    return path.suffix.lower() in (".yaml", ".yml") and path.parent.name == FOLDER


def cases_beside(hunt: Hunt) -> Path:
    """Where a hunt's cases stand."""
    return Path(hunt.path).parent / FOLDER / f"{hunt.name}.yaml"


def find_suites(wanted: Sequence[str], catalog: Catalog, select: str | None = None) -> list[Suite]:
    """The suites of hunts, hunt files, case files and folders; none named: of all hunts.

    Only cases with ``select`` in the name of their hunt or their own, in any case. Raises
    UsageError for a hunt without cases or where nothing is left, CaseError for a broken file.
    """
    paths: dict[Path, None] = {}
    for text in wanted:
        for path in _case_paths(text, catalog):
            paths[path] = None
    if not wanted:
        for path, _ in sorted(catalog.paths().values()):
            beside = path.parent / FOLDER / f"{path.stem}.yaml"
            if beside.is_file():
                paths[beside] = None
    return _selected([load_suite(path, catalog) for path in paths], select)


def _selected(suites: Sequence[Suite], text: str | None) -> list[Suite]:
    wanted = (text or "").casefold()
    chosen = []
    for suite in suites:
        cases = tuple(c for c in suite.cases if wanted in f"{suite.hunt.name} {c.name}".casefold())
        if cases:
            chosen.append(replace(suite, cases=cases))
    if not chosen:
        hint = f"no hunt or case has {text!r} in its name" if text else "no hunt has cases"
        raise UsageError("no test cases to run", hint=hint)
    return chosen


def _case_paths(text: str, catalog: Catalog) -> list[Path]:
    path = Path(text)
    if path.is_dir():
        folder = path if path.name == FOLDER else path / FOLDER
        found = sorted(p for p in folder.glob("*") if is_case_file(p))
        if not found:
            raise UsageError(f"no test cases in {folder}")
        return found
    if path.is_file() and is_case_file(path):
        return [path]
    found = []
    for hunt in catalog.find(text):
        beside = cases_beside(hunt)
        if not beside.is_file():
            raise UsageError(f"{hunt.name} has no test cases", hint=f"they belong in {beside}")
        found.append(beside)
    return found


def load_suite(path: Path, catalog: Catalog) -> Suite:
    """Load a file of cases and its hunt. Raises CaseError at the line at fault."""
    document = parse_yaml(read_text(path, CaseError), str(path), CaseError)
    if not isinstance(document.value, dict):
        raise CaseError(
            "a file of cases is a mapping of keys", location=SourceLocation(str(path), 1)
        )
    file = convert(document, CaseFile, CaseError)
    hunt = _hunt_of(path, file, document, catalog)
    cases = []
    names: set[str] = set()
    for number, text in enumerate(file.cases):
        location = document.locate(("cases", number))
        if text.name in names:
            raise CaseError(f"two cases are called {text.name!r}", location=location)
        names.add(text.name)
        _check_expectation(text.expect, document.locate(("cases", number, "expect")))
        cases.append(_case(text, file, hunt, location))
    return Suite(path, hunt, tuple(cases), file.survivors)


def _hunt_of(path: Path, file: CaseFile, document: Document, catalog: Catalog) -> Hunt:
    if file.hunt is not None:
        beside = path.parent / file.hunt
        if beside.is_file():
            return load_hunt(beside)
        try:
            found = catalog.find(file.hunt)
        except QakhuntError as problem:
            place = document.locate(("hunt",))
            raise CaseError(problem.message, location=place, hint=problem.hint) from None
        if len(found) != 1:
            raise CaseError(
                f"{file.hunt!r} names {len(found)} hunts", location=document.locate(("hunt",))
            )
        return found[0]
    for candidate in sorted(path.parent.parent.glob(f"{path.stem}.*")):
        if is_hunt_file(candidate):
            return load_hunt(candidate)
    raise CaseError(
        f"no hunt named {path.stem!r} in {path.parent.parent}",
        location=SourceLocation(str(path), 1),
        hint="name it: 'hunt: ../file.yaml'",
    )


def _check_expectation(expect: Expectation, location: SourceLocation) -> None:
    about_rows = expect.rows is not None or expect.count is not None or expect.none
    if expect.error is not None and (about_rows or expect.warnings):
        raise CaseError("a case that expects an error has no result", location=location)
    if expect.none and (expect.rows or expect.count):
        raise CaseError("'none' and rows exclude each other", location=location)
    if expect.rows is None and (expect.exact or expect.ordered or expect.subset):
        raise CaseError("'exact', 'ordered' and 'subset' speak of 'rows'", location=location)
    if expect.subset and not expect.rows:
        raise CaseError("'subset' of no rows is true of every result", location=location)
    if not about_rows and expect.error is None and not expect.warnings:
        raise CaseError(
            "the case expects nothing", location=location,
            hint="give one of rows, count, none, warnings, error",
        )  # fmt: skip


def _case(text: CaseText, file: CaseFile, hunt: Hunt, location: SourceLocation) -> Case:
    try:
        now = Instant.parse(text.now or file.now or DEFAULT_NOW)
    except ValueError as problem:
        raise CaseError(f"now: {problem}", location=location) from None
    tables = {
        name: [{"file": rows}] if isinstance(rows, str) else rows
        for name, rows in text.tables.items()
    }
    return Case(
        name=text.name,
        hunt=hunt,
        location=location,
        tables=tables,
        fill=file.fill,
        expect=text.expect,
        parameters={**file.parameters, **text.parameters},
        now=now,
        window=text.window or file.window or "published",
        products=text.products or hunt.products,
    )


_TIMES = tuple(TIME_COLUMN.values())
_RESERVED = ("each", "every", "file")
_RELATIVE = re.compile(r"\s*(now|start|end)\s*((?:[+-]\s*[0-9][0-9a-z.:]*\s*)*)")
_STEP = re.compile(r"([+-])\s*([0-9][0-9a-z.:]*)")
_HOUR = TICKS_PER_DAY // 24

Rows = list[dict[str, Any]]


class Clock:
    """What ``now``, ``start`` and ``end`` stand for in a case.

    Rows without a time get one inside the window: its middle, each a second later.
    """

    def __init__(self, now: Instant, window: Window) -> None:
        self.names = {"now": now, "start": window.start, "end": window.end}
        middle = window.start.ticks + (window.end.ticks - window.start.ticks) // 2
        on_the_hour = middle - middle % _HOUR
        self._next = Instant(on_the_hour if on_the_hour > window.start.ticks else middle)

    def moment(self, text: str) -> Instant:
        """``now-1h``, ``start``, ``end-1s`` or an ISO 8601 instant. Raises ValueError."""
        match = _RELATIVE.fullmatch(text)
        if match is None:
            return Instant.parse(text)
        moment = self.names[match[1]]
        for sign, span in _STEP.findall(match[2]):
            length = Timespan.parse(span)
            moment = moment + length if sign == "+" else moment - length
        return moment

    def tick(self) -> Instant:
        """A time for a row that has none."""
        moment = self._next
        self._next = Instant(moment.ticks + TICKS_PER_SECOND)
        return moment


def build_tables(case: Case, product: str, clock: Clock) -> dict[str, Rows]:
    """Rows per table, ready to be put into a session of ``product``.

    Raises CaseError for a column or value that the table cannot hold.
    """
    tables = {}
    for table, entries in case.tables.items():
        rows: Rows = []
        for entry in entries:
            try:
                rows += _entry_rows(case, table, entry, product, clock)
            except (ValueError, TypeError, EventsError) as problem:
                raise CaseError(
                    f"{case.name}: {table}: {problem}", location=case.location
                ) from None
        tables[table] = rows
    return tables


def _entry_rows(
    case: Case, table: str, entry: Mapping[str, Any], product: str, clock: Clock
) -> Rows:
    special = {key: entry[key] for key in _RESERVED if key in entry}
    written = {key: value for key, value in entry.items() if key not in _RESERVED}
    bare = [written]
    if "each" in special:
        bare = [{**written, **one} for one in _each(special["each"])]
    step = Timespan.parse(str(special["every"])) if "every" in special else None
    known = known_columns(table)
    from_file = _file_rows(case, table, special["file"], product) if "file" in special else [{}]
    fill = typed_cells(case.fill.get(table, {}), known, clock)
    rows: Rows = []
    for stored in from_file:
        for cells in bare:
            row = {**fill, **stored, **typed_cells(cells, known, clock)}
            rows.append(_timed(row, product, table, clock, step, len(rows)))
    return rows


def _each(value: Any) -> Rows:
    if (
        not isinstance(value, dict)
        or not value
        or not all(isinstance(v, list) for v in value.values())
    ):
        raise ValueError("'each' maps columns to lists")
    if len({len(entries) for entries in value.values()}) != 1:
        raise ValueError("the lists of 'each' must be of one length")
    if not all(value.values()):
        raise ValueError("the lists of 'each' are empty, so there is no row")
    return [dict(zip(value, cells, strict=True)) for cells in zip(*value.values(), strict=True)]


def _timed(
    row: dict[str, Any], product: str, table: str, clock: Clock, step: Timespan | None, number: int
) -> dict[str, Any]:
    """The row with its time under the product's own name, where the table has one."""
    written = next((row.pop(name) for name in _TIMES if name in row), None)
    for name in _TIMES:
        row.pop(name, None)
    known = known_columns(table)
    if written is None and known and not any(name in known for name in _TIMES):
        return row
    moment = clock.tick() if written is None else written
    if step is not None and written is not None:
        moment = Instant(moment.ticks + number * step.ticks)
    return {TIME_COLUMN[product]: moment, **row}


def typed_cells(cells: Mapping[str, Any], known: Mapping[str, str], clock: Clock) -> dict[str, Any]:
    """Cells by the column's KQL type. Raises ValueError naming the column."""
    row = {}
    for name, value in cells.items():
        if known and name not in known and name not in _TIMES:
            hint = nearest(name, known)
            raise ValueError(f"no column named {name!r}" + (f"; {hint}" if hint else ""))
        kind = "datetime" if name in _TIMES else known.get(name)
        try:
            row[name] = typed_cell(value, kind, clock)
        except (ValueError, TypeError) as problem:
            raise ValueError(f"{name} is a {kind}: {problem}") from None
    return row


def typed_cell(value: Any, kind: str | None, clock: Clock) -> Any:
    """A value of YAML as a cell of that KQL type. Raises ValueError."""
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError(f"{value} is beyond 64 bits")
    if value is None or kind in (None, "dynamic"):
        return value
    if kind == "datetime":
        return clock.moment(str(value))
    if kind == "timespan":
        return Timespan.parse(str(value))
    wanted: Any = _PYTHON_TYPES[kind or "string"]
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    if kind == "real" and is_whole:
        return float(value)
    if not isinstance(value, wanted) or (isinstance(value, bool) and kind != "bool"):
        raise ValueError(
            f"expected {kind}, not {value!r}" + ("; quote it" if kind == "string" else "")
        )
    return value


_PYTHON_TYPES = {
    "string": str, "guid": str, "bool": bool, "int": int, "long": int,
    "real": float, "decimal": (int, float, str),
}  # fmt: skip


def _file_rows(case: Case, table: str, name: Any, product: str) -> Rows:
    """Records of an event file beside the case, read as the embedded engine reads it."""
    from qakhunt.backends.engine.session import Session
    from qakhunt.testing.records import ALL_TIME

    path = case.folder / str(name)
    if not Path(path).is_file():
        raise ValueError(f"no such file: {path}")
    with Session([f"{table}={path}"], product) as session:
        result = session.ask(table, now=case.now, window=ALL_TIME)
    rows = []
    for record in result.records():
        rows.append({name: cell for name, cell in record.items() if cell not in (None, "")})
    return rows
