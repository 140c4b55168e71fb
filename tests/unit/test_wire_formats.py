"""Both wire formats: what the services send becomes the typed result, and back."""

from __future__ import annotations

import json
import math
import re
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qakhunt.answers import wire_hunting, wire_log_analytics
from qakhunt.answers.cells import WireError
from qakhunt.answers.response import ServiceError, decode_error
from qakhunt.answers.table import KQL_TYPES, Column, ResultTable
from qakhunt.kql.values import Instant, Timespan, parse_instants

FORMATS = pytest.mark.parametrize("wire", [wire_log_analytics, wire_hunting])

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
CELLS: dict[str, st.SearchStrategy[Any]] = {
    "bool": st.booleans(),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1),
    "real": st.floats(),
    "decimal": st.decimals(allow_nan=False, allow_infinity=False),
    "string": TEXT,
    "datetime": st.integers(0, 3_155_378_975_999_999_999).map(Instant),
    "timespan": st.integers(-(2**62), 2**62).map(Timespan),
    "guid": st.uuids().map(str),
    "dynamic": JSON,
}


@st.composite
def tables(draw: st.DrawFn) -> ResultTable:
    kinds = draw(st.lists(st.sampled_from(KQL_TYPES), min_size=1, max_size=5))
    columns = tuple(Column(f"c{i}", kind) for i, kind in enumerate(kinds))
    row = st.tuples(*(st.none() | CELLS[kind] for kind in kinds))
    return ResultTable(columns, draw(st.lists(row, max_size=5)))


def same(left: Any, right: Any) -> bool:
    if isinstance(left, float) and math.isnan(left):
        return isinstance(right, float) and math.isnan(right)
    return type(left) is type(right) and bool(left == right)


@FORMATS
@given(table=tables())
def test_every_cell_survives_the_way_there_and_back(wire: Any, table: ResultTable) -> None:
    back = wire.decode(wire.encode(table)).table
    assert back.columns == table.columns
    assert len(back) == len(table)
    for sent, received in zip(table.rows, back.rows, strict=True):
        assert all(map(same, sent, received)), (sent, received)


@given(st.lists(st.integers(0, 3_155_378_975_999_999_999).map(Instant), max_size=5))
def test_many_instants_parse_as_one_by_one(instants: list[Instant]) -> None:
    texts = [i.isoformat() for i in instants] + [i.short() for i in instants]
    assert parse_instants(texts) == [Instant.parse(text) for text in texts]


@pytest.mark.parametrize(
    "text",
    ["", "Z", "2026-10-01T00:00:00.Z", "2026-10-01T00:00:61Z", "2026-13-01T00:00:00Z",
     "2026-10-01T24:00:00Z", "2026-10-01T00:00:00.1_0Z", "2026-10-01T00:00:00.+10Z",
     "2026-10-01T00:00:00.\u0661Z", "2026-10-01T00:00:00 Z.", "hello, this is no date"],
)  # fmt: skip
def test_broken_instants_are_refused_however_many_there_are(text: str) -> None:
    def verdict(parse: Any) -> Any:
        try:
            return parse(text)
        except ValueError:
            return "refused"

    assert verdict(lambda t: parse_instants([t])[0]) == verdict(Instant.parse)


def log_analytics(columns: dict[str, str], *rows: list[Any], **more: Any) -> bytes:
    table = {
        "name": "PrimaryResult",
        "columns": [{"name": n, "type": t} for n, t in columns.items()],
        "rows": rows,
    }
    return json.dumps({"tables": [table], **more}).encode()


def cell(kind: str, raw: Any) -> Any:
    return wire_log_analytics.decode(log_analytics({"c": kind}, [raw])).table.rows[0][0]


