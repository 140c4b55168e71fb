"""Collects what surrounded the hits of a run, with hunts like any other.

Two rounds for each tenant and workspace, each of one query per table over all its
hits: first the processes, then, knowing which process issued the commands, everything
else. Every query has its line in the context's ledger.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from qakhunt.answers.cells import to_json_value
from qakhunt.answers.ledger import LedgerLine, Status
from qakhunt.answers.run_result import (
    ANCESTORS_HUNT,
    PROCESSES,
    RARITY_HUNT,
    TABLE_HUNTS,
    TIMELINE_HUNT,
    Context,
    ContextQuery,
    HitContext,
    Rarity,
    Record,
    TableAnswer,
)
from qakhunt.hunts.catalog import Catalog
from qakhunt.hunts.render import render
from qakhunt.kql.values import TICKS_PER_DAY, Timespan, Window
from qakhunt.run.execution import RunOptions, execute
from qakhunt.run.plan import PlanLine
from qakhunt.triage.process_tree import core_families, issuing_processes, unknown_ancestors
from qakhunt.triage.time_ranges import TimeRange, earlier, hull, parameter, time_ranges
from qakhunt.triage.words import count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from qakhunt.answers.hits import Hit
    from qakhunt.answers.run_result import RunResult
    from qakhunt.hunts.render import RenderedQuery

    Progress = Callable[[PlanLine, LedgerLine], None]
    _Key = tuple[str, str, str | None, str | None]

_ANCESTRY = Timespan(30 * TICKS_PER_DAY)
_MOST_HASHES, _MOST_ANCESTORS = 200, 2000


@dataclass
class _Case:
    """One hit on its way to a context."""

    number: int
    hit: Hit
    device: str
    time_ranges: tuple[TimeRange, ...]
    context: HitContext


@dataclass
class _Group:
    """The cases of one target: what one query can ask for."""

    line: PlanLine
    cases: list[_Case]

    @property
    def devices(self) -> list[str]:
        # In the order of the hits: a recording under pseudonyms asks the same text.
        return list(dict.fromkeys(case.device for case in self.cases))

    @property
    def window(self) -> Window:
        return hull([s.window for case in self.cases for s in case.time_ranges])


def collect(
    result: RunResult,
    plan: Sequence[PlanLine],
    *,
    around: Timespan,
    limit: int,
    only: int | None = None,
    progress: Progress | None = None,
) -> None:
    """Collect the context of the first ``limit`` hits into ``result.context``.

    ``plan`` is what the result came from: each hit is asked about where it was found.
    ``only`` asks about one hit alone, by its number from 1. Hits that are not asked
    about, and those without a device or a time, say so.
    """
    context = Context(around, limit if only is None else 1)
    result.context = context
    asked = range(len(result.hits))[:limit] if only is None else range(only - 1, only)
    groups = _groups(result, plan, context, asked)
    asker = _Asker(result, context, progress)
    asker.round([(group, _timeline(group)) for group in groups], _take_table)
    second = [(group, request) for group in groups for request in _everything_else(group)]
    asker.round(second, _take_rest)
    for group in groups:
        for case in group.cases:
            context.hits[case.number] = case.context
    _account_for_the_rest(result, plan, context, asked)


def _groups(
    result: RunResult, plan: Sequence[PlanLine], context: Context, asked: range
) -> list[_Group]:
    groups: dict[int, _Group] = {}
    for number in asked:
        hit = result.hits[number]
        line = _line_of(hit, plan)
        found = time_ranges(hit, context.around, result.now)
        if line is None or not hit.device or not found:
            context.hits[number] = HitContext(missing=_why_not(hit, line))
            continue
        looked = tuple(time_range.window for time_range in found)
        case = _Case(number, hit, hit.device, found, HitContext(looked))
        at = next(i for i, other in enumerate(plan) if _same_place(other, line))
        groups.setdefault(at, _Group(line, [])).cases.append(case)
    return list(groups.values())


def _same_place(one: PlanLine, other: PlanLine) -> bool:
    return one.backend is other.backend and one.target == other.target


def _line_of(hit: Hit, plan: Sequence[PlanLine]) -> PlanLine | None:
    for line in plan:
        target = line.target
        if (line.rendered.hunt.name, target.profile, target.tenant) != (
            hit.hunt, hit.profile, hit.tenant,
        ):  # fmt: skip
            continue
        if target.workspace in (None, hit.workspace):
            return line
    return None


def _why_not(hit: Hit, line: PlanLine | None) -> str:
    if line is None:
        return "nobody is there to ask about it"
    return "the hit names no device" if not hit.device else "the hit has no time to look around"


@dataclass(frozen=True)
class _Request:
    """A context hunt with its parameters, for one group."""

    hunt: str
    table: str
    window: Window
    parameters: dict[str, Any]


def _timeline(group: _Group) -> _Request:
    return _Request(TIMELINE_HUNT, PROCESSES, group.window, _around(group, group.cases, only=True))


def _around(group: _Group, cases: Iterable[_Case], *, only: bool) -> dict[str, Any]:
    return {
        "Devices": group.devices,
        "Around": [
            parameter(case.number + 1, case.device, time_range)
            for case in cases
            for time_range in case.time_ranges
            if only or not time_range.only
        ],
    }


def _everything_else(group: _Group) -> list[_Request]:
    issuers = dict.fromkeys(
        process.file.lower()
        for case in group.cases
        for process in issuing_processes(case.hit, case.context)
        if process.file
    )
    shared = {**_around(group, group.cases, only=False), "Issuers": list(issuers)}
    requests = [
        _Request(hunt, table, group.window, dict(shared)) for table, hunt in TABLE_HUNTS.items()
    ]
    for request in requests:
        if request.table == "AlertEvidence":
            del request.parameters["Issuers"]
    ancestors = _ancestors(group)
    if ancestors:
        window = Window(earlier(group.window.start, _ANCESTRY), group.window.end)
        wanted = {"Devices": group.devices, "Ancestors": ancestors}
        requests.append(_Request(ANCESTORS_HUNT, PROCESSES, window, wanted))
    requests.append(_Request(RARITY_HUNT, PROCESSES, group.line.rendered.window, _rarity(group)))
    return requests


def _ancestors(group: _Group) -> list[dict[str, Any]]:
    found = [
        {
            "Hit": case.number + 1,
            "Device": case.device,
            "ProcessId": process.id,
            "Created": process.started.isoformat(),
        }
        for case in group.cases
        for process in unknown_ancestors(case.hit, case.context)
        if process.started is not None
    ]
    return found[:_MOST_ANCESTORS]


def _rarity(group: _Group) -> dict[str, Any]:
    issuers: dict[str, None] = {}
    hashes: dict[str, None] = {}
    sets = []
    for case in group.cases:
        for process in issuing_processes(case.hit, case.context):
            issuers[process.file.lower()] = None
            hashes[process.sha256.lower()] = None
        families = sorted(core_families(case.hit, case.context))
        sets += [
            {"Set": str(case.number + 1), "Size": len(families), "Family": family}
            for family in families
        ]
    return {
        "Issuers": [name for name in issuers if name],
        "Hashes": [value for value in hashes if value][:_MOST_HASHES],
        "FamilySets": sets,
    }


class _Asker:
    """Renders requests, runs them as one plan, and hands the rows back."""

    def __init__(self, result: RunResult, context: Context, progress: Progress | None) -> None:
        self.result = result
        self.context = context
        self.progress = progress
        self.hunts = {hunt.name: hunt for hunt in Catalog().find("context")}
        self.interrupted = False

    def round(
        self,
        requests: Sequence[tuple[_Group, _Request]],
        take: Callable[[_Group, _Request, LedgerLine, list[Record]], None],
    ) -> None:
        """Ask all requests at once and give each its answer."""
        if not requests:
            return
        lines = [self._plan_line(group, request) for group, request in requests]
        answers: dict[_Key, list[LedgerLine]] = {}
        rows: dict[_Key, list[Record]] = {}
        if self.interrupted:
            answers = {_line_key(line): [_not_run(line, "interrupted")] for line in lines}
        else:
            outcome = execute(lines, RunOptions(self.progress))
            self.interrupted = outcome.interrupted
            self.result.interrupted |= outcome.interrupted
            for entry in outcome.ledger.lines:
                answers.setdefault(_key(entry), []).append(entry)
            for hit in outcome.hits:
                for key in _keys(hit, answers):
                    rows.setdefault(key, []).append(_plain(hit.row))
        for (group, request), line in zip(requests, lines, strict=True):
            self.context.queries.append(ContextQuery(line.rendered, line.target))
            entries = answers[_line_key(line)]
            self.context.ledger.lines += entries
            take(group, request, _worst(entries), rows.get(_line_key(line), []))

    def _plan_line(self, group: _Group, request: _Request) -> PlanLine:
        backend, target = group.line.backend, group.line.target
        rendered = self._rendered(request, backend.product)
        return PlanLine(rendered, backend, target, gaps_count=False)

    def _rendered(self, request: _Request, product: str) -> RenderedQuery:
        return render(
            self.hunts[request.hunt], now=self.result.now, product=product,
            parameters=request.parameters, window=request.window,
        )  # fmt: skip


def _key(source: LedgerLine | Hit) -> _Key:
    return source.hunt, source.profile, source.tenant, source.workspace


def _keys(hit: Hit, known: Iterable[_Key]) -> list[_Key]:
    """Who answered a row: the place that it came from, and those that said the very same."""
    own = _key(hit)
    same = [
        key
        for key in known
        if key != own and (key[0], key[2]) == (own[0], own[2]) and (key[3] or key[1]) in hit.also_in
    ]
    return [own, *same]


def _line_key(line: PlanLine) -> _Key:
    """The key of a context hunt's answers: its name and its target."""
    target = line.target
    return line.rendered.hunt.name, target.profile, target.tenant, target.workspace


