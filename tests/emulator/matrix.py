"""The fault matrix: every fault, at both services, at the first, a middle and the last call.

``python -m tests.emulator.matrix`` prints it as a table and exits with 1 if a cell is
falsely clean; ``--fault NAME`` and ``--service NAME`` narrow it down, ``--full`` adds the
other kind of run for each position. Each cell is a whole run of three hunts through
the real backend and runner against the emulator; one call of it meets the fault (or,
where the fault is a state of the tenant, that call and all that follow). Waits take no
time.

Columns: what was hit (``rows``: a query with hits, ``empty``: one without, ``probe``:
the coverage check that follows an answer), the verdict, the exit code,
rows of the whole run, tries and seconds waited of the line that was hit, and what the
user reads of it.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from qakhunt.cli.run import exit_code
from qakhunt.hunts.loading import load_hunt
from qakhunt.hunts.render import render
from qakhunt.kql.values import Instant
from qakhunt.reports.console import show_account
from qakhunt.run.execution import RunOptions, execute
from qakhunt.run.live import targets_of
from qakhunt.run.plan import PlanLine
from qakhunt.testing.emulator.clock import SkippingClock
from qakhunt.testing.emulator.faults import FAULTS, QUERY_PATHS
from qakhunt.testing.emulator.scenario import FaultRule, Limits, Tenant
from qakhunt.testing.emulator.server import Emulator
from tests.emulator.live import EmulatedBackends, profile_for
from tests.emulator.support import guid, process_events, scenario_of, tenant_of, write_events

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from qakhunt.answers.ledger import LedgerLine
    from qakhunt.answers.run_result import RunResult
    from qakhunt.backends.base import Answer, Question
    from qakhunt.hunts.render import RenderedQuery

SERVICES = ("log-analytics", "defender", "kusto")
POSITIONS = ("first", "middle", "last")
HITS, QUIET = "hits", "quiet"
# The kind of run per position: without hits it may end in "clean". The last call is
# the coverage check of the last answer.
USUAL = {"first": QUIET, "middle": HITS, "last": QUIET}
HARMLESS = ("slow-drip", "large-body", "clock-skew", "unknown-member")
"""Faults under which the answer is whole and true all the same."""
NEED_ROWS = ("truncated", "short-rows", "long-rows", "negative-numbers", "text-numbers")
"""Faults that an empty answer cannot show; ``truncated`` nor the one row of a probe."""
STATES = ("no-source-rows", "aged-out", "wrong-workspace", "connector-stopped")
"""Faults that are a state of the tenant: they last from the call on."""
QUERY_FAULTS = tuple(name for name, fault in FAULTS.items() if {*fault.paths} & {*QUERY_PATHS})
PATHS = {"log-analytics": "query", "defender": "hunting", "kusto": "kusto"}

NOW = Instant.parse("2026-11-01T00:00:00Z")
WINDOW = "2026-10-02/2026-11-01"
WINDOWS = (WINDOW, *(f"2026-10-02T0{hour}:00:00Z/2026-11-01T00:00:00Z" for hour in (1, 2)))
"""Those of a run's three hunts, so that each has a coverage check of its own."""
OLD_WINDOW = "2026-09-27/2026-11-01"
"""It begins before what is kept 30 days."""
DAYS, DEVICES = 31, 4
ROW_LIMIT = 30
"""The row limit of both sides in the cells of ``truncated``; the query it hits has more."""

HUNT = """
name: {title}
qakhunt:
  window: {{start: StartTime, end: EndTime}}
  result: {{first_seen: FirstSeen, total: Count}}
query: |
  let StartTime = ago(30d);
  let EndTime = now();
  DeviceProcessEvents
  | where TimeGenerated >= StartTime and TimeGenerated < EndTime
  | where FileName == "{file}"
  | summarize Count = count(), FirstSeen = min(TimeGenerated) by DeviceName, {by}TenantId
"""
# A row per device, or per device and day; none of the third.
HUNTS = {
    "narrow": HUNT.format(title="Few rows", file="whoami.exe", by=""),
    "wide": HUNT.format(title="Many rows", file="whoami.exe", by="ProcessCommandLine, "),
    "quiet": HUNT.format(title="No rows", file="absent.exe", by=""),
}
NARROW_ROWS, WIDE_ROWS = DEVICES, (DAYS - 1) * DEVICES


