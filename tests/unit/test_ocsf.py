"""Findings as OCSF events, validated against the published schema of the version they name.

``ocsf-json-schema`` (MIT) brings the compiled schema of github.com/ocsf/ocsf-schema (Apache-2.0).
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

from qakhunt.answers.run_result import RunResult
from qakhunt.reports.details import ExportOptions
from qakhunt.reports.formats import FORMATS, export_bytes
from tests.support.events import MISSION
from tests.support.hostile import HOSTILE, ROWS, result_of


@cache
def validator(version: str) -> Any:
    schema = OcsfJsonSchemaEmbedded(get_ocsf_schema(version=version)).get_class_schema(
        "detection_finding", profiles=["host"]
    )
    return jsonschema.Draft202012Validator(schema)


def events(result: RunResult) -> list[dict[str, Any]]:
    text = export_bytes(result, FORMATS["ocsf"], ExportOptions()).decode()
    found = [json.loads(line) for line in text.splitlines()]
    for event in found:
        validator(event["metadata"]["version"]).validate(event)
    return found


def test_the_schema_that_validates_is_the_one_named_and_strict() -> None:
    (event, *_) = events(result_of(ROWS[:1]))
    assert event["metadata"]["version"] == "1.8.0"
    assert "1.8.0" in (FORMATS["ocsf"].write.__doc__ or "")
    for broken in (
        {**event, "no_such_attribute": 1},
        {**event, "severity_id": 7},
        {**event, "time": "now"},
    ):
        assert not validator("1.8.0").is_valid(broken)


@pytest.mark.engine
def test_a_finding_carries_its_device_commands_hunts_and_techniques() -> None:
    import qakhunt

    result = qakhunt.run([MISSION, "qakbot-recon-burst"]).run_result
    found = events(result)
    assert len(found) == len(qakhunt.Result(result).findings) > 1
    event = next(e for e in found if e["device"]["hostname"] == "ws-fin-042.contoso.example")
    assert (event["class_uid"], event["type_uid"], event["severity"]) == (2004, 200401, "High")
    assert event["is_alert"] is True
    info = event["finding_info"]
    hunts = [info["analytic"], *info["related_analytics"]]
    assert MISSION in [each["name"] for each in hunts]
    assert event["start_time"] == info["first_seen_time"] < event["end_time"] < event["time"]
    assert {"uid": "T1016", "name": "System Network Configuration Discovery",
            "src_url": "https://attack.mitre.org/techniques/T1016/"} in [
        each["technique"] for each in info["attacks"]
    ]  # fmt: skip
    older = {**event, "metadata": {**event["metadata"], "version": "1.5.0"}}
    validator("1.5.0").validate(older)  # nothing in it is newer
    lines = {o["value"] for o in event["observables"] if o["type"] == "Command Line"}
    assert "arp -a" in lines
    assert event["evidences"][0]["user"]["name"] == "a.moreau"
    assert "DeviceName" in event["evidences"][0]["data"]["row"]
    assert event["unmapped"]["run_verdict"] == result.verdict.value


def test_what_earlier_runs_reported_is_an_update() -> None:
    result = result_of(ROWS[:2])
    (new, other) = events(replace(result, known=frozenset([1])))
    assert (new["activity_id"], new["is_alert"]) == (1, True)
    assert (other["activity_id"], other["type_uid"], other["is_alert"]) == (2, 200402, False)


def test_without_findings_nothing_is_written() -> None:
    assert events(result_of([])) == []


@settings(max_examples=40)
@given(st.one_of(st.sampled_from(HOSTILE), st.text(max_size=60)))
def test_any_text_is_valid_and_unchanged(text: str) -> None:
    row = tuple(text if c in ("d", "a", "own") else None for c in ROWS[0])
    for event in events(result_of([row])):
        assert event["evidences"][0]["data"]["row"]["DeviceName"] == text
        assert event.get("device", {}).get("hostname", "") == text
