"""The feeds of a query's tables, fetched stretch by stretch; the query once over all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qakhunt.backends.engine.feed_store import FeedStore
from qakhunt.core.errors import QakhuntError
from qakhunt.kql.values import TICKS_PER_SECOND, Instant, Timespan, Window
from qakhunt.run.slicing.pieces import CannotJoinError, Piece

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qakhunt.answers.table import ResultTable
    from qakhunt.hunts.feed import Feed
    from qakhunt.hunts.render import RenderedQuery
    from qakhunt.run.slicing.request import SliceRequest

FIRST_SLICES = 8
"""Into how many stretches a window is cut where no length was asked for."""


class TimeCut:
    """Cuts by time; the unchanged query then runs in the embedded engine."""

    def __init__(
        self, rendered: RenderedQuery, feeds: Sequence[Feed], request: SliceRequest
    ) -> None:
        self._rendered, self._feeds, self._request = rendered, feeds, request
        self._span = request.span or _fraction(rendered.window, request.shortest)
        self._store = FeedStore(rendered.product)

    def pieces(self) -> list[Piece]:
        found = []
        for feed in self._feeds:
            cut = stretches(self._rendered.window, self._span) if feed.time_column else None
            found += [self._piece(feed, stretch) for stretch in cut or [self._rendered.window]]
        return found

    def halves(self, piece: Piece) -> list[Piece]:
        feed: Feed = piece.key
        if not feed.time_column:
            return []
        return [self._piece(feed, w) for w in halves(piece.window, self._request.shortest)]

    def _piece(self, feed: Feed, stretch: Window) -> Piece:
        label = str(stretch) if feed.time_column else "whole table"
        if len(self._feeds) > 1:
            label = f"{feed.table} {label}"
        return Piece(label, feed.query(stretch), stretch, (feed.table,), feed, None)

    def keep(self, piece: Piece, table: ResultTable) -> None:
        self._store.add(piece.key.table, table)

    def joined(self) -> ResultTable | None:
        """The unchanged query's result over all that was fetched."""
        store = self._store
        if store.rows > self._request.most_rows:
            raise CannotJoinError(
                f"{store.rows:,} records are too many to bring together here "
                f"(at most {self._request.most_rows:,})"
            )
        rendered = self._rendered
        try:
            return store.ask(rendered.text, now=rendered.now, window=rendered.window)
        except QakhuntError as problem:
            raise CannotJoinError(problem.message) from None

    def close(self) -> None:
        self._store.close()


def stretches(window: Window, span: Timespan) -> list[Window]:
    """The window in stretches of ``span`` from its start; the last may be shorter."""
    starts = range(window.start.ticks, window.end.ticks, span.ticks)
    return [
        Window(Instant(start), Instant(min(start + span.ticks, window.end.ticks)))
        for start in starts
    ]


def halves(window: Window, shortest: Timespan) -> list[Window]:
    """The window in two, or nothing where a half would be shorter than ``shortest``."""
    length = window.end.ticks - window.start.ticks
    if length < 2 * shortest.ticks:
        return []
    middle = window.start.ticks + _whole_seconds(length // 2)
    return [Window(window.start, Instant(middle)), Window(Instant(middle), window.end)]


def _fraction(window: Window, shortest: Timespan) -> Timespan:
    part = _whole_seconds((window.end.ticks - window.start.ticks) // FIRST_SLICES)
    return Timespan(max(part + TICKS_PER_SECOND, shortest.ticks))


def _whole_seconds(ticks: int) -> int:
    return ticks - ticks % TICKS_PER_SECOND
