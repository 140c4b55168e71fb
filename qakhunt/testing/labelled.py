"""Labelled event sets: a manifest says what each file holds.

    sets:
      - name: reconstructed, direct
        files: [device-process-events/direct.ndjson]
        label: qakbot          # or kin (other malware), benign, unrelated (another intrusion)
        rendering: direct      # how the commands were started
        origin: reconstructed  # or captured, modelled
        split: tuning          # or held-back: nobody tunes a hunt on it
        malware: IcedID        # whose burst it is, where the label is kin
        bursts: device         # every device is one burst; or a list with times
        behaviour: discovery   # what is to be found, as hunts name it
        source: where it comes from, and its licence

Files are Defender's rows (.ndjson, .jsonl, .csv, .parquet, also .gz) or Windows
events (.evtx, .json, .xml, .zip); paths are relative to the manifest's folder.
"""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass, field
from importlib.resources import files as resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

import msgspec

from qakhunt.core.documents import convert, parse_yaml, read_text
from qakhunt.core.errors import EventsError, UsageError
from qakhunt.kql.schema import DEFENDER
from qakhunt.kql.values import TICK, Instant, Window

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from qakhunt.core.documents import Document

MANIFEST = "manifest.yaml"
TABLE = "DeviceProcessEvents"
POSITIVE: Final = "qakbot"
KIN: Final = "kin"
SOUGHT = (POSITIVE, KIN)
"""Labels of sets that hold bursts to be found."""
TUNING: Final = "tuning"
HELD_BACK: Final = "held-back"

LABELS: Final = {
    POSITIVE: "Qakbot",
    KIN: "other malware",
    "benign": "administration",
    "unrelated": "other intrusions",
}
"""Labels in words."""
PARTS: Final = {TUNING: "for tuning", HELD_BACK: "held back"}
"""Splits in words."""

Label = Literal["qakbot", "kin", "benign", "unrelated"]
Origin = Literal["captured", "reconstructed", "modelled"]
Split = Literal["tuning", "held-back"]
Row = dict[str, Any]
Model = TypeVar("Model")

_ALL_TIME = Window(Instant.parse("1700-01-01"), Instant.parse("2250-01-01"))
_ROWS = (".ndjson", ".jsonl", ".csv", ".parquet")


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class BurstText(_Strict, frozen=True):
    """Where one burst is: its device, and times where the device did other things too."""

    device: str
    start: str | None = None
    end: str | None = None


class SetText(_Strict, frozen=True):
    """One set of the manifest."""

    name: str
    files: tuple[str, ...]
    label: Label
    source: str
    origin: Origin = "captured"
    rendering: str = ""
    bursts: Literal["device"] | tuple[BurstText, ...] = "device"
    behaviour: str = "discovery"
    about: str = ""
    split: Split = TUNING
    malware: str = ""


class Manifest(_Strict, frozen=True):
    """A folder's sets."""

    sets: tuple[SetText, ...]


@dataclass(frozen=True)
class Burst:
    """One thing to be found. ``device`` is the set's own name for it."""

    device: str
    start: Instant
    end: Instant


def burst_of(device: str, rows: Iterable[Row]) -> Burst:
    """The burst that all of a device's rows are."""
    times = [row["Timestamp"] for row in rows]
    return Burst(device, min(times), max(times))


@dataclass(frozen=True)
class LabelledSet:
    """Rows with a label; ``bursts`` are empty where nothing is to be found."""

    name: str
    label: Label
    origin: Origin
    source: str
    rows: Sequence[Row]
    rendering: str = ""
    about: str = ""
    behaviour: str = "discovery"
    bursts: tuple[Burst, ...] = ()
    files: dict[str, str] = field(default_factory=dict)
    """File, as the manifest names it -> SHA-256 of its bytes, in hex."""
    split: Split = TUNING
    malware: str = ""
    """Whose bursts they are, where the label is kin."""


def load_labelled(folder: Path) -> list[LabelledSet]:
    """The sets of a folder's manifest; without one, those known by the built-in manifest.

    Raises UsageError at the manifest's line for a file that is missing.
    """
    if not folder.is_dir():
        raise UsageError(f"no such folder: {folder}")
    path = folder / MANIFEST
    if path.is_file():
        document = parse_yaml(read_text(path, UsageError), str(path), UsageError)
        manifest = convert(document, Manifest, UsageError)
        _check_files(document, manifest, folder)
        return [_load(entry, folder) for entry in manifest.sets]
    known = [
        s
        for s in packaged("labelled_sets.yaml", Manifest).sets
        if all((folder / f).is_file() for f in s.files)
    ]
    if not known:
        raise UsageError(
            f"{folder} has no {MANIFEST}, and none of its files is one that is known",
            hint="list its sets in a manifest; the documentation of 'qakhunt evaluate' shows one",
        )
    return [_load(entry, folder) for entry in known]


