"""KQL to SQL, with the translator's refusals and DuckDB's errors as plain sentences."""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qakhunt.backends.engine import rendering
from qakhunt.backends.engine.dialect import Unreadable, offset_of
from qakhunt.backends.engine.limits import refuse_long_sql
from qakhunt.backends.engine.unions import Arms, UnionClash, watched
from qakhunt.core.errors import nearest
from qakhunt.kql.tokens import LineIndex

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterator, Mapping

    from qakhunt.kql.schema import Columns

_LAST_SORT = re.compile(r"(FROM (_\w+) ORDER BY [^\n]*?)( LIMIT \d+)?\)\n(SELECT \* FROM \w+)\Z")
_FUNCTION = re.compile(r"(?:function|aggregate):(\w+)")
_MISSING_COLUMN = re.compile(
    r'[Rr]eferenced column "([^"]+)"|Column "([^"]+)" (?:referenced|in EXCLUDE list not found)'
)
_MISSING_TABLE = re.compile(r"Table with name (.+?) does not exist")
_TWINS = re.compile(r"columns '([^']*)' and '([^']*)' differ only in case")
_EXPECTING = re.compile(r"\s+expecting \{.*", re.DOTALL)


@dataclass(frozen=True)
class Translation:
    """One SELECT, its bound parameters, and the arms of its unions."""

    sql: str
    parameters: dict[str, Any]
    unions: tuple[Arms, ...] = ()


def translate(
    duckdb_kql: Any,
    text: str,
    views: Mapping[str, Columns],
    now: dt.datetime,
    *,
    steady: bool = True,
) -> Translation:
    """SQL whose rows come in one order on every run, where ``steady``."""
    schema = {name: list(columns) for name, columns in views.items()}
    _refuse_commands(text)
    with watched() as unions, rendering.watched(text, views):
        result = duckdb_kql.to_sql(text, schema=schema, allow_write=False, query_now=now)
    sql = _steady(str(result)) if steady else str(result)
    refuse_long_sql(sql)
    return Translation(sql, dict(result.parameters), tuple(unions))


def _refuse_commands(text: str) -> None:
    if text.lstrip().startswith("."):
        raise Unreadable("a hunt is a query, not a control command", 0)


def _steady(sql: str) -> str:
    """Break ties of a last sort by the whole row; sort fully where nothing sorts."""
    tied = _LAST_SORT.sub(lambda m: f"{m[1]}, {m[2]}{m[3] or ''})\n{m[4]}", sql)
    if tied != sql or "ORDER BY" in sql or not sql.startswith(("WITH", "SELECT")):
        return tied
    return f"{sql}\nORDER BY ALL"


@contextmanager
def refusals(text: str) -> Iterator[None]:
    """The translator's errors as Unreadable with their place in ``text``."""
    import duckdb_kql

    try:
        yield
    except duckdb_kql.KqlSyntaxError as problem:
        diagnostic = problem.diagnostics[0] if problem.diagnostics else None
        words = _EXPECTING.sub("", diagnostic.message if diagnostic else str(problem))
        offset = _offset(text, diagnostic.span) if diagnostic else None
        raise Unreadable(f"syntax error: {words}", offset) from None
    except duckdb_kql.KqlUnsupportedError as problem:
        name = _FUNCTION.search(problem.construct)
        offset = _offset(text, problem.span) if problem.span else None
        if offset is None and name:
            offset = offset_of(text, name[1])
        construct = f"{name[1]}()" if name else _spelled(text, offset) or problem.construct
        raise Unreadable(
            f"the embedded engine does not support {construct}",
            offset,
            hint="run it with --backend log-analytics or defender, or write it another way",
        ) from None
    except duckdb_kql.KqlSchemaError as problem:
        twins = _TWINS.search(str(problem.hint or ""))
        if twins:
            raise UnionClash(
                f"the columns {twins[1]!r} and {twins[2]!r} differ in case only",
                offset_of(text, twins[2]), hint="rename one of them with project-rename",
            ) from None  # fmt: skip
        raise Unreadable(
            f"no table or column named {problem.name!r}", offset_of(text, problem.name)
        ) from None
    except duckdb_kql.KqlError as problem:
        raise Unreadable(str(problem).splitlines()[0], None) from None
    except RecursionError:
        raise Unreadable("the query is nested too deeply for the embedded engine", None) from None


def _offset(text: str, span: Any) -> int:
    # What ends too early is reported where it ends, not on the empty line behind.
    return min(LineIndex(text).offset(span.line, span.column + 1), len(text.rstrip()))


_OPERATOR = re.compile(r"\|?\s*([A-Za-z][A-Za-z-]*)")


def _spelled(text: str, offset: int | None) -> str | None:
    """The operator as the query writes it, such as ``project-reorder``."""
    match = _OPERATOR.match(text, offset) if offset is not None else None
    return f"the operator {match[1]!r}" if match else None


def explain(
    problem: Exception, views: Mapping[str, Columns], text: str
) -> tuple[str, str | None, str | None]:
    """Message, the word at fault and a hint, for an error of DuckDB's."""
    words = str(problem).strip().splitlines()[0]
    column = _MISSING_COLUMN.search(words)
    if column:
        known = {name for table, names in views.items() if table in text for name in names}
        name = column[1] or column[2]
        return f"no column named {name!r}", name, nearest(name, known)
    table = _MISSING_TABLE.search(words)
    if table:
        return f"no table named {table[1]!r}", table[1], nearest(table[1], views)
    if "file system operations are disabled" in words or "Permission Error" in words:
        return "a hunt may read the loaded tables only", None, None
    return words.partition(": ")[2] or words, None, None
