"""Rules about what a query names: QH101 to QH106, per product, each place said once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qakhunt.errors import nearest
from qakhunt.kql.edits import Edit, original_offset
from qakhunt.kql.tokens import LineIndex
from qakhunt.proving.lint.flow import Problem, check_names
from qakhunt.proving.lint.vocabulary import is_foreign

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qakhunt.hunts.render import RenderedQuery
    from qakhunt.proving.lint.model import Finding, Subject
    from qakhunt.proving.microsoft_parser import Diagnostic, MicrosoftParser

_CODES = {"table": "QH102", "column": "QH103", "function": "QH104", "dropped": "QH105"}
# KS142 name, KS204 table, KS211 function: what check_names says in its own words.
_NAME_CODES = frozenset({"KS142", "KS204", "KS211"})


def check(subject: Subject) -> Iterator[Finding]:
    """Names that resolve to nothing, as far as can be told without a parser."""
    for rendered in subject.rendered.values():
        for problem in check_names(rendered.text, rendered.product):
            yield _finding(subject, rendered, problem)


def _finding(subject: Subject, rendered: RenderedQuery, problem: Problem) -> Finding:
    name = problem.token.text
    start, end = _span(rendered, problem.token.start, problem.token.end)
    where = rendered.product
    if problem.kind == "dropped" and problem.dropped_by is not None:
        line = LineIndex(rendered.text).locate(problem.dropped_by.start)[0]
        place = subject.hunt.place.locate(line, 1).line
        operator = problem.dropped_by.operator
        message = f"{operator} in line {place} has dropped the column {name!r}"
        return subject.at(
            "QH105", start, end, message, f"keep it there, as in {_keep(operator, name)}"
        )
    what = {"table": "table", "column": "column", "function": "function"}[problem.kind]
    place_of_it = f" in {where}" if problem.kind == "table" else ""
    hint = nearest(name, problem.known) or ""
    same = [known for known in problem.known if known.casefold() == name.casefold()]
    fix = [Edit(start, end, same[0])] if len(same) == 1 and problem.kind == "column" else []
    return subject.at(
        _CODES[problem.kind], start, end, f"no {what} named {name!r}{place_of_it}", hint, fix
    )


def _keep(operator: str, name: str) -> str:
    if operator == "summarize":
        return f"'by {name}' or 'take_any({name})'"
    return f"'{operator} ..., {name}'"


def _span(rendered: RenderedQuery, start: int, end: int) -> tuple[int, int]:
    first = original_offset(rendered.edits, start)
    return first, max(first, original_offset(rendered.edits, end))


def check_with_parser(subject: Subject, parser: MicrosoftParser) -> Iterator[Finding]:
    """What Microsoft's parser says beyond ``check``; also notes the result's columns."""
    for product, rendered in subject.rendered.items():
        analysis = parser.check(rendered.text, product)
        if analysis.columns is not None:
            subject.result[product] = analysis.columns
        # Behind a call that only the service knows, names are the service's affair too.
        foreign = [one.start for one in analysis.diagnostics if _is_foreign(rendered, one)]
        unknown_from = min(foreign, default=len(rendered.text) + 1)
        for diagnostic in analysis.diagnostics:
            if diagnostic.code in _NAME_CODES and diagnostic.start >= unknown_from:
                continue
            if diagnostic.severity in ("error", "warning"):
                yield _said(subject, rendered, diagnostic)


def _said(subject: Subject, rendered: RenderedQuery, diagnostic: Diagnostic) -> Finding:
    start, end = _span(rendered, diagnostic.start, diagnostic.end)
    is_syntax = diagnostic.code.startswith("KS0") and int(diagnostic.code[2:]) < 100
    code = "QH101" if is_syntax else "QH106"
    if diagnostic.code in _NAME_CODES:
        code = "QH103" if diagnostic.code == "KS142" else "QH102"
        code = "QH104" if diagnostic.code == "KS211" else code
    words = diagnostic.message.rstrip(".")
    return subject.at(code, start, end, f"{words} ({diagnostic.code})")


def _is_foreign(rendered: RenderedQuery, diagnostic: Diagnostic) -> bool:
    """Whether it is about a name that only a workspace or a product can know."""
    if diagnostic.code not in _NAME_CODES:
        return False
    text = rendered.text[diagnostic.start : diagnostic.end]
    return is_foreign(text.partition("(")[0].strip())
