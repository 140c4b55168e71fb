"""Whatever a hunt's literals and names hold stays a literal and a name.

Every function and operator of the translator's tables gets hostile texts in every
argument at once; nothing of them may stand outside quotes in the SQL, no loaded file
may change, and neither may what the next query answers.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qakhunt.backends.engine.session import EngineRefused, Session
from qakhunt.hunts.window import parse
from qakhunt.kql.literal import encode
from tests.support.events import NOW, OCTOBER

pytestmark = pytest.mark.engine

CANARY = "zzcanary"
MARKERS = ("{0}", "{1}", "{2}", "{}", "{if}", "{size}", "{u}", "{0!r}", "{{", "}}", "$name", "$1")
SIGNS = ("'", '"', "''", "`", "\\", "--", "/*", "*/", ";", ")", "(", "\n", "%", "_once0", "x")
TEXT = "".join(MARKERS) + f"'); SELECT {CANARY}; --" + '"\\ /* \n'
OUTSIDE = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"")
WINDOW = parse(OCTOBER, NOW)


@pytest.fixture(scope="module")
def parquet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import duckdb

    path = tmp_path_factory.mktemp("fuzz") / "events.parquet"
    duckdb.execute(
        "COPY (SELECT TIMESTAMP '2026-10-05' AS TimeGenerated, 'd' || i AS DeviceName, "
        f"'net view' AS ProcessCommandLine FROM range(5) t(i)) TO '{path}' (FORMAT parquet)"
    )
    return path


@pytest.fixture(scope="module")
def session(parquet: Path) -> Iterator[Session]:
    with Session([f"DeviceProcessEvents={parquet}"], "log-analytics") as opened:
        yield opened


def ask(session: Session, query: str) -> bool:
    """Whether it was answered; that nothing of the query stands bare in its SQL."""
    session.forget()
    try:
        session.ask(query, now=NOW, window=WINDOW, timeout=20)
        answered = True
    except EngineRefused:
        answered = False
    for translation in session._translations.values():
        bare = OUTSIDE.sub("", translation.sql)
        for sign in (CANARY, ";", "--", "/*", "'", '"'):
            assert sign not in bare, (query, translation.sql)
    return answered


def unharmed(session: Session, parquet: Path, before: str) -> None:
    count = session.ask("DeviceProcessEvents | count", now=NOW, window=WINDOW)
    assert count.rows == [(5,)]
    assert hashlib.sha256(parquet.read_bytes()).hexdigest() == before


def calls(text: str, column: str) -> Iterator[str]:
    """Queries with the text, and a column of that name, in every argument."""
    from duckdb_kql import translate
    from duckdb_kql.translate import functions

    literal = encode(text, "string")
    named = f"DeviceProcessEvents | extend {column} = {literal}"
    names = sorted({*functions.SCALAR_FUNCTIONS, *translate._SPECIAL_FORMS})
    for name in names:
        spec = functions.SCALAR_FUNCTIONS.get(name)
        arities = sorted((spec.arities if spec else ()) or (1, 2, 3))
        for many in arities:
            yield f"{named} | extend x = {name}({', '.join([literal] * many)})"
        yield f"{named} | extend x = {name}({', '.join([column] * arities[-1])})"
    for name, aggregate in functions.AGGREGATE_FUNCTIONS.items():
        for many in {*aggregate.arities, *(() if "percentile" in name else (1, 2, 3))}:
            for first, others in ((literal, literal), (column, literal), (literal, column))[:many]:
                listed = [first, f"{column} == {others}", others][:many]
                yield f"{named} | summarize x = {name}({', '.join(listed)}) by {column}"
            yield f"{named} | summarize {name}({', '.join([column] * many)})"
    for operator in functions.BINARY_OPERATORS:
        yield f"{named} | where {column} {operator} {literal}"
        yield f"{named} | extend x = {literal} {operator} {column}"
    for operator in ("in", "!in", "in~", "has_any", "has_all"):
        yield f"{named} | where {column} {operator} ({literal}, {literal})"
        yield f"{named} | where {column} {operator} (dynamic([{literal}]))"


def test_hostile_texts_stay_in_their_quotes_in_every_function(
    session: Session, parquet: Path
) -> None:
    before = hashlib.sha256(parquet.read_bytes()).hexdigest()
    session.ask("DeviceProcessEvents | count", now=NOW, window=WINDOW)  # loads the translator
    answered = [ask(session, query) for query in calls(TEXT, f"[{encode(TEXT, 'string')}]")]
    assert sum(answered) > 100
    unharmed(session, parquet, before)


def test_a_marker_in_a_condition_is_compared_as_it_is(session: Session) -> None:
    query = (
        'DeviceProcessEvents | extend c = "{0}" | summarize '
        'a = make_set_if(DeviceName, c == "{0}"), b = make_list_if(DeviceName, c == "{0}", 2), '
        'n = make_set_if(DeviceName, c == "{if}"), m = make_list(strcat(c, "{size}"), 1)'
    )
    row = session.ask(query, now=NOW, window=WINDOW).rows[0]
    assert row[0] == ["d0", "d1", "d2", "d3", "d4"]
    assert len(row[1]) == 2
    assert row[2:] == ([], ["{0}{size}"])


hostile = st.lists(st.sampled_from([*MARKERS, *SIGNS, CANARY, "é"]), max_size=8).map("".join)
SHAPES = (
    "let {name} = {text}; DeviceProcessEvents | where ProcessCommandLine == {name}",
    "DeviceProcessEvents | extend {name} = {text} | summarize make_set_if({name}, {name} == {text})",
    "DeviceProcessEvents | extend {name} = parse_json({text})[{text}] | project {name}",
    "DeviceProcessEvents | project {name} = strcat({text}, tostring(tostring(strcat({text})))) ",
    "DeviceProcessEvents | parse ProcessCommandLine with * {text} {name}",
    "DeviceProcessEvents | summarize {name} = make_list(strcat({text}, DeviceName), 3) by b = {text}",
    "datatable({name}: string)[{text}] | where {name} has {text} or {name} matches regex {text}",
    "print {name} = dynamic({{ {text}: {text} }}) | extend y = {name}.a | order by {name} asc",
    "union withsource={name} DeviceProcessEvents, (DeviceProcessEvents | where DeviceName has {text})",
    "DeviceProcessEvents | extend {name} = replace_regex({text}, {text}, {text}) | top 3 by {name}",
)


@settings(
    max_examples=60, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(shape=st.sampled_from(SHAPES), text=hostile, name=hostile)
def test_hostile_names_and_literals_anywhere(
    session: Session, parquet: Path, shape: str, text: str, name: str
) -> None:
    before = hashlib.sha256(parquet.read_bytes()).hexdigest()
    literal = encode(text, "string")
    ask(session, shape.format(text=literal, name=f"[{encode(name or 'a', 'string')}]"))
    ask(session, shape.format(text=literal, name="plain"))
    unharmed(session, parquet, before)
