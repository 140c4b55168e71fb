"""Evidence as a document, as Markdown, and beside the hunts it is about.

Numbers are only ever written by this module, from a measurement, with its date and
its data named. Each tells the part it was measured on (tuning or held back) and the
origin of the data. Only captured bursts get an interval: modelled and reconstructed
ones, and copies of any, say nothing of bursts that nobody has seen. Of held-back sets
the evidence gives counts, not what they hold: nobody shall tune on what an alert said.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from qakhunt.core.errors import HuntError
from qakhunt.testing.evaluation import Share
from qakhunt.testing.labelled import (
    HELD_BACK,
    KIN,
    LABELS,
    PARTS,
    POSITIVE,
    SOUGHT,
    TUNING,
    device_of,
)
from qakhunt.triage.assessment import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from qakhunt.hunts.model import Hunt
    from qakhunt.kql.values import Instant
    from qakhunt.testing.evaluation import HuntEvidence, SetOutcome
    from qakhunt.testing.labelled import LabelledSet

SCHEMA = "qakhunt.evaluate/3"
FOLDER = "evidence"

Document = dict[str, Any]


def document(
    evidence: Sequence[HuntEvidence],
    sets: Sequence[LabelledSet],
    *,
    now: Instant,
    seed: int,
    repeats: int,
) -> Document:
    """Everything that was measured, on what and when."""
    return {
        "schema": SCHEMA,
        "date": now.short()[:10],
        "seed": seed,
        "repeats": repeats,
        "data": [_set_entry(one) for one in sets],
        "hunts": [_hunt_entry(one) for one in evidence],
    }


def _set_entry(one: LabelledSet) -> Document:
    hidden = one.split == HELD_BACK
    return {
        "name": one.name,
        "split": one.split,
        "label": one.label,
        "origin": one.origin,
        "rendering": one.rendering,
        "malware": one.malware,
        "behaviour": one.behaviour if one.label in (POSITIVE, KIN) else "",
        "events": len(one.rows),
        "bursts": len(one.bursts),
        "about": "" if hidden else one.about,
        "source": "" if hidden else one.source,
        "files": one.files,
    }


def _hunt_entry(one: HuntEvidence) -> Document:
    return {
        "name": one.hunt.name,
        "version": one.hunt.version,
        "hunt_hash": one.rendered.hunt_hash,
        "behaviour": one.hunt.notes.behaviour,
        "recall": [
            {"split": split, "rendering": name, "origin": origin, **_share(share, origin)}
            for split in (TUNING, HELD_BACK)
            for (name, origin), share in sorted(one.recall(split).items())
        ],
        "kin": [
            {"split": split, "malware": name, "origin": origin, **_share(share, origin)}
            for split in (TUNING, HELD_BACK)
            for (name, origin), share in sorted(one.kin(split).items())
        ],
        "raised": [
            {
                "split": split, "label": label, "origin": origin,
                "sets": raised.sets, "alerted": raised.alerted, "alerts": raised.alerts,
            }
            for (split, label, origin), raised in sorted(one.raised().items())
        ],
        "loss": [
            {"rendering": rendering, "origin": origin, "percent": percent, **_share(share)}
            for (rendering, origin, percent), share in sorted(one.losses.items())
        ],
        "seconds_to_detection": [
            {
                "rendering": rendering, "origin": origin,
                "median": round(median(times), 3), "longest": round(max(times), 3),
            }
            for (rendering, origin), times in sorted(one.seconds.items())
        ],
        "triage": [
            {
                "split": judged.split, "label": judged.label, "origin": judged.origin,
                "thresholds": "lowered" if judged.lowered else "published",
                "context": judged.context, "alerts": judged.alerts, "kinds": dict(judged.kinds),
            }
            for judged in one.judged
        ],
        "sets": [_outcome(outcome) for outcome in one.sets if outcome.source.split == TUNING],
        "limits": list(one.hunt.notes.limits),
    }  # fmt: skip


def _share(share: Share, origin: str = "") -> Document:
    entry = {"found": share.found, "of": share.tried, "share": _rounded(share.value)}
    if origin == "captured" and share.interval:
        low, high = share.interval
        entry |= {"low": _rounded(low), "high": _rounded(high)}
    return entry


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _outcome(outcome: SetOutcome) -> Document:
    one = outcome.source
    return {
        "name": one.name,
        "label": one.label,
        "origin": one.origin,
        "rendering": one.rendering,
        "events": len(one.rows),
        "devices": len({device_of(row) for row in one.rows}),
        "bursts": len(one.bursts),
        "found": outcome.found,
        "alerts": len(outcome.alerts),
        "false_alerts": [
            {
                "device": hit.device,
                "account": hit.account or "",
                "first": hit.first_seen.short() if hit.first_seen else None,
                "last": hit.last_seen.short() if hit.last_seen else None,
                "commands": [command.line for command in hit.commands],
            }
            for hit in outcome.false_alerts
        ],
    }


def share_of(entry: Mapping[str, Any]) -> Share:
    """The share that an entry of the document holds."""
    return Share(entry["found"], entry["of"])


def recall_of(
    hunt: Document, *, loss: int = 0, split: str = TUNING, origin: str = ""
) -> dict[str, Share]:
    """Rendering -> Qakbot's bursts found, of one origin or all.

    With ``loss`` percent of events lost: copies of the bursts for tuning.
    """
    entries = (
        [e for e in hunt["loss"] if e["percent"] == loss]
        if loss
        else [e for e in hunt["recall"] if e["split"] == split]
    )
    found: dict[str, Share] = {}
    for entry in entries:
        if origin in ("", entry["origin"]):
            share = found.get(entry["rendering"], Share(0, 0))
            found[entry["rendering"]] = share + share_of(entry)
    return found


def kin_of(hunt: Document, *, split: str = TUNING, origin: str = "") -> dict[str, Share]:
    """Malware -> bursts found, of one origin or all."""
    return {
        name: sum((share_of(e) for e in entries), Share(0, 0))
        for name, entries in _grouped(hunt["kin"], "malware", split, origin).items()
    }


def _grouped(
    entries: Sequence[Document], key: str, split: str, origin: str
) -> dict[str, list[Document]]:
    grouped: dict[str, list[Document]] = {}
    for entry in entries:
        if entry["split"] == split and origin in ("", entry["origin"]):
            grouped.setdefault(entry[key], []).append(entry)
    return grouped


def raised_of(hunt: Document, label: str, *, split: str = TUNING, origin: str = "") -> Share:
    """Sets of a label that raised an alert, of those there are."""
    entries = _grouped(hunt["raised"], "label", split, origin).get(label, [])
    return sum((Share(e["alerted"], e["sets"]) for e in entries), Share(0, 0))


def percent(share: Share | None) -> str:
    """``100 %``, ``98.2 %``, or a dash of nothing."""
    if share is None or share.value is None:
        return "-"
    text = f"{share.value * 100:.1f}".removesuffix(".0")
    return f"{text} %"


def counted(share: Share | None) -> str:
    """``11 of 11``, or a dash of nothing."""
    return f"{share.found} of {share.tried}" if share and share.tried else "-"


def split_by_hunt(whole: Document) -> dict[str, Document]:
    """Hunt name -> the document with that hunt alone."""
    return {hunt["name"]: {**whole, "hunts": [hunt]} for hunt in whole["hunts"]}


def joined(parts: Sequence[Document]) -> Document:
    """Documents of one measurement as one again."""
    return {**parts[0], "hunts": [hunt for part in parts for hunt in part["hunts"]]}


def is_of(found: Document, hunt: Hunt) -> bool:
    """Whether the evidence was measured on the hunt's text as it stands."""
    text = hashlib.sha256(hunt.query.encode()).hexdigest()
    return bool(found["hunts"][0]["hunt_hash"] == text)


