"""The embedded engine beside hand-written SQL on the same Parquet, with the same answer."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING, Any

from qakhunt.backends.engine.limits import memory_limit
from qakhunt.backends.engine.session import Session
from qakhunt.hunts.catalog import Catalog
from qakhunt.hunts.parameters import parameters_of
from qakhunt.hunts.render import render
from qakhunt.kql.values import Instant
from tests.benchmarks import burst_sql
from tests.benchmarks.data import MISSION, NOW, mission_commands, process_events, sql_list
from tests.benchmarks.table import Row, beside

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ANY = "qakbot-post-compromise-commands-any"


def mission_sql(path: Path, start: str, end: str) -> str:
    """The mission's rule as someone would write it in SQL."""
    return _per_account(path, start, end, f"ProcessCommandLine IN ({sql_list(mission_commands())})")


def any_sql(path: Path, start: str, end: str) -> str:
    """The rule over terms: a bare alternation, and the same terms as whole words behind it."""
    terms = list(parameters_of(Catalog().find(ANY)[0])["Commands"].default)
    start_of, end_of = r"(?:^|[^\pL\pN])", r"(?:$|[^\pL\pN])"
    leading = "_ldap._tcp.dc._msdcs"  # the one that begins with no letter
    words = "|".join(_escaped(term) for term in terms if term != leading)
    bare = f"(?i)(?:{'|'.join(map(_escaped, terms))})"
    bounded = f"(?i)(?:{start_of}(?:{words}){end_of}|{_escaped(leading)}{end_of})"
    return _per_account(
        path, start, end,
        f"regexp_matches(ProcessCommandLine, '{bare}') "
        f"AND regexp_matches(ProcessCommandLine, '{bounded}')",
    )  # fmt: skip


def _escaped(term: str) -> str:
    return term.replace(".", r"\.")


def _per_account(path: Path, start: str, end: str, test: str) -> str:
    return f"""
        SELECT DeviceName, AccountName, TenantId, count(*) AS Total,
               list_sort(list(DISTINCT ProcessCommandLine)) AS Commands,
               min(TimeGenerated), max(TimeGenerated),
               count(DISTINCT ProcessCommandLine) AS Different
        FROM read_parquet('{path}')
        WHERE TimeGenerated >= TIMESTAMP '{start}' AND TimeGenerated < TIMESTAMP '{end}'
          AND {test}
        GROUP BY DeviceName, AccountName, TenantId HAVING Different > 3
        ORDER BY Different DESC, Total DESC"""


def rows(count: int) -> Iterator[Row]:
    """The three hunts over so many process events."""
    import duckdb

    path = process_events(count)
    with (
        duckdb.connect() as connection,
        Session([f"DeviceProcessEvents={path}"], "log-analytics") as session,
    ):
        connection.execute(f"SET memory_limit='{memory_limit()}'")
        for name, write, aim in (
            (MISSION, mission_sql, 1.1),
            (ANY, any_sql, 1.2),
            (burst_sql.HUNT, burst_sql.burst_sql, 2.0),
        ):
            rendered = render(Catalog().find(name)[0], now=NOW)
            window = rendered.window
            sql = write(path, window.start.isoformat()[:19], window.end.isoformat()[:19])

            def engine(rendered: Any = rendered) -> list[Any]:
                return list(session.ask(rendered.text, now=NOW, window=rendered.window).rows)

            def hand(sql: str = sql) -> list[Any]:
                return connection.execute(sql).fetchall()

            found = _comparable(engine())
            if found != _comparable(hand()):
                raise SystemExit(f"{name}: the hand-written SQL finds something else")
            note = f"{count:,} records, {len(found)} hits"
            yield beside(name, engine, "hand-written SQL", hand, aim=aim, note=note)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 / 1024
    yield Row("peak memory of both (GB, not seconds)", "1 GB", peak, 1, peak, 1.0)


def _comparable(rows: list[Any]) -> list[str]:
    """Rows in one order, whose cells are written in one way."""
    return sorted("|".join(sorted(map(_cell, row))) for row in rows)


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return repr(sorted(value))  # a set has no order
    if isinstance(value, Instant):
        return value.isoformat()[:26]
    if hasattr(value, "isoformat"):
        return str(value.isoformat(timespec="microseconds"))
    return f"{value:g}" if isinstance(value, float) else str(value)
