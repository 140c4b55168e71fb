"""The language corpus: queries with rows, and answers that documentation gives.

``tests/language/<construct>.yaml`` is a list of cases: ``name``, ``source`` (the page that
the expectation comes from), ``query``, and ``rows``, ``error`` or ``incomplete``. ``tables``
maps a name to ``columns`` (name: KQL type) and ``rows``; ``columns`` are the names of the
result, ``now`` the clock. An expectation is never what the engine answered.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from qakhunt.answers.cells import to_json_value
from qakhunt.backends.engine.external import ExternalFiles
from qakhunt.backends.engine.rewriting.plan import keeps_order
from qakhunt.backends.engine.session import EngineRefused, Session
from qakhunt.kql.parser import parse
from qakhunt.kql.syntax import Pipeline
from qakhunt.kql.values import Instant, Timespan
from tests.support.events import EVER

FOLDER = Path(__file__).parents[1] / "language"
NOW = "2026-11-05T09:00:00Z"

pytestmark = pytest.mark.engine


class Table(msgspec.Struct, forbid_unknown_fields=True):
    columns: dict[str, str]
    rows: list[list[Any]] = []


class Case(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    source: str
    query: str
    tables: dict[str, Table] = {}
    now: str = NOW
    product: str = "log-analytics"
    columns: list[str] | None = None
    rows: list[list[Any]] | None = None
    error: str | None = None
    incomplete: str | None = None
    external: dict[str, str] = {}


class _Loader(yaml.SafeLoader):
    """Text that looks like a time stays text."""


_Loader.yaml_implicit_resolvers = {
    first: [one for one in rules if one[0] != "tag:yaml.org,2002:timestamp"]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _cases() -> Iterator[Any]:
    for path in sorted(FOLDER.glob("*.yaml")):
        found = yaml.load(path.read_text(encoding="utf-8"), _Loader)
        for case in msgspec.convert(found, list[Case]):
            yield pytest.param(case, id=f"{path.stem}: {case.name}")


@pytest.fixture(scope="module")
def sessions() -> Iterator[dict[str, Session]]:
    """Open sessions by their tables: cases over the same ones share theirs."""
    opened: dict[str, Session] = {}
    yield opened
    for session in opened.values():
        session.close()


@pytest.mark.parametrize("case", list(_cases()))
def test_the_documented_answer(case: Case, sessions: dict[str, Session], tmp_path: Path) -> None:
    assert case.source.startswith("https://learn.microsoft.com/")
    shapes = {name: table.columns for name, table in case.tables.items()}
    key = repr((case.product, shapes, case.external))
    if key not in sessions:
        files = _files(case, tmp_path)
        sessions[key] = Session([], case.product, shapes, external=files)
    session = sessions[key]
    for name, table in case.tables.items():
        kinds = list(table.columns.items())
        session.put(
            name,
            [
                {column: _cell(cell, kind) for (column, kind), cell in zip(kinds, row, strict=True)}
                for row in table.rows
            ],
        )
    try:
        answer = session.ask(case.query, now=Instant.parse(case.now), window=EVER)
    except EngineRefused as problem:
        found = f"{problem.line}:{problem.column}: {problem.message} ({problem.hint})"
        assert case.error is not None, found
        assert case.error in found
        return
    assert case.error is None, f"answered {answer.rows}"
    unknown = "; ".join(session.unknown)
    assert (case.incomplete or "") in unknown
    assert case.incomplete or not unknown
    if case.columns is not None:
        assert answer.names == case.columns
    if case.rows is not None:
        kinds_of = [column.kql_type for column in answer.columns]
        rows = [[_plain(cell) for cell in row] for row in answer.rows]
        wanted = [
            [_plain(_cell(cell, kind)) for kind, cell in zip(kinds_of, row, strict=True)]
            for row in case.rows
        ]
        if not _is_sorted(case.query):
            rows, wanted = sorted(rows, key=_text), sorted(wanted, key=_text)
        assert len(rows) == len(wanted), rows
        assert all(map(_same, rows, wanted)), rows


def _is_sorted(query: str) -> bool:
    last = parse(query).query
    return isinstance(last, Pipeline) and keeps_order(last.operators)


def _files(case: Case, folder: Path) -> ExternalFiles:
    """The files that stand for addresses."""
    mapped = []
    for number, (address, text) in enumerate(case.external.items()):
        path = folder / f"{number}{Path(address).suffix}"
        path.write_text(text, encoding="utf-8")
        mapped.append(f"{address}={path}")
    return ExternalFiles(mapped)


def _cell(cell: Any, kind: str) -> Any:
    if cell is None:
        return None
    if kind == "datetime":
        return Instant.parse(str(cell))
    if kind == "timespan":
        return Timespan.parse(str(cell))
    return float(cell) if kind == "real" else cell


def _plain(cell: Any) -> Any:
    return None if cell == "" else to_json_value(cell)


def _text(row: list[Any]) -> str:
    return json.dumps(row, sort_keys=True, default=str)


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_same, left, right))
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, float) or isinstance(right, float):
        both = isinstance(left, (int, float)) and isinstance(right, (int, float))
        return both and math.isclose(left, right, rel_tol=1e-9, abs_tol=1e-12)
    return bool(left == right)
