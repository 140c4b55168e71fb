"""A query's parameters: its leading ``let`` statements whose value is a literal.

Defaults and types are read from the query; a value given by the user replaces
the literal's span and nothing else.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

from qakhunt.core.errors import HuntError, SourceLocation, UsageError, nearest
from qakhunt.kql.literal import decode, encode, literal_type
from qakhunt.kql.tokens import Kind, KqlLexError, LineIndex, Token, tokenize
from qakhunt.kql.values import Instant, Timespan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qakhunt.hunts.model import Hunt


class LetStatement(msgspec.Struct, frozen=True):
    """A leading ``let``: its name and the span of its value, up to the ``;``."""

    name: str
    name_start: int
    value_start: int
    value_end: int
    tokens: tuple[Token, ...]


class Parameter(msgspec.Struct, frozen=True):
    """A literal of the query that a run may replace.

    ``default`` is of the Python type that ``answers.table`` gives for ``kql_type``.
    """

    name: str
    kql_type: str
    default: Any
    start: int
    end: int
    help: str = ""
    role: str | None = None


def query_tokens(hunt: Hunt) -> list[Token]:
    """The query's tokens. Raises HuntError at the place that cannot be read."""
    try:
        return list(_tokens(hunt.query))
    except KqlLexError as problem:
        raise HuntError(
            f"syntax error: {problem.message}", location=place_of(hunt, problem.offset)
        ) from None


@lru_cache(maxsize=32)
def _tokens(query: str) -> tuple[Token, ...]:
    return tuple(tokenize(query))


def place_of(hunt: Hunt, offset: int) -> SourceLocation:
    """Where an offset of the query stands in the hunt's file."""
    return hunt.place.locate(*LineIndex(hunt.query).locate(offset))


def leading_lets(tokens: Sequence[Token]) -> list[LetStatement]:
    """All ``let name = ...;`` statements before the query proper."""
    lets = []
    at = 0
    while at + 2 < len(tokens) and tokens[at].text in ("let", "set", "declare", "alias", ";"):
        if tokens[at].text != "let":
            end = _statement_end(tokens, at)
            if end is None:
                break
            at = end + 1
            continue
        if tokens[at + 1].kind is not Kind.IDENTIFIER or tokens[at + 2].text != "=":
            break
        end = _statement_end(tokens, at + 3)
        if end is None:
            break
        value = tuple(tokens[at + 3 : end])
        if value:
            name = tokens[at + 1]
            lets.append(LetStatement(name.text, name.start, value[0].start, value[-1].end, value))
        at = end + 1
    return lets


def _statement_end(tokens: Sequence[Token], at: int) -> int | None:
    depth = 0
    for position in range(at, len(tokens)):
        text = tokens[position].text
        if text in ("(", "[", "{"):
            depth += 1
        elif text in (")", "]", "}"):
            depth -= 1
        elif text == ";" and depth == 0:
            return position
    return None


def parameters_of(hunt: Hunt) -> dict[str, Parameter]:
    """The hunt's parameters by name, in the query's order; window lets are none."""
    window = hunt.notes.window
    bounds = {window.start, window.end} if window else set()
    found: dict[str, Parameter] = {}
    for let in leading_lets(query_tokens(hunt)):
        if let.name in bounds or not _is_literal(let.tokens):
            continue
        text = hunt.query[let.value_start : let.value_end]
        try:
            kql_type, default = decode(text)
        except ValueError:
            continue  # a form that only the service reads: it stays as it is
        notes = hunt.notes.parameters.get(let.name)
        found[let.name] = Parameter(
            let.name, kql_type, default, let.value_start, let.value_end,
            help=notes.help if notes else "", role=notes.role if notes else None,
        )  # fmt: skip
    for name in hunt.notes.parameters:
        if name not in found:
            raise HuntError(
                f"qakhunt.parameters names {name!r}, but no leading let of the query holds "
                "a literal of that name",
                location=hunt.place.locate(1, 1),
                hint=nearest(name, found),
            )
    return found


def _is_literal(tokens: tuple[Token, ...]) -> bool:
    if len(tokens) == 2 and tokens[0].text == "-":
        return literal_type(tokens[1]) in ("long", "real", "timespan")
    return len(tokens) == 1 and literal_type(tokens[0]) is not None


def bind(hunt: Hunt, values: Mapping[str, Any]) -> dict[str, Any]:
    """Default of every parameter, overlaid by ``values``, each checked.

    Text is read by the parameter's type. Raises UsageError naming the parameter
    and the line of its ``let``.
    """
    parameters = parameters_of(hunt)
    bound = {name: parameter.default for name, parameter in parameters.items()}
    for name, value in values.items():
        if name not in parameters:
            raise UsageError(
                f"{hunt.name} has no parameter {name!r}",
                hint=nearest(name, parameters) or _known(parameters),
            )
        parameter = parameters[name]
        try:
            typed = from_text(value, parameter.kql_type) if isinstance(value, str) else value
            encode(typed, parameter.kql_type)
            _check_bounds(hunt, parameter, typed)
        except (TypeError, ValueError) as problem:
            raise UsageError(
                f"{name} is a {parameter.kql_type}: {problem}",
                location=place_of(hunt, parameter.start),
            ) from None
        bound[name] = typed
    return bound


def _known(parameters: Mapping[str, Parameter]) -> str:
    return f"its parameters: {', '.join(parameters)}" if parameters else "it has none"


def _check_bounds(hunt: Hunt, parameter: Parameter, value: Any) -> None:
    notes = hunt.notes.parameters.get(parameter.name)
    if parameter.role == "commands":
        if not isinstance(value, list) or not value:
            raise ValueError("the command list is empty")
        if not all(isinstance(entry, str) and entry.strip() for entry in value):
            raise ValueError("every entry of the command list must be text")
    if notes is None or not isinstance(value, (int, float)) or isinstance(value, bool):
        return
    if notes.minimum is not None and value < notes.minimum:
        raise ValueError(f"{value} is below {notes.minimum:g}")
    if notes.maximum is not None and value > notes.maximum:
        raise ValueError(f"{value} is above {notes.maximum:g}")


def from_text(text: str, kql_type: str) -> Any:
    """A value typed on a command line, by the KQL type. Raises ValueError."""
    return _FROM_TEXT[kql_type](text)


def _bool(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(f"expected true or false, not {text!r}")
    return text.lower() == "true"


def _int(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"expected a whole number, not {text!r}") from None


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"expected a number, not {text!r}") from None


def _decimal(text: str) -> Any:
    from decimal import Decimal, InvalidOperation

    try:
        return Decimal(text)
    except InvalidOperation:
        raise ValueError(f"expected a decimal number, not {text!r}") from None


def _dynamic(text: str) -> Any:
    import json

    try:
        return json.loads(text)
    except json.JSONDecodeError as problem:
        raise ValueError(f'expected JSON, such as ["a", "b"] ({problem.msg})') from None


_FROM_TEXT: dict[str, Any] = {
    "string": lambda text: text,
    "guid": lambda text: text,
    "bool": _bool,
    "int": _int,
    "long": _int,
    "real": _float,
    "decimal": _decimal,
    "datetime": Instant.parse,
    "timespan": Timespan.parse,
    "dynamic": _dynamic,
}
