"""Literals: every value is exactly one token, and comes back as it was."""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from qakhunt.kql.literal import LONG_RANGE, decode, encode
from qakhunt.kql.tokens import Kind, tokenize
from qakhunt.kql.values import Instant, Timespan

HOSTILE = [
    "'; drop", '"', "\\", "\\\\'", "\n", "\r\n", "\x00", "\u202eevil", "```", "@'x'", "//", "/*",
    "h'x'", ") | union T", '\\"', "{}", "$now", "\U0001f600", "\u2028", "\ufeff", "x" * 1_000_000,
]  # fmt: skip

instants = st.integers(0, Instant.parse("9999-12-31T23:59:59.9999999Z").ticks).map(Instant)
timespans = st.integers(-(10**17), 10**17).map(Timespan)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(LONG_RANGE.start, LONG_RANGE.stop - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
VALUES = {
    "string": st.text() | st.sampled_from(HOSTILE[:-1]),
    "bool": st.booleans(),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(LONG_RANGE.start, LONG_RANGE.stop - 1),
    "real": st.floats(allow_nan=False),
    "decimal": st.decimals(allow_nan=False, allow_infinity=False, places=6),
    "datetime": instants,
    "timespan": timespans,
    "guid": st.uuids().map(str),
    "dynamic": json_values,
}


def typed_values() -> st.SearchStrategy[tuple[str, Any]]:
    return st.sampled_from(sorted(VALUES)).flatmap(
        lambda kind: st.tuples(st.just(kind), VALUES[kind])
    )


@given(typed_values())
def test_a_literal_is_one_token_and_decodes_to_its_value(typed: tuple[str, Any]) -> None:
    kind, value = typed
    text = encode(value, kind)
    assert len(tokenize(text)) == 1
    assert decode(text) == (kind, value)


@given(typed_values(), st.text(alphabet="ab|; =()", max_size=20))
def test_a_value_never_changes_the_rest_of_the_query(typed: tuple[str, Any], rest: str) -> None:
    kind, value = typed
    before = tokenize(f"let x = 1; T | where {rest}")
    after = tokenize(f"let x = {encode(value, kind)}; T | where {rest}")
    assert [t.text for t in before[:3]] == [t.text for t in after[:3]]
    assert [t.text for t in before[4:]] == [t.text for t in after[4:]]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_stays_inside_its_literal(text: str) -> None:
    for kind, value in (("string", text), ("dynamic", [text, {text: text}])):
        tokens = tokenize(encode(value, kind) + " | take 1")
        assert [t.text for t in tokens[1:]] == ["|", "take", "1"]
        assert decode(tokens[0].text) == (kind, value)


@given(st.text())
def test_a_rendered_literal_shows_no_control_or_bidi_character(text: str) -> None:
    shown = encode(text, "string") + encode([text], "dynamic")
    assert not any(ord(c) < 32 or c in "\x7f\u202a\u202e\u2066\u2069\u2028\ufeff" for c in shown)


def test_ten_thousand_commands_are_one_literal() -> None:
    commands = [f"cmd {i} 'x' \"y\"" for i in range(10_000)]
    text = encode(commands, "dynamic")
    assert len(tokenize(text)) == 1
    assert decode(text)[1] == commands


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("'it\\'s'", "it's"),
        ('"a\\tb"', "a\tb"),
        ("@'C:\\dir''s'", "C:\\dir's"),
        ("h'secret'", "secret"),
        ('H@"a""b"', 'a"b'),
        ("```two\nlines```", "two\nlines"),
        ("~~~x~~~", "x"),
        ("'\\u0041\\x42\\103'", "ABC"),
        ('"\\ud83d\\ude00"', "\U0001f600"),
    ],
)
def test_every_string_form_is_read(text: str, expected: str) -> None:
    assert decode(text) == ("string", expected)


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("15d", "timespan", dt.timedelta(days=15)),
        ("1.5h", "timespan", dt.timedelta(minutes=90)),
        ("time(1.02:03:04.5)", "timespan", dt.timedelta(days=1, hours=2, minutes=3, seconds=4.5)),
        ("timespan(3)", "timespan", dt.timedelta(days=3)),
        ("datetime(2024-02-29)", "datetime", dt.datetime(2024, 2, 29)),
        ("datetime(2024-02-29 10:00:00+02:00)", "datetime", dt.datetime(2024, 2, 29, 8)),
        ("0x1F", "long", 31),
        ("-5", "long", -5),
        ("long(-5)", "long", -5),
        ("1e3", "real", 1000.0),
        ("decimal(1.10)", "decimal", Decimal("1.10")),
        ("bool(1)", "bool", True),
        ("int(null)", "int", None),
        ("dynamic(['a', -1, {'b': null}])", "dynamic", ["a", -1, {"b": None}]),
    ],
)
def test_literals_of_the_language_are_read(text: str, kind: str, value: Any) -> None:
    if isinstance(value, dt.timedelta):
        value = Timespan.from_timedelta(value)
    elif isinstance(value, dt.datetime):
        value = Instant.from_datetime(value)
    assert decode(text) == (kind, value)


def test_nan_and_infinities_are_literals() -> None:
    assert math.isnan(decode(encode(math.nan, "real"))[1])
    assert decode(encode(-math.inf, "real")) == ("real", -math.inf)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("5", "long"), (True, "long"), (1, "bool"), (None, "string"), (2**63, "long"),
        (2**31, "int"), (b"x", "string"), ("\ud800", "string"), ([math.nan], "dynamic"),
        ({1: "x"}, "dynamic"), ("not-a-guid", "guid"), ("2024-01-01", "datetime"), (1, "nothing"),
    ],
)  # fmt: skip
def test_a_value_of_another_type_is_refused(value: Any, kind: str) -> None:
    with pytest.raises((TypeError, ValueError)):
        encode(value, kind)


@pytest.mark.parametrize("text", ["", "a", "1 2", "'x' 'y'", "ago(1d)", "dynamic([1,)", "- 'x'"])
def test_what_is_no_literal_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="."):
        decode(text)


@pytest.mark.parametrize("text", ["'abc", '"abc\ndef"', "```abc", "dynamic([')'"])
def test_an_open_literal_is_an_error_with_its_place(text: str) -> None:
    from qakhunt.kql.tokens import KqlLexError

    with pytest.raises(KqlLexError) as problem:
        tokenize("T | where x == " + text)
    assert problem.value.offset == 15


def test_tokens_cover_the_text_but_for_white_space() -> None:
    text = "let a = 'x;y'; // note 'z\nT | where t > ago(1.5h) and n in (1, 2) // end"
    tokens = tokenize(text, comments=True)
    gaps = [text[a.end : b.start] for a, b in zip(tokens, tokens[1:], strict=False)]
    assert all(gap.strip() == "" for gap in gaps)
    assert [t.text for t in tokens if t.kind is Kind.COMMENT] == ["// note 'z", "// end"]
    assert all(text[t.start : t.end] == t.text for t in tokens)


@pytest.mark.engine
@settings(max_examples=60, deadline=None)
@given(st.text(max_size=40))
@example("\u202e\x00'\"\\")
def test_the_grammars_own_lexer_sees_one_token(text: str) -> None:
    from antlr4 import InputStream
    from duckdb_kql._antlr.KqlLexer import KqlLexer

    lexer = KqlLexer(InputStream(encode(text, "string")))
    lexer.removeErrorListeners()
    tokens = lexer.getAllTokens()
    assert [lexer.symbolicNames[t.type] for t in tokens] == ["STRINGLITERAL"]
