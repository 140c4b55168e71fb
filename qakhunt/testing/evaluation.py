"""What a hunt finds and how often it cries wolf, on labelled sets of events.

What it does on held-back sets stands apart from what it does on those it may be tuned
on, and so does each origin: modelled, reconstructed, captured. Each set's devices get
names of their own, so that one run of a hunt answers for many sets and for the copies
with events lost. Windows are as long as the hunt's lookback.
"""

from __future__ import annotations

import math
import random
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qakhunt.answers.cells import to_json_line
from qakhunt.answers.hits import hits_of
from qakhunt.answers.ledger import Target
from qakhunt.hunts.parameters import query_tokens
from qakhunt.hunts.render import render
from qakhunt.kql.schema import PRODUCTS, SENTINEL, TIME_COLUMN, columns
from qakhunt.kql.values import TICK, Instant, Timespan, Window
from qakhunt.testing.confusion import judge
from qakhunt.testing.labelled import (
    HELD_BACK,
    KIN,
    POSITIVE,
    SOUGHT,
    TABLE,
    TUNING,
    LabelledSet,
    device_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from qakhunt.answers.hits import Hit
    from qakhunt.backends.engine.session import Session
    from qakhunt.hunts.model import Hunt
    from qakhunt.hunts.render import RenderedQuery
    from qakhunt.testing.confusion import Judged
    from qakhunt.testing.labelled import Burst, Row

    Progress = Callable[[str], None]

LOSSES = (20, 40, 60)
"""Percent of events that are dropped."""

REPEATS = 20
"""Copies of each burst per share of loss."""

_LONGEST_PREFIX = 60
_MARGIN = Timespan.parse("1h")


_Z = 1.959963984540054  # 95 percent, both sides


@dataclass(frozen=True)
class Share:
    """``found`` of ``tried``, and Wilson's 95 percent interval of the true share."""

    found: int
    tried: int

    @property
    def value(self) -> float | None:
        """The share, or None of nothing."""
        return self.found / self.tried if self.tried else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Lower and upper bound, or None of nothing."""
        if not self.tried:
            return None
        n, p = self.tried, self.found / self.tried
        middle = p + _Z * _Z / (2 * n)
        spread = _Z * math.sqrt(p * (1 - p) / n + _Z * _Z / (4 * n * n))
        scale = 1 + _Z * _Z / n
        low, high = (middle - spread) / scale, (middle + spread) / scale
        return (0.0 if self.found == 0 else low, 1.0 if self.found == n else high)

    def __add__(self, other: Share) -> Share:
        return Share(self.found + other.found, self.tried + other.tried)


@dataclass
class SetOutcome:
    """What a hunt said about one set as it is: how many bursts it found, and its alerts."""

    source: LabelledSet
    found: int = 0
    alerts: list[Hit] = field(default_factory=list)

    @property
    def share(self) -> Share:
        """Bursts found, of those there are."""
        return Share(self.found, len(self.source.bursts))

    @property
    def false_alerts(self) -> list[Hit]:
        """Alerts that lie in no burst."""
        bursts = self.source.bursts
        return [hit for hit in self.alerts if not any(_lies_in(hit, one) for one in bursts)]


@dataclass(frozen=True)
class Raised:
    """Sets without bursts: how many there are, how many raised an alert, and the alerts."""

    sets: int = 0
    alerted: int = 0
    alerts: int = 0


@dataclass
class HuntEvidence:
    """All that was measured of one hunt.

    ``losses`` maps (rendering, origin, percent) to shares of copies with events lost;
    ``seconds`` maps (rendering, origin) to the times from a burst's first event to the
    first alert on it. Both are of the sets for tuning alone.
    """

    hunt: Hunt
    rendered: RenderedQuery
    sets: list[SetOutcome] = field(default_factory=list)
    judged: list[Judged] = field(default_factory=list)
    losses: dict[tuple[str, str, int], Share] = field(default_factory=dict)
    seconds: dict[tuple[str, str], list[float]] = field(default_factory=dict)

    def recall(self, split: str = TUNING) -> dict[tuple[str, str], Share]:
        """(rendering, origin) -> Qakbot's bursts found of those there are."""
        return self._found(
            (o.source.rendering, o.source.origin, o.share)
            for o in self.sets
            if o.source.label == POSITIVE and o.source.split == split
        )

    def kin(self, split: str = TUNING) -> dict[tuple[str, str], Share]:
        """(malware, origin) -> bursts of other malware found of those there are."""
        return self._found(
            (o.source.malware, o.source.origin, o.share)
            for o in self.sets
            if o.source.label == KIN and o.source.split == split
        )

    @staticmethod
    def _found(parts: Iterable[tuple[str, str, Share]]) -> dict[tuple[str, str], Share]:
        found: dict[tuple[str, str], Share] = {}
        for name, origin, share in parts:
            found[name, origin] = found.get((name, origin), Share(0, 0)) + share
        return found

    def raised(self) -> dict[tuple[str, str, str], Raised]:
        """(split, label, origin) -> what the sets without bursts raised."""
        raised: dict[tuple[str, str, str], Raised] = {}
        for one in self.sets:
            source = one.source
            if source.label in SOUGHT:
                continue
            key = (source.split, source.label, source.origin)
            known, alerts = raised.get(key, Raised()), len(one.false_alerts)
            raised[key] = Raised(
                known.sets + 1, known.alerted + (alerts > 0), known.alerts + alerts
            )
        return raised


def evaluate(
    hunts: Sequence[Hunt],
    sets: Sequence[LabelledSet],
    *,
    seed: int,
    repeats: int = REPEATS,
    losses: Sequence[int] = LOSSES,
    triage: bool = False,
    progress: Progress | None = None,
) -> list[HuntEvidence]:
    """Measure every hunt on every set, and on request what triage makes of its alerts."""
    evidence = [HuntEvidence(hunt, _rendered(hunt, _span(sets).end)) for hunt in hunts]
    jobs = list(_jobs(sets, seed, repeats, losses))
    named = _named_columns(hunts)
    by_lookback: dict[str, list[HuntEvidence]] = {}
    for one in evidence:
        by_lookback.setdefault(one.hunt.notes.lookback, []).append(one)
    for lookback, members in by_lookback.items():
        for window, chosen in _windows(jobs, Timespan.parse(lookback)):
            with _loaded(chosen, named) as session:
                for one in members:
                    if progress:
                        progress(f"{one.hunt.name}: {window.start.to_datetime():%Y-%m-%d}")
                    _measure(one, session, window, chosen)
    for one in evidence:
        _count_vanished(one, jobs)
        if triage:
            one.judged = [j for split in (TUNING, HELD_BACK) for j in judge(one.hunt, sets, split)]
        one.sets.sort(key=_order)
    return evidence


def _order(outcome: SetOutcome) -> tuple[Any, ...]:
    one = outcome.source
    return one.split != TUNING, one.label != POSITIVE, one.label, one.origin, one.name


@contextmanager
def _loaded(jobs: Sequence[_Job], named: frozenset[str]) -> Iterator[Session]:
    """The embedded engine with the jobs' rows in it, cut to the columns that are named."""
    from qakhunt.backends.engine.session import Session

    with tempfile.TemporaryDirectory(prefix="qakhunt-") as folder:
        path = Path(folder) / f"{TABLE}.ndjson"
        with path.open("w", encoding="utf-8", newline="\n") as out:
            for job in jobs:
                out.writelines(f"{to_json_line(row)}\n" for row in job.rows(named))
        with Session([str(path)], SENTINEL.name) as session:
            yield session


def _named_columns(hunts: Sequence[Hunt]) -> frozenset[str]:
    """The table's columns that any of the queries names, and its time."""
    words = {token.text for hunt in hunts for token in query_tokens(hunt)}
    known = {name for product in PRODUCTS for name in columns(product, TABLE)}
    return frozenset(words & known | set(TIME_COLUMN.values()))


def _rendered(hunt: Hunt, end: Instant) -> RenderedQuery:
    window = Window(end - Timespan.parse(hunt.notes.lookback), end)
    return render(hunt, now=end, window=window)


def _span(sets: Sequence[LabelledSet]) -> Window:
    times = [row["Timestamp"] for one in sets for row in one.rows]
    return Window(min(times), max(times) + TICK)


@dataclass(frozen=True)
class _Job:
    """Rows under device names of their own, and what an alert on them means."""

    key: str
    source: LabelledSet
    picked: Sequence[Row]
    burst: Burst | None = None
    loss: int | None = None
    at: float | None = None

    def rows(self, named: frozenset[str]) -> Iterator[Row]:
        for row in self.picked:
            kept = {name: cell for name, cell in row.items() if name in named}
            kept["DeviceName"] = f"{self.key}|{device_of(row)}"
            kept["DeviceId"] = f"{self.key}|{row.get('DeviceId', '')}"
            yield kept

    @property
    def span(self) -> tuple[Instant, Instant]:
        times = [row["Timestamp"] for row in self.picked]
        return min(times), max(times)


def _jobs(
    sets: Sequence[LabelledSet], seed: int, repeats: int, losses: Sequence[int]
) -> Iterator[_Job]:
    """Each set as it is, each burst with events lost, each burst cut after each event.

    Losses and time are measured on Qakbot's bursts for tuning.
    """
    for number, one in enumerate(sets):
        yield _Job(f"{number}", one, one.rows)
        if one.label != POSITIVE or one.split != TUNING:
            continue
        by_device: dict[str, list[Row]] = {}
        for row in one.rows:
            by_device.setdefault(device_of(row), []).append(row)
        for which, burst in enumerate(one.bursts):
            rows = [
                r for r in by_device[burst.device] if burst.start <= r["Timestamp"] <= burst.end
            ]
            key = f"{number}.{which}"
            yield from _with_losses(key, one, burst, rows, seed, repeats, losses)
            yield from _prefixes(key, one, burst, rows)


def _with_losses(
    key: str,
    one: LabelledSet,
    burst: Burst,
    rows: list[Row],
    seed: int,
    repeats: int,
    losses: Sequence[int],
) -> Iterator[_Job]:
    for loss in losses:
        for repeat in range(repeats):
            # Not for secrecy: the same events are lost on every run.
            chance = random.Random(f"{seed}/{one.name}/{key}/{loss}/{repeat}")  # noqa: S311
            kept = [row for row in rows if chance.random() * 100 >= loss]
            yield _Job(f"{key}.l{loss}.{repeat}", one, kept, burst, loss=loss)


def _prefixes(key: str, one: LabelledSet, burst: Burst, rows: list[Row]) -> Iterator[_Job]:
    """The burst cut after each of its events; a long one after some of them."""
    step = max(1, -(-len(rows) // _LONGEST_PREFIX))
    for count in range(1, len(rows) + 1, step):
        at = rows[count - 1]["Timestamp"].since(rows[0]["Timestamp"]).seconds
        yield _Job(f"{key}.p{count}", one, rows[:count], burst, at=at)


def _windows(jobs: Iterable[_Job], length: Timespan) -> Iterator[tuple[Window, list[_Job]]]:
    """Jobs that fit into one window together; a longer one gets several windows."""
    waiting = sorted((job for job in jobs if job.picked), key=lambda job: job.span[0])
    while waiting:
        start = waiting[0].span[0] - _MARGIN
        end = start + length
        inside = [job for job in waiting if job.span[1] < end]
        if inside:
            yield Window(start, end), inside
        chosen = {id(job) for job in inside}
        waiting = [job for job in waiting if id(job) not in chosen]
        if not inside:
            yield from _long(waiting.pop(0), length)


def _long(job: _Job, length: Timespan) -> Iterator[tuple[Window, list[_Job]]]:
    start, last = job.span
    while start <= last:
        yield Window(start, start + length), [job]
        start = start + length


def _measure(one: HuntEvidence, session: Session, window: Window, jobs: Sequence[_Job]) -> None:
    # A hunt that says ago(30d) is asked at the window's end.
    rendered = render(one.hunt, now=window.end, window=window)
    table = session.ask(rendered.text, now=window.end, window=window)
    by_job: dict[str, list[Hit]] = {}
    for hit in hits_of(one.hunt, Target("evaluation"), table):
        job_key, _, device = (hit.device or "").partition("|")
        by_job.setdefault(job_key, []).append(replace(hit, device=device))
    firsts: dict[tuple[str, str, str], float] = {}
    for job in jobs:
        source = job.source
        if not _concerns(one.hunt, source):
            continue
        hits = by_job.get(job.key, [])
        if job.loss is not None:
            key = (source.rendering, source.origin, job.loss)
            share = Share(int(_finds(hits, job.burst)), 1)
            one.losses[key] = one.losses.get(key, Share(0, 0)) + share
        elif job.at is not None:
            if _finds(hits, job.burst):
                burst = (source.rendering, source.origin, job.key.rpartition(".")[0])
                firsts[burst] = min(job.at, firsts.get(burst, job.at))
        else:
            _add_set(one, source, hits)
    for (rendering, origin, _), seconds in firsts.items():
        one.seconds.setdefault((rendering, origin), []).append(seconds)


def _count_vanished(one: HuntEvidence, jobs: Iterable[_Job]) -> None:
    """A burst that lost every one of its events was not found."""
    for job in jobs:
        if not job.picked and job.loss is not None and _concerns(one.hunt, job.source):
            key = (job.source.rendering, job.source.origin, job.loss)
            one.losses[key] = one.losses.get(key, Share(0, 0)) + Share(0, 1)


def _concerns(hunt: Hunt, source: LabelledSet) -> bool:
    """Whether an alert of the hunt on the set is right or wrong, and not another's business."""
    return source.label not in SOUGHT or source.behaviour == hunt.notes.behaviour


def _finds(hits: Iterable[Hit], burst: Burst | None) -> bool:
    return burst is not None and any(_lies_in(hit, burst) for hit in hits)


def _lies_in(hit: Hit, burst: Burst) -> bool:
    """Whether a hit is of the burst's device and overlaps its time."""
    if (hit.device or "").lower() != burst.device.lower():
        return False
    first, last = hit.first_seen, hit.last_seen or hit.first_seen
    if first is None or last is None:
        return True
    return first <= burst.end + TICK and last >= burst.start.floor_microsecond()


def _add_set(one: HuntEvidence, source: LabelledSet, hits: Sequence[Hit]) -> None:
    """A set, or another window of one that takes several."""
    outcome = next((outcome for outcome in one.sets if outcome.source is source), None)
    if outcome is None:
        outcome = SetOutcome(source)
        one.sets.append(outcome)
    outcome.found = max(outcome.found, sum(_finds(hits, burst) for burst in source.bursts))
    outcome.alerts += hits
