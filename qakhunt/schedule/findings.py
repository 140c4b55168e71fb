"""Findings: hits with the same fingerprint, and whether there is anything new to report.

A finding is reported when it is first seen, when it grows, and again after a stated
time; in between it is known. What makes two hits the same finding, run after run: a hunt
declares result columns under ``qakhunt: fingerprint:``; ``day`` there is the UTC day of
the hit's first event. Without a declaration: device, account and day.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING, Any

from qakhunt.answers.plain import to_json_value
from qakhunt.answers.run_document import hit_document

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from qakhunt.answers.hits import Hit
    from qakhunt.hunts.model import Hunt
    from qakhunt.kql.values import Instant, Timespan

SCHEMA = "qakhunt.finding/1"
DAY = "day"
FIELDS = (
    "schema", "id", "fingerprint", "revision", "news", "reported_at", "run", "hunt", "profile",
    "tenant", "workspaces", "device", "account", "commands", "commands_in_all",
    "new_commands", "techniques",
    "distinct", "total", "first_seen", "last_seen", "rows", "hits",
)  # fmt: skip
"""The names that a finding's document has."""


MOST_HITS = 5
MOST_COMMANDS = 100
"""Rows and commands that a finding's document shows; it counts them all."""


class News(str, Enum):
    """What a run has to say of a finding."""

    NEW = "new"
    GROWN = "grown"
    AGAIN = "again"
    KNOWN = "known"


@dataclass(frozen=True)
class Known:
    """What the state remembers of a reported finding; no name, no command text.

    ``marks`` are digests of the commands reported so far, ``size`` the most distinct
    commands reported at once.
    """

    fingerprint: str
    hunt: str
    customer: str
    first_reported: Instant
    last_reported: Instant
    last_seen: Instant
    revision: int = 1
    size: int = 0
    marks: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Finding:
    """All hits of a run that are the same finding, the fullest first."""

    fingerprint: str
    hunt: Hunt
    hits: tuple[Hit, ...]
    news: News = News.NEW
    revision: int = 1
    new_commands: tuple[str, ...] = field(default=())

    @property
    def id(self) -> str:
        """The idempotency key: the same finding grown is another report."""
        return f"{self.fingerprint}-{self.revision}"

    @property
    def reported(self) -> bool:
        """Whether this run reports it."""
        return self.news is not News.KNOWN


