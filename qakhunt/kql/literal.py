"""Python values as KQL literals and back: the only place that escapes.

``encode`` gives exactly one literal token, whatever the value; nothing else in
qakhunt builds KQL from a value. The Python type of each KQL type is that of
``answers.table``; datetime and timespan also take Python's own.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import re
from typing import Any

from qakhunt.kql.tokens import TYPED_LITERALS, Kind, KqlLexError, Token, string_end, tokenize
from qakhunt.kql.values import Instant, Timespan

INT_RANGE = range(-(2**31), 2**31)
LONG_RANGE = range(-(2**63), 2**63)

# Escaped beyond what the grammar needs, so that a rendered query cannot mislead
# its reader: controls, line separators, bidirectional overrides, BOM and tags.
_UNSAFE = re.compile(
    '[\\\\"\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e'
    "\u2060-\u2069\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
_SHORT = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_ESCAPE = re.compile(
    r"\\(?:u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|x([0-9a-fA-F]{2})|([0-7]{1,3})|(.))", re.DOTALL
)
_NAMED = {
    "n": "\n", "r": "\r", "t": "\t", "a": "\a", "b": "\b", "f": "\f", "v": "\v",
    "\\": "\\", "'": "'", '"': '"', "/": "/", "`": "`",
}  # fmt: skip


def encode(value: Any, kql_type: str) -> str:
    """The KQL literal of ``value``; null is allowed for every type but string.

    Raises TypeError for a value of another type, ValueError for one that the
    type cannot hold.
    """
    encoder = _ENCODERS.get(kql_type)
    if encoder is None:
        raise TypeError(f"not a KQL type: {kql_type!r}")
    if value is None:
        if kql_type == "string":
            raise TypeError("a KQL string is never null")
        return f"{kql_type}(null)"
    return encoder(value)  # type: ignore[no-any-return]


def _escape(text: str) -> str:
    def one(match: re.Match[str]) -> str:
        char = match[0]
        if char in _SHORT:
            return _SHORT[char]
        code = ord(char)
        if code < 0x10000:
            return f"\\u{code:04x}"
        # A surrogate pair, since JSON inside dynamic() knows no \U.
        code -= 0x10000
        return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"

    text.encode("utf-8")  # a lone surrogate is no text: UnicodeEncodeError is a ValueError
    return '"' + _UNSAFE.sub(one, text) + '"'


def _string(value: Any) -> str:
    return _escape(_checked(value, str, "text"))


def _checked(value: Any, kinds: type | tuple[type, ...], what: str) -> Any:
    if not isinstance(value, kinds) or (isinstance(value, bool) and kinds is not bool):
        raise TypeError(f"expected {what}, not {type(value).__name__}")
    return value


def _whole(kql_type: str, allowed: range) -> Any:
    def encoder(value: Any) -> str:
        number = _checked(value, int, "a whole number")
        if number not in allowed:
            raise ValueError(f"{number} does not fit {kql_type}")
        bare = kql_type == "long" and number >= 0
        return str(number) if bare else f"{kql_type}({number})"

    return encoder


def _real(value: Any) -> str:
    number = float(_checked(value, (int, float), "a number"))
    if math.isnan(number):
        return "real(nan)"
    if math.isinf(number):
        return "real(+inf)" if number > 0 else "real(-inf)"
    return f"real({number!r})"


def _decimal(value: Any) -> str:
    from decimal import Decimal

    number = _checked(value, (Decimal, int), "a decimal number")
    if isinstance(number, Decimal) and not number.is_finite():
        raise ValueError("a decimal must be finite")
    return f"decimal({number})"


def _datetime(value: Any) -> str:
    if isinstance(value, dt.datetime):
        value = Instant.from_datetime(value)
    return f"datetime({_checked(value, Instant, 'a date and time').short()})"


def _timespan(value: Any) -> str:
    if isinstance(value, dt.timedelta):
        value = Timespan.from_timedelta(value)
    return f"time({_checked(value, Timespan, 'a timespan')})"


def _guid(value: Any) -> str:
    import uuid

    try:
        return f"guid({uuid.UUID(str(value))})"
    except ValueError:
        raise ValueError(f"not a GUID: {value!r}") from None


def _dynamic(value: Any) -> str:
    try:
        return f"dynamic({_json(value)})"
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _json(value: Any) -> str:
    if isinstance(value, str):
        return _escape(value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        if value not in LONG_RANGE:
            raise ValueError(f"{value} does not fit a number in dynamic()")
        return str(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError("dynamic() knows no NaN or infinity")
        return repr(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_json, value)) + "]"
    if isinstance(value, dict):
        pairs = (f"{_string(key)}: {_json(item)}" for key, item in value.items())
        return "{" + ", ".join(pairs) + "}"
    raise TypeError(f"dynamic() cannot hold a {type(value).__name__}")


_ENCODERS: dict[str, Any] = {
    "string": _string,
    "bool": lambda value: "true" if _checked(value, bool, "true or false") else "false",
    "int": _whole("int", INT_RANGE),
    "long": _whole("long", LONG_RANGE),
    "real": _real,
    "decimal": _decimal,
    "datetime": _datetime,
    "timespan": _timespan,
    "guid": _guid,
    "dynamic": _dynamic,
}


def literal_type(token: Token) -> str | None:
    """The KQL type of a literal token, or None for a token that is no literal."""
    if token.kind is Kind.STRING:
        return "string"
    if token.kind is Kind.TIMESPAN:
        return "timespan"
    if token.kind is Kind.NUMBER:
        hexadecimal = token.text[:2] in ("0x", "0X")
        return "long" if hexadecimal or token.text.isdigit() else "real"
    if token.kind is Kind.TYPED:
        return TYPED_LITERALS[token.text.partition("(")[0].strip()]
    if token.kind is Kind.IDENTIFIER and token.text in ("true", "false"):
        return "bool"
    return None


def decode(text: str) -> tuple[str, Any]:
    """KQL type and Python value of one literal. Raises ValueError for anything else."""
    tokens = tokenize(text)
    negative = len(tokens) == 2 and tokens[0].text == "-"
    if len(tokens) != 1 + negative:
        raise ValueError(f"not one KQL literal: {text[:80]!r}")
    token = tokens[-1]
    kql_type = literal_type(token)
    if kql_type is None or (negative and kql_type not in ("long", "real", "timespan")):
        raise ValueError(f"not a KQL literal: {text[:80]!r}")
    value = _decode_token(token, kql_type)
    if negative:
        value = Timespan(-value.ticks) if isinstance(value, Timespan) else -value
    return kql_type, value


def _decode_token(token: Token, kql_type: str) -> Any:
    if token.kind is Kind.STRING:
        return decode_string(token.text)
    if token.kind is Kind.TYPED:
        inner = token.text.partition("(")[2][:-1].strip()
        if inner == "null":
            return None
        return _DECODERS[kql_type](inner)
    return _DECODERS[kql_type](token.text)


def decode_string(text: str) -> str:
    """The value of a string literal in any of its forms."""
    body = text.lstrip("hH") if text[0] in "hH" else text
    if body.startswith(("```", "~~~")):
        return body[3:-3]
    if body.startswith("@"):
        quote = body[1]
        return body[2:-1].replace(quote * 2, quote)
    value = _ESCAPE.sub(_unescape, body[1:-1])
    if any("\ud800" <= char <= "\udfff" for char in value):
        value = value.encode("utf-16", "surrogatepass").decode("utf-16")
    return value


def _unescape(match: re.Match[str]) -> str:
    four, eight, two, octal, other = match.groups()
    if octal:
        return chr(int(octal, 8))
    digits = four or eight or two
    if digits:
        return chr(int(digits, 16))
    if other not in _NAMED:
        raise ValueError(f"unknown escape {match[0]!r} in a string")
    return _NAMED[other]


def _decode_bool(text: str) -> bool:
    known = {"true": True, "1": True, "false": False, "0": False}
    if text.lower() not in known:
        raise ValueError(f"not true or false: {text!r}")
    return known[text.lower()]


def _decode_whole(text: str) -> int:
    sign, digits = (-1, text[1:]) if text.startswith("-") else (1, text)
    return sign * int(digits, 16 if digits[:2].lower() == "0x" else 10)


def _decode_guid(text: str) -> str:
    import uuid

    return str(uuid.UUID(text))


def _decode_decimal(text: str) -> Any:
    from decimal import Decimal, InvalidOperation

    try:
        return Decimal(text)
    except InvalidOperation:
        raise ValueError(f"not a decimal number: {text!r}") from None


def _decode_dynamic(text: str) -> Any:
    """JSON in which KQL's own literals may stand for values, and its strings for names."""
    literals: list[Any] = []
    parts: list[str] = []
    for token in tokenize(text):
        if token.kind in (Kind.PUNCTUATION, Kind.IDENTIFIER):
            parts.append(token.text)
            continue
        value = _decode_token(token, literal_type(token) or "")
        if token.kind is Kind.NUMBER and parts and parts[-1] == "-":
            parts.pop()
            value = -value
        parts.append(f'"{len(literals)}"')  # stands for the literal of that number
        literals.append(value)
    try:
        # int() refuses NaN and infinities, which Python's JSON knows and KQL's does not.
        return _filled(json.loads(" ".join(parts), parse_constant=int), literals)
    except (ValueError, TypeError):
        raise ValueError(f"not what dynamic() can hold: {text[:80]!r}") from None
    except RecursionError:
        raise ValueError("dynamic() is nested too deeply") from None


def _filled(value: Any, literals: list[Any]) -> Any:
    """The JSON value with its literals in their places."""
    if isinstance(value, list):
        return [_filled(item, literals) for item in value]
    if isinstance(value, dict):
        return {_checked(_filled(k, literals), str, "a name"): _filled(v, literals)
                for k, v in value.items()}  # fmt: skip
    return literals[int(value)] if isinstance(value, str) else value


_DECODERS: dict[str, Any] = {
    "bool": _decode_bool,
    "int": _decode_whole,
    "long": _decode_whole,
    "real": float,
    "decimal": _decode_decimal,
    "datetime": Instant.parse,
    "timespan": Timespan.parse,
    "guid": _decode_guid,
    "dynamic": _decode_dynamic,
}

__all__ = ["KqlLexError", "decode", "decode_string", "encode", "literal_type", "string_end"]
