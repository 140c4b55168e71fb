"""The fault matrix, cell by cell: verdict, exit code, rows, tries, waits and words.

What each fault comes to stands in ``EXPECTED``; ``python -m tests.emulator.matrix``
prints what it came to.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from qakhunt.answers.ledger import Status
from tests.emulator.matrix import (
    HITS,
    NARROW_ROWS,
    POSITIONS,
    QUERY_FAULTS,
    ROW_LIMIT,
    STATES,
    WIDE_ROWS,
    Cell,
    Matrix,
    Seen,
    cells,
    opened,
)  # fmt: skip

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Expected:
    """What becomes of the line that is hit.

    ``words`` and ``hint`` are read by the user; ``waits`` are the least and most
    seconds before each further try, so that there is one more try than waits;
    ``rows`` are those of the wide query that are kept.
    """

    status: Status = Status.COMPLETE
    words: str = ""
    hint: str = ""
    waits: tuple[tuple[float, float], ...] = ()
    renewed: bool = False
    rows: int = WIDE_ROWS


def fails(words: str, hint: str = "") -> Expected:
    return Expected(Status.FAILED, words, hint, rows=0)


def partial(words: str, rows: int = WIDE_ROWS) -> Expected:
    return Expected(Status.PARTIAL, words, rows=rows)


ONCE_MORE = Expected(waits=((0.5, 1),))
WAITS_TEN = Expected(waits=((10, 10),))
NO_MORE_ROWS = "holds no records in the window"

# The most specific of FAULT/SERVICE/HIT, FAULT/HIT, FAULT/SERVICE and FAULT counts.
EXPECTED = {
    "syntax-error/log-analytics": fails("could not be parsed at 'where' on line [1,1]"),
    "syntax-error/defender": fails("'where' could not be parsed at line 1, position 1"),
    "syntax-error/kusto": fails("could not be parsed at 'where' [line:position=1:1]"),
    "semantic-error": fails("named 'Nonesuch'"),
    "unauthorized": Expected(renewed=True),
    "token-expired": Expected(renewed=True),
    "forbidden/log-analytics": fails("no permission to read this workspace", "Log Analytics Reader"),
    "forbidden/kusto": fails("no permission to read this workspace", "Log Analytics Reader"),
    "forbidden/defender": fails("no permission to hunt in this tenant", "ThreatHunting.Read.All"),
    "not-found/log-analytics": fails("no such workspace", "check the workspace id"),
    "not-found/kusto": fails("no such workspace in the data lake", "NAME-GUID"),
    "not-found/defender": fails("no advanced hunting here", "have Microsoft Defender"),
    "request-timeout": ONCE_MORE,
    "throttled": WAITS_TEN,
    "throttled-date": WAITS_TEN,
    "throttled-milliseconds": WAITS_TEN,
    "throttled-bare": Expected(waits=((2, 4),)),
    "throttled-in-words": WAITS_TEN,
    "throttled-until": Expected(waits=((10, 11),)),
    "no-time-scope": Expected(renewed=True),
    "unknown-table": replace(fails("the data lake has no table DeviceProcessEvents"),
                             status=Status.UNCOVERED),
    "has-errors": partial("some partitions did not answer"),
    "cancelled": partial("the service cancelled the query"),
    "no-completion": partial("it has no completion frame"),
    "server-error": ONCE_MORE,
    "bad-gateway": ONCE_MORE,
    "unavailable": ONCE_MORE,
    "gateway-timeout": fails("takes more than the service allows", "shorter window"),
    "refused": Expected(waits=((0.5, 1), (1, 2), (2, 4))),
    "reset-before": ONCE_MORE,
    "reset-during": ONCE_MORE,
    "cut-body": ONCE_MORE,
    "slow-drip": Expected(),
    "length-too-long": ONCE_MORE,
    "length-too-short": ONCE_MORE,
    "empty-body": fails("the answer has no body"),
    "no-content": replace(fails("no data at all", "data connector"), status=Status.UNCOVERED),
    "partial": Expected(Status.TRUNCATED, "exceed the set limit of 64000000 bytes", "--slice",
                        rows=WIDE_ROWS // 2),
    "truncated/rows": Expected(Status.TRUNCATED, f"limit of {ROW_LIMIT} rows", rows=ROW_LIMIT),
    "truncated": Expected(),
    "wrong-workspace/rows": Expected(Status.PARTIAL, "answered instead", "permissions on it"),
    "wrong-workspace": Expected(Status.UNCOVERED, "answered instead", "permissions on it"),
    "invalid-utf8": fails("the answer has no"),
    "invalid-utf8/rows": Expected(Status.PARTIAL, "not UTF-8"),
    "invalid-utf8/kusto/probe": fails("is not a value of type datetime"),
    "invalid-utf8/log-analytics/probe": fails("is not a value of type datetime"),
    "invalid-utf8/defender/probe": fails("not UTF-8"),
    "large-body": Expected(),
    "no-source-rows": replace(fails(NO_MORE_ROWS, "data connector"), status=Status.UNCOVERED),
    "aged-out/log-analytics": Expected(Status.UNCOVERED, "nothing before 2026-10-02", "retention"),
    "aged-out/kusto": Expected(Status.UNCOVERED, "nothing before 2026-10-02", "retention"),
    "aged-out/defender": Expected(Status.UNCOVERED, "Defender keeps 30 days", "Log Analytics"),
    "connector-stopped": Expected(
        Status.UNCOVERED, "holds no records from 2026-10-17 08:03 to 2026-10-31 23:00 UTC (15 days)",
        "data connector", rows=16 * 4),
    "second-table": partial("2 tables ('PrimaryResult', 'SecondaryResult')", rows=0),
    "same-table-twice": partial("2 tables ('PrimaryResult', 'PrimaryResult')"),
    "no-table": partial("the answer has no table", rows=0),
    **{f"rows-{kind}/{service}": fails("the rows of the answer are not a list")
       for kind in ("null", "object", "text", "false") for service in ("log-analytics", "kusto")},
    **{f"rows-{kind}/defender": fails("the answer has no schema and results")
       for kind in ("null", "object", "text", "false")},
    "no-columns": fails("the answer has no columns"),
    "other-columns": partial("the answer lacks Count, FirstSeen"),
    "other-columns/probe": partial("answered the coverage check with SourceRows is None"),
    "twin-columns": partial("several columns are called"),
    "short-rows": partial("rows are shorter than the columns"),
    "short-rows/empty": Expected(),
    "long-rows/empty": Expected(),
    "long-rows/log-analytics": fails("does not fit its columns"),
    "long-rows/kusto": fails("does not fit its columns"),
    "long-rows/defender": partial("rows hold what the schema does not name: Extra"),
    "negative-numbers": Expected(),
    "negative-numbers/probe": partial("SourceRows is -1, which is no count"),
    "text-numbers": fails("'abc' is not a value of type long"),
    "text-numbers/empty": Expected(),
    "next-link": partial("more than this answer holds (@odata.nextLink)"),
    "next-link-plain": partial("more than this answer holds (nextLink)"),
    "error-capital": partial("some partitions did not answer"),
    "error-list": partial("some partitions did not answer"),
    "warnings": partial("some partitions did not answer"),
    "unknown-member": Expected(),
    "clock-skew": Expected(),
}  # fmt: skip


def expected_of(cell: Cell, seen: Seen) -> Expected:
    keys = (
        f"{cell.fault}/{cell.service}/{seen.hit}", f"{cell.fault}/{seen.hit}",
        f"{cell.fault}/{cell.service}", cell.fault,
    )  # fmt: skip
    return next(EXPECTED[key] for key in keys if key in EXPECTED)


@pytest.fixture(scope="module")
def matrix() -> Iterator[Matrix]:
    with opened(cells()) as served:
        yield served


def test_every_fault_is_in_the_matrix() -> None:
    assert {key.partition("/")[0] for key in EXPECTED} == set(QUERY_FAULTS)


def _chosen(fault: str) -> list[Cell]:
    """Every cell in CI; else all calls to one service in turn, and one call to each other."""
    every = cells([fault])
    if os.environ.get("QAKHUNT_REQUIRE_PROGRAMS"):
        return every
    if fault == "large-body":  # 60 MB for each call
        every = [cell for cell in every if cell.service == "log-analytics"]
    services = list(dict.fromkeys(cell.service for cell in every))
    number = sorted(QUERY_FAULTS).index(fault)
    turn, position = services[number % len(services)], POSITIONS[number % len(POSITIONS)]
    return [cell for cell in every if cell.service == turn or cell.position == position]


@pytest.mark.parametrize("fault", QUERY_FAULTS)
def test_fault(matrix: Matrix, fault: str) -> None:
    hits = set()
    for cell in _chosen(fault):
        seen = matrix.see(cell)
        hits.add(seen.hit)
        _check(cell, seen, expected_of(cell, seen))
    assert hits == ({"empty", "rows"} if fault == "aged-out" else {"empty", "rows", "probe"})


def _check(cell: Cell, seen: Seen, expected: Expected) -> None:
    assert not seen.falsely_clean
    assert seen.answers <= seen.questions, "something was sent again after it answered"
    _check_line(cell, seen, expected)
    _check_others(cell, seen, expected)
    whole = expected.status is Status.COMPLETE
    baseline = "hits" if cell.variant == HITS else "clean"
    assert seen.verdict == (baseline if whole else "incomplete")
    assert seen.exit_code == (0 if whole else 4)
    assert f"\n{seen.verdict.upper()}: " in f"\n{seen.text}"
    for words in (expected.words, expected.hint):
        assert words in seen.text


def _check_line(cell: Cell, seen: Seen, expected: Expected) -> None:
    line = seen.line
    if seen.hit == "probe" and expected.status is not Status.COMPLETE:
        assert line.status is Status.UNCOVERED
    else:
        assert line.status is expected.status
    assert expected.words in line.detail
    assert len(line.waits) == len(expected.waits)
    for wait, (least, most) in zip(line.waits, expected.waits, strict=True):
        assert least <= wait <= most
    asked = 1
    if seen.hit == "probe" or (cell.probes and expected.status is Status.COMPLETE):
        asked = 2
    lasting = ("no-source-rows", "connector-stopped")
    if cell.fault in lasting or (cell.fault == "wrong-workspace" and seen.hit == "empty"):
        asked = 2  # the answer is checked, and the check meets the same fault
    assert line.attempts == asked + len(expected.waits) + expected.renewed
    assert len(line.request_ids) == line.attempts
    assert line.rows == (expected.rows if seen.hit == "rows" else 0)


def _check_others(cell: Cell, seen: Seen, expected: Expected) -> None:
    """One line's failure never touches another."""
    lasting = cell.fault in STATES
    others = seen.before + (() if lasting else seen.after)
    if cell.fault == "aged-out":
        others = ()  # the window is too old for every line
    for line in others:
        assert (line.status, line.detail) == (Status.COMPLETE, "")
        assert line.rows == (NARROW_ROWS if cell.variant == HITS else 0)
    if lasting:
        assert all(line.status is expected.status for line in seen.after)