def _worst(entries: Sequence[LedgerLine]) -> LedgerLine:
    """The entry that answered least; slices of one question are one answer here."""
    return next((entry for entry in entries if entry.status is not Status.COMPLETE), entries[0])


def _not_run(line: PlanLine, detail: str) -> LedgerLine:
    rendered, target = line.rendered, line.target
    return LedgerLine(
        rendered.hunt.name, target.profile, target.tenant, target.workspace, "whole window",
        rendered.window, line.backend.name, rendered.query_hash, Status.NOT_RUN, detail=detail,
    )  # fmt: skip


def _plain(row: dict[str, Any]) -> Record:
    return {name: to_json_value(cell) for name, cell in row.items()}


def _take_rest(group: _Group, request: _Request, answer: LedgerLine, rows: list[Record]) -> None:
    if request.hunt == RARITY_HUNT:
        _take_rarity(group, request, answer, rows)
    elif request.hunt == ANCESTORS_HUNT:
        by_hit = _by_hit(rows)
        for case in group.cases:
            found = tuple(by_hit.get(case.number + 1, ()))
            case.context = replace(case.context, ancestors=found)
    else:
        _take_table(group, request, answer, rows)


def _by_hit(rows: Iterable[Record]) -> dict[int, list[Record]]:
    found: dict[int, list[Record]] = {}
    for row in rows:
        number = row.pop("Hit", None)
        if isinstance(number, int):
            found.setdefault(number, []).append(row)
    return found


