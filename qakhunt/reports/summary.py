"""The verdict and the ledger in words, the same in every report."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qakhunt.answers.findings import findings_of_run
from qakhunt.answers.ledger import DeliveryLine, LedgerLine, Status, Verdict
from qakhunt.answers.run_result import customer
from qakhunt.triage.words import count, prose

if TYPE_CHECKING:
    from qakhunt.answers.run_result import RunResult
    from qakhunt.hunts.render import RenderedQuery

_WINDOW_NOTE = re.compile(r"window (\S+): (.*)", re.DOTALL)
"""The note of ``render`` on a window that nobody chose: the window, and the reason for it."""


def verdict_line(result: RunResult) -> str:
    """One sentence that says what may be said, and no more."""
    verdict, hits = result.verdict, len(result.hits)
    devices = len({(hit.profile, hit.device) for hit in result.hits if hit.device is not None})
    findings = len(findings_of_run(result))
    found = count(hits, "hit")
    if findings < hits:
        found = f"{count(findings, 'finding')} ({found})"
    found += f" on {count(devices, 'device')}" if devices else ""
    if result.known:
        known = len(result.known)
        of = f"{known} of them" if findings == hits else count(known, "hit")
        found += f", {of} reported before"
    if result.suppressed:
        found += f", {result.suppressed} suppressed"
    if verdict is Verdict.CLEAN:
        return f"CLEAN: no hits{_seen(result)}"
    if verdict is Verdict.HITS:
        return f"HITS: {found}"
    if verdict is Verdict.FAILED:
        return "FAILED: nothing answered"
    return (
        f"INCOMPLETE: {found if hits else 'no hits in what answered'}; not everything was looked at"
    )


def _seen(result: RunResult) -> str:
    sources = [line.source for line in result.ledger.lines if line.source]
    if not sources:
        return ""
    rows, devices = sum(s.rows for s in sources), result.ledger.devices or 0
    return f" in {count(rows, 'record')} of {count(devices, 'device')}"


def coverage_lines(result: RunResult) -> list[str]:
    """Each hunt's window and why it is that one, the counts, and every incomplete line."""
    reasons = {
        (line.hunt, found[1]): found[2]
        for line in result.ledger.lines
        for note in line.notes
        if (found := _WINDOW_NOTE.fullmatch(note))
    }
    lines = list(dict.fromkeys(_window_line(rendered, reasons) for rendered in result.rendered))
    statuses = Counter(line.status.value for line in result.ledger.lines)
    by_status = ", ".join(f"{number} {status}" for status, number in statuses.items())
    lines.append(f"{count(len(result.ledger.lines), 'query', 'queries')}: {by_status}")
    lines += dict.fromkeys(
        f"note: {line.hunt}: {prose(note)}"
        for line in result.ledger.lines
        for note in line.notes
        if not _WINDOW_NOTE.fullmatch(note)
    )
    return lines + [_fault(line) for line in faults(result)]


def _window_line(rendered: RenderedQuery, reasons: dict[tuple[str, str], str]) -> str:
    window = rendered.window
    reason = reasons.get((rendered.hunt.name, str(window)), "")
    line = f"{rendered.hunt.name}: {window.start} to {window.end} (UTC)"
    return f"{line}, {prose(reason)}" if reason else line


@dataclass(frozen=True)
class CoverageRow:
    """How completely one tenant answered; ``answers`` counts its queries by status in words.

    ``hits`` are those reported; ``source`` is what the coverage checks saw, if any ran;
    ``missing`` has each line that is not complete, or has something to note, in words.
    """

    tenant: str
    complete: bool
    answers: str
    hits: int
    source: str
    missing: tuple[tuple[str, str], ...]


def coverage_rows(result: RunResult) -> list[CoverageRow]:
    """One row per tenant, in the order of the ledger."""
    by_tenant: dict[str, list[LedgerLine]] = {}
    for line in result.ledger.lines:
        by_tenant.setdefault(customer(line), []).append(line)
    hits = Counter(customer(hit) for hit in result.hits)
    return [_coverage_row(lines, hits[tenant]) for tenant, lines in by_tenant.items()]


def _coverage_row(lines: list[LedgerLine], hits: int) -> CoverageRow:
    names = dict.fromkeys(line.label for line in lines)
    tenant = next(iter(names))
    if len(names) > 1:
        profiles = ", ".join(dict.fromkeys(line.profile for line in lines))
        tenant = f"{profiles} ({lines[0].tenant or count(len(names), 'workspace')})"
    statuses = Counter(line.status for line in lines)
    whole = set(statuses) == {Status.COMPLETE}
    by_status = [
        f"{number} {status.value.replace('_', ' ')}" for status, number in statuses.items()
    ]
    sources = [line.source for line in lines if line.source]
    rows, devices = sum(s.rows for s in sources), sum(s.devices for s in sources)
    source = f"{count(rows, 'record')}, {count(devices, 'device')}" if sources else ""
    missing = []
    for line in lines:
        said = [line.status.value.replace("_", " ")] if line.status is not Status.COMPLETE else []
        said += [prose(line.detail)] if line.detail else []
        said += [f"({prose(line.hint)})"] if line.hint else []
        said += line_notes(line)
        if said:
            where = f"{line.label}: " if len(names) > 1 else ""
            cut = "" if line.slice == "whole window" else f", {line.slice}"
            missing.append((f"{where}{line.hunt}{cut}", " ".join(said)))
    return CoverageRow(tenant, whole, ", ".join(by_status), hits, source, tuple(missing))


def line_notes(line: LedgerLine) -> list[str]:
    """What else a line says: gaps in its source records, and notes on its window."""
    gaps = [f"no records from {gap.start} to {gap.end}" for gap in line.gaps]
    return [*gaps, *map(prose, line.notes)]


def delivery_line(line: DeliveryLine) -> str:
    """What one sink was sent."""
    messages = count(line.messages, "message")
    text = (
        f"{line.sink}: {line.delivered} of {messages} delivered"
        if line.messages
        else (f"{line.sink}: nothing to deliver")
    )
    return f"{text}: {line.detail}" if line.detail else text


def faults(result: RunResult) -> list[LedgerLine]:
    """The ledger's lines that are not complete."""
    return [line for line in result.ledger.lines if line.status is not Status.COMPLETE]


def _fault(line: LedgerLine) -> str:
    text = f"{line.hunt} on {line.label}, {line.slice}: {line.status.value}"
    if line.detail:
        text += f": {prose(line.detail)}"
    text += "".join(f"; {note}" for note in line_notes(line) if not _WINDOW_NOTE.fullmatch(note))
    return f"{text} ({prose(line.hint)})" if line.hint else text


def one_window(result: RunResult) -> bool:
    """Whether all hunts looked at the same stretch of time."""
    return len({rendered.window for rendered in result.rendered}) == 1


def context_lines(result: RunResult) -> list[str]:
    """What was asked about the surroundings of the hits, and what did not answer."""
    if result.context is None:
        return []
    lines = result.context.ledger.lines
    statuses = Counter(line.status.value for line in lines)
    by_status = [f"{number} {status.replace('_', ' ')}" for status, number in statuses.items()]
    asked = f"context: {count(len(lines), 'query', 'queries')}"
    asked += f": {', '.join(by_status)}" if by_status else ""
    return [asked, *(_fault(line) for line in lines if line.status is not Status.COMPLETE)]