@pytest.mark.parametrize(
    ("kind", "raw", "value"),
    [
        ("datetime", "2026-10-01T01:02:03.1234567Z", Instant.parse("2026-10-01T01:02:03.1234567Z")),
        ("datetime", "2026-10-01T01:02:03Z", Instant.parse("2026-10-01T01:02:03Z")),
        ("datetime", "2026-10-01T03:02:03+02:00", Instant.parse("2026-10-01T01:02:03Z")),
        ("timespan", "1.02:03:04.5", Timespan.parse("1.02:03:04.5000000")),
        ("real", "Infinity", math.inf),
        ("real", "-Infinity", -math.inf),
        ("real", 3, 3.0),
        ("long", 9_007_199_254_740_993, 9_007_199_254_740_993),
        ("long", "12", 12),
        ("bool", 1, True),
        ("bool", "False", False),
        ("decimal", "0.10", Decimal("0.10")),
        ("guid", None, None),
        ("timespan", None, None),
        ("dynamic", '{"a":[1,"x"]}', {"a": [1, "x"]}),
        ("dynamic", {"a": 1}, {"a": 1}),
        ("dynamic", "cmd.exe /c {", "cmd.exe /c {"),
        ("dynamic", '{"a": "\\ud800"}', {"a": "\ufffd"}),
        ("dynamic", "[" * 5000, "[" * 5000),
        ("string", "None", "None"),
        ("string", "\x1b[2J", "\x1b[2J"),
        ("string", "\ud800 net view", "\ufffd net view"),
    ],
)
def test_a_cell_as_log_analytics_sends_it(kind: str, raw: Any, value: Any) -> None:
    assert same(cell(kind, raw), value)


def test_not_a_number_arrives_as_text_or_bare() -> None:
    assert math.isnan(cell("real", "NaN"))
    assert math.isnan(cell("real", math.nan))


@pytest.mark.parametrize(
    ("kind", "raw"),
    [("long", "many"), ("long", 1.5), ("long", True), ("datetime", 5), ("datetime", "soon"), ("bool", 7),
     ("real", "x"), ("decimal", "x"), ("timespan", {}), ("int", [])],
)  # fmt: skip
def test_a_cell_that_is_no_such_value_names_column_and_row(kind: str, raw: Any) -> None:
    body = log_analytics({"c": kind}, [None], [raw])
    with pytest.raises(WireError, match="column 'c', row 2"):
        wire_log_analytics.decode(body)


def test_columns_that_share_a_name_keep_their_own_cells() -> None:
    body = json.dumps(
        {
            "tables": [
                {"name": "t", "columns": [{"name": "x", "type": "long"}] * 2, "rows": [[1, 2]]}
            ]
        }
    )
    table = wire_log_analytics.decode(body.encode()).table
    assert table.names == ["x", "x"]
    assert table.rows == [(1, 2)]


def test_an_empty_result_keeps_its_columns() -> None:
    table = wire_log_analytics.decode(log_analytics({"a": "long", "b": "guid"})).table
    assert table.columns == (Column("a", "long"), Column("b", "guid"))
    assert len(table) == 0


def test_the_primary_table_is_the_result() -> None:
    tables = [
        {"name": "Other", "columns": [{"name": "n", "type": "long"}], "rows": [[1]]},
        {"name": "PrimaryResult", "columns": [{"name": "n", "type": "long"}], "rows": [[2]]},
    ]
    body = json.dumps({"tables": tables}).encode()
    assert wire_log_analytics.decode(body).table.rows == [(2,)]


def test_a_partial_error_comes_with_its_cause() -> None:
    error = {
        "code": "PartialError",
        "message": "There were some errors when processing your query.",
        "details": [{"code": "EngineError", "message": "Something went wrong.",
                     "innererror": {"code": "-2133196797",
                                    "message": "exceed the set limit of 64000000 bytes"}}],
    }  # fmt: skip
    answer = wire_log_analytics.decode(log_analytics({"n": "long"}, [1], error=error))
    assert answer.table.rows == [(1,)]
    assert answer.partial is not None
    assert answer.partial.codes == ("PartialError", "EngineError", "-2133196797")
    assert answer.partial.words == "exceed the set limit of 64000000 bytes"
    again = wire_log_analytics.decode(wire_log_analytics.encode(answer.table, answer.partial))
    assert again == answer


