"""What a run is to query: one line per rendered hunt and target, and what that costs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qakhunt.backends.services import MODULES, service_named
from qakhunt.kql.visitors import read_by
from qakhunt.run.slicing.strategies import WHOLE, Sliceability, sliceability

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qakhunt.answers.ledger import Target
    from qakhunt.backends.base import Backend
    from qakhunt.hunts.render import RenderedQuery
    from qakhunt.kql.values import Timespan
    from qakhunt.run.slicing.strategies import SliceRequest, SliceStrategy

SCHEMA = "qakhunt.plan/1"


@dataclass(frozen=True)
class PlanLine:
    """A rendered hunt for one target, on one backend.

    ``slices`` asks for it in slices, where that gives exactly the same result.
    Without ``gaps_count`` only an empty answer is checked for records to look at.
    With a ``strategy`` of its own the line is fetched that way; what comes is the
    strategy's alone, and neither coverage nor columns are checked.
    """

    rendered: RenderedQuery
    backend: Backend
    target: Target
    slices: SliceRequest | None = None
    gaps_count: bool = True
    strategy: SliceStrategy | None = None

    @property
    def longest_gap(self) -> Timespan | None:
        """The longest time without source records that is no gap; None where none is."""
        return self.backend.longest_gap if self.gaps_count else None


@dataclass(frozen=True)
class LineForecast:
    """One line of the plan: its slices, and ``probes`` more calls to check its coverage.

    ``note`` is why it is not sliced as asked; ``billed`` that its search costs money, over
    ``tables``;
    ``missing`` why nothing is queried, in which case there are no slices.
    """

    line: PlanLine
    slices: tuple[str, ...]
    probes: int
    note: str = ""
    billed: bool = False
    missing: str = ""
    tables: tuple[str, ...] = ()


@dataclass(frozen=True)
class Quota:
    """Calls that count against one limit, and the limit in words."""

    whose: str
    calls: int
    limit: str


@dataclass(frozen=True)
class Forecast:
    """The whole plan: its lines, what they use, and how each hunt can be sliced."""

    lines: tuple[LineForecast, ...]
    quotas: tuple[Quota, ...]
    slicing: dict[str, Sliceability]

    @property
    def explanation(self) -> dict[str, list[str]]:
        """Hunt and product -> which slice strategies are exact, and why others are not."""
        return {name: one.describe() for name, one in self.slicing.items()}


def forecast(plan: Sequence[PlanLine]) -> Forecast:
    """Look at a plan without asking anything of anyone."""
    slicing: dict[str, Sliceability] = {}
    lines = []
    for line in plan:
        rendered = line.rendered
        if line.backend.missing:
            lines.append(LineForecast(line, (), 0, missing=line.backend.missing))
            continue
        name = f"{rendered.hunt.name} for {rendered.product}"
        if name not in slicing:
            slicing[name] = sliceability(rendered)
        strategy, note = slicing[name].strategy(rendered, line.slices)
        labels = tuple(one.label for one in strategy.slices())
        strategy.close()
        billed = line.backend.is_billed(rendered.tables)
        read = read_by(rendered.text, rendered.product).tables
        lines.append(LineForecast(line, labels or (WHOLE,), len(read), note, billed, tables=read))
    return Forecast(tuple(lines), tuple(_quotas(lines)), slicing)


def _quotas(lines: Sequence[LineForecast]) -> list[Quota]:
    calls: Counter[tuple[str, str]] = Counter()
    for entry in lines:
        name, target = entry.line.backend.name, entry.line.target
        if name in MODULES:
            shared = not service_named(name).rate.per_tenant
            whose = "one identity" if shared else target.tenant or target.profile
            calls[name, whose] += len(entry.slices) + entry.probes
    return [
        Quota(f"{name}, {whose}", number, str(service_named(name).rate))
        for (name, whose), number in calls.items()
    ]


def plan_document(found: Forecast) -> dict[str, Any]:
    """The forecast as plain JSON values."""
    return {
        "schema": SCHEMA,
        "lines": [
            {
                "hunt": entry.line.rendered.hunt.name,
                "profile": entry.line.target.profile,
                "tenant": entry.line.target.tenant,
                "workspace": entry.line.target.workspace,
                "backend": entry.line.backend.name,
                "slices": list(entry.slices),
                "calls": len(entry.slices),
                "calls_if_empty": entry.probes,
                "billed": entry.billed,
                "tables": list(entry.tables),
                "window": {
                    "start": str(entry.line.rendered.window.start),
                    "end": str(entry.line.rendered.window.end),
                },
                "note": entry.note or entry.missing,
            }
            for entry in found.lines
        ],
        "quotas": [
            {"whose": quota.whose, "calls": quota.calls, "limit": quota.limit}
            for quota in found.quotas
        ],
        "slicing": found.explanation,
    }