def _take_table(group: _Group, request: _Request, answer: LedgerLine, rows: list[Record]) -> None:
    by_hit = _by_hit(rows)
    detail = answer.detail if answer.status is not Status.COMPLETE else ""
    for case in group.cases:
        records = by_hit.get(case.number + 1, [])
        counts = [record.pop("Found", None) for record in records]
        found = max((c for c in counts if isinstance(c, int)), default=len(records))
        found_there = TableAnswer(
            request.table, request.hunt, answer.status, found, len(records), detail
        )
        case.context = replace(
            case.context,
            tables=(*case.context.tables, found_there),
            records={**case.context.records, request.table: records},
        )


def _take_rarity(group: _Group, request: _Request, answer: LedgerLine, rows: list[Record]) -> None:
    counted = [
        Rarity(str(row["Kind"]), str(row["Value"]), row["Devices"], row["Accounts"], row["Days"])
        for row in sorted(rows, key=lambda row: (str(row["Kind"]), str(row["Value"])))
    ]
    for case in group.cases:
        issuers = issuing_processes(case.hit, case.context)
        wanted = {("issuer", process.file.lower()) for process in issuers}
        wanted |= {("hash", process.sha256.lower()) for process in issuers}
        wanted.add(("families", str(case.number + 1)))
        case.context = replace(
            case.context,
            rarity=tuple(r for r in counted if (r.kind, r.value) in wanted),
            rarity_window=request.window,
            rarity_detail="" if answer.status is Status.COMPLETE else answer.detail,
        )


def _account_for_the_rest(
    result: RunResult, plan: Sequence[PlanLine], context: Context, asked: range
) -> None:
    """A ``not_run`` line for each place whose hits were not asked about."""
    only = f"only hit {asked[0] + 1}" if len(asked) == 1 else f"only the first {len(asked)} hits"
    beyond: dict[int, int] = {}
    for number, hit in enumerate(result.hits):
        if number in asked:
            continue
        context.hits[number] = HitContext(missing=f"it was not asked for, {only}")
        line = _line_of(hit, plan)
        if line is not None:
            at = next(i for i, other in enumerate(plan) if _same_place(other, line))
            beyond[at] = beyond.get(at, 0) + 1
    for at, hits in beyond.items():
        detail = f"what surrounded {count(hits, 'hit')} was not asked for, {only}"
        entry = _not_run(plan[at], detail)
        context.ledger.lines.append(replace(entry, hunt=TIMELINE_HUNT, query_hash=""))
