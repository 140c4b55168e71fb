"""Findings as events of the Open Cybersecurity Schema Framework: Detection Finding, version 1.8.0.

The class (uid 2004) and its objects: https://schema.ocsf.io/1.8.0/classes/detection_finding, with
the profile ``host`` for ``device``. tests/unit/test_ocsf.py validates against that schema.
"""

from __future__ import annotations

import json
from typing import IO, TYPE_CHECKING, Any

from qakhunt import __version__
from qakhunt.answers.cells import to_json_value
from qakhunt.answers.findings import findings_of_run
from qakhunt.core.safe_text import for_json
from qakhunt.kql.values import Instant
from qakhunt.triage.hit_report import hit_reports, technique

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from qakhunt.answers.findings import Finding
    from qakhunt.answers.hits import Hit
    from qakhunt.answers.run_result import RunResult
    from qakhunt.hunts.model import Hunt
    from qakhunt.reports.details import ExportOptions
    from qakhunt.triage.hit_report import HitReport

VERSION = "1.8.0"
_CATEGORY, _CLASS = (2, "Findings"), (2004, "Detection Finding")
_CREATE, _UPDATE = (1, "Create"), (2, "Update")
_SEVERITIES = ("Unknown", "Informational", "Low", "Medium", "High", "Critical")
_RULE = (1, "Rule")
_UNKNOWN_DEVICE = (0, "Unknown")
_HOSTNAME, _USER_NAME, _COMMAND_LINE = (1, "Hostname"), (4, "User Name"), (13, "Command Line")
_TICKS_PER_MILLISECOND = 10_000
_EPOCH = Instant.parse("1970-01-01").ticks


def write(result: RunResult, out: IO[bytes], _: ExportOptions) -> None:
    """One event a line; a run without findings is an empty file."""
    reports = hit_reports(result)
    hunts = {rendered.hunt.name: rendered.hunt for rendered in result.rendered}
    for finding in findings_of_run(result):
        own = [reports[position] for position in finding.positions]
        document = _event(result, finding, own, hunts)
        out.write(for_json(json.dumps(document, ensure_ascii=False)).encode() + b"\n")


def _event(
    result: RunResult, finding: Finding, reports: Sequence[HitReport], hunts: dict[str, Hunt]
) -> dict[str, Any]:
    worst = min(reports, key=lambda report: report.assessment.kind.rank)
    known = all(position in result.known for position in finding.positions)
    activity, activity_name = _UPDATE if known else _CREATE
    own = [hunts[name] for name in finding.hunts if name in hunts]
    severity = max((_severity(hunt) for hunt in own), default=0)
    assessment, first = worst.assessment, finding.hits[0]
    return _given({
        "category_uid": _CATEGORY[0], "category_name": _CATEGORY[1],
        "class_uid": _CLASS[0], "class_name": _CLASS[1],
        "activity_id": activity, "activity_name": activity_name,
        "type_uid": _CLASS[0] * 100 + activity, "type_name": f"{_CLASS[1]}: {activity_name}",
        "time": _milliseconds(result.now),
        "start_time": _milliseconds(finding.start), "end_time": _milliseconds(finding.end),
        "severity_id": severity, "severity": _SEVERITIES[severity],
        "is_alert": not known,
        "message": f"{assessment.title}: {assessment.criterion}. {assessment.caution}",
        "metadata": _given({
            "version": VERSION, "profiles": ["host"], "tenant_uid": first.tenant,
            "product": {"name": "qakhunt", "vendor_name": "qakhunt", "version": __version__},
        }),
        "finding_info": _finding_info(result, finding, own),
        "device": _device(first), "evidences": [_evidence(hit) for hit in finding.hits],
        "observables": list(_observables(finding)),
        "unmapped": {
            "run_verdict": result.verdict.value, "assessment": assessment.kind.value,
            "profile": first.profile, "fingerprints": list(finding.fingerprints),
        },
    })  # fmt: skip


def _given(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields that are known: the schema has no null."""
    return {name: value for name, value in fields.items() if value not in (None, "", [], {})}


def _milliseconds(moment: Instant | None) -> int | None:
    return None if moment is None else (moment.ticks - _EPOCH) // _TICKS_PER_MILLISECOND


def _severity(hunt: Hunt) -> int:
    name = hunt.severity.capitalize()
    return _SEVERITIES.index(name) if name in _SEVERITIES else 0


def _finding_info(result: RunResult, finding: Finding, hunts: Sequence[Hunt]) -> dict[str, Any]:
    analytics = [_analytic(hunt) for hunt in hunts] or [{"name": finding.hits[0].hunt, **_type()}]
    techniques = dict.fromkeys(each for hit in finding.hits for each in hit.techniques)
    return _given({
        "uid": finding.id,
        "title": hunts[0].title if hunts else finding.hits[0].hunt,
        "desc": hunts[0].description if hunts else None,
        "created_time": _milliseconds(result.now),
        "first_seen_time": _milliseconds(finding.start),
        "last_seen_time": _milliseconds(finding.end),
        "analytic": analytics[0], "related_analytics": analytics[1:],
        "attacks": [_attack(identifier) for identifier in techniques],
    })  # fmt: skip


def _type() -> dict[str, Any]:
    return {"type_id": _RULE[0], "type": _RULE[1]}


def _analytic(hunt: Hunt) -> dict[str, Any]:
    named = {"name": hunt.name, "uid": hunt.id, "version": hunt.version, "desc": hunt.title}
    return _given({**named, **_type()})


def _attack(identifier: str) -> dict[str, Any]:
    """A technique, and under it the sub-technique where it is one."""
    whole, _, part = identifier.partition(".")
    found = {"technique": _named(whole)}
    return {**found, "sub_technique": _named(identifier)} if part else found


def _named(identifier: str) -> dict[str, Any]:
    known = technique(identifier)
    return _given({"uid": identifier, "name": known.name, "src_url": known.url})


def _device(hit: Hit) -> dict[str, Any] | None:
    if not hit.device:
        return None
    identity = to_json_value(hit.row.get("DeviceId"))
    kind = {"type_id": _UNKNOWN_DEVICE[0], "type": _UNKNOWN_DEVICE[1]}
    uid = identity if isinstance(identity, str) else None
    return _given({"hostname": hit.device, "uid": uid, **kind})


def _evidence(hit: Hit) -> dict[str, Any]:
    """The row as it came, under the name of its hunt."""
    row = {name: to_json_value(cell) for name, cell in hit.row.items()}
    data = {"workspace": hit.workspace, "row": row}
    user = {"name": hit.account} if hit.account else None
    return _given({"name": hit.hunt, "device": _device(hit), "user": user, "data": data})


def _observables(finding: Finding) -> Iterator[dict[str, Any]]:
    """The device, the accounts and the command lines, each once."""
    accounts = dict.fromkeys(hit.account for hit in finding.hits if hit.account)
    lines = dict.fromkeys(command.line for hit in finding.hits for command in hit.commands)
    for name, (kind, caption), values in (
        ("device.hostname", _HOSTNAME, [finding.device] if finding.device else []),
        ("evidences[].user.name", _USER_NAME, accounts),
        ("evidences[].data.row", _COMMAND_LINE, lines),
    ):
        for value in values:
            yield {"name": name, "type_id": kind, "type": caption, "value": value}
