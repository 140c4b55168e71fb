"""A service that answers oddly, on the wire: whatever it says, "clean" is not what comes of it.

The server knows nothing of qakhunt's code; each attack is put in place of the answer to
the query, and of the answer to the coverage check.
"""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

import pytest

from qakhunt.__main__ import run as qakhunt
from tests.support.scripted_service import Handler, Service, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TENANT = "aaaaaaaa-0000-4000-8000-000000000001"
WORKSPACE = "bbbbbbbb-0000-4000-8000-000000000001"
QUERY = {
    "DeviceName": "string", "AccountName": "string", "TenantId": "string",
    "TotalCommandsFound": "long", "CommandLineList": "dynamic", "TimeGenerated": "datetime",
    "LastSeen": "datetime", "TotalUniqueCommandsFound": "long",
}  # fmt: skip
CHECK = {
    "SourceRows": "long", "Devices": "long", "First": "datetime", "Last": "datetime",
    "Hours": "dynamic", "TenantId": "string",
}  # fmt: skip
HIT = ["pc", "eve", WORKSPACE, 9, '["net view"]', "2026-10-02T00:00:00Z",
       "2026-10-03T00:00:00Z", 9]  # fmt: skip


def seen(hours: Any = None, rows: Any = 744, **more: Any) -> list[Any]:
    """The row of a check of October."""
    hours = list(range(744)) if hours is None else hours
    first = more.get("first", "2026-10-01T00:00:00Z")
    return [rows, 3, first, more.get("last", "2026-10-31T23:59:00Z"), json.dumps(hours), WORKSPACE]


def log_analytics(columns: dict[str, str], *rows: Any) -> dict[str, Any]:
    named = [{"name": name, "type": kind} for name, kind in columns.items()]
    return {"tables": [{"name": "PrimaryResult", "columns": named, "rows": list(rows)}]}


def graph(columns: dict[str, str], *rows: Any) -> dict[str, Any]:
    kinds = {"string": "String", "long": "Int64", "datetime": "DateTime", "dynamic": "Object"}
    schema = [{"name": name, "type": kinds[kind]} for name, kind in columns.items()]
    results = [dict(zip(columns, row, strict=True)) for row in rows]
    return {"@odata.context": "x", "schema": schema, "results": results}