@dataclass(frozen=True)
class Cell:
    """One run: which call of which kind of run meets which fault."""

    fault: str
    service: str
    variant: str
    position: str

    @property
    def call(self) -> int:
        """The number of the call that meets the fault."""
        numbers = (1, 3, 6) if self.probes else (1, 2, 3)
        return numbers[POSITIONS.index(self.position)]

    @property
    def probes(self) -> bool:
        """Whether each of the run's queries is followed by a probe."""
        return self.fault != "aged-out"

    @property
    def hunts(self) -> list[str]:
        """The three hunts of the run: the one that is hit has many rows."""
        if self.variant == QUIET:
            return ["quiet"] * 3
        return ["wide" if number == self.hunt else "narrow" for number in range(3)]

    @property
    def hunt(self) -> int:
        """Which of the three is hit, from 0."""
        return (self.call - 1) // 2 if self.probes else self.call - 1

    @property
    def windows(self) -> tuple[str, ...]:
        """What each of the hunts looks at."""
        return (OLD_WINDOW,) * 3 if self.fault == "aged-out" else WINDOWS

    def tenant(self, events: str) -> Tenant:
        """The customer of this cell alone."""
        limits = Limits(rows=ROW_LIMIT if self.fault == "truncated" else None)
        calls = f"{self.call}-" if self.fault in STATES else self.call
        seconds = 3 if self.fault == "refused" else None  # the back-off's third wait reaches it
        rule = FaultRule(fault=self.fault, calls=calls, seconds=seconds)
        return tenant_of(self.name, events, limits=limits, faults=(rule,))

    @property
    def name(self) -> str:
        return f"{self.fault}/{self.service}/{self.variant}/{self.position}"


@dataclass(frozen=True)
class Seen:
    """What came of a cell.

    ``hit`` is the kind of call that met the fault; ``line`` is the ledger's line that
    was hit, ``before`` and ``after`` the rest; ``text`` is all that the user reads.
    ``answers`` counts the whole and true answers that the emulator gave, ``questions``
    those that a run must have to say "clean".
    """

    hit: str
    verdict: str
    exit_code: int
    rows: int
    line: LedgerLine
    before: tuple[LedgerLine, ...]
    after: tuple[LedgerLine, ...]
    text: str
    answers: int
    questions: int

    @property
    def falsely_clean(self) -> bool:
        """Whether "clean" was said though something did not answer wholly."""
        return self.verdict == "clean" and self.answers < self.questions


def cells(
    faults: Sequence[str] = QUERY_FAULTS,
    services: Sequence[str] = SERVICES,
    *,
    full: bool = False,
) -> list[Cell]:
    """All cells of the matrix, or of a part of it."""
    return [
        Cell(fault, service, variant, position)
        for fault in faults
        for service in services
        if PATHS[service] in FAULTS[fault].paths
        for variant in (HITS, QUIET)
        for position in POSITIONS
        if full or variant == USUAL[position]
    ]


