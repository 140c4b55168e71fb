"""Rules about the embedded engine: QH101, QH501 and QH502; it also tells the result's columns."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from qakhunt.backends.engine.session import EngineRefused
from qakhunt.kql.edits import original_offset
from qakhunt.kql.syntax import Call, Comparison, Literal, Name, find
from qakhunt.kql.tokens import LineIndex
from qakhunt.testing.lint.names import missing_column

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from qakhunt.backends.engine.session import Session
    from qakhunt.hunts.render import RenderedQuery
    from qakhunt.kql.syntax import Node, Script
    from qakhunt.testing.lint.model import Finding, Subject

_ESTIMATES = frozenset({"dcount", "dcountif", "percentile", "percentiles", "dcount_hll", "hll"})
_TAKE_REGEX = frozenset({"extract", "extract_all", "replace_regex", "trim", "trim_start",
                         "trim_end", "countof"})  # fmt: skip
# Kusto: \d is \p{Nd}, \w and \b know every script, && -- ~~ combine sets
# (learn.microsoft.com/kusto/query/regex).
_UNICODE = re.compile(r"\\[wWdDbB]|(?<=\[)[^\]]*(?:&&|~~|--)")
_NO_COLUMN = re.compile(r"no column named '(.+)'$")


def check(subject: Subject, sessions: Mapping[str, Session], *, columns: bool) -> Iterator[Finding]:
    """Run the hunt over empty tables of each product, and read what it uses.

    ``columns`` asks for the columns that it misses, where nothing better tells them.
    """
    for product, rendered in subject.rendered.items():
        try:
            answer = sessions[product].ask(rendered.text, now=rendered.now, window=rendered.window)
            subject.result[product] = answer.columns
        except EngineRefused as problem:
            yield from _refusal(subject, rendered, problem, columns=columns)
    yield from _differences(subject)


def _refusal(
    subject: Subject, rendered: RenderedQuery, problem: EngineRefused, *, columns: bool
) -> Iterator[Finding]:
    column = _NO_COLUMN.match(problem.message)
    if column:
        finding = missing_column(subject, rendered, column[1]) if columns else None
        yield from [finding] if finding else []
        return
    offset = LineIndex(rendered.text).offset(problem.line or 1, problem.column or 1)
    at = original_offset(rendered.edits, offset)
    if problem.message.startswith("syntax error"):
        yield subject.at("QH101", at, at, problem.message, problem.hint or "")
        return
    if not problem.message.startswith("no table named"):
        yield subject.at("QH501", at, at, problem.message, problem.hint or "")
    if columns:
        why = f"the embedded engine does not run it: {problem.message}"
        subject.unchecked.append(f"{subject.hunt.name}: columns not checked: {why}")


def _differences(subject: Subject) -> Iterator[Finding]:
    """Constructs that run, but whose answer is not the service's own."""
    for call in find(subject.script, Call):
        if call.name in _ESTIMATES:
            yield subject.at(
                "QH502", call.start, call.start + len(call.name),
                f"{call.name} is exact here and an estimate in the service, so counts near a "
                "threshold can differ",
                "for small numbers use count_distinct, or array_length(make_set(..))",
            )  # fmt: skip
    for literal in _regular_expressions(subject.script):
        found = _UNICODE.search(literal.text)
        if found:
            yield subject.at(
                "QH502", literal.start, literal.end,
                f"{found[0]!r} in a regular expression knows ASCII and no sets of characters "
                "here, and all of Unicode in the service: other letters and digits match there",
                "where ASCII is meant, write it out: [0-9A-Za-z_], [0-9]",
            )  # fmt: skip


def _regular_expressions(script: Script) -> list[Literal]:
    """Literals that are used as one, directly or by the name of a let."""
    used: list[Node] = []
    for node in script.walk():
        if isinstance(node, Comparison) and node.positive == "matches regex":
            used.append(node.right)
        elif isinstance(node, Call) and node.name in _TAKE_REGEX:
            used += node.arguments
    names = {one.name for node in used for one in find(node, Name)}
    used += [let.value for let in script.lets if let.name in names]
    literals = {one.start: one for node in used for one in find(node, Literal)}
    return [literals[at] for at in sorted(literals) if literals[at].type == "string"]
