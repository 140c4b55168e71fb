"""What comparisons run over: event files or a recording, opened once; and hunts by revision.

Both answer under the clock and window of a rendered hunt, and say what they cannot tell.
"""

from __future__ import annotations

import subprocess
import tempfile
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from qakhunt.answers.table import ResultTable
from qakhunt.backends.base import Question
from qakhunt.backends.engine.session import EngineRefused, Session
from qakhunt.backends.recordings.store import Recording
from qakhunt.backends.replay import RecordedRows, window_of
from qakhunt.core.errors import EventsError, RecordingError, RejectedError, UsageError
from qakhunt.hunts.loading import load_hunt
from qakhunt.hunts.render import render
from qakhunt.kql.schema import SENTINEL, TIME_COLUMN
from qakhunt.kql.values import Instant, Timespan, Window
from qakhunt.kql.visitors import tables_of
from qakhunt.testing.compare import compare

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from qakhunt.answers.ledger import Target
    from qakhunt.answers.table import Row
    from qakhunt.hunts.catalog import Catalog
    from qakhunt.hunts.model import Hunt
    from qakhunt.hunts.render import RenderedQuery
    from qakhunt.testing.compare import Comparison

    Ask = Callable[[RenderedQuery, str], ResultTable]

ALL_TIME = Window(Instant(0), Instant.parse("9999-12-31T23:59:59.999999Z"))
_MICROSECOND = Timespan.parse("1micro")


def gaps(ask: Ask, rendered: RenderedQuery) -> list[str]:
    """Tables that a query reads and of which its window holds no record."""
    return [
        f"no record of {table} lies in {rendered.window}"
        for table in tables_of(rendered.text, rendered.product)
        if not any(row[0] for row in ask(rendered, f"{table} | count").rows)
    ]


class Records(ExitStack):
    """Loaded events of one product; queries over them share the load."""

    def __init__(self, inputs: Sequence[str], product: str, timeout: float | None = None) -> None:
        super().__init__()
        self.product = product
        self.session = self.enter_context(Session(inputs, product))
        self.timeout = timeout
        self._doubts: dict[str, None] = {}

    def ask(self, rendered: RenderedQuery, text: str) -> ResultTable:
        """Answer a text under a rendering's clock and window. Raises RejectedError."""
        try:
            answer = self.session.ask(
                text, now=rendered.now, window=rendered.window, timeout=self.timeout
            )
        except EngineRefused as problem:
            is_own = text == rendered.text and problem.line
            place = rendered.locate(problem.line, problem.column) if is_own else None
            raise RejectedError(problem.message, location=place, hint=problem.hint) from None
        if text == rendered.text:
            self._doubts.update(
                (f"{rendered.hunt.name}: {one}", None) for one in self.session.unknown
            )
        return answer

    def unknown(self, rendered: RenderedQuery) -> list[str]:
        """Why an answer to the query is no proof."""
        skipped = self.session.inputs.skipped
        found = gaps(self.ask, rendered)
        return [*([skipped] if skipped else []), *self._doubts, *found]

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


class RecordedSource(ExitStack):
    """The rows of every workspace of a recording, asked one by one, answered together.

    Raises RecordingError for a recording without source rows of the product; None
    takes the one that it has.
    """

    def __init__(self, folder: Path, product: str | None) -> None:
        super().__init__()
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
        self._rows = self.enter_context(closing(RecordedRows(recording, self.product, self.now)))
        self._ambiguities: dict[str, None] = {}

    @property
    def _origins(self) -> list[Target]:
        return list(dict.fromkeys(file.origin for file in self._files))

    def ask(self, rendered: RenderedQuery, text: str) -> ResultTable:
        """Answer a text over all workspaces. Raises RejectedError."""
        tables = tuple(tables_of(text, self.product))
        rows: list[Row] = []
        columns = None
        for origin in self._origins:
            question = Question(text, rendered.window, origin, tables)
            answer = self._rows.ask(question)
            is_own = text == rendered.text
            if answer.table is None:
                place = rendered.locate(*answer.place) if is_own and answer.place else None
                raise RejectedError(answer.detail, location=place, hint=answer.hint or None)
            if is_own and answer.detail:
                self._ambiguities[f"{rendered.hunt.name}: {answer.detail}"] = None
            columns = columns or answer.table.columns
            rows += answer.table.rows
        if columns is None:
            raise EventsError("the recording has no rows")
        return ResultTable(columns, rows)

    def unknown(self, rendered: RenderedQuery) -> list[str]:
        """Why what was asked so far is no proof: filters, columns and time ranges left out."""
        found = gaps(self.ask, rendered)
        return [*self._ambiguities, *found]

    def span(self, hunts: Sequence[Hunt]) -> tuple[Window, int]:
        """The recording's own window, and how many source rows it has."""
        del hunts
        return self._window, sum(file.rows for file in self._files)


