"""Evidence as a document, as Markdown, and beside the hunts it is about.

Numbers are only ever written by this module, from a measurement, with its date and
its data named.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qakhunt.core.errors import HuntError, UsageError
from qakhunt.testing.labelled import POSITIVE
from qakhunt.testing.statistics import Share

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qakhunt.hunts.model import Hunt
    from qakhunt.kql.values import Instant
    from qakhunt.testing.evaluation import HuntEvidence, SetOutcome
    from qakhunt.testing.labelled import LabelledSet

SCHEMA = "qakhunt.evaluate/1"
FOLDER = "evidence"

_BLOCK = re.compile(r"(<!-- evidence -->\n).*?(<!-- /evidence -->)", re.DOTALL)

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
    return {
        "name": one.name,
        "label": one.label,
        "origin": one.origin,
        "rendering": one.rendering,
        "behaviour": one.behaviour if one.label == POSITIVE else "",
        "events": len(one.rows),
        "bursts": len(one.bursts),
        "about": one.about,
        "source": one.source,
        "files": one.files,
    }


def _hunt_entry(one: HuntEvidence) -> Document:
    return {
        "name": one.hunt.name,
        "version": one.hunt.version,
        "hunt_hash": one.rendered.hunt_hash,
        "behaviour": one.hunt.notes.behaviour,
        "recall": [
            {"rendering": rendering, "origin": origin, **_share(share)}
            for (rendering, origin), share in sorted(one.recall().items())
        ],
        "loss": [
            {"rendering": rendering, "origin": origin, "percent": percent, **_share(share)}
            for (rendering, origin, percent), share in sorted(one.losses.items())
        ],
        "seconds_to_detection": [
            {"rendering": rendering, "median": round(middle, 3), "longest": round(longest, 3)}
            for rendering, (middle, longest) in sorted(one.time_to_detection().items())
        ],
        "precision": _share(one.precision()),
        "sets": [_outcome(outcome) for outcome in one.sets],
        "limits": list(one.hunt.notes.limits),
    }


def _share(share: Share) -> Document:
    low, high = share.interval or (None, None)
    return {
        "found": share.found,
        "of": share.tried,
        "share": _rounded(share.value),
        "low": _rounded(low),
        "high": _rounded(high),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _outcome(outcome: SetOutcome) -> Document:
    false = [alert for alert in outcome.alerts if not alert.true]
    return {
        "name": outcome.name,
        "label": outcome.label,
        "origin": outcome.origin,
        "rendering": outcome.rendering,
        "events": outcome.events,
        "devices": outcome.devices,
        "bursts": outcome.found.tried,
        "found": outcome.found.found,
        "alerts": len(outcome.alerts),
        "false_alerts": [
            {
                "device": alert.device,
                "account": alert.account,
                "first": alert.first.short() if alert.first else None,
                "last": alert.last.short() if alert.last else None,
                "commands": list(alert.commands),
            }
            for alert in false
        ],
    }


def share_of(entry: Mapping[str, Any]) -> Share:
    """The share that an entry of the document holds."""
    return Share(entry["found"], entry["of"])


def recall_of(hunt: Document, *, loss: int = 0) -> dict[str, Share]:
    """Rendering -> bursts found, over all origins; with ``loss`` percent of events lost."""
    entries = [e for e in hunt["loss"] if e["percent"] == loss] if loss else hunt["recall"]
    found: dict[str, Share] = {}
    for entry in entries:
        share = found.get(entry["rendering"], Share(0, 0))
        found[entry["rendering"]] = share + share_of(entry)
    return found


def false_alerts_of(hunt: Document, label: str) -> int:
    """False alerts on the sets of a label."""
    return sum(len(s["false_alerts"]) for s in hunt["sets"] if s["label"] == label)


def percent(share: Share | None) -> str:
    """``100 %``, ``98.2 %``, or a dash of nothing."""
    if share is None or share.value is None:
        return "-"
    text = f"{share.value * 100:.1f}".removesuffix(".0")
    return f"{text} %"


def with_interval(share: Share) -> str:
    """``98.2 % (95.1 to 99.4)``."""
    if share.interval is None:
        return "-"
    low, high = (f"{bound * 100:.1f}".removesuffix(".0") for bound in share.interval)
    return f"{percent(share)} ({low} to {high})"


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


def words_of(found: Document) -> list[str]:
    """What was measured of one hunt, on what, and how often it cried wolf."""
    hunt = found["hunts"][0]
    return [
        f"measured {found['date']}, version {hunt['version']}, on {_data_words(found, hunt)}",
        f"alerts on benign sets: {false_alerts_of(hunt, 'benign')}; "
        f"on other intrusions: {false_alerts_of(hunt, 'unrelated')}",
        f"precision on these sets: {with_interval(share_of(hunt['precision']))}",
    ]


def lines_of(found: Document) -> list[str]:
    """The evidence of one hunt in a few sentences."""
    hunt = found["hunts"][0]
    lines = words_of(found)
    tables = {"found, by rendering": recall_of(hunt)}
    for loss in sorted({entry["percent"] for entry in hunt["loss"]}):
        tables[f"found with {loss} % of events lost"] = recall_of(hunt, loss=loss)
    for title, table in tables.items():
        if table:
            told = ", ".join(f"{name} {percent(share)}" for name, share in table.items())
            lines.append(f"{title}: {told}")
    times = hunt["seconds_to_detection"]
    if times:
        longest = max(entry["longest"] for entry in times)
        lines.append(f"fires at the latest {longest:g} s after a burst's first command")
    return lines


def _data_words(found: Document, hunt: Document) -> str:
    """What was measured on, by origin and label."""
    parts = []
    for label, noun in ((POSITIVE, "bursts"), ("benign", "benign events"), ("unrelated", "events")):
        for origin in ("captured", "reconstructed", "generated", "modelled"):
            chosen = [
                s for s in found["data"]
                if s["label"] == label and s["origin"] == origin
                and s["behaviour"] in ("", hunt["behaviour"])
            ]  # fmt: skip
            size = sum(s["bursts" if label == POSITIVE else "events"] for s in chosen)
            if size:
                tail = " of other intrusions" if label == "unrelated" else ""
                parts.append(f"{size:,} {origin} {noun}{tail}")
    return ", ".join(parts)


_COLUMNS = ("direct", "cmd", "powershell", "batch")


def markdown(found: Document) -> str:
    """The table for a page, and what it was measured on."""
    head = [
        "Hunt", "direct", "cmd /c", "PowerShell", "batch file", "other spellings",
        "direct, 40 % lost", "benign alerts", "other intrusions", "precision",
    ]  # fmt: skip
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for hunt in found["hunts"]:
        recall = recall_of(hunt)
        others = Share(0, 0)
        for name, share in recall.items():
            if name not in _COLUMNS:
                others = others + share
        cells = [
            f"`{hunt['name']}`",
            *(percent(recall.get(name)) for name in _COLUMNS),
            percent(others),
            percent(recall_of(hunt, loss=40).get("direct")),
            str(false_alerts_of(hunt, "benign")),
            str(false_alerts_of(hunt, "unrelated")),
            with_interval(share_of(hunt["precision"])),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", *_foot(found)]
    return "\n".join(lines) + "\n"


def _foot(found: Document) -> list[str]:
    data = found["data"]
    captured = [s for s in data if s["origin"] == "captured"]
    named = "; ".join(f"{s['name']} ({s['source']})" for s in captured)
    bursts = {
        origin: sum(s["bursts"] for s in data if s["origin"] == origin)
        for origin in ("captured", "reconstructed", "generated")
    }
    counts = ", ".join(f"{count:,} {origin}" for origin, count in bursts.items() if count)
    modelled = sum(s["events"] for s in data if s["origin"] == "modelled")
    lines = [
        f"Measured {found['date']} by `qakhunt evaluate` (seed {found['seed']}, {found['repeats']} "
        f"copies of each burst per share of lost events). Bursts: {counts}. "
        f"Benign programs and administrators, modelled: {modelled:,} events."
    ]
    if named:
        lines.append(f"Captured: {named}.")
    lines.append(
        "Percentages are bursts found; precision counts alerts on all sets, with its 95 % "
        "interval. "
        "Reconstructed, generated and modelled data follow the same public reports as the hunts, "
        "so they show what a spelling costs, not how often a company's devices raise an alert."
    )
    return lines


def replace_block(text: str, table: str) -> str:
    """A page's text with the table between its evidence marks. Raises UsageError."""
    if not _BLOCK.search(text):
        raise UsageError(
            "the page has no place for the evidence",
            hint="mark it with the lines <!-- evidence --> and <!-- /evidence -->",
        )
    return _BLOCK.sub(lambda match: f"{match[1]}{table}{match[2]}", text)
