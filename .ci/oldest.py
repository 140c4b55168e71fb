"""Prints constraints that pin every dependency to the oldest version it allows."""

import re
from pathlib import Path

import tomllib

PROJECT = Path(__file__).parents[1] / "pyproject.toml"


def oldest(requirement: str) -> str | None:
    """``name==version`` for a requirement with a lower bound."""
    found = re.match(r"([A-Za-z0-9_.-]+)(?:\[[^\]]*\])?\s*(?:>=|==)\s*([0-9][^,;\s]*)", requirement)
    return f"{found[1]}=={found[2]}" if found else None


def main() -> None:
    """One line per runtime and test dependency."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    groups = [project["dependencies"], project["optional-dependencies"]["test"]]
    for requirement in (r for group in groups for r in group):
        line = oldest(requirement)
        if line:
            print(line)


if __name__ == "__main__":
    main()
