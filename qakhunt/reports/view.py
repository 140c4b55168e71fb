"""One view of a result, which the screen, Markdown, HTML and chat all show.

Texts are as recorded: each report makes them safe where it shows them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from qakhunt.answers.cells import to_json_value, to_text
from qakhunt.answers.findings import findings_of_run
from qakhunt.answers.hits import shows_commands
from qakhunt.answers.ledger import Verdict, target_label
from qakhunt.answers.table import unique_names
from qakhunt.kql.values import Instant
from qakhunt.reports.details import ReportDetails, clock
from qakhunt.reports.summary import coverage_rows, faults, problems, verdict_line
from qakhunt.triage.assessment import Kind, table_name
from qakhunt.triage.hit_report import hit_reports
from qakhunt.triage.process_tree import asides, branch, tree_rows
from qakhunt.triage.timeline import Moment, entries, gap_words
from qakhunt.triage.words import count, offset, prose, short_list, span

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from qakhunt.answers.hits import Hit
    from qakhunt.answers.run_result import RunResult
    from qakhunt.hunts.render import RenderedQuery
    from qakhunt.reports.summary import CoverageRow, Problem
    from qakhunt.triage.hit_report import HitReport
    from qakhunt.triage.process_tree import HitProcesses
    from qakhunt.triage.timeline import Entry

MOST_IN_FULL = 50
# A result with more columns than this is shown as one list per row.
MOST_COLUMNS = 8
_EXPLAINED = {
    Verdict.CLEAN: "Every query was answered completely, and nothing was found.",
    Verdict.HITS: "Every query was answered completely. What was found is below.",
    Verdict.INCOMPLETE: "Coverage is incomplete: what was not found may still be there.",
    Verdict.FAILED: "Nothing answered. This says nothing about the devices.",
}


def cut(text: str, limit: int) -> str:
    """The text, or its beginning and how long it is."""
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text):,} characters in all)"


def cell_text(cell: Any) -> str:
    """A cell to read: null is a dash, times are UTC, dynamic is JSON that can wrap."""
    if cell is None:
        return "-"
    if isinstance(cell, Instant):
        return clock(cell)
    value = to_json_value(cell)
    if isinstance(value, (list, dict)):
        return json.dumps(value, ensure_ascii=False)
    return to_text(cell)


@dataclass(frozen=True)
class HitView:
    """A hit and what every report says of it; ``cells`` are its columns, as text."""

    hit_report: HitReport
    place: str
    seen: str
    length: str
    cells: tuple[tuple[str, str], ...]

    @property
    def hit(self) -> Hit:
        """The hit itself."""
        return self.hit_report.hit

    @property
    def device(self) -> str:
        """The device, or that none is named."""
        return self.hit.device or "no device named"

    @property
    def title(self) -> str:
        """The assessment's title without its reservation."""
        return self.hit_report.assessment.title.partition(",")[0]


@dataclass(frozen=True)
class OwnTable:
    """Hits of a hunt without a mapping, as its own columns; ``rows`` keep their hit's number."""

    hunt: str
    title: str
    names: tuple[str, ...]
    rows: tuple[tuple[int, tuple[str, ...]], ...]

    @property
    def wide(self) -> bool:
        """Whether it has too many columns for a table."""
        return len(self.names) > MOST_COLUMNS

    def filled(self, cells: Sequence[str]) -> list[tuple[str, str]]:
        """The columns of one row that hold something."""
        return [(n, c) for n, c in zip(self.names, cells, strict=True) if c not in ("", "-")]


@dataclass(frozen=True)
class FindingView:
    """One finding: its hits that are shown, the worst first."""

    hits: tuple[HitView, ...]

    @property
    def worst(self) -> HitView:
        """The hit whose assessment is the most suspicious."""
        return self.hits[0]

    @property
    def hunts(self) -> tuple[str, ...]:
        """The hunts that agree on it."""
        return tuple(dict.fromkeys(view.hit.hunt for view in self.hits))

    @property
    def distinct(self) -> int | None:
        """The most distinct commands that one of its hits counts."""
        return max((v.hit.distinct for v in self.hits if v.hit.distinct is not None), default=None)


@dataclass(frozen=True)
class ReportView:
    """What a report holds, from the decision to the detail.

    ``steps`` follow from the result, ``hunt_steps`` are what the hunts advise. ``hits``
    have commands or events around them to show: those of ``rest`` in short, since their
    finding has a worse one; ``tables`` are the hits of hunts without a mapping.
    ``queries`` has each text once.
    """

    result: RunResult
    details: ReportDetails
    verdict: str
    explained: str
    coverage: tuple[CoverageRow, ...]
    problems: tuple[Problem, ...]
    findings: tuple[FindingView, ...]
    steps: tuple[str, ...]
    hunt_steps: tuple[str, ...]
    queries: tuple[RenderedQuery, ...]
    hits: tuple[HitView, ...]
    tables: tuple[OwnTable, ...]
    rest: tuple[HitView, ...]


