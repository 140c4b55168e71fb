"""What a recording says of itself: ``manifest.json``.

It names every file of the recording with its length and SHA-256, and carries a
checksum of its own.
"""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import msgspec

from qakhunt.answers.ledger import Status, Target
from qakhunt.core.documents import to_model
from qakhunt.core.errors import RecordingError
from qakhunt.kql.values import Instant, Timespan, Window

if TYPE_CHECKING:
    from pathlib import Path

NAME = "manifest.json"
SCHEMA = "qakhunt.recording/1"
_FAMILY, _, _VERSION = SCHEMA.rpartition("/")


class Span(msgspec.Struct, frozen=True):
    """A half-open time range, as ISO 8601 texts with seven digits."""

    start: str
    end: str


class RecordedHunt(msgspec.Struct, frozen=True):
    """A hunt as it was rendered; ``file`` is its own copy in the recording.

    ``hunt_hash`` and ``query_hash`` are of what was sent; ``query`` is what is
    stored, in which names may be pseudonyms. ``parameters`` are texts by type.
    """

    name: str
    product: str
    file: str
    query: str
    hunt_hash: str
    query_hash: str
    window: Span
    parameters: dict[str, str]
    id: str = ""
    version: str = ""


class RecordedLine(msgspec.Struct, frozen=True):
    """One line of the plan: which hunt (its place in ``hunts``) was sent to which target.

    ``slices`` is the wish in the spelling of ``--slice``, None for the whole;
    ``longest_gap`` the longest silence of the sources that was no gap, None for any.
    """

    hunt: int
    backend: str
    origin: Target
    slices: str | None = None
    longest_gap: str | None = None


class RecordedAnswer(msgspec.Struct, frozen=True):
    """One question and its answer; ``file`` is None where no rows came.

    ``query_hash`` is of the text as sent, ``stored_hash`` of the text as stored.
    """

    origin: Target
    product: str
    window: Span
    query: str
    query_hash: str
    stored_hash: str
    status: str
    file: str | None = None
    rows: int = 0
    detail: str = ""
    hint: str = ""
    rejected: bool = False
    divisible: bool = False
    place: tuple[int, int] | None = None
    bytes: int = 0
    attempts: int = 1
    waits: tuple[float, ...] = ()
    request_ids: tuple[str, ...] = ()
    elapsed: float = 0.0
    columns_left_out: tuple[str, ...] = ()
    gaps: tuple[Span, ...] = ()


class SourceFile(msgspec.Struct, frozen=True):
    """Records of one table and time range; ``file`` is None where none were got.

    ``status`` is as in the ledger: only ``complete`` has all that the filter lets through.
    """

    origin: Target
    product: str
    table: str
    window: Span
    status: str
    rows: int = 0
    file: str | None = None
    columns: tuple[str, ...] = ()
    detail: str = ""


class SourceFilter(msgspec.Struct, frozen=True):
    """Which records of a table were fetched: those for which one alternative is true.

    Each alternative is a list of conditions, in KQL without names of ``let``. An
    alternative without conditions lets every record through.
    """

    product: str
    table: str
    alternatives: tuple[tuple[str, ...], ...]


class ListedFile(msgspec.Struct, frozen=True):
    """A file of the recording: its path inside it, length and SHA-256 in hex."""

    path: str
    bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True):
    """The whole account; ``redacted`` says whether names are pseudonyms."""

    schema: str
    now: str
    window: Span
    redacted: bool
    hunts: tuple[RecordedHunt, ...]
    plan: tuple[RecordedLine, ...]
    answers: tuple[RecordedAnswer, ...]
    ledger: list[dict[str, Any]]
    files: tuple[ListedFile, ...] = ()
    key_id: str | None = None
    source: tuple[SourceFile, ...] = ()
    filters: tuple[SourceFilter, ...] = ()
    checksum: str = ""


def encode(manifest: Manifest) -> bytes:
    """The file's bytes, with the checksum of all the rest."""
    plain = msgspec.to_builtins(manifest)
    plain["checksum"] = _checksum(plain)
    return (json.dumps(plain, ensure_ascii=False, indent=1) + "\n").encode()


def decode(data: bytes, path: Path) -> Manifest:
    """The manifest in ``data``. Raises RecordingError where it is not whole or not known."""
    try:
        plain = json.loads(data)
        schema = plain["schema"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise RecordingError(f"{path}: not the manifest of a recording, or cut short") from None
    family, _, version = str(schema).rpartition("/")
    if family != _FAMILY:
        raise RecordingError(f"{path}: not the manifest of a recording: its schema is {schema!r}")
    if version != _VERSION:
        raise RecordingError(
            f"{path}: the recording has the schema {schema!r}, this qakhunt reads {SCHEMA!r}",
            hint="a newer qakhunt reads it",
        )
    if plain.get("checksum") != _checksum(plain):
        raise RecordingError(
            f"{path}: the manifest was changed or damaged: its checksum is another"
        )
    try:
        manifest = to_model(plain, Manifest)
    except msgspec.ValidationError as problem:
        raise RecordingError(f"{path}: not a whole manifest: {problem}") from None
    for listed in manifest.files:
        _check_inside(listed.path, path)
    try:
        _check_values(manifest)
    except ValueError as problem:
        raise RecordingError(f"{path}: not a whole manifest: {problem}") from None
    return manifest


def _check_values(manifest: Manifest) -> None:
    """Raises ValueError for a time, status or reference that is none."""
    Instant.parse(manifest.now)
    spans = [manifest.window, *(hunt.window for hunt in manifest.hunts)]
    spans += [gap for answer in manifest.answers for gap in answer.gaps]
    spans += [*(a.window for a in manifest.answers), *(file.window for file in manifest.source)]
    for span in spans:
        Window(Instant.parse(span.start), Instant.parse(span.end))
    for status in [*(a.status for a in manifest.answers), *(f.status for f in manifest.source)]:
        Status(status)
    if not manifest.plan:
        raise ValueError("its plan is empty")
    for line in manifest.plan:
        if line.longest_gap is not None:
            Timespan.parse(line.longest_gap)
        if not 0 <= line.hunt < len(manifest.hunts):
            raise ValueError(f"its plan names hunt {line.hunt} of {len(manifest.hunts)}")


def _checksum(plain: dict[str, Any]) -> str:
    rest = {key: value for key, value in plain.items() if key != "checksum"}
    text = json.dumps(rest, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return sha256(text.encode()).hexdigest()


def _check_inside(name: str, path: Path) -> None:
    parts = PurePosixPath(name).parts
    unsafe = (
        not parts or ".." in parts or name.startswith(("/", "\\")) or ":" in name or "\\" in name
    )
    if unsafe:
        raise RecordingError(f"{path}: it names a file outside the recording: {name!r}")
