"""Rules about what a query names and the engine runs: QH101 to QH106, QH501 to QH503.

Tables and functions are looked up in the schema and the language's lists. Columns are
checked by Microsoft's parser, without it by the embedded engine's own translation.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from qakhunt.backends.engine.session import EngineRefused
from qakhunt.backends.kusto_query import ELSEWHERE_HINT, lacking_in_lake
from qakhunt.backends.kusto_query import PRODUCT as LAKE_PRODUCT
from qakhunt.core.errors import nearest
from qakhunt.kql.edits import Edit, original_offset
from qakhunt.kql.functions import function_names
from qakhunt.kql.parser import parse
from qakhunt.kql.schema import columns, tables
from qakhunt.kql.syntax import (
    Call,
    Comparison,
    Let,
    Literal,
    Name,
    Named,
    Path,
    Pipeline,
    Wildcard,
    find,
    stages,
)
from qakhunt.kql.tokens import LineIndex
from qakhunt.kql.visitors import sources

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from qakhunt.backends.engine.session import Session
    from qakhunt.hunts.render import RenderedQuery
    from qakhunt.kql.syntax import Node, Operator, Script
    from qakhunt.testing.lint.model import Finding, Subject
    from qakhunt.testing.microsoft_parser import Diagnostic, MicrosoftParser


_COLUMN, _TABLE, _FUNCTION = "KS142", "KS204", "KS211"
_NAMED_AFTER_ARGUMENTS = frozenset(["bin", "floor", "arg_max", "arg_min", "take_any"])
_CHOOSES = frozenset(["project", "project-keep", "distinct", "summarize", "make-series", "count"])
# Tables and functions that a workspace brings along, or that only the service knows.
_FOREIGN = re.compile(
    r".*_CL|_GetWatchlist.*|_Im_.*|_ASim_.*|ASim[A-Z].*|im[A-Z].*|FileProfile|DeviceFromIP|"
    r"workspace|app|resource|table|database|cluster|arg|adx"
)


def check(subject: Subject) -> Iterator[Finding]:
    """Tables and functions that neither the query nor the product defines."""
    for rendered in subject.rendered.values():
        script = parse(rendered.text)
        known = {*tables(rendered.product), *(let.name for let in find(script, Let))}
        for source in sources(script):
            missing = source.kind == "table" and source.name not in known
            if missing and not _FOREIGN.fullmatch(source.name):
                yield _unknown(subject, rendered, source.node, "table", source.name, known)
        known = {*function_names(), *(let.name for let in find(script, Let))}
        methods = {id(step) for path in find(script, Path) for step in path.steps}
        for call in find(script, Call):
            if (
                call.name not in known
                and id(call) not in methods
                and not _FOREIGN.fullmatch(call.name)
            ):
                yield _unknown(subject, rendered, call, "function", call.name, known)
    if LAKE_PRODUCT in subject.rendered:
        for node, what in lacking_in_lake(subject.script):
            yield subject.at(
                "QH503", node.start, node.end, f"the data lake has no {what}", ELSEWHERE_HINT
            )


def _unknown(
    subject: Subject, rendered: RenderedQuery, node: Node, what: str, name: str, known: set[str]
) -> Finding:
    start, end = _span(rendered, node.start, node.start + len(name))
    code, where = ("QH102", f" in {rendered.product}") if what == "table" else ("QH104", "")
    message = f"no {what} named {name!r}{where}"
    return subject.at(code, start, end, message, nearest(name, known) or "")


def missing_column(
    subject: Subject, rendered: RenderedQuery, name: str, offset: int | None = None
) -> Finding | None:
    """QH103 or QH105 for a column that is not there; without ``offset`` its place is looked for."""
    script = parse(rendered.text)
    targets = {one.target.start for one in find(script, Named)}
    places = [
        node.start
        for node in find(script, Name)
        if node.name == name and (node.start not in targets if offset is None else True)
        and offset in (None, node.start)
    ]  # fmt: skip
    if not places:
        return None
    known = {name for one in find(script, Named) for name in one.names}
    for source in sources(script):
        known |= columns(rendered.product, source.name).keys()
    droppers = {at: _dropped_by(script, name, at) for at in places if name in known}
    at, dropper = next(((at, one) for at, one in droppers.items() if one), (places[0], None))
    start, end = _span(rendered, at, at + len(name))
    if dropper is not None:
        line = subject.hunt.place.locate(LineIndex(rendered.text).locate(dropper.start)[0], 1).line
        message = f"{dropper.name} in line {line} has dropped the column {name!r}"
        keep = f"'{dropper.name} ..., {name}'"
        if dropper.name == "summarize":
            keep = f"'by {name}' or 'take_any({name})'"
        return subject.at("QH105", start, end, message, f"keep it there, as in {keep}")
    same = [one for one in known if one.casefold() == name.casefold() and one != name]
    fix = [Edit(start, end, same[0])] if len(same) == 1 else []
    hint = nearest(name, known - {name}) or ""
    return subject.at("QH103", start, end, f"no column named {name!r}", hint, fix)


def _dropped_by(script: Script, name: str, at: int) -> Operator | None:
    """The first operator before ``at`` that lets the column through no further."""
    return next((one for one in _operators_before(script, at) if _drops(one, name)), None)


def _operators_before(script: Script, at: int) -> Sequence[Operator]:
    lets = {let.name: let.value for let in script.lets if let.end < at}
    found: Sequence[Operator] = ()
    for one in find(script, Pipeline):
        if one.start <= at < one.end:
            source, operators = stages(one)
            found = [operator for operator in operators if operator.end <= at]
            while isinstance(source, Name) and source.name in lets:
                source, earlier = stages(lets.pop(source.name))
                found = [*earlier, *found]
    return found


def _drops(operator: Operator, name: str) -> bool:
    listed = [*operator.arguments, *(operator.clause("by") or ())]
    if operator.name == "project-away":
        return any(_keeps(one, name) for one in listed)
    if operator.name == "project-rename":
        values = (one.value for one in listed if isinstance(one, Named))
        return any(isinstance(value, Name) and value.name == name for value in values)
    return operator.name in _CHOOSES and not any(_keeps(one, name) for one in listed)


def _keeps(node: Node, name: str) -> bool:
    if isinstance(node, Named):
        return name in node.names
    if isinstance(node, Wildcard):
        return fnmatchcase(name, node.pattern)
    if isinstance(node, Call) and node.name not in _NAMED_AFTER_ARGUMENTS:
        return False
    plain = node.arguments if isinstance(node, Call) else (node,)
    return any(isinstance(one, Wildcard) or getattr(one, "name", "") == name for one in plain)


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
            is_name = diagnostic.code in (_COLUMN, _TABLE, _FUNCTION)
            if is_name and diagnostic.start >= unknown_from:
                continue
            if diagnostic.severity in ("error", "warning"):
                yield _reported(subject, rendered, diagnostic)


def _reported(subject: Subject, rendered: RenderedQuery, diagnostic: Diagnostic) -> Finding:
    if diagnostic.code == _COLUMN:
        name = rendered.text[diagnostic.start : diagnostic.end]
        finding = missing_column(subject, rendered, name, diagnostic.start)
        if finding is not None:
            return finding
    is_syntax = diagnostic.code.startswith("KS0") and int(diagnostic.code[2:]) < 100
    codes = {_COLUMN: "QH103", _TABLE: "QH102", _FUNCTION: "QH104"}
    code = "QH101" if is_syntax else codes.get(diagnostic.code, "QH106")
    words = diagnostic.message.rstrip(".")
    span = _span(rendered, diagnostic.start, diagnostic.end)
    return subject.at(code, *span, f"{words} ({diagnostic.code})")


def _is_foreign(rendered: RenderedQuery, diagnostic: Diagnostic) -> bool:
    """Whether it is about a name that only a workspace or a product can know."""
    if diagnostic.code not in (_COLUMN, _TABLE, _FUNCTION):
        return False
    text = rendered.text[diagnostic.start : diagnostic.end]
    return _FOREIGN.fullmatch(text.partition("(")[0].strip()) is not None


_ESTIMATES = frozenset({"dcount", "dcountif", "percentile", "percentiles", "dcount_hll", "hll"})
_TAKE_REGEX = frozenset({"extract", "extract_all", "replace_regex", "trim", "trim_start",
                         "trim_end", "countof"})  # fmt: skip
# Kusto: \d is \p{Nd}, \w and \b know every script, && -- ~~ combine sets
# (learn.microsoft.com/kusto/query/regex).
_UNICODE = re.compile(r"\\[wWdDbB]|(?<=\[)[^\]]*(?:&&|~~|--)")
_NO_COLUMN = re.compile(r"no column named '(.+)'$")


def check_on_engine(
    subject: Subject, sessions: Mapping[str, Session], *, columns: bool
) -> Iterator[Finding]:
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
