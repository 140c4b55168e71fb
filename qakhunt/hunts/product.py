"""One query for every product: the columns that hunts are written in, as another names them.

Works on names, inside strings and comments never. What the other product has no
equivalent for is refused with its line, never dropped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qakhunt.core.errors import NotAvailableError
from qakhunt.hunts.parameters import place_of
from qakhunt.kql.edits import Edit
from qakhunt.kql.schema import PRODUCTS, SENTINEL, columns
from qakhunt.kql.syntax import Clause, Declaration, Let, Name, Named, Operator, Path, column, find
from qakhunt.kql.visitors import query_sources

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from qakhunt.hunts.model import Hunt
    from qakhunt.kql.syntax import Node, Script
    from qakhunt.kql.visitors import Source

_OWN = SENTINEL.name
_WORKSPACE = "TenantId"


def product_edits(hunt: Hunt, script: Script, others: Sequence[Edit], product: str) -> list[Edit]:
    """Edits that make the query one for the product. Raises NotAvailableError."""
    if product == _OWN:
        return []
    read = query_sources(script, unused=True)
    for source in read:
        if columns(_OWN, source.word) and not columns(product, source.word):
            raise _unavailable(hunt, source.node, product, f"has no table {source.word}")
    absent = _absent_columns(read, script, product)
    # Who knows which columns a custom table or a function has.
    is_foreign = any(not columns(product, source.word) for source in read)
    members = _members(script)
    grouped = {id(node) for node in _grouped_by(script)}
    edits: list[Edit] = []
    is_filled = False
    for node in find(script, Name):
        if id(node) in members or any(e.start <= node.start < e.end for e in others):
            continue
        if node.name == SENTINEL.time_column:
            edits.append(Edit(node.start, node.end, PRODUCTS[product].time_column))
        elif node.name not in absent or (node.name == _WORKSPACE and is_filled):
            continue
        elif node.name == _WORKSPACE and id(node) in grouped:
            is_filled = True  # the query makes the column itself from here on
            edits.append(Edit(node.start, node.end, f'{_WORKSPACE} = ""'))
        elif not is_foreign:
            only = "; only a bare one in a 'by' list is filled" * (node.name == _WORKSPACE)
            raise _unavailable(hunt, node, product, f"has no column {node.name}{only}")
    return edits


def _unavailable(hunt: Hunt, place: Node, product: str, why: str) -> NotAvailableError:
    return NotAvailableError(
        f"{hunt.name} is not available for {product}, which {why}",
        location=place_of(hunt, place.start),
    )


def _absent_columns(read: Sequence[Source], script: Script, product: str) -> set[str]:
    """Columns that the product lacks and that the query can have from nowhere else."""
    absent: set[str] = {_WORKSPACE} if any(columns(product, s.word) for s in read) else set()
    for source in read:
        absent |= columns(_OWN, source.word).keys()
    for source in read:
        absent -= columns(product, source.word).keys()
    return absent - _made(script) - {SENTINEL.time_column}


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
