"""Rewriting that needs the columns at hand: pipelines are walked step by step.

A step is either said in other words, or becomes a *stage*: a relation in SQL of its own,
under a name that the rest of the query reads as a table. Stages read stages before them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from qakhunt.backends.engine.dialect import Unreadable, respell
from qakhunt.backends.engine.rewriting.spelling import made_names
from qakhunt.backends.engine.sql_types import identifier
from qakhunt.kql.edits import Edit, apply, original_offset
from qakhunt.kql.parser import parse
from qakhunt.kql.syntax import (
    Call,
    Declaration,
    Directive,
    Function,
    Group,
    Let,
    Name,
    Named,
    Node,
    Operator,
    Pipeline,
    Script,
    find,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from qakhunt.backends.engine.external import ExternalFiles
    from qakhunt.kql.schema import Columns
    from qakhunt.kql.tokens import Token

    Step = Callable[["Planner", Pipeline, Operator], None]
    Head = Callable[["Planner", Node], None]
    Span = tuple[int, int]

_LISTED = re.compile(r"\b(?:in|in~|has_any|has_all)\s*\(\s*\Z")
_SORTING = frozenset(["sort", "order", "top"])
_MIXING = frozenset([
    "summarize", "distinct", "join", "lookup", "union", "count", "make-series", "evaluate",
    "mv-apply", "find", "search",
])  # fmt: skip
_FILTERS = frozenset(["where", "filter", "take", "limit", "sort", "order", "top"])
_OWN_SOURCE = frozenset(["mv-apply", "mvapply", "partition", "fork", "facet"])
"""Operators whose subqueries read what stands before the operator."""

DEFAULTS = {
    "string": "''", "long": "0", "int": "int(0)", "real": "0.0", "double": "0.0", "bool": "false",
    "datetime": "datetime(2000-01-01)", "timespan": "1h", "dynamic": "dynamic([])",
    "guid": "guid(00000000-0000-0000-0000-000000000000)", "decimal": "decimal(0)",
}  # fmt: skip


class Host(Protocol):
    """The session as the planner sees it."""

    @property
    def tables(self) -> Mapping[str, Columns]:
        """Every table that a query may read."""

    @property
    def loaded(self) -> Sequence[str]:
        """Tables that the inputs hold records of."""

    @property
    def product(self) -> str:
        """The product whose tables they are."""

    @property
    def parameters(self) -> dict[str, Any]:
        """Values that the SQL so far is bound to."""

    def sql(self, text: str, tables: Mapping[str, Columns]) -> str:
        """A query in SQL. Raises Unreadable."""

    def describe(self, sql: str, text: str) -> Columns:
        """The columns of a SELECT, made of that query. Raises Unreadable."""

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows of a SELECT."""

    @property
    def external(self) -> ExternalFiles:
        """The files that stand for addresses."""

    def keep(self, columns: Columns, rows: Sequence[Sequence[str | None]]) -> str:
        """A relation of these texts, read as the columns' types."""


@dataclass(frozen=True)
class Stage:
    """A named relation; ``ordered`` says that the order of its rows means something."""

    name: str
    sql: str
    columns: Columns
    ordered: bool = False


@dataclass
class Plan:
    """The query for the translator, with the stages that it reads.

    ``unknown`` says what depends on the outside and was not given; ``volatile`` that the
    plan follows from the records and holds for these alone.
    """

    text: str
    edits: list[Edit] = field(default_factory=list)
    stages: list[Stage] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    volatile: bool = False
    parameters: dict[str, Any] = field(default_factory=dict)
    """Values that the stages' SQL is bound to."""

    @property
    def columns(self) -> dict[str, Columns]:
        """The stages as tables."""
        return {stage.name: stage.columns for stage in self.stages}

    @property
    def is_ordered(self) -> bool:
        """Whether the order of the result comes from a stage."""
        query = parse(self.text).query
        source, operators = (
            (query.source, query.operators) if isinstance(query, Pipeline) else (query, ())
        )
        name = source.name if isinstance(source, Name) else ""
        ordered = any(stage.name == name and stage.ordered for stage in self.stages)
        return keeps_order(operators, before=ordered) and ordered

    def select(self, sql: str) -> str:
        """The SQL with the stages before it."""
        return with_stages(self.stages, sql)


def with_stages(stages: Sequence[Stage], sql: str) -> str:
    """One SELECT that knows the stages by their names."""
    if not stages:
        return sql
    listing = ",\n".join(f"{identifier(stage.name)} AS (\n{stage.sql}\n)" for stage in stages)
    return f"WITH {listing}\nSELECT * FROM (\n{sql}\n)"


def keeps_order(operators: Sequence[Operator], *, before: bool = False) -> bool:
    """Whether rows come in an order that the query asked for."""
    for operator in operators:
        if operator.name in _SORTING:
            before = True
        elif operator.name in _MIXING:
            before = False
    return before


