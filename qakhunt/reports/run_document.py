"""The run as ``qakhunt.run/1``, the JSON that programs read.

The schema is ``data/run.schema.json``; ``triage.result_file`` reads the document back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qakhunt.answers.plain import to_json_value
from qakhunt.reports.context_document import (
    context_document,
    plain,
    query_document,
    window_document,
)

if TYPE_CHECKING:
    from qakhunt.answers.ledger import DeliveryLine, LedgerLine, SourceRows
    from qakhunt.hunts.render import RenderedQuery
    from qakhunt.triage.hits import Hit
    from qakhunt.triage.run_result import RunResult

SCHEMA = "qakhunt.run/1"


def run_document(result: RunResult) -> dict[str, Any]:
    """The whole run as plain JSON values."""
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "qakhunt": result.version,
        "verdict": result.verdict.value,
        "sample": result.sample,
        "now": result.now.isoformat(),
        "window": window_document(result.window),
        "hunts": [_hunt(rendered, result) for rendered in result.rendered],
        "ledger": [_line(line, "hunt") for line in result.ledger.lines],
        "hits": [hit_document(hit) for hit in result.hits],
        "known": sorted(result.known),
        "suppressed": result.suppressed,
        "suppressed_hits": [hit_document(hit) for hit in result.suppressed_hits],
        "deliveries": [_delivery(line) for line in result.deliveries],
        "state": dict(result.state) if result.state else None,
        "clouds": {
            profile: {
                "cloud": clouds.cloud,
                "log_analytics": clouds.log_analytics,
                "workspace_resources": dict(clouds.workspace_resources),
            }
            for profile, clouds in sorted(result.clouds.items())
        },
        "warnings": list(result.warnings),
    }
    if result.context is not None:
        document["ledger"] += [_line(line, "context") for line in result.context.ledger.lines]
        document["context"] = context_document(result, result.context)
    return document


def _hunt(rendered: RenderedQuery, result: RunResult) -> dict[str, Any]:
    hunt, notes = rendered.hunt, rendered.hunt.notes
    columns = result.columns.get(hunt.name, ())
    return {
        **query_document(rendered),
        "description": hunt.description,
        "severity": hunt.severity,
        "techniques": list(hunt.techniques),
        "triage": list(notes.triage),
        "false_positives": list(notes.false_positives),
        "limits": list(notes.limits),
        "references": list(notes.references),
        "columns": [{"name": c.name, "type": c.kql_type} for c in columns],
    }


def _line(line: LedgerLine, purpose: str) -> dict[str, Any]:
    return {
        "purpose": purpose,
        "hunt": line.hunt,
        "profile": line.profile,
        "tenant": line.tenant,
        "workspace": line.workspace,
        "slice": line.slice,
        "window": window_document(line.window),
        "backend": line.backend,
        "query_hash": line.query_hash,
        "status": line.status.value,
        "detail": line.detail,
        "hint": line.hint,
        "rejected": line.rejected,
        "rows": line.rows,
        "bytes": line.bytes,
        "attempts": line.attempts,
        "waits": list(line.waits),
        "request_ids": list(line.request_ids),
        "elapsed": round(line.elapsed, 6),
        "source": _source(line.source),
        "notes": list(line.notes),
    }


def _delivery(line: DeliveryLine) -> dict[str, Any]:
    return {
        "sink": line.sink,
        "status": "pending" if line.failed else "delivered",
        "messages": line.messages,
        "delivered": line.delivered,
        "findings": line.findings,
        "attempts": line.attempts,
        "waits": list(line.waits),
        "detail": line.detail,
        "elapsed": round(line.elapsed, 6),
    }


def _source(source: SourceRows | None) -> dict[str, Any] | None:
    if source is None:
        return None
    return {
        "rows": source.rows,
        "devices": source.devices,
        "first": to_json_value(source.first),
        "last": to_json_value(source.last),
    }


def hit_document(hit: Hit) -> dict[str, Any]:
    """One hit as plain JSON values; ``row`` has every result column under its own name."""
    return {
        "hunt": hit.hunt,
        "profile": hit.profile,
        "tenant": hit.tenant,
        "workspace": hit.workspace,
        "device": hit.device,
        "account": hit.account,
        "commands": [command.line for command in hit.commands],
        "techniques": list(hit.techniques),
        "first_seen": to_json_value(hit.first_seen),
        "last_seen": to_json_value(hit.last_seen),
        "distinct": hit.distinct,
        "total": hit.total,
        "also_in": list(hit.also_in),
        "row": {name: plain(cell) for name, cell in hit.row.items()},
    }
