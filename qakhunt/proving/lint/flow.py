"""Which columns are there at each stage of a query, without running it.

Follows the operators whose effect on columns is plain. After any other, columns are
unknown and nothing is said until an operator names them anew: silence, never a guess.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qakhunt.kql.pipeline import Stage, Statement, pipeline, split, statements
from qakhunt.kql.schema import columns, tables
from qakhunt.kql.tokens import Kind, Token
from qakhunt.proving.lint.operators import HANDLERS
from qakhunt.proving.lint.table_columns import Table, closing, is_lambda, without_options
from qakhunt.proving.lint.vocabulary import SAME_COLUMNS, WORDS, function_names, is_foreign

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Problem:
    """A name that does not resolve; ``kind`` is table, column, function or dropped.

    ``known`` are the names that would; ``dropped_by`` is the stage that took it away.
    """

    kind: str
    token: Token
    known: frozenset[str] = frozenset()
    dropped_by: Stage | None = None


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
        self.lets: dict[str, Table] = {}
        self.functions: set[str] = set()
        self.problems: list[Problem] = []

    def statement(self, statement: Statement) -> None:
        if statement.name is None:
            if statement.tokens[0].text not in ("set", "declare", "alias", "pattern"):
                self.pipeline(statement.stages)
            return
        after = statement.tokens[2:]
        if after[0].text != "=" or is_lambda(statement.source.tokens):
            self.functions.add(statement.name)
        elif self.is_tabular(statement.stages):
            self.lets[statement.name] = self.pipeline(statement.stages)
        else:
            self.references(statement.source.tokens, Table(open=True))
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

    def pipeline(self, stages: Sequence[Stage]) -> Table:
        table = self.source(stages[0])
        for stage in stages[1:]:
            table = self.stage(stage, table)
        return table

    def source(self, stage: Stage) -> Table:
        tokens = stage.tokens
        if not tokens:
            return Table(open=True)
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
            return Table(open=True)
        if len(tokens) > 1 and tokens[1].text == "(":
            if first.text not in self.functions and not is_foreign(first.text):
                self.function(first)
            member = tokens[-1]
            if tokens[-2].text == "." and member.text in self.tables:
                return Table(list(columns(self.product, member.text)))
            return Table(open=True)
        return self.named(first)

    def named(self, token: Token) -> Table:
        name = token.text
        if name in self.lets:
            table = self.lets[name]
            return Table(list(table.columns), table.open, dict(table.dropped))
        if name in self.tables:
            return Table(list(columns(self.product, name)))
        wild = token.kind is not Kind.IDENTIFIER
        if not wild and name not in self.scalars | self.functions and not is_foreign(name):
            self.problems.append(Problem("table", token, frozenset([*self.tables, *self.lets])))
        return Table(open=True)

    def stage(self, stage: Stage, table: Table) -> Table:
        handler = HANDLERS.get(stage.operator)
        if handler is not None:
            return handler(self, stage, table)
        if stage.operator in SAME_COLUMNS:
            self.references(stage.tokens, table)
            return table
        return Table(open=True)

    def references(self, tokens: Sequence[Token], table: Table) -> None:
        """Check every column and function that an expression names."""
        at = 0
        while at < len(tokens):
            token = tokens[at]
            after = tokens[at + 1].text if at + 1 < len(tokens) else ""
            if token.text == "(":
                close = closing(tokens, at)
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

    def reference(self, token: Token, before: str, after: str, table: Table) -> None:
        name = token.text
        if before == "." or after == "=" or name in WORDS or name.startswith("$"):
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

    def union(self, tokens: Sequence[Token], table: Table | None) -> Table:
        result = table or Table()
        for part in split(without_options(tokens), ","):
            if not part:
                continue
            has_wildcard = any(token.text == "*" for token in part)
            other = Table(open=True) if has_wildcard else self.source(Stage("", tuple(part), 0, 0))
            result.columns += [name for name in other.columns if name not in result.columns]
            result.open = result.open or other.open
        for at, token in enumerate(tokens[:-2]):
            if token.text == "withsource" and tokens[at + 1].text == "=":
                result.columns.append(tokens[at + 2].text)
        return result
