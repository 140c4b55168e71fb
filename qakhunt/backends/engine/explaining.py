"""DuckDB's errors as sentences about KQL, at the construct that the query writes.

DuckDB knows no place in the query's text. The step at fault is the first whose
pipeline fails as far as it; in it, the construct that the error speaks of.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from qakhunt.backends.engine.dialect import Unreadable, offset_of
from qakhunt.backends.engine.limits import TOO_LARGE
from qakhunt.backends.engine.sql_types import kql_type
from qakhunt.core.errors import nearest
from qakhunt.kql.parser import parse
from qakhunt.kql.syntax import Call, Chain, Comparison, Let, bare, find, stages
from qakhunt.kql.tokens import Token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from qakhunt.kql.schema import Columns
    from qakhunt.kql.syntax import Node, Operator

_MISSING_COLUMN = re.compile(
    r'[Rr]eferenced column "([^"]+)"|Column "([^"]+)" (?:referenced|in EXCLUDE list not found)'
)
_MISSING_TABLE = re.compile(r"Table with name (.+?) does not exist")
_NO_OVERLOAD = re.compile(r"No function matches the given name and argument types '(.+?)\((.*)\)'")
_NO_MACRO = re.compile(r"Macro kql_(\w+)\(\) does not support")
_OVERFLOW = re.compile(r"Overflow in (\w+) of \w+ \((.*)\)")
_TWO_TYPES = re.compile(
    r"Cannot (?:compare|mix) values of type (\w+)(?:\(.*?\))? (?:and|in) (?:type )?(\w+)"
)
_NO_VALUE = re.compile(r"Could not convert string '(.*?)' to (\w+)")
_NO_TIME = re.compile(r"(?:invalid timestamp field format|timestamp field value out of range)")
_BAD_PATTERN = re.compile(
    r"^(?:missing|no argument for repetition|invalid|bad repetition|unexpected|trailing \\)"
    r".*?: .*$"
)
# Sentences of the engine's own error() and of the translator's, which say it all.
_OWN = re.compile(r"^(?:a sum is larger|" + TOO_LARGE + r"|duckdb-kql: )")

_SIGNS = {"addition": "+", "subtraction": "-", "multiplication": "*", "division": "/"}
_HAS = tuple(
    f"{no}{word}{cs}"
    for word in ("has", "hasprefix", "hassuffix")
    for no in ("", "!")
    for cs in ("", "_cs")
)
_SUBSTRING = tuple(
    f"{no}{word}{cs}"
    for word in ("contains", "startswith", "endswith")
    for no in ("", "!")
    for cs in ("", "_cs")
)
_PATTERNS = (
    "matches regex", "extract", "extract_all", "replace_regex", "replace", "trim", "trim_start",
    "trim_end", "parse", "countof", "indexof_regex",
)  # fmt: skip
# What the translator makes of KQL's own words.
_KQL_WORDS: dict[str, tuple[str, ...]] = {
    "stddev_samp": ("stdev", "stdevif"), "var_samp": ("variance", "varianceif"),
    "stddev_pop": ("stdevp",), "var_pop": ("variancep",), "quantile_disc": ("percentile",),
    "regexp_matches": (*_HAS, "matches regex", "has_any", "has_all"),
    "ilike_escape": _SUBSTRING, "like_escape": _SUBSTRING,
    "replace": (*_SUBSTRING, "replace_string"), "lower": ("=~", "!~", "in~", "!in~", "tolower"),
    "upper": ("toupper",), "length": ("strlen",), "str_split": ("split",),
    "regexp_extract": ("extract",), "regexp_replace": ("replace_regex", "trim"),
    "epoch_us": ("bin",), "greatest": ("max_of",), "least": ("min_of",),
}  # fmt: skip
_COMPARED = ("==", "!=", "<>", "<", "<=", ">", ">=", "in", "!in", "between", "!between")
_CONVERT = "convert one side, as with tostring(), tolong() or todatetime()"


class Explanation(NamedTuple):
    """What is wrong, the construct or word at fault, and what to write instead."""

    message: str
    constructs: tuple[str, ...] = ()
    hint: str | None = None
    word: str | None = None


def explain(problem: Exception, views: Mapping[str, Columns], text: str) -> Explanation:
    """An error of DuckDB's in the query's words."""
    words = str(problem).strip().splitlines()[0]
    column = _MISSING_COLUMN.search(words)
    if column:
        known = {name for table, names in views.items() if table in text for name in names}
        name = column[1] or column[2]
        return Explanation(f"no column named {name!r}", (), nearest(name, known), name)
    table = _MISSING_TABLE.search(words)
    if table:
        hint = nearest(table[1], views)
        return Explanation(f"no table named {table[1]!r}", (), hint, table[1])
    if "file system operations are disabled" in words or "Permission Error" in words:
        return Explanation("a hunt may read the loaded tables only")
    return _of_types(words) or _of_values(words) or Explanation(
        "the embedded engine cannot run this step of the query",
        hint="run it with --backend log-analytics or defender, or write it another way",
    )  # fmt: skip


def _kind(sql_type: str) -> str:
    literals = {"STRING_LITERAL": "string", "INTEGER_LITERAL": "long"}
    return literals.get(sql_type) or kql_type(sql_type)


def _of_types(words: str) -> Explanation | None:
    if found := _NO_OVERLOAD.search(words):
        kinds = [_kind(one.strip()) for one in re.sub(r"\(.*?\)", "", found[2]).split(",")]
        constructs = _KQL_WORDS.get(found[1], (found[1],))
        kinds = list(dict.fromkeys(kinds))[:2]
        what = "{} does not take " + " and ".join(kinds)
        hint = "convert the value, as with tostring(), tolong() or todouble()"
        if constructs[0].startswith(("stdev", "variance")) and kinds[0] == "timespan":
            hint = "divide it first, as in stdev(x / 1s)"
        return Explanation(what, constructs, hint)
    if found := _NO_MACRO.search(words):
        times = " and timespans" if found[1].startswith("sum") else ", datetimes and timespans"
        hint = "convert the value, as with tolong() or todouble()"
        return Explanation("{} takes numbers" + times + " only", (found[1],), hint)
    if found := _TWO_TYPES.search(words):
        kinds = [_kind(found[1]), _kind(found[2])]
        if "compare" in words:
            return Explanation(
                f"{{}} does not compare {kinds[0]} and {kinds[1]}", _COMPARED, _CONVERT
            )
        branches = ("iff", "iif", "case", "coalesce", "max_of", "min_of")
        return Explanation(
            f"{{}} has values of types {kinds[0]} and {kinds[1]}", branches, _CONVERT
        )
    return None


def _of_values(words: str) -> Explanation | None:
    body = words.partition(": ")[2] or words
    if found := _OVERFLOW.search(words):
        sign = _SIGNS.get(found[1], "+")
        hint = "convert one side with todouble()"
        return Explanation(f"{{}} gives more than a long holds: {found[2]}", (sign,), hint)
    if found := _NO_VALUE.search(words):
        kind = kql_type(found[2].replace("INT64", "BIGINT").replace("INT32", "INTEGER"))
        constructs = (*_COMPARED, "iff", "iif", "case", "coalesce", "max_of", "min_of")
        return Explanation(
            f"{{}} meets the text {found[1][:60]!r} as a {kind}", constructs, _CONVERT
        )
    if "Failed to cast value to numerical" in words:
        hint = "convert it, as with toreal() or tolong()"
        return Explanation("{} meets a dynamic value that is no number", _COMPARED, hint)
    if _NO_TIME.search(words):
        return Explanation(
            "{} compares a datetime with text that is no time", _COMPARED, "write datetime(...)"
        )
    if _OWN.match(body):
        return Explanation(body.removeprefix("duckdb-kql: "))
    if _BAD_PATTERN.match(body):
        return Explanation(f"{{}} has a regular expression that is not valid: {body}", _PATTERNS)
    return None


def unreadable(
    found: Explanation, text: str, runs: Callable[[str], bool] | None = None
) -> Unreadable:
    """The explanation at its place: ``runs`` says whether a query runs."""
    if found.word:
        return Unreadable(found.message, offset_of(text, found.word), found.hint)
    step = failing_step(text, runs) if runs else None
    scope: Node = step or parse(text)
    named = next(_named(scope, found.constructs), None)
    if named is None and step is not None:
        named = next((part.start, part.text) for part in step.tokens if part.text != "|")
    name = f"{named[1]!r}" if named else "a step"
    return Unreadable(
        found.message.replace("{}", name, 1) if found.message.startswith("{}") else found.message,
        named[0] if named else None, found.hint,
    )  # fmt: skip


@contextmanager
def placed(text: str, translate: Callable[[str], object]) -> Iterator[None]:
    """A refusal in the block that has no place stands at the first step that is refused."""
    try:
        yield
    except Unreadable as problem:
        if problem.offset is not None or problem.message.startswith(TOO_LARGE):
            raise

        def accepted(part: str) -> bool:
            try:
                translate(part)
            except Unreadable:
                return False
            return True

        step = failing_step(text, accepted)
        if step is None:
            raise
        spoken = re.findall(r"'([^'\s]+)'|(\w+)\(\)", problem.message)
        constructs = tuple(word for pair in spoken for word in pair if word)
        start = next(part.start for part in step.tokens if part.text != "|")
        problem.offset = next(_named(step, constructs), (start, ""))[0]
        raise


def _named(scope: Node, constructs: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """Where the constructs stand, in the order of the text, and how they are written."""
    for node in scope.walk():
        if isinstance(node, Call) and node.name in constructs:
            yield node.start, f"{node.name}()"
        elif isinstance(node, Comparison) and node.operator in constructs:
            yield node.at[0], node.operator
        elif isinstance(node, Chain):
            for part in node.parts:
                if isinstance(part, Token) and part.text in constructs:
                    yield part.start, part.text


def failing_step(text: str, runs: Callable[[str], bool]) -> Node | None:
    """The first source or operator with which a pipeline, cut off behind it, does not run."""
    script = parse(text)
    for statement in script.statements:
        value = bare(statement.value if isinstance(statement, Let) else statement)
        before = text[: statement.start]
        source, operators = stages(value)
        is_let = isinstance(statement, Let)
        if not is_let and not runs(before + text[value.start : source.end]):
            return source
        for operator in operators:
            if not runs(before + text[value.start : operator.end]):
                return next(_inner(before, text, operator, runs), operator)
    return None


def _inner(
    before: str, text: str, operator: Operator, runs: Callable[[str], bool]
) -> Iterator[Operator]:
    """The failing step of a subquery in the operator, if it is one of those."""
    from qakhunt.kql.syntax import Pipeline

    for pipeline in find(operator, Pipeline):
        if pipeline.start <= operator.start:
            continue
        for step in pipeline.operators:
            if not runs(before + text[pipeline.start : step.end]):
                yield step
                return