def test_a_failure_among_the_rows_is_partial_not_a_row() -> None:
    late = {"OneApiErrors": [{"error": {"code": "LimitsExceeded", "message": "too much"}}]}
    body = json.loads(log_analytics({"n": "long"}, [1]))
    body["tables"][0]["rows"].append(late)
    answer = wire_log_analytics.decode(json.dumps(body).encode())
    assert answer.table.rows == [(1,)]
    assert answer.partial is not None
    assert answer.partial.words == "too much"


def test_bytes_that_are_no_utf8_are_told() -> None:
    body = log_analytics({"s": "string"}, ["net view"]).replace(b"view", b"vi\xffew")
    answer = wire_log_analytics.decode(body)
    assert answer.damaged
    assert answer.table.rows == [("net vi\ufffdew",)]
    assert not wire_log_analytics.decode(log_analytics({"s": "string"}, ["\ud800"])).damaged


@FORMATS
@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "no body"),
        (b" \r\n", "no body"),
        (b"<html>502</html>", "HTML"),
        (b'{"tables":[{"na', "not whole"),
        (b"[" * 100_000, "too deeply"),
        (b"null", "no "),
        (b'{"tables":[{"columns":5}]}', "no "),
        (b"bad gateway", "not JSON"),
    ],
)
def test_what_is_no_answer_is_one_clear_error(wire: Any, body: bytes, words: str) -> None:
    with pytest.raises(WireError, match=words):
        wire.decode(body)


@FORMATS
@given(st.binary(max_size=40) | JSON.map(lambda value: json.dumps(value).encode()))
def test_no_bytes_raise_anything_else(wire: Any, body: bytes) -> None:
    with pytest.raises(WireError):
        wire.decode(body)


def hunting(schema: list[dict[str, str]], *rows: dict[str, Any]) -> ResultTable:
    body = json.dumps({"@odata.context": "x", "schema": schema, "results": rows}).encode()
    return wire_hunting.decode(body).table


def test_rows_are_matched_to_the_schema_without_regard_to_case() -> None:
    table = hunting(
        [{"name": "Timestamp", "type": "DateTime"}, {"name": "DeviceName", "type": "String"},
         {"name": "count_", "type": "Int64"}],
        {"timestamp": "2026-10-01T00:00:00.123Z", "deviceName": "a", "Count_": 2},
        {"Timestamp@odata.type": "#DateTimeOffset", "@odata.type": "#x", "DeviceName": "b"},
        {"Timestamp": None, "DeviceName": None, "count_": None},
    )  # fmt: skip
    assert table.names == ["Timestamp", "DeviceName", "count_"]
    assert table.rows == [
        (Instant.parse("2026-10-01T00:00:00.123Z"), "a", 2),
        (None, "b", None),
        (None, None, None),
    ]


def test_columns_that_differ_only_in_case_keep_their_own_cells() -> None:
    schema = [{"name": "Account", "type": "String"}, {"name": "account", "type": "String"}]
    assert hunting(schema, {"account": "lower", "Account": "upper"}).rows == [("upper", "lower")]


def test_a_key_outside_the_schema_is_not_lost() -> None:
    table = hunting([{"name": "a", "type": "Int64"}], {"a": 1, "b": {"x": 1}}, {"a": 2})
    assert table.columns == (Column("a", "long"), Column("b", "dynamic"))
    assert table.rows == [(1, {"x": 1}), (2, None)]


def test_the_legacy_form_loads() -> None:
    value = {
        "Stats": {"ExecutionTime": 0.2},
        "Schema": [{"Name": "AdditionalFields", "Type": "Object"}, {"Name": "b", "Type": "SByte"}],
        "Results": [{"AdditionalFields": '{"a":1}', "b": 1}],
    }
    assert wire_hunting.is_response(value)
    assert wire_hunting.from_value(value).table.rows == [({"a": 1}, True)]