def table(body: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = body["tables"][0]
    return found


def _put(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda body: body.__setitem__(name, value)


def _in_table(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda body: table(body).__setitem__(name, value)


def _put_rows(body: dict[str, Any], *rows: list[Any]) -> None:
    if "tables" in body:
        table(body)["rows"] = list(rows)
    else:
        body["results"] = [dict(zip(CHECK, row, strict=True)) for row in rows]


def _put_row(body: dict[str, Any], row: list[Any]) -> None:
    _put_rows(body, row)


def _counting(count: Any) -> Callable[[dict[str, Any]], None]:
    return lambda body: _put_row(body, seen(rows=count))


NO_ROWS: list[Any] = [None, {}, "", "none", False, 0, [None], [5], ["x"], [{}], [[]], [[1] * 99]]
NO_COLUMNS: list[Any] = [None, [], {}, "", 5, [None], [{}], [{"name": 5, "type": "long"}]]
NO_RESULTS: list[Any] = [None, {}, "", False, 0, [None], [5], [[]], [{}], [{"Odd": 1}]]
NO_COUNTS: list[Any] = [-1, "abc", None, 1.5, True, 0, [], {}]

ANY = {
    "Error": _put("Error", {"code": "x", "message": "half"}),
    "ERRORS": _put("ERRORS", ["half"]),
    "errors": _put("errors", [{"message": "half"}]),
    "error as a list": _put("error", [{"code": "x"}]),
    "error as a number": _put("error", 500),
    "error twice": lambda body: body.update({"error": None, "Error": {"code": "x"}}),
    "Warnings": _put("Warnings", ["half"]),
    "warnings": _put("warnings", {"message": "half"}),
    "truncated": _put("truncated", True),
    "isPartial": _put("isPartial", True),
    "hasMore": _put("hasMore", True),
    "continuationToken": _put("continuationToken", "abc"),
    "$skipToken": _put("$skipToken", "abc"),
    "nextLink": _put("nextLink", "https://x"),
    "NextLink": _put("NextLink", "https://x"),
    "@odata.nextLink": _put("@odata.nextLink", "https://x"),
    "OneApiErrors": _put("OneApiErrors", [{"error": {"message": "half"}}]),
    "Exceptions": _put("Exceptions", ["half"]),
}
TABLES = {
    "hits in a second table": lambda body: body["tables"].append(table(log_analytics(QUERY, HIT))),
    "hits in a twin": lambda body: body["tables"].append(copy.deepcopy(table(body))),
    "no table": _put("tables", []),
    "tables null": _put("tables", None),
    "tables an object": lambda body: body.__setitem__("tables", {"0": table(body)}),
    "a table null": _put("tables", [None]),
    "no rows at all": lambda body: table(body).pop("rows"),
    **{f"rows {value!r}": _in_table("rows", value)
       for value in NO_ROWS},
    **{f"columns {value!r}": _in_table("columns", value)
       for value in NO_COLUMNS},
    "other columns": _in_table("columns", [{"name": "Other", "type": "string"}]),
    "a name less": lambda body: table(body)["columns"].pop(3),
    "twin columns": lambda body: table(body)["columns"].append(table(body)["columns"][0]),
    "nextLink in the table": _in_table("nextLink", "https://x"),
    "a failure among the rows": lambda body: table(body)["rows"].append({"OneApiErrors": 5}),
}  # fmt: skip
HUNTING = {
    "empty schema": _put("schema", []),
    **{f"schema {value!r}": _put("schema", value)
       for value in NO_COLUMNS},
    **{f"results {value!r}": _put("results", value)
       for value in NO_RESULTS},
    "other schema": _put("schema", [{"name": "Other", "type": "String"}]),
    "twin columns": lambda body: body["schema"].append(body["schema"][0]),
}  # fmt: skip
CHECKS = {
    **{f"{count!r} records": _counting(count) for count in NO_COUNTS},
    "two rows": lambda body: _put_rows(body, seen(), seen()),
    "no row": lambda body: _put_rows(body),
    "no hours": lambda body: _put_row(body, seen([])),
    "hours of next year": lambda body: _put_row(body, seen([0, 10_000])),
    "no time": lambda body: _put_row(body, seen(first=None, last=None)),
    "another month's": lambda body: _put_row(body, seen(last="2026-12-01T00:00:00Z")),
    "stopped on the tenth": lambda body: _put_row(
        body, seen([*range(230)], last="2026-10-10T13:59:00Z")),
    "began on the tenth": lambda body: _put_row(
        body, seen([*range(240, 744)], first="2026-10-11T00:00:00Z")),
    "silent in between": lambda body: _put_row(body, seen([*range(200), *range(300, 744)])),
    "another workspace": lambda body: _put_row(body, [*seen()[:-1], TENANT]),
}  # fmt: skip


ATTACKS = [
    *(("sentinel", kind, name, change) for kind in ("query", "check")
      for name, change in {**ANY, **TABLES}.items()),
    *(("defender", kind, name, change) for kind in ("query", "check")
      for name, change in {**ANY, **HUNTING}.items()),
    *((profile, "check", name, change) for profile in ("sentinel", "defender")
      for name, change in CHECKS.items() if (profile, name) != ("defender", "another workspace")),
]  # fmt: skip


@pytest.fixture(scope="module")
def served() -> Iterator[Service]:
    yield from serving(None, None)


@pytest.fixture(scope="module")
def config(served: Service, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("odd") / "config.toml"
    where = served.url.replace("localhost", "127.0.0.1")
    path.write_text(
        "".join(
            f'[profiles.{name}]\nbackend = "{backend}"\ntenant = "{TENANT}"\nsign_in = "none"\n'
            f'log_analytics_endpoint = "{where}"\ngraph_endpoint = "{where}"\n{more}'
            for name, backend, more in (
                ("sentinel", "log-analytics", f'workspaces = ["{WORKSPACE}"]\n'),
                ("defender", "defender", ""),
            )
        )
    )
    return path


def run(
    served: Service, config: Path, profile: str, kind: str, change: Any,
    capsys: pytest.CaptureFixture[str],
) -> tuple[int, dict[str, Any]]:  # fmt: skip
    """The exit code and the document of a run that meets one odd answer."""
    code, out, _ = screen(served, config, profile, kind, change, capsys, "--json", "--quiet")
    return code, json.loads(out)


def screen(
    served: Service, config: Path, profile: str, kind: str, change: Any,
    capsys: pytest.CaptureFixture[str], *options: str,
) -> tuple[int, str, str]:  # fmt: skip
    """The exit code, standard output and standard error."""
    make = log_analytics if profile == "sentinel" else graph
    bodies = {"query": make(QUERY), "check": make(CHECK, seen())}
    change(bodies[kind])

    def step(handler: Handler) -> None:
        asked = "check" if b"SourceRows" in served.received[-1].body else "query"
        data = json.dumps(bodies[asked]).encode()
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    served.script(step)
    capsys.readouterr()
    code = qakhunt([
        "run", "--config", str(config), "--profile", profile, "--now", "2026-11-01T00:00:00Z",
        "--window", "2026-10-02/2026-11-01" if profile == "defender" else "2026-10-01/2026-11-01",
        *options,
    ])  # fmt: skip
    written = capsys.readouterr()
    return code, written.out, written.err


@pytest.mark.parametrize("profile", ["sentinel", "defender"])
def test_the_sound_answers_are_clean(
    served: Service, config: Path, profile: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def shifted(body: dict[str, Any]) -> None:
        if profile == "defender":
            _put_row(body, seen([*range(720)], first="2026-10-02T00:00:00Z"))

    code, document = run(served, config, profile, "check", shifted, capsys)
    assert (code, document["verdict"]) == (0, "clean"), document["ledger"]


@pytest.mark.parametrize(
    ("profile", "kind", "name", "change"), ATTACKS, ids=[f"{a[0]}-{a[1]}-{a[2]}" for a in ATTACKS]
)
def test_an_odd_answer_is_never_clean(
    served: Service, config: Path, profile: str, kind: str, name: str, change: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    code, document = run(served, config, profile, kind, change, capsys)
    assert document["verdict"] in ("incomplete", "failed")
    assert code in (3, 4)
    (line,) = document["ledger"]
    assert line["detail"]
    assert "own" not in line["detail"].split(), "the service's fault is told as qakhunt's"


def test_a_gap_is_told_everywhere_from_when_to_when(
    served: Service, config: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("COLUMNS", "400")
    attack = ("sentinel", "check", CHECKS["stopped on the tenth"], capsys)
    words = "holds no records from 2026-10-10 13:59 to 2026-10-31 23:00 UTC (21 days)"
    gap = {"start": "2026-10-10T13:59:00.0000000Z", "end": "2026-10-31T23:00:00.0000000Z"}
    code, document = run(served, config, *attack)
    assert (code, document["ledger"][0]["gaps"]) == (4, [gap])
    result = tmp_path / "result.json"
    result.write_text(json.dumps(document))
    for name in ("markdown", "html"):
        _, out, err = screen(served, config, *attack, "--format", name)
        assert words in out.replace("\\", "")
        assert words in err
        assert qakhunt(["report", str(result), "--format", name]) == 0
        assert words in capsys.readouterr().out.replace("\\", "")
    patient = tmp_path / "config.toml"
    patient.write_text(
        config.read_text().replace('sign_in = "none"', 'sign_in = "none"\nlongest_gap = "30d"')
    )
    code, document = run(served, patient, *attack)
    assert (code, document["verdict"], document["ledger"][0]["gaps"]) == (0, "clean", [])


def test_a_member_that_nobody_knows_is_noted_with_verbose(
    served: Service, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    attack = ("sentinel", "query", _put("novelty", 1), capsys)
    code, _, err = screen(served, config, *attack, "-v")
    assert (code, "the answer also has 'novelty'" in err) == (0, True)
    code, _, err = screen(served, config, *attack)
    assert (code, "novelty" in err) == (0, False)
