"""Options that ``diff`` and ``sweep`` share, and the records they look at."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from qakhunt.cli.request import read_now, read_product, read_zone
from qakhunt.core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from qakhunt.hunts.model import Hunt
    from qakhunt.hunts.render import RenderedQuery
    from qakhunt.kql.values import Instant, Window
    from qakhunt.testing.records import EventSource

Events = Annotated[
    Optional[list[str]],  # noqa: UP045 - typer reads it at run time on 3.10
    typer.Option(
        "--events", metavar="[TABLE=]PATH",
        help="Recorded events: a file, a folder or a glob. None: the bundled sample.",
    ),
]  # fmt: skip
RecordingPath = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--recording", metavar="DIR", help="The source rows of a recording instead."),
]
WindowText = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--window",
        metavar="WINDOW",
        help="published, previous-month, 30d or START/END; none: all of the events.",
    ),
]


@dataclass(frozen=True)
class Stage:
    """Opened records, and the clock and window under which hunts are rendered."""

    records: EventSource
    rows: int
    now: Instant
    window: str | Window
    zone: Any

    def render(self, hunt: Hunt, values: Mapping[str, Any]) -> RenderedQuery:
        """The hunt under this clock and window."""
        from qakhunt.hunts.render import render

        return render(
            hunt, now=self.now, product=self.records.product, parameters=values,
            window=self.window, zone=self.zone,
        )  # fmt: skip


@contextmanager
def open_stage(
    events: Sequence[str],
    recording: Path | None,
    hunts: Sequence[Hunt],
    *,
    window: str | None,
    now: str | None,
    dialect: str | None,
    zone: str | None,
    quiet: bool,
) -> Iterator[Stage]:
    """Load events once; without a window, all of them are looked at, as of their end.

    A recording brings its own clock and window.
    """
    from qakhunt.cli.progress import working

    if recording is not None and (events or now):
        other = "--events" if events else "--now"
        raise UsageError(f"--recording and {other} exclude each other")
    zone_of_days = read_zone(zone)
    with ExitStack() as stack:
        with working("loading events", quiet=quiet):
            records, own_now = _opened(stack, events, recording, dialect)
        span, rows = records.span(hunts)
        moment = own_now or (read_now(now) if now else span.end)
        yield Stage(records, rows, moment, window or span, zone_of_days)


def _opened(
    stack: ExitStack, events: Sequence[str], recording: Path | None, dialect: str | None
) -> tuple[EventSource, Instant | None]:
    """The records, closed with the stack, and the clock that a recording brings."""
    if recording is not None:
        from qakhunt.testing.records import RecordedSource

        product = read_product(dialect) if dialect else None
        source = stack.enter_context(RecordedSource(recording, product))
        return source, source.now
    from qakhunt.run.sample import sample_events
    from qakhunt.testing.records import Records

    inputs = list(events) or sample_events()
    return stack.enter_context(Records(inputs, read_product(dialect))), None


def read_values(settings: Sequence[str]) -> dict[str, str]:
    """``NAME=VALUE`` options as a mapping."""
    values = {}
    for text in settings:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--set {text!r}: expected NAME=VALUE")
        values[name] = value
    return values
