"""Exact mends, made in the hunt's file; everything else of it stays byte for byte."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qakhunt.core.writing import whole_file
from qakhunt.kql.edits import Edit, apply
from qakhunt.kql.tokens import LineIndex

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qakhunt.hunts.model import Hunt
    from qakhunt.testing.lint.model import Finding


def fix_file(hunt: Hunt, findings: Sequence[Finding]) -> int:
    """Make the exact mends of the findings that nobody accepted; how many were made."""
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
