"""What programs may rely on: the JSON of ``test``, ``lint``, ``diff`` and ``sweep``, as models.

The documents are made of them; each is shipped as a JSON Schema, ``data/<name>.schema.json``.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from qakhunt.answers.run_document import HitRecord, Record, WindowRecord


class _Strict(Record, forbid_unknown_fields=True):
    def plain(self) -> dict[str, Any]:
        """The document as plain JSON values."""
        return msgspec.to_builtins(self)  # type: ignore[no-any-return]


class Cell(_Strict):
    """A cell of a result that is not as expected, as text."""

    column: str
    expected: str
    found: str


class CaseDifference(_Strict):
    """One thing that differs; ``row`` counts expected rows from 1."""

    message: str
    row: int | None
    cells: list[Cell]


Reach = Literal["counted", "passed", "filtered", "unknown"]
CountedBy = Literal["both", "old", "new"]


class CaseEvent(_Strict):
    """An event of a case and how far it came in the query."""

    reach: Reach
    table: str
    cells: dict[str, Any]


class CaseOutcome(_Strict):
    """One case in one product."""

    hunt: str
    name: str
    file: str
    line: int
    product: str
    outcome: Literal["passed", "failed", "skipped"]
    seconds: float
    differences: list[CaseDifference]
    events: list[CaseEvent]


class TestDocument(_Strict):
    """``qakhunt test --json``."""

    schema: Literal["qakhunt.test/1"]
    passed: int
    failed: int
    skipped: int
    seconds: float
    cases: list[CaseOutcome]


class MutantOutcome(_Strict):
    """A change of a query; both None: no case notices and nobody says why."""

    mutant: str
    file: str
    line: int
    killed_by: str | None
    explained: str | None


class HuntMutants(_Strict):
    """All changes of one hunt; ``idle`` explanations explain nothing."""

    hunt: str
    mutants: list[MutantOutcome]
    idle: list[str]


class MutateDocument(_Strict):
    """``qakhunt test --mutate --json``."""

    schema: Literal["qakhunt.mutate/1"]
    hunts: list[HuntMutants]


class LintFinding(_Strict):
    """A finding; ``accepted`` is a suppression's reason."""

    code: str
    name: str
    severity: Literal["error", "warning", "note"]
    message: str
    mend: str
    fixable: bool
    accepted: str | None
    file: str
    line: int
    column: int
    end_line: int | None
    end_column: int | None


class MatrixEntry(_Strict):
    """An entry of a list and the recorded forms of known commands that match it."""

    entry: str
    life: Literal["alive", "dead", "unproven"]
    matched: list[str]
    meant: str | None


class LintMatrix(_Strict):
    """Entries by recorded forms, under one comparison of a hunt."""

    file: str
    column: str
    operator: str
    renderings: list[str]
    entries: list[MatrixEntry]


class ResultColumn(_Strict):
    """A column of a result and its KQL type."""

    name: str
    type: str


class LintResultColumns(_Strict):
    """The columns of a hunt's result in one product, where they are known."""

    file: str
    product: str
    columns: list[ResultColumn]


class LintDocument(_Strict):
    """``qakhunt hunts lint --json``."""

    schema: Literal["qakhunt.lint/1"]
    findings: list[LintFinding]
    matrices: list[LintMatrix]
    results: list[LintResultColumns]
    unchecked: list[str]


class DiffQuery(_Strict):
    """One side of a comparison."""

    name: str
    path: str
    parameters: dict[str, Any]
    window: WindowRecord
    hunt_hash: str
    query_hash: str


class DiffCounts(_Strict):
    """Hits of each side, and how they compare."""

    old: int
    new: int
    gained: int
    lost: int
    changed: int
    same: int


class DiffColumns(_Strict):
    """Columns that only one side has."""

    added: list[str]
    removed: list[str]


class DiffEvent(_Strict):
    """An event responsible for a hit, and which query counts it."""

    counted_by: CountedBy
    cells: dict[str, Any]


class DiffCell(_Strict):
    """A cell before and after."""

    old: Any
    new: Any


class DiffHit(HitRecord, kw_only=True):
    """A hit gained or lost, with the events responsible."""

    events: list[DiffEvent]
    events_complete: bool


class ChangedHit(_Strict):
    """A hit that both have, with other cells."""

    old: HitRecord
    new: HitRecord
    cells: dict[str, DiffCell]
    events: list[DiffEvent]
    events_complete: bool


class DiffDocument(_Strict):
    """``qakhunt diff --json``; ``unknown`` says what no kept record can tell."""

    schema: Literal["qakhunt.diff/1"]
    differs: bool
    old: DiffQuery
    new: DiffQuery
    product: str
    now: str
    counts: DiffCounts
    columns: DiffColumns
    gained: list[DiffHit]
    lost: list[DiffHit]
    changed: list[ChangedHit]
    unknown: list[str]


class SweepPoint(_Strict):
    """One value and what the hunt finds with it."""

    value: Any
    hits: int
    devices: int
    is_default: bool


class SweepDocument(_Strict):
    """``qakhunt sweep --json``."""

    schema: Literal["qakhunt.sweep/1"]
    hunt: str
    parameter: str
    points: list[SweepPoint]


DOCUMENTS: dict[str, type[msgspec.Struct]] = {
    "test": TestDocument,
    "mutate": MutateDocument,
    "lint": LintDocument,
    "diff": DiffDocument,
    "sweep": SweepDocument,
}
"""The stem of a schema's file -> the document it describes."""


def schema_of(name: str) -> dict[str, Any]:
    """The JSON Schema of a document; all of its keys are always written."""
    schema = msgspec.json.schema(DOCUMENTS[name])
    for part in schema["$defs"].values():
        part["required"] = list(part["properties"])
        for key in part["properties"].values():
            key.pop("default", None)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
