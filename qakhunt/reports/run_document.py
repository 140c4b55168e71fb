"""The run as ``qakhunt.run/1``, the JSON that programs read.

The schema is ``data/run.schema.json``; ``triage.result_file`` reads the document back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from qakhunt.answers.plain import to_json_value
from qakhunt.triage.dossier import dossiers

if TYPE_CHECKING:
    from qakhunt.answers.ledger import DeliveryLine, LedgerLine, SourceRows
    from qakhunt.hunts.render import RenderedQuery
    from qakhunt.kql.values import Window
    from qakhunt.triage.assessment import Assessment
    from qakhunt.triage.context import Context, HitContext
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
        "result": {name: c for name, c in msgspec.structs.asdict(notes.result).items() if c},
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


def context_document(result: RunResult, context: Context) -> dict[str, Any]:
    """The whole context as plain JSON values; hits are told by their number, from 1."""
    assessments = {dossier.number: dossier.assessment for dossier in dossiers(result)}
    return {
        "around": str(context.around),
        "limit": context.limit,
        "queries": [
            {
                **query_document(query.rendered),
                "profile": query.target.profile,
                "tenant": query.target.tenant,
                "workspace": query.target.workspace,
            }
            for query in context.queries
        ],
        "hits": [
            _hit_context(number + 1, context.hits[number], assessments[number + 1])
            for number in sorted(context.hits)
        ],
    }


def _hit_context(number: int, context: HitContext, assessment: Assessment) -> dict[str, Any]:
    rarity_window = context.rarity_window
    return {
        "hit": number,
        "missing": context.missing,
        "looked": [window_document(window) for window in context.looked],
        "tables": [
            {
                "table": answer.table,
                "hunt": answer.hunt,
                "status": answer.status.value,
                "found": answer.found,
                "kept": answer.kept,
                "detail": answer.detail,
            }
            for answer in context.tables
        ],
        "records": context.records,
        "ancestors": list(context.ancestors),
        "rarity": {
            "window": window_document(rarity_window) if rarity_window else None,
            "detail": context.rarity_detail,
            "counts": [
                {
                    "kind": counts.kind,
                    "value": counts.value,
                    "devices": counts.devices,
                    "accounts": counts.accounts,
                    "days": counts.days,
                }
                for counts in context.rarity
            ],
        },
        "assessment": _assessment(assessment),
    }


def _assessment(assessment: Assessment) -> dict[str, Any]:
    return {
        "kind": assessment.kind.value,
        "title": assessment.title,
        "criterion": assessment.criterion,
        "reasons": [{"side": r.side.value, "text": r.text} for r in assessment.reasons],
        "caution": assessment.caution,
        "not_looked_at": list(assessment.not_looked_at),
    }


def window_document(window: Window) -> dict[str, str]:
    """A window's two bounds."""
    return {"start": window.start.isoformat(), "end": window.end.isoformat()}


def query_document(rendered: RenderedQuery) -> dict[str, Any]:
    """A rendered query and what it was made from."""
    return {
        "name": rendered.hunt.name,
        "id": rendered.hunt.id,
        "version": rendered.hunt.version,
        "title": rendered.hunt.title,
        "product": rendered.product,
        "window": window_document(rendered.window),
        "hunt_hash": rendered.hunt_hash,
        "query_hash": rendered.query_hash,
        "parameters": {name: plain(value) for name, value in rendered.parameters.items()},
        "query": rendered.text,
    }


def plain(value: Any) -> Any:
    """The value with every cell in it as JSON holds it."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return to_json_value(value)