def path_of(hunt: Hunt) -> Path:
    """Where a hunt's evidence stands."""
    return Path(hunt.path).parent / FOLDER / f"{hunt.name}.json"


def evidence_of(hunt: Hunt) -> Document | None:
    """The recorded evidence of a hunt, or None. Raises HuntError for a broken file."""
    path = path_of(hunt)
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["schema"] != SCHEMA or len(found["hunts"]) != 1:
            raise ValueError(f"not a document of {SCHEMA}")
    except (ValueError, KeyError, TypeError) as problem:
        raise HuntError(f"{path}: broken evidence: {problem}") from None
    return dict(found)


_ORIGINS = ("captured", "reconstructed", "modelled")


def words_of(found: Document) -> list[str]:
    """What was measured of one hunt, on what, and how often it cried wolf."""
    hunt = found["hunts"][0]
    lines = [f"measured {found['date']}, version {hunt['version']}"]
    return lines + [
        f"{part}: {text}" for split, part in PARTS.items() for text in _sums(hunt, split)
    ]


def _sums(hunt: Document, split: str) -> list[str]:
    """Bursts found, and sets that raised an alert, by origin."""
    by_title: dict[str, list[str]] = {}
    for origin in _ORIGINS:
        shares = {
            "Qakbot found": _total(recall_of(hunt, split=split, origin=origin)),
            "other malware found": _total(kin_of(hunt, split=split, origin=origin)),
            "administrative sets with an alert": raised_of(
                hunt, "benign", split=split, origin=origin
            ),
            "other intrusions with an alert": raised_of(
                hunt, "unrelated", split=split, origin=origin
            ),
        }
        for title, share in shares.items():
            parts = by_title.setdefault(title, [])
            if share.tried:
                parts.append(f"{counted(share)} {origin}")
    said = [f"{title}: {', '.join(parts)}" for title, parts in by_title.items() if parts]
    return [*said, *taken_for_malware(hunt, split)]


