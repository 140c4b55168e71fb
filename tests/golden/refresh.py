"""Writes the golden files of rendered hunts anew. Read the difference before committing."""

from __future__ import annotations

from pathlib import Path

from qakhunt.hunts.catalog import Catalog
from qakhunt.hunts.render import render
from qakhunt.kql.values import Instant

FOLDER = Path(__file__).parent
NOW = Instant.parse("2026-11-05T09:00:00Z")


def main() -> None:
    """Render every built-in hunt for each of its products."""
    for hunt in Catalog().all():
        for product in hunt.products:
            text = render(hunt, now=NOW, product=product).text
            path = FOLDER / f"{hunt.name}.{product}.kql"
            path.write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