def test_each_format_knows_its_own_responses() -> None:
    table = ResultTable((Column("a", "long"),), [(1,)])
    ours = json.loads(wire_log_analytics.encode(table))
    theirs = json.loads(wire_hunting.encode(table))
    assert wire_log_analytics.is_response(ours)
    assert wire_hunting.is_response(theirs)
    assert not wire_log_analytics.is_response(theirs)
    assert not wire_hunting.is_response(ours)
    neither: list[Any] = [[ours], {"tables": []}, {"schema": 1, "results": []}, None, "x"]
    for value in neither:
        assert not wire_log_analytics.is_response(value)
        assert not wire_hunting.is_response(value)


def test_equal_names_are_told_apart_on_the_hunting_wire() -> None:
    table = ResultTable((Column("x", "long"), Column("x", "long")), [(1, 2)])
    back = wire_hunting.decode(wire_hunting.encode(table)).table
    assert back.names == ["x", "x1"]
    assert back.rows == [(1, 2)]


def test_an_error_body_gives_its_chain_words_and_place() -> None:
    body = {"error": {
        "message": "The request had some invalid properties", "code": "BadArgumentError",
        "correlationId": "11-22",
        "innererror": {"code": "SyntaxError", "message": "A recognition error occurred.",
            "innererror": {"code": "SYN0002", "line": 3, "pos": 7, "token": "x",
                           "message": "Query could not be parsed on line [3,7]"}}}}  # fmt: skip
    error = decode_error(json.dumps(body).encode())
    assert error is not None
    assert error.codes == ("BadArgumentError", "SyntaxError", "SYN0002")
    assert error.words == "Query could not be parsed on line [3,7]"
    assert error.query_place == (3, 7)
    assert error.request_id == "11-22"


def test_a_graph_error_gives_words_place_and_request_id() -> None:
    body = {"error": {"code": "BadRequest", "message": "Syntax error [line:position=1:10].",
                      "innerError": {"date": "2026-11-01T00:00:00", "request-id": "r-1",
                                     "client-request-id": "c-1"}}}  # fmt: skip
    error = decode_error(json.dumps(body).encode())
    assert error == ServiceError("BadRequest", body["error"]["message"], None, None, "r-1")  # type: ignore[arg-type]
    assert error.query_place == (1, 10)
    again = {"error": wire_hunting.error_value(error, "r-1", "2026-11-01T00:00:00")}
    assert decode_error(json.dumps(again).encode()) == error


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"error":null}', b'{"a":1}', b"\xff"])
def test_a_body_without_an_error_has_none(body: bytes) -> None:
    assert decode_error(body) is None


def test_an_entra_error_is_read() -> None:
    error = decode_error(b'{"error":"invalid_client","error_description":"AADSTS7000222: expired"}')
    assert error == ServiceError("invalid_client", "AADSTS7000222: expired")


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("bad token eyJhbGciOiJub25lIn0.eyJhdWQiOiJ4In0.c2ln, sorry", "bad token [token], sorry"),
        ("header 'Bearer 0123456789abcdefgh/+=' is bad", "header 'Bearer [token]' is bad"),
        ("the bearer of this has no role", "the bearer of this has no role"),
    ],
)
def test_a_token_that_a_service_repeats_goes_no_further(said: str, told: str) -> None:
    error = decode_error(json.dumps({"error": {"code": "x", "message": said}}).encode())
    assert error is not None
    assert error.words == told


def table_of(*rows: Any, columns: Any = None, name: str = "PrimaryResult", **more: Any) -> Any:
    named = [{"name": "n", "type": "long"}] if columns is None else columns
    return {"name": name, "columns": named, "rows": list(rows), **more}


OTHER_COLUMNS = [{"name": "x", "type": "string"}]


