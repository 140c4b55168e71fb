"""An ATT&CK Navigator layer: techniques coloured by how often they were seen.

Format 4.5, which Navigator 4.9 and later read. The ATT&CK version is left out, so that
Navigator takes its current one.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from typing import IO, TYPE_CHECKING, Any

from qakhunt.core.safe_text import for_json, for_terminal
from qakhunt.reports.summary import one_window
from qakhunt.triage.hit_report import technique
from qakhunt.triage.words import count

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from qakhunt.answers.run_result import RunResult
    from qakhunt.hunts.model import Hunt
    from qakhunt.reports.details import ExportOptions

FORMAT, NAVIGATOR = "4.5", "4.9.0"
_COLOURS = ("#fde8d7", "#f4a06b", "#c2391f")


def write(result: RunResult, out: IO[bytes], _: ExportOptions) -> None:
    """A layer of what was observed: the score is the number of hits with the technique."""
    hits: Counter[str] = Counter()
    commands: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for hit in result.hits:
        hits.update(set(hit.techniques))
        for command in hit.commands:
            for identifier in command.techniques:
                commands[identifier][command.family or command.normalised] += 1
    comments = {
        identifier: f"{count(number, 'hit')}: "
        + ", ".join(f"{name} ({n})" for name, n in commands[identifier].most_common(8))
        for identifier, number in hits.items()
    }
    titles = ", ".join(dict.fromkeys(rendered.hunt.title for rendered in result.rendered))
    window = f"{result.window.start} to {result.window.end}"
    if not one_window(result):
        window = "each hunt in its own window"
    name = f"Observed: {titles}"
    about = f"{count(len(result.hits), 'hit')}, {window}, verdict {result.verdict.value}"
    out.write(layer_text(layer(name, about, hits, comments)).encode())


def coverage_layer(hunts: Iterable[Hunt]) -> dict[str, Any]:
    """A layer of what hunts look for: the score is the number of hunts."""
    by_technique = techniques_of(hunts)
    scores = {identifier: len(names) for identifier, names in by_technique.items()}
    comments = {identifier: ", ".join(names) for identifier, names in by_technique.items()}
    number = len({name for names in by_technique.values() for name in names})
    return layer(
        "Hunts: what they look for", f"{count(number, 'hunt')} of qakhunt", scores, comments
    )


def techniques_of(hunts: Iterable[Hunt]) -> dict[str, list[str]]:
    """Technique -> names of the hunts that look for it, both in order."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for hunt in hunts:
        for identifier in hunt.techniques:
            found[identifier].append(hunt.name)
    return dict(sorted(found.items()))


def layer(
    name: str, description: str, scores: Mapping[str, int], comments: Mapping[str, str]
) -> dict[str, Any]:
    """The layer document."""
    highest = max(scores.values(), default=1)
    return {
        "name": for_terminal(name),
        "versions": {"navigator": NAVIGATOR, "layer": FORMAT},
        "domain": "enterprise-attack",
        "description": for_terminal(description),
        "sorting": 3,
        "layout": {"layout": "side", "showID": True, "showName": True,
                   "expandedSubtechniques": "annotated"},
        "hideDisabled": False,
        "techniques": [
            {
                "techniqueID": identifier,
                "score": score,
                "comment": for_terminal(comments.get(identifier, "")),
                "links": [{"label": identifier, "url": technique(identifier).url}],
            }
            for identifier, score in sorted(scores.items())
        ],
        "gradient": {"colors": list(_COLOURS), "minValue": 0, "maxValue": max(highest, 1)},
        "legendItems": [],
        "selectTechniquesAcrossTactics": True,
    }  # fmt: skip


def layer_text(document: dict[str, Any]) -> str:
    """The document as JSON text."""
    return for_json(json.dumps(document, ensure_ascii=False, indent=2)) + "\n"