def report_view(
    result: RunResult, details: ReportDetails | None = None, *, only_new: bool = False
) -> ReportView:
    """The view of a result; ``only_new`` leaves out what earlier runs reported."""
    details = details or ReportDetails()
    views, own = [], []
    for hit_report in hit_reports(result, details.portals):
        if only_new and hit_report.number - 1 in result.known:
            continue
        hunt = hit_report.rendered.hunt if hit_report.rendered else None
        if shows_commands(hunt, hit_report.hit.columns):
            views.append(_hit_view(hit_report))
        else:
            own.append(hit_report)
            if hit_report.moments:
                views.append(_hit_view(hit_report))
    tables = _own_tables(own)
    shown = {hit_report.number for hit_report in own}
    findings = _findings(result, [v for v in views if v.hit_report.number not in shown])
    further = {id(view) for finding in findings for view in finding.hits[1:]}
    full = [view for view in views if id(view) not in further]
    rest = full[MOST_IN_FULL:] + [view for view in views if id(view) in further]
    return ReportView(
        result, details, verdict_line(result), _EXPLAINED[result.verdict],
        tuple(coverage_rows(result)), tuple(problems(result.ledger.lines)), tuple(findings),
        tuple(_next_steps(result, findings, tables)), _hunt_steps(result),
        distinct(result.rendered), tuple(full[:MOST_IN_FULL]), tuple(tables), tuple(rest),
    )  # fmt: skip


def distinct(rendered: Iterable[RenderedQuery]) -> tuple[RenderedQuery, ...]:
    """Each text once, however many workspaces it was sent to."""
    return tuple({query.query_hash: query for query in rendered}.values())


def _hunt_steps(result: RunResult) -> tuple[str, ...]:
    """What the hunts that found something advise."""
    found = {hit.hunt for hit in result.hits}
    hunts = [query.hunt for query in result.rendered if query.hunt.name in found]
    return tuple(dict.fromkeys(prose(step) for hunt in hunts for step in hunt.notes.triage))


def suppressed_view(result: RunResult) -> ReportView:
    """The suppressed hits, as ``report_view`` shows the others."""
    hits = result.suppressed_hits
    return report_view(replace(result, hits=hits, known=frozenset(), context=None))


def _hit_view(hit_report: HitReport) -> HitView:
    hit = hit_report.hit
    length = "-"
    if hit.first_seen and hit.last_seen:
        length = span(hit.last_seen.since(hit.first_seen).seconds)
    return HitView(
        hit_report,
        target_label(hit.profile, hit.tenant, hit.tenant or hit.workspace),
        clock(hit.first_seen)[:19] if hit.first_seen else "-",
        length,
        tuple((name, cell_text(cell)) for name, cell in hit.row.items()),
    )


def _own_tables(found: Iterable[HitReport]) -> list[OwnTable]:
    groups: dict[tuple[str, tuple[str, ...]], list[HitReport]] = {}
    for hit_report in found:
        names = tuple(unique_names([column.name for column in hit_report.hit.columns]))
        groups.setdefault((hit_report.hit.hunt, names), []).append(hit_report)
    many = len({(d.hit.profile, d.hit.workspace) for group in groups.values() for d in group}) > 1
    tables = []
    for (hunt, names), group in groups.items():
        rendered = group[0].rendered
        lead = ("profile", "workspace") if many else ()
        rows = []
        for hit_report in group:
            hit = hit_report.hit
            where = (hit.profile, hit.workspace or "-") if many else ()
            rows.append((hit_report.number, (*where, *map(cell_text, hit.cells))))
        title = rendered.hunt.title if rendered else hunt
        tables.append(OwnTable(hunt, title, (*lead, *names), tuple(rows)))
    return tables


def _findings(result: RunResult, views: Iterable[HitView]) -> list[FindingView]:
    """The findings whose hits are shown, the most suspicious first."""
    by_position = {view.hit_report.number - 1: view for view in views}
    found = []
    for finding in findings_of_run(result):
        shown = [by_position[at] for at in finding.positions if at in by_position]
        if shown:
            shown.sort(key=lambda view: (_rank(view), view.hit_report.number))
            found.append(FindingView(tuple(shown)))
    return sorted(found, key=_suspicion)


def _rank(view: HitView) -> int:
    return view.hit_report.assessment.kind.rank


def _suspicion(finding: FindingView) -> tuple[int, int, int, int]:
    """The most suspicious first; then what more hunts agree on, then more commands."""
    worst = finding.worst
    return _rank(worst), -len(finding.hunts), -(finding.distinct or 0), worst.hit_report.number