@pytest.mark.parametrize(
    ("tables", "rows", "words"),
    [
        ([], [], "has no table"),
        ([table_of([1]), table_of([2], name="Secondary")], [(1,)], "has 2 tables .*1 rows of"),
        ([table_of([1]), table_of([2], [3])], [(1,)], "'PrimaryResult', 'PrimaryResult'.*2 rows"),
        ([table_of(), table_of(["a"], columns=OTHER_COLUMNS)], [], "2 tables"),
        ([table_of([1, 2], columns=[{"name": "n", "type": "long"}] * 2)], [(1, 2)], "called 'n'"),
        ([table_of([], [1])], [(None,), (1,)], "1 rows are shorter"),
        ([table_of([1], nextLink="https://x")], [(1,)], "more than this answer holds"),
    ],
)
def test_a_result_that_is_not_one_sound_table_says_so(
    tables: Any, rows: list[Any], words: str
) -> None:
    answer = wire_log_analytics.decode(json.dumps({"tables": tables}).encode())
    assert answer.table.rows == rows
    assert re.search(words, "; ".join(answer.faults))


@pytest.mark.parametrize("rows", [None, {}, {"0": [1]}, "text", False, 0, [None], ["x"], [[1, 2]]])
def test_rows_that_are_no_rows_are_no_answer(rows: Any) -> None:
    table = {**table_of(), "rows": rows}
    with pytest.raises(WireError, match="row"):
        wire_log_analytics.decode(json.dumps({"tables": [table]}).encode())


@pytest.mark.parametrize("columns", [[], None, {}, 5, "n", [5], [{"type": "long"}], [None]])
def test_columns_that_are_no_columns_are_no_answer(columns: Any) -> None:
    table = {**table_of(), "columns": columns}
    with pytest.raises(WireError, match="column"):
        wire_log_analytics.decode(json.dumps({"tables": [table]}).encode())
    if isinstance(columns, list):
        with pytest.raises(WireError, match="column"):
            wire_hunting.decode(json.dumps({"schema": columns, "results": []}).encode())


SOUND: dict[Any, dict[str, Any]] = {
    wire_log_analytics: {"tables": [table_of([1])]},
    wire_hunting: {"schema": [{"name": "n", "type": "Int64"}], "results": [{"n": 1}]},
}
ERROR = {"code": "Broken", "message": "gave up"}


@FORMATS
@pytest.mark.parametrize(
    ("name", "item", "words"),
    [
        ("error", ERROR, "gave up"), ("Error", ERROR, "gave up"), ("ERRORS", [ERROR], "gave up"),
        ("errors", ["gave up", "twice"], "gave up"), ("warnings", [{"message": "gave up"}], "gave"),
        ("Warning", "gave up", "gave up"), ("error", {}, "without words"),
        ("errors", [{}], "without words"), ("error", 7, "without words"),
        ("Exceptions", ["gave up"], "gave up"), ("warnings", [[1]], "without words"),
    ],
)  # fmt: skip
def test_an_error_beside_the_rows_makes_them_partial_however_it_is_spelled(
    wire: Any, name: str, item: Any, words: str
) -> None:
    answer = wire.decode(json.dumps({**SOUND[wire], name: item}).encode())
    assert answer.table.rows == [(1,)]
    assert answer.partial is not None
    assert words in (answer.partial.words or "without words")


@FORMATS
@pytest.mark.parametrize("name", ["@odata.nextLink", "nextLink", "odata.nextLink", "NextLink"])
def test_a_link_to_more_is_a_fault(wire: Any, name: str) -> None:
    answer = wire.decode(json.dumps({**SOUND[wire], name: "https://next"}).encode())
    assert answer.faults == (f"there is more than this answer holds ({name})",)


@FORMATS
def test_members_that_say_nothing_of_the_rows_are_only_noted(wire: Any) -> None:
    beside: dict[str, Any] = {
        "error": None,
        "errors": [],
        "nextLink": None,
        "padding": 1,
        "@odata.context": "x",
    }
    answer = wire.decode(json.dumps({**SOUND[wire], **beside}).encode())
    assert (answer.partial, answer.faults, answer.unknown) == (None, (), ("padding",))
    assert not wire.decode(json.dumps(SOUND[wire]).encode()).unknown


