"""The context of a run's hits as the key ``context`` of ``qakhunt.run/1``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qakhunt.answers.plain import to_json_value
from qakhunt.triage.dossier import dossiers

if TYPE_CHECKING:
    from qakhunt.hunts.render import RenderedQuery
    from qakhunt.kql.values import Window
    from qakhunt.triage.assessment import Assessment
    from qakhunt.triage.context import Context, HitContext
    from qakhunt.triage.run_result import RunResult


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
            _hit(number + 1, context.hits[number], assessments[number + 1])
            for number in sorted(context.hits)
        ],
    }


def _hit(number: int, context: HitContext, assessment: Assessment) -> dict[str, Any]:
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
