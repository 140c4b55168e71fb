"""What every backend takes and gives.

A backend answers one rendered query for one target over one time range and
accounts for how completely it did; it never raises for a failure of the service.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from qakhunt.answers.ledger import Status
from qakhunt.kql.values import TICKS_PER_DAY, Timespan

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from qakhunt.answers.ledger import Target
    from qakhunt.answers.table import ResultTable
    from qakhunt.backends.engine.session import EngineRefused
    from qakhunt.kql.values import Instant, Window


LONGEST_GAP = Timespan(3 * TICKS_PER_DAY)
"""A longer time range without records is a gap; a small customer's weekend is none."""
OUT_OF_TIME = "the run's time was up"
LONGER = "a longer --deadline, or fewer tenants at once"


@dataclass(frozen=True)
class Question:
    """One query text to one target; ``tables`` are the tables that it names.

    ``window`` is the whole window of the run; the backend shows no record outside it.
    """

    text: str
    window: Window
    target: Target
    tables: tuple[str, ...] = ()

    @property
    def timespan(self) -> str:
        """The window as the services take it: ISO 8601, seven digits, both ends included.

        The end is the last tick inside, so that a service that includes its end shows no
        record of the next window.
        """
        return f"{self.window.start.isoformat()}/{self.window.last_tick.isoformat()}"


@dataclass(frozen=True)
class Answer:
    """A result and the account of it.

    ``table`` is None where nothing usable came. ``place`` is the line and column
    in the question's text, from 1, that a rejection names. ``divisible`` says that a
    limit of size or time was hit, so that the same question about a shorter time range
    may be answered whole. ``bytes`` counts the body as received; ``waits`` and
    ``elapsed`` are seconds. ``gaps`` are time ranges of the window of which the service
    has nothing.
    """

    status: Status
    table: ResultTable | None = None
    detail: str = ""
    hint: str = ""
    rejected: bool = False
    divisible: bool = False
    place: tuple[int, int] | None = None
    bytes: int = 0
    attempts: int = 1
    waits: tuple[float, ...] = ()
    request_ids: tuple[str, ...] = field(default=())
    elapsed: float = 0.0
    gaps: tuple[Window, ...] = ()


@dataclass(frozen=True)
class RunLimits:
    """What a run says to a backend: its ``now`` and the seconds a query may run there.

    ``retention`` is how long the profile's records are kept, where it says so, and
    ``longest_gap`` the longest silence of a source table that is normal.
    """

    now: Instant
    server_wait: int
    retention: Timespan | None
    longest_gap: Timespan


def refused(problem: EngineRefused, **rest: Any) -> Answer:
    """The answer for a query that the engine refuses."""
    place = (problem.line, problem.column) if problem.line else None
    return Answer(
        Status.FAILED, detail=problem.message, hint=problem.hint or "", rejected=True, place=place,
        **rest,
    )  # fmt: skip


class Backend(Protocol):
    """A backend: its name, the product whose columns it speaks, and ``ask``.

    ``warnings`` belong into every result;
    ``missing`` says why there is nothing to query; ``oldest`` is how far back its records
    reach, where it is known; ``longest_gap`` the longest silence of a source that is normal,
    None where any is.
    """

    name: str
    product: str
    concurrency: int
    warnings: Sequence[str] = ()
    missing: str = ""
    oldest: Instant | None = None
    longest_gap: Timespan | None = LONGEST_GAP

    @property
    def clock_skew(self) -> float | None:
        """Seconds that the service's clock is ahead of ours, once it answered."""
        return None

    def is_billed(self, tables: Collection[str]) -> bool:
        """Whether a query that names ``tables`` costs money by the gigabyte."""
        return False

    def ask(self, question: Question) -> Answer:
        """Answer one question. Safe to call from ``concurrency`` threads at once."""

    def close(self) -> None:
        """Give back files, connections and temporary folders."""
        return


class MissingTenant(Backend):
    """Answers nothing; ``missing`` says why."""

    name = "none"
    concurrency = 1

    def __init__(self, product: str, missing: str, hint: str = "") -> None:
        self.product, self.missing, self._hint = product, missing, hint

    def ask(self, question: Question) -> Answer:
        """The same account for every question."""
        return Answer(Status.NOT_RUN, detail=self.missing, hint=self._hint, attempts=0)
