"""Which columns are there at each stage of a query, without running it.

Follows the operators whose effect on columns is plain. After any other, columns are
unknown and nothing is said until an operator names them anew: silence, never a guess.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from qakhunt.kql.pipeline import (
    Item,
    Stage,
    Statement,
    by_split,
    items,
    pipeline,
    split,
    statements,
)
from qakhunt.kql.schema import columns, tables
from qakhunt.kql.tokens import Kind, Token

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(frozen=True)
class Problem:
    """A name that does not resolve; ``kind`` is table, column, function or dropped.

    ``known`` are the names that would; ``dropped_by`` is the stage that took it away.
    """

    kind: str
    token: Token
    known: frozenset[str] = frozenset()
    dropped_by: Stage | None = None


@dataclass
class _Table:
    """Columns in order; ``open`` means that there may be others."""

    columns: list[str] = field(default_factory=list)
    open: bool = False
    dropped: dict[str, Stage] = field(default_factory=dict)


_WORDS = frozenset(
    [
        "and",
        "or",
        "not",
        "in",
        "has",
        "has_any",
        "has_all",
        "has_cs",
        "contains",
        "contains_cs",
        "startswith",
        "startswith_cs",
        "endswith",
        "endswith_cs",
        "hasprefix",
        "hasprefix_cs",
        "hassuffix",
        "hassuffix_cs",
        "matches",
        "regex",
        "like",
        "between",
        "by",
        "asc",
        "desc",
        "nulls",
        "first",
        "last",
        "true",
        "false",
        "null",
        "of",
        "to",
        "step",
        "from",
        "on",
        "with",
        "typeof",
        "kind",
        "hint",
        "isfuzzy",
        "with_itemindex",
        "limit",
        "bool",
        "boolean",
        "int",
        "long",
        "real",
        "double",
        "decimal",
        "string",
        "datetime",
        "date",
        "timespan",
        "time",
        "guid",
        "dynamic",
        "default",
        "materialize",
        "toscalar",
        "granny-asc",
    ]
)
_SAME = frozenset(
    [
        "where",
        "filter",
        "sort",
        "order",
        "take",
        "limit",
        "sample",
        "as",
        "top",
        "consume",
        "render",
        "getschema",
    ]
)
# Tables and functions that a workspace brings along or that the schema files do not list.
_FOREIGN = ("_CL", "_GetWatchlist", "_Im_", "_ASim_", "ASim", "im", "FileProfile", "DeviceFromIP")
_PARTS = frozenset({"workspace", "app", "resource", "table", "database", "cluster", "arg", "adx"})
_AGGREGATE_PREFIX = {"make_set": "set", "make_list": "list", "make_bag": "bag"}


@cache
def function_names() -> frozenset[str]:
    """Every function, aggregate and plugin of the language."""
    text = files("qakhunt.data").joinpath("kql_functions.json").read_text(encoding="utf-8")
    data = json.loads(text)
    return frozenset([*data["functions"], *data["aggregates"], *data["plugins"]])


def is_foreign(name: str) -> bool:
    """Whether a name can be one that only the workspace knows."""
    return name.endswith("_CL") or name.startswith(_FOREIGN[1:])


def check_names(text: str, product: str) -> list[Problem]:
    """All names of the query that resolve to nothing, in the order of the text."""
    flow = _Flow(product)
    for statement in statements(text):
        flow.statement(statement)
    return sorted(flow.problems, key=lambda problem: problem.token.start)


class _Flow:
    def __init__(self, product: str) -> None:
        self.product = product
        self.tables = tables(product)
        self.scalars: set[str] = set()
        self.lets: dict[str, _Table] = {}
        self.functions: set[str] = set()
        self.problems: list[Problem] = []

    def statement(self, statement: Statement) -> None:
        if statement.name is None:
            if statement.tokens[0].text not in ("set", "declare", "alias", "pattern"):
                self.pipeline(statement.stages)
            return
        after = statement.tokens[2:]
        if after[0].text != "=" or _is_lambda(statement.source.tokens):
            self.functions.add(statement.name)
        elif self.is_tabular(statement.stages):
            self.lets[statement.name] = self.pipeline(statement.stages)
        else:
            self.references(statement.source.tokens, _Table(open=True))
            self.scalars.add(statement.name)

    def is_tabular(self, stages: Sequence[Stage]) -> bool:
        if len(stages) > 1:
            return True
        source = stages[0].tokens
        first = source[0].text if source else ""
        known = first in self.tables or first in self.lets
        return known or first in (
            "union",
            "datatable",
            "externaldata",
            "range",
            "print",
            "materialize",
        )

    def pipeline(self, stages: Sequence[Stage]) -> _Table:
        table = self.source(stages[0])
        for stage in stages[1:]:
            table = self.stage(stage, table)
        return table

    def source(self, stage: Stage) -> _Table:
        tokens = stage.tokens
        if not tokens:
            return _Table(open=True)
        first = tokens[0]
        if first.text == "(" and tokens[-1].text == ")":
            return self.pipeline(pipeline(tokens[1:-1]))
        if first.text in ("materialize", "view") and len(tokens) > 2:
            return self.pipeline(pipeline(tokens[2:-1]))
        if first.text == "union":
            return self.union(tokens[1:], None)
        if first.text in (
            "print",
            "datatable",
            "range",
            "externaldata",
            "find",
            "search",
            "evaluate",
        ):
            return _Table(open=True)
        if len(tokens) > 1 and tokens[1].text == "(":
            if first.text not in self.functions | _PARTS and not is_foreign(first.text):
                self.function(first)
            member = tokens[-1]
            if tokens[-2].text == "." and member.text in self.tables:
                return _Table(list(columns(self.product, member.text)))
            return _Table(open=True)
        return self.named(first)

    def named(self, token: Token) -> _Table:
        name = token.text
        if name in self.lets:
            table = self.lets[name]
            return _Table(list(table.columns), table.open, dict(table.dropped))
        if name in self.tables:
            return _Table(list(columns(self.product, name)))
        wild = token.kind is not Kind.IDENTIFIER
        if not wild and name not in self.scalars | self.functions and not is_foreign(name):
            self.problems.append(Problem("table", token, frozenset([*self.tables, *self.lets])))
        return _Table(open=True)

    def stage(self, stage: Stage, table: _Table) -> _Table:
        handler = _HANDLERS.get(stage.operator)
        if handler is not None:
            return handler(self, stage, table)
        if stage.operator in _SAME:
            self.references(stage.tokens, table)
            return table
        return _Table(open=True)

    def references(self, tokens: Sequence[Token], table: _Table) -> None:
        """Check every column and function that an expression names."""
        at = 0
        while at < len(tokens):
            token = tokens[at]
            after = tokens[at + 1].text if at + 1 < len(tokens) else ""
            if token.text == "(":
                close = _closing(tokens, at)
                if self.is_subquery(tokens[at + 1 : close]):
                    self.pipeline(pipeline(tokens[at + 1 : close]))
                    at = close + 1
                    continue
            elif token.kind is Kind.IDENTIFIER:
                before = tokens[at - 1].text if at else ""
                self.reference(token, before, after, table)
            at += 1

    def is_subquery(self, inner: Sequence[Token]) -> bool:
        if not inner:
            return False
        first = inner[0].text
        return len(pipeline(inner)) > 1 or (len(inner) == 1 and first in self.lets)

    def reference(self, token: Token, before: str, after: str, table: _Table) -> None:
        name = token.text
        if before == "." or after == "=" or name in _WORDS or name.startswith("$"):
            return
        if after == "(":
            if name not in self.functions and not is_foreign(name):
                self.function(token)
            return
        if name in table.columns or name in self.scalars or name in self.lets:
            return
        if table.open or name in self.functions or name in self.tables:
            return
        stage = table.dropped.get(name)
        kind = "dropped" if stage else "column"
        self.problems.append(Problem(kind, token, frozenset(table.columns), stage))

    def function(self, token: Token) -> None:
        if token.text not in function_names():
            known = function_names() | self.functions
            self.problems.append(Problem("function", token, frozenset(known)))

    def union(self, tokens: Sequence[Token], table: _Table | None) -> _Table:
        result = table or _Table()
        for part in split(_without_options(tokens), ","):
            if not part:
                continue
            has_wildcard = any(token.text == "*" for token in part)
            other = _Table(open=True) if has_wildcard else self.source(Stage("", tuple(part), 0, 0))
            result.columns += [name for name in other.columns if name not in result.columns]
            result.open = result.open or other.open
        for at, token in enumerate(tokens[:-2]):
            if token.text == "withsource" and tokens[at + 1].text == "=":
                result.columns.append(tokens[at + 2].text)
        return result


def _extend(flow: _Flow, stage: Stage, table: _Table) -> _Table:
    made = items(stage.tokens)
    for item in made:
        flow.references(item.tokens, table)
    names = [name for item in made for name in _item_names(item)]
    return _Table(
        [*table.columns, *(n for n in names if n not in table.columns)], table.open, table.dropped
    )


def _project(flow: _Flow, stage: Stage, table: _Table) -> _Table:
    made = items(stage.tokens)
    for item in made:
        flow.references(item.tokens, table)
    return _narrowed(
        table, stage, [name for item in made for name in _item_names(item)], is_open=False
    )


def _narrowed(table: _Table, stage: Stage, names: list[str], *, is_open: bool) -> _Table:
    dropped = {name: stage for name in table.columns if name not in names}
    return _Table(names, is_open, {**table.dropped, **dropped})


def _project_away(flow: _Flow, stage: Stage, table: _Table) -> _Table:
    gone = _chosen(flow, stage, table)
    kept = [name for name in table.columns if name not in gone]
    return _narrowed(table, stage, kept, is_open=table.open)


def _project_keep(flow: _Flow, stage: Stage, table: _Table) -> _Table:
    chosen = _chosen(flow, stage, table)
    return _narrowed(table, stage, [n for n in table.columns if n in chosen], is_open=table.open)


def _project_reorder(flow: _Flow, stage: Stage, table: _Table) -> _Table:
    _chosen(flow, stage, table)
    return table


def _chosen(flow: _Flow, stage: Stage, table: _Table) -> set[str]:
    """Columns that a list of names and ``Name*`` patterns picks."""
    found: set[str] = set()
    for part in split(stage.tokens, ","):
        text = "".join(token.text for token in part if token.text not in ("asc", "desc"))
        if "*" in text:
            prefix = text.partition("*")[0]
            found |= {name for name in table.columns if name.startswith(prefix)}
        elif part:
            flow.references(part, table)
            found.add(part[0].text)
    return found


def _project_rename(flow: _Flow, stage: Stage, table: _Table) -> _Table:
    renamed = {}
    for item in items(stage.tokens):
        flow.references(item.tokens, table)
        if item.name and len(item.tokens) == 1:
            renamed[item.tokens[0].text] = item.name
    dropped = dict.fromkeys(renamed, stage)
    names = [renamed.get(name, name) for name in table.columns]
    return _Table(names, table.open, {**table.dropped, **dropped})


def _summarize(flow: _Flow, stage: Stage, table: _Table) -> _Table:
    aggregates, by = by_split(_without_options(stage.tokens))
    entries = [*items(by), *items(aggregates)]
    names: list[str] = []
    is_open = False
    for item in entries:
        flow.references([t for t in item.tokens if t.text != "*"], table)
        own = _item_names(item)
        if any(token.text == "*" for token in item.tokens):
            own = [*own, *table.columns]
            is_open = is_open or table.open
        if not own:
            is_open = True
        names += [name for name in own if name not in names]
    return _narrowed(table, stage, names, is_open=is_open)


def _distinct(flow: _Flow, stage: Stage, table: _Table) -> _Table:
    if [token.text for token in stage.tokens] == ["*"]:
        return table
    return _project(flow, stage, table)


def _count(_flow: _Flow, stage: Stage, table: _Table) -> _Table:
    return _narrowed(table, stage, ["Count"], is_open=False)


def _join(flow: _Flow, stage: Stage, table: _Table) -> _Table:
    tokens = _without_options(stage.tokens)
    kind = next(
        (
            stage.tokens[i + 2].text
            for i, token in enumerate(stage.tokens[:-2])
            if token.text == "kind" and stage.tokens[i + 1].text == "="
        ),
        "",
    )
    right_tokens = next(iter(split(tokens, "on")), [])
    right = flow.source(Stage("", tuple(right_tokens), 0, 0)) if right_tokens else _Table(open=True)
    on = tokens[len(right_tokens) + 1 :]
    both = _Table([*table.columns, *right.columns], table.open or right.open, table.dropped)
    flow.references(on, both)
    if kind in ("leftanti", "leftsemi", "anti", "leftantisemi"):
        return table
    if kind in ("rightanti", "rightsemi", "rightantisemi"):
        return right
    names = list(table.columns)
    for name in right.columns:
        if name not in names:
            names.append(name)
        elif stage.operator == "join":
            names.append(name + "1")
    return _Table(names, table.open or right.open, table.dropped)


def _union(flow: _Flow, stage: Stage, table: _Table) -> _Table:
    return flow.union(stage.tokens, table)


def _mv_expand(flow: _Flow, stage: Stage, table: _Table) -> _Table:
    tokens = _without_options(stage.tokens)
    names = list(table.columns)
    for item in items(tokens):
        cut = next((i for i, t in enumerate(item.tokens) if t.text in ("to", "limit")), None)
        flow.references(item.tokens[:cut], table)
        if item.name and item.name not in names:
            names.append(item.name)
    names += [
        stage.tokens[i + 2].text
        for i, token in enumerate(stage.tokens[:-2])
        if token.text == "with_itemindex"
    ]
    return _Table(names, table.open, table.dropped)


def _parse(flow: _Flow, stage: Stage, table: _Table) -> _Table:
    parts = list(split(stage.tokens, "with"))
    flow.references(_without_options(parts[0]), table)
    names = list(table.columns)
    pattern = parts[1] if len(parts) > 1 else []
    for at, token in enumerate(pattern):
        before = pattern[at - 1].text if at else ""
        if token.kind is Kind.IDENTIFIER and before != ":" and token.text not in names:
            names.append(token.text)
    return _Table(names, table.open, table.dropped)


def _serialize(flow: _Flow, stage: Stage, table: _Table) -> _Table:
    return _extend(flow, stage, table)


_HANDLERS: dict[str, Callable[[_Flow, Stage, _Table], _Table]] = {
    "extend": _extend,
    "serialize": _serialize,
    "project": _project,
    "project-away": _project_away,
    "project-keep": _project_keep,
    "project-rename": _project_rename,
    "project-reorder": _project_reorder,
    "summarize": _summarize,
    "distinct": _distinct,
    "count": _count,
    "join": _join,
    "lookup": _join,
    "union": _union,
    "mv-expand": _mv_expand,
    "mvexpand": _mv_expand,
    "parse": _parse,
    "parse-where": _parse,
}


def _item_names(item: Item) -> list[str]:
    """Columns that an entry makes: its name, or the one that KQL gives it."""
    if item.name:
        return [item.name]
    tokens = item.tokens
    if len(tokens) > 2 and tokens[0].text == "(" and "=" in [token.text for token in tokens]:
        close = _closing(tokens, 0)
        return [token.text for token in tokens[1:close] if token.kind is Kind.IDENTIFIER]
    if len(tokens) < 3 or tokens[1].text != "(":
        return []
    function = tokens[0].text
    arguments = [part for part in split(tokens[2:-1], ",") if part]
    plain = [
        part[0].text for part in arguments if len(part) == 1 and part[0].kind is Kind.IDENTIFIER
    ]
    if function in ("bin", "floor", "startofday", "startofmonth", "startofweek"):
        return plain[:1]
    if function in ("arg_max", "arg_min", "take_any", "any"):
        return plain
    if function == "count":
        return ["count_"]
    if function in ("countif",):
        return [f"{function}_"]
    prefix = _AGGREGATE_PREFIX.get(function, function)
    first_is_plain = bool(arguments) and bool(plain) and len(arguments[0]) == 1
    is_simple = function not in ("percentile", "percentiles", "percentilew")
    return [f"{prefix}_{plain[0]}"] if first_is_plain and is_simple else []


def _without_options(tokens: Sequence[Token]) -> list[Token]:
    """Tokens without leading ``name=value`` options such as ``kind=inner``."""
    rest = list(tokens)
    while True:
        size = 0
        if len(rest) > 2 and rest[0].kind is Kind.IDENTIFIER:
            if (
                rest[1].text == "="
                and rest[0].text in ("kind", "withsource", "isfuzzy", "bagexpansion")
            ) or (rest[1].text == "=" and rest[0].text == "with_itemindex"):
                size = 3
            elif rest[0].text == "hint" and rest[1].text == "." and len(rest) > 4:
                size = 5
        if not size:
            return rest
        rest = rest[size:]


def _is_lambda(tokens: Sequence[Token]) -> bool:
    return len(tokens) > 1 and tokens[0].text == "(" and any(token.text == "{" for token in tokens)


def _closing(tokens: Sequence[Token], at: int) -> int:
    depth = 0
    for position in range(at, len(tokens)):
        depth += {"(": 1, ")": -1}.get(tokens[position].text, 0)
        if depth == 0:
            return position
    return len(tokens) - 1
