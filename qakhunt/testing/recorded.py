"""A recording's source rows as the records of a comparison, and what they cannot tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qakhunt.answers.table import ResultTable
from qakhunt.backends.base import Question
from qakhunt.backends.recordings.store import Recording
from qakhunt.backends.replay import RecordedRows, target_of, window_of
from qakhunt.core.errors import EventsError, RecordingError, RejectedError
from qakhunt.kql.values import Instant, Window
from qakhunt.kql.visitors import tables_of
from qakhunt.testing.records import gaps

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from qakhunt.answers.table import Row
    from qakhunt.backends.recordings.manifest import Origin
    from qakhunt.hunts.model import Hunt
    from qakhunt.hunts.render import RenderedQuery


class RecordedSource:
    """The rows of every workspace of a recording, asked one by one, answered together.

    Raises RecordingError for a recording without source rows of the product; None
    takes the one that it has.
    """

    def __init__(self, folder: Path, product: str | None) -> None:
        recording = Recording.open(folder)
        manifest = recording.manifest
        products = list(dict.fromkeys(file.product for file in manifest.source))
        if not products:
            raise RecordingError(
                f"{folder}: the recording has no source rows",
                hint="record with --source-rows to compare hunts on it",
            )
        if product is not None and product not in products:
            raise RecordingError(f"{folder}: the recording has no source rows of {product}")
        self.product = product or products[0]
        self.now = Instant.parse(manifest.now)
        self._files = [file for file in manifest.source if file.product == self.product]
        self._window = window_of(manifest.window)
        self._rows = RecordedRows(recording, self.product, self.now)
        self._doubts: dict[str, None] = {}

    def __enter__(self) -> RecordedSource:
        return self

    def __exit__(self, *_: object) -> None:
        self._rows.close()

    @property
    def _origins(self) -> list[Origin]:
        return list(dict.fromkeys(file.origin for file in self._files))

    def ask(self, rendered: RenderedQuery, text: str) -> ResultTable:
        """Answer a text over all workspaces. Raises RejectedError."""
        tables = tuple(tables_of(text, self.product))
        rows: list[Row] = []
        columns = None
        for origin in self._origins:
            question = Question(text, rendered.window, target_of(origin), tables)
            answer = self._rows.ask(question)
            is_own = text == rendered.text
            if answer.table is None:
                place = rendered.locate(*answer.place) if is_own and answer.place else None
                raise RejectedError(answer.detail, location=place, hint=answer.hint or None)
            if is_own and answer.detail:
                self._doubts[f"{rendered.hunt.name}: {answer.detail}"] = None
            columns = columns or answer.table.columns
            rows += answer.table.rows
        if columns is None:
            raise EventsError("the recording has no rows")
        return ResultTable(columns, rows)

    def unknown(self, rendered: RenderedQuery) -> list[str]:
        """Why what was asked so far is no proof: filters, columns and stretches left out."""
        found = gaps(self.ask, rendered)
        return [*self._doubts, *found]

    def span(self, hunts: Sequence[Hunt]) -> tuple[Window, int]:
        """The recording's own window, and how many source rows it has."""
        del hunts
        return self._window, sum(file.rows for file in self._files)
