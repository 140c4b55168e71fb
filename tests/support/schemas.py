"""Puts newly gathered table schemas in place, after checking their shape.

    python -m tests.support.schemas DEFENDER.json LOG_ANALYTICS.json

Each file maps table to column to KQL type. What was added and lost is printed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from qakhunt.answers.table import KQL_TYPES

FOLDER = Path(__file__).parents[2] / "qakhunt" / "data"

Schema = dict[str, dict[str, str]]


def checked(path: Path) -> Schema:
    """The file's schema; ends the program where its shape is another."""
    schema: Schema = json.loads(path.read_text(encoding="utf-8"))
    for table, columns in schema.items():
        for column, kind in columns.items():
            if kind not in KQL_TYPES:
                sys.exit(f"{path}: {table}.{column}: {kind!r} is no KQL type")
    return schema


def differences(before: Schema, after: Schema) -> list[str]:
    """Columns added and lost, one a line."""
    old = {f"{table}.{column}" for table, columns in before.items() for column in columns}
    new = {f"{table}.{column}" for table, columns in after.items() for column in columns}
    return [f"+ {name}" for name in sorted(new - old)] + [f"- {name}" for name in sorted(old - new)]


def main(defender: str, log_analytics: str) -> None:
    """Replace both files."""
    for name, source in (("defender", defender), ("log_analytics", log_analytics)):
        target = FOLDER / f"schema_{name}.json"
        after = checked(Path(source))
        print("\n".join(differences(json.loads(target.read_text(encoding="utf-8")), after)))
        lines = [f"{json.dumps(t)}: {json.dumps(c)}" for t, c in sorted(after.items())]
        target.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
