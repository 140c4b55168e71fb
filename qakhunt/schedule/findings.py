"""What a run reports of its findings: whether each is new, and the document that sinks are given.

A finding is reported when it is first seen, when it grows, and again after a stated
time; in between it is known. The state remembers the fingerprint of each hit of it, so
a finding stays the same one when another hunt joins it, and a state that was written
when each hunt had findings of its own is read as it is.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING, Any

from qakhunt.answers.findings import findings_of, hit_end
from qakhunt.answers.run_document import hit_document
from qakhunt.hunts.model import highest_severity

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from qakhunt.answers.hits import Hit
    from qakhunt.hunts.model import Hunt
    from qakhunt.kql.values import Instant, Timespan

SCHEMA = "qakhunt.finding/1"
FIELDS = (
    "schema", "id", "fingerprint", "revision", "news", "severity", "reported_at", "run", "hunt",
    "hunts", "profile",
    "tenant", "workspaces", "device", "account", "commands", "commands_in_all",
    "new_commands", "techniques",
    "distinct", "total", "first_seen", "last_seen", "rows", "hits",
)  # fmt: skip
"""The names that a finding's document has."""


MOST_HITS = 5
MOST_COMMANDS = 100
"""Rows and commands that a finding's document shows; it counts them all."""


class FindingState(str, Enum):
    """How a finding compares with what was reported before."""

    NEW = "new"
    CHANGED = "grown"
    REPEATED = "again"
    EXISTING = "known"


