"""Saved results: read back whole, or refused with the place at fault."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qakhunt.answers.run_document import json_schema, load_result
from qakhunt.core.errors import ResultFileError
from qakhunt.reports.details import ExportOptions
from qakhunt.reports.formats import FORMATS, export_bytes
from qakhunt.triage.hit_report import hit_reports
from tests.support.cli import ROOT
from tests.support.hostile import COLUMNS, ROWS, result_of
from tests.support.triage import burst, result_with, sample_document, sample_json, sample_result

if TYPE_CHECKING:
    from qakhunt.answers.run_result import RunResult

SCHEMA = json.loads((ROOT / "qakhunt" / "data" / "run.schema.json").read_text(encoding="utf-8"))


def exported(result: RunResult, name: str = "json") -> bytes:
    return export_bytes(result, FORMATS[name], ExportOptions())


def saved(folder: Path, document: Any) -> Path:
    path = folder / "result.json"
    text = document if isinstance(document, str) else json.dumps(document)
    path.write_text(text, encoding="utf-8")
    return path


def strict(schema: Any) -> Any:
    """The schema with every key that it does not name forbidden."""
    if isinstance(schema, list):
        return [strict(entry) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: strict(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and "additionalProperties" not in schema:
        found["additionalProperties"] = False
    return found


def check(document: Any) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.Draft202012Validator(strict(SCHEMA)).validate(document)


def test_the_published_schema_is_the_models() -> None:
    """``python -m tests.golden.refresh`` writes it."""
    assert json_schema() == SCHEMA


@pytest.mark.engine
def test_real_results_are_what_the_schema_says() -> None:
    check(sample_document())
    check(json.loads(exported(result_of(ROWS))))
    check(json.loads(exported(result_of([]))))
    check(json.loads(exported(result_with(burst()))))


@pytest.mark.parametrize("result", [result_of(ROWS), result_of([]), result_with(burst())])
def test_a_result_comes_back_as_it_was(tmp_path: Path, result: RunResult) -> None:
    """Every export of what was read equals the export of what was written."""
    back = load_result(saved(tmp_path, exported(result).decode()))
    for name, format_ in FORMATS.items():
        if format_.text:
            assert exported(back, name) == exported(result, name), name
    assert back.hits[1:] == result.hits[1:]  # the first holds NaN, which equals nothing


@pytest.mark.engine
def test_the_samples_context_comes_back(tmp_path: Path) -> None:
    result = sample_result()
    back = load_result(saved(tmp_path, sample_json()))
    assert exported(back) == exported(result)
    for one, other in zip(hit_reports(back), hit_reports(result), strict=True):
        assert one.assessment == other.assessment
        assert [m.event.what for m in one.moments] == [m.event.what for m in other.moments]


def test_columns_of_one_name_stay_apart(tmp_path: Path) -> None:
    back = load_result(saved(tmp_path, exported(result_of(ROWS)).decode()))
    assert back.hits[0].columns == COLUMNS


def test_a_result_that_names_no_columns_can_be_read(tmp_path: Path) -> None:
    document = json.loads(exported(result_of(ROWS[:1])))
    document["hunts"][0]["columns"] = []
    back = load_result(saved(tmp_path, document))
    assert list(back.hits[0].row) == list(document["hits"][0]["row"])


def test_keys_of_a_later_version_are_let_pass(tmp_path: Path) -> None:
    document = json.loads(exported(result_of(ROWS[:1])))
    document["news"] = 1
    document["hits"][0]["mood"] = "good"
    assert len(load_result(saved(tmp_path, document)).hits) == 1


def test_a_query_that_is_not_the_one_of_its_hash_is_said(tmp_path: Path) -> None:
    document = json.loads(exported(result_of(ROWS[:1])))
    document["hunts"][0]["query"] += "| where false"
    (warning,) = load_result(saved(tmp_path, document)).warnings
    assert "is not the one that its hash is of" in warning


REFUSED = {
    "nothing": ("", "not JSON"),
    "half": ('{"schema": "qakhunt.run/1", "hits": [', "not JSON"),
    "a list": ("[]", "no result of qakhunt"),
    "another program's": ('{"a": 1}', "no result of qakhunt"),
    "newer": ('{"schema": "qakhunt.run/2"}', "newer qakhunt (qakhunt.run/2)"),
    "older": ('{"schema": "qakhunt.run/0"}', "older qakhunt (qakhunt.run/0)"),
    "another of ours": ('{"schema": "qakhunt.diff/1"}', "this is a qakhunt.diff/1"),
    "empty": ('{"schema": "qakhunt.run/1"}', "missing required field"),
    "deep": ("[" * 100_000, "nested too deeply"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_result_is_refused_in_one_line(tmp_path: Path, case: str) -> None:
    text, words = REFUSED[case]
    path = saved(tmp_path, text)
    with pytest.raises(ResultFileError) as problem:
        load_result(path)
    assert str(path) in problem.value.message
    assert words in problem.value.message
    assert problem.value.hint


def test_the_place_at_fault_is_named(tmp_path: Path) -> None:
    document = json.loads(exported(result_of(ROWS[:2])))
    document["hits"][1]["commands"] = [7]
    with pytest.raises(ResultFileError, match=r"\$\.hits\[1\]\.commands\[0\]"):
        load_result(saved(tmp_path, document))


def test_half_a_character_stops_no_report(tmp_path: Path) -> None:
    document = json.loads(exported(result_of(ROWS[:1])))
    document["hits"][0]["device"] = "half \ud800"
    (hit,) = load_result(saved(tmp_path, document)).hits
    assert hit.device == "half \ufffd"


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ResultFileError, match="no such file"):
        load_result(tmp_path / "none.json")


def test_a_context_of_a_hit_that_is_not_there_is_refused(tmp_path: Path) -> None:
    document = json.loads(exported(result_with(burst())))
    document["context"]["hits"][0]["hit"] = 9
    with pytest.raises(ResultFileError, match="names hit 9"):
        load_result(saved(tmp_path, document))


def _places(document: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path]
    if isinstance(document, dict):
        for key, value in document.items():
            found += _places(value, (*path, key))
    elif isinstance(document, list):
        for number, value in enumerate(document[:2]):
            found += _places(value, (*path, number))
    return found


BASE = json.loads(exported(result_with(burst())))
PLACES = [path for path in _places(BASE) if path]
JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.just([]),
    st.sampled_from(["0001-01-01T00:00:00.0000000Z", "9999-12-31T23:59:59.9999999Z"]),
    st.just({}), st.just("9" * 400), st.just(10**40), st.just([[]]), st.just({"x": [None]}),
)  # fmt: skip


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.sampled_from(PLACES), JUNK)
def test_whatever_a_file_holds_it_is_read_or_refused(
    tmp_path: Path, place: tuple[Any, ...], value: Any
) -> None:
    """Never a traceback: not on reading, not in a report of what was read."""
    document = copy.deepcopy(BASE)
    target = document
    for step in place[:-1]:
        target = target[step]
    target[place[-1]] = value
    try:
        result = load_result(saved(tmp_path, document))
    except ResultFileError:
        return
    for name in ("json", "html", "markdown", "chat", "navigator", "csv"):
        exported(result, name)


def test_a_saved_result_still_knows_which_columns_the_hunt_maps(tmp_path: Path) -> None:
    from qakhunt.answers.table import Column
    from qakhunt.reports.details import ExportOptions
    from qakhunt.reports.formats import FORMATS, export_bytes
    from qakhunt.reports.view import report_view
    from tests.support.triage import own_result, result_with

    mapped = result_with(None)
    own = own_result((Column("Verb", "string"),), [("x",)])
    mapped.rendered += own.rendered
    mapped.hits += own.hits
    path = tmp_path / "r.json"
    path.write_bytes(export_bytes(mapped, FORMATS["json"], ExportOptions()))
    view = report_view(load_result(path))
    assert [finding.worst.device for finding in view.findings] == ["pc1.example"]
    assert [table.names for table in view.tables] == [("Verb",)]
