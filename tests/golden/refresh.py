"""Writes the golden files anew. Read the difference before committing."""

from __future__ import annotations

import json
from pathlib import Path

from qakhunt.answers.run_document import json_schema
from qakhunt.hunts.catalog import Catalog
from qakhunt.hunts.render import render
from qakhunt.kql.values import Instant
from tests.golden.readme import README, SCREEN, screen, with_help

FOLDER = Path(__file__).parent
SCHEMA = FOLDER.parents[1] / "qakhunt" / "data" / "run.schema.json"
NOW = Instant.parse("2026-11-05T09:00:00Z")


def main() -> None:
    """Rendered hunts, the schema of a run, and the README's help and picture."""
    SCHEMA.write_text(json.dumps(json_schema(), indent=2) + "\n", encoding="utf-8")
    for hunt in Catalog().all():
        for product in hunt.products:
            text = render(hunt, now=NOW, product=product).text
            path = FOLDER / f"{hunt.name}.{product}.kql"
            path.write_text(text, encoding="utf-8", newline="\n")
    README.write_text(with_help(README.read_text(encoding="utf-8")), encoding="utf-8")
    SCREEN.parent.mkdir(exist_ok=True)
    SCREEN.write_text(screen(), encoding="utf-8")


if __name__ == "__main__":
    main()
