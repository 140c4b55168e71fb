"""One query, two products: Log Analytics' columns as Defender names them.

Works by token, inside strings and comments never. What Defender has no
equivalent for is refused with its line, never dropped.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from qakhunt.core.errors import NotAvailableError
from qakhunt.hunts.model import DEFENDER, LOG_ANALYTICS
from qakhunt.hunts.parameters import place_of
from qakhunt.hunts.table_sources import sources
from qakhunt.kql.edits import Edit
from qakhunt.kql.schema import TIME_COLUMN, columns, tables
from qakhunt.kql.syntax import Clause, Declaration, Let, Name, Named, Operator, Path, column, find
from qakhunt.kql.tokens import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from qakhunt.hunts.model import Hunt
    from qakhunt.kql.syntax import Node, Script
    from qakhunt.kql.tokens import Token

_LA_TIME, _DEFENDER_TIME = TIME_COLUMN[LOG_ANALYTICS], TIME_COLUMN[DEFENDER]
_WORKSPACE = "TenantId"


def tables_of(tokens: Sequence[Token], product: str = LOG_ANALYTICS) -> list[str]:
    """Known tables that the query names, in order, each once."""
    known = tables(product)
    found: dict[str, None] = {}
    for at, token in enumerate(tokens):
        if token.kind is Kind.IDENTIFIER and token.text in known and not _is_member(tokens, at):
            found[token.text] = None
    return list(found)


def defender_edits(hunt: Hunt, script: Script, others: Sequence[Edit]) -> list[Edit]:
    """Edits that make the query one for Defender. Raises NotAvailableError."""
    read = sources(script.tokens, unused=True)
    for source in read:
        if columns(LOG_ANALYTICS, source.text) and not columns(DEFENDER, source.text):
            raise _unavailable(hunt, source, f"has no table {source.text}")
    absent = _absent_columns(read, script)
    # Who knows which columns a custom table or a function has.
    is_foreign = any(not columns(DEFENDER, source.text) for source in read)
    members = _members(script)
    grouped = {id(node) for node in _grouped_by(script)}
    edits: list[Edit] = []
    is_filled = False
    for node in find(script, Name):
        if id(node) in members or any(e.start <= node.start < e.end for e in others):
            continue
        if node.name == _LA_TIME:
            edits.append(Edit(node.start, node.end, _DEFENDER_TIME))
        elif node.name not in absent or (node.name == _WORKSPACE and is_filled):
            continue
        elif node.name == _WORKSPACE and id(node) in grouped:
            is_filled = True  # the query makes the column itself from here on
            edits.append(Edit(node.start, node.end, f'{_WORKSPACE} = ""'))
        elif not is_foreign:
            only = "; only a bare one in a 'by' list is filled" * (node.name == _WORKSPACE)
            raise _unavailable(hunt, node, f"has no column {node.name}{only}")
    return edits


def _unavailable(hunt: Hunt, at: Node | Token, why: str) -> NotAvailableError:
    return NotAvailableError(
        f"{hunt.name} is not available for defender, which {why}",
        location=place_of(hunt, at.start),
    )


def _absent_columns(read: Sequence[Token], script: Script) -> set[str]:
    """Columns that only Log Analytics has and that the query can have from nowhere else."""
    absent: set[str] = {_WORKSPACE} if any(columns(DEFENDER, s.text) for s in read) else set()
    for source in read:
        absent |= columns(LOG_ANALYTICS, source.text).keys()
    for source in read:
        absent -= columns(DEFENDER, source.text).keys()
    return absent - _made(script) - {_LA_TIME}


def _is_member(tokens: Sequence[Token], at: int) -> bool:
    """Whether it names part of a value; a column of a join's side or a scan's step is none."""
    if at < 2 or tokens[at - 1].text != ".":
        return False
    owner = tokens[at - 2].text
    return owner not in ("$left", "$right") and not any(
        before.text == "step" and token.text == owner for before, token in pairwise(tokens)
    )


def _made(script: Script) -> set[str]:
    """Names that the query gives itself: ``a = ..``, ``a: long``, or in ``parse .. with``."""
    made: set[str] = set()
    for node in script.walk():
        if isinstance(node, (Named, Declaration, Let)):
            made.update(node.names if isinstance(node, Named) else [node.name])
        elif isinstance(node, Operator) and node.name in ("parse", "parse-where"):
            made.update(filter(None, map(column, node.clause("with") or ())))
    return made


def _members(script: Script) -> set[int]:
    """Ids of names of a value's parts; a column of a join's side or a scan's step is none."""
    steps = [clause for clause in find(script, Clause) if clause.keyword == "step"]
    owners = {"$left", "$right", *(column(child) for step in steps for child in step.children)}
    return {
        id(step)
        for path in find(script, Path)
        for step in path.steps[column(path.base) in owners :]
    }


def _grouped_by(script: Script) -> Iterator[Node]:
    """The entries of all ``by`` lists that may name a column of their own."""
    for operator in find(script, Operator):
        if operator.name in ("summarize", "make-series"):
            yield from operator.clause("by") or ()
