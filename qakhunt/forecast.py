"""What a plan is about to ask, told before anything is asked."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qakhunt.hunts.source_rows import tables_named
from qakhunt.hunts.sources import sources_of
from qakhunt.slicing.pieces import WHOLE
from qakhunt.slicing.ways import Ways, describe, ways_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qakhunt.plan import PlanLine

SCHEMA = "qakhunt.plan/1"


@dataclass(frozen=True)
class LineForecast:
    """One line of the plan: its slices, and ``probes`` more calls to check its coverage.

    ``note`` is why it is not sliced as asked; ``billed`` that its search costs money;
    ``absent`` why nobody is asked, in which case there are no slices.
    """

    line: PlanLine
    slices: tuple[str, ...]
    probes: int
    note: str = ""
    billed: bool = False
    absent: str = ""


@dataclass(frozen=True)
class Quota:
    """Calls that count against one limit, and the limit in words."""

    whose: str
    calls: int
    limit: str


@dataclass(frozen=True)
class Forecast:
    """The whole plan: its lines, what they use, and each hunt's ways of slicing."""

    lines: tuple[LineForecast, ...]
    quotas: tuple[Quota, ...]
    ways: dict[str, Ways]

    @property
    def explanation(self) -> dict[str, list[str]]:
        """Hunt and product -> which ways of slicing are exact, and why others are not."""
        return {name: describe(ways) for name, ways in self.ways.items()}


def forecast(plan: Sequence[PlanLine]) -> Forecast:
    """Look at a plan without asking anything of anyone."""
    ways: dict[str, Ways] = {}
    lines = []
    for line in plan:
        rendered = line.rendered
        absent = getattr(line.backend, "absent", "")
        if absent:
            lines.append(LineForecast(line, (), 0, absent=absent))
            continue
        name = f"{rendered.hunt.name} for {rendered.product}"
        if name not in ways:
            ways[name] = ways_of(rendered)
        cut, note = ways[name].cut(rendered, line.slices)
        labels = tuple(piece.label for piece in cut.pieces())
        cut.close()
        tables = tables_named(rendered)
        is_billed = getattr(line.backend, "is_billed", None)
        billed = bool(is_billed and is_billed(tables))
        probes = len(sources_of(rendered.text, rendered.product).tables)
        lines.append(LineForecast(line, labels or (WHOLE,), probes, note, billed))
    return Forecast(tuple(lines), tuple(_quotas(lines)), ways)


def _quotas(lines: Sequence[LineForecast]) -> list[Quota]:
    calls: Counter[tuple[str, str]] = Counter()
    for entry in lines:
        backend, target = entry.line.backend, entry.line.target
        whose = target.tenant or target.profile if backend.name == "defender" else "one identity"
        calls[backend.name, whose] += len(entry.slices) + entry.probes
    found = []
    for (name, whose), number in calls.items():
        limit = _limit(name)
        if limit:
            found.append(Quota(f"{name}, {whose}", number, limit))
    return found


def _limit(backend: str) -> str:
    """The documented limit of a service in words; empty for what has none."""
    if backend == "log-analytics":
        from qakhunt.backends import log_analytics as service
    elif backend == "defender":
        from qakhunt.backends import defender as service  # type: ignore[no-redef]
    else:
        return ""
    return f"{service.CALLS} calls in {service.PER_SECONDS:g} s, {service.CONCURRENCY} at once"


def plan_document(told: Forecast) -> dict[str, Any]:
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
                "note": entry.note or entry.absent,
            }
            for entry in told.lines
        ],
        "quotas": [
            {"whose": quota.whose, "calls": quota.calls, "limit": quota.limit}
            for quota in told.quotas
        ],
        "slicing": told.explanation,
    }