@dataclass(frozen=True)
class Known:
    """What the state remembers of a reported hit; no name, no command text.

    ``marks`` are digests of the commands reported so far, ``size`` the most distinct
    commands reported at once; ``reported_as`` is the fingerprint of the finding that
    it was reported in.
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
    reported_as: str = ""


@dataclass(frozen=True)
class ReportedFinding:
    """A finding as a run reports it: its hits by their fingerprint, and what is new of it."""

    fingerprint: str
    members: Mapping[str, tuple[Hit, ...]]
    by_name: Mapping[str, Hunt]
    state: FindingState = FindingState.NEW
    revision: int = 1
    new_commands: tuple[str, ...] = field(default=())

    @property
    def id(self) -> str:
        """The idempotency key: the same finding grown is another report."""
        return f"{self.fingerprint}-{self.revision}"

    @property
    def reported(self) -> bool:
        """Whether this run reports it."""
        return self.state is not FindingState.EXISTING

    @property
    def hits(self) -> list[Hit]:
        """All its hits, the fullest first."""
        return sorted((h for hits in self.members.values() for h in hits), key=_size, reverse=True)

    @property
    def hunts(self) -> list[Hunt]:
        """The hunts that see it; first that of the fullest hit."""
        return [self.by_name[name] for name in dict.fromkeys(hit.hunt for hit in self.hits)]


def reported_findings(hits: Sequence[Hit], hunts: Mapping[str, Hunt]) -> list[ReportedFinding]:
    """The findings of the hits, before they are judged.

    Episodes that share a fingerprint are one finding: their hunt says that they are the same.
    """
    groups: dict[str, dict[str, list[Hit]]] = {}
    for episode in findings_of(hits, hunts):
        joined: dict[str, list[Hit]] = {}
        for group in {
            id(g): g for mark in episode.fingerprints if (g := groups.get(mark))
        }.values():
            joined |= group
        for mark, hit in zip(episode.fingerprints, episode.hits, strict=True):
            joined.setdefault(mark, []).append(hit)
        groups |= dict.fromkeys(joined, joined)
    return [
        ReportedFinding(next(iter(group)), {m: tuple(found) for m, found in group.items()}, hunts)
        for group in {id(group): group for group in groups.values()}.values()
    ]


def judge(
    findings: Sequence[ReportedFinding], known: Mapping[str, Known], *, now: Instant,
    repeat_after: Timespan,
) -> Iterator[tuple[ReportedFinding, list[Known]]]:  # fmt: skip
    """Each finding with its state, and what to remember once it is on its way.

    A finding keeps the fingerprint that it was first reported under. Where one came
    apart, the part that has the hit of that fingerprint keeps it.
    """
    owners = {mark: finding for finding in findings for mark in finding.members}
    for finding in findings:
        before = sorted(
            (known[mark] for mark in finding.members if mark in known),
            key=lambda entry: (entry.first_reported, entry.fingerprint),
        )
        names = [entry.reported_as for entry in before]
        kept = (name for name in names if owners.setdefault(name, finding) is finding)
        named = replace(finding, fingerprint=next(kept, finding.fingerprint))
        yield _judge(named, before, now, repeat_after)


def _judge(
    finding: ReportedFinding, before: Sequence[Known], now: Instant, repeat_after: Timespan
) -> tuple[ReportedFinding, list[Known]]:
    known = {entry.fingerprint: entry for entry in before}
    seen = {mark for entry in before for mark in entry.marks}
    commands = {_mark(c.normalised): c.line for hit in finding.hits for c in hit.commands}
    fresh = tuple(line for mark, line in commands.items() if mark not in seen)
    grown = any(
        mark not in known or max(map(_size, hits)) > known[mark].size
        for mark, hits in finding.members.items()
    )
    if not before:
        state, fresh = FindingState.NEW, ()
    elif fresh or grown:
        state = FindingState.CHANGED
    elif now.since(max(entry.last_reported for entry in before)) >= repeat_after:
        state = FindingState.REPEATED
    else:
        revision = max(entry.revision for entry in before)
        unchanged = [replace(entry, last_seen=now) for entry in before]
        return replace(finding, state=FindingState.EXISTING, revision=revision), unchanged
    revision = max((entry.revision for entry in before), default=0) + 1
    judged = replace(finding, state=state, revision=revision, new_commands=fresh)
    return judged, [
        _remembered(judged, mark, hits, known.get(mark), now)
        for mark, hits in finding.members.items()
    ]


def _remembered(
    finding: ReportedFinding, mark: str, hits: Sequence[Hit], before: Known | None, now: Instant
) -> Known:
    size = max(map(_size, hits))
    marks = frozenset(_mark(c.normalised) for hit in hits for c in hit.commands)
    return Known(
        mark, hits[0].hunt, hits[0].tenant or hits[0].profile,
        before.first_reported if before else now, now, now, finding.revision,
        max(size, before.size) if before else size, before.marks | marks if before else marks,
        finding.fingerprint,
    )  # fmt: skip


def finding_document(finding: ReportedFinding, *, run_id: str, now: Instant) -> dict[str, Any]:
    """``qakhunt.finding/1``: what a sink is given of one finding, as plain JSON values.

    ``rows`` and ``commands_in_all`` count; ``hits`` and ``commands`` show the fullest and
    the first of them. ``severity`` is the highest of ``hunts``, of which ``hunt`` is the one with
    the fullest hit. ``new_commands`` are what a grown finding has more.
    """
    hits = finding.hits
    first, hunts = hits[0], [_hunt_document(hunt) for hunt in finding.hunts]
    commands = list(dict.fromkeys(c.line for h in hits for c in h.commands))
    seen = [hit.first_seen for hit in hits if hit.first_seen]
    last = [hit_end(hit) for hit in hits if hit.first_seen or hit.last_seen]
    return {
        "schema": SCHEMA,
        "id": finding.id,
        "fingerprint": finding.fingerprint,
        "revision": finding.revision,
        "news": finding.state.value,
        "severity": highest_severity(finding.hunts),
        "reported_at": now.isoformat(),
        "run": run_id,
        "hunt": hunts[0],
        "hunts": hunts,
        "profile": first.profile,
        "tenant": first.tenant,
        "workspaces": list(dict.fromkeys(h.workspace for h in hits if h.workspace)),
        "device": first.device,
        "account": first.account,
        "commands": commands[:MOST_COMMANDS],
        "commands_in_all": len(commands),
        "new_commands": list(finding.new_commands[:MOST_COMMANDS]),
        "techniques": list(dict.fromkeys(t for h in hits for t in h.techniques)),
        "distinct": max((h.distinct for h in hits if h.distinct is not None), default=None),
        "total": max((h.total for h in hits if h.total is not None), default=None),
        "first_seen": min(seen).isoformat() if seen else None,
        "last_seen": max(last).isoformat() if last else None,
        "rows": len(hits),
        "hits": [hit_document(hit) for hit in hits[:MOST_HITS]],
    }  # fmt: skip


def _hunt_document(hunt: Hunt) -> dict[str, Any]:
    names = ("name", "id", "title", "version", "severity")
    return {name: getattr(hunt, name) for name in names}


def _mark(command: str) -> str:
    return hashlib.sha256(command.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _size(hit: Hit) -> int:
    """Distinct commands, as the hunt counts them, else as they are listed."""
    return hit.distinct if hit.distinct is not None else len({c.normalised for c in hit.commands})
