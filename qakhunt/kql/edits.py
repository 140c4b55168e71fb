"""Replacing spans of a text while keeping the way back to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Edit(msgspec.Struct, frozen=True):
    """Replace ``[start, end)`` of the original text."""

    start: int
    end: int
    text: str


def apply(text: str, edits: Iterable[Edit]) -> str:
    """The text with all edits made; edits must not overlap."""
    parts = []
    at = 0
    for edit in sorted(edits, key=lambda edit: edit.start):
        if edit.start < at:
            raise ValueError("edits overlap")
        parts += [text[at : edit.start], edit.text]
        at = edit.end
    return "".join([*parts, text[at:]])


def original_offset(edits: Sequence[Edit], offset: int) -> int:
    """Where an offset of the edited text stood; inside an edit, that edit's start."""
    moved = 0
    for edit in sorted(edits, key=lambda edit: edit.start):
        start = edit.start + moved
        if offset < start:
            break
        if offset < start + len(edit.text):
            return edit.start
        moved += len(edit.text) - (edit.end - edit.start)
    return offset - moved
