"""A query's parameters: its leading ``let`` statements whose value is a literal.

Defaults and types are read from the query; a value given by the user replaces
the literal's span and nothing else.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec

from qakhunt.core.errors import HuntError, SourceLocation, UsageError, nearest
from qakhunt.kql.literal import decode, encode
from qakhunt.kql.parser import parse_tokens
from qakhunt.kql.syntax import Literal, Unary
from qakhunt.kql.tokens import KqlLexError, LineIndex
from qakhunt.kql.values import Instant, Timespan

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from qakhunt.hunts.model import Hunt
    from qakhunt.kql.syntax import Node, Script
    from qakhunt.kql.tokens import Token


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


def script_of(hunt: Hunt) -> Script:
    """The query's syntax tree. Raises HuntError where the query cannot be split into tokens."""
    try:
        return parse_tokens(hunt.query)
    except KqlLexError as problem:
        raise HuntError(
            f"syntax error: {problem.message}", location=place_of(hunt, problem.offset)
        ) from None


def query_tokens(hunt: Hunt) -> list[Token]:
    """The query's tokens. Raises HuntError where it cannot be split into them."""
    return list(script_of(hunt).tokens)


def place_of(hunt: Hunt, offset: int) -> SourceLocation:
    """Where an offset of the query stands in the hunt's file."""
    return hunt.place.locate(*LineIndex(hunt.query).locate(offset))


def parameters_of(hunt: Hunt) -> dict[str, Parameter]:
    """The hunt's parameters by name, in the query's order; window lets are none."""
    window = hunt.notes.window
    bounds = {window.start, window.end} if window else set()
    found: dict[str, Parameter] = {}
    for let in script_of(hunt).leading_lets:
        value = let.value
        if let.name in bounds or not _is_literal(value):
            continue
        try:
            kql_type, default = decode(hunt.query[value.start : value.end])
        except ValueError:
            continue  # a form that only the service reads: it stays as it is
        notes = hunt.notes.parameters.get(let.name)
        found[let.name] = Parameter(
            let.name, kql_type, default, value.start, value.end,
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


def _is_literal(value: Node) -> bool:
    if isinstance(value, Unary):
        number = value.operand
        is_number = isinstance(number, Literal) and number.type in ("long", "real", "timespan")
        return is_number and value.signs == "-"
    return isinstance(value, Literal)


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
        if not isinstance(value, list):
            raise ValueError(f"expected a list of commands, not {value!r}")
        if not value:
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
    if kql_type in ("string", "guid"):
        return text
    if kql_type in ("datetime", "timespan"):
        return (Instant if kql_type == "datetime" else Timespan).parse(text)
    if kql_type == "dynamic":
        try:
            return json.loads(text)
        except json.JSONDecodeError as problem:
            raise ValueError(f'expected JSON, such as ["a", "b"] ({problem.msg})') from None
        except RecursionError:
            raise ValueError("nested too deeply") from None
    read, what = _FROM_TEXT[kql_type]
    try:
        return read(text)
    except (ValueError, ArithmeticError, KeyError):
        raise ValueError(f"expected {what}, not {text!r}") from None


_FROM_TEXT: dict[str, tuple[Callable[[str], Any], str]] = {
    "bool": (lambda text: {"true": True, "false": False}[text.lower()], "true or false"),
    "int": (int, "a whole number"),
    "long": (int, "a whole number"),
    "real": (float, "a number"),
    "decimal": (Decimal, "a decimal number"),
}
