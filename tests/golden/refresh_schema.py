"""Refresh the table schemas from the vendor's public documentation:

    python -m tests.golden.refresh_schema

It fetches the two documentation repositories with git, or reads checkouts that are
already there (``--azure-reference DIR --defender-docs DIR``), and rewrites the data
files: every table that has a page, and those known before whose page is gone.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import qakhunt.data
from qakhunt.core.errors import QakhuntError
from qakhunt.kql.schema import DEFENDER, SENTINEL, tables

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from qakhunt.kql.schema import Columns

_ROW = re.compile(r"^\|\s*`?(\w+)`?\s*\|\s*`?([A-Za-z0-9 ()]+?)`?\s*\|", re.MULTILINE)
_HEAD = re.compile(
    r"^\|\s*Column(?: name)?\s*\|\s*(?:Data t|T)ype\s*\|", re.MULTILINE | re.IGNORECASE
)
_TITLE = re.compile(r"^#\s+(\w+)\s*$", re.MULTILINE)
_INCLUDE_NAME = re.compile(r"^ms\.custom:\s*(\w+)\s*$", re.MULTILINE)
_TYPES = {
    "string": "string", "datetime": "datetime", "date": "datetime", "bool": "bool",
    "boolean": "bool", "int": "int", "int32": "int", "integer": "int", "long": "long",
    "int64": "long", "bigint": "long", "real": "real", "double": "real", "decimal": "decimal",
    "dynamic": "dynamic", "array": "dynamic", "list": "dynamic", "object": "dynamic",
    "json": "dynamic", "guid": "guid", "timespan": "timespan",
}  # fmt: skip


@dataclass(frozen=True)
class Source:
    """Where a product's tables are documented: repository, folder in it, pattern of pages."""

    product: str
    repository: str
    folder: str
    pattern: str


SOURCES = (
    Source(
        SENTINEL.name, "https://github.com/MicrosoftDocs/azure-reference-other",
        "azure-monitor-ref/tables/includes", "*-include.md",
    ),
    Source(
        DEFENDER.name, "https://github.com/MicrosoftDocs/defender-docs",
        "defender-xdr", "advanced-hunting-*-table.md",
    ),
)  # fmt: skip


class RefreshError(QakhuntError):
    """The documentation cannot be read as tables."""


def read_page(text: str) -> tuple[str, Columns] | None:
    """The table that a page documents, and its columns; None for a page of another kind."""
    name = _INCLUDE_NAME.search(text) or _TITLE.search(text)
    head = _HEAD.search(text)
    if name is None or head is None:
        return None
    found: Columns = {}
    for column, kind in _ROW.findall(text[head.end() :].partition("\n\n")[0]):
        known = _TYPES.get(kind.split("(")[0].strip().lower())
        if known is None:
            raise RefreshError(f"{name[1]}.{column}: no KQL type is called {kind!r}")
        found[column] = known
    return name[1], found


def refreshed(product: str, pages: Iterable[str]) -> dict[str, Columns]:
    """The product's tables as the pages have them; a table without a page stays as it is."""
    documented = dict(filter(None, map(read_page, pages)))
    return dict(sorted({**tables(product), **documented}.items()))


def write(product: str, schema: dict[str, Columns], folder: Path) -> Path:
    """Write one data file: a table a line, so that a refresh reads well as a change."""
    path = folder / f"schema_{product.replace('-', '_')}.json"
    rows = [f"{json.dumps(name)}: {json.dumps(kinds)}" for name, kinds in schema.items()]
    path.write_text("{\n" + ",\n".join(rows) + "\n}\n", encoding="utf-8", newline="\n")
    return path


def _fetch(source: Source, folder: Path) -> Path:
    target = folder / source.product
    for command in (
        ["clone", "--depth=1", "--filter=blob:none", "--sparse", source.repository, str(target)],
        ["-C", str(target), "sparse-checkout", "set", source.folder],
    ):
        done = subprocess.run(["git", *command], check=False)
        if done.returncode:
            raise RefreshError(f"git could not fetch {source.repository}")
    return target


def main(arguments: Sequence[str] | None = None) -> int:
    """Refresh both files. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--azure-reference", type=Path, help="a checkout of azure-reference-other")
    parser.add_argument("--defender-docs", type=Path, help="a checkout of defender-docs")
    parser.add_argument("--into", type=Path, default=Path(qakhunt.data.__path__[0]))
    given = parser.parse_args(arguments)
    checkouts: dict[str, Path | None] = {
        SENTINEL.name: given.azure_reference,
        DEFENDER.name: given.defender_docs,
    }
    try:
        with tempfile.TemporaryDirectory() as folder:
            for source in SOURCES:
                root = checkouts[source.product] or _fetch(source, Path(folder))
                paths = sorted((root / source.folder).glob(source.pattern))
                if not paths:
                    raise RefreshError(f"no {source.pattern} in {root / source.folder}")
                pages = [path.read_text(encoding="utf-8-sig") for path in paths]
                print(write(source.product, refreshed(source.product, pages), given.into))
    except RefreshError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return int(problem.exit_code)
    return 0


if __name__ == "__main__":
    sys.exit(main())