class Planner:
    """Rewrites one query. Offsets are those of ``text``."""

    def __init__(self, host: Host, text: str) -> None:
        self.host = host
        self.text = text
        self.script = parse(text)
        self.edits: list[Edit] = respell(text)
        self.stages: list[Stage] = []
        self.unknown: list[str] = []
        self.volatile = False
        self.split_unions = False
        self.inside = ""
        self.header: list[Span | str] = []
        self.parameters = 0
        self.lets = list(find(self.script, Let))
        self.declared = {let.name for let in self.lets}
        self._places: list[tuple[Pipeline, Operator]] = []
        self._translated: dict[tuple[str, int], str] = {}
        self._made_of: dict[str, tuple[str, Any]] = {}
        self._described: dict[str, Columns] = {}

    def plan(self) -> Plan:
        """The whole query rewritten. Raises Unreadable."""
        self.visit(self.script)
        edits = sorted(self.edits, key=lambda edit: edit.start)
        return Plan(
            apply(self.text, edits), edits, self.stages, list(dict.fromkeys(self.unknown)),
            self.volatile, self.host.parameters,
        )  # fmt: skip

    # Walking

    @property
    def pipelines(self) -> Iterator[Pipeline]:
        """All pipelines of the query."""
        return find(self.script, Pipeline)

    def visit(self, node: Node) -> None:
        """Rewrite a node and all below it, the innermost first."""
        if isinstance(node, Script):
            self._visit_script(node)
        elif isinstance(node, Function):
            self._visit_function(node)
        elif isinstance(node, Pipeline):
            self._visit_pipeline(node)
        elif isinstance(node, Operator):
            self._visit_parts(node)
            self._head(node)
        else:
            for child in node.children:
                self.visit(child)
            if isinstance(node, Call):
                self._head(node)

    def _visit_script(self, script: Script) -> None:
        known = len(self.header)
        for statement in script.statements:
            self.visit(statement)
            if isinstance(statement, (Let, Directive)):
                self.header.append((statement.start, statement.end))
        del self.header[known:]

    def _visit_function(self, function: Function) -> None:
        known = len(self.header)
        for one in function.parameters:
            if isinstance(one, Declaration):
                self.header.append(f"let {one.name} = {_example(self.text, one)}")
        self.parameters += len(function.parameters)
        self.visit(function.body)
        self.parameters -= len(function.parameters)
        del self.header[known:]

    def _visit_pipeline(self, pipeline: Pipeline) -> None:
        self.visit(pipeline.source)
        for operator in pipeline.operators:
            self._places.append((pipeline, operator))
            self._visit_parts(operator)
            self._places.pop()
            for step in STEPS.get(operator.name, ()):
                step(self, pipeline, operator)

    def _visit_parts(self, operator: Operator) -> None:
        if operator.name not in _OWN_SOURCE:
            for child in operator.children:
                self.visit(child)

    def _head(self, node: Operator | Call) -> None:
        head = HEADS.get(node.name)
        if head is not None:
            head(self, node)

    # What the steps use

    @property
    def place(self) -> tuple[Pipeline, Operator] | None:
        """The innermost pipeline, and its operator, that hold what is visited."""
        return self._places[-1] if self._places else None

    def edit(self, start: int, end: int, text: str) -> None:
        """Replace a span; edits within it go with it."""
        kept = [one for one in self.edits if not (start <= one.start and one.end <= end)]
        self.edits = [*kept, Edit(start, end, text)]

    def words(self, node: Node) -> str:
        """A node's text as rewritten so far."""
        return self.written((node.start, node.end))[0]

    def written(self, span: Span) -> tuple[str, list[Edit]]:
        """A span's text as rewritten so far, and the edits in it."""
        start, end = span
        inside = [one for one in self.edits if start <= one.start and one.end <= end]
        moved = [Edit(one.start - start, one.end - start, one.text) for one in inside]
        return apply(self.text[start:end], moved), moved

    def before(self, pipeline: Pipeline, operator: Operator) -> Span:
        """The pipeline up to an operator."""
        return pipeline.start, operator.start

    def columns_before(self, pipeline: Pipeline, operator: Operator) -> Columns:
        """The columns that an operator gets."""
        source, at = pipeline.source, pipeline.operators.index(operator)
        known = self.host.tables.get(source.name) if isinstance(source, Name) else None
        hidden = isinstance(source, Name) and source.name in self.declared
        if known and not hidden and {o.name for o in pipeline.operators[:at]} <= _FILTERS:
            return known
        return self.columns(self.before(pipeline, operator))

    def columns(self, *query: Span | str) -> Columns:
        """The columns of a query, given in pieces of the text or in words of its own."""
        sql = self.sql(*query)
        return self._describe(sql)

    def _describe(self, sql: str) -> Columns:
        if sql not in self._described:
            text, parts = self._made_of.get(sql, ("", ()))
            try:
                found = self.host.describe(with_stages(self.stages, sql), text)
            except Unreadable as problem:
                at = _original(parts, problem.offset)
                raise Unreadable(problem.message, at, problem.hint) from None
            self._described[sql] = found
        return self._described[sql]

    def sql(self, *query: Span | str) -> str:
        """The SQL of a query behind the statements before it, its order kept as it is."""
        parts: list[tuple[str, Span | None, list[Edit]]] = []
        for number, piece in enumerate([*self.header, *query]):
            if isinstance(piece, str):
                parts.append((piece, None, []))
            else:
                text, edits = self.written(piece)
                parts.append((text, piece, edits))
            if number < len(self.header):
                parts.append((";\n", None, []))
        whole = "".join(text for text, _, _ in parts)
        key = whole, len(self.stages)
        if key in self._translated:
            return self._translated[key]
        tables = {**self.host.tables, **{one.name: one.columns for one in self.stages}}
        try:
            self._translated[key] = sql = self.host.sql(whole, tables)
            self._made_of[sql] = whole, parts
            return sql
        except Unreadable as problem:
            at = _original(parts, problem.offset)
            raise Unreadable(problem.message, at, problem.hint) from None

    def stage(self, sql: str, *, name: str = "", ordered: bool = False) -> Stage:
        """A new relation from SQL that may read those before it."""
        if self.parameters:
            raise Unreadable(
                "the embedded engine does not run this inside a function with parameters",
                self.script.start, hint="write the function's text where it is called",
            )  # fmt: skip
        name = name or f"_stage{len(self.stages) + 1}"
        stage = Stage(name, sql, self._describe(sql), ordered)
        self.stages.append(stage)
        return stage

    def stage_before(self, pipeline: Pipeline, operator: Operator) -> Stage:
        """What an operator gets, as a stage."""
        at = pipeline.operators.index(operator)
        sql = self.sql(self.before(pipeline, operator))
        source = pipeline.source
        kept = isinstance(source, Name) and any(
            s.name == source.name and s.ordered for s in self.stages
        )
        return self.stage(sql, ordered=keeps_order(pipeline.operators[:at], before=kept))

    def becomes(self, pipeline: Pipeline, operator: Operator, stage: Stage) -> None:
        """The pipeline up to and with the operator is the stage."""
        self.read(pipeline.start, operator.end, stage)

    def read(self, start: int, end: int, stage: Stage) -> None:
        """Read the stage in place of a span; a bare name in a list would be a column."""
        listed = _LISTED.search(self.text[:start])
        self.edit(start, end, f"{stage.name} | where true" if listed else stage.name)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Rows of a SELECT over the stages: from then on the plan holds for these records."""
        self.volatile = True
        return self.host.rows(with_stages(self.stages, sql))


def _example(text: str, one: Declaration) -> str:
    """A value or table of a parameter's type, to find out columns with."""
    if isinstance(one.type, Group):
        inner = text[one.type.start : one.type.end]
        return f"datatable{'(_:string)' if '*' in inner else inner}[]"
    return DEFAULTS.get(text[one.type.start : one.type.end], "dynamic(null)")


