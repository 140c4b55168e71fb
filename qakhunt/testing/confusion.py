"""What triage makes of a hunt's alerts on labelled sets: label by assessment.

At its published thresholds a hunt alerts on hardly any administration, so that triage has
little to tell apart; with them lowered it alerts on much of it. All devices of a part are
in one table, as a company's are, so that prevalence counts over all of them.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from qakhunt.answers.cells import to_json_line
from qakhunt.answers.ledger import Target
from qakhunt.backends.local import LocalBackend
from qakhunt.core.errors import EngineError
from qakhunt.hunts.parameters import parameters_of
from qakhunt.hunts.render import render
from qakhunt.kql.schema import SENTINEL
from qakhunt.kql.values import TICK, Timespan, Window
from qakhunt.run.collector import collect
from qakhunt.run.execution import execute
from qakhunt.run.plan import PlanLine
from qakhunt.testing.labelled import TABLE, device_of
from qakhunt.triage.hit_report import hit_reports

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qakhunt.hunts.model import Hunt
    from qakhunt.hunts.render import RenderedQuery
    from qakhunt.testing.labelled import LabelledSet

    _Key = tuple[str, str, bool, bool]

LOWERED = {"MinimumFamilies": 3, "MinimumAnchors": 0, "MinimumRemote": 0}
"""Thresholds at which administration raises alerts, too."""
MOST_DEVICES = 20
"""Of a set with more devices, every n-th is looked at."""
_AROUND = Timespan.parse("10m")


@dataclass(frozen=True)
class Judged:
    """Alerts on sets of one label, by assessment.

    ``context`` says whether triage saw what surrounded them.
    """

    split: str
    label: str
    origin: str
    lowered: bool
    context: bool
    kinds: Mapping[str, int]

    @property
    def alerts(self) -> int:
        """How many there are."""
        return sum(self.kinds.values())


def judge(hunt: Hunt, sets: Sequence[LabelledSet], split: str) -> list[Judged]:
    """The tables of a hunt of discovery with thresholds to lower; none of another hunt."""
    lower = {name: LOWERED[name] for name in parameters_of(hunt) if name in LOWERED}
    part = [s for s in sets if s.split == split and s.behaviour == hunt.notes.behaviour]
    if not lower or not part or hunt.notes.behaviour != "discovery":
        return []
    found: dict[_Key, Counter[str]] = {}
    with tempfile.TemporaryDirectory(prefix="qakhunt-") as folder:
        path, span = _written(Path(folder), part)
        backend = LocalBackend([str(path)], now=span.end, product=SENTINEL.name)
        try:
            for lowered in (False, True):
                rendered = render(
                    hunt, now=span.end, window=span, parameters=lower if lowered else {}
                )
                _count(rendered, backend, part, lowered, found)
        finally:
            backend.close()
    return [
        Judged(split, label, origin, lowered, context, kinds)
        for (label, origin, lowered, context), kinds in sorted(found.items())
    ]


def _written(folder: Path, part: Sequence[LabelledSet]) -> tuple[Path, Window]:
    """Rows of the sets' devices under names that begin with the set's number."""
    path = folder / f"{TABLE}.ndjson"
    times = []
    with path.open("w", encoding="utf-8", newline="\n") as out:
        for number, one in enumerate(part):
            devices = sorted({device_of(row) for row in one.rows})
            chosen = set(devices[:: -(-len(devices) // MOST_DEVICES)])
            for row in one.rows:
                if device_of(row) not in chosen:
                    continue
                name, id_ = f"{number}|{device_of(row)}", f"{number}|{row.get('DeviceId', '')}"
                named = {**row, "DeviceName": name, "DeviceId": id_}
                times.append(named.pop("Timestamp"))
                out.write(f"{to_json_line({'TimeGenerated': times[-1], **named})}\n")
    return path, Window(min(times), max(times) + TICK)


def _count(
    rendered: RenderedQuery,
    backend: LocalBackend,
    part: Sequence[LabelledSet],
    lowered: bool,
    found: dict[_Key, Counter[str]],
) -> None:
    plan = [PlanLine(rendered, backend, Target("evaluation"))]
    result = execute(plan)
    faults = [line.detail for line in result.ledger.lines if line.detail]
    if faults:
        raise EngineError(f"{rendered.hunt.name}: {faults[0]}")
    collect(result, plan, around=_AROUND, limit=len(result.hits))
    for context in (True, False):
        if not context:
            result.context = None
        for report in hit_reports(result):
            source = part[int((report.hit.device or "").partition("|")[0])]
            kind = report.assessment.kind.value
            key = (source.label, source.origin, lowered, context)
            found.setdefault(key, Counter())[kind] += 1
