"""How far back a run looks: the hunt's lookback and each product's late data.

Log Analytics stamps a record that arrives more than 48 hours late with its arrival,
so a record can appear up to 48 hours behind the present. Defender keeps the old
time of a device that was offline, so all it holds is looked at again each day.
"""

from __future__ import annotations

from dataclasses import dataclass

from qakhunt.errors import HuntError, SourceLocation
from qakhunt.hunts.model import DEFENDER, LOG_ANALYTICS, Hunt
from qakhunt.hunts.parameters import query_tokens
from qakhunt.hunts.time_filters import has_time_filter
from qakhunt.kql.values import Timespan


@dataclass(frozen=True)
class LateData:
    """A product's rules.

    ``late``: how far behind the present a record may still appear. ``reread``: the
    stretch to look at again whenever the last time is ``every`` ago. ``retention``:
    how far back records are kept.
    """

    late: Timespan
    retention: Timespan
    reread: Timespan | None = None
    every: Timespan | None = None


LATE_DATA = {
    # 90 days is what a workspace with Sentinel keeps at no cost.
    LOG_ANALYTICS: LateData(late=Timespan.parse("48h"), retention=Timespan.parse("90d")),
    # A daily job does not start on the same second each day, hence 20 hours.
    DEFENDER: LateData(
        late=Timespan.parse("2h"), retention=Timespan.parse("30d"),
        reread=Timespan.parse("30d"), every=Timespan.parse("20h"),
    ),
}  # fmt: skip


def lookback_of(hunt: Hunt) -> Timespan:
    """The stretch that a run of this hunt queries at least.

    Raises HuntError for a hunt that itself says when it looks, since the state would
    hold for looked at what its filters left out, and for a lookback that is no length.
    """
    if hunt.notes.window is None and has_time_filter(query_tokens(hunt)):
        raise HuntError(
            f"{hunt.name} filters on time and has no window of its own, so a schedule cannot "
            "say where it looks",
            location=SourceLocation(hunt.path),
            hint="name the bounds of its filter on time under 'qakhunt: window:'",
        )
    try:
        span = Timespan.parse(hunt.notes.lookback)
    except ValueError:
        span = Timespan(0)
    if span.ticks <= 0:
        raise HuntError(
            f"qakhunt.lookback: {hunt.notes.lookback!r} is not a length of time",
            location=SourceLocation(hunt.path), hint="write one such as 30d or 12h",
        )  # fmt: skip
    return span
