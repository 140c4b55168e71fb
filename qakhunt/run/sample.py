"""The bundled sample: about a month of synthetic process events with a ``now`` of its own."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

from qakhunt.kql.values import Instant


def sample_folder() -> Path:
    """The folder of the sample's event files."""
    return Path(str(files("qakhunt").joinpath("data/sample")))


def sample_events() -> list[str]:
    """The sample's event files, as inputs of the embedded engine."""
    return [str(path) for path in sorted(sample_folder().glob("*.ndjson.gz"))]


def sample_now() -> Instant:
    """The instant at which the sample is looked at, the same on every day."""
    about = json.loads(sample_folder().joinpath("sample.json").read_text(encoding="utf-8"))
    return Instant.parse(about["now"])
