"""An empty answer is complete only where there was something to look at."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from qakhunt.answers.ledger import LedgerLine, SourceRows, Status
from qakhunt.backends.base import Answer, Backend, Question, Target
from qakhunt.hunts.source_rows import probe_query, read_probe, tables_named

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qakhunt.hunts.render import RenderedQuery


@dataclass(frozen=True)
class Finding:
    """What the probe found, or why the empty answer proves nothing (``detail``)."""

    source: SourceRows | None
    detail: str = ""
    hint: str = ""
    asked: tuple[Answer, ...] = ()


def probe(rendered: RenderedQuery, backend: Backend, target: Target) -> Finding:
    """Ask once per table that the query names, for the whole window."""
    asked: list[Answer] = []
    seen: list[SourceRows] = []
    for table in tables_named(rendered):
        text = probe_query(table, rendered.product, rendered.window)
        answer = backend.ask(Question(text, rendered.window, target, (table,)))
        asked.append(answer)
        if answer.table is None or answer.status is not Status.COMPLETE:
            words = f"no hits, but whether {table} holds records could not be told"
            return Finding(None, f"{words}: {answer.detail}", answer.hint, tuple(asked))
        found = read_probe(answer.table)
        if not found.rows:
            return Finding(
                found, f"{table} holds no records in the window",
                "check the window, the data connector and the permissions", tuple(asked),
            )  # fmt: skip
        seen.append(found)
    if not seen:
        return Finding(
            None, "the query names no table that is known",
            "without a source table an empty answer proves nothing",
        )  # fmt: skip
    # The source that had the least to show.
    return Finding(min(seen, key=lambda source: source.rows), asked=tuple(asked))


def apply(finding: Finding, lines: Sequence[LedgerLine]) -> list[LedgerLine]:
    """The complete lines of one empty answer, judged; the probe's account is the first's."""
    first = lines[0]
    for answer in finding.asked:
        first = replace(
            first,
            attempts=first.attempts + answer.attempts,
            waits=first.waits + answer.waits,
            request_ids=first.request_ids + answer.request_ids,
            elapsed=first.elapsed + answer.elapsed,
        )
    judged = [replace(first, source=finding.source), *lines[1:]]
    if not finding.detail:
        return judged
    return [
        replace(line, status=Status.UNCOVERED, detail=finding.detail, hint=finding.hint)
        for line in judged
    ]