@cache
def rendered_hunt(kind: str, product: str, window: str = WINDOW) -> RenderedQuery:
    """One of the matrix's hunts, rendered."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{kind}.yaml"
        path.write_text(HUNTS[kind], encoding="utf-8")
        return render(load_hunt(path), now=NOW, product=product, window=window)


class InTurn:
    """A backend that is asked a hunt's query only when the hunt before it is settled.

    The number of a call then says which hunt it belongs to.
    """

    concurrency = 3  # two queries that wait, and what they wait for

    def __init__(self, inner: Any) -> None:
        self._inner, self._queries, self._lock = inner, 0, threading.Lock()
        self._settled = [threading.Event() for _ in range(3)]
        self._count = iter(self._settled)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def settled(self, *_line: Any) -> None:
        """The progress of the run."""
        next(self._count).set()

    def ask(self, question: Question) -> Answer:
        """As the backend answers, once it is its turn."""
        if "SourceRows" not in question.text:
            with self._lock:
                number, self._queries = self._queries, self._queries + 1
            if number:
                self._settled[number - 1].wait(60)
        answer: Answer = self._inner.ask(question)
        return answer


class Matrix:
    """An emulator with one tenant for each cell."""

    def __init__(self, emulator: Emulator, clock: SkippingClock) -> None:
        self._emulator, self._clock = emulator, clock

    def see(self, cell: Cell) -> Seen:
        """Run one cell."""
        tenant, workspace = guid("tenant", cell.name), guid("workspace", cell.name)
        profile = profile_for(
            self._emulator, cell.service, tenant, workspace, retention="30d",
            row_limit=ROW_LIMIT if cell.fault == "truncated" else None,
        )  # fmt: skip
        live = EmulatedBackends(self._emulator, self._clock, NOW)
        backend: Any = InTurn(live.open(profile))
        (target,) = targets_of(profile)
        try:
            plan = [
                PlanLine(rendered_hunt(kind, backend.product, window), backend, target)
                for kind, window in zip(cell.hunts, cell.windows, strict=True)
            ]
            result = execute(plan, RunOptions(backend.settled))
        finally:
            live.close()
            self._clock.skip(60)  # whoever refuses connections takes them again
        return self._seen(cell, tenant, result)

    def _seen(self, cell: Cell, tenant: str, result: RunResult) -> Seen:
        calls = [call for call in self._emulator.calls if call.tenant == tenant]
        struck = next(call for call in calls if call.fault == cell.fault)
        hit = "rows" if cell.variant == HITS else "empty"
        if "SourceRows" in struck.query:
            hit = "probe"
        number = cell.hunt
        lines = result.ledger.lines
        harmless: tuple[str, ...] = HARMLESS
        if hit != "rows":
            harmless += NEED_ROWS if hit == "empty" else ("truncated",)
        whole = [c for c in calls if c.status == 200 and c.fault in (None, *harmless)]
        return Seen(
            hit=hit,
            verdict=result.verdict.value,
            exit_code=exit_code(result, fail_on_hits=False),
            rows=sum(line.rows for line in lines),
            line=lines[number],
            before=tuple(lines[:number]),
            after=tuple(lines[number + 1 :]),
            text=_text(result),
            answers=len(whole),
            questions=6 if cell.probes else 3,
        )


def _text(result: RunResult) -> str:
    out = io.StringIO()
    show_account(result, Console(file=out, width=400, color_system=None, highlight=False))
    return out.getvalue()


@contextmanager
def opened(wanted: Sequence[Cell]) -> Iterator[Matrix]:
    """The matrix over an emulator that serves the wanted cells."""
    clock = SkippingClock(NOW.to_datetime().timestamp())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "DeviceProcessEvents.ndjson"
        events = write_events(path, process_events(DAYS, DEVICES))
        tenants = [cell.tenant(events) for cell in wanted]
        with Emulator(scenario_of(*tenants, now=NOW.isoformat()), clock=clock) as emulator:
            yield Matrix(emulator, clock)


def main() -> None:
    """Print the matrix."""
    parser = argparse.ArgumentParser(prog="python -m tests.emulator.matrix", description=__doc__)
    parser.add_argument("--fault", action="append", choices=QUERY_FAULTS)
    parser.add_argument("--service", action="append", choices=SERVICES)
    parser.add_argument("--full", action="store_true")
    options = parser.parse_args()
    wanted = cells(options.fault or QUERY_FAULTS, options.service or SERVICES, full=options.full)
    table = Table(box=None, pad_edge=False)
    for name in ("Fault", "Service", "Call", "Hit", "Verdict", "Exit", "Rows", "Tries", "Waited"):
        table.add_column(name, no_wrap=True)
    table.add_column("What the user reads")
    falsely_clean = 0
    with opened(wanted) as matrix:
        for cell in wanted:
            seen = matrix.see(cell)
            falsely_clean += seen.falsely_clean
            table.add_row(
                cell.fault, cell.service, cell.position, seen.hit, seen.verdict,
                str(seen.exit_code), str(seen.rows), str(seen.line.attempts),
                f"{sum(seen.line.waits):g} s" if seen.line.waits else "",
                f"{seen.line.status.value}: {seen.line.detail}" if seen.line.detail
                else seen.line.status.value,
            )  # fmt: skip
    Console(width=None if sys.stdout.isatty() else 200).print(table)
    print(f"{len(wanted)} cells, {falsely_clean} falsely clean")
    sys.exit(1 if falsely_clean else 0)


if __name__ == "__main__":
    main()