def packaged(name: str, model: type[Model]) -> Model:
    """A data file of the package, checked."""
    text = resources("qakhunt").joinpath("data").joinpath(name).read_text(encoding="utf-8")
    return convert(parse_yaml(text, name, UsageError), model, UsageError)


def _check_files(document: Document, manifest: Manifest, folder: Path) -> None:
    for number, entry in enumerate(manifest.sets):
        for at, name in enumerate(entry.files):
            place = document.locate(("sets", number, "files", at))
            target = (folder / name).resolve()
            if not target.is_relative_to(folder.resolve()):
                raise UsageError(f"{name} lies outside the manifest's folder", location=place)
            if not target.is_file():
                raise UsageError(f"no such file: {name}", location=place)


def _load(entry: SetText, folder: Path) -> LabelledSet:
    paths = [folder / name for name in entry.files]
    rows = _rows(paths)
    if not rows:
        raise EventsError(f"the set {entry.name!r} holds no process events")
    return LabelledSet(
        name=entry.name,
        label=entry.label,
        origin=entry.origin,
        source=entry.source,
        rows=rows,
        rendering=entry.rendering,
        about=entry.about,
        behaviour=entry.behaviour,
        bursts=_bursts(entry, rows) if entry.label in SOUGHT else (),
        files={name: _sha256(path) for name, path in zip(entry.files, paths, strict=True)},
        split=entry.split,
        malware=entry.malware,
    )


def _rows(paths: list[Path]) -> list[Row]:
    """All rows with their times, in order; Windows events are imported first."""
    from qakhunt.backends.engine.session import Session
    from qakhunt.backends.recordings.windows_events import import_events

    with tempfile.TemporaryDirectory(prefix="qakhunt-") as scratch:
        inputs = [str(path) for path in paths if _suffix(path) in _ROWS]
        events = [str(path) for path in paths if _suffix(path) not in _ROWS]
        if events:
            imported = Path(scratch) / "events.parquet"
            import_events(events, imported, "parquet")
            inputs.append(str(imported))
        query = f"{TABLE} | sort by Timestamp asc"
        with Session([f"{TABLE}={name}" for name in inputs], DEFENDER.name) as session:
            table = session.ask(query, now=_ALL_TIME.end, window=_ALL_TIME)
    return [
        {name: cell for name, cell in record.items() if cell not in (None, "")}
        for record in table.records()
    ]


def _suffix(path: Path) -> str:
    suffixes = [s.lower() for s in path.suffixes if s.lower() != ".gz"]
    return suffixes[-1] if suffixes else ""


def _bursts(entry: SetText, rows: list[Row]) -> tuple[Burst, ...]:
    spans: dict[str, list[Instant]] = {}
    for row in rows:
        spans.setdefault(device_of(row), []).append(row["Timestamp"])
    if entry.bursts == "device":
        return tuple(Burst(name, min(times), max(times)) for name, times in spans.items())
    found = []
    for burst in entry.bursts:
        if burst.device.lower() not in {name.lower() for name in spans}:
            raise UsageError(f"the set {entry.name!r} has no events of device {burst.device!r}")
        name = next(n for n in spans if n.lower() == burst.device.lower())
        try:
            start = Instant.parse(burst.start) if burst.start else min(spans[name])
            end = Instant.parse(burst.end) if burst.end else max(spans[name]) + TICK
        except ValueError as problem:
            raise UsageError(f"the set {entry.name!r}: {problem}") from None
        found.append(Burst(name, start.floor_microsecond(), end))
    return tuple(found)


def device_of(row: Row) -> str:
    """A row's device by the name that people use."""
    return str(row.get("DeviceName") or row.get("DeviceId") or "")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def write_labelled(folder: Path, sets: Sequence[LabelledSet]) -> None:
    """Write the sets as NDJSON files with their manifest, ready to load again.

    Raises UsageError for a folder that is not empty.
    """
    import yaml

    from qakhunt.answers.cells import to_json_line
    from qakhunt.core.writing import whole_file

    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty", hint="name a new folder")
    folder.mkdir(parents=True, exist_ok=True)

    def write(name: str, text: str) -> None:
        with whole_file(folder / name, private=False) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")

    entries: list[dict[str, Any]] = []
    for number, one in enumerate(sets):
        name = f"{number:02d}.ndjson"
        write(name, "".join(f"{to_json_line(row)}\n" for row in one.rows))
        entry: dict[str, Any] = {
            "name": one.name, "files": [name], "label": one.label, "origin": one.origin,
            "source": one.source, "about": one.about, "split": one.split,
        }  # fmt: skip
        if one.label in SOUGHT:
            entry |= {
                "rendering": one.rendering,
                "malware": one.malware,
                "behaviour": one.behaviour,
                "bursts": [
                    {"device": b.device, "start": b.start.isoformat(), "end": b.end.isoformat()}
                    for b in one.bursts
                ],
            }
        entries.append(entry)
    text = yaml.safe_dump({"sets": entries}, sort_keys=False, allow_unicode=True)
    write(MANIFEST, text)