@dataclass(frozen=True)
class Stage:
    """Opened records, and the clock and window under which hunts are rendered."""

    records: Records | RecordedSource
    rows: int
    now: Instant
    window: str | Window
    zone: dt.tzinfo | None

    def render(self, hunt: Hunt, values: Mapping[str, Any]) -> RenderedQuery:
        """The hunt under this clock and window."""
        return render(
            hunt, now=self.now, product=self.records.product, parameters=values,
            window=self.window, zone=self.zone,
        )  # fmt: skip

    def compare(self, old: RenderedQuery, new: RenderedQuery) -> Comparison:
        """The two queries on these records, and what the records cannot tell."""
        found = compare(old, new, self.records.ask)
        found.unknown += dict.fromkeys([*self.records.unknown(old), *self.records.unknown(new)])
        return found


@contextmanager
def open_stage(
    events: Sequence[str],
    hunts: Sequence[Hunt],
    *,
    recording: Path | None = None,
    product: str | None = None,
    window: str | None = None,
    now: Instant | None = None,
    zone: dt.tzinfo | None = None,
) -> Iterator[Stage]:
    """Load events once; without a window, all of them are looked at, as of their end.

    A ``recording`` takes the place of the events and brings its own clock and product.
    """
    opened: Records | RecordedSource
    if recording is not None:
        opened = RecordedSource(recording, product)
        now = opened.now
    else:
        opened = Records(events, product or SENTINEL.name)
    with opened as records:
        span, rows = records.span(hunts)
        yield Stage(records, rows, now or span.end, window or span, zone)


_GIT_SECONDS = 30


def find_hunt(text: str, catalog: Catalog) -> Hunt:
    """The one hunt that ``text`` names; ``REV:PATH`` takes the file as of a revision.

    Raises UsageError where it names none or several.
    """
    revision, colon, path = text.partition(":")
    is_revision = colon and len(revision) > 1 and not Path(text).exists()
    if is_revision and path:
        return _from_git(revision, path)
    found = catalog.find(text)
    if len(found) != 1:
        names = ", ".join(hunt.name for hunt in found)
        raise UsageError(f"{text!r} names {len(found)} hunts: {names}", hint="name one of them")
    return found[0]


def _from_git(revision: str, path: str) -> Hunt:
    label = f"{revision}:{path}"
    data = _show(label)
    with tempfile.TemporaryDirectory(prefix="qakhunt-") as folder:
        copy = Path(folder) / PurePosixPath(path).name
        copy.write_bytes(data)
        try:
            hunt = load_hunt(copy)
        except Exception as problem:
            location = getattr(problem, "location", None)
            if location is not None:
                problem.location = replace(location, path=label)  # type: ignore[attr-defined]
            raise
    return replace(hunt, path=label, place=replace(hunt.place, path=label), source="git")


def _show(label: str) -> bytes:
    command = ["git", "show", "--no-textconv", "--end-of-options", label]
    try:
        done = subprocess.run(  # noqa: S603 - a fixed program, no shell; the label is no option
            command, capture_output=True, check=False, timeout=_GIT_SECONDS
        )
    except FileNotFoundError:
        raise UsageError(f"{label}: git is not installed") from None
    except subprocess.TimeoutExpired:
        raise UsageError(f"{label}: git did not answer in {_GIT_SECONDS} s") from None
    if done.returncode:
        words = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise UsageError(f"{label}: {words[-1] if words else 'git failed'}")
    return done.stdout