def _next_steps(
    result: RunResult, findings: Sequence[FindingView], tables: Sequence[OwnTable]
) -> Iterator[str]:
    missing = faults(result)
    if missing:
        hints = list(dict.fromkeys(prose(line.hint) for line in missing if line.hint))
        advice = f" ({'; '.join(hints[:2])})" if hints else ""
        number = count(len(missing), "query", "queries")
        yield f"Complete the coverage: {number} without a complete answer{advice}."
    by_kind: dict[Kind, list[HitView]] = {}
    for finding in findings:
        by_kind.setdefault(finding.worst.hit_report.assessment.kind, []).append(finding.worst)
    for kind, views in by_kind.items():
        yield _step(kind, views, fetched=result.context is not None)
    for table in tables:
        yield f"Review {count(len(table.rows), 'row')} of {table.hunt}."
    if result.verdict is Verdict.CLEAN:
        yield "Nothing to follow up. Keep this result as the record of what was covered."


def _step(kind: Kind, views: Sequence[HitView], *, fetched: bool) -> str:
    devices = short_list(list(dict.fromkeys(view.device for view in views)))
    if kind.malware:
        accounts = list(dict.fromkeys(view.hit.account for view in views if view.hit.account))
        reset = f" and reset {short_list(accounts)}" if accounts else ""
        return (
            f"Start with {devices}: confirm it on the device timeline; if confirmed, isolate "
            f"the device{reset}."
        )
    if kind is Kind.UNCLEAR and fetched:
        return f"Review {devices} by hand: the evidence does not decide."
    if kind is Kind.UNCLEAR:
        return (
            f"Fetch the events around {devices}: --context 30m adds timeline, process tree and "
            "rarity."
        )
    return (
        f"Ask the owner of {devices} whether this is expected; 'qakhunt suppress add' keeps it "
        "out of later runs."
    )


@dataclass(frozen=True)
class TimelineRow:
    """One row of the timeline; ``kind`` is ``gap`` for a folded or quiet time range."""

    kind: str
    look: str = ""
    offset: str = ""
    time: str = ""
    local: str = ""
    what: str = ""
    by: str = ""
    family: str = ""

    @property
    def mark(self) -> str:
        """``*`` for the hit's commands, ``o`` for those that the hunt does not count."""
        return {"own": "*", "uncounted": "o"}.get(self.look, "")


def timeline(
    hit_report: HitReport, details: ReportDetails, *, fold: bool, most: int | None = None
) -> tuple[list[TimelineRow], int]:
    """The rows of the timeline and how many are left out; folded too where over ``most``."""
    shown = entries(hit_report.moments, fold=fold)
    if most is not None and len(shown) > most:
        shown = entries(hit_report.moments, fold=True)
    rows = [_timeline_row(entry, details) for entry in shown[:most]]
    return rows, len(shown) - len(rows)


def _timeline_row(entry: Entry, details: ReportDetails) -> TimelineRow:
    if not isinstance(entry, Moment):
        return TimelineRow("gap", what=gap_words(entry))
    event = entry.event
    return TimelineRow(
        kind=event.kind,
        look=entry.look,
        offset=offset(entry.offset),
        time=event.at.isoformat()[11:23],
        local=details.local(event.at)[11:],
        what=event.what,
        by=event.issuer.file if event.issuer and event.kind != "process" else "",
        family=event.command.family or "" if event.command else "",
    )


@dataclass(frozen=True)
class TreeLine:
    """One process of the tree: its rails, what it is, and what else there is to say."""

    branch: str
    look: str
    mark: str
    name: str
    more: str
    said: str


def tree_lines(processes: HitProcesses) -> Iterator[TreeLine]:
    """The process tree, one line per process; ``*`` and ``o`` mark commands as elsewhere."""
    for row in tree_rows(processes):
        if row.node is None:
            yield TreeLine(branch(row), "more", "", f"... {row.hidden:,} more", "", "")
            continue
        process = row.node.process
        name = process.file or "unnamed process"
        if process.id is not None:
            name += f" ({process.id})"
        line = "" if process.line.casefold() == process.file.casefold() else process.line
        said = "".join(f"  [{aside}]" for aside in asides(row.node, row.role))
        mark, look = "", row.role
        if row.role == "command":
            mark, look = ("*", "own") if row.own else ("o", "uncounted")
            name, line = (line, name) if line else (name, "")
        yield TreeLine(branch(row), look, mark, name, line, said)


def table_words(hit_report: HitReport) -> list[tuple[str, str]]:
    """What each table held about the hit, in words."""
    said = []
    for answer in hit_report.context.tables if hit_report.context else ():
        words = f"{answer.found:,}"
        if answer.kept < answer.found:
            words = f"the nearest {answer.kept:,} of {answer.found:,}"
        if answer.status.value != "complete":
            words = answer.detail or answer.status.value.replace("_", " ")
        said.append((table_name(answer.table), words))
    return said
