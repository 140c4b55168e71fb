"""The verdict and the ledger in words, the same in every report."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from qakhunt.answers.ledger import DeliveryLine, LedgerLine, Status, Verdict
from qakhunt.triage.words import count

if TYPE_CHECKING:
    from qakhunt.triage.run_result import RunResult


def verdict_line(result: RunResult) -> str:
    """One sentence that says what may be said, and no more."""
    verdict, hits = result.verdict, len(result.hits)
    devices = len({(hit.profile, hit.device) for hit in result.hits})
    found = f"{count(hits, 'hit')} on {count(devices, 'device')}"
    if result.known:
        found += f", {len(result.known)} of them reported before"
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
    """What was looked at, line by line where it was not looked at completely."""
    looked = [f"{r.hunt.name}: {r.window.start} to {r.window.end} (UTC)" for r in result.rendered]
    lines = list(dict.fromkeys(looked))
    statuses = Counter(line.status.value for line in result.ledger.lines)
    told = ", ".join(f"{number} {status}" for status, number in statuses.items())
    lines.append(f"{count(len(result.ledger.lines), 'question')} asked: {told}")
    lines += dict.fromkeys(
        f"note: {line.hunt}: {note}" for line in result.ledger.lines for note in line.notes
    )
    lines += [_fault(line) for line in faults(result)]
    return lines


def delivery_line(line: DeliveryLine) -> str:
    """What one sink was sent."""
    told = count(line.messages, "message")
    text = (
        f"{line.sink}: {line.delivered} of {told} delivered"
        if line.messages
        else (f"{line.sink}: nothing to deliver")
    )
    return f"{text}: {line.detail}" if line.detail else text


def faults(result: RunResult) -> list[LedgerLine]:
    """The ledger's lines that are not complete."""
    return [line for line in result.ledger.lines if line.status is not Status.COMPLETE]


def _fault(line: LedgerLine) -> str:
    text = f"{line.hunt} on {line.whom}, {line.slice}: {line.status.value}"
    if line.detail:
        text += f": {line.detail}"
    return f"{text} ({line.hint})" if line.hint else text


def one_window(result: RunResult) -> bool:
    """Whether all hunts looked at the same stretch of time."""
    return len({rendered.window for rendered in result.rendered}) == 1


def context_lines(result: RunResult) -> list[str]:
    """What was asked about the surroundings of the hits, and what did not answer."""
    if result.context is None:
        return []
    lines = result.context.ledger.lines
    statuses = Counter(line.status.value for line in lines)
    told = ", ".join(f"{number} {status.replace('_', ' ')}" for status, number in statuses.items())
    asked = f"context: {count(len(lines), 'question')} asked" + (f": {told}" if told else "")
    return [asked, *(_fault(line) for line in lines if line.status is not Status.COMPLETE)]
