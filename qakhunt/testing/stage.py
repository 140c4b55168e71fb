"""What queries are compared on: records opened once, a clock and a window."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qakhunt.hunts.model import LOG_ANALYTICS
from qakhunt.hunts.render import render
from qakhunt.testing.compare import compare
from qakhunt.testing.records import RecordedSource, Records

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from qakhunt.hunts.model import Hunt
    from qakhunt.hunts.render import RenderedQuery
    from qakhunt.kql.values import Instant, Window
    from qakhunt.testing.compare import Comparison
    from qakhunt.testing.records import EventSource


@dataclass(frozen=True)
class Stage:
    """Opened records, and the clock and window under which hunts are rendered."""

    records: EventSource
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
    source: RecordedSource | Records
    if recording is not None:
        source = RecordedSource(recording, product)
        now = source.now
    else:
        source = Records(events, product or LOG_ANALYTICS)
    with source as records:
        span, rows = records.span(hunts)
        yield Stage(records, rows, now or span.end, window or span, zone)
