"""A piece of a question, and what a way of cutting must be able to do."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from qakhunt.backends.base import Question
from qakhunt.run.coverage_check import tables_named

if TYPE_CHECKING:
    from qakhunt.answers.ledger import Target
    from qakhunt.answers.table import ResultTable
    from qakhunt.core.errors import SourceLocation
    from qakhunt.hunts.render import RenderedQuery
    from qakhunt.kql.edits import Edit
    from qakhunt.kql.values import Window

WHOLE = "whole window"


class CannotJoinError(Exception):
    """The pieces came, but their whole cannot be told; the text says why."""


@dataclass(frozen=True)
class Piece:
    """One question of several: ``key`` is for the cut that made it.

    ``edits`` lead from the rendered text to ``text``; None where it is another query.
    """

    label: str
    text: str
    window: Window
    tables: tuple[str, ...]
    key: Any = None
    edits: tuple[Edit, ...] | None = ()

    @property
    def query_hash(self) -> str:
        """SHA-256 of the text as sent."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def question(self, target: Target) -> Question:
        """The question to ask a target."""
        return Question(self.text, self.window, target, self.tables)

    def locate(self, rendered: RenderedQuery, place: tuple[int, int]) -> SourceLocation | None:
        """The place in the hunt's file of a line and column of ``text``."""
        if self.edits is None:
            return None
        if not self.edits:
            return rendered.locate(*place)
        from qakhunt.kql.edits import original_offset
        from qakhunt.kql.tokens import LineIndex

        offset = original_offset(self.edits, LineIndex(self.text).offset(*place))
        return rendered.locate(*LineIndex(rendered.text).locate(offset))


class Cut(Protocol):
    """One way to cut one question; ``keep`` and ``halves`` are called from several threads."""

    def pieces(self) -> list[Piece]:
        """What to ask first."""

    def halves(self, piece: Piece) -> list[Piece]:
        """Pieces that together are this one; none where it cannot be divided further."""

    def keep(self, piece: Piece, table: ResultTable) -> None:
        """Take what a piece was answered."""

    def joined(self) -> ResultTable | None:
        """The whole of what was kept; None for nothing. Raises CannotJoinError."""

    def close(self) -> None:
        """Remove temporary files."""


class WholeCut:
    """No cut: the question as it is."""

    def __init__(self, rendered: RenderedQuery) -> None:
        self.piece = Piece(WHOLE, rendered.text, rendered.window, tables_named(rendered))
        self._table: ResultTable | None = None

    def pieces(self) -> list[Piece]:
        return [self.piece]

    def halves(self, piece: Piece) -> list[Piece]:
        return []

    def keep(self, piece: Piece, table: ResultTable) -> None:
        self._table = table

    def joined(self) -> ResultTable | None:
        return self._table

    def close(self) -> None:
        pass


class WholeFirst:
    """The question as it is; cut in the given way only where it turns out too much."""

    def __init__(self, whole: WholeCut, further: Cut) -> None:
        self._whole, self._further = whole, further

    def pieces(self) -> list[Piece]:
        return self._whole.pieces()

    def halves(self, piece: Piece) -> list[Piece]:
        if piece is self._whole.piece:
            return self._further.pieces()
        return self._further.halves(piece)

    def keep(self, piece: Piece, table: ResultTable) -> None:
        (self._whole if piece is self._whole.piece else self._further).keep(piece, table)

    def joined(self) -> ResultTable | None:
        whole = self._whole.joined()
        return self._further.joined() if whole is None else whole

    def close(self) -> None:
        self._further.close()
