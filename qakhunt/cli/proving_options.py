"""Options that ``diff`` and ``sweep`` share, and the records they look at."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from qakhunt.cli.request import read_now, read_product, read_zone
from qakhunt.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from qakhunt.hunts.model import Hunt
    from qakhunt.hunts.render import RenderedQuery
    from qakhunt.kql.values import Instant, Window
    from qakhunt.proving.records import Records

Events = Annotated[
    Optional[list[str]],  # noqa: UP045 - typer reads it at run time on 3.10
    typer.Option(
        "--events", metavar="[TABLE=]PATH",
        help="Recorded events: a file, a folder or a glob. None: the bundled sample.",
    ),
]  # fmt: skip
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

    records: Records
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
    hunts: Sequence[Hunt],
    *,
    window: str | None,
    now: str | None,
    dialect: str | None,
    zone: str | None,
    quiet: bool,
) -> Iterator[Stage]:
    """Load events once; without a window, all of them are looked at, as of their end."""
    from qakhunt.cli.progress import working
    from qakhunt.proving.records import Records
    from qakhunt.sample import sample_events

    product, time_zone = read_product(dialect), read_zone(zone)
    with working("loading events", quiet=quiet):
        records = Records(list(events) or sample_events(), product)
    with records:
        span, rows = records.span(hunts)
        moment = read_now(now) if now else span.end
        yield Stage(records, rows, moment, window or span, time_zone)


def read_values(settings: Sequence[str]) -> dict[str, str]:
    """``NAME=VALUE`` options as a mapping."""
    values = {}
    for text in settings:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--set {text!r}: expected NAME=VALUE")
        values[name] = value
    return values
