"""The events responsible for a hit: what reached the query's first aggregation.

The part of a query before its first aggregation is a query of its own; cut to a
hit's grouping keys it yields the hit's events. A hunt that aggregates nothing has
its events for hits.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from qakhunt.kql.literal import encode
from qakhunt.kql.parser import parse
from qakhunt.kql.schema import SENTINEL, TIME_COLUMN
from qakhunt.kql.syntax import Call, Name, Named, Pipeline, stages
from qakhunt.kql.values import Instant

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from qakhunt.answers.table import ResultTable
    from qakhunt.hunts.model import Hunt
    from qakhunt.kql.syntax import Node, Operator, Script

    Ask = Callable[[str], ResultTable]

AGGREGATIONS = frozenset({"summarize", "distinct", "make-series", "top-nested", "count"})
LIMIT = 10_000
"""Events fetched at most for one comparison; more are counted as cut."""

_CHUNK = 50
_MOST_COLUMNS = 8
_KEY = "qakhunt_key_"
_SHOWN = (
    "DeviceName", "Computer", "AccountName", "Account", "InitiatingProcessFileName",
    "FileName", "ProcessCommandLine", "CommandLine", "ProcessId",
)  # fmt: skip


@dataclass(frozen=True)
class EventsPlan:
    """``prefix`` is the query up to its first aggregation; ``keys`` pairs result
    columns with the expressions that they group by; ``seen`` names the columns of a
    hit's first and last event, where no key holds its time.
    """

    prefix: str
    keys: tuple[tuple[str, str], ...]
    seen: tuple[str, str] | None = None


@dataclass(frozen=True)
class HitEvents:
    """Events of one hit; ``complete`` is False where a limit cut them."""

    rows: tuple[dict[str, Any], ...]
    complete: bool = True


def plan_events(text: str, hunt: Hunt, result_columns: Sequence[str]) -> EventsPlan | None:
    """How to get at the events of a hit, or None where the query aggregates nothing.

    ``text`` is the query as rendered.
    """
    steps = _operators(parse(text))
    for number, (start, query, operator) in enumerate(steps):
        if operator.name in AGGREGATIONS:
            later = [one for _, _, one in steps[number + 1 :]]
            prefix = text[:start] + text[query.start : operator.start]
            keys = tuple(_keys(text, operator, later, set(result_columns)))
            return EventsPlan(prefix.rstrip(), keys, _seen(hunt, keys, result_columns))
    return None


def _operators(script: Script) -> list[tuple[int, Node, Operator]]:
    """The query's operators with those of the ``let`` queries it starts from, in order.

    Each with its query and the start of the statement that holds it.
    """
    lets = {let.name: let for let in script.lets if isinstance(let.value, Pipeline)}
    owner, query = script.query, script.query
    found: list[tuple[int, Node, Operator]] = []
    while owner is not None and query is not None:
        source, operators = stages(query)
        found = [*((owner.start, query, one) for one in operators), *found]
        owner = lets.pop(source.name, None) if isinstance(source, Name) else None
        query = owner.value if owner else None
    return found


def _keys(
    text: str, operator: Operator, later: Sequence[Operator], columns: set[str]
) -> list[tuple[str, str]]:
    found = []
    for item in _by_items(operator):
        name = key_name(item)
        if name is None or name not in columns or any(_replaces(one, name) for one in later):
            continue
        value = _value(item)
        found.append((name, text[value.start : value.end]))
    return found


def _by_items(operator: Operator) -> Sequence[Node]:
    return operator.arguments if operator.name == "distinct" else operator.clause("by") or ()


def key_name(item: Node) -> str | None:
    """The result column of an entry of a ``by`` list; ``bin(X, ..)`` is called X."""
    if isinstance(item, Named):
        return item.names[0] if len(item.names) == 1 else None
    if isinstance(item, Call) and item.arguments:
        item = item.arguments[0]
    return item.name if isinstance(item, Name) else None


def _replaces(operator: Operator, name: str) -> bool:
    """Whether a later operator gives the column another meaning."""
    if operator.name == "summarize":
        return not any(key_name(one) == name and not _computes(one) for one in _by_items(operator))
    made = operator.arguments if operator.name in ("extend", "project") else ()
    return any(isinstance(one, Named) and key_name(one) == name and _computes(one) for one in made)


def _value(item: Node) -> Node:
    return item.value if isinstance(item, Named) else item


def _computes(item: Node) -> bool:
    return len(_value(item).tokens) > 1


def _seen(
    hunt: Hunt, keys: Sequence[tuple[str, str]], columns: Sequence[str]
) -> tuple[str, str] | None:
    notes = hunt.notes.result
    if any(name in TIME_COLUMN.values() for name, _ in keys):
        return None
    first = next((c for c in _spellings(notes.first_seen) if c in columns), None)
    last = next((c for c in _spellings(notes.last_seen) if c in columns), None)
    return (first, last) if first and last else None


def _spellings(name: str | None) -> list[str]:
    if name is None:
        return []
    return list(TIME_COLUMN.values()) if name == SENTINEL.time_column else [name]


class EventFinder:
    """Fetches the events of many hits of one query in few questions.

    ``ask`` answers a query text over the same tables as the hunt.
    """

    def __init__(self, plan: EventsPlan, product: str, result: ResultTable, ask: Ask) -> None:
        self.plan = plan
        self.ask = ask
        self.time = TIME_COLUMN[product]
        self.types = {column.name: column.kql_type for column in result.columns}

    @cached_property
    def columns(self) -> list[str]:
        """Columns of the events that are shown: when, where, who, what."""
        names = self.ask(f"{self.plan.prefix}\n| take 0").names
        chosen = [name for name in (self.time, *_SHOWN) if name in names]
        return chosen if len(chosen) > 2 else names[:_MOST_COLUMNS]

    def find(self, records: Sequence[Mapping[str, Any]]) -> list[HitEvents]:
        """The events of each result row, in time order."""
        found: list[HitEvents] = []
        for at in range(0, len(records), _CHUNK):
            found += self._chunk(records[at : at + _CHUNK])
        return found

    def _chunk(self, records: Sequence[Mapping[str, Any]]) -> list[HitEvents]:
        conditions = " or ".join(f"({self.condition(record)})" for record in records)
        keys = [f"{_KEY}{number} = {expr}" for number, (_, expr) in enumerate(self.plan.keys)]
        shown = self.columns
        query = (
            f"{self.plan.prefix}\n| where {conditions}\n"
            f"| project {', '.join([*shown, *keys])}\n| take {LIMIT}"
        )
        answer = self.ask(query)
        rows = sorted(answer.rows, key=lambda row: _sortable(row[0]))
        width = len(shown)
        return [
            HitEvents(
                tuple(
                    dict(zip(shown, row, strict=False))
                    for row in rows
                    if self._belongs(row, width, record)
                ),
                len(rows) < LIMIT,
            )
            for record in records
        ]

    def condition(self, record: Mapping[str, Any]) -> str:
        """KQL that holds for the events of one result row."""
        parts = [
            _equals(expression, record[name], self.types[name])
            for name, expression in self.plan.keys
        ]
        bounds = self._bounds(record)
        if bounds:
            first, last = (encode(one, "datetime") for one in bounds)
            parts.append(f"{self.time} between ({first} .. {last})")
        return " and ".join(parts) or "true"

    def _bounds(self, record: Mapping[str, Any]) -> tuple[Instant, Instant] | None:
        if self.plan.seen is None or self.time not in self.columns:
            return None
        first, last = (record.get(name) for name in self.plan.seen)
        if isinstance(first, Instant) and isinstance(last, Instant):
            return first, last
        return None

    def _belongs(self, row: Sequence[Any], width: int, record: Mapping[str, Any]) -> bool:
        wanted = [record[name] for name, _ in self.plan.keys]
        if [_folded(cell) for cell in row[width:]] != [_folded(cell) for cell in wanted]:
            return False
        bounds = self._bounds(record)
        moment = row[self.columns.index(self.time)] if bounds else None
        return bounds is None or (moment is not None and bounds[0] <= moment <= bounds[1])


def itself(record: Mapping[str, Any]) -> HitEvents:
    """The events of a hit that is one."""
    names = [name for name, cell in record.items() if cell not in (None, "")]
    chosen = [n for n in (*TIME_COLUMN.values(), *_SHOWN) if n in names] or names[:_MOST_COLUMNS]
    return HitEvents(({name: record[name] for name in chosen},))


def _equals(expression: str, value: Any, kind: str) -> str:
    if value is None or value == "":
        return f"isempty({expression})" if kind == "string" else f"isnull({expression})"
    if kind == "dynamic":
        return f"tostring({expression}) == {encode(str(value), 'string')}"
    return f"{expression} == {encode(value, kind)}"


def _folded(cell: Any) -> Any:
    return None if cell == "" else cell


def _sortable(cell: Any) -> tuple[int, str]:
    if isinstance(cell, Instant):
        return cell.ticks, ""
    return 0, str(cell)
