"""Lint of hunts: every rule that can be checked here, what could not, and the exact fixes made."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from qakhunt.backends.engine.session import Session
from qakhunt.core.documents import Document, parse_yaml, read_text
from qakhunt.core.errors import (
    EngineError,
    HuntError,
    NotAvailableError,
    QakhuntError,
    SourceLocation,
)
from qakhunt.core.writing import whole_file
from qakhunt.hunts.loading import load_hunt
from qakhunt.hunts.model import PRODUCTS
from qakhunt.hunts.parameters import parameters_of, script_of
from qakhunt.hunts.render import RenderedQuery, render
from qakhunt.hunts.time_filters import TIME_COLUMNS, has_time_filter
from qakhunt.hunts.window import DEFAULT, PUBLISHED, published
from qakhunt.kql.edits import Edit, apply
from qakhunt.kql.tokens import KqlLexError, LineIndex, tokenize
from qakhunt.kql.values import Window
from qakhunt.testing import microsoft_parser
from qakhunt.testing.lint import matching, metadata, names
from qakhunt.testing.lint.model import (
    RULES,
    Finding,
    Severity,
    Subject,
    read_suppressions,
    suppress,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from qakhunt.answers.table import Column
    from qakhunt.hunts.model import Hunt
    from qakhunt.kql.values import Instant
    from qakhunt.testing.lint.matching import Matrix


_NAME_CODES = frozenset({"QH102", "QH103", "QH104", "QH105"})


@dataclass
class LintResult:
    """Findings in the order of files and lines, and what went unchecked.

    By file: the hunt, its matrices, and the columns of its result in each product.
    """

    findings: list[Finding] = field(default_factory=list)
    matrices: dict[str, list[Matrix]] = field(default_factory=dict)
    hunts: dict[str, Hunt] = field(default_factory=dict)
    columns: dict[str, dict[str, Sequence[Column]]] = field(default_factory=dict)
    unchecked: list[str] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        """Whether an error or a warning stands that nobody accepted."""
        return any(
            f.accepted is None and f.rule.severity is not Severity.NOTE for f in self.findings
        )


class Linter(ExitStack):
    """Checks hunts; ``close`` gives the engine back. ``now`` is what windows are read at."""

    def __init__(self, now: Instant) -> None:
        super().__init__()
        self.now = now
        self.parser = microsoft_parser.microsoft_parser()
        self.unchecked: list[str] = []
        missing = microsoft_parser.why_missing()
        if missing:
            self.unchecked.append(f"not checked with Microsoft's own parser: {missing}")
        self.sessions: dict[str, Session] = {}
        try:
            for product in PRODUCTS:
                self.sessions[product] = self.enter_context(Session([], product))
        except EngineError as problem:
            self.unchecked.append(
                f"not checked on the embedded engine (dead entries, result columns): {problem}"
            )
            if missing:
                self.unchecked.append("columns not checked: neither can be used")

    def lint(self, paths: Sequence[Path], owners: Mapping[str, list[str]]) -> LintResult:
        """Check hunt files; ``owners`` maps each known hunt id to the files that have it."""
        result = LintResult(unchecked=list(self.unchecked))
        for path in paths:
            result.findings += self._file(path, owners, result)
        return result

    def _file(
        self, path: Path, owners: Mapping[str, list[str]], result: LintResult
    ) -> list[Finding]:
        try:
            hunt = load_hunt(path)
            text = read_text(path, HuntError)
            document = _document(path, text)
            tokenize(hunt.query)
        except QakhuntError as problem:
            return [_from_error("QH100", problem, str(path))]
        except KqlLexError as problem:
            subject = Subject(hunt, self.now, document, {})
            return [subject.at("QH101", problem.offset, problem.offset, problem.message)]
        rendered, problems = _renderings(hunt, self.now)
        subject = Subject(hunt, self.now, document, rendered)
        matrices: list[Matrix] = []
        found = [*problems, *self._rules(subject, owners, matrices)]
        found = suppress(_once(found), read_suppressions(text, str(path)))
        found.sort(key=lambda f: (f.location.line, f.location.column, f.rule.code))
        result.hunts[str(path)] = hunt
        result.matrices[str(path)] = matrices
        result.columns[str(path)] = subject.result
        result.unchecked += dict.fromkeys(subject.unchecked)
        return found

    def _rules(
        self, subject: Subject, owners: Mapping[str, list[str]], matrices: list[Matrix]
    ) -> list[Finding]:
        found = list(names.check(subject))
        if self.sessions:
            found += names.check_on_engine(subject, self.sessions, columns=self.parser is None)
        if self.parser is not None:
            found += names.check_with_parser(subject, self.parser)
        found += matching.check(subject)
        found += metadata.check_time(subject)
        if self.sessions:
            session = next(iter(self.sessions.values()))
            matrices += matching.matrices(subject, session)
            found += matching.check_entries(subject, matrices)
        found += metadata.check(subject, owners)
        return found


def _document(path: Path, text: str) -> Document | None:
    is_yaml = path.suffix.lower() in (".yaml", ".yml")
    return parse_yaml(text, str(path), HuntError) if is_yaml else None


def _renderings(hunt: Hunt, now: Instant) -> tuple[dict[str, RenderedQuery], list[Finding]]:
    """The text for each product; a product that cannot be is a finding."""
    rendered: dict[str, RenderedQuery] = {}
    found = []
    window: str | Window = PUBLISHED
    try:
        published(hunt, now, {name: p.default for name, p in parameters_of(hunt).items()})
    except QakhuntError:
        window = Window(now - DEFAULT, now)
    if hunt.notes.window is None and not has_time_filter(script_of(hunt)):
        words = f"{hunt.name} has neither a filter on time nor a window"
        hint = f"filter on {TIME_COLUMNS[0]}, or name its bounds under 'qakhunt: window:'"
        found.append(Finding(RULES["QH301"], words, hunt.place.locate(1, 1), hint))
    for product in hunt.products:
        try:
            rendered[product] = render(hunt, now=now, product=product, window=window)
        except NotAvailableError as problem:
            found.append(_from_error("QH107", problem, hunt.path))
        except QakhuntError as problem:
            found.append(_from_error("QH100", problem, hunt.path))
    return rendered, found


def _from_error(code: str, problem: QakhuntError, path: str) -> Finding:
    location = problem.location or SourceLocation(path, 1)
    return Finding(RULES[code], problem.message, location, problem.hint or "")


def _once(findings: Iterable[Finding]) -> list[Finding]:
    """Each thing once: products agree often, and a parser says again what we said."""
    seen: set[tuple[str, str]] = set()
    kept = []
    for finding in findings:
        code = "name" if finding.rule.code in _NAME_CODES else finding.rule.code
        what = "" if code in ("name", "QH101") else finding.message
        key = (f"{code} {what}", str(finding.location))
        if key not in seen:
            seen.add(key)
            kept.append(finding)
    return kept


def fix_file(hunt: Hunt, findings: Sequence[Finding]) -> int:
    """Make the exact edits of the findings that nobody accepted; how many were made."""
    if not hunt.place.exact:
        return 0
    chosen: list[Edit] = []
    made = 0
    for finding in findings:
        if finding.fix and finding.accepted is None and not _overlaps(finding.fix, chosen):
            chosen += finding.fix
            made += 1
    if not made:
        return 0
    path = Path(hunt.path)
    with path.open(encoding="utf-8", newline="") as stream:
        text = stream.read()
    fixed = apply(text, [_in_file(hunt, text, edit) for edit in chosen])
    with whole_file(path, force=True) as temporary:
        temporary.write_text(fixed, encoding="utf-8", newline="")
    return made


def _overlaps(edits: Sequence[Edit], chosen: Sequence[Edit]) -> bool:
    return any(a.start < b.end and b.start < a.end for a in edits for b in chosen)


def _in_file(hunt: Hunt, text: str, edit: Edit) -> Edit:
    """An edit of the query as one of its file."""
    query, file = LineIndex(hunt.query), LineIndex(text)

    def move(offset: int) -> int:
        line, column = query.locate(offset)
        place = hunt.place.locate(line, column)
        return file.offset(place.line, max(1, place.column))

    start, end = move(edit.start), move(edit.end)
    is_whole_line = query.locate(edit.start)[1] == 1 and query.locate(edit.end)[1] == 1
    if is_whole_line and edit.end > edit.start:
        first = hunt.place.locate(query.locate(edit.start)[0], 1).line
        last = hunt.place.locate(query.locate(edit.end)[0], 1).line
        return Edit(file.offset(first), file.offset(last), edit.text)
    return Edit(start, end, edit.text)
