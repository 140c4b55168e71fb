"""The verdict and the ledger in words, the same in every report."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from qakhunt.answers.findings import findings_of_run
from qakhunt.answers.ledger import ANSWERED, DeliveryLine, LedgerLine, Status, Verdict
from qakhunt.answers.run_result import customer
from qakhunt.triage.words import count, prose, short_list

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from qakhunt.answers.run_result import RunResult

WHOLE_WINDOW = "whole window"
MOST_NAMES = 12
# Not a status ("HTTP 503") and not a code ("AADSTS7000222"): these say what is wrong.
_NUMBER = re.compile(
    r"(?<!HTTP )\b(?:[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4,12}){4}|[0-9][0-9.,:TZ/-]*)\b"
)
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
    """The hunts' windows and why they are those, the counts, and notes on the windows."""
    reasons, notes = {}, dict[str, None]()
    for line in result.ledger.lines:
        for note in line.notes:
            if found := _WINDOW_NOTE.fullmatch(note):
                reasons[line.hunt, found[1]] = f", {prose(found[2])}"
            else:
                notes[f"note: {line.hunt}: {prose(note)}"] = None
    windows: dict[str, dict[str, None]] = {}
    for rendered in result.rendered:
        window, hunt = rendered.window, rendered.hunt.name
        words = f"{window.start} to {window.end} (UTC){reasons.get((hunt, str(window)), '')}"
        windows.setdefault(words, {})[hunt] = None
    lines = [f"{short_list(list(hunts), MOST_NAMES)}: {words}" for words, hunts in windows.items()]
    asked = count(len(result.ledger.lines), "query", "queries")
    return [*lines, f"{asked}: {_by_status(result.ledger.lines)}", *notes]


def _by_status(lines: Sequence[LedgerLine]) -> str:
    numbers = Counter(line.status for line in lines)
    return ", ".join(
        f"{numbers[status]:,} {status.value.replace('_', ' ')}"
        for status in Status
        if numbers[status]
    )


@dataclass(frozen=True)
class Problem:
    """One reason for which queries were not answered completely, however many met it.

    ``where`` names their targets; ``asked`` is the one query, or how many of how many
    hunts; ``why`` is status, reason and notes, ``hint`` the fix. ``alike`` says that the
    others' words differ in numbers and ids.
    """

    where: tuple[str, ...]
    asked: str
    why: str
    hint: str
    alike: bool = False

    @property
    def reason(self) -> str:
        """Why, and the fix in brackets."""
        said = f"{self.why} ({self.hint})" if self.hint else self.why
        return f"{said}; the others alike" if self.alike else said

    @property
    def places(self) -> str:
        """Where, as far as there is room."""
        return short_list(self.where, MOST_NAMES)

    @property
    def sentence(self) -> str:
        """All of it, on one line."""
        return f"{self.asked} on {self.places}: {self.reason}"


def problems(lines: Iterable[LedgerLine]) -> list[Problem]:
    """What kept lines from being complete: one entry per reason, in the order of the ledger."""
    found = []
    for line in lines:
        if line.status is not Status.COMPLETE:
            words = [line.status.value.replace("_", " "), prose(line.detail)]
            gaps = [f"no records from {gap.start} to {gap.end}" for gap in line.gaps]
            why = "; ".join([": ".join(filter(None, words)), *gaps])
            found.append((line, why, prose(line.hint)))
    return [
        _problem([line for line, *_ in group], *group[0][1:], alike=differ)
        for group, differ in alike(found, lambda entry: entry[1:])
    ]


Item = TypeVar("Item")


def alike(
    items: Iterable[Item], words: Callable[[Item], Sequence[str]]
) -> Iterator[tuple[list[Item], bool]]:
    """Items whose words differ in numbers and ids at most, and whether they do differ."""
    groups: dict[str, list[Item]] = {}
    for item in items:
        groups.setdefault(_NUMBER.sub("#", "\n".join(words(item))), []).append(item)
    for group in groups.values():
        yield group, len({tuple(words(item)) for item in group}) > 1


def _problem(lines: list[LedgerLine], why: str, hint: str, *, alike: bool = False) -> Problem:
    where = list(dict.fromkeys(line.label for line in lines))
    profiles = list(dict.fromkeys(line.profile for line in lines))
    if len(where) == len(profiles) > 1:  # their ids stand in the table of the tenants
        where = profiles
    hunts = list(dict.fromkeys(line.hunt for line in lines))
    asked = hunts[0] if len(hunts) == 1 else count(len(hunts), "hunt")
    slices = list(dict.fromkeys(line.slice for line in lines))
    if slices != [WHOLE_WINDOW]:
        asked += f", {slices[0] if len(slices) == 1 else count(len(slices), 'slice')}"
    if len(lines) > 1:
        asked = f"{count(len(lines), 'query', 'queries')} of {asked}"
    return Problem(tuple(where), asked, why, hint, alike)


def warning_lines(result: RunResult) -> list[str]:
    """The warnings; one that several queries share is said once, with their number."""
    whose = {f"{line.hunt} on {line.label}": line for line in result.ledger.lines}
    shared, lines = [], []
    for warning in map(prose, result.warnings):
        head, _, rest = warning.partition(": ")
        if head in whose:
            shared.append((replace(whose[head], slice=WHOLE_WINDOW), rest))
        else:
            lines.append(warning)
    for group, differ in alike(shared, lambda entry: entry[1:]):
        problem = _problem([line for line, _ in group], group[0][1], "", alike=differ)
        lines.append(problem.sentence)
    return lines


@dataclass(frozen=True)
class CoverageRow:
    """How completely one tenant answered; ``answers`` has its queries by status.

    ``hits`` are those reported, a dash where nothing answered; ``source`` is what the
    coverage checks saw, if any ran.
    """

    tenant: str
    queries: int
    complete: int
    answers: str
    hits: str
    source: str


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
    complete = sum(line.status is Status.COMPLETE for line in lines)
    sources = [line.source for line in lines if line.source]
    rows, devices = sum(s.rows for s in sources), sum(s.devices for s in sources)
    source = f"{count(rows, 'record')}, {count(devices, 'device')}" if sources else ""
    reported = f"{hits:,}" if any(line.status in ANSWERED for line in lines) else "-"
    return CoverageRow(tenant, len(lines), complete, _by_status(lines), reported, source)


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


def one_window(result: RunResult) -> bool:
    """Whether all hunts looked at the same time range."""
    return len({rendered.window for rendered in result.rendered}) == 1


def context_lines(result: RunResult) -> list[str]:
    """What was asked about the surroundings of the hits, and what did not answer."""
    if result.context is None:
        return []
    lines = result.context.ledger.lines
    asked = f"context: {count(len(lines), 'query', 'queries')}"
    asked += f": {_by_status(lines)}" if lines else ""
    return [asked, *(problem.sentence for problem in problems(lines))]
