"""Findings as lines for people, ``qakhunt.lint/1`` and SARIF for programs."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from qakhunt.core.safe_text import for_terminal
from qakhunt.testing.contracts import (
    LintDocument,
    LintFinding,
    LintMatrix,
    LintResultColumns,
    ResultColumn,
)
from qakhunt.testing.lint.model import RULES, Severity

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from qakhunt.answers.table import Column
    from qakhunt.core.errors import SourceLocation
    from qakhunt.testing.lint.check import LintResult
    from qakhunt.testing.lint.matching import Matrix
    from qakhunt.testing.lint.model import Finding

_LIVES = {"alive": "", "dead": "dead", "unproven": "not proven"}


def finding_lines(finding: Finding) -> list[str]:
    """``file:line:column: severity CODE: message``, then the fix or why it is accepted."""
    rule = finding.rule
    level = "accepted" if finding.accepted is not None else rule.severity.value
    lines = [f"{finding.location.from_here()}: {level} {rule.code} {rule.name}: {finding.message}"]
    if finding.accepted is not None:
        lines.append(f"    accepted: {finding.accepted}")
    elif finding.hint:
        fixable = " (--fix)" if finding.fix else ""
        lines.append(f"    fix: {finding.hint}{fixable}")
    return [for_terminal(line) for line in lines]


def summary_line(result: LintResult) -> str:
    """``1 error, 3 warnings, 2 notes in 2 hunts; 4 accepted``."""
    counts = Counter(f.rule.severity for f in result.findings if f.accepted is None)
    parts = [_counted(counts[severity], severity.value) for severity in Severity]
    accepted = sum(f.accepted is not None for f in result.findings)
    hunts = _counted(len({*result.hunts, *(f.location.path for f in result.findings)}), "hunt")
    return f"{', '.join(parts)} in {hunts}" + (f"; {accepted} accepted" if accepted else "")


def _counted(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def matrix_lines(matrix: Matrix) -> list[str]:
    """The entries of one list by the renderings that can match them."""
    test = matrix.test
    shown = [for_terminal(entry.entry) for entry in matrix.entries]
    width = max(map(len, shown))
    head = "  ".join(matrix.renderings)
    lines = [f"{test.column} {test.operator}: which recorded forms of known commands match"]
    lines.append(f"  {'':{width}}  {head}")
    for text, entry in zip(shown, matrix.entries, strict=True):
        marks = "  ".join(
            f"{'x' if name in entry.matched else '.':^{len(name)}}" for name in matrix.renderings
        )
        lines.append(f"  {text:{width}}  {marks}  {_LIVES[entry.life]}".rstrip())
    return lines


def result_lines(columns: Mapping[str, Sequence[Column]]) -> list[str]:
    """The typed columns of a hunt's result; products that agree share a line."""
    by_text: dict[str, list[str]] = {}
    for product, own in columns.items():
        text = ", ".join(f"{column.name}: {column.kql_type}" for column in own)
        by_text.setdefault(text, []).append(product)
    return [
        for_terminal(f"result ({', '.join(products)}): {text}")
        for text, products in by_text.items()
    ]


def lint_document(result: LintResult) -> dict[str, Any]:
    """The result as ``qakhunt.lint/1``."""
    return LintDocument(
        schema="qakhunt.lint/1",
        findings=[_finding(finding) for finding in result.findings],
        matrices=[_matrix(path, one) for path, own in result.matrices.items() for one in own],
        results=[
            LintResultColumns(path, product, [ResultColumn(c.name, c.kql_type) for c in columns])
            for path, own in result.columns.items()
            for product, columns in own.items()
        ],
        unchecked=result.unchecked,
    ).plain()


def _finding(finding: Finding) -> LintFinding:
    rule, place, end = finding.rule, finding.location, finding.end
    return LintFinding.of(
        finding, mend=finding.hint, code=rule.code, name=rule.name, severity=rule.severity,
        fixable=bool(finding.fix), file=place.path, line=place.line, column=place.column,
        end_line=end.line if end else None, end_column=end.column if end else None,
    )  # fmt: skip


def _matrix(path: str, matrix: Matrix) -> LintMatrix:
    test = matrix.test
    return LintMatrix.of(
        matrix, file=path, column=test.column, operator=test.operator, entries=matrix.entries
    )


def sarif_document(result: LintResult, version: str) -> dict[str, Any]:
    """The result as SARIF 2.1.0."""
    used = sorted({finding.rule.code for finding in result.findings})
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {"name": "qakhunt", "version": version, "rules": _sarif_rules(used)}
                },
                "columnKind": "unicodeCodePoints",
                "results": [_sarif_result(finding, used) for finding in result.findings],
                "invocations": [
                    {
                        "executionSuccessful": True,
                        "toolExecutionNotifications": [
                            {"level": "note", "message": {"text": text}}
                            for text in result.unchecked
                        ],
                    }
                ],
            }
        ],
    }


def _sarif_rules(codes: Iterable[str]) -> list[dict[str, Any]]:
    return [
        {
            "id": code,
            "name": RULES[code].name,
            "shortDescription": {"text": RULES[code].meaning},
            "help": {"text": f"{RULES[code].severity.value}: {RULES[code].severity.meaning}"},
            "defaultConfiguration": {"level": RULES[code].severity.value},
        }
        for code in codes
    ]


def _sarif_result(finding: Finding, codes: Sequence[str]) -> dict[str, Any]:
    text = finding.message + (f". Fix: {finding.hint}" if finding.hint else "")
    document: dict[str, Any] = {
        "ruleId": finding.rule.code,
        "ruleIndex": codes.index(finding.rule.code),
        "level": finding.rule.severity.value,
        "message": {"text": for_terminal(text)},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": _uri(finding.location)},
                    "region": _region(finding),
                }
            }
        ],
    }
    if finding.accepted is not None:
        document["suppressions"] = [{"kind": "inSource", "justification": finding.accepted}]
    return document


def _uri(location: SourceLocation) -> str:
    from pathlib import Path
    from urllib.parse import quote

    path = Path(location.from_here().path)
    return path.as_uri() if path.is_absolute() else quote(path.as_posix())


def _region(finding: Finding) -> dict[str, int]:
    region = {"startLine": max(1, finding.location.line)}
    if finding.location.column:
        region["startColumn"] = finding.location.column
    if finding.end is not None and finding.end.line:
        region["endLine"] = finding.end.line
        if finding.end.column:
            region["endColumn"] = finding.end.column
    return region
