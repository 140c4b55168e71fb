"""One query for every product: the columns that hunts are written in, as another names them.

Works by token, inside strings and comments never. What the other product has no
equivalent for is refused with its line, never dropped.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from qakhunt.core.errors import NotAvailableError
from qakhunt.hunts.parameters import place_of
from qakhunt.kql.edits import Edit
from qakhunt.kql.parser import parse
from qakhunt.kql.schema import PRODUCTS, SENTINEL, columns
from qakhunt.kql.tokens import Kind, Token
from qakhunt.kql.visitors import query_sources

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qakhunt.hunts.model import Hunt
    from qakhunt.kql.syntax import Node
    from qakhunt.kql.visitors import Source

_OWN = SENTINEL.name
_WORKSPACE = "TenantId"


def product_edits(
    hunt: Hunt, tokens: Sequence[Token], others: Sequence[Edit], product: str
) -> list[Edit]:
    """Edits that make the query one for the product. Raises NotAvailableError."""
    if product == _OWN:
        return []
    read = query_sources(parse(hunt.query), unused=True)
    for source in read:
        if columns(_OWN, source.word) and not columns(product, source.word):
            raise _unavailable(hunt, source.node, product, f"has no table {source.word}")
    absent = _absent_columns(read, tokens, product)
    # Who knows which columns a custom table or a function has.
    is_foreign = any(not columns(product, source.word) for source in read)
    edits: list[Edit] = []
    is_filled = False
    for at, token in enumerate(tokens):
        if token.kind is not Kind.IDENTIFIER or _is_member(tokens, at):
            continue
        if any(edit.start <= token.start < edit.end for edit in others):
            continue
        if token.text == SENTINEL.time_column:
            edits.append(Edit(token.start, token.end, PRODUCTS[product].time_column))
        elif token.text not in absent or (token.text == _WORKSPACE and is_filled):
            continue
        elif token.text == _WORKSPACE and _is_bare_in_by(tokens, at):
            is_filled = True  # the query makes the column itself from here on
            edits.append(Edit(token.start, token.end, f'{_WORKSPACE} = ""'))
        elif not is_foreign:
            only = "; only a bare one in a 'by' list is filled" * (token.text == _WORKSPACE)
            raise _unavailable(hunt, token, product, f"has no column {token.text}{only}")
    return edits


def _unavailable(hunt: Hunt, place: Token | Node, product: str, why: str) -> NotAvailableError:
    return NotAvailableError(
        f"{hunt.name} is not available for {product}, which {why}",
        location=place_of(hunt, place.start),
    )


def _absent_columns(read: Sequence[Source], tokens: Sequence[Token], product: str) -> set[str]:
    """Columns that the product lacks and that the query can have from nowhere else."""
    absent: set[str] = {_WORKSPACE} if any(columns(product, s.word) for s in read) else set()
    for source in read:
        absent |= columns(_OWN, source.word).keys()
    for source in read:
        absent -= columns(product, source.word).keys()
    return absent - _made(tokens) - {SENTINEL.time_column}


def _made(tokens: Sequence[Token]) -> set[str]:
    """Names that the query gives itself: ``a = ..``, ``a: long``, or in ``parse .. with``."""
    made = {
        token.text
        for token, after in pairwise(tokens)
        if token.kind is Kind.IDENTIFIER and after.text in ("=", ":")
    }
    is_parse = False
    for before, token in pairwise(tokens):
        if before.text == "|":
            is_parse = token.text == "parse"
        elif is_parse and before.kind is Kind.STRING:
            made.add(token.text)
    return made


def _is_member(tokens: Sequence[Token], at: int) -> bool:
    """Whether it names part of a value; a column of a join's side or a scan's step is none."""
    if at < 2 or tokens[at - 1].text != ".":
        return False
    owner = tokens[at - 2].text
    return owner not in ("$left", "$right") and not any(
        before.text == "step" and token.text == owner for before, token in pairwise(tokens)
    )


def _is_bare_in_by(tokens: Sequence[Token], at: int) -> bool:
    """Whether the token is a whole entry of a ``by`` list."""
    after = tokens[at + 1].text if at + 1 < len(tokens) else "|"
    if after not in (",", "|", ";", ")") or tokens[at - 1].text not in (",", "by"):
        return False
    depth = 0
    for token in reversed(tokens[:at]):
        if token.text == ")":
            depth += 1
        elif token.text == "(":
            depth -= 1
            if depth < 0:
                return False
        elif depth == 0 and token.text == "by":
            return True
        elif depth == 0 and token.text in ("|", ";"):
            return False
    return False
