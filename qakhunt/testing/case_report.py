"""The outcome of cases: lines for people, ``qakhunt.test/1`` and JUnit XML for programs."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape, quoteattr

from qakhunt.answers.cells import to_text
from qakhunt.core.safe_text import for_terminal
from qakhunt.kql.values import Instant
from qakhunt.testing.case_runner import CaseResult, Outcome
from qakhunt.testing.contracts import CaseDifference, CaseEvent, CaseOutcome, TestDocument

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from qakhunt.testing.case_runner import Difference
    from qakhunt.testing.contracts import Reach

_MOST_EVENTS = 12
_LEGEND: dict[Reach, str] = {
    "counted": "+ counted in this row",
    "passed": ". passed the filters",
    "filtered": "- filtered out",
    "unknown": "",
}


def failure_lines(results: Sequence[CaseResult]) -> list[str]:
    """One case that failed, in the products that failed alike: a line, cells, events."""
    first = results[0]
    products = ", ".join(result.product for result in results)
    heads = "; ".join(difference.message for difference in first.differences)
    lines = [f"FAIL {first.case.location.from_here()} [{products}] {first.case.name}: {heads}"]
    for difference in first.differences:
        lines += _cell_lines(difference)
    lines += _event_lines(first.events)
    return [for_terminal(line) for line in lines]


def alike(results: Sequence[CaseResult]) -> list[list[CaseResult]]:
    """Results of one case, those together that failed in the same way."""
    groups: dict[tuple[str, ...], list[CaseResult]] = {}
    for result in results:
        key = tuple(
            text
            for d in result.differences
            for text in (d.message, *(f"{c.column}{c.expected}{c.found}" for c in d.cells))
        )
        groups.setdefault(key, []).append(result)
    return list(groups.values())


def _cell_lines(difference: Difference) -> list[str]:
    lines = [f"       {c.column}: expected {c.expected}, found {c.found}" for c in difference.cells]
    if difference.found is not None and not difference.cells:
        lines.append("       found " + _record(difference.found))
    if difference.expected is not None and difference.found is None:
        lines.append("       expected " + _record(difference.expected))
    return lines


def _record(record: dict[str, Any]) -> str:
    return ", ".join(f"{name}={_cell(cell)}" for name, cell in record.items() if cell != "")


def _cell(cell: Any) -> str:
    return cell.short() if isinstance(cell, Instant) else to_text(cell)


def _event_lines(events: Sequence[CaseEvent]) -> list[str]:
    if not events:
        return []
    seen = {event.reach for event in events}
    legend = ", ".join(words for reach, words in _LEGEND.items() if words and reach in seen)
    lines = [f"     events{': ' + legend if legend else ''}"]
    for event in events[:_MOST_EVENTS]:
        cells = "  ".join(_cell(cell) for cell in event.cells.values() if cell not in (None, ""))
        lines.append(f"     {_LEGEND[event.reach][:1] or ' '} {cells}")
    if len(events) > _MOST_EVENTS:
        lines.append(f"       and {len(events) - _MOST_EVENTS} more")
    return lines


def summary_line(results: Sequence[CaseResult], seconds: float) -> str:
    """``12 passed, 1 failed in 0.81 s``."""
    counts = Counter(result.outcome for result in results)
    parts = [f"{counts[Outcome.PASSED]} passed"]
    if counts[Outcome.FAILED]:
        parts.append(f"{counts[Outcome.FAILED]} failed")
    if counts[Outcome.SKIPPED]:
        parts.append(f"{counts[Outcome.SKIPPED]} skipped")
    return f"{', '.join(parts)} in {seconds:.2f} s"


def skip_lines(results: Iterable[CaseResult]) -> list[str]:
    """One line per hunt and product that could not be tested."""
    lines = {
        f"skipped in {r.product}: {r.differences[0].message}"
        for r in results
        if r.outcome is Outcome.SKIPPED
    }
    return [for_terminal(line) for line in sorted(lines)]


def test_document(results: Sequence[CaseResult], seconds: float) -> dict[str, Any]:
    """All results as ``qakhunt.test/1``."""
    counts = Counter(result.outcome for result in results)
    return TestDocument(
        schema="qakhunt.test/1",
        passed=counts[Outcome.PASSED],
        failed=counts[Outcome.FAILED],
        skipped=counts[Outcome.SKIPPED],
        seconds=round(seconds, 6),
        cases=[_case(result) for result in results],
    ).plain()


def _case(result: CaseResult) -> CaseOutcome:
    case = result.case
    return CaseOutcome.of(
        result, hunt=case.hunt.name, name=case.name, file=case.location.path,
        line=case.location.line, seconds=round(result.seconds, 6),
        differences=[CaseDifference.of(one) for one in result.differences],
        events=[CaseEvent.of(one) for one in result.events],
    )  # fmt: skip


def junit_xml(results: Sequence[CaseResult], seconds: float) -> str:
    """All results as JUnit XML, one suite per hunt."""
    suites: dict[str, list[CaseResult]] = {}
    for result in results:
        suites.setdefault(result.case.hunt.name, []).append(result)
    counts = Counter(result.outcome for result in results)
    parts = [
        '<?xml version="1.0" encoding="UTF-8"?>\n',
        f'<testsuites name="qakhunt" tests="{len(results)}" failures="{counts[Outcome.FAILED]}" '
        f'skipped="{counts[Outcome.SKIPPED]}" errors="0" time="{seconds:.3f}">\n',
    ]
    for name, own in suites.items():
        parts += _junit_suite(name, own)
    return "".join([*parts, "</testsuites>\n"])


def _junit_suite(name: str, results: Sequence[CaseResult]) -> list[str]:
    counts = Counter(result.outcome for result in results)
    spent = sum(result.seconds for result in results)
    parts = [
        f'  <testsuite name={_attribute(name)} tests="{len(results)}" '
        f'failures="{counts[Outcome.FAILED]}" skipped="{counts[Outcome.SKIPPED]}" errors="0" '
        f'time="{spent:.3f}">\n'
    ]
    for result in results:
        location = result.case.location
        parts.append(
            f"    <testcase classname={_attribute(f'{name}.{result.product}')} "
            f"name={_attribute(result.case.name)} file={_attribute(location.from_here().path)} "
            f'line="{location.line}" time="{result.seconds:.3f}">'
        )
        if result.outcome is not Outcome.PASSED:
            tag = "failure" if result.outcome is Outcome.FAILED else "skipped"
            head = "; ".join(d.message for d in result.differences)
            body = "\n".join(failure_lines([result])) if tag == "failure" else ""
            parts.append(f"<{tag} message={_attribute(head)}>{escape(_xml(body))}</{tag}>")
        parts.append("</testcase>\n")
    return [*parts, "  </testsuite>\n"]


def _attribute(text: str) -> str:
    return quoteattr(_xml(text))


_NOT_XML = re.compile("[\ufffe\uffff]")


def _xml(text: str) -> str:
    """Text without what XML 1.0 cannot hold; line breaks stay."""
    return _NOT_XML.sub("\ufffd", "\n".join(for_terminal(line) for line in text.split("\n")))
