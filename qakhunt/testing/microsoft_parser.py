"""Microsoft's own KQL parser, in this process: the npm package run by mini-racer.

The package is never part of qakhunt: ``npm install @kusto/language-service-next``
puts it into ``node_modules`` of the current folder, or QAKHUNT_KUSTO names a folder.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qakhunt.answers.table import KQL_TYPES, Column
from qakhunt.kql.schema import tables

if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLE = "QAKHUNT_KUSTO"
PACKAGE = Path("node_modules") / "@kusto" / "language-service-next"
_SCRIPTS = ("bridge.min.js", "Kusto.Language.Bridge.min.js")

_GLUE = "var addEventListener = function () {};"


@dataclass(frozen=True)
class Diagnostic:
    """What the parser says of ``[start, end)`` of the text; ``severity`` is its own word."""

    code: str
    severity: str
    message: str
    start: int
    end: int


@dataclass(frozen=True)
class Analysis:
    """Diagnostics and the typed columns of the result; None where there is no table."""

    diagnostics: tuple[Diagnostic, ...]
    columns: tuple[Column, ...] | None


def find_package() -> Path | None:
    """The folder of the npm package, or None."""
    named = os.environ.get(VARIABLE)
    if named:
        folder = Path(named)
        candidates = [folder, folder / PACKAGE, folder / PACKAGE.relative_to("node_modules")]
    else:
        candidates = [Path.cwd() / PACKAGE]
    return next((c for c in candidates if (c / _SCRIPTS[1]).is_file()), None)


def why_missing() -> str | None:
    """What is not installed, or None where the parser can be used."""
    if find_package() is None:
        return (
            "the npm package @kusto/language-service-next is not here "
            f"(npm install it beside your hunts, or name its folder in {VARIABLE})"
        )
    try:
        import py_mini_racer  # noqa: F401 - only whether it is there
    except ImportError:
        return "mini-racer is not installed (pip install 'qakhunt[lint]')"
    return None


class MicrosoftParser:
    """A loaded parser; texts are checked against a product's table schemas."""

    def __init__(self, package: Path) -> None:
        from py_mini_racer import MiniRacer

        self._engine: Any = MiniRacer()
        self._loaded: set[str] = set()
        self._engine.eval(_GLUE)
        for name in _SCRIPTS:
            self._engine.eval((package / name).read_text(encoding="utf-8"))
        glue = files("qakhunt").joinpath("data/microsoft_parser.js")
        self._engine.eval(glue.read_text(encoding="utf-8"))

    def check(self, text: str, product: str) -> Analysis:
        """Syntax and meaning of one query."""
        if product not in self._loaded:
            self._engine.call("qakhuntLoad", product, _schemas(product))
            self._loaded.add(product)
        answer = json.loads(self._engine.call("qakhuntCheck", product, text))
        offsets = _offsets(text)
        diagnostics = tuple(
            Diagnostic(code, severity.lower(), message, offsets(start), offsets(start + length))
            for code, severity, message, start, length in answer["diagnostics"]
        )
        return Analysis(diagnostics, _columns(answer["columns"]))


@cache
def microsoft_parser() -> MicrosoftParser | None:
    """The parser, loaded once a process; None where something is missing."""
    package = find_package()
    return MicrosoftParser(package) if package and why_missing() is None else None


def _columns(found: list[list[str]] | None) -> tuple[Column, ...] | None:
    if found is None or any(kind not in KQL_TYPES for _, kind in found):
        return None
    return tuple(Column(name, kind) for name, kind in found)


def _schemas(product: str) -> Mapping[str, str]:
    """Each table as the parser writes a schema: ``(['name']: type, ...)``."""
    return {
        table: "(" + ", ".join(f"['{name}']: {kind}" for name, kind in kinds.items()) + ")"
        for table, kinds in tables(product).items()
    }


def _offsets(text: str) -> Any:
    """UTF-16 positions, as JavaScript counts, to positions in the Python text."""
    if all(ord(char) < 0x10000 for char in text):
        return lambda position: position
    starts: list[int] = []
    for at, char in enumerate(text):
        starts += [at] * (2 if ord(char) >= 0x10000 else 1)
    return lambda position: starts[position] if position < len(starts) else len(text)
