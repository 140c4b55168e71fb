"""What each operator does to the columns of the table that comes in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from qakhunt.kql.pipeline import Item, Stage, by_split, items, split
from qakhunt.kql.tokens import Kind, Token
from qakhunt.proving.lint.table_columns import Table, item_names, without_options

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Flow(Protocol):
    """What an operator may ask of the walk through the query."""

    lets: dict[str, Table]

    def references(self, tokens: Sequence[Token], table: Table) -> None:
        """Check every name of an expression against a table."""

    def source(self, stage: Stage) -> Table:
        """The columns of a tabular expression."""

    def union(self, tokens: Sequence[Token], table: Table | None) -> Table:
        """The columns of several tables together."""


def _extend(flow: Flow, stage: Stage, table: Table) -> Table:
    made = items(stage.tokens)
    for item in made:
        flow.references(_value(item), table)
    names = [name for item in made for name in item_names(item)]
    return Table(
        [*table.columns, *(n for n in names if n not in table.columns)], table.open, table.dropped
    )


def _project(flow: Flow, stage: Stage, table: Table) -> Table:
    made = items(stage.tokens)
    for item in made:
        flow.references(_value(item), table)
    names = [item_names(item) for item in made]
    listed = [name for own in names for name in own]
    return _narrowed(table, stage, listed, is_open=not all(names))


def _value(item: Item) -> Sequence[Token]:
    """An entry's expression; of ``(a, b) = value`` the value."""
    parts = list(split(item.tokens, "="))
    return parts[-1] if len(parts) == 2 and item.tokens[0].text == "(" else item.tokens


def _narrowed(table: Table, stage: Stage, names: list[str], *, is_open: bool) -> Table:
    dropped = {name: stage for name in table.columns if name not in names}
    return Table(names, is_open, {**table.dropped, **dropped})


def _project_away(flow: Flow, stage: Stage, table: Table) -> Table:
    gone = _chosen(flow, stage, table)
    kept = [name for name in table.columns if name not in gone]
    return _narrowed(table, stage, kept, is_open=table.open)


def _project_keep(flow: Flow, stage: Stage, table: Table) -> Table:
    chosen = _chosen(flow, stage, table)
    return _narrowed(table, stage, [n for n in table.columns if n in chosen], is_open=table.open)


def _project_reorder(flow: Flow, stage: Stage, table: Table) -> Table:
    _chosen(flow, stage, table)
    return table


def _chosen(flow: Flow, stage: Stage, table: Table) -> set[str]:
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


def _project_rename(flow: Flow, stage: Stage, table: Table) -> Table:
    renamed = {}
    for item in items(stage.tokens):
        flow.references(item.tokens, table)
        if item.name and len(item.tokens) == 1:
            renamed[item.tokens[0].text] = item.name
    dropped = dict.fromkeys(renamed, stage)
    names = [renamed.get(name, name) for name in table.columns]
    return Table(names, table.open, {**table.dropped, **dropped})


def _summarize(flow: Flow, stage: Stage, table: Table) -> Table:
    aggregates, by = by_split(without_options(stage.tokens))
    entries = [*items(by), *items(aggregates)]
    names: list[str] = []
    is_open = False
    for item in entries:
        flow.references([t for t in item.tokens if t.text != "*"], table)
        own = item_names(item)
        if any(token.text == "*" for token in item.tokens):
            own = [*own, *table.columns]
            is_open = is_open or table.open
        if not own:
            is_open = True
        names += [name for name in own if name not in names]
    return _narrowed(table, stage, names, is_open=is_open)


def _distinct(flow: Flow, stage: Stage, table: Table) -> Table:
    if [token.text for token in stage.tokens] == ["*"]:
        return table
    return _project(flow, stage, table)


def _count(_flow: Flow, stage: Stage, table: Table) -> Table:
    return _narrowed(table, stage, ["Count"], is_open=False)


def _join(flow: Flow, stage: Stage, table: Table) -> Table:
    tokens = without_options(stage.tokens)
    kind = next(
        (
            stage.tokens[i + 2].text
            for i, token in enumerate(stage.tokens[:-2])
            if token.text == "kind" and stage.tokens[i + 1].text == "="
        ),
        "",
    )
    right_tokens = next(iter(split(tokens, "on")), [])
    right = flow.source(Stage("", tuple(right_tokens), 0, 0)) if right_tokens else Table(open=True)
    on = tokens[len(right_tokens) + 1 :]
    both = Table([*table.columns, *right.columns], table.open or right.open, table.dropped)
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
    return Table(names, table.open or right.open, table.dropped)


def _union(flow: Flow, stage: Stage, table: Table) -> Table:
    return flow.union(stage.tokens, table)


def _mv_expand(flow: Flow, stage: Stage, table: Table) -> Table:
    tokens = without_options(stage.tokens)
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
    return Table(names, table.open, table.dropped)


def _parse(flow: Flow, stage: Stage, table: Table) -> Table:
    parts = list(split(stage.tokens, "with"))
    flow.references(without_options(parts[0]), table)
    names = list(table.columns)
    pattern = parts[1] if len(parts) > 1 else []
    for at, token in enumerate(pattern):
        before = pattern[at - 1].text if at else ""
        if token.kind is Kind.IDENTIFIER and before != ":" and token.text not in names:
            names.append(token.text)
    return Table(names, table.open, table.dropped)


def _as(flow: Flow, stage: Stage, table: Table) -> Table:
    if stage.tokens:
        flow.lets[stage.tokens[-1].text] = table
    return table


def _render(_flow: Flow, _stage: Stage, table: Table) -> Table:
    return table


def _serialize(flow: Flow, stage: Stage, table: Table) -> Table:
    return _extend(flow, stage, table)


HANDLERS: dict[str, Callable[[Flow, Stage, Table], Table]] = {
    "extend": _extend,
    "serialize": _serialize,
    "as": _as,
    "render": _render,
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
