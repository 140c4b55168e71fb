"""Recorded events opened once for several queries, and the stretch of time they span."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from qakhunt.backends.engine.session import EngineRefused, Session
from qakhunt.core.errors import EventsError, RejectedError
from qakhunt.kql.schema import SENTINEL, TIME_COLUMN
from qakhunt.kql.values import Instant, Timespan, Window
from qakhunt.kql.visitors import tables_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from qakhunt.answers.table import ResultTable
    from qakhunt.hunts.model import Hunt
    from qakhunt.hunts.render import RenderedQuery

    Ask = Callable[[RenderedQuery, str], ResultTable]

ALL_TIME = Window(Instant(0), Instant.parse("9999-12-31T23:59:59.999999Z"))
_MICROSECOND = Timespan.parse("1micro")


class EventSource(Protocol):
    """What a comparison asks: records of one product, and what they cannot tell."""

    product: str

    def ask(self, rendered: RenderedQuery, text: str) -> ResultTable:
        """Answer a text under a rendering's clock and window. Raises RejectedError."""

    def unknown(self, rendered: RenderedQuery) -> list[str]:
        """Why an answer to the query is no proof."""

    def span(self, hunts: Sequence[Hunt]) -> tuple[Window, int]:
        """The window to look at where none is named, and how many records there are."""


def gaps(ask: Ask, rendered: RenderedQuery) -> list[str]:
    """Tables that a query reads and of which its window holds no record."""
    return [
        f"no record of {table} lies in {rendered.window}"
        for table in tables_of(rendered.text, rendered.product)
        if not any(row[0] for row in ask(rendered, f"{table} | count").rows)
    ]


class Records:
    """Loaded events of one product; queries over them share the load."""

    def __init__(self, inputs: Sequence[str], product: str, timeout: float | None = None) -> None:
        self.product = product
        self.session = Session(inputs, product)
        self.timeout = timeout

    def __enter__(self) -> Records:
        return self

    def __exit__(self, *_: object) -> None:
        self.session.close()

    def ask(self, rendered: RenderedQuery, text: str) -> ResultTable:
        """Answer a text under a rendering's clock and window. Raises RejectedError."""
        try:
            return self.session.ask(
                text, now=rendered.now, window=rendered.window, timeout=self.timeout
            )
        except EngineRefused as problem:
            is_own = text == rendered.text and problem.line
            place = rendered.locate(problem.line, problem.column) if is_own else None
            raise RejectedError(problem.message, location=place, hint=problem.hint) from None

    def unknown(self, rendered: RenderedQuery) -> list[str]:
        """Why an answer to the query is no proof."""
        skipped = self.session.inputs.skipped
        return [*([skipped] if skipped else []), *gaps(self.ask, rendered)]

    def span(self, hunts: Sequence[Hunt]) -> tuple[Window, int]:
        """The window that just holds every record of the hunts' tables, and how many there are."""
        loaded = set(self.session.loaded_tables)
        wanted = {name for hunt in hunts for name in tables_of(hunt.query, SENTINEL.name)} & loaded
        starts, ends, count = [], [], 0
        column = TIME_COLUMN[self.product]
        for table in sorted(wanted):
            answer = self.session.ask(
                f"{table} | summarize min({column}), max({column}), count()",
                now=ALL_TIME.start, window=ALL_TIME,
            )  # fmt: skip
            first, last, rows = answer.rows[0]
            count += rows
            if first is not None:
                starts.append(first)
                ends.append(last + _MICROSECOND)
        if not starts:
            raise EventsError("the inputs hold no record of the tables that the hunts read")
        return Window(min(starts), max(ends)), count
