"""Writes the golden files anew. Read the difference before committing."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from qakhunt.answers.run_document import json_schema
from qakhunt.hunts.catalog import Catalog
from qakhunt.hunts.render import render
from qakhunt.kql.values import Instant
from qakhunt.run import config
from qakhunt.testing.contracts import DOCUMENTS, schema_of
from qakhunt.testing.evidence import evidence_of, joined, markdown
from tests.golden import house, reference
from tests.golden.readme import SCREEN, screen
from tests.golden.walkthrough import TUTORIALS, carried_out

FOLDER = Path(__file__).parent
DATA = FOLDER.parents[1] / "qakhunt" / "data"
EVIDENCE = reference.DOCS / "explanation" / "evidence.md"
NOW = Instant.parse("2026-11-05T09:00:00Z")
_EVIDENCE = re.compile(r"(<!-- evidence -->\n).*?(<!-- /evidence -->)", re.DOTALL)


def main() -> None:
    """Rendered hunts, JSON Schemas, the picture, and the program's part of docs/.

    The reference before the tutorials, whose commands are carried out: half a minute each.
    """
    schemas = {"run": json_schema(), "config": config.json_schema()}
    schemas |= {name: schema_of(name) for name in DOCUMENTS}
    for name, schema in schemas.items():
        _write(DATA / f"{name}.schema.json", json.dumps(schema, indent=2) + "\n")
    for hunt in Catalog().all():
        for product in hunt.products:
            text = render(hunt, now=NOW, product=product).text
            _write(FOLDER / f"{hunt.name}.{product}.kql", text)
    picture = screen()
    _write(SCREEN, picture)
    _write(reference.DOCS / "assets" / "screen.svg", picture)
    _write(house.PICTURE, house.picture())
    _write(house.PAGE, house.with_rooms(house.PAGE.read_text(encoding="utf-8")))
    _write(EVIDENCE, with_evidence(EVIDENCE.read_text(encoding="utf-8")))
    for name in reference.PAGES:
        _write(reference.DOCS / name, reference.page(name))
    for path in TUTORIALS:
        text, problems = carried_out(path)
        _write(path, text)
        for problem in problems:
            print(f"{path}: {problem}", file=sys.stderr)


def with_evidence(page: str) -> str:
    """The page with the table of what ``qakhunt evaluate --record`` wrote beside the hunts."""
    recorded = [evidence_of(hunt) for hunt in Catalog().find_all(["qakbot", "s0650"])]
    table = markdown(joined([part for part in recorded if part]))
    return _EVIDENCE.sub(lambda match: f"{match[1]}{table}{match[2]}", page)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
