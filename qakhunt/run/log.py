"""Structured logs on stderr: one JSON object a line, for ``--log-format json``."""

from __future__ import annotations

import json
import sys
import time
import uuid
from typing import TYPE_CHECKING, Any

from qakhunt.core.errors import UsageError, nearest
from qakhunt.core.safe_text import for_json
from qakhunt.kql.values import TICKS_PER_SECOND, Timespan

if TYPE_CHECKING:
    from qakhunt.answers.ledger import LedgerLine
    from qakhunt.answers.run_result import RunResult
    from qakhunt.core.errors import QakhuntError
    from qakhunt.kql.values import Instant

FORMATS = ("text", "json")


def read_log_format(text: str) -> bool:
    """Whether logs are JSON. Raises UsageError for an unknown format."""
    if text not in FORMATS:
        raise UsageError(
            f"no log format named {text!r}", hint=nearest(text, FORMATS) or ", ".join(FORMATS)
        )
    return text == "json"


class RunLog:
    """Events of one run; silent unless the format is JSON. ``now`` is when it began."""

    def __init__(self, now: Instant, *, as_json: bool) -> None:
        self.run_id = uuid.uuid4().hex
        self.as_json = as_json
        self.now = now
        self._started = time.monotonic()

    def clock(self) -> Instant:
        """The run's time."""
        return self.now + Timespan(int((time.monotonic() - self._started) * TICKS_PER_SECOND))

    def event(self, name: str, level: str = "info", **fields: Any) -> None:
        """Write one event; fields that are None are left out."""
        if not self.as_json:
            return
        record = {
            "time": self.clock().isoformat(), "level": level, "event": name, "run": self.run_id,
            **{key: value for key, value in fields.items() if value is not None},
        }  # fmt: skip
        print(for_json(json.dumps(record, ensure_ascii=False)), file=sys.stderr, flush=True)

    def line(self, line: LedgerLine) -> None:
        """One question and how it was answered."""
        level = "info" if line.status.value == "complete" else "warning"
        self.event(
            "line", level, hunt=line.hunt, profile=line.profile, tenant=line.tenant,
            workspace=line.workspace, backend=line.backend, slice=line.slice,
            start=line.window.start.isoformat(), end=line.window.end.isoformat(),
            status=line.status.value, rows=line.rows, attempts=line.attempts,
            waits=list(line.waits), request_ids=list(line.request_ids),
            elapsed=round(line.elapsed, 3), detail=line.detail or None, hint=line.hint or None,
        )  # fmt: skip

    def finished(self, result: RunResult, code: int) -> None:
        """What was sent, what was warned of, and the verdict."""
        for delivery in result.deliveries:
            self.event(
                "delivery", "error" if delivery.failed else "info", sink=delivery.sink,
                messages=delivery.messages, delivered=delivery.delivered,
                findings=delivery.findings, attempts=delivery.attempts,
                waits=list(delivery.waits), detail=delivery.detail or None,
            )  # fmt: skip
        for warning in result.warnings:
            self.event("warning", "warning", detail=warning)
        self.event(
            "run finished", verdict=result.verdict.value, exit_code=int(code),
            hits=len(result.hits), new=len(result.news), suppressed=result.suppressed,
            lines=len(result.ledger.lines), state=dict(result.state) if result.state else None,
        )  # fmt: skip

    def error(self, problem: QakhuntError) -> None:
        """An error that ended the run."""
        self.event(
            "error", "error", detail=problem.message, hint=problem.hint,
            location=str(problem.location) if problem.location else None,
            exit_code=int(problem.exit_code),
        )  # fmt: skip