def fingerprint(hunt: Hunt, hit: Hit) -> str:
    """32 hex digits, the same for the same finding however often it is found.

    The hunt goes by its id, so a change of its parameters keeps its findings. A
    declared column that the result lacks makes the whole row count: two findings
    never become one.
    """
    row = hit.row
    declared = hunt.notes.fingerprint
    values = [_value(name, hit, row) for name in declared if name in row or name == DAY]
    if not declared:
        values = [_plain(hit.device), _plain(hit.account), _value(DAY, hit, row)]
    if len(values) < len(declared) or (not declared and hit.device is None):
        values.append([_plain(cell) for cell in hit.cells])
    identity = [hunt.id.lower() or hunt.name, *_owner(hit), *values]
    text = json.dumps(identity, ensure_ascii=True, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _owner(hit: Hit) -> Sequence[Any]:
    """The tenant; duplicates in several of its workspaces are one finding."""
    if hit.tenant:
        return [hit.tenant.lower()]
    return [f"profile:{hit.profile}", (hit.workspace or "").lower()]


def _value(name: str, hit: Hit, row: dict[str, Any]) -> Any:
    if name in row:
        return _plain(row[name])
    return hit.first_seen.isoformat()[:10] if hit.first_seen else None


def _plain(cell: Any) -> Any:
    """Names differ in case between sources; nothing else is taken for the same."""
    value = to_json_value(cell)
    return value.strip().casefold() if isinstance(value, str) else value


def findings_of(hits: Iterable[Hit], hunts: Mapping[str, Hunt]) -> list[Finding]:
    """Hits grouped by fingerprint, in order of their first."""
    groups: dict[str, list[Hit]] = {}
    for hit in hits:
        groups.setdefault(fingerprint(hunts[hit.hunt], hit), []).append(hit)
    return [
        Finding(mark, hunts[group[0].hunt], tuple(sorted(group, key=_size, reverse=True)))
        for mark, group in groups.items()
    ]


def judge(
    finding: Finding, known: Known | None, *, now: Instant, repeat_after: Timespan
) -> tuple[Finding, Known]:
    """The finding with its news, and what to remember once it is on its way."""
    marks = {_mark(c.normalised): c.line for hit in finding.hits for c in hit.commands}
    size = max(map(_size, finding.hits))
    if known is None:
        remembered = Known(
            finding.fingerprint, finding.hunt.name, _customer(finding.hits[0]),
            now, now, now, 1, size, frozenset(marks),
        )  # fmt: skip
        return replace(finding, news=News.NEW), remembered
    fresh = tuple(line for mark, line in marks.items() if mark not in known.marks)
    if fresh or size > known.size:
        news = News.GROWN
    elif now.since(known.last_reported) >= repeat_after:
        news = News.AGAIN
    else:
        unchanged = replace(known, last_seen=now)
        return replace(finding, news=News.KNOWN, revision=known.revision), unchanged
    remembered = replace(
        known, last_reported=now, last_seen=now, revision=known.revision + 1,
        size=max(size, known.size), marks=known.marks | set(marks),
    )  # fmt: skip
    told = replace(finding, news=news, revision=remembered.revision, new_commands=fresh)
    return told, remembered


def finding_document(finding: Finding, *, run_id: str, now: Instant) -> dict[str, Any]:
    """``qakhunt.finding/1``: what a sink is given of one finding, as plain JSON values.

    ``rows`` and ``commands_in_all`` count; ``hits`` and ``commands`` show the fullest and
    the first of them. ``new_commands`` are what a grown finding has more.
    """
    first, hunt = finding.hits[0], finding.hunt
    commands = list(dict.fromkeys(c.line for h in finding.hits for c in h.commands))
    seen = [hit.first_seen for hit in finding.hits if hit.first_seen]
    last = [moment for hit in finding.hits for moment in (hit.last_seen, hit.first_seen) if moment]
    return {
        "schema": SCHEMA,
        "id": finding.id,
        "fingerprint": finding.fingerprint,
        "revision": finding.revision,
        "news": finding.news.value,
        "reported_at": now.isoformat(),
        "run": run_id,
        "hunt": {"name": hunt.name, "id": hunt.id, "title": hunt.title,
                 "version": hunt.version, "severity": hunt.severity},
        "profile": first.profile,
        "tenant": first.tenant,
        "workspaces": list(dict.fromkeys(h.workspace for h in finding.hits if h.workspace)),
        "device": first.device,
        "account": first.account,
        "commands": commands[:MOST_COMMANDS],
        "commands_in_all": len(commands),
        "new_commands": list(finding.new_commands[:MOST_COMMANDS]),
        "techniques": list(dict.fromkeys(t for h in finding.hits for t in h.techniques)),
        "distinct": max((h.distinct for h in finding.hits if h.distinct is not None), default=None),
        "total": max((h.total for h in finding.hits if h.total is not None), default=None),
        "first_seen": min(seen).isoformat() if seen else None,
        "last_seen": max(last).isoformat() if last else None,
        "rows": len(finding.hits),
        "hits": [hit_document(hit) for hit in finding.hits[:MOST_HITS]],
    }  # fmt: skip


def _mark(command: str) -> str:
    return hashlib.sha256(command.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _size(hit: Hit) -> int:
    """Distinct commands, as the hunt counts them, else as they are listed."""
    return hit.distinct if hit.distinct is not None else len({c.normalised for c in hit.commands})


def _customer(hit: Hit) -> str:
    return hit.tenant or hit.profile