def test_hunting_rows_and_schema_must_fit() -> None:
    schema = [{"name": "n", "type": "Int64"}]
    more = wire_hunting.from_value({"schema": schema, "results": [{"n": 1, "m": 2}]})
    assert more.faults == ("rows hold what the schema does not name: m",)
    bare = wire_hunting.from_value({"schema": schema, "results": [{}, {"n": 1}]})
    assert bare.faults == ("1 rows hold none of the columns",)
    twice = wire_hunting.from_value({"schema": schema * 2, "results": [{"n": 1}]})
    assert twice.faults == ("several columns are called 'n'",)


COLUMN = st.fixed_dictionaries({"name": TEXT, "type": st.sampled_from([*KQL_TYPES, "Int64", ""])})
COLUMNS = st.lists(COLUMN | JSON, max_size=3) | JSON
ROWS = st.lists(st.lists(JSON, max_size=3) | JSON, max_size=3) | JSON
TABLE = st.fixed_dictionaries({"columns": COLUMNS, "rows": ROWS}, optional={"name": JSON})
BESIDE = st.dictionaries(
    st.sampled_from(["error", "Errors", "warnings", "nextLink", "@odata.nextLink", "x"]), JSON,
    max_size=2,
)  # fmt: skip
BODIES = st.one_of(
    JSON,
    st.builds(lambda t, more: {"tables": t, **more}, st.lists(TABLE | JSON, max_size=2), BESIDE),
    st.builds(lambda s, r, more: {"schema": s, "results": r, **more}, COLUMNS, ROWS, BESIDE),
)


@FORMATS
@given(BODIES)
def test_whatever_comes_is_sound_or_said_not_to_be(wire: Any, body: Any) -> None:
    try:
        answer = wire.decode(json.dumps(body).encode())
    except WireError:
        return
    if answer.partial or answer.damaged or answer.faults:
        return
    names = answer.table.names
    assert names
    assert len(set(names)) == len(names)
    sent = body["tables"][0]["rows"] if wire is wire_log_analytics else body["results"]
    assert isinstance(sent, list)
    assert len(sent) == len(answer.table)
    assert wire is wire_hunting or len(body["tables"]) == 1
    assert all(len(row) == len(names) for row in answer.table.rows)
    assert not any(body.get(name) for name in ("Errors", "warnings", "nextLink"))


ROW = '{"tables":[{"name":"PrimaryResult","columns":[{"name":"a","type":"long"}],"rows":%s}]%s}'
HUNTED = '{"schema":[{"name":"a","type":"Int64"}],"results":%s%s}'


@pytest.mark.parametrize(
    ("decode", "body"),
    [
        (wire_log_analytics.decode, ROW % ("[[1]]", ',"tables":' + (ROW % ("[]", ""))[10:-1])),
        (wire_log_analytics.decode, ROW % ('[[1]],"rows":[]', "")),
        (
            wire_log_analytics.decode,
            ROW % ("[[1]]", ',"error":{"code":"PartialError"},"error":null'),
        ),
        (wire_log_analytics.decode, ROW % ('[[1]],"ro\\u0077s":[]', "")),
        (wire_hunting.decode, HUNTED % ('[{"a":1}],"results":[]', "")),
        (wire_hunting.decode, HUNTED % ('[{"a":1}],"Results":[]', "")),
        (wire_hunting.decode, HUNTED % ("[]", ',"error":{"code":"x","message":"y"},"error":null')),
    ],
)
def test_a_member_that_stands_twice_makes_the_answer_partial(decode: Any, body: str) -> None:
    """A parser keeps the last, so the rows or the error of the first would be lost."""
    assert any("more than once" in fault for fault in decode(body.encode()).faults)
    padded = body.replace("[[1]]", "[" + "[1]," * 500 + "[1]]")
    assert any("more than once" in fault for fault in decode(padded.encode()).faults)


@pytest.mark.parametrize(
    ("decode", "body"),
    [
        (wire_log_analytics.decode, ROW % ("[[1],[2]]", ',"error":null')),
        (wire_hunting.decode, HUNTED % ('[{"a":1},{"a":2}]', ',"@odata.context":"x"')),
    ],
)
def test_members_that_stand_once_are_no_fault(decode: Any, body: str) -> None:
    assert decode(body.encode()).faults == ()