def _total(shares: Mapping[str, Share]) -> Share:
    return sum(shares.values(), Share(0, 0))


def lines_of(found: Document) -> list[str]:
    """The evidence of one hunt in a few sentences."""
    hunt = found["hunts"][0]
    lines = words_of(found)
    for split, part in PARTS.items():
        for origin in _ORIGINS:
            table = recall_of(hunt, split=split, origin=origin)
            if table:
                lines.append(f"found, {part}, {origin}, by rendering: {_listed(table)}")
    for loss in sorted({entry["percent"] for entry in hunt["loss"]}):
        for origin in _ORIGINS:
            table = recall_of(hunt, loss=loss, origin=origin)
            if table:
                shares = ", ".join(f"{name} {percent(share)}" for name, share in table.items())
                lines.append(f"copies of {origin} bursts with {loss} % of events lost: {shares}")
    times = hunt["seconds_to_detection"]
    if times:
        longest = max(entry["longest"] for entry in times)
        lines.append(f"fires at the latest {longest:g} s after a burst's first command")
    return lines


def _listed(table: Mapping[str, Share]) -> str:
    return ", ".join(f"{name} {counted(share)}" for name, share in table.items())


# What triage makes of the alerts


def judged_of(hunt: Document, split: str) -> dict[tuple[str, str, str], dict[bool, Document]]:
    """(label, thresholds, origin) -> with context or without -> alerts by assessment.

    Of administration also at lowered thresholds; at its own a hunt alerts on little of it.
    """
    found: dict[tuple[str, str, str], dict[bool, Document]] = {}
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


_COLUMNS = ("direct", "cmd", "powershell", "batch")


def markdown(found: Document) -> str:
    """The table for a page, and what it was measured on; a row for each part and origin."""
    head = [
        "Hunt", "part", "data", "direct", "cmd /c", "PowerShell", "batch file", "other ways",
        "direct, 40 % lost", "other malware", "administrative sets with an alert",
        "other intrusions with an alert",
    ]  # fmt: skip
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for hunt in found["hunts"]:
        for split, part in PARTS.items():
            for origin in _ORIGINS:
                cells = _cells(hunt, split, origin)
                if any(cell != "-" for cell in cells):
                    row = " | ".join([f"`{hunt['name']}`", part, origin, *cells])
                    lines.append(f"| {row} |")
    lines += ["", *_foot(found), "", *confusion_table(found["hunts"])]
    return "\n".join(lines).rstrip("\n") + "\n"


def _cells(hunt: Document, split: str, origin: str) -> list[str]:
    recall = recall_of(hunt, split=split, origin=origin)
    others = _total({name: share for name, share in recall.items() if name not in _COLUMNS})
    lost = recall_of(hunt, loss=40, origin=origin) if split == TUNING else {}
    return [
        *(counted(recall.get(name)) for name in _COLUMNS),
        counted(others),
        percent(lost.get("direct")),
        counted(_total(kin_of(hunt, split=split, origin=origin))),
        counted(raised_of(hunt, "benign", split=split, origin=origin)),
        counted(raised_of(hunt, "unrelated", split=split, origin=origin)),
    ]


def _foot(found: Document) -> list[str]:
    captured = [s for s in found["data"] if s["origin"] == "captured"]
    named = "; ".join(f"{s['name']} ({s['source']})" for s in captured)
    lines = [
        f"Measured {found['date']} by `qakhunt evaluate` (seed {found['seed']}, {found['repeats']} "
        "copies of each burst per share of lost events). Counts are bursts found of those there "
        "are, and sets that raised an alert of those there are. Nobody tunes a hunt on the "
        "held-back part; its file's hash is committed with it."
    ]
    if named:
        lines.append(f"Captured: {named}.")
    lines.append(
        "Reconstructed and modelled data follow public reports and scripts, many of them those "
        "that the hunts follow too: they show what a spelling or a way of starting costs, not how "
        "often a company's devices raise an alert; so they have no interval."
    )
    return lines
