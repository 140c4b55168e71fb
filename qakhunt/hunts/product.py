"""One query, two products: Log Analytics' columns as Defender names them.

Works by token, inside strings and comments never. What Defender has no
equivalent for is refused with its line, never dropped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qakhunt.errors import NotAvailableError
from qakhunt.hunts.model import DEFENDER, LOG_ANALYTICS
from qakhunt.hunts.parameters import place_of
from qakhunt.kql.edits import Edit
from qakhunt.kql.schema import TIME_COLUMN, columns, tables
from qakhunt.kql.tokens import Kind, Token

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qakhunt.hunts.model import Hunt

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


def defender_edits(hunt: Hunt, tokens: Sequence[Token], others: Sequence[Edit]) -> list[Edit]:
    """Edits that make the query one for Defender. Raises NotAvailableError."""
    names = tables_of(tokens)
    for table in names:
        if not columns(DEFENDER, table):
            named = next(token for token in tokens if token.text == table)
            raise _unavailable(hunt, named, f"has no table {table}")
    absent = _absent_columns(names, tokens)
    covered = [(edit.start, edit.end) for edit in others]
    edits = []
    for at, token in enumerate(tokens):
        if token.kind is not Kind.IDENTIFIER or _is_member(tokens, at):
            continue
        if any(start <= token.start < end for start, end in covered):
            continue
        if token.text == _LA_TIME:
            edits.append(Edit(token.start, token.end, _DEFENDER_TIME))
        elif token.text == _WORKSPACE:
            if not _is_bare_in_by(tokens, at):
                raise _unavailable(
                    hunt,
                    token,
                    f"has no column {_WORKSPACE}; only a bare one in a 'by' list is filled",
                )
            edits.append(Edit(token.start, token.end, f'{_WORKSPACE} = ""'))
        elif token.text in absent:
            raise _unavailable(hunt, token, f"has no column {token.text}")
    return edits


def _unavailable(hunt: Hunt, token: Token, why: str) -> NotAvailableError:
    return NotAvailableError(
        f"{hunt.name} is not available for defender, which {why}",
        location=place_of(hunt, token.start),
    )


def _absent_columns(names: Sequence[str], tokens: Sequence[Token]) -> set[str]:
    """Columns that only Log Analytics has and that the query does not make itself."""
    absent: set[str] = set()
    for table in names:
        absent |= columns(LOG_ANALYTICS, table).keys() - columns(DEFENDER, table).keys()
    made = {
        token.text
        for at, token in enumerate(tokens[:-1])
        if token.kind is Kind.IDENTIFIER and tokens[at + 1].text == "="
    }
    return absent - made - {_LA_TIME, _WORKSPACE}


def _is_member(tokens: Sequence[Token], at: int) -> bool:
    return at > 0 and tokens[at - 1].text == "."


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
