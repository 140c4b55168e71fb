"""The same query for parts of the devices; their results one after the other."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from qakhunt.answers.table import ResultTable
from qakhunt.run.coverage_check import tables_named
from qakhunt.run.slicing.partition import Part, Partition, in_order
from qakhunt.run.slicing.pieces import CannotJoinError, Piece

if TYPE_CHECKING:
    from qakhunt.hunts.render import RenderedQuery
    from qakhunt.run.slicing.request import SliceRequest


class DeviceCut:
    """Cuts by the hash of the device."""

    def __init__(
        self, rendered: RenderedQuery, partition: Partition, request: SliceRequest
    ) -> None:
        self._rendered, self._partition, self._request = rendered, partition, request
        self._tables = tables_named(rendered)
        self._kept: dict[str, ResultTable] = {}
        self._lock = threading.Lock()

    def pieces(self) -> list[Piece]:
        parts = self._request.parts
        return [self._piece(Part(parts, remainder)) for remainder in range(parts)]

    def halves(self, piece: Piece) -> list[Piece]:
        part: Part = piece.key
        if part.modulus * 2 > self._request.most_parts:
            return []
        return [self._piece(half) for half in part.halves(self._partition.column)]

    def _piece(self, part: Part) -> Piece:
        edits = tuple(self._partition.edits(part))
        text = self._partition.query(part)
        return Piece(str(part), text, self._rendered.window, self._tables, part, edits)

    def keep(self, piece: Piece, table: ResultTable) -> None:
        with self._lock:
            self._kept[piece.text] = table

    def joined(self) -> ResultTable | None:
        """All rows, sorted as the query sorts."""
        if not self._kept:
            return None
        tables = list(self._kept.values())
        names = tables[0].names
        if any(table.names != names for table in tables):
            raise CannotJoinError("the parts were answered with different columns")
        widest = max(tables, key=len)
        rows = [row for table in tables for row in table.rows]
        return in_order(ResultTable(widest.columns, rows), self._partition.order)

    def close(self) -> None:
        pass
