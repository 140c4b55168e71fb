"""The heartbeat: a word from every run, so that silence means a dead job."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from qakhunt.answers.ledger import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qakhunt.kql.values import Instant, Timespan
    from qakhunt.triage.run_result import RunResult

SCHEMA = "qakhunt.heartbeat/1"
_STATUS = {
    Verdict.CLEAN: "looked, complete, nothing found",
    Verdict.HITS: "looked, complete, findings",
    Verdict.INCOMPLETE: "could not look everywhere",
    Verdict.FAILED: "could not look",
}


def heartbeat(
    result: RunResult, *, run_id: str, sent_at: Instant, every: Timespan, state: Mapping[str, Any]
) -> dict[str, Any]:
    """``qakhunt.heartbeat/1`` of a run that came to its end: counts, no names."""
    lines = result.ledger.lines
    problem = next((line.detail for line in lines if line.status.value != "complete"), None)
    return {
        **_frame(run_id, sent_at, every),
        "status": _STATUS[result.verdict],
        "verdict": result.verdict.value,
        "ledger": dict(Counter(line.status.value for line in lines)),
        "state": dict(state),
        "problem": problem or None,
    }


def heartbeat_of_failure(
    problem: str, *, run_id: str, sent_at: Instant, every: Timespan
) -> dict[str, Any]:
    """``qakhunt.heartbeat/1`` of a run that could not even begin to look."""
    return {
        **_frame(run_id, sent_at, every),
        "status": _STATUS[Verdict.FAILED],
        "verdict": Verdict.FAILED.value,
        "ledger": {},
        "state": {},
        "problem": problem,
    }


def _frame(run_id: str, sent_at: Instant, every: Timespan) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "run": run_id,
        "sent_at": sent_at.isoformat(),
        "next_expected": (sent_at + every).isoformat(),
    }
