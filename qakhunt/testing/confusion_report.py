"""What triage makes of alerts, in lines and as a table, from the document of an evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qakhunt.testing.labelled import LABELS, PARTS, SOUGHT
from qakhunt.triage.assessment import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    Document = dict[str, Any]
    _ByContext = dict[bool, Document]


def judged_of(hunt: Document, split: str) -> dict[tuple[str, str, str], _ByContext]:
    """(label, thresholds, origin) -> with context or without -> alerts by assessment.

    Of administration also at lowered thresholds; at its own a hunt alerts on little of it.
    """
    found: dict[tuple[str, str, str], _ByContext] = {}
    for entry in hunt["triage"]:
        wanted = entry["thresholds"] == "published" or entry["label"] not in SOUGHT
        if entry["split"] == split and wanted:
            key = (entry["label"], entry["thresholds"], entry["origin"])
            found.setdefault(key, {})[entry["context"]] = entry
    return found


def taken_for_malware(hunt: Document, split: str) -> Iterator[str]:
    """One line for each label: how many of its alerts triage takes for malware."""
    for (label, thresholds, origin), by_context in judged_of(hunt, split).items():
        shares = [
            f"{sum(entry['kinds'].get(kind.value, 0) for kind in Kind if kind.malware)} of "
            f"{entry['alerts']} {'with' if context else 'without'} context"
            for context, entry in sorted(by_context.items(), reverse=True)
        ]
        lowered = ", thresholds lowered" if thresholds == "lowered" else ""
        on = f"{LABELS[label]} ({origin}{lowered})"
        yield f"triage takes for malware, of alerts on {on}: {', '.join(shares)}"


def confusion_table(hunts: Sequence[Document]) -> list[str]:
    """Labels by assessments in Markdown, each cell without and with context."""
    kinds = list(Kind)
    head = ["Hunt", "part", "data", "alerts on", "thresholds"]
    head += [kind.value.replace("_", " ") for kind in kinds]
    rows = [
        [
            f"`{hunt['name']}`", part, origin, LABELS[label], thresholds,
            *(_pair(by_context, kind) for kind in kinds),
        ]
        for hunt in hunts
        for split, part in PARTS.items()
        for (label, thresholds, origin), by_context in judged_of(hunt, split).items()
    ]  # fmt: skip
    if not rows:
        return []
    return [
        "What triage makes of the alerts, without and with context (`96 / 99`). To show what it "
        "makes of administration, the hunt's thresholds are lowered to three families without "
        "conditions (`lowered`); of a set with more than 20 devices 20 are looked at.",
        "",
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


def _pair(by_context: Mapping[bool, Document], kind: Kind) -> str:
    numbers = [by_context.get(way, {}).get("kinds", {}).get(kind.value, 0) for way in (False, True)]
    return f"{numbers[0]} / {numbers[1]}" if any(numbers) else "-"