def _original(
    parts: Sequence[tuple[str, tuple[int, int] | None, list[Edit]]], at: int | None
) -> Any:
    if at is None:
        return None
    last = None
    for text, span, edits in parts:
        if span is not None:
            last = span[1]
        if at <= len(text):
            return last if span is None else span[0] + original_offset(edits, at)
        at -= len(text)
    return last


def no_column(name: str, at: int, known: Mapping[str, str]) -> Unreadable:
    """A column that is not there."""
    from qakhunt.core.errors import nearest

    return Unreadable(f"no column named {name!r}", at, nearest(name, known))


def refusal(what: str, node: Node | Token, hint: str | None = None) -> Unreadable:
    """What the engine does not do, named as the user wrote it."""
    if isinstance(node, Operator) and node.has_bar:
        node = node.parts[1]
    return Unreadable(
        f"the embedded engine does not support {what}", node.start,
        hint or "run it with --backend log-analytics or defender, or write it another way",
    )  # fmt: skip


def names_in(node: Node) -> set[str]:
    """Every name in a node."""
    return {name.name for name in find(node, Name)}


def foreign_names(planner: Planner, own: Iterable[str] = ()) -> list[str]:
    """Names that no table of the query has, and that it does not make: columns of a table
    whose columns only its records tell."""
    mentioned = names_in(planner.script)
    tables = planner.host.tables
    known = {name for table in mentioned & set(tables) for name in tables[table]}
    made = made_names(planner.script)
    found: dict[str, str] = {}
    for name in sorted(mentioned - {*known, *made, *own, *tables}):
        found.setdefault(name.casefold(), name)
    return list(found.values())


def argument(node: Node) -> Node:
    """An argument without its name."""
    return node.value if isinstance(node, Named) else node


STEPS: dict[str, list[Step]] = {}
"""Operator -> what rewrites it behind a bar, one after the other."""
HEADS: dict[str, Head] = {}
"""Operator or function -> what rewrites it as a source or in an expression."""


def rewrites(step: Step, *operators: str) -> None:
    """Have a step rewrite these operators."""
    for name in operators:
        STEPS.setdefault(name, []).append(step)
